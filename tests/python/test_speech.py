"""Human speech from the phone to Python and back: nothing is missing, nothing is moved, and it sounds the same.

The phone says its clip and hangs up at its end; at its first frame Python hands over an answer, all at once. What each
side heard is compared with the recording that the other side said (PESQ, ITU-T P.862, narrowband).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from listening import (
    LIMIT_S,
    PHONE_HZ,
    PLAIN,
    Heard,
    Samples,
    connected,
    dial,
    ended,
    read_wav,
    recording,
    report,
    resampled,
)
from pesq import pesq

from clutchcall import media
from clutchcall.engine import Engine
from clutchcall.types import AudioCodec
from clutchcall.voice import Voice

SPEECH_HZ = 8000
FRAME_US = 20_000
# Of libopus at every rate: 6.5 ms. All of it lags behind by that, and by nothing else.
LOOKAHEAD = media.OpusEncoder(SPEECH_HZ).lookahead


@dataclass(frozen=True)
class Format:
    """What one bridge speaks and hears, and how good it must sound at least."""

    codec: AudioCodec
    sample_rate: int | None
    pesq: float

    @property
    def hz(self) -> int:
        return self.sample_rate or SPEECH_HZ

    def frames(self, speech: Samples) -> list[bytes]:
        """Speech in frames of 20 ms, and the silence behind it in which the codec gives out its last."""
        size = SPEECH_HZ // 50
        padded = np.zeros(-(-(len(speech) + LOOKAHEAD) // size) * size, dtype=np.int16)
        padded[: len(speech)] = speech
        if self.codec == "opus":
            encoder = media.OpusEncoder(SPEECH_HZ)
            return [encoder.encode(pcm.tobytes()) for pcm in np.split(padded, len(padded) // size)]
        pcm = np.split(resampled(padded, SPEECH_HZ, self.hz), len(padded) // size)
        return [PLAIN[self.codec][0](samples.tobytes()) for samples in pcm]

    def samples(self, frames: list[bytes]) -> Samples:
        """Frames in a row as speech at `SPEECH_HZ`."""
        if self.codec == "opus":
            decoder = media.OpusDecoder(SPEECH_HZ)
            return np.frombuffer(b"".join(decoder.decode(frame) for frame in frames), dtype="<i2")
        pcm = PLAIN[self.codec][1](b"".join(frames))
        return resampled(np.frombuffer(pcm, dtype="<i2"), self.hz, SPEECH_HZ)


# G.711 on top of Opus costs what its 8 bits cost: 4.01 is measured upwards, 4.2 downwards, against 4.5 of Opus alone.
FORMATS = [
    Format("opus", None, 4.0),
    Format("g711_ulaw", None, 3.9),
    Format("g711_alaw", None, 3.9),
    Format("pcm16", 16_000, 4.0),
    Format("pcm16", 48_000, 4.0),
]


class Conversation:
    """One call of its own, from the first ring to its end."""

    def __init__(self, form: Format, voice: Voice, said: Samples) -> None:
        self.answer = form.frames(said)
        self.heard = Heard()
        self.call = dial(voice, "9013")
        self.bridge = voice.audio_bridge.attach(
            self.call.sid, on_uplink=self.on_uplink, codec=form.codec, sample_rate=form.sample_rate
        )

    def on_uplink(self, frame: bytes, ts_us: int) -> None:
        if not self.heard.frames:
            for piece in self.answer:
                self.bridge.publish_downlink(piece)
        self.heard(frame, ts_us)


@pytest.fixture(scope="module")
def engine(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Its phone rings long enough that all bridges are there first, however slow the machine is."""
    with Engine(clip=speech / "vm-intro.wav", record=tmp_path_factory.mktemp("heard"), ring_ms=3000) as engine:
        yield engine


@pytest.fixture(scope="module")
def said_by_phone(speech: Path) -> Samples:
    return read_wav(speech / "vm-intro.wav")[1]


@pytest.fixture(scope="module")
def said_by_python(speech: Path) -> Samples:
    return read_wav(speech / "at-tone-time-exactly.wav")[1]


@pytest.fixture(scope="module")
def conversations(engine: Engine, said_by_python: Samples) -> Iterator[dict[Format, Conversation]]:
    """All formats at the same time, ended."""
    with Voice(engine.base_url, engine.api_key, engine.org_id) as voice:
        held = {form: Conversation(form, voice, said_by_python) for form in FORMATS}
        for one in held.values():
            connected(one.bridge)
        for one in held.values():
            one.call.wait(status="completed", timeout=LIMIT_S)
            ended(one.bridge)
        yield held


def likeness(original: Samples, heard: Samples) -> float:
    """PESQ of what was heard, the codec's delay taken off."""
    heard = heard[LOOKAHEAD : LOOKAHEAD + len(original)]
    assert len(heard) == len(original)
    score: float = pesq(SPEECH_HZ, original, heard, "nb")
    print(f"PESQ-NB {score:.2f}")
    return score


each_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.codec}-{form.hz}")


@each_format
def test_python_hears_all_of_the_phone(
    engine: Engine, conversations: dict[Format, Conversation], said_by_phone: Samples, form: Format
) -> None:
    one = conversations[form]
    told, stats, heard = report(engine, one.call), one.bridge.stats(), one.heard
    clip_frames = -(-(len(said_by_phone) + LOOKAHEAD) // (SPEECH_HZ // 50))
    assert told["clip_frames_said"] == clip_frames
    assert len(heard.frames) == told["frames_said"] == stats.frames_in
    assert (stats.gaps, stats.missing, stats.dropped) == (0, 0, 0)
    assert heard.steps_us() == {FRAME_US}
    assert likeness(said_by_phone, form.samples(heard.frames[:clip_frames])) >= form.pesq


@each_format
def test_the_phone_hears_all_of_python(
    engine: Engine, conversations: dict[Format, Conversation], said_by_python: Samples, form: Format
) -> None:
    one = conversations[form]
    told, stats = report(engine, one.call), one.bridge.stats()
    assert told["frames_heard"] == len(one.answer) == stats.frames_out
    assert (told["gaps"], told["malformed"], told["lost_samples"]) == (0, 0, 0)
    kept = recording(engine, one.call)
    ticks = told["frames_heard"] + told["ticks_after_last"]
    assert len(kept) == told["recorded_samples"] == ticks * PHONE_HZ // 50
    assert likeness(said_by_python, resampled(kept, PHONE_HZ, SPEECH_HZ)) >= form.pesq
