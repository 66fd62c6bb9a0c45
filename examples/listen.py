"""Cuts what a caller says into utterances, as one feeds a speech recogniser: frames in a loop, the work on a thread.

clutchcall dev                 # in another terminal
python examples/listen.py [NUMBER]
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator

from clutchcall.voice import Frame, Voice

NUMBER = sys.argv[1] if len(sys.argv) > 1 else "+15550009013"
RATE = 16_000
FRAME_S = 0.02
# Mean square of a 20 ms frame that counts as speech, and how many quiet frames end an utterance.
LOUD = 300**2
QUIET_FRAMES = 20


def utterances(frames: Iterator[Frame]) -> Iterator[tuple[int, bytes]]:
    """Of each stretch of speech: the stamp of its first frame, and its samples."""
    spoken, began_us, quiet = bytearray(), 0, 0
    for frame in frames:
        samples = frame.pcm
        quiet = 0 if sum(sample * sample for sample in samples) > LOUD * len(samples) else quiet + 1
        if not spoken and quiet == 0:
            began_us = frame.timestamp_us
        if spoken or quiet == 0:
            spoken += frame.data
        if spoken and quiet == QUIET_FRAMES:
            yield began_us, bytes(spoken)
            spoken.clear()
    if spoken:
        yield began_us, bytes(spoken)


def recognise(work: queue.Queue[tuple[int, bytes] | None]) -> None:
    """Stands in for a recogniser, which takes its time: the loop that takes frames must not wait for it."""
    while (utterance := work.get()) is not None:
        began_us, samples = utterance
        print(f"at {began_us / 1e6:.2f} s: {len(samples) / 2 / RATE:.2f} s of speech", flush=True)


with Voice() as voice:
    call = voice.calls.originate(NUMBER, from_="+15558675309", trunk_id="trunk_main")
    work: queue.Queue[tuple[int, bytes] | None] = queue.Queue()
    worker = threading.Thread(target=recognise, args=(work,))
    worker.start()
    try:
        with voice.audio_bridge.attach(call.sid, codec="pcm16", sample_rate=RATE) as bridge:
            for utterance in utterances(bridge.uplink()):
                work.put(utterance)
    finally:
        work.put(None)
        worker.join()
