"""Tracks by name: `MoqtClient` against the engine's relay, with tokens of the control plane."""

from __future__ import annotations

import json
import logging
import socket
import threading
import urllib.request
from typing import Any

import pytest
from listening import LIMIT_S, Heard, connected, dial, until

from clutchcall.engine import Engine
from clutchcall.errors import BridgeClosed, BridgeError, ConflictError
from clutchcall.moqt import MoqtClient
from clutchcall.voice import Voice

EMPTY = "9030"
"""The ending of a number behind which nobody is: `attach_caller` speaks for it."""


def token(engine: Engine, sid: str, role: str) -> dict[str, Any]:
    """What the control plane grants one side of a call."""
    settings = {"codec": "opus", "sampleRate": 48000, "channels": 1, "frameMs": 20}
    body = json.dumps({"orgId": engine.org_id, "sid": sid, "role": role, "holder": role, **settings}).encode()
    request = urllib.request.Request(f"{engine.base_url}/api/trpc/voice.audioBridge.token", body)
    request.add_header("authorization", f"Bearer {engine.api_key}")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        data: dict[str, Any] = json.load(answer)["result"]["data"]
    return data


def connect(answer: dict[str, Any], url: str, **more: Any) -> MoqtClient:  # noqa: ANN401 (whatever connect takes)
    hashes = answer["relay"]["certificateHashes"]
    return MoqtClient.connect(answer["relay"][url], token=answer["token"], certificate_hashes=hashes, **more)


