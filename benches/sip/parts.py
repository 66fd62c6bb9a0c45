"""The parts of the bench: each starts what it needs, measures, shows its table and ends it all."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import calls
from far import (
    HERE,
    RTP_FIRST,
    Carrier,
    Serving,
    Syscalls,
    Used,
    begin,
    busy_s,
    end,
    line_of,
    port,
    tell,
)
from table import Found, Row, middle, quantile, show
from wire import Wire

CARRIERS = 4
"""SIPps of a load: each gives back what it hears with one thread and one socket."""
LEAD_NS = 400_000_000
LATE_PERCENT = 1.0
WATCHED_S = 2.0
WARM_S = 40.0
"""More than 64·T1."""
SUMMED = ("lost", "lost by SIPp", "lost at our sockets", "missing", "dropped")
MEMORY = {"RSS MB": "VmRSS", "anonymous MB": "RssAnon"}
COLUMNS = (
    "engine %/call",
    "user %/call",
    "SIPp %/call",
    "engine syscalls/frame",
    "engine wake-ups/frame",
    "late %",
    "lost",
    "lost by SIPp",
    "silent ticks",
    "p50 µs",
    "p99 µs",
    "MB/call",
    "user MB/call",
    "others",
)


class Missing(Exception):
    """A part that can't be measured here."""


class Run:
    def __init__(self, options: argparse.Namespace, python: str, made: Path, found: Found) -> None:
        self.options, self.python, self.folder, self.found = options, python, made, found
        self.watched = 0
        """The carrier's port, where SIP is looked at."""

    def program(self) -> Path:
        built = self.folder / "rtp"
        if not built.exists():
            if shutil.which("cc") is None:
                raise Missing("there is no C compiler")
            subprocess.run(["cc", "-O2", "-o", built, HERE / "rtp.c"], check=True)
        return built

    def counts(self, own: list[int]) -> list[int]:
        return list(self.options.calls or own)


