"""The names of values in signatures: `CallStatus`, `AudioCodec`, and their like.

Codecs are those of RFC 6716 (Opus) and ITU-T G.711; namespaces those of draft-ietf-moq-transport §2.4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

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
