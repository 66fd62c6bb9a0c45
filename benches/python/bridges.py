"""What a frame costs through the public Python API, beside bare quinn and beside the harness's own Python.

```sh
python benches/python/bridges.py                                    # 1, 100 and 300 bridges, three rounds
python benches/python/bridges.py --bridges 300 --rounds 5 --secs 8
python benches/python/bridges.py --bridges 320 --pool 1 32 --delivery stream datagram
```

Two processes, bound to one core each: engine, relay and phone in one; the SDK with N bridges, and the Python code that
uses them, in the other. Each bridge publishes one 160-byte frame per 20 ms and the phone gives it back, so that N
frames go each way; a frame counts once per direction. Beside it, in the same rounds, `benches/floor` carries the same
load over bare quinn, with as many channels on a connection, and the harness alone does the same Python with nothing
beneath. A last round counts system calls with `perf stat`, where there is one.

By default each bridge has a connection of its own and sends on streams. `--pool 32` lets so many share one, as they do
by default towards our own relay.

Allocations and packets are counted by a build with the cargo feature `counted` (`make .venv-bench/wheel`). Name its
interpreter with `--counted-python` and it runs once among the others: its counts are shown, its times are not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WARM_S = 1.5
DELIVERIES = ("stream", "datagram")
COLUMNS = ("packets", "syscalls", "wake-ups", "allocations", "lost %", "p50 µs", "p99 µs", "others, cores")
DETAILS = (
    "turns",
    "wakes",
    "recv_calls",
    "send_calls",
    "packets_in",
    "packets_out",
    "timeouts",
    "sleeps",
    "allocations",
)

COUNTED = ("packets", "allocations")
"""What only a counting build knows."""

Row = dict[str, float]


class Case:
    """What is measured: the product or one of the things beside it, with so many bridges on a connection."""

    def __init__(self, kind: str, pool: int = 1, delivery: str = "stream") -> None:
        self.kind, self.pool, self.delivery = kind, pool, delivery

    def __str__(self) -> str:
        streams = self.delivery == "stream"
        # A bridge sends on streams unless told otherwise, the floor sends datagrams.
        words = {"clutchcall": "" if streams else " datagrams", "quinn": " streams" if streams else ""}
        return self.kind + words.get(self.kind, "") + (f" ×{self.pool}" if self.pool > 1 else "")


def cases(pools: list[int], deliveries: list[str]) -> list[Case]:
    ours = [Case("clutchcall", pool, delivery) for pool in pools for delivery in deliveries]
    floors = [Case("quinn", pool, delivery) for pool in pools for delivery in reversed(DELIVERIES)]
    return [*ours, *floors, Case("harness")]


class End:
    """One process of a pair."""

    def __init__(self, role: str, core: int, python: str = sys.executable, **job: object) -> None:
        command = [python, str(HERE / "ends.py"), role]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tell({"core": core, **job})

    def tell(self, line: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout
        line: dict[str, Any] = json.loads(self.process.stdout.readline() or '{"gone": true}')
        if "gone" in line:
            raise RuntimeError(f"an end of the pair is gone: {self.process.wait(10)}")
        return line

    def __enter__(self) -> End:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def busy_s() -> float:
    """Seconds of all cores that were not idle, since boot (proc(5), `/proc/stat`)."""
    user, nice, system, _idle, _wait, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")


def window(secs: float) -> dict[str, int]:
    from_ns = time.monotonic_ns() + int(WARM_S * 1e9)
    return {"from_ns": from_ns, "to_ns": from_ns + int(secs * 1e9)}


@contextlib.contextmanager
def counted_calls(ends: list[End], secs: float, wanted: bool) -> Iterator[list[float]]:
    """System calls of all threads of `ends` within the window, by the kernel's own tracepoint."""
    found: list[float] = []
    if not wanted:
        yield found
        return
    pids = ",".join(str(end.process.pid) for end in ends)
    command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", pids, "--delay", str(int(WARM_S * 1000))]
    perf = subprocess.Popen(
        [*command, "--timeout", str(int((WARM_S + secs) * 1000))], stderr=subprocess.PIPE, text=True
    )
    yield found
    _, text = perf.communicate(timeout=60)
    if match := re.search(r"(?m)^(\d+),,raw_syscalls", text):
        found.append(float(match[1]))


