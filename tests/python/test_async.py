"""`AsyncVoice`: the names and arguments of `Voice`, awaited; nothing holds up the loop or outlives a cancellation."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from listening import FROM, LIMIT_S, until

from clutchcall import voice as surface
from clutchcall.engine import Engine
from clutchcall.errors import BridgeClosed, CallError, ConflictError, NotFoundError
from clutchcall.media import OpusEncoder
from clutchcall.types import BridgeState, CallStatus
from clutchcall.voice import AsyncCall, AsyncVoice, Voice

T = TypeVar("T")
TWINS = ["Voice", "Calls", "Call", "CallEvents", "AudioBridges", "AudioBridge", "Agents", "Frames", "Trunks"]
# Each has its own way of being closed and iterated.
OWN = {"__enter__", "__exit__", "__aenter__", "__aexit__", "__iter__", "__next__", "__aiter__", "__anext__", "aclose"}


def run(scenario: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(scenario, LIMIT_S))


def user(engine: Engine, **more: Any) -> AsyncVoice:  # noqa: ANN401
    return AsyncVoice(engine.base_url, engine.api_key, engine.org_id, **more)


async def dial(voice: AsyncVoice, ending: str) -> AsyncCall:
    return await voice.calls.originate(to=f"+1555000{ending}", from_=FROM, trunk_id="trunk_main")


def members(kind: type) -> dict[str, Any]:
    public = (name for name in dir(kind) if not name.startswith("_") or name == "__init__")
    return {name: inspect.getattr_static(kind, name) for name in public if name not in OWN}


def test_every_class_has_its_twin_or_serves_both() -> None:
    names = set(surface.__all__)
    both = {name for name in names if not name.startswith("Async") and f"Async{name}" not in names}
    assert both == {"Agent", "BridgeStats", "CallLeg", "CallStats", "CallTransfer", "Dtmf", "Frame"}
    assert {name for name in names - both if not name.startswith("Async")} == {*TWINS, "CallPage"}
    assert {f"Async{name}" for name in (*TWINS, "CallPage")} == {name for name in names if name.startswith("Async")}


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_the_same_names_and_arguments(name: str) -> None:
    sync, twin = members(getattr(surface, name)), members(getattr(surface, f"Async{name}"))
    assert set(sync) - {"close"} == set(twin) - {"close"}
    for member in set(sync) & set(twin):
        if not inspect.isfunction(sync[member]):
            assert type(sync[member]) is type(twin[member]), member
            continue
        if member == "__init__" and name != "Voice":
            continue
        here, there = (inspect.signature(kind[member]) for kind in (sync, twin))
        assert list(map(str, here.parameters.values())) == list(map(str, there.parameters.values())), member
        # What one returns the other returns or is awaited for.
        assert here.return_annotation == there.return_annotation.replace("Async", ""), member


def test_a_call_from_beginning_to_end(engine: Engine) -> None:
    async def scenario() -> None:
        async with user(engine) as voice:
            call = await dial(voice, "9012")
            async with await voice.audio_bridge.attach(call.sid) as bridge:
                await call.wait("in_progress", timeout=LIMIT_S)
                opus = OpusEncoder().encode(bytes(1920))
                for _ in range(50):
                    bridge.publish_downlink(opus)
                count = 0
                async for frame in bridge.uplink():
                    count += 1
                    assert frame.codec == "opus"
                    if count == 25:
                        break
                stats = await bridge.stats()
                assert (stats.state, bridge.call_sid) == ("connected", call.sid)
                assert stats.frames_in >= 25
            assert bridge.state == "closed"
            with pytest.raises(BridgeClosed):
                bridge.publish_downlink(opus)
            assert (await voice.calls.get(call.sid)).status == "in_progress"
            assert call.sid in {listed.sid for listed in await voice.calls.list(limit=50)}
            await voice.agents.attach(call.sid, "echo")
            await call.transfer(agent="echo")
            await call.hangup()
            assert (await call.wait(timeout=LIMIT_S)).end_reason == "normal"
            assert (await call.refresh()).status == "completed"

    run(scenario())


def test_errors_are_the_same_classes(engine: Engine) -> None:
    async def scenario() -> None:
        async with user(engine) as voice:
            with pytest.raises(NotFoundError):
                await voice.calls.get("CA1")
            with pytest.raises(NotFoundError):
                await voice.audio_bridge.attach("CA1")
            with pytest.raises(ValueError, match="codec"):
                await voice.audio_bridge.attach("CA1", codec="flac")  # type: ignore[arg-type]
            call = await dial(voice, "9486")
            with pytest.raises(CallError) as busy:
                await call.wait("in_progress", timeout=LIMIT_S)
            assert busy.value.end_reason == "busy"
            ringing = await dial(voice, "9000")
            with pytest.raises(TimeoutError, match="completed"):
                await ringing.wait("completed", timeout=0.05)
            await ringing.hangup()

    run(scenario())


def test_a_call_is_followed(engine: Engine) -> None:
    async def scenario() -> None:
        async with user(engine) as voice:
            call = await dial(voice, "9013")
            statuses: list[CallStatus] = []
            call.on_status(statuses.append)
            async with aclosing(call.events()) as events:
                seen = [now.status async for now in events]
            assert seen[-1] == "completed"
            assert len(seen) == len(set(seen))
            while statuses[-1:] != ["completed"]:
                await asyncio.sleep(0)

    run(scenario())


def test_the_state_is_told(engine: Engine) -> None:
    async def scenario() -> list[BridgeState]:
        states: list[BridgeState] = []
        async with user(engine) as voice:
            call = await dial(voice, "9010")
            bridge = await voice.audio_bridge.attach(call.sid)
            bridge.on_state(states.append)
            await anext(bridge.uplink())
            await call.hangup()
            async for _ in bridge.uplink():
                pass
        return states

    states = run(scenario())
    until(lambda: states[-1:] == ["closed"], lambda: f"{states} end with closed")
    assert "connected" in states


def test_the_loop_goes_on_while_calls_are_waited_for(engine: Engine) -> None:
    """Fifty waits at once, and no thread for any of them."""

    async def scenario() -> None:
        async with user(engine) as voice:
            call = await dial(voice, "9000")
            await call.refresh()
            threads = len(os.listdir("/proc/self/task"))
            waits = [asyncio.create_task((await voice.calls.get(call.sid)).wait()) for _ in range(50)]
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(os.listdir("/proc/self/task")) == threads
            await call.hangup()
            assert {ended.status for ended in await asyncio.gather(*waits)} <= {"failed", "completed", "no_answer"}

    run(scenario())


def test_a_cancelled_wait_is_over(engine: Engine) -> None:
    async def scenario() -> None:
        async with user(engine) as voice:
            call = await dial(voice, "9000")
            waiting = asyncio.create_task(call.wait("completed"))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call.wait("completed"), 0.05)
            await call.hangup()

    run(scenario())


def test_a_cancelled_attach_leaves_no_bridge(engine: Engine) -> None:
    """Cancelled at every moment of its life: the right to speak is free again each time."""

    async def attached(voice: AsyncVoice, sid: str) -> None:
        async with await voice.audio_bridge.attach(sid):
            pass

    async def scenario() -> None:
        async with user(engine) as voice:
            call = await dial(voice, "9000")
            for turns in range(60):
                attaching = asyncio.create_task(voice.audio_bridge.attach(call.sid))
                for _ in range(turns):
                    await asyncio.sleep(0)
                attaching.cancel()
                with suppress(asyncio.CancelledError):
                    await (await attaching).close()
                # The right may be on its way back still.
                async with asyncio.timeout(LIMIT_S):
                    while True:
                        try:
                            await attached(voice, call.sid)
                            break
                        except ConflictError:
                            await asyncio.sleep(0.005)
            await call.hangup()

    run(scenario())


def test_a_cancelled_iteration_loses_no_frame(engine: Engine) -> None:
    async def scenario() -> None:
        async with user(engine) as voice:
            call = await dial(voice, "9010")
            async with await voice.audio_bridge.attach(call.sid) as bridge:
                frames = bridge.uplink()
                stamps: list[int] = []
                while len(stamps) < 30:
                    try:
                        async with asyncio.timeout(0.004):
                            stamps.append((await anext(frames)).timestamp_us)
                    except TimeoutError:
                        continue
                assert stamps == [stamps[0] + 20_000 * n for n in range(len(stamps))]

    run(scenario())


def test_one_voice_serves_several_loops(engine: Engine) -> None:
    voice = user(engine)

    async def scenario() -> int:
        call = await dial(voice, "9010")
        async with await voice.audio_bridge.attach(call.sid) as bridge:
            return (await anext(bridge.uplink())).timestamp_us

    assert run(scenario())
    assert run(scenario())
    run(voice.aclose())
    run(voice.aclose())


def test_a_loop_that_ends_first_hurts_nobody(engine: Engine) -> None:
    async def forget(voice: AsyncVoice) -> Any:  # noqa: ANN401
        call = await dial(voice, "9010")
        bridge = await voice.audio_bridge.attach(call.sid)
        frames = bridge.uplink()
        await anext(frames)
        waiting = asyncio.create_task(anext(frames))
        await asyncio.sleep(0)
        return bridge, waiting

    voice = user(engine)
    bridge, _ = asyncio.run(forget(voice))

    async def go_on() -> None:
        await anext(bridge.uplink())
        await bridge.close()

    run(go_on())
    with Voice(engine.base_url, engine.api_key, engine.org_id) as other:
        assert other.calls.list(limit=1)


def test_asyncio_is_imported_by_those_who_await_only() -> None:
    code = "import sys, clutchcall.voice; clutchcall.voice.AsyncVoice; print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_a_callback_that_blocks_holds_up_no_loop(engine: Engine) -> None:
    """Also where the same wake-up of the delivery thread found something for the loop, and then for the callback."""
    armed, release = threading.Event(), threading.Event()

    def block(frame: bytes, timestamp_us: int) -> None:
        if armed.is_set():
            armed.clear()
            release.wait(LIMIT_S)

    async def scenario() -> int:
        rounds = 0
        async with user(engine) as voice:
            heard, blocked = await dial(voice, "9010"), await dial(voice, "9010")
            async with (
                await voice.audio_bridge.attach(heard.sid) as bridge,
                await voice.audio_bridge.attach(blocked.sid, on_uplink=block),
            ):
                frames = bridge.uplink()
                await anext(frames)
                while rounds < 20:
                    waiting = asyncio.ensure_future(anext(frames))
                    await asyncio.sleep(0)
                    if waiting.done():
                        continue
                    rounds += 1
                    armed.set()
                    # In C, so that no other thread runs until both have something.
                    sum(range(3_000_000))
                    await asyncio.wait_for(waiting, 10.0)
                    release.set()
                    await asyncio.sleep(0.02)
                    release.clear()
                release.set()
        return rounds

    try:
        assert run(scenario()) == 20
    finally:
        release.set()


@pytest.mark.parametrize("what", ["status", "handler"])
def test_nor_does_one_where_nothing_carries_audio(engine: Engine, what: str) -> None:
    """Without a bridge no media worker looks after the delivery thread."""
    child = Path(__file__).with_name("bridgeless_child.py")
    command = [sys.executable, str(child), what, engine.base_url, engine.api_key, engine.org_id]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done
