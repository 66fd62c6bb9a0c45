"""libopus alone, as the machine's packages have it (baresip brings it): what our codec is compared with."""

from __future__ import annotations

import ctypes

import numpy as np
from listening import Samples

VOIP, SET_BITRATE, SET_COMPLEXITY, SET_SIGNAL, VOICE = 2048, 4002, 4010, 4024, 3001
MOST_BYTES, MOST_SAMPLES = 1500, 5760


def through(speech: Samples, hz: int, bitrate: int = 24_000, complexity: int = 5) -> Samples:
    """Encoded and decoded again, in frames of 20 ms; what is no whole frame at the end is left out."""
    opus, error = ctypes.CDLL("libopus.so.0"), ctypes.c_int()
    opus.opus_encoder_create.restype = opus.opus_decoder_create.restype = ctypes.c_void_p
    encoder = ctypes.c_void_p(opus.opus_encoder_create(hz, 1, VOIP, ctypes.byref(error)))
    decoder = ctypes.c_void_p(opus.opus_decoder_create(hz, 1, ctypes.byref(error)))
    try:
        for request, value in ((SET_BITRATE, bitrate), (SET_COMPLEXITY, complexity), (SET_SIGNAL, VOICE)):
            assert opus.opus_encoder_ctl(encoder, request, ctypes.c_int(value)) == 0
        size = hz // 50
        packet, heard = (ctypes.c_ubyte * MOST_BYTES)(), (ctypes.c_int16 * MOST_SAMPLES)()
        out = []
        for at in range(0, len(speech) - size + 1, size):
            frame = (ctypes.c_int16 * size)(*speech[at : at + size].tolist())
            length = opus.opus_encode(encoder, frame, size, packet, MOST_BYTES)
            assert length > 0
            assert opus.opus_decode(decoder, packet, length, heard, MOST_SAMPLES, 0) == size
            out.append(np.array(heard[:size], dtype=np.int16))
        return np.concatenate(out)
    finally:
        opus.opus_encoder_destroy(encoder)
        opus.opus_decoder_destroy(decoder)
