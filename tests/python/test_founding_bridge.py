"""The founding document's `AudioBridge`: `attach`, `attachCaller` under its Python name, and the methods of both."""

from __future__ import annotations

import itertools
import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from founding import begun, run
from listening import FROM, LIMIT_S, Heard, connected, dial, ended, is_calm, until
from recorded import recorded

from clutchcall.engine import Engine
from clutchcall.errors import BridgeClosed, NotFoundError
from clutchcall.media import OpusDecoder, OpusEncoder
from clutchcall.types import AudioCodec
from clutchcall.voice import AudioBridge, Voice

# Bytes of one frame of 20 ms, where the codec has a fixed one.
SIZES: dict[AudioCodec, int | None] = {"opus": None, "pcm16": 1920, "g711_ulaw": 160, "g711_alaw": 160}
FRAME_US = 20_000

STEADY = 300
"""So many equal readings, 5 ms apart: longer than a busy relay waits until it tells its figures."""


@pytest.fixture
def both(voice: Voice) -> Iterator[tuple[AudioBridge, AudioBridge, Heard, Heard]]:
    """Server and caller of one call, and what each hears."""
    call, uplink, downlink = dial(voice, "9030").wait("in_progress", timeout=LIMIT_S), Heard(), Heard()
    server = connected(voice.audio_bridge.attach(call.sid, on_uplink=uplink))
    caller = connected(voice.audio_bridge.attach_caller(call.sid, on_downlink=downlink))
    yield server, caller, uplink, downlink
    call.hangup()


def speak(publish: Any, frame: bytes, heard: Heard, count: int = 1) -> None:  # noqa: ANN401
    """Says the frame again and again, until so many have been heard: the first may come before who hears it."""
    wanted = len(heard.frames) + count

    def said() -> bool:
        publish(frame)
        return len(heard.frames) >= wanted

    until(said, "it is heard")


def test_audio_bridge_data_plane_is_one_handle_for_both_ways(voice: Voice) -> None:
    call, heard = dial(voice, "9012"), Heard()
    with voice.audio_bridge.attach(call.sid, on_uplink=heard) as bridge:
        assert type(bridge) is AudioBridge
        call.wait("in_progress", timeout=LIMIT_S)
        speak(bridge.publish_downlink, OpusEncoder().encode(bytes(1920)), heard)
    call.hangup()


