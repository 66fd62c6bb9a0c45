"""Records what a caller says, holes and all, as a WAV file.

clutchcall dev                 # in another terminal
python examples/record.py caller.wav [NUMBER]
"""

from __future__ import annotations

import sys
import wave

from clutchcall.voice import Voice

FILE = sys.argv[1] if len(sys.argv) > 1 else "caller.wav"
NUMBER = sys.argv[2] if len(sys.argv) > 2 else "+15550009013"
RATE = 16_000

with Voice() as voice, wave.open(FILE, "wb") as wav:
    wav.setnchannels(1)
    wav.setsampwidth(2)
    wav.setframerate(RATE)
    call = voice.calls.originate(NUMBER, from_="+15558675309", trunk_id="trunk_main")
    with voice.audio_bridge.attach(call.sid, codec="pcm16", sample_rate=RATE) as bridge:
        for frame in bridge.uplink():  # ends with the call
            wav.writeframes(bytes(len(frame.data)) * frame.lost_before + frame.data)
    print(f"{FILE}: {wav.getnframes() / RATE:.2f} s of {call.sid}")
