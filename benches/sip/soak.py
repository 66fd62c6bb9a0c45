"""Ten thousand short calls, one after the other at a steady rate: what memory is left behind.

On the wire the calls of the last 64·T1 are not over: their transactions wait for what may be repeated (RFC 3261
§17.1.2.2, §17.2.2), so memory grows for so long, and what it is from then on is compared.
"""

from __future__ import annotations

import os
import statistics
import threading
import time

import calls
from far import Serving
from load import Run, carried
from table import Row, show

COUNT, PER_S, HOLD_MS = 10_000, 50.0, 200
STEPS = 20
LOOK_S = 0.1
WARM_S = 40.0
"""More than 64·T1, and than the first call needed."""
MEMORY = {"RSS MB": "VmRSS", "anonymous MB": "RssAnon"}
LEAST_ROWS = 4
"""Behind the warm-up, for a verdict."""


def soak(run: Run) -> None:
    count, per_s = run.options.count or COUNT, run.options.per_s or PER_S
    size, rows, warm = max(1, count // STEPS), list[tuple[str, Row]](), 0
    with carried(run, 1, hold=HOLD_MS) as engine:
        watch, load = calls.Watch(engine), calls.Load(engine, per_s, count)
        rows.append(noted(engine, "before the first"))
        asking, begun = threading.Thread(target=load.run), time.monotonic()
        asking.start()
        for done in range(size, count + 1, size):
            before = engine.used.now()["cpu_us"]
            wait_ended(watch, done, begun + done / per_s + calls.LAST_CALLS_S)
            cpu_ms = (engine.used.now()["cpu_us"] - before) / 1000 / size
            rows.append(noted(engine, f"{done:,}", **{"CPU ms/call": cpu_ms}))
            warm = warm or (len(rows) - 1 if time.monotonic() - begun > WARM_S else 0)
        asking.join()
        failed = calls.failures(watch, load)
        time.sleep(WARM_S)
        rows.append(noted(engine, f"{WARM_S:.0f} s later"))
    show(f"short calls, {per_s:g} a second", list(rows[1][1]), rows)
    print(f"{len(failed)} of {count} calls failed {sorted(set(failed))[:5]}")
    print(f"a request came {load.late_s:.2f} s after its time at the latest")
    run.found.note(soak_failed=len(failed))
    judge(run, rows[1:-1], warm - 1)


def wait_ended(watch: calls.Watch, count: int, until: float) -> None:
    while watch.ended() < count and time.monotonic() < until:
        time.sleep(LOOK_S)


def noted(engine: Serving, name: str, **more: float) -> tuple[str, Row]:
    memory = {name: engine.used.rss_kib(line) / 1024 for name, line in MEMORY.items()}
    files = len(os.listdir(f"/proc/{engine.used.pid}/fd"))
    row = {**memory, "files": files, "tasks": engine.metrics()["clutchcall_tasks"], **more}
    print(f"  {name}: " + ", ".join(f"{name} {value:.2f}" for name, value in row.items()), flush=True)
    return name, row


def judge(run: Run, rows: list[tuple[str, Row]], warm: int) -> None:
    """`warm`: the row with which the warm-up was over."""
    behind = [row["RSS MB"] for _, row in rows[warm:]]
    if warm < 0 or len(behind) < LEAST_ROWS:
        print("whether memory is flat is not said: it took hardly longer than the wire remembers its calls")
        return
    quarter = len(behind) // 4
    first, last = statistics.median(behind[:quarter]), statistics.median(behind[-quarter:])
    print(f"behind the warm-up: {min(behind):.1f} to {max(behind):.1f} MB; quarters: {first:.1f} and {last:.1f} MB")
    run.found.note(soak=last / first)
