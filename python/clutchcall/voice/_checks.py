"""What both `Voice` and `AsyncVoice` look at before anything is sent: the types of arguments."""

from __future__ import annotations

from os import fspath

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from clutchcall.types import BatchCallback, CallStatus, FrameCallback

_FINAL: tuple[CallStatus, ...] = ("completed", "failed", "no_answer")
# Of `inspect`, which is not worth its import: a coroutine function, an asynchronous generator.
_CO_ASYNC = 0x80 | 0x200


def check_text(**fields: object) -> None:
    for field, value in fields.items():
        if not isinstance(value, str):
            raise TypeError(f"{field} is a {type(value).__name__}: give text")


def check_text_or_none(**fields: object) -> None:
    check_text(**{field: value for field, value in fields.items() if value is not None})


def check_number(**fields: object) -> None:
    for field, value in fields.items():
        # What the core makes of it is its own question; text and None are nobody's numbers.
        if not (hasattr(type(value), "__index__") or hasattr(type(value), "__float__")):
            raise TypeError(f"{field} is a {type(value).__name__}: give a number")


def check_callback(field: str, callback: object, takes: str = "(frame: bytes, timestamp_us: int)") -> None:
    if not callable(callback):
        raise TypeError(f"{field} is a {type(callback).__name__}: give a callable that takes {takes}")
    code = getattr(callback, "__code__", None)
    if getattr(code, "co_flags", 0) & _CO_ASYNC:
        raise TypeError(
            f"{field} is a coroutine function, which nobody would await: give a plain callable, or use async for"
        )


def check_originate(
    to: object, from_: object, trunk_id: object, agent: object, ring_timeout_sec: object, idempotency_key: object
) -> None:
    check_text(to=to, from_=from_, trunk_id=trunk_id)
    check_text_or_none(agent=agent, idempotency_key=idempotency_key)
    check_number(ring_timeout_sec=30 if ring_timeout_sec is None else ring_timeout_sec)


def check_attach(
    call_sid: object, codec: object, sample_rate: object, channels: object, frame_ms: object, delivery: object
) -> None:
    check_text(call_sid=call_sid, codec=codec, delivery=delivery)
    check_number(channels=channels, frame_ms=frame_ms, sample_rate=0 if sample_rate is None else sample_rate)


def consumer(
    side: str, callback: FrameCallback | None, batch: BatchCallback | None
) -> tuple[FrameCallback | BatchCallback | None, bool]:
    """Who is given the frames, and whether all at once: one of both, or nobody, for whom frames wait."""
    if batch is None:
        if callback is not None:
            check_callback(f"on_{side}", callback)
        return callback, False
    if callback is not None:
        raise TypeError(f"on_{side} and on_{side}_batch are both given: a frame goes to one of them, choose which")
    check_callback(f"on_{side}_batch", batch, "a list of Frame")
    return batch, True


def wanted_statuses(status: CallStatus | tuple[CallStatus, ...] | None) -> tuple[CallStatus, ...]:
    """What `wait` waits for."""
    if status is None:
        return _FINAL
    return (status,) if isinstance(status, str) else tuple(status)


def checked_path(field: str, value: str | PathLike[str]) -> str:
    """The path as text."""
    if not isinstance(value, str) and not hasattr(type(value), "__fspath__"):
        raise TypeError(f"{field} is a {type(value).__name__}: give a path")
    path = fspath(value)
    check_text(**{field: path})
    return path


def text_pairs(field: str, value: Mapping[str, str]) -> dict[str, str]:
    """A dict of texts from any mapping."""
    if not hasattr(type(value), "keys"):
        raise TypeError(f"{field} is a {type(value).__name__}: give a dict of texts")
    pairs = dict(value)
    for name, text in pairs.items():
        check_text(**{f"a name in {field}": name, f"{field}[{name!r}]": text})
    return pairs
