"""Users who do not wait their turn: too early, too much at once, twice, in the wrong place, gone before the end.

Number 9012 gives back the very frames that it hears, so that one side's word on all of them is an event at the other.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listening import (
    LIMIT_S,
    PLAIN,
    Heard,
    Samples,
    assert_apart,
    assert_heard,
    connected,
    dial,
    ended,
    is_calm,
    read_wav,
    recording,
    report,
    until,
)

from clutchcall import media
from clutchcall.engine import Engine
from clutchcall.errors import BridgeClosed, BridgeError, ConflictError
from clutchcall.types import AudioCodec
from clutchcall.voice import AudioBridge, Call, Voice

FRAME_US = 20_000
FRAMES_PER_S = 50


def opus(samples: Samples, rate: int) -> list[bytes]:
    """Whole frames of 20 ms; what is left over is left out."""
    encoder, size = media.OpusEncoder(rate), rate // FRAMES_PER_S
    return [encoder.encode(samples[at : at + size].tobytes()) for at in range(0, len(samples) - size + 1, size)]


@pytest.fixture(scope="module")
def sentence(speech: Path) -> list[bytes]:
    """Two seconds of speech, no two packets alike."""
    rate, samples = read_wav(speech / "at-tone-time-exactly.wav")
    return opus(samples, rate)[: 2 * FRAMES_PER_S]


def attach(voice: Voice, call: Call, heard: Heard | None = None, **arguments: Any) -> AudioBridge:  # noqa: ANN401
    bridge = voice.audio_bridge.attach(call.sid, on_uplink=heard or Heard(), **arguments)
    return connected(bridge)


class Burst:
    """More than enough said at once to a phone that gives it back."""

    def __init__(self, voice: Voice, frames: list[bytes]) -> None:
        self.heard = Heard()
        self.call = dial(voice, "9012")
        self.bridge = attach(voice, self.call, self.heard)
        self.call.wait(status="in_progress", timeout=LIMIT_S)
        self.taken: list[bytes] = []
        self.refusal: BridgeError | None = None
        try:
            for frame in frames:
                self.bridge.publish_downlink(frame)
                self.taken.append(frame)
        except BridgeError as error:
            self.refusal = error

    def check(self, engine: Engine) -> None:
        """All that was taken is heard by the phone, in order, 20 ms apart, and by Python as the phone's echo."""
        until(lambda: self.bridge.queued_ms == 0, "all has left", 2 * LIMIT_S)
        # Where there is no room the oldest goes: the last one always comes.
        until(lambda: self.heard.frames[-1:] == self.taken[-1:], "the last frame is heard")
        self.call.hangup()
        ended(self.bridge)
        print(self.bridge.stats())
        assert_heard(self.heard.frames, self.taken)
        assert_apart(self.heard.stamps, FRAME_US)
        told = report(engine, self.call)
        assert_apart(told["heard_at_us"], FRAME_US)
        assert told["malformed"] == 0
        if not is_calm():
            return
        assert (told["frames_heard"], told["gaps"]) == (len(self.taken), 0)
        # The phone's decoder is the one of `media`, so order and completeness show in every sample.
        decoder = media.OpusDecoder(16_000)
        pcm = np.frombuffer(b"".join(decoder.decode(frame) for frame in self.taken), dtype="<i2")
        assert np.array_equal(recording(engine, self.call)[: len(pcm)], pcm)


@pytest.fixture(scope="module", autouse=True)
def bursts(engine: Engine, speech: Path) -> Iterator[tuple[Burst, Burst]]:
    """30 s of speech, and more than a bridge takes. They are heard in their own time, while the other tests run."""
    rate, samples = read_wav(speech / "demo-instruct.wav")
    frames = opus(samples, rate)
    assert len(frames) > 70 * FRAMES_PER_S, "enough that 60 s are full even if the machine takes a nap meanwhile"
    with Voice(engine.base_url, engine.api_key, engine.org_id) as voice:
        yield Burst(voice, frames[: 30 * FRAMES_PER_S]), Burst(voice, frames)


def test_attach_while_dialing_waits_for_audio(engine: Engine, voice: Voice, sentence: list[bytes]) -> None:
    heard = Heard()
    call = dial(voice, "9002")
    bridge = attach(voice, call, heard)
    assert call.refresh().status in ("dialing", "ringing")
    for frame in sentence[:5]:
        bridge.publish_downlink(frame)
    until(lambda: bridge.queued_ms == 0, "what is said to nobody has left")
    assert call.refresh().status == "ringing"
    assert heard.frames == []
    heard.wait()
    for frame in sentence[5:]:
        bridge.publish_downlink(frame)
    until(lambda: bridge.queued_ms == 0, "the sentence has left")
    # The phone's own clock tells that it has heard what left: no frame does so more than 60 ms early.
    heard.wait_more(10)
    call.hangup()
    ended(bridge)
    told = report(engine, call)
    assert told["frames_heard"] == len(sentence) - 5 or (not is_calm() and 85 <= told["frames_heard"] <= 95)
    assert heard.steps_us() == {FRAME_US}


