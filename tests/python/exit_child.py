"""A program that ends with audio running.

    exit_child.py sync|threads|asyncio live|blocked|collected|exception URL KEY ORG

It prints its call's sid. What else it prints is the interpreter's own.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time

from clutchcall.voice import AsyncVoice, Voice

MODE, ENDING, *SETTINGS = sys.argv[1:]
LIMIT_S = 30.0
arrived = threading.Event()
heard = 0


def on_uplink(frame: bytes, timestamp_us: int) -> None:
    global heard
    heard += 1
    if heard % 5 == 0:
        arrived.set()
    if ENDING == "blocked":
        arrived.set()
        time.sleep(1000)


def audio() -> None:
    assert arrived.wait(LIMIT_S), "no audio"


def still_audio() -> None:
    gc.collect()
    arrived.clear()
    audio()


def attach() -> Voice:
    voice = Voice(*SETTINGS)
    call = voice.calls.originate(to="+15550009010", from_="+15550000000", trunk_id="trunk_main")
    print(call.sid, flush=True)
    bridge = voice.audio_bridge.attach(call.sid, on_uplink=on_uplink)
    audio()
    assert bridge.call_sid == call.sid
    return voice


def take() -> None:
    """A thread that nobody joins, waiting for frames when the program ends."""
    voice = Voice(*SETTINGS)
    call = voice.calls.originate(to="+15550009010", from_="+15550000000", trunk_id="trunk_main")
    print(call.sid, flush=True)
    for frame in voice.audio_bridge.attach(call.sid).uplink():
        on_uplink(frame.data, frame.timestamp_us)


def threads() -> None:
    if ENDING == "blocked":
        attaching = threading.Thread(target=attach)
        attaching.start()
        attaching.join(LIMIT_S)
    else:
        threading.Thread(target=take, daemon=True).start()
    audio()
    if ENDING == "collected":
        still_audio()


async def loop() -> None:
    # In development mode a loop tells of steps that take long, which on a busy machine all do.
    asyncio.get_running_loop().slow_callback_duration = LIMIT_S
    voice = AsyncVoice(*SETTINGS)
    call = await voice.calls.originate(to="+15550009010", from_="+15550000000", trunk_id="trunk_main")
    print(call.sid, flush=True)
    bridge = await voice.audio_bridge.attach(call.sid, on_uplink=on_uplink if ENDING == "blocked" else None)
    if ENDING == "blocked":
        await asyncio.to_thread(audio)
        return
    frames = bridge.uplink()
    for _ in range(5):
        await anext(frames)
    if ENDING == "collected":
        del bridge, frames, voice
        gc.collect()
    if ENDING == "exception":
        raise LookupError("mine")


if MODE == "asyncio":
    asyncio.run(loop())
elif MODE == "threads":
    threads()
else:
    voice: Voice | None = attach()
    if ENDING == "collected":
        voice = None
        still_audio()
if ENDING == "exception":
    raise LookupError("mine")
