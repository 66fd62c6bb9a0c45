"""One bridge: what it takes, what it refuses, how it ends."""

from __future__ import annotations

import array

import pytest
from listening import LIMIT_S, Heard, connected, dial, ended, until

from clutchcall.engine import Engine
from clutchcall.errors import (
    APIConnectionError,
    AuthenticationError,
    BridgeClosed,
    BridgeError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
)
from clutchcall.voice import Voice

FRAME = b"\x55" * 160


def test_attach_twice_and_again_after_close(voice: Voice) -> None:
    call = dial(voice, "9010")
    first = voice.audio_bridge.attach(call.sid, on_uplink=Heard())
    with pytest.raises(ConflictError):
        voice.audio_bridge.attach(call.sid, on_uplink=Heard())
    first.close()
    heard = Heard()
    with voice.audio_bridge.attach(call.sid, on_uplink=heard):
        heard.wait(5)
    call.hangup()


def test_a_full_queue_is_an_error_and_loses_nothing(voice: Voice) -> None:
    call = dial(voice, "9000")  # Rings for as long as it may: nothing leaves early.
    with voice.audio_bridge.attach(call.sid, on_uplink=Heard(), codec="g711_ulaw") as bridge:

        def publish_for_ever() -> None:
            for _ in range(100_000):
                bridge.publish_downlink(FRAME)

        with pytest.raises(BridgeError, match="60 s"):
            publish_for_ever()
        # One frame may be counted on its way from the hand-off to the queue behind it.
        assert 50_000 <= bridge.queued_ms <= 60_020
    call.hangup()


def test_a_frame_of_another_size_is_refused(voice: Voice) -> None:
    call = dial(voice, "9010")
    with voice.audio_bridge.attach(call.sid, on_uplink=Heard(), codec="pcm16", sample_rate=8000) as bridge:
        with pytest.raises(ValueError, match="320"):
            bridge.publish_downlink(FRAME)
        with pytest.raises(TypeError, match="frame"):
            bridge.publish_downlink("text")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="timestamp_us"):
            bridge.publish_downlink(FRAME * 2, -1)
        for frame in (FRAME * 2, bytearray(FRAME * 2), memoryview(FRAME * 2), array.array("h", [0] * 160)):
            bridge.publish_downlink(frame)
    with voice.audio_bridge.attach(call.sid, on_uplink=Heard()) as bridge, pytest.raises(ValueError, match="empty"):
        bridge.publish_downlink(b"")
    call.hangup()


def test_the_end_of_the_call_is_the_end_of_the_bridge(voice: Voice) -> None:
    call, heard = dial(voice, "9010"), Heard()
    bridge = voice.audio_bridge.attach(call.sid, on_uplink=heard)
    heard.wait(5)
    call.hangup()
    ended(bridge)
    with pytest.raises(BridgeClosed, match="the call ended"):
        bridge.publish_downlink(FRAME)
    bridge.close()


def test_closing_the_voice_closes_its_bridges(engine: Engine) -> None:
    with Voice(engine.base_url, engine.api_key, engine.org_id) as voice:
        call = dial(voice, "9010")
        bridge = connected(voice.audio_bridge.attach(call.sid, on_uplink=Heard()))
    assert bridge.state == "closed"
    voice.close()
    call.hangup()


def test_a_held_voice_finds_a_dead_engine() -> None:
    with Engine(ring_ms=10) as engine:
        voice = Voice(engine.base_url, engine.api_key, engine.org_id, max_retries=0)
        call, heard = dial(voice, "9010"), Heard()
        bridge = voice.audio_bridge.attach(call.sid, on_uplink=heard)
        heard.wait(5)
    with pytest.raises(APIConnectionError, match="clutchcall dev"):
        call.refresh()
    # Its last word was the end of the track.
    ended(bridge)
    voice.close()


def test_refusals_are_classes_with_their_numbers(engine: Engine, voice: Voice) -> None:
    with pytest.raises(AuthenticationError, match="CLUTCHCALL_API_KEY") as wrong_key:
        Voice(engine.base_url, "tqs_live_wrong", engine.org_id).calls.get(sid="CA1")
    assert wrong_key.value.status == 401
    with pytest.raises(PermissionDeniedError) as wrong_org:
        Voice(engine.base_url, engine.api_key, "org_other").calls.get(sid="CA1")
    assert (wrong_org.value.status, wrong_org.value.retryable) == (403, False)
    with pytest.raises(NotFoundError) as no_call:
        voice.calls.get(sid="CA1")
    assert no_call.value.code == "NOT_FOUND"
    assert no_call.value.request_id
    with pytest.raises(NotFoundError):
        voice.audio_bridge.attach("CA1", on_uplink=print)
    call = dial(voice, "9010")
    with pytest.raises(NotFoundError):
        voice.agents.attach(call.sid, "nobody")
    call.hangup()


def test_pages_of_calls(voice: Voice) -> None:
    placed = [dial(voice, "9000").sid for _ in range(3)]
    until(lambda: len(voice.calls.list(status="ringing")) >= 3, "three ring")
    page = voice.calls.list(limit=2)
    assert page.cursor
    following = voice.calls.list(limit=100, cursor=page.cursor)
    assert set(placed) <= {call.sid for call in [*page, *following]}
    for sid in placed:
        voice.calls.get(sid).hangup()


def test_waiting_for_what_never_comes(voice: Voice) -> None:
    from clutchcall.errors import CallError

    call = dial(voice, "9486")
    with pytest.raises(CallError) as busy:
        call.wait("in_progress", timeout=LIMIT_S)
    assert (busy.value.end_reason, busy.value.sip_code) == ("busy", 486)
    ringing = dial(voice, "9000")
    with pytest.raises(TimeoutError, match="completed"):
        ringing.wait("completed", timeout=0.05)
    ringing.hangup()
