"""The floors: what the same packets and the same codec cost with nothing of ours around them.

They are taken in the run that they stand beside. Each is a row for the table of a part, with the names of its columns.
"""

from __future__ import annotations

import time

import opus
from far import RTP_FIRST, Used, begin, end, line_of, port
from load import COLUMNS, Load, Run
from table import Row, show

UP_S = 0.5
LEAST_S = 1.0
CALLS = 200


def gives_back(run: Run, count: int) -> tuple[str, Row]:
    """C with a socket per call and `epoll`; its time is there and back, between two sockets."""
    program, secs = run.program("rtp"), max(LEAST_S, run.options.secs)
    limit_s = str(UP_S + secs + LEAST_S)
    echo = begin([program, "echo", str(RTP_FIRST), str(count), str(2 * LEAST_S + float(limit_s))])
    line_of(echo)
    used = Used(echo)
    sender = begin([program, "stamp", str(port()), limit_s, str(RTP_FIRST), str(count)])
    try:
        time.sleep(UP_S)
        before, begun = used.now(), time.monotonic()
        time.sleep(secs)
        took, spent = time.monotonic() - begun, Load.less(used.now(), before)
        told = line_of(sender)
    finally:
        end(sender)
        end(echo)
    row = {
        "engine %/call": spent["cpu_us"] / 1e4 / took / count,
        "engine wake-ups/frame": spent["sleeps"] / took / count / 100,
        "lost": told["sent"] - told["heard"],
        "p50 µs": told["p50_us"],
        "p99 µs": told["p99_us"],
    }
    return f"floor: C gives packets back, {count} calls", row


def codec() -> list[tuple[str, Row]]:
    """libopus alone: a frame encoded and one decoded."""
    try:
        row = opus.measure()
    except opus.Missing as missing:
        print(f"bare libopus is not measured: {missing}; `cargo bench --bench audio` has it linked")
        return []
    return [(f"floor: {opus.version()} alone, 8 kHz, complexity {opus.COMPLEXITY}", {"engine %/call": row["%/call"]})]


def floor(run: Run) -> None:
    rows = [gives_back(run, count) for count in run.counts([CALLS])]
    show("floors", COLUMNS, [*rows, *codec()])
