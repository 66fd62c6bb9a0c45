"""The processes of `bridges.py`, one role each: `engine`, `sdk`, `harness`. They talk in JSON lines over their pipes.

The engine's process holds control plane, relay and phone; the SDK's process holds N bridges, attached through
`clutchcall.voice`. The harness does what the Python code of the SDK's process does (the same publisher, the same
callbacks) with an empty native call in place of the SDK: what it costs is not ours to save.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

FRAME = bytes([0xF8]) + bytes(range(159))
"""160 bytes that begin as an Opus packet of one 20 ms frame, mono (RFC 6716 §3.1); nobody decodes it."""
FRAME_NS = 20_000_000
SLOTS = 20
NUMBER = "+15550009012"  # It says what it hears: nothing is transcoded.
UP_LIMIT_S = 60.0
DRAIN_S = 0.5
LATENCY_EVERY = 10
"""Of so many bridges one takes latencies; the others only count."""

CALLS = [0]
"""Calls that the publisher has made."""

Line = dict[str, Any]


def say(line: Line) -> None:
    print(json.dumps(line), flush=True)


def hear() -> Line:
    line: Line = json.loads(sys.stdin.readline())
    return line


def settle(core: int, seconds: float) -> None:
    """On one core, before it has threads; before other processes where the system allows it; for a limited time."""
    os.sched_setaffinity(0, {core})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    signal.alarm(int(seconds))


def usage() -> dict[str, float]:
    """What this process has used and, in a counted build, counted so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"user_us": used.ru_utime * 1e6, "system_us": used.ru_stime * 1e6, "sleeps": float(used.ru_nvcsw)}
    if core := sys.modules.get("clutchcall._core"):
        figures.update({name: float(value) for name, value in getattr(core, "_counts", list)()})
    return figures


def until(at_ns: int) -> None:
    time.sleep(max(0, at_ns - time.monotonic_ns()) / 1e9)


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in after}


class Ear:
    """The callbacks of all bridges: they count, and some take how much longer a frame took than their quickest.

    A stamp is the phone's RTP clock, which is as far off ours as the call's first packet was late.
    """

    def __init__(self) -> None:
        self._heard = itertools.count()
        self._took_us: list[list[int]] = []

    def callback(self, index: int, slow_s: float = 0.0) -> Callable[[bytes, int], None]:
        if slow_s:
            return lambda frame, ts_us: time.sleep(slow_s)
        count, now_ns, took_us = self._heard.__next__, time.monotonic_ns, list[int]()
        if index % LATENCY_EVERY:
            return lambda frame, ts_us: count() and None

        def take(frame: bytes, ts_us: int) -> None:
            count()
            took_us.append(now_ns() // 1000 - ts_us)

        self._took_us.append(took_us)
        return take

    def late_us(self) -> list[int]:
        return [one - quickest for took in self._took_us if took for quickest in [min(took)] for one in took]

    def heard(self) -> int:
        return int(repr(self._heard)[len("count(") : -1])


def publish(calls: list[Callable[[bytes], object]], bridges: int, begin_ns: int, end_ns: int) -> None:
    """A frame to each once per frame time, spread over the slots."""
    count = min(SLOTS, bridges)
    slots = [(slot * FRAME_NS // SLOTS, calls[slot::count]) for slot in range(count)]
    for at_ns in range(begin_ns, end_ns, FRAME_NS):
        for offset_ns, share in slots:
            until(at_ns + offset_ns)
            for call in share:
                call(FRAME)
            CALLS[0] += len(share)


class Window:
    """From when to when figures count."""

    def __init__(self, line: Line) -> None:
        self.from_ns: int = line["from_ns"]
        self.to_ns: int = line["to_ns"]

    def watch(self, ear: Ear | None = None) -> dict[str, float]:
        def now() -> dict[str, float]:
            return {**usage(), "window_calls": CALLS[0], "window_heard": ear.heard() if ear else 0}

        until(self.from_ns)
        before = now()
        until(self.to_ns)
        return difference(before, now())


def engine(job: Line) -> None:
    from clutchcall.engine import Engine

    with Engine(ring_ms=0) as engine:
        say({"base_url": engine.base_url, "api_key": engine.api_key, "org_id": engine.org_id})
        say(Window(hear()).watch())
        hear()  # The SDK's end is done.


def sdk(job: Line) -> None:
    from clutchcall.voice import Voice

    ear = Ear()
    with Voice(job["base_url"], job["api_key"], job["org_id"], pool=job.get("pool", 1)) as voice:
        placed = [
            voice.calls.originate(to=NUMBER, from_="+15550000000", trunk_id="trunk_main") for _ in range(job["bridges"])
        ]
        bridges = [
            voice.audio_bridge.attach(
                call.wait("in_progress", UP_LIMIT_S).sid,
                on_uplink=ear.callback(index, job.get("slow_s", 0.0) if index == 1 else 0.0),
                delivery=job.get("delivery", "stream"),
            )
            for index, call in enumerate(placed)
        ]
        limit = time.monotonic() + UP_LIMIT_S
        while any(bridge.state != "connected" for bridge in bridges):
            if time.monotonic() > limit:
                raise TimeoutError("not all bridges are up")
            time.sleep(0.01)
        measure(job, ear, [bridge.publish_downlink for bridge in bridges], lambda: totals(bridges))


def totals(bridges: list[Any]) -> dict[str, int]:
    names = ("frames_in", "dropped", "missing", "frames_out", "unheard", "offline", "behind")
    rows = [bridge.stats() for bridge in bridges]
    return {name: sum(getattr(row, name) for row in rows) for name in names}


def harness(job: Line) -> None:
    """Both directions with nothing beneath: `len` is the empty native call, `partial` calls back from native code."""
    ear = Ear()
    callbacks = [partial(ear.callback(index), ts_us=0) for index in range(job["bridges"])]
    measure(job, ear, [*callbacks, *[len] * job["bridges"]], dict)


def measure(job: Line, ear: Ear, calls: list[Callable[[bytes], object]], stats: Callable[[], dict[str, int]]) -> None:
    say({"ready": True})
    window = Window(hear())
    figures: dict[str, float] = {}
    watcher = threading.Thread(target=lambda: figures.update(window.watch(ear)))
    watcher.start()
    publish(calls, job["bridges"], time.monotonic_ns() + FRAME_NS, window.to_ns + FRAME_NS)
    watcher.join()
    time.sleep(DRAIN_S)
    late = sorted(ear.late_us())
    at = {f"p{percent}_us": late[len(late) * percent // 100] for percent in (50, 99) if late}
    calls_each = len(calls) // job["bridges"]
    figures["frames"] = figures["window_calls"] / calls_each + figures["window_heard"]
    say({**figures, **at, **stats(), "published": CALLS[0] // calls_each, "heard": ear.heard()})


if __name__ == "__main__":
    job = hear()
    settle(job["core"], job["limit_s"])
    {"engine": engine, "sdk": sdk, "harness": harness}[sys.argv[1]](job)
