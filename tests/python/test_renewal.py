"""Tokens of a few seconds under calls that go on: a fresh one is shown ahead of each one's end, and nobody hears of it.

Calls are echoes, so a frame that is heard was carried both ways. Who renews nothing is ended by the same relay
meanwhile, so that a relay which ended nothing would fail this.
"""

from __future__ import annotations

import itertools
import json
import secrets
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from listening import LIMIT_S, Heard, connected, dial, is_calm

from clutchcall import _core
from clutchcall.engine import Engine
from clutchcall.moqt import MoqtClient
from clutchcall.relay import Relay
from clutchcall.voice import AudioBridge, Voice

ECHO = "9012"
ORG = "org_test"
LIFE_S = 4
# A relay counts a token for half a minute more (`token::LEEWAY_S`): by the end the first of them is long over.
TALK_S = 30 + 3 * LIFE_S
FRAME_S = 0.02
# Opus, CELT fullband, one frame of 20 ms (RFC 6716 §3.1); what follows is never decoded here.
TOC = b"\xf8"


class Talk:
    """One bridge that says numbered frames, and what comes back."""

    def __init__(self, voice: Voice, sid: str) -> None:
        self.heard = Heard()
        self.said = 0
        self.bridge: AudioBridge = voice.audio_bridge.attach(sid, on_uplink=self.heard)

    def say(self, seconds: float) -> None:
        for number in range(self.said, self.said + int(seconds / FRAME_S)):
            self.bridge.publish_downlink(TOC + number.to_bytes(8) + bytes(51))
            self.said += 1

    def check(self) -> None:
        """Every frame once, in its order, a frame apart; on a machine that does not keep time nearly all."""
        told = self.bridge.stats()
        counts = (told.state, told.reconnects, told.migrations, told.duplicates, told.offline, told.dials)
        assert counts == ("connected", 0, 0, 0, 0, told.dials), told
        numbers = [int.from_bytes(frame[1:9]) for frame in self.heard.frames if len(frame) == 60]
        steps = [later - earlier for earlier, later in itertools.pairwise(numbers)]
        apart = [later - earlier for earlier, later in itertools.pairwise(self.heard.stamps)]
        assert min(steps) > 0, "nothing twice, nothing out of its order"
        assert len(numbers) >= 0.9 * self.said
        if is_calm():
            assert (told.gaps, told.missing, told.stale, told.dropped) == (0, 0, 0, 0), told
            assert set(steps) == {1}, [step for step in steps if step != 1]
            # A stall of the machine may cost a tick; a renewal that did would cost one in each of ten lives.
            late = [step for step in apart if step != 20_000]
            assert len(late) <= 2, late
            assert all(step % 20_000 == 0 for step in late), late
        # What a lost and repeated subscription costs is more than a moment of a busy machine.
        assert max(steps) < 10, max(steps)


class World:
    """An engine whose tokens live for some seconds, and who may use it."""

    def __init__(self, folder: Path, key: str, **relay: object) -> None:
        self.folder = folder
        self.key = key
        self.engine = Engine(
            {
                "state": "engine",
                "api": {"listen": "127.0.0.1:0"},
                "relay": relay,
                "limits": {"token_ttl_s": LIFE_S},
                "phone": {"ring_ms": 20},
                "trunks": {"trunk_main": {"kind": "phone"}},
                "keys": [{"org": ORG, "key": key}],
            },
            state=folder,
        )

    def voice(self, pool: int, relay_host: str | None = None) -> Voice:
        return Voice(self.engine.base_url, self.key, ORG, pool=pool, relay_host=relay_host)

    def relay_of(self, sid: str) -> dict[str, Any]:
        """Where the call's tracks are, as a bridge with another codec would be told."""
        body: dict[str, object] = {"orgId": ORG, "sid": sid, "role": "server", "holder": "looks", "codec": "g711_ulaw"}
        body |= {"sampleRate": 8000, "channels": 1, "frameMs": 20}
        request = urllib.request.Request(
            f"{self.engine.base_url}/api/trpc/voice.audioBridge.token", json.dumps(body).encode()
        )
        request.add_header("authorization", f"Bearer {self.key}")
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            told: dict[str, Any] = json.load(answer)["result"]["data"]["relay"]
        return told

    def figure(self, name: str) -> int:
        with urllib.request.urlopen(f"{self.engine.base_url}/metrics", timeout=LIMIT_S) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            int(float(line.rpartition(" ")[2])) for line in lines if line.partition("{")[0].split(" ")[0] == name
        )

    def mint(self, sid: str, life_s: int) -> str:
        """A token to listen to the call, for whoever has no bridge."""
        now_s = int(time.time())
        claims = {"sub": secrets.token_hex(4), "exp": now_s + life_s, "subscribe": [f"voice/{sid}/uplink"]}
        return _core.mint_token(self.folder / "engine" / "token.key", json.dumps(claims), None)


