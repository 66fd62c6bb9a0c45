"""Faults inside one process, each named after its row of `docs/reliability.md`: callbacks, handles, collection."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from listening import LIMIT_S, Heard, connected, dial, ended, is_calm, until

from clutchcall.engine import Engine
from clutchcall.errors import BridgeClosed
from clutchcall.voice import AudioBridge, Call, Voice


@pytest.fixture
def call(voice: Voice) -> Iterator[Call]:
    call = dial(voice, "9010")
    yield call
    call.hangup()


class Blocking:
    """A callback that waits until it is let go."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def __call__(self, frame: bytes, timestamp_us: int) -> None:
        self.entered.set()
        assert self.release.wait(LIMIT_S)


def in_time(act: Callable[[], object]) -> None:
    """On a thread of its own, which ends."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "it hangs"


GARBAGE: list[Callable[[], Any]] = [
    object,
    lambda: NotImplemented,
    lambda: (_ for _ in range(3)),
    lambda: "x" * 1_000_000,
    lambda: float("nan"),
    lambda: type,
    lambda: memoryview(b"x"),
]


def test_callback_returns_garbage(voice: Voice, call: Call) -> None:
    heard, left = Heard(), list(GARBAGE)

    def garbage(frame: bytes, timestamp_us: int) -> object:
        heard(frame, timestamp_us)
        return left.pop()() if left else None

    with voice.audio_bridge.attach(call.sid, on_uplink=garbage) as bridge:
        heard.wait(len(GARBAGE) + 5)
        assert bridge.stats().callback_errors == 0
    assert left == []
    assert heard.steps_us() == {20_000}


def test_callback_closes_its_own_bridge_and_attaches_another(voice: Voice, call: Call) -> None:
    other, heard, done = dial(voice, "9010"), Heard(), threading.Event()
    errors: list[BaseException] = []

    def once(frame: bytes, timestamp_us: int) -> None:
        try:
            bridges[0].close()
            bridges.append(voice.audio_bridge.attach(other.sid, on_uplink=heard))
            bridges.append(voice.audio_bridge.attach(call.sid, on_uplink=heard))
        except BaseException as error:
            errors.append(error)
        done.set()

    bridges = [voice.audio_bridge.attach(call.sid)]
    bridges[0].on_uplink(once)
    assert done.wait(LIMIT_S)
    assert errors == []
    heard.wait(20)
    assert [bridge.state for bridge in bridges[:1]] == ["closed"]
    for bridge in bridges:
        bridge.close()
    other.hangup()


def test_callback_asks_the_control_plane(voice: Voice, call: Call) -> None:
    """Everything that waits may be called on the SDK's own thread."""
    asked, done = [], threading.Event()

    def asks(frame: bytes, timestamp_us: int) -> None:
        if not done.is_set():
            page = voice.calls.list(limit=1)
            asked.extend([call.refresh().status, bridge.stats().state, page[0].sid])
            bridge.on_uplink(heard)
            call.wait("in_progress", timeout=LIMIT_S)
            done.set()

    heard = Heard()
    with voice.audio_bridge.attach(call.sid) as bridge:
        bridge.on_uplink(asks)
        assert done.wait(LIMIT_S)
        heard.wait(5)
    assert len(asked) == 3


def test_slow_callback_blocked_for_ever_is_closed_all_the_same(voice: Voice, call: Call) -> None:
    blocked = Blocking()
    bridge = voice.audio_bridge.attach(call.sid, on_uplink=blocked)
    try:
        assert blocked.entered.wait(LIMIT_S)
        in_time(bridge.close)
        in_time(bridge.close)
        with pytest.raises(BridgeClosed):
            bridge.publish_downlink(b"x")
        # The right to speak came back, and the next one hears.
        heard = Heard()
        with voice.audio_bridge.attach(call.sid, on_uplink=heard):
            heard.wait(10)
    finally:
        blocked.release.set()


