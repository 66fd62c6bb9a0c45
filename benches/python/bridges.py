"""What a frame costs through the public Python API, beside bare quinn and beside the harness's own Python.

```sh
python benches/python/bridges.py                                    # 1, 100 and 300 bridges, three rounds
python benches/python/bridges.py --bridges 300 --rounds 5 --secs 8
```

Two processes, bound to one core each: engine, relay and phone in one; the SDK with N bridges, and the Python code that
uses them, in the other. Each bridge publishes one 160-byte frame per 20 ms and the phone gives it back, so that N
frames go each way; a frame counts once per direction. Beside it, in the same rounds, `benches/floor` carries the
same load over bare quinn, and the harness alone does the same Python with nothing beneath. A last round counts system
calls with `perf stat`, where there is one.

Allocations and packets are counted by a build with the cargo feature `counted`:

    maturin build --release --features python,counted
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
# `quinn streams` is the like of what a bridge does: by default frames are objects on streams, and none is lost.
WHATS = ("clutchcall", "quinn", "quinn streams", "harness")
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

Row = dict[str, float]


class End:
    """One process of a pair."""

    def __init__(self, role: str, core: int, **job: object) -> None:
        command = [sys.executable, str(HERE / "ends.py"), role]
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


def clutchcall(bridges: int, secs: float, count_calls: bool, details: bool) -> Row:
    limit_s = 120 + 2 * secs
    with End("engine", 1, limit_s=limit_s) as far:
        where = far.hear()
        with End("sdk", 0, limit_s=limit_s, bridges=bridges, **where) as near:
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


def floor(program: str, bridges: int, secs: float, options: str = "") -> Row:
    command = [program, "--case", f"quinn:{bridges}:1:{options}", "--rounds", "1", "--secs", str(secs)]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    heading, values = ([cell.strip() for cell in table[at].strip("| ").split("|")] for at in (0, 2))
    # The name of the case stands in several cells.
    row = dict(zip(reversed(heading), reversed(values), strict=False))
    cpu = next(value for name, value in row.items() if name.startswith("CPU"))
    return {"cpu": float(cpu.split()[0]), **{name: float(row[name]) for name in COLUMNS}}


def show(rows: dict[tuple[str, int], list[Row]]) -> None:
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
            if len(cpu) < len(WHATS):
                continue
            ours, python = cpu["clutchcall"], cpu["harness"]
            for what in ("quinn", "quinn streams"):
                ratio = (ours - python) / cpu[what]
                print(
                    f"{bridges} bridges, {name}: ({ours:.2f} - {python:.2f}) / {cpu[what]:.2f} = {ratio:.2f} × {what}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bridges", type=int, nargs="+", default=[1, 100, 300])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=5.0, help="length of the steady window")
    parser.add_argument("--details", action="store_true", help="what each end's workers did per frame (counted builds)")
    parser.add_argument("--floor", metavar="PATH", help="the floor's program; built with cargo when not given")
    parser.add_argument("--only", choices=WHATS, help="one of the four, while one looks for something")
    arguments = parser.parse_args()
    wanted = [arguments.only] if arguments.only else WHATS
    needs_floor = any(what.startswith("quinn") for what in wanted)
    program = arguments.floor or (floor_program() if needs_floor else "")
    has_perf = shutil.which("perf") is not None and os.geteuid() == 0
    rows: dict[tuple[str, int], list[Row]] = {}
    for round_ in range(arguments.rounds + has_perf):
        counting = round_ == arguments.rounds
        for bridges in arguments.bridges:
            runs = {
                "clutchcall": lambda n=bridges, c=counting: clutchcall(n, arguments.secs, c, arguments.details),
                "quinn": lambda n=bridges, c=counting: {} if c else floor(program, n, arguments.secs),
                "quinn streams": lambda n=bridges, c=counting: (
                    {} if c else floor(program, n, arguments.secs, "streams")
                ),
                "harness": lambda n=bridges, c=counting: harness(n, arguments.secs, c),
            }
            for what in wanted:
                row = runs[what]()
                if counting:
                    # Being traced costs time: only the count counts.
                    rows[what, bridges][-1]["syscalls"] = row.get("syscalls", rows[what, bridges][-1]["syscalls"])
                    continue
                rows.setdefault((what, bridges), []).append(row)
                text = ", ".join(f"{name} {row[name]:.2f}" for name in COLUMNS)
                print(f"{what:<13} {bridges:>4}  {row['cpu']:6.2f} µs per frame, {text}", flush=True)
    show(rows)


if __name__ == "__main__":
    main()