class Load:
    """SIPps, an engine with a trunk to each, and a user."""

    def __init__(
        self, run: Run, mode: str, cores: tuple[str | None, str | None] = (None, None), **keys: object
    ) -> None:
        if shutil.which("sipp") is None:
            raise Missing("sipp is not installed: make packages")
        ours, theirs = cores
        self.run, self.calls, self.sids = run, 0, list[str]()
        top = str(keys.pop("top", ""))
        self.carriers = [Carrier(run.folder, nth, theirs, **keys) for nth in range(CARRIERS)]
        self.engine = Serving(run.python, run.folder, [carrier.port for carrier in self.carriers], ours, top=top)
        options = {"where": self.engine.where, "trunks": self.engine.trunks, "mode": mode}
        self.user = begin([run.python, "-u", HERE / "user.py", json.dumps(options)], ours)
        self.used = Used(self.user)
        time.sleep(0.5)
        self.base_kib = (self.engine.used.rss_kib(), 0)

    def more(self, count: int) -> None:
        if not self.base_kib[1]:
            self.base_kib = (self.engine.used.rss_kib(), self.used.rss_kib())
        tell(self.user, do="more", count=count)
        told = line_of(self.user)
        self.calls, self.sids = told["calls"], told["sids"]
        print(f"  {self.calls} calls are up ({count} more took {told['took_s']:.1f} s)", flush=True)

    def window(self, secs: float, watched: bool = False) -> Row:
        """One row; percents are of one core, and counts per frame of both directions. `watched`: system calls are
        counted, which costs some of what it counts.
        """
        from_ns = time.monotonic_ns() + LEAD_NS
        tell(self.user, do="measure", from_ns=from_ns, secs=secs)
        syscalls = Syscalls(self.engine.used.pid, secs)
        time.sleep(LEAD_NS / 1e9)
        if watched:
            syscalls.start()
        before = [used.now() for used in self.all()]
        drops, busy, begun = self.drops(), busy_s(), time.monotonic()
        time.sleep(secs)
        took, busy = time.monotonic() - begun, busy_s() - busy
        spent = [self.less(used.now(), was) for used, was in zip(self.all(), before, strict=True)]
        told = line_of(self.user)
        cores = [used["cpu_us"] / 1e6 / took for used in spent]
        frames = max(1.0, 100.0 * took * self.calls)
        base, user_base = self.base_kib
        return {
            "engine %/call": 100 * cores[0] / self.calls,
            "user %/call": 100 * cores[1] / self.calls,
            "SIPp %/call": 100 * sum(cores[2:]) / self.calls,
            "engine cores": cores[0],
            "user cores": cores[1],
            "engine syscalls/frame": syscalls.wait() / frames,
            "engine wake-ups/frame": spent[0]["sleeps"] / frames,
            "p50 µs": told["p50_us"],
            "p99 µs": told["p99_us"],
            "MB/call": (self.engine.used.rss_kib() - base) / 1024 / self.calls,
            "user MB/call": (self.used.rss_kib() - user_base) / 1024 / self.calls,
            "others": max(0.0, busy / took - sum(cores)),
            **self.losses(told, drops),
        }

    def losses(self, told: dict[str, Any], drops: tuple[int, int]) -> Row:
        sipp, ours = (now - was for now, was in zip(self.drops(), drops, strict=True))
        wanted = max(1, told["sent"] or told["heard"] + told["missed"])
        # Each tick for which nothing was there moves all frames behind it; a call at the edge of its tick has one.
        empty = max(0, told.get("silent", 0) - self.calls)
        lost = told["lost"] if "lost" in told else max(0, wanted - told["heard"])
        return {
            "late %": 100 * (told["late"] + lost + empty) / wanted,
            "lost": lost,
            "lost by SIPp": sipp,
            "lost at our sockets": ours,
            "silent ticks": told.get("silent", float("nan")),
            "missing": told["missing"],
            "dropped": told["dropped"],
        }

    def all(self) -> list[Used]:
        return [self.engine.used, self.used, *(carrier.used for carrier in self.carriers)]

    def drops(self) -> tuple[int, int]:
        return sum(carrier.drops() for carrier in self.carriers), self.engine.drops()

    @staticmethod
    def less(after: Row, before: Row) -> Row:
        return {name: after[name] - before[name] for name in after}

    def rows(self) -> Row:
        """The windows of one row: their medians, and what was lost in all of them."""
        found = []
        for _ in range(self.run.options.rounds):
            found.append(self.window(self.run.options.secs))
            shown = (
                "engine %/call",
                "user %/call",
                "late %",
                "lost",
                "lost by SIPp",
                "missing",
                "dropped",
                "p50 µs",
                "p99 µs",
            )
            print("   ", ", ".join(f"{name} {found[-1][name]:.2f}" for name in (*shown, "others")), flush=True)
        name = "engine syscalls/frame"
        # What is lost in one window is not made good by the others.
        lost = {name: sum(row[name] for row in found) for name in SUMMED}
        return middle(found) | lost | {name: self.window(WATCHED_S, watched=True)[name]}

    def hang_up(self) -> Row:
        """Ends all calls; what their records say."""
        tell(self.user, do="end")
        line_of(self.user)
        time.sleep(1.0)
        connection = self.engine.connect()
        rows = [self.engine.row(sid, connection) for sid in self.sids]
        lines = [row["rtp"] for row in rows if row.get("rtp")]
        total = {name: sum(line[name] for line in lines) for name in ("packetsReceived", "packetsSent", "packetsLost")}
        ended = sum(1 for row in rows if (row["status"], row["endReason"]) == ("completed", "normal"))
        shown = ", ".join(f"{name} {value}" for name, value in total.items())
        print(f"  records: {ended} of {len(rows)} completed and normal, {shown}", flush=True)
        return {**total, "ended": ended}

    def close(self) -> None:
        for process in (self.user, self.engine.process, *(carrier.process for carrier in self.carriers)):
            end(process)


@contextlib.contextmanager
def load(run: Run, mode: str, *cores: str, **keys: object) -> Iterator[Load]:
    made = Load(run, mode, (cores[0], cores[1]) if cores else (None, None), **keys)
    try:
        yield made
    finally:
        made.close()


def passed(run: Run) -> None:
    shown, fits = [], 0
    with load(run, "passed") as made:
        for count in run.counts([50, 100, 200, 300, 400]):
            made.more(count - made.calls)
            row = made.rows()
            fits = count if row["late %"] < LATE_PERCENT else fits
            shown.append((str(count), row))
        made.hang_up()
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
    show("calls passed through, engine and user on one core", COLUMNS, shown)
    run.found.note(most=fits)


def coded(run: Run) -> None:
    shown = []
    # Two hundred calls are the work of one core in libopus alone.
    with load(run, "coded", top="audio_threads = 2") as made:
        for count in run.counts([50, 100, 200]):
            made.more(count - made.calls)
            before = made.engine.metrics()
            row = made.rows()
            after = made.engine.metrics()
            row["downlink dropped"] = (
                after["clutchcall_downlink_dropped_total"] - before["clutchcall_downlink_dropped_total"]
            )
            shown.append((str(count), row))
            if row["late %"] < LATE_PERCENT:
                lost = row["lost"] + row["downlink dropped"]
                run.found.note(coded=count, coded_lost=lost, coded_mb=row["MB/call"], coded_cpu=row["engine %/call"])
        records = made.hang_up()
        shown[-1][1]["lost on the line"] = records["packetsLost"]
        if "coded_lost" in run.found.figures:
            # Records tell of whole calls, those beyond what fits too.
            run.found.figures["coded_lost"] += records["packetsLost"]
    show("calls transcoded both ways, both cores", (*COLUMNS, "downlink dropped", "lost on the line"), shown)


