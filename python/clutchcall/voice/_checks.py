"""What both `Voice` and `AsyncVoice` look at before anything is sent, beyond one argument's type."""

from __future__ import annotations

from clutchcall._checks import (
    check_callback,
    check_seconds,
    check_seconds_or_none,
    check_text,
    check_text_or_none,
    check_whole,
    check_whole_or_none,
    checked_path,
    text_pairs,
    texts,
)

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from clutchcall.types import BatchCallback, CallStatus, FrameCallback

__all__ = [
    "check_attach",
    "check_callback",
    "check_dtmf",
    "check_originate",
    "check_seconds",
    "check_seconds_or_none",
    "check_text",
    "check_text_or_none",
    "check_whole",
    "check_whole_or_none",
    "checked_path",
    "consumer",
    "text_pairs",
    "texts",
    "wanted_statuses",
]

_FINAL: tuple[CallStatus, ...] = ("completed", "failed", "no_answer")


def check_originate(
    to: object, from_: object, trunk_id: object, agent: object, idempotency_key: object, send_digits: object
) -> None:
    check_text(to=to, from_=from_, trunk_id=trunk_id)
    check_text_or_none(agent=agent, idempotency_key=idempotency_key, send_digits=send_digits)


def check_attach(
    call_sid: object, codec: object, sample_rate: object, channels: object, frame_ms: object, delivery: object
) -> None:
    check_text(call_sid=call_sid, codec=codec, delivery=delivery)
    check_whole(channels=channels, frame_ms=frame_ms)
    check_whole_or_none(sample_rate=sample_rate)


def check_dtmf(callback: object, name: str = "on_dtmf") -> None:
    if callback is not None:
        check_callback(name, callback, "(key: Dtmf)")


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
    if isinstance(status, str):
        check_text(status=status)
        return (status,)
    return tuple(texts("status", status))  # type: ignore[arg-type]
