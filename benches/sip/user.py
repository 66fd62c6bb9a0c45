"""The user of a load: one Python process with a bridge and a callback for each call of a SIP trunk.

It obeys JSON lines (`channel.py` of the peers): `more` places calls and attaches, `measure` speaks and hears for a
while, `end` hangs up.

* `passed`: µ-law through and through. Each bridge publishes stamped frames; the far end gives back the very bytes, so a
  frame that comes home was carried both ways.
* `coded`: Opus from here, µ-law on the line: both ways are transcoded in the engine. Frames have no stamp of ours, so
  they are counted by the engine's stamps, which lie one frame apart.
* `stamped`: somebody sends packets with the time in them (`rtp stamp`); nothing is published. Latency is from there.

Where a packet has no time in it, the engine's stamps stand for it. They go by the far end's clock from its first packet
on, whenever that came, so a frame is compared with the fastest one of its call.
"""

from __future__ import annotations

import gc
import json
import math
import signal
import sys
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

from channel import (
    DRAIN_S,
    FRAME_NS,
    HEADER,
    LATE_NS,
    SLOTS,
    TOC,
    difference,
    frame,
    hear,
    now_ns,
    quantiles,
    say,
    slots,
    usage,
)

from clutchcall.voice import Voice

LIMIT_S = 900
PLACED_AT_ONCE = 4
UP_LIMIT_S = 30.0
FRAME_US = FRAME_NS // 1000
SPEECH_FRAMES = 250
EDGE_US = 200_000