def figures(ends: list[dict[str, Any]], secs: float, before_s: float, calls: list[float]) -> Row:
    """Per frame, both ends together. The SDK's end is the last."""
    near = ends[-1]
    heard = near["heard"] / near["published"]
    frames = near["frames"]

    def each(name: str) -> float:
        return sum(end[name] for end in ends) / frames if all(name in end for end in ends) else float("nan")

    cpu_us = sum(end["user_us"] + end["system_us"] for end in ends)
    return {
        "cpu": cpu_us / frames,
        "packets": each("packets_out"),
        "syscalls": calls[0] / frames if calls else float("nan"),
        "wake-ups": each("sleeps"),
        "allocations": each("allocations"),
        "lost %": 100 * (1 - heard),
        # The harness calls itself: it has no latency.
        "p50 µs": near["p50_us"] if len(ends) > 1 else float("nan"),
        "p99 µs": near["p99_us"] if len(ends) > 1 else float("nan"),
        "others, cores": max(0.0, busy_s() - before_s - cpu_us / 1e6) / (secs + WARM_S),
    }


def clutchcall(case: Case, bridges: int, secs: float, count_calls: bool, details: bool, python: str) -> Row:
    limit_s = 120 + 2 * secs
    with End("engine", 1, python, limit_s=limit_s) as far:
        job = {**far.hear(), "limit_s": limit_s, "bridges": bridges, "pool": case.pool, "delivery": case.delivery}
        with End("sdk", 0, python, **job) as near:
            near.hear()
            before_s, at = busy_s(), window(secs)
            with counted_calls([far, near], secs, count_calls) as calls:
                far.tell(at)
                near.tell(at)
                ends = [far.hear(), near.hear()]
            row = figures(ends, secs, before_s, calls)
            explain(ends, ends[1]["frames"], details)
            return row


def explain(ends: list[dict[str, Any]], frames: float, details: bool) -> None:
    """What each end did per frame, and frames that went another way than to a callback."""
    for name, end in zip(("engine", "SDK"), ends, strict=True):
        shares = [f"{(end['user_us'] + end['system_us']) / frames:.2f} µs"]
        if details:
            shares += [f"{key} {end[key] / frames:.3f}" for key in DETAILS if key in end]
        print(f"    {name}: {', '.join(shares)}", flush=True)
    if notable := {
        name: ends[1][name] for name in ("dropped", "missing", "unheard", "offline", "behind") if ends[1][name]
    }:
        print(f"    {notable}", flush=True)


def harness(bridges: int, secs: float, count_calls: bool) -> Row:
    with End("harness", 0, limit_s=60 + 2 * secs, bridges=bridges) as near:
        near.hear()
        before_s, at = busy_s(), window(secs)
        with counted_calls([near], secs, count_calls) as calls:
            near.tell(at)
            return figures([near.hear()], secs, before_s, calls)


