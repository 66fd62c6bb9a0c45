"""What the public classes look at before anything is sent: the types of arguments. The message names the argument.

Text must be whole (no half of a surrogate pair), whole numbers have 64 bits at most, seconds are a float's: what
is beyond that is a `ValueError` here, as the core has no place for it.
"""

from __future__ import annotations

from os import fspath

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from os import PathLike

# Of `inspect`, which is not worth its import: a coroutine function, an asynchronous generator.
_CO_ASYNC = 0x80 | 0x200


def check_text(**fields: object) -> None:
    for field, value in fields.items():
        if not isinstance(value, str):
            raise TypeError(f"{field} is a {type(value).__name__}: give text")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{field} holds {value[error.start]!a}, half of a character: give whole text") from None


def check_text_or_none(**fields: object) -> None:
    check_text(**{field: value for field, value in fields.items() if value is not None})


def check_whole(**fields: object) -> None:
    for field, value in fields.items():
        if not hasattr(type(value), "__index__"):
            raise TypeError(f"{field} is a {type(value).__name__}: give a whole number")
        if not -(2**63) <= value.__index__() < 2**63:  # type: ignore[attr-defined]
            raise ValueError(f"{field} is a number of more than 64 bits: none is so large")


def check_whole_or_none(**fields: object) -> None:
    check_whole(**{field: value for field, value in fields.items() if value is not None})


def check_seconds(**fields: object) -> None:
    for field, value in fields.items():
        try:
            float(value if hasattr(type(value), "__float__") else value.__index__())  # type: ignore[arg-type, attr-defined]
        except (TypeError, AttributeError):
            raise TypeError(f"{field} is a {type(value).__name__}: give a number") from None
        except OverflowError:
            raise ValueError(f"{field} is larger than any number of seconds") from None


def check_seconds_or_none(**fields: object) -> None:
    check_seconds(**{field: value for field, value in fields.items() if value is not None})


def check_flag(**fields: object) -> None:
    for field, value in fields.items():
        if not isinstance(value, bool):
            raise TypeError(f"{field} is a {type(value).__name__}: give True or False")


def check_callback(field: str, callback: object, takes: str = "(frame: bytes, timestamp_us: int)") -> None:
    if not callable(callback):
        raise TypeError(f"{field} is a {type(callback).__name__}: give a callable that takes {takes}")
    if getattr(_code_of(callback), "co_flags", 0) & _CO_ASYNC:
        raise TypeError(
            f"{field} is a coroutine function, which nobody would await: give a plain callable, or use async for"
        )


def _code_of(callback: Callable[..., object]) -> object:
    """Of what is run when it is called: a partial is what it wraps, an object its class's `__call__`."""
    kind = type(callback)
    if (kind.__module__, kind.__name__) == ("functools", "partial"):
        callback = callback.func  # type: ignore[attr-defined]
    if hasattr(callback, "__code__"):
        return callback.__code__
    return getattr(type(callback).__call__, "__code__", None)


def checked_path(field: str, value: str | PathLike[str]) -> str:
    """The path as text."""
    if not isinstance(value, str) and not hasattr(type(value), "__fspath__"):
        raise TypeError(f"{field} is a {type(value).__name__}: give a path")
    path = fspath(value)
    check_text(**{field: path})
    if "\0" in path:
        raise ValueError(f"{field} holds a NUL, which no path has")
    return path


def path_or_none(field: str, value: str | PathLike[str] | None) -> str | None:
    return None if value is None else checked_path(field, value)


def items_of(field: str, value: Iterable[object]) -> list[object]:
    """A list of anything iterable but text, which is one item and never meant as its letters."""
    if isinstance(value, (str, bytes, bytearray)) or not hasattr(type(value), "__iter__"):
        raise TypeError(f"{field} is a {type(value).__name__}: give a list")
    return list(value)


def texts(field: str, value: Iterable[str]) -> list[str]:
    """A list of texts from any iterable of them."""
    found = items_of(field, value)
    for number, text in enumerate(found):
        check_text(**{f"{field}[{number}]": text})
    return found  # type: ignore[return-value]


def text_pairs(field: str, value: Mapping[str, str]) -> dict[str, str]:
    """A dict of texts from any mapping."""
    if not hasattr(type(value), "keys"):
        raise TypeError(f"{field} is a {type(value).__name__}: give a dict of texts")
    pairs = dict(value)
    for name, text in pairs.items():
        check_text(**{f"a name in {field}": name, f"{field}[{name!r}]": text})
    return pairs
