"""Values that nobody honest passes, by what is asked for: wrong types, and values at and beyond every limit.

`values(kind)` gives the fixed ones and some drawn from `SEED`, which a failure names and `CLUTCHCALL_SEED` repeats.
"""

from __future__ import annotations

import array
import ctypes
import mmap
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np

SEED = int(os.environ.get("CLUTCHCALL_SEED") or random.randrange(2**32))
DRAWN = 12
NAN, INF = float("nan"), float("inf")


class Kind(Enum):
    """What an argument is to be."""

    TEXT = auto()
    TEXT_OR_NONE = auto()
    WHOLE = auto()
    WHOLE_OR_NONE = auto()
    SECONDS = auto()
    SECONDS_OR_NONE = auto()
    BUFFER = auto()
    BUFFER_OR_NONE = auto()
    CALLBACK = auto()
    CALLBACK_OR_NONE = auto()
    TOKEN_OR_NONE = auto()
    PATH = auto()
    PATH_OR_NONE = auto()
    TEXTS = auto()
    MAPPING_OR_NONE = auto()
    NAMESPACE = auto()
    FLAG = auto()
    STATUSES_OR_NONE = auto()


@dataclass(frozen=True)
class Odd:
    """A value, and whether it is of a type that is never right there."""

    value: Any
    wrong: bool = False

    def __str__(self) -> str:
        text = repr(self.value)
        return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


class Shouts:
    """Whatever one does with it raises an error of its own kind."""

    def __len__(self) -> int:
        raise LookupError("len")

    def __iter__(self) -> Iterator[str]:
        raise LookupError("iter")

    def __eq__(self, other: object) -> bool:
        raise LookupError("eq")

    __hash__ = None  # type: ignore[assignment]


