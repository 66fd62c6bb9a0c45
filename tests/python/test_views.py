"""The ways to hear a bridge: callback, batch, iterator, on a thread or an event loop. They are views of one ring."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from typing import Any

import pytest
from listening import LIMIT_S, Heard, connected, dial, is_calm, until

from clutchcall.engine import Engine
from clutchcall.errors import BridgeError, NotFoundError
from clutchcall.types import BridgeState, CallStatus
from clutchcall.voice import AsyncVoice, Frame, Voice


class Batches:
    """A batch callback that keeps its frames."""

    def __init__(self) -> None:
        self.batches: list[list[Frame]] = []
        self.news = threading.Condition()

    def __call__(self, frames: list[Frame]) -> None:
        with self.news:
            self.batches.append(frames)
            self.news.notify_all()

    @property
    def frames(self) -> list[Frame]:
        return list(itertools.chain.from_iterable(self.batches))

    def wait(self, count: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: len(self.frames) >= count, LIMIT_S)


def in_a_row(stamps: list[int]) -> bool:
    """Nothing is lost between them; on a machine that does not keep time, nothing comes twice or out of its order."""
    steps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    return all(step == 20_000 for step in steps) if is_calm() else all(step > 0 for step in steps)


def test_an_iterator_hears_every_frame(voice: Voice) -> None:
    with voice.audio_bridge.attach(dial(voice, "9010").sid) as bridge:
        frames = list(itertools.islice(bridge.uplink(), 50))
    assert in_a_row([frame.timestamp_us for frame in frames])
    assert {frame.codec for frame in frames} == {"opus"}
    assert {frame.lost_before for frame in frames} == {0}
    first = frames[0].sequence
    assert [frame.sequence for frame in frames] == list(range(first, first + 50))
    assert all(isinstance(frame.data, bytes) and frame.data for frame in frames)
    assert str(frames[0].sequence) in repr(frames[0])


def test_pcm_is_a_view_of_the_samples(voice: Voice) -> None:
    with voice.audio_bridge.attach(dial(voice, "9010").sid, codec="pcm16", sample_rate=8000) as bridge:
        frame = next(bridge.uplink())
    assert (frame.pcm.format, len(frame.pcm), frame.pcm.nbytes) == ("h", 160, 320)
    assert frame.pcm.obj is frame.data
    with voice.audio_bridge.attach(dial(voice, "9010").sid) as bridge:
        packet = next(bridge.uplink())
    with pytest.raises(ValueError, match="opus"):
        _ = packet.pcm


def test_a_batch_is_all_that_is_there(voice: Voice) -> None:
    heard = Batches()
    with voice.audio_bridge.attach(dial(voice, "9010").sid, on_uplink_batch=heard) as bridge:
        heard.wait(30)
        assert bridge.stats().callback_errors == 0
    assert all(heard.batches)
    assert in_a_row([frame.timestamp_us for frame in heard.frames])


def test_a_batch_that_blocked_gets_the_rest_at_once_and_is_told_of_its_loss(voice: Voice) -> None:
    release, entered, heard = threading.Event(), threading.Event(), Batches()

    def once_blocking(frames: list[Frame]) -> None:
        heard(frames)
        entered.set()
        release.wait(LIMIT_S)

    with voice.audio_bridge.attach(dial(voice, "9010").sid, on_uplink_batch=once_blocking) as bridge:
        assert entered.wait(LIMIT_S)
        try:
            until(lambda: bridge.stats().dropped >= 3, "frames were dropped")
        finally:
            release.set()
        heard.wait(12)
    second = heard.batches[1]
    assert len(second) > 1
    assert second[0].lost_before >= 3
    assert {frame.lost_before for frame in second[1:]} == {0}


def test_an_iterator_that_rests_is_told_what_it_missed(voice: Voice) -> None:
    with voice.audio_bridge.attach(dial(voice, "9010").sid) as bridge:
        frames = bridge.uplink()
        first = next(frames)
        until(lambda: bridge.stats().dropped >= 5, "frames were dropped")
        later = list(itertools.islice(frames, 10))
    lost = later[0].sequence - first.sequence - 1
    assert later[0].lost_before == lost >= 5


def test_consumers_of_every_sort_take_over_without_a_loss(voice: Voice) -> None:
    """Callback, iterator, batch, callback: in mid-call, each frame goes to exactly one of them."""
    first, batches, last = Heard(), Batches(), Heard()
    with voice.audio_bridge.attach(dial(voice, "9010").sid, on_uplink=first) as bridge:
        first.wait(10)
        middle = list(itertools.islice(bridge.uplink(), 20))
        bridge.on_uplink_batch(batches)
        batches.wait(10)
        bridge.on_uplink(last)
        last.wait(10)
    stamps = first.stamps + [frame.timestamp_us for frame in middle + batches.frames] + last.stamps
    assert in_a_row(stamps)


def test_an_iterator_ends_when_another_takes_its_place(voice: Voice) -> None:
    with voice.audio_bridge.attach(dial(voice, "9010").sid) as bridge:
        old = bridge.uplink()
        next(old)
        new = bridge.uplink()
        assert list(old) == []
        next(new)
        ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        waiter = threading.Thread(target=lambda: ended.put(sum(1 for _ in new)))
        waiter.start()
        heard = Heard()
        bridge.on_uplink(heard)
        ended.get(timeout=LIMIT_S)
        waiter.join(LIMIT_S)
        heard.wait(5)


def test_an_iterator_ends_with_the_call_and_with_the_bridge(voice: Voice) -> None:
    call = dial(voice, "9010")
    bridge = voice.audio_bridge.attach(call.sid)
    frames = bridge.uplink()
    next(frames)
    call.hangup()
    assert len(list(frames)) < 500
    assert list(frames) == []
    bridge.close()

    with voice.audio_bridge.attach(dial(voice, "9000").sid) as other:
        silent = other.uplink()
        closer = threading.Thread(target=other.close)
        closer.start()
        assert list(silent) == []
        closer.join(LIMIT_S)


def test_several_threads_may_take(voice: Voice) -> None:
    """Between them they hear every frame once."""
    heard: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    bridge = voice.audio_bridge.attach(dial(voice, "9010").sid)
    frames = bridge.uplink()

    def take() -> None:
        for frame in frames:
            heard.put(frame)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    taken = [heard.get(timeout=LIMIT_S) for _ in range(50)]
    bridge.close()
    for thread in threads:
        thread.join(LIMIT_S)
    while not heard.empty():
        taken.append(heard.get())
    assert in_a_row(sorted(frame.timestamp_us for frame in taken))


def test_the_caller_s_side_has_the_same_views(voice: Voice) -> None:
    call = dial(voice, "9030")
    heard, frame = Batches(), b"\x55" * 160
    with (
        voice.audio_bridge.attach_caller(call.sid, codec="g711_ulaw", on_downlink_batch=heard) as caller,
        voice.audio_bridge.attach(call.sid, codec="g711_ulaw") as agent,
    ):
        connected(caller)
        connected(agent)
        call.wait("in_progress", timeout=LIMIT_S)
        for _ in range(200):
            caller.publish_uplink(frame)
            agent.publish_downlink(frame)
        heard.wait(5)
        assert next(agent.uplink()).codec == "g711_ulaw"
        assert next(caller.downlink()).data
        with pytest.raises(BridgeError, match="attach_caller"):
            caller.uplink()
        with pytest.raises(BridgeError, match="attach"):
            agent.on_downlink_batch(heard)
    call.hangup()


def test_the_state_is_told_from_now_to_the_end(voice: Voice) -> None:
    call, states, over = dial(voice, "9010"), [], threading.Event()

    def on_state(state: BridgeState) -> None:
        states.append(state)
        if state == "closed":
            over.set()

    bridge = voice.audio_bridge.attach(call.sid, on_uplink=Heard())
    bridge.on_state(on_state)
    until(lambda: "connected" in states, "it is told of the link")
    second: list[BridgeState] = []
    bridge.on_state(second.append)
    until(lambda: second == ["connected"], "the state of now comes first")
    bridge.on_state(on_state)
    call.hangup()
    assert over.wait(LIMIT_S)
    assert states[-2:] == ["connected", "closed"]
    assert second == ["connected"]
    late: list[BridgeState] = []
    bridge.on_state(late.append)
    until(lambda: late == ["closed"], "a closed bridge says so")
    bridge.close()


def test_one_of_both_callbacks(voice: Voice) -> None:
    def both(**more: Any) -> None:  # noqa: ANN401
        voice.audio_bridge.attach("CA1", **more)

    with pytest.raises(TypeError, match="on_uplink_batch"):
        both(on_uplink=print, on_uplink_batch=print)
    with pytest.raises(TypeError, match="list of Frame"):
        both(on_uplink_batch=3)

    async def never(frame: bytes, timestamp_us: int) -> None: ...

    with pytest.raises(TypeError, match="coroutine function"):
        both(on_uplink=never)


def test_a_call_is_followed(voice: Voice) -> None:
    call = dial(voice, "9013")
    statuses: list[CallStatus] = []
    over = threading.Event()

    def on_status(status: CallStatus) -> None:
        statuses.append(status)
        if call.ended_at is not None:
            over.set()

    call.on_status(on_status)
    seen = [now.status for now in call.events()]
    assert over.wait(LIMIT_S)
    for told in (seen, statuses):
        assert told[-1] == "completed"
        assert "in_progress" in told
        assert len(told) == len(set(told))
    assert call.end_reason is not None
    call.on_status(None)


def test_events_of_no_call_are_an_error(voice: Voice) -> None:
    with pytest.raises(NotFoundError):
        voice._core.events("CA1").wait()
    assert [now.status for now in dial(voice, "9603").events()][-1] == "failed"


def test_an_event_loop_is_woken_once_for_all_bridges(engine: Engine) -> None:
    """Ten bridges on one loop: far fewer wake-ups than frames, and no frame is lost."""

    async def scenario() -> tuple[int, int]:
        loop, wakes = asyncio.get_running_loop(), 0
        call_soon_threadsafe = loop.call_soon_threadsafe

        def counting(*arguments: Any, **keywords: Any) -> asyncio.Handle:  # noqa: ANN401
            nonlocal wakes
            wakes += 1
            return call_soon_threadsafe(*arguments, **keywords)

        async with AsyncVoice(engine.base_url, engine.api_key, engine.org_id) as voice:
            calls = [
                await voice.calls.originate(to="+15550009010", from_="+15550000000", trunk_id="trunk_main")
                for _ in range(10)
            ]
            bridges = [await voice.audio_bridge.attach(call.sid) for call in calls]
            # Audio flows on all of them before anything is counted.
            for bridge in bridges:
                await anext(bridge.uplink())
            loop.call_soon_threadsafe = counting  # type: ignore[method-assign, assignment]
            heard = await asyncio.gather(*(take(bridge.uplink(), 50) for bridge in bridges))
            for stamps in heard:
                assert in_a_row(stamps)
            return wakes, sum(map(len, heard))

    async def take(frames: Any, count: int) -> list[int]:  # noqa: ANN401
        stamps = []
        async for frame in frames:
            stamps.append(frame.timestamp_us)
            if len(stamps) == count:
                break
        return stamps

    wakes, frames = asyncio.run(scenario())
    print(f"{wakes} wake-ups for {frames} frames")
    assert frames == 500
    assert wakes < frames / 2
