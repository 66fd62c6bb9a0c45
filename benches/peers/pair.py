"""Runs the two processes of a pair, one core each, and makes a row of what they report; finds how many channels fit.

A relay, where there is one, is a third process on the far end's core.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NEAR_CORE, FAR_CORE = 0, 1
LEAD_NS = 400_000_000
UP_LIMIT_S = 120.0
QUIET_CORES = 0.2
"""A run beside more other work than this is repeated, where somebody waits for quiet."""
LATE_PERCENT = 1.0
"""A number of channels fits when fewer frames than this are late or lost."""
BISECTIONS = 3

Row = dict[str, float]


class Failed(Exception):
    """A process ended, or did not get so far."""


@dataclass
class Peer:
    """How to start both ends of something, and its relay."""

    name: str
    command: list[str]
    """Program and what comes before role, channels, seconds and port."""
    options: list[str] = field(default_factory=list)
    relay: Callable[[int], contextlib.AbstractContextManager[Relay]] | None = None
    """Starts the relay on this port."""
    missing: str | None = None
    """Why it can't be measured here."""


@dataclass
class Relay:
    process: subprocess.Popen[str]
    options: list[str] = field(default_factory=list)


def start(command: list[str], core: int) -> subprocess.Popen[str]:
    first = ["taskset", "-c", str(core)] + (["nice", "-n", "-20"] if os.geteuid() == 0 else [])
    return subprocess.Popen(
        [*first, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("PEERS_ERRORS") else subprocess.DEVNULL,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def line_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    for text in process.stdout:
        # Our own relay writes JSON without a mark.
        if text.startswith(("@", "{")):
            line: dict[str, Any] = json.loads(text.removeprefix("@"))
            return line
    raise Failed(f"a process ended: status {process.wait(5)}; PEERS_ERRORS=1 shows what it says")


def tell(process: subprocess.Popen[str], **line: object) -> None:
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(line) + "\n")
        process.stdin.flush()


def busy_s() -> float:
    """Seconds of all cores that were not idle, since boot (proc(5), `/proc/stat`)."""
    user, nice, system, _idle, _wait, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")


def packets() -> int:
    """UDP datagrams and TCP segments that this machine sent; a train that is cut later (GSO) is one."""
    found = {}
    lines = Path("/proc/net/snmp").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        found.update(
            {names.split()[0] + name: value for name, value in zip(names.split(), values.split(), strict=True)}
        )
    return int(found["Udp:OutDatagrams"]) + int(found["Tcp:OutSegs"])


def usage_of(process: subprocess.Popen[str]) -> Row:
    """CPU time (proc(5), `schedstat`) and voluntary switches of all threads of a process."""
    cpu_ns = sleeps = 0
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            cpu_ns += int((task / "schedstat").read_text().split()[0])
            status = (task / "status").read_text()
            sleeps += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return {"cpu_us": cpu_ns / 1000, "sleeps": sleeps}


def wait_for_quiet(limit_s: float) -> float:
    """Cores that others use; returns as soon as they are few, or the time is over."""
    until = time.monotonic() + limit_s
    while True:
        before = busy_s()
        time.sleep(0.5)
        used = (busy_s() - before) / 0.5
        if used < QUIET_CORES or time.monotonic() > until:
            return used


@contextlib.contextmanager
def limited(processes: list[subprocess.Popen[str]], secs: float) -> Iterator[None]:
    """Whatever they do, they end."""
    timer = threading.Timer(UP_LIMIT_S + 4 * secs, lambda: [process.kill() for process in processes])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        for process in reversed(processes):
            end(process)


def once(peer: Peer, channels: int, secs: float, port: int) -> Row:
    """One run. A row's counts are per frame, both ends together."""
    processes: list[subprocess.Popen[str]] = []
    with limited(processes, secs), contextlib.ExitStack() as stack:
        relay = stack.enter_context(peer.relay(port)) if peer.relay else None
        words = [str(channels), str(secs), str(port), *peer.options, *(relay.options if relay else [])]
        far = start([*peer.command, "far", *words], FAR_CORE)
        processes.append(far)
        where = line_of(far)["listening"]
        if isinstance(where, list):
            words.append(f"where={','.join(where)}")
        near = start([*peer.command, "near", *words], NEAR_CORE)
        processes.append(near)
        for process in (near, far):
            line_of(process)
        from_ns = time.monotonic_ns() + LEAD_NS
        for process in (far, near):
            tell(process, from_ns=from_ns)
        time.sleep(LEAD_NS / 1e9)
        before, busy, sent = usage_of(relay.process) if relay else {}, busy_s(), packets()
        reports = [line_of(far), line_of(near)]
        sent, busy = packets() - sent, busy_s() - busy
        relayed = {name: value - before[name] for name, value in usage_of(relay.process).items()} if relay else {}
        row = figures(channels, reports, relayed)
        others_s = busy - (row["cpu"] * row["heard"] + relayed.get("cpu_us", 0)) / 1e6
        row["others"] = max(0.0, others_s) / (secs + 0.6)
        row["packets"] = sent / max(1, row["heard"])
        for process in (far, near):
            tell(process)
        return row


def figures(channels: int, reports: list[dict[str, Any]], relayed: Row) -> Row:
    total = {name: sum(report[name] for report in reports) for name in ("sent", "heard", "late", "cpu_us", "sleeps")}
    heard, lost = max(1, total["heard"]), max(0, total["sent"] - total["heard"])
    row = {
        "channels": channels,
        "heard": heard,
        "late %": 100 * (total["late"] + lost) / max(1, total["sent"]),
        "lost %": 100 * lost / max(1, total["sent"]),
        "cpu": total["cpu_us"] / heard,
        "wake-ups": total["sleeps"] / heard,
        "p50 µs": reports[-1]["p50_us"],
        "p99 µs": reports[-1]["p99_us"],
    }
    if relayed:
        row |= {"relay": relayed["cpu_us"] / heard, "relay wake-ups": relayed["sleeps"] / heard}
    return row


def most(run: Callable[[int], Row], first: int, cap: int) -> Row:
    """The row of the greatest number of channels that fits: doubled until it does not, then halved in between."""
    best: Row = {}
    bad, channels = 0, first
    while channels <= cap:
        row = run(channels)
        if row["late %"] >= LATE_PERCENT:
            bad = channels
            break
        best, channels = row, channels * 2
    if not best and first > 1:
        return most(run, max(1, first // 4), first - 1)
    good = int(best.get("channels", 0))
    for _ in range(BISECTIONS if bad else 0):
        middle = (good + bad) // 2
        if middle in (good, bad):
            break
        row = run(middle)
        if row["late %"] < LATE_PERCENT:
            best, good = row, middle
        else:
            bad = middle
    return best