class Index:
    """A whole number of a type of its own."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Texting(str):
    """Text of a type of its own."""

    __slots__ = ()


async def _nobody_awaits(*arguments: object) -> None: ...


def _raises(*arguments: object) -> None:
    raise LookupError("a callback's own")


def released() -> memoryview:
    view = memoryview(b"released")
    view.release()
    return view


def closed_map() -> Any:  # noqa: ANN401
    closed = mmap.mmap(-1, 16)
    closed.close()
    return closed


def mapped() -> Any:  # noqa: ANN401
    return mmap.mmap(-1, 320)


NOTHINGS: list[Any] = [object(), type, SimpleNamespace(), Shouts(), 3j, slice(1), ...]
TEXTUAL = ["", " ", "\0", "a\0b", "\n", "\ud800", "a\udcff", "x" * 513, "x" * 1_000_000, "\u202e", "ü", "😀" * 129]
TEXTUAL += ["%s{0}$(x)", '"', "\\", "'", "a/b", "\x7f", "None", Texting("text")]
WHOLES: list[Any] = [0, -1, 1, True, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 2**100]
WHOLES += [10**400, -(10**400), -(2**63), -(2**63) - 1, Index(0), Index(2**70), np.int64(-1)]
REALS: list[Any] = [NAN, INF, -INF, -1.0, -0.0, 0.0, 5e-324, 1e-9, 1e9, 1e15, 1e300, 1.7e308, np.float32(NAN), True]
REALS += [0, -1, 2**63, 2**100, 10**400, -(10**400), Index(10**400)]
SIZES = [0, 1, 2, 159, 160, 161, 320, 640, 1275, 1276, 1920, 3840, 65_535, 65_536, 262_144, 262_145, 1 << 20]


def _texts() -> list[Odd]:
    wrong = [b"text", bytearray(b"t"), 7, 1.5, True, NAN, [], {}, ("text",), PurePosixPath("text"), *NOTHINGS]
    return [Odd(value, wrong=True) for value in wrong] + [Odd(value) for value in TEXTUAL]


def _wholes() -> list[Odd]:
    wrong = ["1", b"1", [], {}, 1.5, NAN, INF, "", *NOTHINGS]
    return [Odd(value, wrong=True) for value in wrong] + [Odd(value) for value in WHOLES]


def _seconds() -> list[Odd]:
    wrong = ["1", b"1", [], {}, "", *NOTHINGS]
    return [Odd(value, wrong=True) for value in wrong] + [Odd(value) for value in REALS]


def _buffers() -> list[Odd]:
    shorts = np.arange(640, dtype=np.int16)
    wrong: list[Any] = ["text", 7, 1.5, [1, 2], {}, (1,), *NOTHINGS, released(), closed_map()]
    wrong += [array.array("f", [1.0]), array.array("q", [1]), array.array("w" if hasattr(array, "w") else "u", "x")]
    wrong += [memoryview(bytes(640))[::2], memoryview(bytes(640))[::-1], shorts[::2], shorts[::-1]]
    wrong += [shorts.reshape(2, 320).T, shorts.astype(">i2"), shorts.astype(np.float32), np.array(["x"], dtype=object)]
    wrong += [(ctypes.c_double * 2)(), ctypes.c_int64(1)]
    right: list[Any] = [bytes(size) for size in SIZES]
    right += [bytearray(320), memoryview(bytes(320)), memoryview(bytearray(320)).toreadonly(), mapped(), bytearray()]
    right += [array.array("h", [0] * 160), array.array("H", [0] * 160), array.array("b", b"x"), array.array("h")]
    right += [shorts, shorts.reshape(2, 320), shorts[:0], np.zeros((0, 5), np.int16), np.array(7, np.int16)]
    right += [np.zeros(320, np.uint8), memoryview(bytes(320)).cast("c"), (ctypes.c_int16 * 160)()]
    return [Odd(value, wrong=True) for value in wrong] + [Odd(value) for value in right]


def _callbacks() -> list[Odd]:
    wrong = [7, "print", b"print", [], {}, NAN, _nobody_awaits, object(), SimpleNamespace(), Shouts()]
    right = [_raises, lambda: None, object.__init__, Exception, int, SimpleNamespace.__init__]
    return [Odd(value, wrong=True) for value in wrong] + [Odd(value) for value in right]


def _tokens() -> list[Odd]:
    """Text, or who gives it."""
    return [odd for odd in _callbacks() if not isinstance(odd.value, str)] + [Odd(value) for value in TEXTUAL]


def _paths() -> list[Odd]:
    wrong = [7, 1.5, NAN, [], {}, *NOTHINGS]
    right = ["", "\0", "a\0b", "\ud800", "x" * 300, "x" * 100_000, "no/such/thing", "/proc/self/mem", "/dev/full", "ü"]
    return [Odd(value, wrong=True) for value in wrong] + [Odd(value) for value in [*right, PurePosixPath("none")]]


def _sequences() -> list[Odd]:
    wrong = [7, 1.5, NAN, object(), type, ..., 3j]
    right: list[Any] = [[""], ["\0"], ["\ud800"], ["x" * 100_000], "text", b"text", {"a": 1}, ["x"] * 5000, ("ü",)]
    parts = [Odd([value], wrong=True) for value in (7, None, 1.5, [], object())]
    return [Odd(value, wrong=True) for value in wrong] + parts + [Odd(value) for value in right]


def _mappings() -> list[Odd]:
    deep: dict[str, Any] = {}
    deep["deep"] = deep
    wrong = [7, "text", b"text", NAN, [1], ("a", "b"), object(), type, ..., {7: "x"}, {"x": object()}]
    right = [{}, {"": ""}, {"\0": "\0"}, {"\ud800": "x"}, {"x": "\udcff"}, {"x" * 65: "y"}, {"x": "y" * 513}]
    right += [{str(n): "x" for n in range(33)}, {str(n): "x" * 500 for n in range(32)}, {'"': "\\"}]
    return [Odd(value, wrong=True) for value in wrong] + [Odd(deep, wrong=True)] + [Odd(value) for value in right]


def _namespaces() -> list[Odd]:
    wrong = [7, 1.5, NAN, object(), ..., [7], [2**40], [None], [["a"]], [1.5], b"voice/CA1", {7: 1}]
    right: list[Any] = ["", "/", "a//b", "a/" * 40, "x" * 5000, [], [""], [b""], ["a"] * 33, ["x" * 4096], ["\ud800"]]
    return [Odd(value, wrong=True) for value in wrong] + [Odd(value) for value in [*right, "\ud800", [b"\xff", "ü"]]]


def _flags() -> list[Odd]:
    return [Odd(value, wrong=True) for value in ("yes", 7, [], object(), NAN)] + [Odd(True)]


def _statuses() -> list[Odd]:
    wrong = [7, 1.5, NAN, object(), [7], (None,), b"ringing", ..., [b"ringing"]]
    right: list[Any] = ["", "busy", "\ud800", "completed\0", [], (), ["completed"], ("busy", "ringing"), ["x"] * 5000]
    return [Odd(value, wrong=True) for value in wrong] + [Odd(value) for value in right]


_FIXED: dict[str, Callable[[], list[Odd]]] = {
    "TEXT": _texts,
    "WHOLE": _wholes,
    "SECONDS": _seconds,
    "BUFFER": _buffers,
    "CALLBACK": _callbacks,
    "TOKEN": _tokens,
    "PATH": _paths,
    "TEXTS": _sequences,
    "MAPPING": _mappings,
    "NAMESPACE": _namespaces,
    "FLAG": _flags,
    "STATUSES": _statuses,
}


def _drawn(kind: str, draw: random.Random) -> Iterator[Odd]:
    """Some more of the same, of every size."""
    for _ in range(DRAWN):
        size = int(2 ** draw.uniform(0, 12))
        if kind == "TEXT":
            yield Odd("".join(chr(draw.choice((draw.randrange(128), draw.randrange(0x110000)))) for _ in range(size)))
        elif kind == "WHOLE":
            yield Odd(draw.randrange(-(2**size), 2**size))
        elif kind == "SECONDS":
            yield Odd(draw.choice((-1, 1)) * draw.random() * 10.0 ** draw.randrange(-300, 300))
        elif kind == "BUFFER":
            yield Odd(draw.choice((bytes, bytearray, memoryview))(draw.randbytes(size)))


def values(kind: Kind) -> list[Odd]:
    """All of them for this kind of argument."""
    name, optional, _ = kind.name.partition("_OR_NONE")
    return [Odd(None, wrong=not optional), *_FIXED[name](), *_drawn(name, random.Random(SEED))]
