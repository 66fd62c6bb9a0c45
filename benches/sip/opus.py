"""libopus alone, through ctypes: what the transcoding of one call costs at the least.

Its settings are the engine's (decision 0225).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import time
from array import array

RATE, FRAME, FRAMES = 8000, 160, 500
VOIP, SET_BITRATE, SET_COMPLEXITY, SET_SIGNAL, VOICE = 2048, 4002, 4010, 4024, 3001
BITRATE, COMPLEXITY, PASSES = 24_000, 1, 5


class Missing(Exception):
    pass


def library() -> ctypes.CDLL:
    name = ctypes.util.find_library("opus")
    if name is None:
        raise Missing("libopus0 is not installed")
    found = ctypes.CDLL(name)
    found.opus_encoder_create.restype = found.opus_decoder_create.restype = ctypes.c_void_p
    found.opus_get_version_string.restype = ctypes.c_char_p
    return found


def version() -> str:
    shown: bytes = library().opus_get_version_string()
    return shown.decode()


def measure() -> dict[str, float]:
    """CPU of the best pass over a voice of tones, per frame of 20 ms; both together as a share of one core."""
    opus, error = library(), ctypes.c_int()
    encoder = ctypes.c_void_p(opus.opus_encoder_create(RATE, 1, VOIP, ctypes.byref(error)))
    decoder = ctypes.c_void_p(opus.opus_decoder_create(RATE, 1, ctypes.byref(error)))
    for request, value in ((SET_BITRATE, BITRATE), (SET_COMPLEXITY, COMPLEXITY), (SET_SIGNAL, VOICE)):
        opus.opus_encoder_ctl(encoder, request, ctypes.c_int(value))
    frames = [(ctypes.c_int16 * FRAME)(*voice(nth)) for nth in range(FRAMES)]
    packet, out = (ctypes.c_ubyte * 1500)(), (ctypes.c_int16 * 5760)()
    best = [math.inf, math.inf]
    for _ in range(PASSES):
        packets, begun = [], time.process_time()
        for frame in frames:
            length = opus.opus_encode(encoder, frame, FRAME, packet, 1500)
            packets.append(bytes(packet[:length]))
        best[0] = min(best[0], time.process_time() - begun)
        begun = time.process_time()
        for coded in packets:
            opus.opus_decode(decoder, coded, len(coded), out, 5760, 0)
        best[1] = min(best[1], time.process_time() - begun)
    encode, decode = (1e6 * took / FRAMES for took in best)
    return {"encode µs": encode, "decode µs": decode, "%/call": (encode + decode) / 200}


def voice(nth: int) -> array[int]:
    samples, loud = array("h"), 0.0 if nth % 50 > 38 else 0.5 + 0.5 * math.sin(nth / 4)
    for at in range(nth * FRAME, (nth + 1) * FRAME):
        pitch = 120 + 40 * math.sin(at / RATE * 3)
        tone = sum(math.sin(2 * math.pi * pitch * k * at / RATE) / k for k in range(1, 9))
        samples.append(int(3500 * loud * tone))
    return samples
