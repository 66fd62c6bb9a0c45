"""R4: 100 bridges carry frames both ways; in every other window one of them sleeps 100 ms in each callback.

The others' latency, by what `clutchcall_bridges` times, must not notice. `bridges` and `rounds` are options.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time

from channel import FRAME_NS, End, hear, now_ns, quantiles, say
from clutchcall_bridges import Echoes, far, publish, up

SLEEP_S = 0.1
PAUSE_S = 0.7
"""Between windows: what was late of one is not heard in the next."""


def near(end: End) -> None:
    end.channels = int(end.options["bridges"])
    echoes = Echoes()
    state = {"sleeps": False}

    def slow(frame: bytes, ts_us: int) -> None:
        if state["sleeps"]:
            time.sleep(SLEEP_S)

    found: dict[bool, list[float]] = {False: [], True: []}
    with up(end, [slow, *[echoes.take] * (end.channels - 1)]) as bridges:
        windows = 2 * int(end.options["rounds"])
        begun_ns = now_ns() + FRAME_NS
        whole_s, end.secs = end.secs, windows * (end.secs + PAUSE_S) + 1
        calls = [bridge.publish_downlink for bridge in bridges]
        publisher = threading.Thread(target=publish, args=(end, calls, begun_ns))
        publisher.start()
        for window in range(windows):
            state["sleeps"] = window % 2 == 1
            time.sleep(PAUSE_S)
            echoes.heard = []
            time.sleep(whole_s)
            p99_us = quantiles(echoes.up())["p99_us"]
            found[state["sleeps"]].append(p99_us)
            say(sleeps=state["sleeps"], p99_us=p99_us)
        state["sleeps"] = False
        publisher.join()
    say(
        done=True,
        alone_p99_us=statistics.median(found[False]),
        beside_p99_us=statistics.median(found[True]),
    )


if __name__ == "__main__":
    given = End(sys.argv[1:], limit_s=600)
    if given.is_far:
        far(given)
    else:
        near(given)
        hear()