def test_close_during_a_callback_from_many_threads(voice: Voice, call: Call) -> None:
    blocked = Blocking()
    bridge = voice.audio_bridge.attach(call.sid, on_uplink=blocked)
    assert blocked.entered.wait(LIMIT_S)
    threads = [threading.Thread(target=bridge.close, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive(), "it hangs"
    blocked.release.set()
    ended(bridge)


def test_call_ends_during_a_blocked_callback(voice: Voice, call: Call) -> None:
    blocked = Blocking()
    bridge = voice.audio_bridge.attach(call.sid, on_uplink=blocked)
    assert blocked.entered.wait(LIMIT_S)
    call.hangup()
    ended(bridge)
    in_time(bridge.close)
    blocked.release.set()


class Agent:
    """A consumer that holds its own bridge: a ring of references through the SDK."""

    def __init__(self, voice: Voice, call: Call) -> None:
        self.heard = Heard()
        self.bridge: AudioBridge = voice.audio_bridge.attach(call.sid, on_uplink=self.on_uplink)
        self.bridge.on_state(self.on_state)

    def on_uplink(self, frame: bytes, timestamp_us: int) -> None:
        self.heard(frame, timestamp_us)

    def on_state(self, state: str) -> None: ...


@pytest.mark.parametrize("end", ["close", "hangup"])
def test_handle_garbage_collected_with_a_consumer_that_holds_it(voice: Voice, call: Call, end: str) -> None:
    """It lives as long as its audio, and is collected then."""
    agent = Agent(voice, call)
    alive, heard = weakref.ref(agent), agent.heard
    del agent
    gc.collect()
    heard.wait(10)
    there = alive()
    assert there is not None
    if end == "close":
        there.bridge.close()
    else:
        call.hangup()
        ended(there.bridge)
    del there

    def gone() -> bool:
        gc.collect()
        return alive() is None

    until(gone, "it is collected")


def test_handle_garbage_collected_at_every_turn(voice: Voice, call: Call) -> None:
    """A collector that runs at every allocation, on the delivery thread too."""
    heard, before = Heard(), gc.get_threshold()
    with voice.audio_bridge.attach(call.sid, on_uplink=heard) as bridge:
        gc.set_threshold(1, 1, 1_000_000)
        try:
            heard.wait(50)
            for frame in bridge.uplink():
                assert frame.data
                if frame.sequence % 10 == 0:
                    break
        finally:
            gc.set_threshold(*before)
        assert bridge.stats().callback_errors == 0


def test_handle_collected_on_the_delivery_thread(voice: Voice) -> None:
    """The last reference to one bridge is dropped by the callback of another."""
    calls = [dial(voice, "9010") for _ in range(2)]
    held: list[Any] = [voice.audio_bridge.attach(calls[0].sid, on_uplink=Heard())]
    heard = Heard()

    def drops(frame: bytes, timestamp_us: int) -> None:
        held.clear()
        gc.collect()
        heard(frame, timestamp_us)

    with voice.audio_bridge.attach(calls[1].sid, on_uplink=drops):
        heard.wait(5)
    assert held == []
    for placed in calls:
        placed.hangup()


def test_attach_and_close_at_once_from_many_threads(voice: Voice) -> None:
    calls = [dial(voice, "9000") for _ in range(4)]
    failed: list[BaseException] = []

    def turns(call: Call) -> None:
        try:
            for _ in range(10):
                with connected(voice.audio_bridge.attach(call.sid, on_uplink=Heard())) as bridge:
                    bridge.publish_downlink(b"frame")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=turns, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert failed == []
    for call in calls:
        call.hangup()


def test_an_engine_that_ends_under_everything(voice: Voice) -> None:
    """Bridges, iterators, waits and followers of an engine that goes: each ends, or says so."""
    with Engine(ring_ms=10) as engine:
        mine = Voice(engine.base_url, engine.api_key, engine.org_id, max_retries=0, timeout=2, connect_timeout=1)
        call, other = dial(mine, "9010"), dial(mine, "9000")
        bridge = connected(mine.audio_bridge.attach(call.sid))
        frames, events = bridge.uplink(), call.events()
        next(frames)
        next(events)
        other.on_status(lambda status: None)
    assert len(list(frames)) < 500
    ended(bridge)
    in_time(bridge.close)
    assert [now.status for now in events][-1:] in ([], ["completed"], ["failed"])
    in_time(mine.close)


def test_busy_interpreter_hears_every_frame(voice: Voice) -> None:
    """Threads that compute in Python all the time take the lock from the delivery thread, and no frame for that."""
    calls, heard = [dial(voice, "9010") for _ in range(5)], [Heard() for _ in range(5)]
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(range(1000))

    busy = [threading.Thread(target=compute) for _ in range(2)]
    bridges = [voice.audio_bridge.attach(call.sid, on_uplink=ears) for call, ears in zip(calls, heard, strict=True)]
    for thread in busy:
        thread.start()
    try:
        for ears in heard:
            ears.wait_more(100)
        dropped = [bridge.stats().dropped for bridge in bridges]
    finally:
        over.set()
    for thread in busy:
        thread.join(LIMIT_S)
    for bridge, call in zip(bridges, calls, strict=True):
        bridge.close()
        call.hangup()
    if is_calm():
        assert dropped == [0] * 5
        assert {step for ears in heard for step in ears.steps_us()} == {20_000}
