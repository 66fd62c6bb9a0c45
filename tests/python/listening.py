"""How a test follows a call: bounded waits for what happens, what a bridge heard, what the phone wrote down."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from clutchcall import media
from clutchcall.engine import Engine
from clutchcall.types import AudioCodec
from clutchcall.voice import AudioBridge, Call, Voice

FROM = "+15558675309"
# Generous: nothing is asserted on how long something takes.
LIMIT_S = 60.0
# What the simulated phone records at.
PHONE_HZ = 16_000

# From PCM and back, of the codecs that have no memory.
PLAIN: dict[AudioCodec, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "g711_ulaw": (media.encode_ulaw, media.decode_ulaw),
    "g711_alaw": (media.encode_alaw, media.decode_alaw),
    "pcm16": (bytes, bytes),
}

Samples: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int16]]"


class Heard:
    """A bridge's callback that keeps every frame and can be waited on."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.stamps: list[int] = []
        self._news = threading.Condition()

    def __call__(self, frame: bytes, ts_us: int) -> None:
        with self._news:
            self.frames.append(frame)
            self.stamps.append(ts_us)
            self._news.notify_all()

    def wait(self, count: int = 1) -> None:
        """Until `count` frames have come."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.frames) >= count, LIMIT_S)
        assert came, f"{len(self.frames)} of {count} frames within {LIMIT_S} s"

    def wait_more(self, count: int) -> None:
        """Until `count` frames have come after those of now."""
        self.wait(len(self.frames) + count)

    def steps_us(self) -> set[int]:
        """Every distance between two stamps in a row."""
        return {later - earlier for earlier, later in zip(self.stamps, self.stamps[1:], strict=False)}


def until(condition: Callable[[], bool], what: str | Callable[[], str], limit_s: float = LIMIT_S) -> None:
    """Looks again and again at something that tells nobody when it changes: a bridge's state, a file."""
    deadline, pause = time.monotonic() + limit_s, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what() if callable(what) else what}"
        pause.wait(0.005)


def is_calm() -> bool:
    """Whether this machine keeps time. On one with far more to do than it can, a thread may come later than the 60 ms
    that audio is sent ahead of its time, and then there is a gap, which is nobody's fault but the machine's."""
    return os.getloadavg()[0] <= 1.5 * (os.cpu_count() or 1)


def assert_heard(heard: list[bytes], said: list[bytes]) -> None:
    """All of it in its order; on a machine that does not keep time, nearly all of it in its order."""
    if is_calm():
        assert heard == said
    rest = iter(said)
    assert all(frame in rest for frame in heard), "in order, nothing twice, nothing that was not said"
    assert len(heard) >= 0.95 * len(said)


def assert_apart(times_us: list[int], step_us: int) -> None:
    """One step apart; on a machine that does not keep time, nearly all of them, and the others whole steps."""
    steps = [later - earlier for earlier, later in itertools.pairwise(times_us)]
    if is_calm():
        assert set(steps) == {step_us}
    assert all(step > 0 and step % step_us == 0 for step in steps)
    assert steps.count(step_us) >= 0.95 * len(steps)


def dial(voice: Voice, ending: str, **arguments: Any) -> Call:  # noqa: ANN401 (whatever originate takes)
    """Calls the phone that the ending names."""
    return voice.calls.originate(to=f"+1555000{ending}", from_=FROM, trunk_id="trunk_main", **arguments)


def connected(bridge: AudioBridge) -> AudioBridge:
    until(lambda: bridge.state == "connected", lambda: f"{bridge} is connected, {bridge.stats()}")
    return bridge


def ended(bridge: AudioBridge) -> AudioBridge:
    until(lambda: bridge.state == "closed", lambda: f"{bridge} is closed, {bridge.stats()}")
    return bridge


def report(engine: Engine, call: Call) -> dict[str, Any]:
    """The phone's own account of an ended call; its recording is complete by then."""
    path = _kept(engine, call, "json")
    until(path.exists, f"{path} is there")
    told: dict[str, Any] = json.loads(path.read_text())
    return told


def recording(engine: Engine, call: Call) -> Samples:
    """What the phone heard, from the first frame on, at `PHONE_HZ`."""
    rate, samples = read_wav(_kept(engine, call, "wav"))
    assert rate == PHONE_HZ
    return samples


def _kept(engine: Engine, call: Call, kind: str) -> Path:
    assert engine.phone_record_dir is not None
    return Path(engine.phone_record_dir) / f"{call.sid}.{kind}"


def read_wav(path: Path) -> tuple[int, Samples]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def write_wav(path: Path, rate: int, samples: Samples) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    """By its whole spectrum: no filter of its own to be judged, and no delay."""
    if rate == wanted:
        return samples
    count = len(samples) * wanted // rate
    spectrum = np.fft.rfft(samples.astype(np.float64))
    bins = np.zeros(count // 2 + 1, dtype=np.complex128)
    both = min(len(spectrum), len(bins))
    bins[:both] = spectrum[:both]
    scaled = np.fft.irfft(bins, count) * (count / len(samples))
    return np.clip(np.rint(scaled), -32768, 32767).astype(np.int16)
