"""The parts of the bench that measure calls: each starts what it needs, shows its table and ends it all."""

from __future__ import annotations

import os
import time

import calls
import floors
from far import begin, end, port
from load import COLUMNS, LATE_PERCENT, Load, Run, carried, load
from table import Row, quantile, show
from wire import Wire

AUDIO_THREADS = "audio_threads = 2"
"""Two hundred transcoded calls are the work of one core in libopus alone."""
CODED_COLUMNS = (*COLUMNS, "downlink dropped", "lost on the line")


def passed(run: Run) -> None:
    shown, fits = [], 0
    with load(run, "passed") as made:
        for count in run.counts([50, 100, 200, 300, 400]):
            made.more(count - made.calls)
            row = made.rows()
            fits = count if row["late %"] < LATE_PERCENT else fits
            shown.append((str(count), row))
        made.hang_up()
    shown.append(floors.gives_back(run, made.calls))
    show("calls passed through, both cores", COLUMNS, shown)
    run.found.note(passed=fits)


def most(run: Run) -> None:
    shown, fits = [], 0
    with load(run, "passed", "0", "1") as made:
        for count in run.counts([100, 200, 300, 350, 400, 450, 500]):
            made.more(count - made.calls)
            row = made.rows()
            shown.append((str(count), row))
            if row["late %"] >= LATE_PERCENT:
                break
            fits = count
        made.hang_up()
    shown.append(floors.gives_back(run, made.calls))
    show("calls passed through, engine and user on one core", COLUMNS, shown)
    run.found.note(most=fits)


def coded(run: Run) -> None:
    shown = []
    with load(run, "coded", top=AUDIO_THREADS) as made:
        for count in run.counts([50, 100, 200]):
            row = transcoded(made, count)
            shown.append((str(count), row))
            if row["late %"] < LATE_PERCENT:
                lost = row["lost"] + row["downlink dropped"]
                run.found.note(coded=count, coded_lost=lost, coded_mb=row["MB/call"])
        records = made.hang_up()
        shown[-1][1]["lost on the line"] = records["packetsLost"]
        if "coded_lost" in run.found.figures:
            # Records tell of whole calls, those beyond what fits too.
            run.found.figures["coded_lost"] += records["packetsLost"]
    shown += [floors.gives_back(run, made.calls), *floors.codec()]
    show("calls transcoded both ways, both cores", CODED_COLUMNS, shown)


def transcoded(made: Load, count: int) -> Row:
    """Windows with so many calls."""
    made.more(count - made.calls)
    before = made.engine.metrics()
    row = made.rows()
    dropped = "clutchcall_downlink_dropped_total"
    return row | {"downlink dropped": made.engine.metrics()[dropped] - before[dropped]}


def latency(run: Run) -> None:
    program, media, shown = run.program("rtp"), port(), []
    limit_s = str(60 + 4 * run.options.secs * run.options.rounds)
    sender = begin([program, "stamp", str(media), limit_s])
    try:
        with load(run, "stamped", audio=media) as made:
            for count in run.counts([50]):
                made.more(count - made.calls)
                row = made.rows()
                shown.append((str(count), row))
                if count == 50:
                    run.found.note(latency_p50=row["p50 µs"] / 1000, latency_p99=row["p99 µs"] / 1000)
            made.hang_up()
    finally:
        end(sender)
    shown.append(floors.gives_back(run, made.calls))
    show("calls, from the sending of a packet to its callback", COLUMNS, shown)


def rate(run: Run) -> None:
    count, per_s = run.options.count or 3000, run.options.per_s or 50.0
    with carried(run, 1, hold=2000) as engine:
        watch = calls.Watch(engine)
        wire = Wire(run.watched) if os.geteuid() == 0 and run.options.transport == "udp" else None
        load_ = calls.Load(engine, per_s, count)
        before, begun = engine.used.now(), time.monotonic()
        load_.run()
        never = calls.wait_ended(watch, load_)
        took, used = time.monotonic() - begun, engine.used.now()["cpu_us"] - before["cpu_us"]
        if wire:
            wire.close()
        failed = calls.failures(watch, load_)
        print(f"\n{count} calls, {per_s:g} a second, of 2 s each: {len(failed)} failed, {never} never ended")
        print(f"rows missed {watch.missed}; a request came {1000 * load_.late_s:.1f} ms after its time at the latest")
        print(f"{used / count:.0f} µs of CPU of the engine per call; it took {took:.1f} s")
        for why in sorted(set(failed))[:10]:
            print(f"  {failed.count(why)} × {why}")
        run.found.note(failed=len(failed))
        if wire is None:
            print("what set-up cost is not measured: watching loopback needs root, and SIP over UDP")
            return
        found = calls.set_up(wire, watch, load_)
        rows = [
            (
                name,
                {
                    "p50 ms": quantile(took, 50) / 1e6,
                    "p99 ms": quantile(took, 99) / 1e6,
                    "most ms": quantile(took, 100) / 1e6,
                    "calls": len(took),
                },
            )
            for name, took in found.items()
        ]
        show("set-up", ("p50 ms", "p99 ms", "most ms", "calls"), rows)
        run.found.note(setup_p50=rows[-1][1]["p50 ms"], setup_p99=rows[-1][1]["p99 ms"])
