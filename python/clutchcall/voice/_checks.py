"""What both `Voice` and `AsyncVoice` look at before anything is sent, beyond one argument's type."""

from __future__ import annotations

from clutchcall import _core
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
    from collections.abc import Mapping
    from typing import Literal, TypeAlias

    from clutchcall.types import AudioCodec, BatchCallback, CallStatus, Delivery, FrameCallback

    Role: TypeAlias = Literal["server", "caller"]

__all__ = [
    "attaching",
    "check_callback",
    "check_dtmf",
    "check_seconds",
    "check_seconds_or_none",
    "check_text",
    "check_text_or_none",
    "check_whole",
    "check_whole_or_none",
    "checked_path",
    "consumer",
    "placing",
    "text_pairs",
    "texts",
    "wanted_statuses",
]

_FINAL: tuple[CallStatus, ...] = ("completed", "failed", "no_answer")


def placing(
    *,
    to: str,
    from_: str,
    trunk_id: str,
    agent: str | None,
    ring_timeout_sec: float | None,
    idempotency_key: str | None,
    metadata: Mapping[str, str] | None,
    max_duration_sec: float | None,
    send_digits: str | None,
    headers: Mapping[str, str] | None,
    caller_name: str | None,
    status_callback: str | None,
) -> _core.Placing:
    """What a call is placed with, as `Calls.originate` is given it."""
    check_text(to=to, from_=from_, trunk_id=trunk_id)
    check_text_or_none(agent=agent, idempotency_key=idempotency_key, send_digits=send_digits)
    check_text_or_none(caller_name=caller_name, status_callback=status_callback)
    check_seconds_or_none(ring_timeout_sec=ring_timeout_sec, max_duration_sec=max_duration_sec)
    return _core.Placing(
        to=to,
        from_=from_,
        trunk_id=trunk_id,
        agent=agent,
        ring_timeout_sec=ring_timeout_sec,
        idempotency_key=idempotency_key,
        metadata={} if metadata is None else text_pairs("metadata", metadata),
        max_duration_sec=max_duration_sec,
        send_digits=send_digits,
        headers={} if headers is None else text_pairs("headers", headers),
        caller_name=caller_name,
        status_callback=status_callback,
    )


def attaching(
    call_sid: str,
    *,
    role: Role,
    codec: AudioCodec,
    sample_rate: int | None,
    channels: int,
    frame_ms: int,
    delivery: Delivery,
) -> _core.Attaching:
    """What a bridge is attached to, and as what, as `AudioBridges.attach` is given it."""
    check_text(call_sid=call_sid, codec=codec, delivery=delivery)
    check_whole(channels=channels, frame_ms=frame_ms)
    check_whole_or_none(sample_rate=sample_rate)
    return _core.Attaching(
        call_sid=call_sid,
        role=role,
        codec=codec,
        sample_rate=sample_rate,
        channels=channels,
        frame_ms=frame_ms,
        delivery=delivery,
    )


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
