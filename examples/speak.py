"""Speaks to a caller from a thread, as a synthesiser does: in bursts, faster than real time.

clutchcall dev                 # in another terminal
python examples/speak.py [WAV] [NUMBER]
"""

from __future__ import annotations

import array
import math
import sys
import threading
import time
import wave
from collections.abc import Iterator

from clutchcall.media import OpusEncoder
from clutchcall.voice import AudioBridge, Voice

FILE = sys.argv[1] if len(sys.argv) > 1 else None
NUMBER = sys.argv[2] if len(sys.argv) > 2 else "+15550009012"


def speech() -> tuple[int, bytes]:
    """Rate and samples of the file, or of two seconds of a tone."""
    if FILE is None:
        return 16_000, array.array("h", (int(8000 * math.sin(n / 6)) for n in range(32_000))).tobytes()
    with wave.open(FILE) as wav:
        if (wav.getnchannels(), wav.getsampwidth()) != (1, 2):
            raise SystemExit(f"{FILE}: 16 bit mono, please")
        return wav.getframerate(), wav.readframes(wav.getnframes())


def packets(rate: int, samples: bytes) -> Iterator[bytes]:
    """Opus, 20 ms each; the last one is filled up with silence."""
    encoder, size = OpusEncoder(rate), rate // 50 * 2
    for start in range(0, len(samples), size):
        yield encoder.encode(samples[start : start + size].ljust(size, b"\0"))


def say(bridge: AudioBridge) -> None:
    """All of it at once: the bridge holds up to 60 s and speaks in real time."""
    for packet in packets(*speech()):
        bridge.publish_downlink(packet)


with Voice() as voice:
    call = voice.calls.originate(NUMBER, from_="+15558675309", trunk_id="trunk_main")
    with voice.audio_bridge.attach(call.sid, sample_rate=speech()[0]) as bridge:
        call.wait("in_progress", timeout=60)
        speaking = threading.Thread(target=say, args=(bridge,))
        speaking.start()
        speaking.join()
        while bridge.queued_ms:
            time.sleep(0.02)
        print(f"{bridge.stats().frames_out} frames said to {call.sid}")
    call.hangup()
