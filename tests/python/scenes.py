"""One object of each public class and state, for tests that try anything on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from listening import LIMIT_S, dial, ended

from clutchcall.engine import Engine
from clutchcall.moqt import MoqtClient
from clutchcall.relay import Relay
from clutchcall.voice import AsyncAudioBridge, AsyncCall, AsyncVoice, Call, Voice


@dataclass
class Scene:
    """One object of each class and state."""

    folder: Path
    engine: Engine
    relay: Relay
    voice: Voice
    later: AsyncVoice
    ended: Call
    ringing: Call
    lists: dict[str, list[Any]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> list[Any]:
        return self.lists[name]


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Nothing of it is shared with other tests: hostile values may leave anything behind."""
    with (
        Engine(state=folder / "engine", ring_ms=10) as engine,
        Relay("127.0.0.1:0", open=True, state=folder / "relay") as relay,
        Voice(engine.base_url, engine.api_key, engine.org_id, max_retries=0) as voice,
    ):
        later = AsyncVoice(engine.base_url, engine.api_key, engine.org_id, max_retries=0)
        over = dial(voice, "9603").wait(timeout=LIMIT_S)
        scene = Scene(folder, engine, relay, voice, later, over, dial(voice, "9000", ring_timeout_sec=120))
        _open(scene)
        yield scene
        for client in scene.client:
            client.close()
        asyncio.run(later.close())


def _open(scene: Scene) -> None:
    """Bridges that live, that are closed, and whose call is over; tracks of either sort."""
    voice, later = scene.voice, scene.later
    calls = [dial(voice, "9030") for _ in range(7)]
    sids = iter(call.sid for call in calls)
    attached = [voice.audio_bridge.attach(next(sids)) for _ in range(3)]
    attached[1].close()
    calls[2].hangup()
    ended(attached[2])
    callers = [voice.audio_bridge.attach_caller(next(sids))]

    async def awaited() -> list[AsyncAudioBridge]:
        bridges = [await later.audio_bridge.attach(next(sids)), await later.audio_bridge.attach_caller(next(sids))]
        closed = await later.audio_bridge.attach_caller(next(sids))
        await closed.close()
        return [*bridges, closed]

    async_bridges = asyncio.run(awaited())
    client = MoqtClient.connect(f"moqt://{scene.relay.address}", certificate_hashes=[scene.relay.certificate_hash])
    gone = MoqtClient.connect("moqt://127.0.0.1:9")
    track, other = client.publish_audio("voice/a/uplink", "audio"), client.publish_audio("voice/b/uplink", "audio")
    other.close()
    heard = client.subscribe_audio("voice/a/uplink", "audio", lambda frame, timestamp_us: None)
    gone.close()
    events = [scene.ended.events(), scene.ringing.events()]
    events[1].close()

    async def followed() -> tuple[AsyncCall, AsyncCall]:
        return await later.calls.get(scene.ended.sid), await later.calls.get(scene.ringing.sid)

    async_over, async_ringing = asyncio.run(followed())
    async_events = [async_over.events(), async_ringing.events()]
    asyncio.run(async_events[1].aclose())
    scene.lists.update(
        bridge=[*attached, *callers],
        async_bridge=async_bridges,
        client=[client, gone],
        track=[track, other],
        heard=[heard],
        events=events,
        async_events=async_events,
        async_call=[async_over, async_ringing],
    )


def closed_engine(scene: Scene) -> Engine:
    with Engine(state=scene.folder / "closed") as engine:
        return engine


def closed_relay(scene: Scene) -> Relay:
    with Relay("127.0.0.1:0", open=True, state=scene.folder / "closed_relay") as relay:
        return relay
