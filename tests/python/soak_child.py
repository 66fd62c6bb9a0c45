"""A process with an engine and its user, in which calls or bridges come and go, and what it held before and after.

`python soak_child.py calls|bridges WARM_UP COUNT PER_SECOND STATE`, where a pace of 0 is none.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import time
import urllib.request
from pathlib import Path

from clutchcall.engine import Engine
from clutchcall.voice import Voice

KEY, ORG, TRUNK = "tqs_live_of_a_soak_and_all_of_it", "org_soak", "trunk_main"
# Answered, and silent.
NUMBER = "+15550009011"
LIMIT_S = 60.0
LOOKS = 20
"""So many in a row must agree: what a client gave up goes a moment later."""


def figure(engine: Engine, name: str) -> int:
    with urllib.request.urlopen(f"{engine.base_url}/metrics", timeout=LIMIT_S) as answer:
        found = re.search(rf"^{re.escape(name)} (\d+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None, name
    return int(found[1])


def held(engine: Engine) -> dict[str, int]:
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "files": len(os.listdir("/proc/self/fd")),
        "tasks": figure(engine, "clutchcall_tasks"),
        "calls": figure(engine, "clutchcall_calls_active"),
    }


def forgotten(engine: Engine) -> None:
    """Waits until neither side remembers a SIP transaction. That takes 64·T1 (RFC 3261 §17), longer than a warm-up: of
    its calls less would be in memory than of a long run's (decision 0156).
    """
    until = time.monotonic() + LIMIT_S
    for state in ("running", "remembered"):
        while kept := figure(engine, f'clutchcall_sip_transactions{{state="{state}"}}'):
            assert time.monotonic() < until, f"{kept} SIP transactions are {state} after {LIMIT_S} s"
            time.sleep(0.5)


def settled(engine: Engine, like: dict[str, int] | None) -> dict[str, int]:
    """What is held once nothing moves any more, and no more than `like`; what it is by then, where it stays more."""
    until, looks, last = time.monotonic() + LIMIT_S, 0, held(engine)
    while looks < LOOKS or (like and any(last[name] > number for name, number in like.items())):
        now = held(engine)
        looks, last = (looks + 1 if now == last else 0), now
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    return last


def rss_kib() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def come_and_go(voice: Voice, what: str, count: int, per_second: int) -> None:
    begun = time.monotonic()
    lives = None if what == "calls" else voice.calls.originate(to=NUMBER, from_="+15550000000", trunk_id=TRUNK)
    for n in range(count):
        if per_second:
            time.sleep(max(0.0, begun + n / per_second - time.monotonic()))
        if lives is None:
            voice.calls.originate(to=NUMBER, from_="+15550000000", trunk_id=TRUNK).hangup()
        else:
            voice.audio_bridge.attach(lives.sid, on_uplink=lambda frame, ts_us: None).close()
    if lives is not None:
        lives.hangup()


def main() -> None:
    what, (warm_up, count, per_second) = sys.argv[1], map(int, sys.argv[2:5])
    config = {
        "state": sys.argv[5],
        "api": {"listen": "127.0.0.1:0"},
        "relay": {"listen": "127.0.0.1:0"},
        "keys": [{"org": ORG, "key": KEY}],
        "trunks": {TRUNK: {"kind": "phone", "max_cps": 10_000}},
        "phone": {"ring_ms": 0},
        "limits": {"requests_per_s": 100_000, "request_burst": 100_000},
    }
    with Engine(config) as engine, Voice(engine.base_url, KEY, ORG) as voice:
        come_and_go(voice, what, warm_up, per_second)
        if per_second:
            forgotten(engine)
        before = settled(engine, None) | {"rss_kib": rss_kib()}
        begun = time.monotonic()
        come_and_go(voice, what, count, per_second)
        took_s = time.monotonic() - begun
        if per_second:
            forgotten(engine)
        like = {name: number for name, number in before.items() if name != "rss_kib"}
        after = settled(engine, like) | {"rss_kib": rss_kib()}
    print(json.dumps({"before": before, "after": after, "took_s": took_s}))


if __name__ == "__main__":
    main()
