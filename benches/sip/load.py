"""What parts of the bench share: calls with their windows, and an engine whose carriers hang up by themselves."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from far import HERE, Carrier, Serving, Syscalls, Used, begin, busy_s, end, line_of, tell
from table import Found, Row, middle

CARRIERS = 4
"""SIPps of a load: each gives back what it hears with one thread and one socket."""
LEAD_NS = 400_000_000
LATE_PERCENT = 1.0
WATCHED_S = 2.0
SUMMED = ("lost", "lost by SIPp", "lost at our sockets", "missing", "dropped")
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

    def program(self, name: str) -> Path:
        """Of the file of this name in C."""
        built = self.folder / name
        if not built.exists():
            if shutil.which("cc") is None:
                raise Missing("there is no C compiler")
            subprocess.run(["cc", "-O2", "-o", built, HERE / f"{name}.c"], check=True)
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
        more = {name: str(keys.pop(name)) for name in ("top", "trunk", "sip") if name in keys}
        self.carriers = [Carrier(run.folder, nth, theirs, **keys) for nth in range(CARRIERS)]
        self.engine = Serving(run.python, run.folder, [carrier.port for carrier in self.carriers], ours, **more)
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
        """Ends all calls; what their records say. `lost`: calls that were not there any more, or did not end well."""
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
        return {**total, "lost": len(rows) - ended}

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


@contextlib.contextmanager
def carried(run: Run, carriers: int, hold: int) -> Iterator[Serving]:
    """An engine, and SIPps that answer and hang up after `hold` ms."""
    if shutil.which("sipp") is None:
        raise Missing("sipp is not installed: make packages")
    transport = run.options.transport
    made = [Carrier(run.folder, nth, None, "leaves", hold=hold, transport=transport) for nth in range(carriers)]
    run.watched = made[0].port
    ports = [carrier.port for carrier in made]
    engine = Serving(run.python, run.folder, ports, trunk=f'transport = "{transport}"\n')
    try:
        yield engine
    finally:
        for process in (engine.process, *(carrier.process for carrier in made)):
            end(process)