TONES_HZ = (450, 1300)


def tone(hz: int, rate: int, seconds: int = 3) -> Samples:
    at = np.arange(rate * seconds) / rate
    return (6000 * np.sin(2 * np.pi * hz * at)).astype(np.int16)


def speaks_both_tones(samples: Samples, rate: int) -> bool:
    """Some tenth of a second holds both, each far above everything else in it."""
    size = rate // 10
    windows = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    spectra = np.abs(np.fft.rfft(windows * np.hanning(size)))
    levels = np.stack([spectra[:, hz // 10] for hz in TONES_HZ])
    return bool(np.any(levels.min(axis=0) > 20 * np.median(spectra, axis=1).clip(1.0)))


def encoded(codec: AudioCodec, rate: int, samples: Samples) -> list[bytes]:
    if codec == "opus":
        return opus(samples, rate)
    encode = PLAIN[codec][0]
    size = rate // FRAMES_PER_S
    return [encode(samples[at : at + size].tobytes()) for at in range(0, len(samples), size)]


def decoded(codec: AudioCodec, rate: int, frames: list[bytes]) -> Samples:
    if codec == "opus":
        decoder = media.OpusDecoder(rate)
        return np.frombuffer(b"".join(decoder.decode(frame) for frame in frames), dtype="<i2")
    decode = PLAIN[codec][1]
    return np.frombuffer(decode(b"".join(frames)), dtype="<i2")


PAIRS: list[tuple[tuple[AudioCodec, int], tuple[AudioCodec, int]]] = [
    (("opus", 48_000), ("pcm16", 16_000)),
    (("g711_ulaw", 8000), ("pcm16", 48_000)),
    (("g711_alaw", 8000), ("opus", 48_000)),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0][0]}-{pair[1][0]}")
def test_two_codecs_on_one_call(
    engine: Engine, voice: Voice, pair: tuple[tuple[AudioCodec, int], tuple[AudioCodec, int]]
) -> None:
    call = dial(voice, "9012")
    heard = [Heard(), Heard()]
    bridges = [
        attach(voice, call, ears, codec=codec, sample_rate=rate)
        for ears, (codec, rate) in zip(heard, pair, strict=True)
    ]
    call.wait(status="in_progress", timeout=LIMIT_S)
    for bridge, hz, (codec, rate) in zip(bridges, TONES_HZ, pair, strict=True):
        for frame in encoded(codec, rate, tone(hz, rate)):
            bridge.publish_downlink(frame)
    for ears in heard:
        ears.wait(2 * FRAMES_PER_S)
    call.hangup()
    for bridge in bridges:
        ended(bridge)
    report(engine, call)
    assert speaks_both_tones(recording(engine, call), 16_000), "the phone hears both at the same time"
    for ears, (codec, rate) in zip(heard, pair, strict=True):
        assert speaks_both_tones(decoded(codec, rate, ears.frames), rate), f"{codec} hears both, echoed"
        assert_apart(ears.stamps, FRAME_US)


@pytest.mark.parametrize(
    ("ending", "status", "outcome"),
    [
        ("9001", "dialing", ("failed", "canceled")),
        ("9000", "ringing", ("failed", "canceled")),
        ("9010", "in_progress", ("completed", "normal")),
        ("9486", "failed", ("failed", "busy")),
    ],
)
def test_hang_up_in_every_state(voice: Voice, ending: str, status: Any, outcome: tuple[str, str]) -> None:  # noqa: ANN401
    call = dial(voice, ending)
    bridge = None if status == "failed" else attach(voice, call)
    call.wait(status=status, timeout=LIMIT_S)
    before = call.ended_at
    call.hangup()
    call.wait(timeout=LIMIT_S)
    assert (call.status, call.end_reason) == outcome
    assert call.ended_at is not None
    assert before in (None, call.ended_at)
    if bridge is not None:
        ended(bridge)
        with pytest.raises(BridgeClosed, match="the call ended"):
            bridge.publish_downlink(b"\xf8\xff\xfe")
        with pytest.raises(ConflictError):
            attach(voice, call)
    ended_at = call.ended_at
    call.hangup()
    assert (call.refresh().status, call.end_reason, call.ended_at) == (*outcome, ended_at)


def test_close_before_the_answer(voice: Voice, sentence: list[bytes]) -> None:
    call = dial(voice, "9002")
    heard, later = Heard(), Heard()
    bridge = voice.audio_bridge.attach(call.sid, on_uplink=heard)
    bridge.close()
    assert bridge.state == "closed"
    with pytest.raises(BridgeClosed):
        bridge.publish_downlink(sentence[0])
    attach(voice, call, later)
    later.wait(5)
    assert call.refresh().status == "in_progress"
    assert heard.frames == []
    call.hangup()


def test_a_collected_handle_keeps_its_audio(engine: Engine, sentence: list[bytes]) -> None:
    heard = Heard()
    voice = Voice(engine.base_url, engine.api_key, engine.org_id)
    call = dial(voice, "9012")
    bridge = attach(voice, call, heard)
    call.wait(status="in_progress", timeout=LIMIT_S)
    for frame in sentence:
        bridge.publish_downlink(frame)
    del bridge, voice
    # Only what is new: a look at all that a long run of tests holds may take longer than frames wait.
    gc.collect(1)
    until(lambda: heard.frames[-1:] == sentence[-1:], "the last frame is heard")
    assert_heard(heard.frames, sentence)
    call.hangup()


def test_a_callback_that_closes_its_bridge(voice: Voice) -> None:
    heard, closed = Heard(), threading.Event()

    def on_uplink(frame: bytes, ts_us: int) -> None:
        heard(frame, ts_us)
        bridge.close()
        closed.set()

    call = dial(voice, "9002")
    bridge = attach(voice, call)
    bridge.on_uplink(on_uplink)
    assert closed.wait(LIMIT_S)
    # The call lives, and its audio goes to whoever comes next.
    later = Heard()
    attach(voice, call, later)
    later.wait(10)
    assert len(heard.frames) == 1
    assert bridge.state == "closed"
    call.hangup()


def speak_until_heard(speak: Any, bridge: AudioBridge, frame: bytes, heard: Heard) -> None:  # noqa: ANN401
    """One frame after the other, until the first has found its listener."""

    def said_and_heard() -> bool:
        if not heard.frames and bridge.queued_ms == 0:
            speak(frame)
        return bool(heard.frames) and bridge.queued_ms == 0

    until(said_and_heard, "somebody hears")


def test_an_empty_far_end_is_a_bridge(voice: Voice, sentence: list[bytes]) -> None:
    call = dial(voice, "9030")
    by_server, by_caller = Heard(), Heard()
    server = attach(voice, call, by_server)
    caller = connected(voice.audio_bridge.attach_caller(call.sid, on_downlink=by_caller))
    call.wait(status="in_progress", timeout=LIMIT_S)
    silence = opus(np.zeros(960, dtype=np.int16), 48_000)[0]
    speak_until_heard(server.publish_downlink, server, silence, by_caller)
    speak_until_heard(caller.publish_uplink, caller, silence, by_server)
    for down, up in zip(sentence, reversed(sentence), strict=True):
        server.publish_downlink(down)
        caller.publish_uplink(up)
    until(lambda: by_caller.frames[-len(sentence) :] == sentence, "the caller hears the sentence, in order")
    until(lambda: by_server.frames[-len(sentence) :] == sentence[::-1], "the server hears the other, in order")
    with pytest.raises(BridgeError, match=r"use publish_uplink\(\)"):
        caller.publish_downlink(silence)
    with pytest.raises(BridgeError, match=r"use publish_downlink\(\)"):
        server.publish_uplink(silence)
    with pytest.raises(BridgeError, match=r"use on_downlink\(\)"):
        caller.on_uplink(by_caller)
    with pytest.raises(ConflictError, match="another bridge"):
        voice.audio_bridge.attach_caller(call.sid, on_downlink=Heard())
    call.hangup()
    ended(server)
    ended(caller)


def test_a_phone_speaks_for_itself(voice: Voice) -> None:
    call = dial(voice, "9010")
    with pytest.raises(ConflictError, match="attach_caller is for calls whose far end is empty"):
        voice.audio_bridge.attach_caller(call.sid, on_downlink=Heard())
    call.hangup()


def test_half_a_minute_at_once(engine: Engine, bursts: tuple[Burst, Burst]) -> None:
    assert bursts[0].refusal is None
    assert len(bursts[0].taken) == 30 * FRAMES_PER_S
    bursts[0].check(engine)


def test_more_than_a_bridge_holds(engine: Engine, bursts: tuple[Burst, Burst]) -> None:
    refusal = bursts[1].refusal
    assert type(refusal) is BridgeError
    assert "60 s" in str(refusal)
    assert len(bursts[1].taken) >= 60 * FRAMES_PER_S
    bursts[1].check(engine)
