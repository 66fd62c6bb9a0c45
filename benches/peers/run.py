"""Us and our peers in one run: `make bench-peers`, or parts of it by hand.

```sh
.venv-test/bin/python benches/peers/run.py                 # everything, a quarter of an hour when quiet
.venv-test/bin/python benches/peers/run.py --quick         # few channels, short windows: a minute or two
.venv-test/bin/python benches/peers/run.py --only rate most --rounds 5 --secs 4
```

The interpreter that runs it has our release wheel; the others have one of their own (`.venv-bench-peers`). Two
processes with one core each carry N channels, a 160-byte frame per 20 ms each way (`channel.py`). The parts, one after
the other, the peers of a part in turn, round after round:

| part | goals | measures |
|---|---|---|
| `rate` | P4, P5 | CPU, wake-ups, packets and latency at 100 channels |
| `most` | P1, P2, P3 | how many channels fit (under 1 % late or lost), and the CPU per frame there |
| `relay` | P5, P8 | a relay in a process of its own: its CPU per frame, at 30 channels and at its most |
| `idle` | P9, P10 | memory and CPU of idle bridges, attach times, growth over attach and close |
| `slow` | R4 | the others' latency while one of 100 bridges sleeps 100 ms in each callback |
| `busy` | P6 | latency while a Python thread of the process that hears computes without a pause |

What can't be measured here is named with the reason. Numbers count only beside each other.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable

import verdicts
from machine import Machine, machine, port
from pair import Failed, Peer, Row, end, line_of, most, once, start, tell, usage_of, wait_for_quiet

PARTS = ("rate", "most", "relay", "idle", "slow", "busy")
FIRST = {"C UDP": 2048, "picows TLS": 512, "qh3 shared": 1024, "qh3 each": 96, "aiomoqt": 256}
"""Where a search begins; ours begins at 512."""
CAP = 16384
COLUMNS = ("cpu", "wake-ups", "packets", "p50 µs", "p99 µs", "late %", "lost %", "others")
RELAY_COLUMNS = ("relay", "relay wake-ups", "cpu", "p50 µs", "p99 µs", "late %", "others")


class Run:
    def __init__(self, arguments: argparse.Namespace, made: Machine) -> None:
        self.rounds: int = arguments.rounds
        self.secs: float = arguments.secs
        self.quick: bool = arguments.quick
        self.patience_s: float = 0.0 if arguments.quick or arguments.loud else 10.0
        self.machine = made
        self.found: dict[str, Row] = {}
        """By part and name: what the verdicts are of."""

    def row(self, peer: Peer, channels: int, secs: float) -> Row:
        wait_for_quiet(self.patience_s)
        row = once(peer, channels, secs, port())
        print(f"  {peer.name:<28} {channels:>5}  {brief(row)}", flush=True)
        return row

    def table(self, part: str, peers: list[Peer], channels: int, columns: tuple[str, ...]) -> None:
        """Every peer once per round; medians."""
        rows: dict[str, list[Row]] = {}
        for _ in range(self.rounds):
            for peer in ready(peers):
                with_reason(peer, lambda p=peer: rows.setdefault(p.name, []).append(self.row(p, channels, self.secs)))
        print(f"\n| {channels} channels | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
        for name, runs in rows.items():
            middle = {column: statistics.median(run[column] for run in runs) for column in columns}
            self.found[f"{part} {name}"] = middle
            print(f"| {name} | {' | '.join(cell(column, middle[column]) for column in columns)} |", flush=True)
        say_missing(peers)

    def most(self, part: str, peers: list[Peer], columns: tuple[str, ...], first: Callable[[str], int]) -> None:
        """How many channels each carries; a run that does not fit is repeated once, for others may have been at it."""
        secs = min(self.secs, 1.0 if self.quick else 2.0)

        def tried(peer: Peer, channels: int) -> Row:
            try:
                row = self.row(peer, channels, secs)
                return (
                    row
                    if row["late %"] < 1.0 or self.quick
                    else min(row, self.row(peer, channels, secs), key=lambda found: found["late %"])
                )
            except Failed as failure:
                print(f"  {peer.name:<28} {channels:>5}  {failure}", flush=True)
                return {"late %": 100.0}

        for peer in ready(peers):
            begin = first(peer.name)
            cap = 2 * begin if self.quick else CAP
            self.found[f"{part} {peer.name}"] = most(lambda n, p=peer: tried(p, n), begin, cap)
        print(f"\n| at most | channels | {' | '.join(columns)} |\n|---|---{'|---' * len(columns)}|")
        for peer in ready(peers):
            row = self.found[f"{part} {peer.name}"]
            cells = (cell(column, row.get(column, float("nan"))) for column in columns)
            print(f"| {peer.name} | {int(row.get('channels', 0))} | {' | '.join(cells)} |", flush=True)
        say_missing(peers)

    def alone(self, part: str, file: str, *options: str) -> None:
        """A program of ours that drives itself: an engine on the far core, it on the near one."""
        peer = self.machine.ours(part, file)
        if peer.missing:
            print(f"{part}: {peer.missing}")
            return
        words = ["1", str(self.secs), str(port()), *options]
        far = start([self.machine.python, "-u", peer.command[-1], "far", *words], 1)
        try:
            where = ",".join(line_of(far)["listening"])
            near = start([self.machine.python, "-u", peer.command[-1], "near", *words, f"where={where}"], 0)
            try:
                before = usage_of(far)
                while "done" not in (line := line_of(near)):
                    if line.pop("ask", None):
                        after = usage_of(far)
                        tell(near, engine_cpu_us=after["cpu_us"] - before["cpu_us"], engine_rss_kib=rss_kib(far.pid))
                        before = after
                        continue
                    print(f"  {part}: {json.dumps(line)}", flush=True)
                print(f"  {' '.join([part, *options])}: {json.dumps(line)}", flush=True)
                self.found[" ".join([part, *options])] = line
            except Failed as failure:
                print(f"{part}: {failure}", flush=True)
            finally:
                end(near)
        finally:
            end(far)


def rss_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def ready(peers: list[Peer]) -> list[Peer]:
    return [peer for peer in peers if not peer.missing]


def say_missing(peers: list[Peer]) -> None:
    for peer in peers:
        if peer.missing:
            print(f"{peer.name} is not in the table: {peer.missing}")
    print(flush=True)


def with_reason(peer: Peer, run: Callable[[], object]) -> None:
    try:
        run()
    except Failed as failure:
        peer.missing = str(failure)


def cell(column: str, value: float) -> str:
    return "–" if value != value else f"{value:.0f}" if column.endswith("µs") else f"{value:.2f}"


def brief(row: Row) -> str:
    shown = ("cpu", "relay", "wake-ups", "packets", "p50 µs", "p99 µs", "late %", "lost %", "others")
    return ", ".join(f"{name} {row[name]:.2f}" for name in shown if name in row)


def parts(run: Run, wanted: list[str]) -> None:
    made, quick = run.machine, run.quick
    if missing := made.certificate():
        print(f"peers with TLS: {missing}")
    udp = made.udp()
    foreign = [
        made.theirs("picows TLS", "picows_tls.py", "picows"),
        made.theirs("qh3 shared", "qh3_datagrams.py", "qh3", "links=one"),
        made.theirs("qh3 each", "qh3_datagrams.py", "qh3", "links=each"),
        made.theirs("aiomoqt", "aiomoqt_datagrams.py", "aiomoqt"),
    ]
    ours = [
        made.ours(f"clutchcall {name}, {delivery}s", "clutchcall_bridges.py", f"pool={pool}", f"delivery={delivery}")
        for name, pool in (("pooled", 32), ("each", 1))
        for delivery in ("datagram", "stream")
    ]
    tracks = "clutchcall_tracks.py"
    clients = [
        made.relayed(made.ours(f"clutchcall clients {name}, {way}s", tracks, f"pool={pool}", f"delivery={way}"), True)
        for name, pool in (("pooled", 32), ("each", 1))
        for way in ("datagram", "stream")
    ]
    relays = [
        made.relayed(made.ours(f"clutchcall relay, {way}s", tracks, "pool=32", f"delivery={way}"), True)
        for way in ("datagram", "stream")
    ] + [
        made.relayed(made.theirs(f"moq-rs relay, {way}s", "moq_rs.py", "moq", f"delivery={way}"), False)
        for way in ("datagram", "stream")
    ]
    if "rate" in wanted:
        run.table("rate", [udp, *ours, *foreign], 20 if quick else 100, COLUMNS)
    if "relay" in wanted:
        run.table("relay 30", relays, 10 if quick else 30, RELAY_COLUMNS)
        if not quick:
            run.table("relay 100", relays[:2], 100, RELAY_COLUMNS)
            run.most("relay most", relays, RELAY_COLUMNS, lambda name: 256 if "clutchcall" in name else 64)
    if "most" in wanted:
        run.most("most", [udp, *ours, *clients, *foreign], COLUMNS, lambda name: 40 if quick else FIRST.get(name, 512))
    if "idle" in wanted:
        many, cycles = (40, 100) if quick else (1000, 10_000)
        for pool in (1, 32):
            run.alone("idle", "idle.py", f"pool={pool}", f"bridges={many}")
            run.alone("idle", "idle.py", f"pool={pool}", f"cycles={cycles}")
    if "slow" in wanted:
        run.alone("slow", "slow.py", f"bridges={20 if quick else 100}", f"rounds={run.rounds}")
    if "busy" in wanted:
        for bridges in (20,) if quick else (100, 1000):
            run.alone("busy", "busy.py", f"bridges={bridges}", f"rounds={run.rounds}")
        run.table("busy", [listening(peer) for peer in foreign], 20 if quick else 100, COLUMNS)


def listening(peer: Peer) -> Peer:
    """It hears, and a thread of its process computes."""
    return dataclasses.replace(peer, options=[*peer.options, "busy=1"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, help="rounds of the tables (3; 1 with --quick)")
    parser.add_argument("--secs", type=float, help="length of a window (3; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="few channels, short windows: does it work?")
    parser.add_argument("--loud", action="store_true", help="don't wait for a quiet machine")
    parser.add_argument("--foreign", metavar="PATH", help="the peers' interpreter (.venv-bench-peers/bin/python)")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.secs = arguments.secs or (1.0 if arguments.quick else 3.0)
    begun = time.monotonic()
    print(f"others use {wait_for_quiet(0.0 if arguments.quick else 10.0):.2f} cores before")
    made = machine(arguments.foreign)
    run = Run(arguments, made)
    try:
        parts(run, arguments.only)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    finally:
        made.close()
    verdicts.show(run.found)
    print(f"others use {wait_for_quiet(0.0):.2f} cores after; {(time.monotonic() - begun) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
