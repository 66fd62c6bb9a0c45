"""P6: pooled bridges hear frames while a Python thread of their own process computes without a pause.

The frames are said ahead: a bridge's playout queue paces them (`publish_downlink` takes 60 s at once), the far end's
phone gives them back, and they are timed as `clutchcall_bridges` says. Windows with and without the
computing thread alternate. `bridges`, `rounds`, `pool` and `delivery` are options.
"""

from __future__ import annotations

import sys
import threading
import time

from channel import LATE_NS, End, computing, frame, hear, quantiles, say
from clutchcall_bridges import Echoes, far, up

PAUSE_S = 1.0
"""Before a window counts: the frames of all begin to flow, or those of the last window end."""


def near(end: End) -> None:
    bridges = int(end.options["bridges"])
    echoes = Echoes()
    found: dict[bool, list[list[int]]] = {False: [], True: []}
    with up(end, [echoes.take] * bridges) as attached:
        for window in range(2 * int(end.options["rounds"])):
            is_busy = window % 2 == 1
            for _ in range(round((end.secs + 2 * PAUSE_S) * 50)):
                for channel, bridge in enumerate(attached):
                    bridge.publish_downlink(frame(channel, 0))
            time.sleep(PAUSE_S)
            ending = threading.Event()
            if is_busy:
                computing(ending)
                time.sleep(PAUSE_S / 5)
            echoes.heard = []
            time.sleep(end.secs)
            found[is_busy].append(echoes.up())
            ending.set()
            say(computes=is_busy, heard=len(found[is_busy][-1]), **quantiles(found[is_busy][-1]))
            time.sleep(1.5 * PAUSE_S)
        lost = sum(bridge.stats().dropped for bridge in attached)
    say(done=True, dropped=lost, **told("", found[False]), **told("busy_", found[True]))


def told(prefix: str, windows: list[list[int]]) -> dict[str, float]:
    """Of all windows together."""
    all_of = [took for window in windows for took in window]
    late = sum(1 for took in all_of if took > LATE_NS)
    figures = {**quantiles(all_of), "late": late, "heard": len(all_of)}
    return {prefix + name: value for name, value in figures.items()}


if __name__ == "__main__":
    given = End(sys.argv[1:], limit_s=600)
    if given.is_far:
        far(given)
    else:
        near(given)
        hear()
