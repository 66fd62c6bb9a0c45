"""P9 and P10: what attaching costs, what an idle bridge keeps, and what is left after thousands came and went.

The far end is an engine whose phone answers and says nothing. With `bridges=N` so many are attached and weighed; with
`cycles=N` one after the other comes and goes, in a process that never had more than one. `pool` is as everywhere.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

from channel import End, hear, say
from clutchcall_bridges import TRUNK, UP_LIMIT_S, engine, wait_connected

NUMBER = "+15550009011"
SETTLE_S = 1.5
IDLE_S = 5.0
WARM_SHARE = 10
"""One in so many comes and goes before anything is weighed, so that pools of memory have their size."""


def far(end: End) -> None:
    with engine() as where:
        say(listening=where)
        sys.stdin.read()


def near(end: End) -> None:
    from clutchcall.voice import Voice

    cycles = int(end.options.get("cycles", 0))
    bridges = 1 if cycles else int(end.options["bridges"])
    with Voice(*end.options["where"].split(","), pool=int(end.options["pool"])) as voice:
        calls = [voice.calls.originate(to=NUMBER, from_="+15550000000", trunk_id=TRUNK).sid for _ in range(bridges)]

        def attach(sid: str) -> object:
            return voice.audio_bridge.attach(sid, on_uplink=lambda frame, ts_us: None)

        if cycles:
            found = grow(attach, calls[0], cycles)
        else:
            warm = [attach(sid) for sid in calls[: max(1, bridges // WARM_SHARE)]]
            wait_connected(warm, UP_LIMIT_S)
            for bridge in warm:
                bridge.close()
            found = weigh(attach, calls)
    say(done=True, **found)


def weigh(attach: object, calls: list[str]) -> dict[str, float]:
    time.sleep(SETTLE_S)
    ask()
    before_kib, times_ms, begun = rss_kib(), [], time.monotonic()
    bridges = []
    for sid in calls:
        at = time.monotonic()
        bridges.append(attach(sid))
        times_ms.append(1000 * (time.monotonic() - at))
    attached_s = time.monotonic() - begun
    wait_connected(bridges, UP_LIMIT_S)
    up_s = time.monotonic() - begun
    time.sleep(SETTLE_S)
    after_kib = rss_kib()
    engine = ask()
    used, at = cpu_s(), time.monotonic()
    time.sleep(IDLE_S)
    idle = (cpu_s() - used) / (time.monotonic() - at)
    engine_idle = ask()["engine_cpu_us"] / 1e6 / IDLE_S
    for bridge in bridges:
        bridge.close()
    times_ms.sort()
    return {
        "kib_each": (after_kib - before_kib) / len(calls),
        "idle_percent": 100 * idle,
        "engine_idle_percent": 100 * engine_idle,
        "attach_p50_ms": times_ms[len(times_ms) // 2],
        "attach_p99_ms": times_ms[len(times_ms) * 99 // 100],
        "attached_s": attached_s,
        "up_s": up_s,
        "s_per_1000": 1000 * up_s / len(calls),
        "engine_rss_kib": engine["engine_rss_kib"],
    }


def grow(attach: object, sid: str, cycles: int) -> dict[str, float]:
    """The first tenth fills what keeps a size; the rest must leave nothing."""
    found: dict[str, float] = {}
    warm = max(1, cycles // WARM_SHARE)
    for at in range(cycles):
        if at == warm:
            found = counts()
        attach(sid).close()
    time.sleep(SETTLE_S)
    after = counts()
    return {
        "cycles": cycles,
        "rss_kib": after["rss"],
        "grown_kib": after["rss"] - found["rss"],
        "grown_files_threads": max(after["files"] - found["files"], after["threads"] - found["threads"]),
    }


def ask() -> dict[str, float]:
    """What the engine's process used since it was last asked."""
    say(ask=True)
    return hear()


def counts() -> dict[str, float]:
    time.sleep(SETTLE_S)
    return {
        "rss": rss_kib(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def rss_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    given = End(sys.argv[1:], limit_s=600)
    far(given) if given.is_far else near(given)
