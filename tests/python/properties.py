"""Every public function and method, what its arguments are to be, and objects of every state to call it on.

`TARGETS` is what `test_properties.py` calls with hostile values; `surface.txt` says whether it is all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from hostile import Kind
from listening import FROM
from scenes import Scene, closed_engine, closed_relay

from clutchcall import media
from clutchcall.engine import Engine
from clutchcall.moqt import AudioPublication, AudioSubscription, MoqtClient
from clutchcall.relay import Relay
from clutchcall.voice import (
    Agents,
    AsyncAgents,
    AsyncAudioBridge,
    AsyncAudioBridges,
    AsyncCall,
    AsyncCallEvents,
    AsyncCallPage,
    AsyncCalls,
    AsyncFrames,
    AsyncTrunks,
    AsyncVoice,
    AudioBridge,
    AudioBridges,
    Call,
    CallEvents,
    CallPage,
    Calls,
    Frames,
    Trunks,
    Voice,
)

# An address where nobody is.
NOWHERE = "http://127.0.0.1:9"
MADE_HERE = [Agents, AudioBridge, AudioBridges, Call, CallEvents, CallPage, Calls, Frames, Trunks]
MADE_HERE += [AudioPublication, AudioSubscription, MoqtClient]
MADE_HERE += [AsyncAgents, AsyncAudioBridge, AsyncAudioBridges, AsyncCall, AsyncCallEvents, AsyncCallPage]
MADE_HERE += [AsyncCalls, AsyncFrames, AsyncTrunks]


@dataclass(frozen=True)
class Target:
    """One function: how it is had of a scene, the kinds of its arguments, and arguments that are right."""

    name: str
    of: Callable[[Scene], list[Callable[..., Any]]]
    kinds: dict[str, Kind] = field(default_factory=dict)
    right: Callable[[Scene], dict[str, Any]] = lambda scene: {}


def _each(attribute: str, method: str) -> Callable[[Scene], list[Callable[..., Any]]]:
    return lambda scene: [getattr(thing, method) for thing in getattr(scene, attribute)]


def _one(path: str) -> Callable[[Scene], list[Callable[..., Any]]]:
    def found(scene: Scene) -> list[Callable[..., Any]]:
        thing: Any = scene
        for name in path.split("."):
            thing = getattr(thing, name)
        return [thing]

    return found


ATTACH = {
    "codec": Kind.TEXT,
    "sample_rate": Kind.WHOLE_OR_NONE,
    "channels": Kind.WHOLE,
    "frame_ms": Kind.WHOLE,
    "delivery": Kind.TEXT,
}
SETTINGS = {
    "base_url": Kind.TEXT_OR_NONE,
    "api_key": Kind.TEXT_OR_NONE,
    "org_id": Kind.TEXT_OR_NONE,
    "relay_host": Kind.TEXT_OR_NONE,
    "profile": Kind.TEXT_OR_NONE,
    "pool": Kind.WHOLE_OR_NONE,
    "drafts": Kind.TEXTS,
    "timeout": Kind.SECONDS,
    "connect_timeout": Kind.SECONDS,
    "max_retries": Kind.WHOLE,
    "ca_file": Kind.PATH_OR_NONE,
}
ORIGINATE = {
    "to": Kind.TEXT,
    "from_": Kind.TEXT,
    "trunk_id": Kind.TEXT,
    "agent": Kind.TEXT_OR_NONE,
    "ring_timeout_sec": Kind.SECONDS_OR_NONE,
    "idempotency_key": Kind.TEXT_OR_NONE,
    "metadata": Kind.MAPPING_OR_NONE,
    "max_duration_sec": Kind.SECONDS_OR_NONE,
    "send_digits": Kind.TEXT_OR_NONE,
    "headers": Kind.MAPPING_OR_NONE,
    "caller_name": Kind.TEXT_OR_NONE,
    "status_callback": Kind.TEXT_OR_NONE,
}


def _settings(scene: Scene) -> dict[str, Any]:
    return {"base_url": NOWHERE, "api_key": "key", "org_id": "org"}


def _dialled(scene: Scene) -> dict[str, Any]:
    return {"to": "+15550009603", "from_": FROM, "trunk_id": "trunk_main"}


def _closed_bridge(side: str) -> Callable[[Scene], dict[str, Any]]:
    return lambda scene: {"call_sid": scene.ended.sid, f"on_{side}": None}


def _twins() -> Iterator[Target]:
    """What `Voice` and `AsyncVoice` have in common."""
    for prefix, voice, calls, bridges in (
        ("", "voice", "Call", "bridge"),
        ("Async", "later", "AsyncCall", "async_bridge"),
    ):
        name = f"clutchcall.voice.{prefix}"
        made = Voice if not prefix else AsyncVoice
        yield Target(f"{name}Voice.__init__", lambda scene, made=made: [made], SETTINGS, _settings)  # type: ignore[misc]
        yield Target(f"{name}Voice.close", _one(f"{voice}.close"))
        yield Target(f"{name}Calls.originate", _one(f"{voice}.calls.originate"), ORIGINATE, _dialled)
        yield Target(f"{name}Calls.get", _one(f"{voice}.calls.get"), {"sid": Kind.TEXT})
        listed = {"status": Kind.TEXT_OR_NONE, "limit": Kind.WHOLE, "cursor": Kind.TEXT_OR_NONE}
        yield Target(f"{name}Calls.list", _one(f"{voice}.calls.list"), listed)
        agent = {"call_sid": Kind.TEXT, "agent": Kind.TEXT}
        agents = _one(f"{voice}.agents.attach")
        yield Target(
            f"{name}Agents.attach", agents, agent, lambda scene: {"call_sid": scene.ended.sid, "agent": "echo"}
        )
        yield Target(f"{name}Agents.list", _one(f"{voice}.agents.list"))
        yield Target(f"{name}Trunks.list", _one(f"{voice}.trunks.list"))
        tested = {"trunk_id": Kind.TEXT}
        yield Target(
            f"{name}Trunks.test", _one(f"{voice}.trunks.test"), tested, lambda scene: {"trunk_id": "trunk_main"}
        )
        for method, side in (("attach", "uplink"), ("attach_caller", "downlink")):
            callbacks = {f"on_{side}": Kind.CALLBACK_OR_NONE, f"on_{side}_batch": Kind.CALLBACK_OR_NONE}
            if side == "uplink":
                callbacks["on_dtmf"] = Kind.CALLBACK_OR_NONE
            kinds = {"call_sid": Kind.TEXT, **callbacks, **ATTACH}
            yield Target(
                f"{name}AudioBridges.{method}", _one(f"{voice}.audio_bridge.{method}"), kinds, _closed_bridge(side)
            )
        over = "async_call" if prefix else "calls"
        transfer = {"to": Kind.TEXT_OR_NONE, "agent": Kind.TEXT_OR_NONE}
        yield Target(f"{name}Call.transfer", _first(over, "transfer"), transfer, lambda scene: {})
        yield Target(f"{name}Call.answer", _first(over, "answer"), {"agent": Kind.TEXT_OR_NONE})
        yield Target(f"{name}Call.reject", _first(over, "reject"), {"reason": Kind.TEXT})
        yield Target(f"{name}Call.hangup", _first(over, "hangup"))
        pressed = {"digits": Kind.TEXT, "duration_ms": Kind.WHOLE}
        yield Target(f"{name}Call.send_dtmf", _first(over, "send_dtmf"), pressed, lambda scene: {"digits": "1"})
        yield Target(f"{name}Call.refresh", _first(over, "refresh"))
        yield Target(f"{name}Call.events", _first(over, "events"))
        # Of a call that is over: of another, a long time is a long wait.
        wait = {"status": Kind.STATUSES_OR_NONE, "timeout": Kind.SECONDS_OR_NONE}
        yield Target(f"{name}Call.wait", _first(over, "wait"), wait)
        yield Target(f"{name}Call.on_status", _first(over, "on_status"), {"callback": Kind.CALLBACK_OR_NONE})
        yield from _bridge(f"{name}AudioBridge", bridges)
        assert calls


def _first(attribute: str, method: str) -> Callable[[Scene], list[Callable[..., Any]]]:
    """Of a call that is over."""

    def found(scene: Scene) -> list[Callable[..., Any]]:
        call = scene.ended if attribute == "calls" else scene.async_call[0]
        return [getattr(call, method)]

    return found


def _bridge(name: str, bridges: str) -> Iterator[Target]:
    frame = {"frame": Kind.BUFFER, "timestamp_us": Kind.WHOLE_OR_NONE}
    for method in ("publish_downlink", "publish_uplink"):
        yield Target(f"{name}.{method}", _each(bridges, method), frame, lambda scene: {"frame": b"frame"})
    for method in ("on_uplink", "on_downlink", "on_uplink_batch", "on_downlink_batch"):
        yield Target(
            f"{name}.{method}", _each(bridges, method), {"callback": Kind.CALLBACK}, lambda scene: {"callback": print}
        )
    pressed = {"digits": Kind.TEXT, "duration_ms": Kind.WHOLE}
    yield Target(f"{name}.send_dtmf", _each(bridges, "send_dtmf"), pressed, lambda scene: {"digits": "1"})
    yield Target(f"{name}.on_dtmf", _each(bridges, "on_dtmf"), {"callback": Kind.CALLBACK_OR_NONE})
    yield Target(f"{name}.on_state", _each(bridges, "on_state"), {"callback": Kind.CALLBACK_OR_NONE})
    for method in ("uplink", "downlink", "stats", "close"):
        yield Target(f"{name}.{method}", _each(bridges, method))


def _engine(scene: Scene) -> dict[str, Any]:
    return {"state": scene.folder / "other"}


def _track(scene: Scene) -> dict[str, Any]:
    return {"namespace": "voice/c/uplink", "name": "audio"}


PATHS = {"clip": Kind.PATH_OR_NONE, "record": Kind.PATH_OR_NONE, "state": Kind.PATH_OR_NONE}
ENGINE = {"port": Kind.WHOLE, "relay_port": Kind.WHOLE, "ring_ms": Kind.WHOLE_OR_NONE, **PATHS}
RELAY = {
    "listen": Kind.TEXT,
    "public_keys": Kind.TEXTS,
    "open": Kind.FLAG,
    "revoked": Kind.PATH_OR_NONE,
    "drafts": Kind.TEXTS,
    "shards": Kind.WHOLE,
    "upstream": Kind.MAPPING_OR_NONE,
    "limits": Kind.MAPPING_OR_NONE,
    "metrics": Kind.TEXT_OR_NONE,
    "state": Kind.PATH,
}
CONNECT = {
    "url": Kind.TEXT,
    "on_state": Kind.CALLBACK_OR_NONE,
    "certificate_hashes": Kind.TEXTS,
    "insecure": Kind.FLAG,
    "drafts": Kind.TEXTS,
}
PUBLISH = {
    "namespace": Kind.NAMESPACE,
    "name": Kind.TEXT,
    "capability": Kind.TEXT,
    "sample_rate": Kind.WHOLE,
    "channels": Kind.WHOLE,
    "frame_ms": Kind.WHOLE,
    "delivery": Kind.TEXT,
}
SUBSCRIBE = {"namespace": Kind.NAMESPACE, "name": Kind.TEXT, "on_frame": Kind.CALLBACK}


def _codecs() -> Iterator[Target]:
    size = {"sample_rate": Kind.WHOLE, "channels": Kind.WHOLE}
    for kind in ("OpusEncoder", "OpusDecoder"):
        yield Target(f"clutchcall.media.{kind}.__init__", lambda scene, kind=kind: [getattr(media, kind)], size)  # type: ignore[misc]
    encoders = lambda scene: [media.OpusEncoder(rate, channels).encode for rate, channels in ((48000, 1), (8000, 2))]  # noqa: E731
    yield Target("clutchcall.media.OpusEncoder.encode", encoders, {"pcm": Kind.BUFFER})
    decode = {"packet": Kind.BUFFER_OR_NONE, "lost_ms": Kind.WHOLE}
    yield Target(
        "clutchcall.media.OpusDecoder.decode",
        lambda scene: [media.OpusDecoder().decode, media.OpusDecoder(8000, 2).decode],
        decode,
        lambda scene: {"packet": None},
    )
    for code, argument in (("encode", "pcm"), ("decode", "data")):
        for law in ("ulaw", "alaw"):
            name = f"{code}_{law}"
            yield Target(f"clutchcall.media.{name}", _codec(name), {argument: Kind.BUFFER})
    yield Target("clutchcall.media.opus_version", lambda scene: [media.opus_version])


def _codec(name: str) -> Callable[[Scene], list[Callable[..., Any]]]:
    return lambda scene: [getattr(media, name)]


def _servers() -> Iterator[Target]:
    yield Target("clutchcall.engine.Engine.__init__", lambda scene: [Engine], ENGINE, _engine)
    yield Target("clutchcall.engine.Engine.reload", _one("engine.reload"))
    yield Target("clutchcall.engine.Engine.close", lambda scene: [closed_engine(scene).close])
    relay = {"open": True, "listen": "127.0.0.1:0"}
    yield Target(
        "clutchcall.relay.Relay.__init__",
        lambda scene: [Relay],
        RELAY,
        lambda scene: {**relay, "state": scene.folder / "r"},
    )
    drain = {"seconds": Kind.SECONDS, "to": Kind.TEXT}
    # Of one without sessions: of another, a long time is a long wait.
    yield Target(
        "clutchcall.relay.Relay.drain", lambda scene: [closed_relay(scene).drain], drain, lambda scene: {"seconds": 0}
    )
    for method in ("counters", "reload"):
        yield Target(f"clutchcall.relay.Relay.{method}", _one(f"relay.{method}"))
    yield Target("clutchcall.relay.Relay.close", lambda scene: [closed_relay(scene).close])


def _tracks() -> Iterator[Target]:
    url = lambda scene: {"url": f"moqt://{scene.relay.address}"}  # noqa: E731
    token = {**CONNECT, "token": Kind.TOKEN_OR_NONE}
    yield Target("clutchcall.moqt.MoqtClient.connect", lambda scene: [MoqtClient.connect], token, url)
    yield Target("clutchcall.moqt.MoqtClient.publish_audio", _each("client", "publish_audio"), PUBLISH, _track)
    heard = lambda scene: {**_track(scene), "on_frame": print}  # noqa: E731
    yield Target("clutchcall.moqt.MoqtClient.subscribe_audio", _each("client", "subscribe_audio"), SUBSCRIBE, heard)
    write = {"timestamp_us": Kind.WHOLE, "data": Kind.BUFFER}
    right = lambda scene: {"timestamp_us": 0, "data": b"data"}  # noqa: E731
    yield Target("clutchcall.moqt.AudioPublication.write", _each("track", "write"), write, right)
    for kind, attribute, method in (
        ("MoqtClient", "client", "subscriber_count"),
        ("AudioPublication", "track", "subscriber_count"),
        ("AudioPublication", "track", "close"),
        ("AudioSubscription", "heard", "close"),
        ("MoqtClient", "client", "close"),
    ):
        yield Target(f"clutchcall.moqt.{kind}.{method}", _each(attribute, method))


def _ends() -> Iterator[Target]:
    """Context managers and iterators."""
    for name, things in (
        ("clutchcall.voice.AudioBridge", lambda scene: scene.bridge),
        ("clutchcall.moqt.MoqtClient", lambda scene: scene.client),
        ("clutchcall.engine.Engine", lambda scene: [closed_engine(scene)]),
        ("clutchcall.relay.Relay", lambda scene: [closed_relay(scene)]),
    ):
        for method in ("__enter__", "__exit__"):
            yield Target(f"{name}.{method}", _exits(things, method))
    for method in ("__enter__", "__exit__"):
        yield Target(f"clutchcall.voice.Voice.{method}", _exits(lambda scene: [Voice(NOWHERE, "k", "o")], method))
    for name, things in (
        ("clutchcall.voice.AsyncVoice", lambda scene: [AsyncVoice(NOWHERE, "k", "o")]),
        ("clutchcall.voice.AsyncAudioBridge", lambda scene: scene.async_bridge),
    ):
        for method in ("__aenter__", "__aexit__", "aclose"):
            yield Target(f"{name}.{method}", _exits(things, method))
    frames = lambda scene: [bridge.uplink() for bridge in scene.bridge[1:3]]  # noqa: E731
    rest: list[tuple[str, Any, tuple[str, ...]]] = [
        ("Frames", frames, ("__iter__", "__next__")),
        ("AsyncFrames", lambda scene: [_over_frames(scene)], ("__aiter__", "__anext__")),
        ("CallEvents", lambda scene: scene.events, ("__iter__", "__next__", "close")),
        ("AsyncCallEvents", lambda scene: scene.async_events, ("__aiter__", "__anext__", "aclose")),
    ]
    for kind, things, methods in rest:
        for method in methods:
            yield Target(f"clutchcall.voice.{kind}.{method}", _exits(things, method))


def _over_frames(scene: Scene) -> Any:  # noqa: ANN401
    return scene.async_bridge[2].downlink()


def _exits(things: Callable[[Scene], list[Any]], method: str) -> Callable[[Scene], list[Callable[..., Any]]]:
    def found(scene: Scene) -> list[Callable[..., Any]]:
        methods = [getattr(thing, method) for thing in things(scene)]
        if method in ("__exit__", "__aexit__"):
            return [lambda exit=exit: exit(None, None, None) for exit in methods]
        return methods

    return found


def _makers() -> Iterator[Target]:
    """Objects that the SDK makes: whoever makes one himself gets it, or a `TypeError`."""
    for made in MADE_HERE:
        name = f"{made.__module__.split('._')[0]}.{made.__name__}.__init__"
        yield Target(name, lambda scene, made=made: [lambda: _made(made)])  # type: ignore[misc]


def _made(made: Any) -> None:  # noqa: ANN401
    for core in (None, 7, SimpleNamespace()):
        for more in ((), (None,), (7,)):
            with suppress(TypeError):
                made(core, *more)


def _all() -> dict[str, Target]:
    found = [*_codecs(), *_servers(), *_tracks(), *_twins(), *_ends(), *_makers()]
    targets = {target.name: target for target in found}
    assert len(targets) == len(found)
    return targets


TARGETS = _all()
