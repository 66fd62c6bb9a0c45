"""The names of values in signatures: `CallStatus`, `AudioCodec`, and their like.

Codecs are those of RFC 6716 (Opus) and ITU-T G.711; namespaces those of draft-ietf-moq-transport §2.4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NotRequired, Protocol, TypeAlias, TypedDict

from clutchcall._core import Dtmf, Frame

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "AudioBuffer",
    "AudioCodec",
    "BatchCallback",
    "BridgeState",
    "CallStatus",
    "Delivery",
    "DtmfCallback",
    "FrameCallback",
    "Namespace",
    "RejectReason",
    "StateCallback",
    "StatusCallback",
    "Trunk",
    "TrunkTest",
]

CallStatus: TypeAlias = Literal["dialing", "ringing", "in_progress", "completed", "failed", "no_answer"]
"""Where a call stands; it never moves backwards. The last three are final."""
AudioCodec: TypeAlias = Literal["opus", "pcm16", "g711_ulaw", "g711_alaw"]
"""What one frame of a bridge is. `pcm16` is 16-bit little-endian, interleaved."""
BridgeState: TypeAlias = Literal["connecting", "connected", "reconnecting", "closed", "failed"]
"""How a link stands. Nothing follows `closed`; `failed` means that the relay refuses it for good."""
Delivery: TypeAlias = Literal["stream", "datagram"]
"""`stream`: nothing is lost, what is late waits. `datagram`: nothing waits, what is lost is lost."""
FrameCallback: TypeAlias = Callable[[bytes, int], object]
"""Called with one encoded frame and its stamp in microseconds (the publisher's monotonic clock)."""
BatchCallback: TypeAlias = Callable[[list[Frame]], object]
"""Called with all frames that have arrived since it was last called."""
DtmfCallback: TypeAlias = Callable[[Dtmf], object]
"""Called with a key that the far end has pressed and let go."""
StateCallback: TypeAlias = Callable[[BridgeState], object]
"""Called with the state of a bridge's link."""
StatusCallback: TypeAlias = Callable[[CallStatus], object]
"""Called with the status of a call."""
RejectReason: TypeAlias = Literal["busy", "declined", "unavailable", "not_found", "forbidden"]
"""What a caller is told whose call is refused."""


class Trunk(TypedDict):
    """A line that carries calls, as the engine was told it and as it does."""

    trunk_id: str
    display_name: str | None
    kind: str
    """`phone` or `sip`."""
    channel_limit: int
    max_cps: int
    active_calls: int
    waiting_calls: int
    """Of the active ones: their turn under `max_cps` has not come."""
    health: str
    """`healthy`, `degraded` or `down`."""
    problem: NotRequired[str]
    """Why no call over it can come to anything, where that is known: its host offers no SIP over this transport."""
    caller_ids: list[str]
    """What calls may show as `from_`, and beginnings of it; empty: anything."""
    transfer_mode: str
    """`auto`, `refer` or `bridge`."""
    sip: NotRequired[dict[str, object]]
    """What only a SIP trunk has, by the names of the settings. No password."""


class TrunkTest(TypedDict):
    """What came of asking a trunk's far side whether it is there."""

    trunk_id: str
    ok: bool
    """It can carry calls, as far as can be told without one."""
    health: str
    """`healthy`, `degraded` or `down`."""
    peer: NotRequired[str]
    """Who was asked; absent where there is nobody to ask."""
    transport: NotRequired[str]
    address: NotRequired[str]
    """The address and port of it that was asked; absent where its name leads to none."""
    sip_code: NotRequired[int]
    """What it answered, with `sip_phrase`; or `error`: why it did not."""
    sip_phrase: NotRequired[str]
    error: NotRequired[str]
    after_ms: NotRequired[int]
    registration: NotRequired[dict[str, object]]
    """`state` (`pending`, `registered`, `failed` or `unreachable`), `expires_in_s`, `sip_code`."""
    advice: NotRequired[str]
    """What to do; absent where nothing is to be done."""


Namespace: TypeAlias = str | Sequence[str | bytes]
"""Fields of a track namespace: between slashes, or one by one."""


class SupportsArrayInterface(Protocol):
    """An array of numpy's, whose stubs call it a buffer from Python 3.12 on only."""

    @property
    def __array_interface__(self) -> dict[str, object]: ...


if TYPE_CHECKING:
    AudioBuffer: TypeAlias = Buffer | SupportsArrayInterface
else:
    AudioBuffer = bytes | bytearray | memoryview | SupportsArrayInterface
"""Audio in: any contiguous buffer of bytes or of 16-bit integers."""