def neighbours() -> int:
    """A UDP port that is free, as is the one behind it."""
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def own_relay(folder: Path, stack: ExitStack) -> tuple[World, tuple[str, str]]:
    """Two shards; nothing that a token allowed goes on behind its end."""
    folder.mkdir()
    port = neighbours()
    limits = {"expiry_grace_ms": 0}
    world = World(folder, secrets.token_hex(16), listen=f"127.0.0.1:{port}", shards=2, limits=limits)
    stack.enter_context(world.engine)
    return world, (f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}")


def other_relay(folder: Path, stack: ExitStack) -> tuple[World, Relay]:
    """The engine publishes at a relay that knows it by its tokens alone."""
    folder.mkdir()
    public_key = _core.public_key(folder / "engine")
    relay = stack.enter_context(
        Relay("127.0.0.1:0", public_keys=[public_key], limits={"expiry_grace_ms": 0}, state=folder / "relay")
    )
    world = World(folder, secrets.token_hex(16), url=relay.url, certificate_hashes=[relay.certificate_hash], pool=4)
    stack.enter_context(world.engine)
    return world, relay


class Listener:
    """Who has no bridge: hears one call under a token of his own, which is a text, or asked for."""

    def __init__(self, world: World, sid: str, renews: bool, stack: ExitStack) -> None:
        self.heard = Heard()
        self.asked = 0
        self.failed = threading.Event()
        self._world, self._sid = world, sid
        told = world.relay_of(sid)
        token = self._token if renews else self._token()
        self.client = stack.enter_context(
            MoqtClient.connect(
                told["url"], token=token, certificate_hashes=told["certificateHashes"], on_state=self._on_state
            )
        )
        self.subscription = self.client.subscribe_audio(f"voice/{sid}/uplink", "audio", self.heard)

    def _token(self) -> str:
        self.asked += 1
        return self._world.mint(self._sid, LIFE_S)

    def _on_state(self, state: str) -> None:
        if state == "failed":
            self.failed.set()


@pytest.mark.timeout(180)
def test_calls_outlive_many_tokens(tmp_path: Path, stack: ExitStack) -> None:
    own, shards = own_relay(tmp_path / "own", stack)
    other, relay = other_relay(tmp_path / "other", stack)
    talks: list[Talk] = []

    def talk(world: World, count: int, pool: int, where: Callable[[str], str | None] = lambda _: None) -> str:
        sids = [dial(stack.enter_context(world.voice(pool)), ECHO).sid for _ in range(count)]
        hosts = {sid: where(sid) for sid in sids}
        voices = {host: stack.enter_context(world.voice(pool, host)) for host in set(hosts.values())}
        for sid in sids:
            voices[hosts[sid]].calls.get(sid).wait("in_progress", timeout=LIMIT_S)
            talks.append(Talk(voices[hosts[sid]], sid))
        return sids[0]

    def other_shard(sid: str) -> str:
        right = own.relay_of(sid)["url"]
        return next(shard for shard in shards if not right.endswith(shard))

    for pool in (1, 32):
        talk(own, 4, pool)
        ours = talk(own, 2, pool, other_shard)
        theirs = talk(other, 2, pool)
    for each in talks:
        connected(each.bridge)
        each.say(TALK_S)
    for each in talks:
        each.heard.wait(25)
    listeners = [Listener(own, ours, True, stack), Listener(other, theirs, True, stack)]
    fixed = Listener(own, ours, False, stack)
    for listener in (*listeners, fixed):
        listener.heard.wait(25)

    worlds = (own, other)
    before = [world.figure("clutchcall_api_requests_total") for world in worlds]
    for each in talks:
        each.heard.wait(int(0.98 * each.said))
    requests = [world.figure("clutchcall_api_requests_total") - was for world, was in zip(worlds, before, strict=True)]
    for each in talks:
        each.check()
    # One token for at most half a life.
    renewals = int(TALK_S * 0.75 / (LIFE_S / 2))
    print(f"tokens asked for meanwhile: {requests}, by listeners {[listener.asked for listener in listeners]}")
    assert requests[0] >= 12 * renewals
    assert requests[1] >= 4 * renewals
    for listener in listeners:
        assert listener.asked >= renewals
        assert (listener.client.state, listener.client.reconnects) == ("connected", 0)
        steps = [later - earlier for earlier, later in itertools.pairwise(listener.heard.stamps)]
        assert max(steps) <= 10 * 20_000, max(steps)
    # Who was given a text can't renew it, and is told so.
    assert fixed.failed.wait(LIMIT_S)
    assert "has expired" in (fixed.client.reason or "")
    assert "callable" in (fixed.client.reason or "")
    assert own.figure("clutchcall_relay_expired_total") == 1, "of whoever was given a text"
    assert relay.counters()["expired"] == 0