def test_audio_bridge_attach_as_the_document_does(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The phone gives back what it hears, so what is said comes back as Opus of the caller."""
    monkeypatch.setenv("CLUTCHCALL_CREDENTIALS", engine.api_key)
    names = begun(engine)
    names["call"] = names["v"].calls.originate(to="+15550009012", from_=FROM, trunk_id="trunk_main")
    run("attach", names, engine)
    names["call"].wait("in_progress", timeout=LIMIT_S)
    opus = OpusEncoder().encode(bytes(1920))
    for _ in range(25):
        names["tts"].say(opus)
    names["asr"].heard.wait(25)
    bridge = names["bridge"]
    assert bridge.call_sid == names["call"].sid
    run("hangup", names, engine)
    bridge.close()
    with pytest.raises(BridgeClosed):
        bridge.publish_downlink(opus)
    names["v"].close()


@pytest.mark.parametrize("how", ["attach", "attach_caller"])
def test_audio_bridge_attach_defaults(how: str) -> None:
    with recorded((404, '{"error":{"message":"no such call","code":-32004}}')) as there:
        with Voice(there.url, "k", "org_abc", max_retries=0) as v, pytest.raises(NotFoundError):
            getattr(v.audio_bridge, how)("CA1")
        asked = json.loads(there.asked[0].body)
    assert there.asked[0].procedure == "voice.audioBridge.token"
    assert {key: asked[key] for key in ("orgId", "sid", "codec", "sampleRate", "channels", "frameMs")} == {
        "orgId": "org_abc",
        "sid": "CA1",
        "codec": "opus",
        "sampleRate": 48000,
        "channels": 1,
        "frameMs": 20,
    }
    assert asked["role"] == {"attach": "server", "attach_caller": "caller"}[how]


@pytest.mark.parametrize("codec", get_args(AudioCodec))
def test_audio_bridge_attach_gives_one_encoded_frame_per_call(voice: Voice, codec: AudioCodec) -> None:
    call, heard = dial(voice, "9010"), Heard()
    with voice.audio_bridge.attach(call.sid, on_uplink=heard, codec=codec):
        heard.wait(10)
    call.hangup()
    size = SIZES[codec]
    if size is None:
        decoder = OpusDecoder()
        assert {len(decoder.decode(frame)) for frame in heard.frames} == {1920}, "20 ms at 48000 Hz, mono"
    else:
        assert {len(frame) for frame in heard.frames} == {size}
    assert {type(frame) for frame in heard.frames} == {bytes}
    assert {type(stamp) for stamp in heard.stamps} == {int}
    assert heard.steps_us() == {FRAME_US}


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"codec": "pcm16", "sample_rate": 16000}, 640),
        ({"codec": "pcm16", "sample_rate": 8000, "channels": 2}, 640),
        ({"codec": "pcm16", "sample_rate": 8000, "frame_ms": 60}, 960),
        ({"codec": "g711_ulaw", "sample_rate": 8000, "frame_ms": 10}, 80),
    ],
)
def test_audio_bridge_attach_options(voice: Voice, settings: dict[str, Any], size: int) -> None:
    call, heard = dial(voice, "9010"), Heard()
    with voice.audio_bridge.attach(call.sid, on_uplink=heard, **settings):
        heard.wait(5)
    call.hangup()
    assert {len(frame) for frame in heard.frames} == {size}
    assert heard.steps_us() == {settings.get("frame_ms", 20) * 1000}


def test_audio_bridge_attach_without_on_uplink_is_the_iterator_form(voice: Voice) -> None:
    call = dial(voice, "9010")
    with voice.audio_bridge.attach(call.sid) as bridge:
        assert [frame.codec for frame in itertools.islice(bridge.uplink(), 3)] == ["opus"] * 3
    call.hangup()


def test_audio_bridge_caller_is_the_mirror(both: tuple[AudioBridge, AudioBridge, Heard, Heard]) -> None:
    server, caller, uplink, downlink = both
    speak(caller.publish_uplink, b"from the microphone", uplink)
    speak(server.publish_downlink, b"from the cloud", downlink)
    assert set(uplink.frames) == {b"from the microphone"}
    assert set(downlink.frames) == {b"from the cloud"}


def test_audio_bridge_methods_publish_downlink(both: tuple[AudioBridge, AudioBridge, Heard, Heard]) -> None:
    server, _, _, downlink = both
    speak(server.publish_downlink, b"frame", downlink, 5)
    # Stamped by a clock that goes on from frame to frame.
    assert all(earlier < later for earlier, later in itertools.pairwise(downlink.stamps))


def test_audio_bridge_methods_publish_at_a_timestamp(both: tuple[AudioBridge, AudioBridge, Heard, Heard]) -> None:
    server, caller, uplink, downlink = both
    for publish, heard in ((server.publish_downlink, downlink), (caller.publish_uplink, uplink)):
        speak(publish, b"now", heard)
        first = time.monotonic_ns() // 1000 + 500_000
        for turn in range(5):
            publish(b"%d" % turn, timestamp_us=first + turn * 60_000)
        until(lambda heard=heard: heard.frames[-1] == b"4", "the last is heard")  # type: ignore[misc]
        stamps = heard.stamps[-5:]
        assert heard.frames[-5:] == [b"0", b"1", b"2", b"3", b"4"]
        steps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
        assert steps == [60_000] * 4 or not is_calm()


def test_audio_bridge_methods_publish_uplink(both: tuple[AudioBridge, AudioBridge, Heard, Heard]) -> None:
    _, caller, uplink, _ = both
    speak(caller.publish_uplink, b"frame", uplink, 5)
    assert set(uplink.frames) == {b"frame"}


def test_audio_bridge_methods_on_uplink_swaps_in_mid_call(
    both: tuple[AudioBridge, AudioBridge, Heard, Heard],
) -> None:
    server, caller, uplink, _ = both
    speak(caller.publish_uplink, b"to the first", uplink)
    second = Heard()
    server.on_uplink(second)
    speak(caller.publish_uplink, b"to the second", second)
    heard = len(uplink.frames)
    speak(caller.publish_uplink, b"to the second", second, 3)
    assert len(uplink.frames) == heard


def test_audio_bridge_methods_on_downlink_swaps_in_mid_call(
    both: tuple[AudioBridge, AudioBridge, Heard, Heard],
) -> None:
    server, caller, _, downlink = both
    speak(server.publish_downlink, b"to the first", downlink)
    second = Heard()
    caller.on_downlink(second)
    speak(server.publish_downlink, b"to the second", second)
    heard = len(downlink.frames)
    speak(server.publish_downlink, b"to the second", second, 3)
    assert len(downlink.frames) == heard


def test_audio_bridge_methods_close(both: tuple[AudioBridge, AudioBridge, Heard, Heard], voice: Voice) -> None:
    server, caller, _, downlink = both
    speak(server.publish_downlink, b"frame", downlink)
    for bridge, publish in ((server, server.publish_downlink), (caller, caller.publish_uplink)):
        bridge.close()
        ended(bridge)
        with pytest.raises(BridgeClosed):
            publish(b"frame")
        bridge.close()
    # Both rights to speak are free again, and the call goes on.
    for again in (voice.audio_bridge.attach(server.call_sid), voice.audio_bridge.attach_caller(server.call_sid)):
        again.close()
    assert voice.calls.get(server.call_sid).status == "in_progress"


def test_audio_bridge_methods_call_sid(both: tuple[AudioBridge, AudioBridge, Heard, Heard]) -> None:
    server, caller, _, _ = both
    assert server.call_sid == caller.call_sid
    server.close()
    assert server.call_sid == caller.call_sid


def test_audio_bridge_methods_close_ends_the_session(engine: Engine) -> None:
    """Not only both tracks: the session beneath them, where no other bridge shares it."""

    def sessions() -> int:
        with urllib.request.urlopen(f"{engine.base_url}/metrics", timeout=LIMIT_S) as answer:
            text: str = answer.read().decode()
        rows = [line for line in text.splitlines() if line.startswith("clutchcall_relay_sessions{")]
        return sum(int(row.split(" ")[1]) for row in rows)

    with Voice(engine.base_url, engine.api_key, engine.org_id, pool=1) as voice:
        call = dial(voice, "9010")
        bridge = connected(voice.audio_bridge.attach(call.sid, on_uplink=Heard()))
        others = [connected(voice.audio_bridge.attach(dial(voice, "9000").sid)) for _ in range(3)]
        # The relay tells its figures now and then: one that stays is of now. Those of others may end, and none begins.
        read: list[int] = []

        def stays() -> bool:
            read.append(sessions())
            return read[-1] >= 4 and read[-STEADY:] == [read[-1]] * STEADY

        until(stays, lambda: f"four stand: {read[-1]}")
        before = read[-1]
        for open_bridge in (bridge, *others):
            open_bridge.close()
        until(lambda: sessions() <= before - 4, lambda: f"four of {before} end: {sessions()}")
        call.hangup()
