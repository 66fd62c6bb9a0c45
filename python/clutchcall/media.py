"""The codecs alone: Opus (RFC 6716, by libopus) and G.711 (ITU-T G.711), over 16-bit little-endian PCM.

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

    Raises:
        ValueError: Another rate or number of channels.
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
        """PCM to one packet.

        Args:
            pcm: 10, 20, 40 or 60 ms at the encoder's rate.

        Raises:
            ValueError: It has another length.
            TypeError: It is no such buffer.
        """
        return self._core.encode(pcm)


class OpusDecoder:
    """Opus packets to PCM.

    Args:
        sample_rate: Of the PCM, in Hz; any of the five rates of `OpusEncoder` decodes any packet.
        channels: Of the PCM, 1 or 2.

    Raises:
        ValueError: Another rate or number of channels.
    """

    __slots__ = ("_core",)

    def __init__(self, sample_rate: int = 48000, channels: int = 1) -> None:
        check_whole(sample_rate=sample_rate, channels=channels)
        self._core = _core.OpusDecoder(sample_rate, channels)

    def decode(self, packet: AudioBuffer | None, *, lost_ms: int = 20) -> bytes:
        """One packet to PCM.

        Args:
            packet: The packet; `None` for a lost one, which is concealed.
            lost_ms: How many milliseconds are concealed: 10 to 120.

        Raises:
            ValueError: The packet is malformed, or `lost_ms` is out of range; the decoder goes on.
            TypeError: It is no buffer of bytes.
        """
        return self._core.decode(packet, lost_ms)


def encode_ulaw(pcm: AudioBuffer) -> bytes:
    """16-bit PCM to G.711 µ-law.

    Args:
        pcm: Samples, of any rate (8,000 Hz on a phone line); each becomes one byte.

    Raises:
        ValueError: Half a sample stands at its end.
        TypeError: It is no such buffer.
    """
    return _core.encode_ulaw(pcm)


def encode_alaw(pcm: AudioBuffer) -> bytes:
    """16-bit PCM to G.711 A-law.

    Args:
        pcm: Samples, of any rate (8,000 Hz on a phone line); each becomes one byte.

    Raises:
        ValueError: Half a sample stands at its end.
        TypeError: It is no such buffer.
    """
    return _core.encode_alaw(pcm)


def decode_ulaw(data: AudioBuffer) -> bytes:
    """G.711 µ-law to 16-bit PCM.

    Args:
        data: One byte per sample; each becomes two bytes.

    Raises:
        TypeError: It is no buffer of bytes.
    """
    return _core.decode_ulaw(data)


def decode_alaw(data: AudioBuffer) -> bytes:
    """G.711 A-law to 16-bit PCM.

    Args:
        data: One byte per sample; each becomes two bytes.

    Raises:
        TypeError: It is no buffer of bytes.
    """
    return _core.decode_alaw(data)


def opus_version() -> str:
    """The version of libopus in this wheel, such as `libopus 1.6.1`."""
    return _core.opus_version()
