"""Callbacks that use the SDK they are called by, and publishing from any thread and any buffer."""

from __future__ import annotations

import array
import asyncio
import ctypes
import itertools
import mmap
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from listening import LIMIT_S, Heard, connected, dial, until

from clutchcall.errors import BridgeClosed
from clutchcall.types import BridgeState, CallStatus
from clutchcall.voice import AudioBridge, Frame, Voice

FRAME = b"\x01\x02" * 160
STEP_US = 20_000


def once(work: Callable[[], Any]) -> tuple[Callable[..., None], queue.SimpleQueue[Any]]:
    """A callback that does `work` the first time it is called, and where its outcome or exception comes."""
    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()
    pending = [work]

    def callback(*arguments: object) -> None:
        if pending:
            try:
                outcome.put(pending.pop()())
            except BaseException as error:
                outcome.put(error)

    return callback, outcome


@pytest.mark.parametrize("form", ["frame", "batch"])
@pytest.mark.parametrize(
    "what", ["asks", "dials", "measures", "publishes", "swaps", "takes", "hangs up", "closes another"]
)
def test_a_callback_uses_the_sdk(voice: Voice, what: str, form: str) -> None:
    call, other = dial(voice, "9010"), dial(voice, "9010")
    second, third = voice.audio_bridge.attach(other.sid), Heard()
    bridge = voice.audio_bridge.attach(call.sid)

    def takes() -> bool:
        return next(second.uplink()).data != b""

    def dials() -> bool:
        placed = dial(voice, "9010")
        with voice.audio_bridge.attach(placed.sid) as fresh:
            next(fresh.uplink())
        placed.hangup()
        return fresh.state == "closed"

    works: dict[str, Callable[[], Any]] = {
        "asks": lambda: voice.calls.get(call.sid).sid == call.sid,
        "dials": dials,
        "measures": lambda: bridge.stats().frames_in > 0,
        "publishes": lambda: bridge.publish_downlink(b"\xf8" + bytes(20)),
        "swaps": lambda: bridge.on_uplink(third),
        "takes": takes,
        "hangs up": call.hangup,
        "closes another": second.close,
    }
    callback, outcome = once(works[what])
    if form == "batch":
        bridge.on_uplink_batch(callback)
    else:
        bridge.on_uplink(callback)
    assert outcome.get(timeout=LIMIT_S) in (True, None)
    if what == "swaps":
        third.wait(10)
    if what == "closes another":
        assert second.state == "closed"
    bridge.close()
    second.close()
    for ended in (call, other):
        ended.hangup()


def test_callbacks_of_states_and_statuses_use_it_too(voice: Voice) -> None:
    call = dial(voice, "9010")
    bridge = voice.audio_bridge.attach(call.sid)
    states: list[BridgeState] = []
    done = threading.Event()

    def on_state(state: BridgeState) -> None:
        states.append(state)
        if state == "connected":
            bridge.on_state(states.append)  # itself replaced while it runs
            assert bridge.stats().state == "connected"
        if state == "closed":
            done.set()

    def on_status(status: CallStatus) -> None:
        if status == "in_progress":
            voice.calls.get(call.sid).hangup()
        if call.ended_at is not None:
            call.on_status(None)
            done.set()

    bridge.on_state(on_state)
    until(lambda: states.count("connected") == 2, lambda: f"{states}: told by the one and then by the other")
    call.on_status(on_status)
    assert done.wait(LIMIT_S)
    bridge.close()


def test_a_callback_that_closes_its_bridge_is_the_last(voice: Voice) -> None:
    """By itself, from another thread while it runs, and twice."""
    call = dial(voice, "9010")
    bridge = voice.audio_bridge.attach(call.sid)
    calls = 0
    closed = threading.Event()

    def closing(frame: bytes, timestamp_us: int) -> None:
        nonlocal calls
        calls += 1
        closer = threading.Thread(target=bridge.close)
        closer.start()
        bridge.close()
        closer.join(LIMIT_S)
        closed.set()

    bridge.on_uplink(closing)
    assert closed.wait(LIMIT_S)
    heard = Heard()
    with voice.audio_bridge.attach(call.sid, on_uplink=heard):
        heard.wait(10)
    assert calls == 1
    with pytest.raises(BridgeClosed):
        bridge.publish_downlink(b"\xf8" + bytes(20))
    call.hangup()


