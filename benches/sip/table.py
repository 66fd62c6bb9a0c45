"""Rows of a bench, and what they say of the goals."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

Row = dict[str, float]


@dataclass
class Found:
    """What was measured, for the verdicts: a figure by its name."""

    figures: dict[str, float] = field(default_factory=dict)

    def note(self, **figures: float) -> None:
        self.figures |= figures


def middle(rows: list[Row]) -> Row:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def show(title: str, columns: Iterable[str], rows: Iterable[tuple[str, Row]]) -> None:
    columns = list(columns)
    print(f"\n| {title} | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for name, row in rows:
        print(f"| {name} | {' | '.join(cell(row.get(column)) for column in columns)} |", flush=True)
    print(flush=True)


def cell(value: float | None) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


def quantile(values: list[int], percent: float) -> float:
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]) if ordered else float("nan")


GOALS = (
    ("P11 calls per core, µ-law into a callback", "most", 300, True),
    ("P11 the same on both cores, none late or lost beyond 1 %", "passed", 400, True),
    ("P11 transcoded calls on both cores", "coded", 200, True),
    ("P11 frames lost of them", "coded_lost", 0, False),
    ("P11 MB of the engine per transcoded call", "coded_mb", 1, False),
    ("P11 calls that failed, 50 a second for a minute", "failed", 0, False),
    ("P11 set-up, p50 ms", "setup_p50", 5, False),
    ("P11 set-up, p99 ms", "setup_p99", 20, False),
    ("socket to callback at 50 calls, p50 ms", "latency_p50", 1, False),
    ("socket to callback at 50 calls, p99 ms", "latency_p99", 5, False),
    ("memory in 10,000 short calls, the last quarter behind the warm-up, times the first", "soak", 1.02, False),
    ("calls that failed of them", "soak_failed", 0, False),
    ("junk INVITEs a second", "flood_per_s", 9_900, True),
    ("calls lost under them", "flood_lost", 0, False),
    ("R9 media p99 under a stranger's, times without", "flood_stranger", 2, False),
    ("R9 media p99 under those from a trunk's address, times without", "flood_known", 2, False),
    ("CPU per transcoded call at that load, times Asterisk's", "asterisk", 0.5, False),
)


def verdicts(found: Found) -> None:
    print("\n| goal | measured | must | |\n|---|---|---|---|")
    for text, name, bound, at_least in GOALS:
        value = found.figures.get(name)
        if value is None:
            continue
        kept = value >= bound if at_least else value <= bound
        print(f"| {text} | {value:.4g} | {'≥' if at_least else '≤'} {bound:g} | {'kept' if kept else 'missed'} |")