def floor_program() -> str:
    """Builds `benches/floor` and returns where it is."""
    command = [
        "cargo",
        "bench",
        "--locked",
        "--bench",
        "floor",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = [json.loads(line).get("executable") for line in lines]
    return next(path for path in reversed(found) if path)


def floor(program: str, case: Case, bridges: int, secs: float) -> Row:
    options = "streams" if case.delivery == "stream" else ""
    command = [program, "--case", f"quinn:{bridges}:{case.pool}:{options}", "--rounds", "1", "--secs", str(secs)]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    heading, values = ([cell.strip() for cell in table[at].strip("| ").split("|")] for at in (0, 2))
    # The name of the case stands in several cells.
    row = dict(zip(reversed(heading), reversed(values), strict=False))
    cpu = next(value for name, value in row.items() if name.startswith("CPU"))
    return {"cpu": float(cpu.split()[0]), **{name: float(row[name]) for name in COLUMNS}}


def show(rows: dict[tuple[str, int], list[Row]], pools: list[int]) -> None:
    """The least CPU of all rounds (other work only adds to it) and the median of everything; loss at its worst."""
    print(f"\n| what | bridges | CPU µs per frame, least (median) | {' | '.join(COLUMNS)} |")
    print("|---" * (3 + len(COLUMNS)) + "|")
    for (what, bridges), rounds in rows.items():
        cpu = [row["cpu"] for row in rounds]
        cells = [f"{min(cpu):.2f} ({statistics.median(cpu):.2f})"]
        for name in COLUMNS:
            values = [row[name] for row in rounds if row[name] == row[name]]
            middle = max(values) if name == "lost %" and values else statistics.median(values or [float("nan")])
            cells.append("–" if middle != middle else f"{middle:.0f}" if name.endswith("µs") else f"{middle:.2f}")
        print(f"| {what} | {bridges} | {' | '.join(cells)} |")
    print()
    for bridges in dict.fromkeys(bridges for _, bridges in rows):
        for name, of in (("least", min), ("median", statistics.median)):
            cpu = {what: of([row["cpu"] for row in rounds]) for (what, n), rounds in rows.items() if n == bridges}
            for pool in pools:
                compare(f"{bridges} bridges, {name}", cpu, pool)


def compare(heading: str, cpu: dict[str, float], pool: int) -> None:
    """Ours without the Python of the harness, times each floor with as many channels on a connection."""
    python = cpu.get("harness")
    for ours in (str(Case("clutchcall", pool, delivery)) for delivery in DELIVERIES):
        for beside in (str(Case("quinn", pool, delivery)) for delivery in reversed(DELIVERIES)):
            if python is not None and ours in cpu and beside in cpu:
                ratio = (cpu[ours] - python) / cpu[beside]
                print(
                    f"{heading}: {ours} ({cpu[ours]:.2f} - {python:.2f}) / {cpu[beside]:.2f} = {ratio:.2f} × {beside}"
                )


class Run:
    """One run of every case, at every number of bridges, per round."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.secs: float = arguments.secs
        self.details: bool = arguments.details
        self.bridges: list[int] = arguments.bridges
        self.counted_python: str | None = arguments.counted_python
        self.cases = [case for case in cases(arguments.pool, arguments.delivery) if arguments.only in (None, case.kind)]
        needs_floor = any(case.kind == "quinn" for case in self.cases)
        self.program: str = arguments.floor or (floor_program() if needs_floor else "")
        self.rows: dict[tuple[str, int], list[Row]] = {}

    def one(self, case: Case, bridges: int, count_calls: bool = False, python: str = sys.executable) -> Row:
        if case.kind == "quinn":
            return floor(self.program, case, bridges, self.secs)
        if case.kind == "harness":
            return harness(bridges, self.secs, count_calls)
        return clutchcall(case, bridges, self.secs, count_calls, self.details, python)

    def each(self) -> Iterator[tuple[Case, int]]:
        return ((case, bridges) for bridges in self.bridges for case in self.cases)

    def round(self) -> None:
        for case, bridges in self.each():
            row = self.one(case, bridges)
            self.rows.setdefault((str(case), bridges), []).append(row)
            tell(case, bridges, row)

    def count(self) -> None:
        """The counting build: being counted costs time, so only the counts count."""
        for case, bridges in self.each():
            if case.kind == "clutchcall" and self.counted_python:
                row = self.one(case, bridges, python=self.counted_python)
                self.rows[str(case), bridges][-1].update({name: row[name] for name in COUNTED})
                tell(case, bridges, row, " (counted)")

    def count_calls(self) -> None:
        """System calls: being traced costs time too."""
        for case, bridges in self.each():
            if case.kind != "quinn":
                last = self.rows[str(case), bridges][-1]
                last["syscalls"] = self.one(case, bridges, count_calls=True)["syscalls"]


def tell(case: Case, bridges: int, row: Row, remark: str = "") -> None:
    text = ", ".join(f"{name} {row[name]:.2f}" for name in COLUMNS)
    print(f"{str(case) + remark:<24} {bridges:>4}  {row['cpu']:6.2f} µs per frame, {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bridges", type=int, nargs="+", default=[1, 100, 300])
    parser.add_argument("--pool", type=int, nargs="+", default=[1], help="bridges on one connection, 1 to 32")
    parser.add_argument("--delivery", choices=DELIVERIES, nargs="+", default=["stream"], help="how bridges send")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=5.0, help="length of the steady window")
    parser.add_argument("--counted-python", metavar="PATH", help="an interpreter with the counting build; runs once")
    parser.add_argument("--details", action="store_true", help="what each end's workers did per frame (counted builds)")
    parser.add_argument("--floor", metavar="PATH", help="the floor's program; built with cargo when not given")
    parser.add_argument(
        "--only", choices=("clutchcall", "quinn", "harness"), help="one kind, while one looks for something"
    )
    arguments = parser.parse_args()
    run = Run(arguments)
    for round_ in range(arguments.rounds):
        run.round()
        if round_ == 0:
            run.count()
    if shutil.which("perf") is not None and os.geteuid() == 0:
        run.count_calls()
    show(run.rows, arguments.pool)


if __name__ == "__main__":
    main()