def test_a_fork_in_a_callback_hurts_neither(voice: Voice) -> None:
    call, heard = dial(voice, "9010"), Heard()

    def fork() -> int:
        child = os.fork()
        if child == 0:
            try:
                bridge.publish_downlink(b"\xf8" + bytes(20))
            except BaseException as error:
                os._exit(7 if "fork" in str(error) else 8)
            os._exit(9)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    callback, outcome = once(fork)
    bridge = voice.audio_bridge.attach(call.sid, on_uplink=callback)
    assert outcome.get(timeout=LIMIT_S) == 7
    bridge.on_uplink(heard)
    heard.wait(10)
    bridge.close()
    call.hangup()


def buffers() -> list[Any]:
    """One frame of 20 ms at 8 kHz in everything that holds bytes or samples."""
    mapped = mmap.mmap(-1, mmap.PAGESIZE)
    mapped[: len(FRAME)] = FRAME
    samples = np.frombuffer(FRAME, dtype="<i2")
    shared = (ctypes.c_ubyte * len(FRAME)).from_buffer_copy(FRAME)
    whole = memoryview(FRAME)
    return [
        FRAME,
        bytearray(FRAME),
        whole,
        memoryview(bytearray(FRAME + FRAME))[len(FRAME) :],
        whole.cast("h"),
        array.array("h", samples.tolist()),
        array.array("B", FRAME),
        samples,
        samples.copy(),
        memoryview(mapped)[: len(FRAME)],
        shared,
        (ctypes.c_int16 * 160).from_buffer_copy(FRAME),
    ]


def publish_from_everywhere(voice: Voice, bridge: AudioBridge, publish: Callable[[Any], None]) -> int:
    """From eight threads, an event loop and whoever calls this; how many frames that are."""
    frames = buffers()

    def all_of_them() -> None:
        for frame in frames:
            publish(frame)

    async def on_a_loop() -> None:
        all_of_them()
        await asyncio.gather(*(asyncio.to_thread(all_of_them) for _ in range(2)))

    threads = [threading.Thread(target=all_of_them) for _ in range(8)]
    for thread in threads:
        thread.start()
    asyncio.run(on_a_loop())
    all_of_them()
    for thread in threads:
        thread.join(LIMIT_S)
    return len(frames) * 12


def test_any_thread_publishes_any_buffer(voice: Voice) -> None:
    call = dial(voice, "9011")
    call.wait("in_progress", timeout=LIMIT_S)
    with voice.audio_bridge.attach(call.sid, codec="pcm16", sample_rate=8000) as bridge:
        connected(bridge)
        count = publish_from_everywhere(voice, bridge, bridge.publish_downlink)
        until(lambda: bridge.queued_ms == 0 and bridge.stats().frames_out == count, lambda: repr(bridge.stats()))
    call.hangup()


def test_so_does_the_caller(voice: Voice) -> None:
    """`attach_caller`: published from everywhere, and its consumer swapped in mid-call without losing a frame."""
    call = dial(voice, "9030")
    first, second, seen = Heard(), Heard(), []
    params: dict[str, Any] = {"codec": "pcm16", "sample_rate": 8000}
    with (
        voice.audio_bridge.attach_caller(call.sid, on_downlink=first, **params) as caller,
        voice.audio_bridge.attach(call.sid, **params) as agent,
    ):
        connected(caller)
        connected(agent)
        call.wait("in_progress", timeout=LIMIT_S)

        def numbered() -> None:
            for number in range(100):
                agent.publish_downlink(number.to_bytes(2, "little") * 160)

        speaking = threading.Thread(target=numbered)
        speaking.start()
        first.wait(10)
        caller.on_downlink(second)
        second.wait(10)
        speaking.join(LIMIT_S)
        seen = first.stamps + second.stamps
        count = publish_from_everywhere(voice, caller, caller.publish_uplink)
        until(lambda: caller.stats().frames_out == count, lambda: repr(caller.stats()))
    assert seen == sorted(set(seen))
    assert {later - earlier for earlier, later in itertools.pairwise(seen)} == {STEP_US}
    call.hangup()


def test_the_first_users_of_a_process_come_at_once(voice: Voice) -> None:
    """Bridges attached, heard by every view, swapped and closed by many threads at the same time."""
    call = dial(voice, "9010")
    errors: list[BaseException] = []

    def use(form: int) -> None:
        try:
            mine = dial(voice, "9010")
            frames: list[Frame] = []
            with voice.audio_bridge.attach(mine.sid) as bridge:
                for turn in range(6):
                    match (form + turn) % 3:
                        case 0:
                            next(bridge.uplink())
                        case 1:
                            bridge.on_uplink(lambda frame, timestamp_us: None)
                        case _:
                            bridge.on_uplink_batch(frames.extend)
                bridge.on_state(lambda state: None)
            mine.hangup()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(form,)) for form in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert errors == []
    call.hangup()