def latency(run: Run) -> None:
    program, media, shown = run.program(), port(), []
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
    show("calls, from the sending of a packet to its callback", COLUMNS, shown)


def rate(run: Run) -> None:
    count, per_s = run.options.count or 3000, run.options.per_s or 50.0
    with carried(run, 1, hold=2000) as engine:
        watch = calls.Watch(engine)
        wire = Wire(run.watched) if os.geteuid() == 0 else None
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
            print("what set-up cost is not measured: watching loopback needs root")
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


@contextlib.contextmanager
def carried(run: Run, carriers: int, hold: int) -> Iterator[Serving]:
    """An engine, and SIPps that answer and hang up after `hold` ms."""
    if shutil.which("sipp") is None:
        raise Missing("sipp is not installed: make packages")
    made = [Carrier(run.folder, nth, None, "leaves", hold=hold) for nth in range(carriers)]
    run.watched = made[0].port
    engine = Serving(run.python, run.folder, [carrier.port for carrier in made])
    try:
        yield engine
    finally:
        for process in (engine.process, *(carrier.process for carrier in made)):
            end(process)


def soak(run: Run) -> None:
    """Memory behind each thousand, once its calls are over. On the wire those of the last 64·T1 are not: their
    transactions wait for what may be repeated (RFC 3261 §17.1.2.2, §17.2.2), so memory grows for so long.
    """
    count, per_s = run.options.count or 10_000, run.options.per_s or 100.0
    step, rows = max(1, count // 10), list[tuple[str, Row]]()
    with carried(run, 1, hold=200) as engine:
        watch = calls.Watch(engine)
        begun, warm = time.monotonic(), 0

        def note(what: str, **more: float) -> None:
            memory = {name: engine.used.rss_kib(line) / 1024 for name, line in MEMORY.items()}
            files = len(os.listdir(f"/proc/{engine.used.pid}/fd"))
            row = {**memory, "files": files, "tasks": engine.metrics()["clutchcall_tasks"], **more}
            rows.append((what, row))
            print(f"  {what}: " + ", ".join(f"{name} {value:.2f}" for name, value in row.items()), flush=True)

        note("before the first")
        for done in range(step, count + 1, step):
            load_, ended, before = calls.Load(engine, per_s, step), watch.ended(), engine.used.now()["cpu_us"]
            load_.run()
            until = time.monotonic() + calls.LAST_CALLS_S
            while watch.ended() - ended < len(load_.numbers) and time.monotonic() < until:
                time.sleep(0.1)
            cpu_ms = (engine.used.now()["cpu_us"] - before) / 1000 / step
            note(f"{done:,}", failed=len(calls.failures(watch, load_)), **{"CPU ms/call": cpu_ms})
            warm = warm or (len(rows) - 1 if time.monotonic() - begun > WARM_S else 0)
        time.sleep(WARM_S)
        note(f"{WARM_S:.0f} s later")
    show("short calls, one after the other", list(rows[1][1]), rows)
    if warm and warm < len(rows) - 2:
        behind = [row["RSS MB"] for _, row in rows[warm + 1 : -1]]
        run.found.note(soak=max(behind) / rows[warm][1]["RSS MB"])
    else:
        print("whether memory is flat is not said: it took no longer than the wire remembers its calls")


def floor(run: Run) -> None:
    program, rows = run.program(), []
    for count in run.counts([200]):
        echo = begin([program, "echo", str(RTP_FIRST), str(count), "60"])
        line_of(echo)
        used = Used(echo)
        sender = begin([program, "stamp", str(port()), str(run.options.secs), str(RTP_FIRST), str(count)])
        time.sleep(0.5)
        before, begun = used.now(), time.monotonic()
        time.sleep(run.options.secs - 1.0)
        took, spent = time.monotonic() - begun, Load.less(used.now(), before)
        told = line_of(sender)
        end(sender)
        end(echo)
        row = {
            "%/call": spent["cpu_us"] / 1e4 / took / count,
            "µs per packet in and out": spent["cpu_us"] / took / count / 50,
            "wake-ups per packet": spent["sleeps"] / took / count / 50,
            "lost": told["sent"] - told["heard"],
        }
        rows.append((f"C gives packets back, {count} calls", row))
    show("floor", list(rows[0][1]), rows)
    bare_opus()


def bare_opus() -> None:
    import opus

    try:
        row = opus.measure()
    except opus.Missing as missing:
        print(f"bare libopus is not measured: {missing}; `cargo bench --bench audio` has it linked")
        return
    show("bare libopus, 8 kHz, complexity 5", list(row), [(opus.version(), row)])


def asterisk(run: Run) -> None:
    import asterisk as other

    other.measure(run, Missing)