class User:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.mode = options, str(options["mode"])
        self.voice = Voice(*options["where"], pool=int(options.get("pool", 32)))
        self.calls: list[Any] = []
        self.bridges: list[Any] = []
        self.ears: list[Ear] = []
        self.speech = opus_of_speech() if self.mode == "coded" else []

    def more(self, count: int) -> None:
        from concurrent.futures import ThreadPoolExecutor

        begun, first = time.monotonic(), len(self.calls)
        ears = [Ear() for _ in range(count)]
        codec = "opus" if self.mode == "coded" else "g711_ulaw"

        def place(nth: int) -> tuple[Any, Any]:
            trunk = self.options["trunks"][(first + nth) % len(self.options["trunks"])]
            call = self.voice.calls.originate(to=f"+1555{first + nth:07}", from_="+15550000000", trunk_id=trunk)
            if call.wait("in_progress", UP_LIMIT_S).status != "in_progress":
                raise RuntimeError(f"a call is {call.status}: {call.end_reason}")
            take = ears[nth].take_any if self.mode == "coded" else ears[nth].take
            return call, self.voice.audio_bridge.attach(call.sid, on_uplink=take, codec=codec)

        with ThreadPoolExecutor(PLACED_AT_ONCE) as placing:
            placed = list(placing.map(place, range(count)))
        self.calls += [call for call, _ in placed]
        self.bridges += [bridge for _, bridge in placed]
        self.ears += ears
        limit = time.monotonic() + UP_LIMIT_S
        while any(bridge.state != "connected" for bridge in self.bridges):
            if time.monotonic() > limit:
                raise TimeoutError("not all bridges are up")
            time.sleep(0.01)
        gc.collect()
        gc.freeze()
        say(calls=len(self.calls), took_s=time.monotonic() - begun, sids=[call.sid for call in self.calls])

    def measure(self, from_ns: int, secs: float) -> None:
        until_ns = from_ns + int(secs * 1e9)
        for ear in self.ears:
            ear.clear()
        before_stats = self.stats()
        used: dict[str, float] = {}

        def watch() -> None:
            wait_until(from_ns)
            before = usage()
            wait_until(until_ns)
            used.update(difference(before, usage()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        sent = self.publish(from_ns, secs) if self.mode != "stamped" else 0
        watcher.join()
        time.sleep(DRAIN_S)
        bridges = difference(before_stats, self.stats())
        say(sent=sent, **self.heard(from_ns, until_ns), **used, **bridges)

    def publish(self, from_ns: int, secs: float) -> int:
        calls = [bridge.publish_downlink for bridge in self.bridges]
        shares, sent, slot, turn, speech = slots(len(calls)), 0, 0, 0, self.speech
        for due_ns in range(from_ns, from_ns + int(secs * 1e9), FRAME_NS // SLOTS):
            wait_until(due_ns)
            for channel in shares[slot]:
                calls[channel](speech[(turn + 7 * channel) % len(speech)] if speech else frame(channel, due_ns))
            sent += len(shares[slot])
            slot = (slot + 1) % SLOTS
            turn += slot == 0
        return sent

    def heard(self, from_ns: int, until_ns: int) -> dict[str, float]:
        if self.mode == "coded":
            within = [ear.within(from_ns // 1000 + 2 * FRAME_US, until_ns // 1000) for ear in self.ears]
            took = [value for found in within for value in behind(found[1])]
            return {"heard": len(took), "lost": sum(found[0] for found in within), **lateness(took), **quantiles(took)}
        took = [value for ear in self.ears for value in (ear.took if self.mode == "stamped" else behind(ear.took))]
        missed = sum(ear.missed for ear in self.ears)
        # At the edges nothing was published yet, or nothing any more.
        first, last = from_ns // 1000 + EDGE_US, until_ns // 1000
        silent = sum(1 for ear in self.ears for at in ear.stamps if first <= at < last)
        return {"heard": len(took), "silent": silent, "missed": missed, **lateness(took), **quantiles(took)}

    def stats(self) -> dict[str, float]:
        names = ("missing", "dropped", "gaps", "behind", "stale", "too_old", "duplicates")
        shown = [bridge.stats() for bridge in self.bridges]
        return {name: float(sum(getattr(stats, name) for stats in shown)) for name in names}

    def end(self) -> None:
        for call in self.calls:
            call.hangup()
        self.voice.close()


class Ear:
    """What one call's callback heard."""

    __slots__ = ("_last", "missed", "stamps", "took")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.took, self.stamps = array("q"), array("q")
        self.missed = self._last = 0

    def take(self, heard: bytes, ts_us: int) -> None:
        """A frame with a stamp; the engine's silence has none."""
        at = now_ns()
        if heard[0] != TOC:
            self.stamps.append(ts_us)
            return
        _, _, due, sent = HEADER.unpack_from(heard)
        self.took.append(at - ts_us * 1000 if STAMP_IS_THE_ENGINES else at - sent)
        if self._last and due - self._last > FRAME_NS:
            self.missed += (due - self._last) // FRAME_NS - 1
        self._last = due

    def take_any(self, _heard: bytes, ts_us: int) -> None:
        self.took.append(now_ns() - ts_us * 1000)
        self.stamps.append(ts_us)

    def within(self, from_us: int, until_us: int) -> tuple[int, list[int]]:
        """Holes between the frames of this time, its edges included, and how long each frame took."""
        inside = [(at, took) for at, took in zip(self.stamps, self.took, strict=True) if from_us <= at < until_us]
        wanted = (until_us - from_us) // FRAME_US
        return max(0, wanted - len(inside) - 1), [took for _, took in inside]


STAMP_IS_THE_ENGINES = True


def behind(took: Sequence[int]) -> list[int]:
    """How much longer than the fastest."""
    fastest = min(took, default=0)
    return [value - fastest for value in took]


def lateness(took: list[int]) -> dict[str, float]:
    return {"late": sum(1 for value in took if value > LATE_NS)}


def opus_of_speech() -> list[bytes]:
    """Vowels that glide, with pauses: what an encoder has work with. Recorded speech is not always at hand."""
    from clutchcall.media import OpusEncoder

    encoder, rate = OpusEncoder(48_000, 1), 48_000
    size, found = rate // 50, []
    for nth in range(SPEECH_FRAMES):
        samples, loud = array("h"), 0.0 if nth % 50 > 38 else 0.5 + 0.5 * math.sin(nth / 4)
        for at in range(nth * size, (nth + 1) * size):
            pitch = 120 + 40 * math.sin(at / rate * 3)
            voice = sum(math.sin(2 * math.pi * pitch * k * at / rate) / k for k in range(1, 9))
            samples.append(int(7000 * loud * voice / 2))
        found.append(encoder.encode(samples.tobytes()))
    return found


def wait_until(at_ns: int) -> None:
    time.sleep(max(0, at_ns - now_ns()) / 1e9)


def main() -> None:
    global STAMP_IS_THE_ENGINES
    signal.alarm(LIMIT_S)
    options = json.loads(sys.argv[1])
    user = User(options)
    STAMP_IS_THE_ENGINES = options["mode"] != "stamped"
    does: dict[str, Callable[..., None]] = {"more": user.more, "measure": user.measure}
    while (told := hear())["do"] != "end":
        does[told.pop("do")](**told)
    user.end()
    say(ended=len(user.calls))


if __name__ == "__main__":
    main()
