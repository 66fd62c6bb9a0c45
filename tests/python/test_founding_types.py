"""The founding document's types and events, its WARNING, and what it says to other languages."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from founding import Synthesizer, begun, run
from listening import FROM, LIMIT_S, Heard, connected, dial, until
from test_moqt import connect, token

from clutchcall.engine import Engine
from clutchcall.media import OpusDecoder
from clutchcall.moqt import MoqtClient
from clutchcall.relay import Relay
from clutchcall.types import AudioCodec, CallStatus
from clutchcall.voice import Voice


def test_types_and_events_values() -> None:
    assert get_args(CallStatus) == ("dialing", "ringing", "in_progress", "completed", "failed", "no_answer")
    assert get_args(AudioCodec) == ("opus", "pcm16", "g711_ulaw", "g711_alaw")


def test_types_and_events_every_status_is_reached(voice: Voice) -> None:
    rings = dial(voice, "9000").wait("ringing", timeout=LIMIT_S)
    calls = [dial(voice, ending) for ending in ("9013", "9486", "9408")]
    seen = {status for call in calls for status in (call.status, *(now.status for now in call.events()))}
    # What lasts for a moment may be over before it is looked at.
    seen.add(rings.status)
    rings.hangup()
    assert seen == set(get_args(CallStatus))


def test_types_and_events_a_call_is_tracked_by_fetching_it(voice: Voice) -> None:
    call, seen = dial(voice, "9013"), []

    def over() -> bool:
        status = voice.calls.get(sid=call.sid).status
        if status not in seen:
            seen.append(status)
        return status == "completed"

    until(over, lambda: f"it completes: {seen}")
    order = [status for status in get_args(CallStatus) if status in seen]
    assert seen == order, "it never moves backwards"


def test_types_and_events_callbacks_fire_per_frame(voice: Voice) -> None:
    call, heard = dial(voice, "9010"), Heard()
    with voice.audio_bridge.attach(call.sid, on_uplink=heard) as bridge:
        heard.wait(25)
        assert bridge.stats().frames_in >= 25
    call.hangup()
    assert heard.steps_us() == {20_000}


def test_types_and_events_the_session_reconnects_and_replays(tmp_path: Path) -> None:
    """A relay that goes and comes back: both tracks are said again, and frames flow."""
    heard = Heard()
    with Relay("127.0.0.1:0", open=True, state=tmp_path) as relay:
        address = relay.address
        there = {"certificate_hashes": [relay.certificate_hash]}
        listener = MoqtClient.connect(f"moqt://{address}", **there)  # type: ignore[arg-type]
        speaker = MoqtClient.connect(f"moqt://{address}", **there)  # type: ignore[arg-type]
        track = speaker.publish_audio("voice/CA1/uplink", "audio")
        listener.subscribe_audio("voice/CA1/uplink", "audio", heard)

        def speak() -> bool:
            track.write(time.monotonic_ns() // 1000, b"frame")
            return len(heard.frames) >= wanted

        wanted = 5
        until(speak, "it is heard")
    until(lambda: "connected" not in (listener.state, speaker.state), "both have lost it")
    with Relay(address, open=True, state=tmp_path):
        wanted = len(heard.frames) + 5
        until(speak, lambda: f"it is heard again: {listener} {speaker}")
        assert min(listener.reconnects, speaker.reconnects) >= 1
        for client in (listener, speaker):
            client.close()


def test_types_and_events_the_handle_may_be_lost(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The WARNING as a passing test: collected in mid-call, and the audio goes on."""
    monkeypatch.setenv("CLUTCHCALL_CREDENTIALS", engine.api_key)
    names: dict[str, Any] = begun(engine)
    names["call"] = names["v"].calls.originate(to="+15550009010", from_=FROM, trunk_id="trunk_main")
    run("attach", names, engine)
    heard = names["asr"].heard
    heard.wait(5)
    del names["bridge"], names["v"]
    names["tts"] = Synthesizer()
    gc.collect()
    heard.wait_more(50)
    run("hangup", names, engine)


def test_types_and_events_a_lost_subscription_goes_on(engine: Engine, voice: Voice) -> None:
    """The WARNING speaks of subscriptions too."""
    call, heard = dial(voice, "9010"), Heard()
    with connect(token(engine, call.sid, "server"), "url") as client:
        client.subscribe_audio(f"voice/{call.sid}/uplink", "audio", heard)
        gc.collect()
        heard.wait(10)
    call.hangup()


def test_other_languages_use_the_raw_tracks(engine: Engine, voice: Voice) -> None:
    """`voice/<sid>/uplink` and `downlink` by name are the bridge's own tracks."""
    call, heard = dial(voice, "9030").wait("in_progress", timeout=LIMIT_S), Heard()
    with (
        connect(token(engine, call.sid, "server"), "url") as raw,
        connected(voice.audio_bridge.attach_caller(call.sid, on_downlink=heard)),
    ):
        track = raw.publish_audio(f"voice/{call.sid}/downlink", "audio", "voice/opus", sample_rate=48000)

        def said() -> bool:
            track.write(time.monotonic_ns() // 1000, b"raw")
            return bool(heard.frames)

        until(said, "the caller hears the raw track")
    assert set(heard.frames) == {b"raw"}
    call.hangup()


def test_browser_softphone_helpers_are_a_browsers() -> None:
    """Python has what they are made of; the softphone comes with a later version, and says so."""
    import clutchcall.moqt as subpath

    for name in ("captureMicrophone", "capture_microphone", "OpusPlayer"):
        assert not hasattr(subpath, name)
        with pytest.raises(AttributeError, match=rf"{name} is the browser's.*(publish_uplink|OpusDecoder)"):
            getattr(subpath, name)


def test_capture_microphone_loop_forwards_frames_to_publish_uplink(voice: Voice) -> None:
    """The document's softphone loop with a recorder of one's own in place of the browser's microphone."""
    from clutchcall.media import OpusEncoder

    call, heard = dial(voice, "9030").wait("in_progress", timeout=LIMIT_S), Heard()
    encoder = OpusEncoder()
    with (
        connected(voice.audio_bridge.attach(call.sid, on_uplink=heard)),
        connected(voice.audio_bridge.attach_caller(call.sid, codec="opus")) as bridge,
    ):

        def captured() -> bool:
            bridge.publish_uplink(encoder.encode(bytes(1920)))
            return len(heard.frames) >= 5

        until(captured, "the cloud hears the microphone")
    call.hangup()


def test_opus_player_is_a_decoder_of_what_the_downlink_brings(voice: Voice) -> None:
    """`push(tsUs, frame)` in Python: each frame decodes to 20 ms at 48000 Hz, a missing one is concealed."""
    call, heard = dial(voice, "9010"), Heard()
    with voice.audio_bridge.attach(call.sid, on_uplink=heard):
        heard.wait(5)
    call.hangup()
    player = OpusDecoder(48000, 1)
    assert [len(player.decode(frame)) for frame in heard.frames[:5]] == [1920] * 5
    assert len(player.decode(None)) == 1920