@pytest.mark.parametrize("url", ["url", "webTransportUrl"])
@pytest.mark.parametrize("delivery", ["stream", "datagram"])
def test_from_one_client_to_another(engine: Engine, voice: Voice, url: str, delivery: Any) -> None:  # noqa: ANN401
    call = dial(voice, EMPTY)
    call.wait("in_progress", timeout=LIMIT_S)
    speaker, listener = (token(engine, call.sid, role) for role in ("caller", "server"))
    heard, states, closed = Heard(), [], threading.Event()

    def on_state(state: str) -> None:
        states.append(state)
        if state == "closed":
            closed.set()

    with connect(listener, url) as there, connect(speaker, url, on_state=on_state) as here:
        track = here.publish_audio(speaker["publish"]["namespace"], "audio", "voice/opus", delivery=delivery)
        subscription = there.subscribe_audio("/".join(listener["subscribe"]["namespace"]), "audio", heard)
        # The engine listens too, and it is not the one who is waited for.
        until(lambda: track.subscriber_count() > 0, "somebody listens")
        sent = 0

        def more_until_heard() -> bool:
            nonlocal sent
            track.write(1_000_000 + 20_000 * sent, b"frame %d" % sent)
            sent += 1
            return len(heard.frames) >= 10

        until(more_until_heard, "ten frames arrive")
        assert here.subscriber_count() == track.subscriber_count()
        assert subscription.frames >= 10
        subscription.close()
    assert closed.wait(LIMIT_S)
    assert states[-1] == "closed"
    assert "connected" in states
    for frame, stamp in zip(heard.frames, heard.stamps, strict=True):
        assert frame == b"frame %d" % ((stamp - 1_000_000) // 20_000)
    with pytest.raises(BridgeClosed):
        track.write(0, b"late")
    with pytest.raises(BridgeClosed):
        here.publish_audio("a/b", "c")
    call.hangup()


def test_a_token_for_nothing_is_refused(engine: Engine, voice: Voice) -> None:
    call = dial(voice, EMPTY)
    answer = token(engine, call.sid, "server") | {"token": "not.a.token"}
    failed = threading.Event()
    with connect(answer, "url", on_state=lambda state: failed.set() if state == "failed" else None) as client:
        client.subscribe_audio(answer["subscribe"]["namespace"], "audio", print)
        assert failed.wait(LIMIT_S), (client.state, client.reason)
        assert client.reason
    call.hangup()


def test_the_token_of_one_call_hears_nothing_of_another(engine: Engine, voice: Voice) -> None:
    own, other = dial(voice, EMPTY), dial(voice, EMPTY)
    for call in (own, other):
        call.wait("in_progress", timeout=LIMIT_S)
    answer = token(engine, own.sid, "server")
    foreign = [field.replace(own.sid, other.sid) for field in answer["subscribe"]["namespace"]]
    overheard, heard, refused = Heard(), Heard(), threading.Event()

    def on_state(state: str) -> None:
        if state == "failed":
            refused.set()

    with (
        connected(voice.audio_bridge.attach(other.sid, on_uplink=heard)),
        connected(voice.audio_bridge.attach_caller(other.sid, on_downlink=print)) as phone,
        connect(answer, "url", on_state=on_state) as stranger,
    ):
        stranger.subscribe_audio(foreign, "audio", overheard)

        def speaks_until_refused() -> bool:
            if phone.queued_ms == 0:
                phone.publish_uplink(b"secret")
            return refused.is_set() and len(heard.frames) >= 10

        until(speaks_until_refused, "the stranger is refused")
        assert stranger.reason
    assert set(heard.frames) == {b"secret"}
    assert overheard.frames == []
    for call in (own, other):
        call.hangup()


def test_both_ends_of_an_empty_call(voice: Voice) -> None:
    call = dial(voice, EMPTY)
    call.wait("in_progress", timeout=LIMIT_S)
    cloud, caller = Heard(), Heard()
    with (
        connected(voice.audio_bridge.attach(call.sid, on_uplink=cloud)) as server,
        connected(voice.audio_bridge.attach_caller(call.sid, on_downlink=caller)) as phone,
    ):

        def both_heard() -> bool:
            if server.queued_ms == 0:
                server.publish_downlink(b"down")
            if phone.queued_ms == 0:
                phone.publish_uplink(b"up")
            return bool(cloud.frames and caller.frames)

        until(both_heard, "both sides are heard")
        with pytest.raises(BridgeError, match="publish_uplink"):
            phone.publish_downlink(b"x")
        with pytest.raises(BridgeError, match="publish_downlink"):
            server.publish_uplink(b"x")
        with pytest.raises(BridgeError, match="on_uplink"):
            server.on_downlink(print)
    assert set(cloud.frames) == {b"up"}
    assert set(caller.frames) == {b"down"}
    call.hangup()


def test_attach_caller_on_a_call_with_a_phone(voice: Voice) -> None:
    call = dial(voice, "9010")
    with pytest.raises(ConflictError):
        voice.audio_bridge.attach_caller(call.sid, on_downlink=print)
    call.hangup()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_token_that_nobody_gives_is_a_reason_and_no_link(engine: Engine, voice: Voice) -> None:
    call = dial(voice, EMPTY)
    answer = token(engine, call.sid, "server")
    asked, gives = threading.Event(), threading.Event()

    def give() -> str:
        asked.set()
        if not gives.is_set():
            raise LookupError("the vault is shut")
        text: str = answer["token"]
        return text

    hashes = answer["relay"]["certificateHashes"]
    with MoqtClient.connect(answer["relay"]["url"], token=give, certificate_hashes=hashes) as client:
        assert asked.wait(LIMIT_S)
        until(lambda: "the vault is shut" in (client.reason or ""), "the reason is told")
        assert client.state == "connecting"
        gives.set()
        until(lambda: client.state == "connected", "it is asked again")
    with pytest.raises(TypeError, match="token is a int"):
        MoqtClient.connect(answer["relay"]["url"], token=7)  # type: ignore[arg-type]
    call.hangup()


def test_an_api_key_opens_no_relay(engine: Engine, voice: Voice) -> None:
    """A relay knows tokens alone, that of a development engine too: keys are the control plane's."""
    call = dial(voice, EMPTY)
    answer = token(engine, call.sid, "server")
    hashes = answer["relay"]["certificateHashes"]
    with MoqtClient.connect(answer["relay"]["url"], token=engine.api_key, certificate_hashes=hashes) as client:
        client.subscribe_audio(answer["subscribe"]["namespace"], "audio", print)
        until(lambda: bool(client.reason), lambda: f"{client} is refused")
        assert client.state != "connected"
        assert engine.api_key not in (client.reason or "")
    call.hangup()


def test_a_relay_that_never_answers_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """As behind a firewall. It is dialled on, and the state stays what it is."""
    caplog.set_level(logging.WARNING, "clutchcall")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with MoqtClient.connect(f"moqt://127.0.0.1:{silent.getsockname()[1]}", insecure=True) as client:
            until(lambda: client.reason is not None, "a reason is told")
            assert "does not answer" in (client.reason or "")
            assert client.state == "connecting"
            told = "has not been reached yet"
            until(lambda: any(told in record.getMessage() for record in caplog.records), "the log says so")
