"""What the tests with killed, cut and stopped processes share: calls that echo, and what is looked at afterwards.

A frame that comes back was carried both ways. What is measured is printed (`pytest -s`); asserted are counts, and ages
with room for a machine that does other work.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

from listening import is_calm
from processes import Process

ECHO = "+15550009012"
BRIDGES = int(os.environ.get("CLUTCHCALL_FAULT_BRIDGES", "10"))
FRAME_US = 20_000
# What may leave before its time (product: 60 ms ahead), one tick of the echo, and one of whoever reads the clock.
AHEAD_US = 60_000 + 2 * FRAME_US
# Generous, for machines with other work; what was measured is printed.
BACK_WITHIN_US = 10_000_000
STALE_US = 600_000
PAUSE_US = 1_000_000


def now_us() -> int:
    return time.monotonic_ns() // 1000


def talking(child: Process, count: int, seconds: float) -> list[str]:
    """That many calls, heard in both directions."""
    sids: list[str] = child.ask("originate", count=count, to=ECHO)
    child.ask("attach", sids=sids)
    child.ask("in_state", state="connected")
    child.ask("say", seconds=seconds)
    hear_more(child)
    return sids


def hear_more(child: Process, count: int = 25, since: int | None = None) -> list[int]:
    """Waits for frames of every call; when the first one of each came."""
    came: dict[str, int | None] = child.ask("heard_since", moment_us=since or now_us(), count=count)
    silent = [sid for sid, at in came.items() if at is None]
    assert not silent, f"{len(silent)} of {len(came)} calls are silent: {child.ask('told')[silent[0]]}"
    return [at for at in came.values() if at is not None]


def figures(what: str, times_us: list[int]) -> None:
    least, middle, most = (sorted(times_us)[i] / 1000 for i in (0, len(times_us) // 2, -1))
    print(f"{what}: {least:.0f} / {middle:.0f} / {most:.0f} ms (least, median, most of {len(times_us)})")


def check_unique(told: dict[str, Any]) -> None:
    """Nothing twice, on any call."""
    for sid, call in told.items():
        for column in (1, 2):
            values = [heard[column] for heard in call["heard"]]
            assert len(values) == len(set(values)), (sid, column)


def check_order(told: dict[str, Any]) -> None:
    """Nothing twice, on any call; where the machine keeps time, nothing out of its order."""
    check_unique(told)
    for sid, call in told.items():
        for column in (1, 2) if is_calm() else ():
            values = [heard[column] for heard in call["heard"]]
            assert values == sorted(values), (sid, column)


def ages(told: dict[str, Any], since_us: int = 0) -> tuple[int, int]:
    """How late the latest frame since came, of all calls: after the engine stamped it, after it was due to be said."""
    heard, said = [], []
    for call in told.values():
        offset = min(at - stamp for at, stamp, _ in call["heard"])
        since = [row for row in call["heard"] if row[0] >= since_us]
        heard += [(at - stamp - offset, at) for at, stamp, _ in since]
        said += [at - call["first_us"] - number * FRAME_US for at, _, number in since]
    late, at = max(heard)
    if since_us:
        print(f"the latest came {late / 1000:.0f} ms late, {(at - since_us) / 1000:.0f} ms after that moment")
    return late, max(said)


def check_fresh(told: dict[str, Any], moment_us: int) -> None:
    """What came since was said since, by both clocks: the engine's, which stamps, and that of the one who spoke."""
    for sid, call in told.items():
        before = [at - stamp for at, stamp, _ in call["heard"] if at < moment_us]
        # The engine's clock may count from another moment; the quickest frame tells from which.
        offset = min(before)
        for at, stamp, number in call["heard"]:
            if at >= moment_us:
                assert stamp + offset >= moment_us - FRAME_US, (sid, "replayed by the engine", number)
                assert call["first_us"] + number * FRAME_US >= moment_us - AHEAD_US, (sid, "replayed by us", number)


def pauses(told: dict[str, Any]) -> list[int]:
    """The longest silence of each call."""
    heard = [[at for at, *_ in call["heard"]] for call in told.values()]
    return [max(later - earlier for earlier, later in itertools.pairwise(times)) for times in heard]


def reconnects(told: dict[str, Any]) -> list[int]:
    return [call["reconnects"] for call in told.values()]
