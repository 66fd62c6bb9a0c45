"""What the rows of a run say of the goals: each a figure, its bound, and whether it holds.

Nothing is judged by an absolute time of this machine where a peer of the same run can stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

Rows = dict[str, dict[str, float]]
DELIVERIES = ("datagrams", "streams")


class Missing(Exception):
    """A row that a goal needs was not measured."""


def show(found: Rows) -> None:
    print("\n| goal | measured | must | |\n|---|---|---|---|")
    for name, text, value, bound, at_least in goals(found):
        holds = value >= bound if at_least else value <= bound
        sign = "≥" if at_least else "≤"
        print(f"| {name} | {text} | {sign} {bound:g} | {'kept' if holds else 'missed'} |")
    print()


Goal = tuple[str, str, float, float, bool]


def goals(found: Rows) -> Iterator[Goal]:
    for made in (bridges, rate, relay, idle, slow, busy):
        yield from made(found)


def of(found: Rows, row: str, column: str) -> float:
    value = found.get(row, {}).get(column)
    if value is None or value != value:
        raise Missing(row)
    return float(value)


def ratio(
    name: str, found: Rows, ours: tuple[str, str], theirs: tuple[str, str], bound: float, at_least: bool
) -> Iterator[Goal]:
    """Nothing where one of the two is missing: the table above says why."""
    try:
        mine, other = of(found, *ours), of(found, *theirs)
    except Missing:
        return
    value = mine / other if other else float("inf")
    yield name, f"{mine:.4g} / {other:.4g} = {value:.2f} × {theirs[0].split(' ', 1)[1]}", value, bound, at_least


def below(name: str, found: Rows, row: str, column: str, bound: float) -> Iterator[Goal]:
    try:
        value = of(found, row, column)
    except Missing:
        return
    yield name, f"{value:.4g}", value, bound, False


def bridges(found: Rows) -> Iterator[Goal]:
    for way in DELIVERIES:
        each, pooled = f"most clutchcall each, {way}", f"most clutchcall pooled, {way}"
        for far, clients in (("", "most clutchcall"), (", clients", "most clutchcall clients")):
            yield from fits(f"{way}{far}", found, f"{clients} each, {way}", f"{clients} pooled, {way}")
        yield from ratio(f"P3 pooled, {way}", found, (pooled, "cpu"), ("most C UDP", "cpu"), 2.0, False)
        yield from ratio(f"P3 each, {way}", found, (each, "cpu"), ("most C UDP", "cpu"), 6.0, False)


def fits(name: str, found: Rows, each: str, pooled: str) -> Iterator[Goal]:
    channels = "channels"
    for peer, bound in (("picows TLS", 0.6), ("qh3 each", 2.5)):
        yield from ratio(f"P1 each, {name}", found, (each, channels), (f"most {peer}", channels), bound, True)
    for peer, bound in (("qh3 shared", 1.0), ("aiomoqt", 4.0)):
        yield from ratio(f"P2 pooled, {name}", found, (pooled, channels), (f"most {peer}", channels), bound, True)


def rate(found: Rows) -> Iterator[Goal]:
    for way in DELIVERIES:
        pooled, floor = f"rate clutchcall pooled, {way}", "rate C UDP"
        yield from ratio(f"P4 pooled, {way}", found, (pooled, "cpu"), (floor, "cpu"), 2.5, False)
        for name in ("pooled", "each"):
            yield from through(f"P5 {name}, {way}, p99", found, f"rate clutchcall {name}, {way}")


def through(name: str, found: Rows, row: str) -> Iterator[Goal]:
    """A relay of ours is in between: a millisecond more than what the bare socket is allowed."""
    try:
        p99, floor = of(found, row, "p99 µs"), of(found, "rate C UDP", "p99 µs")
    except Missing:
        return
    over = p99 - 3 * floor
    yield name, f"{p99:.0f} - 3 × {floor:.0f} (C UDP) = {over:.0f} µs", over, 1000.0, False


def relay(found: Rows) -> Iterator[Goal]:
    for way in DELIVERIES:
        for part in ("relay 30", "relay most"):
            mine, other = f"{part} clutchcall relay, {way}", f"{part} moq-rs relay, {way}"
            yield from ratio(f"P8 {part[6:]}, {way}", found, (mine, "relay"), (other, "relay"), 0.5, False)
        yield from through(f"P5 clients, {way}, p99", found, f"relay 100 clutchcall relay, {way}")


def idle(found: Rows) -> Iterator[Goal]:
    for row in (name for name in found if name.startswith("idle ")):
        one_each = "pool=1 " in row
        name = "each" if one_each else "pooled"
        yield from below(f"P9 {name}, KiB per idle bridge", found, row, "kib_each", 150 if one_each else 50)
        yield from below(f"P9 {name}, CPU of idle bridges, % of a core", found, row, "idle_percent", 2)
        yield from below(f"P9 {name}, growth over attach and close, KiB", found, row, "grown_kib", 1024)
        yield from below(f"P9 {name}, growth, open files and threads", found, row, "grown_files_threads", 2)
        yield from below(f"P10 {name}, attach p50, ms", found, row, "attach_p50_ms", 6)
        yield from below(f"P10 {name}, attach p99, ms", found, row, "attach_p99_ms", 15)
        yield from below(f"P10 {name}, all of them, s per 1,000", found, row, "s_per_1000", 5)


def slow(found: Rows) -> Iterator[Goal]:
    for row in (name for name in found if name.startswith("slow ")):
        beside, alone = found[row].get("beside_p99_us"), found[row].get("alone_p99_us")
        if beside and alone:
            value = beside / alone
            yield "R4 others' p99 beside a slow one", f"{beside:.0f} / {alone:.0f} = {value:.2f}", value, 1.2, False


def busy(found: Rows) -> Iterator[Goal]:
    for row in (name for name in found if name.startswith("busy ") and "bridges=" in name):
        bridges = row.split("bridges=")[1].split()[0]
        late_percent = 100 * found[row].get("busy_late", 0) / max(1, found[row].get("busy_heard", 0))
        yield f"P6 {bridges} bridges, % later than 20 ms", f"{late_percent:.3f}", late_percent, 0.0, False
        yield from below(f"P6 {bridges} bridges, p99, µs", found, row, "busy_p99_us", 8000)
