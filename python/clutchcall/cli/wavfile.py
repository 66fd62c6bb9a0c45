"""WAV files to Opus frames and back, for the commands."""

from __future__ import annotations

import wave
from pathlib import Path

from clutchcall.media import OpusDecoder, OpusEncoder

__all__ = ["opus_frames", "write_opus"]

_FRAME_MS = 20
_RATES = (8000, 12000, 16000, 24000, 48000)
# Wide enough for speech, a third of the bytes of 48 kHz.
_RECORD_RATE = 16000


def opus_frames(path: str) -> list[bytes]:
    """The file as 20 ms Opus packets; the last one is filled up with silence.

    Raises:
        ValueError: It is no 16-bit mono WAV of a rate that Opus has.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise ValueError(f"{path} is no regular file: name a WAV file")
    try:
        with wave.open(path, "rb") as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            pcm = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} is no WAV file that can be read: {error}") from error
    if (channels, width) != (1, 2) or rate not in _RATES:
        rates = ", ".join(str(rate) for rate in _RATES)
        raise ValueError(
            f"{path} has {rate} Hz, {channels} channels, {8 * width} bits: give 16-bit mono at one of {rates} Hz"
        )
    encoder = OpusEncoder(rate, 1)
    size = rate * _FRAME_MS // 1000 * 2
    pcm += bytes(-len(pcm) % size)
    return [encoder.encode(pcm[at : at + size]) for at in range(0, len(pcm), size)]


def write_opus(path: str, frames: list[bytes]) -> None:
    """Decodes the packets, in order, into a 16 kHz mono WAV."""
    decoder = OpusDecoder(_RECORD_RATE, 1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RECORD_RATE)
        file.writeframes(b"".join(decoder.decode(frame) for frame in frames))
