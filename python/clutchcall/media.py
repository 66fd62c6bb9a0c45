"""The codecs alone: Opus (libopus) and G.711, over 16-bit little-endian PCM.

PCM arguments are any contiguous buffer of 16-bit integers or of their bytes, interleaved when there are two channels;
results are `bytes`.
"""

from __future__ import annotations

from clutchcall import _core
from clutchcall._checks import check_whole

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from clutchcall.types import AudioBuffer

__all__ = ["OpusDecoder", "OpusEncoder", "decode_alaw", "decode_ulaw", "encode_alaw", "encode_ulaw", "opus_version"]


class OpusEncoder:
    """PCM to Opus packets, tuned as the engine tunes it: VOIP, 24 kbit/s per channel up to 16 kHz and 32 above.

    Args:
        sample_rate: 8000, 12000, 16000, 24000 or 48000 Hz.
        channels: 1 or 2.
    """

    __slots__ = ("_core",)

    def __init__(self, sample_rate: int = 48000, channels: int = 1) -> None:
        check_whole(sample_rate=sample_rate, channels=channels)
        self._core = _core.OpusEncoder(sample_rate, channels)

    @property
    def lookahead(self) -> int:
        """Samples per channel that decoded audio lags behind what was encoded."""
        return self._core.lookahead

    def encode(self, pcm: AudioBuffer) -> bytes:
        """10, 20, 40 or 60 ms of PCM to one packet. Raises `ValueError` for another length."""
        return self._core.encode(pcm)


class OpusDecoder:
    """Opus packets to PCM.

    Args:
        sample_rate: Of the PCM; any of the five rates decodes any packet.
        channels: Of the PCM, 1 or 2.
    """

    __slots__ = ("_core",)

    def __init__(self, sample_rate: int = 48000, channels: int = 1) -> None:
        check_whole(sample_rate=sample_rate, channels=channels)
        self._core = _core.OpusDecoder(sample_rate, channels)

    def decode(self, packet: AudioBuffer | None, *, lost_ms: int = 20) -> bytes:
        """One packet to PCM; `None` for a lost one, which is concealed by `lost_ms` (10 to 120) milliseconds.

        Raises `ValueError` for a packet that is malformed; the decoder goes on.
        """
        return self._core.decode(packet, lost_ms)


def encode_ulaw(pcm: AudioBuffer) -> bytes:
    """16-bit PCM to G.711 µ-law, one byte per sample."""
    return _core.encode_ulaw(pcm)


def encode_alaw(pcm: AudioBuffer) -> bytes:
    """16-bit PCM to G.711 A-law, one byte per sample."""
    return _core.encode_alaw(pcm)


def decode_ulaw(data: AudioBuffer) -> bytes:
    """G.711 µ-law to 16-bit PCM."""
    return _core.decode_ulaw(data)


def decode_alaw(data: AudioBuffer) -> bytes:
    """G.711 A-law to 16-bit PCM."""
    return _core.decode_alaw(data)


def opus_version() -> str:
    """The version of libopus in this wheel, such as `libopus 1.6.1`."""
    return _core.opus_version()
