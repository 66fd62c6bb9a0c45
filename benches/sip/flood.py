"""Ten thousand junk INVITEs a second from one source while fifty calls go on: what is lost, and what their audio pays.

The calls are those of `latency`. Windows are in turn, a round of them after the other:

| window | is |
|---|---|
| quiet | no flood |
| floor | the flood, at a socket that is read and dropped: what its sender and the kernel take of the cores |
| stranger | from an address of no trunk: dropped at the door, unread |
| no SIP | from a trunk's address: so many a second are let in, and can't be read |
| no such number | the same with a number of no rule: read, asked about, and refused, which nobody acknowledges |
| the same, longer than 64·T1 | at the end: every refusal is remembered for so long (RFC 3261 §17.2.1) |

`times quiet` is the p99 of a window over that of the quiet one of its round. The sender has to reach its rate, or
nothing is said.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from far import begin, drops_of, end, line_of, port
from load import SUMMED, Load, Run, load
from pair import Failed
from table import Row, middle, show

PER_S, REACHED = 10_000, 0.99
CALLS = 50
STRANGER, TRUNKS = "127.0.0.2", "127.0.0.1"
FORGOTTEN_S = 34.0
"""More than 64·T1."""
API_S = 2.0
MARGIN_S = 2.0 + 2 * API_S
"""Of a flood behind its window: two answers of the API, and what the window takes beside itself."""
LIMIT_S = 890
GATE = 'clutchcall_sip_dropped_total{what="'
RULES = '[[trunks.[name].inbound]]\nnumber = "+15559999999"\nrule = "REJECT"\nreason = "busy"\norg = "org_bench"\n'
COLUMNS = (
    "flood/s",
    "sender %",
    "dropped at the door/s",
    "lost at the SIP socket",
    "turned away/s",
    "p50 µs",
    "p99 µs",
    "times quiet",
    "late %",
    "lost",
    "engine %",
    "RSS MB",
    "others",
)
DESCRIPTION = (
    "v=0\r\no=junk 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n"
    "m=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"
)
INVITE = (
    "INVITE sip:+1555########@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bK########\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:junk@127.0.0.2>;tag=########\r\nTo: <sip:+1555########@127.0.0.1>\r\n"
    "Call-ID: ########@junk\r\nCSeq: 1 INVITE\r\nContact: <sip:junk@127.0.0.2>\r\nUser-Agent: friendly-scanner\r\n"
    f"Content-Type: application/sdp\r\nContent-Length: {len(DESCRIPTION)}\r\n\r\n{DESCRIPTION}"
)
UNREADABLE = "INVITE ########\r\nCall-ID: ########@junk\r\nVia\r\n" + INVITE


@dataclass(frozen=True)
class Kind:
    name: str
    source: str = STRANGER
    text: str = INVITE
    at_engine: bool = True


FLOOR = Kind("floor: at a bare socket", at_engine=False)
FROM_TRUNK = Kind("no such number", TRUNKS)
KINDS = (FLOOR, Kind("stranger"), Kind("no SIP", TRUNKS, UNREADABLE), FROM_TRUNK)


class Flooded:
    """Fifty calls, and windows with and without a flood."""

    def __init__(self, run: Run, made: Load, sip: int, sink: int) -> None:
        self.run, self.made, self.sip, self.sink = run, made, sip, sink
        self.program, self.secs = run.program("flood"), run.options.secs

    def quiet(self) -> Row:
        return self._row(self.made.window(self.secs), {})

    def under(self, kind: Kind, before_s: float = 0.0) -> Row:
        """A window within the flood, which began so much before."""
        file = self.run.folder / f"{kind.name.split(':')[0]}.sip"
        file.write_bytes(kind.text.encode())
        to, secs = self.sip if kind.at_engine else self.sink, before_s + self.secs + MARGIN_S
        flood = begin([self.program, "send", file, kind.source, str(to), str(PER_S), f"{secs:.1f}"])
        try:
            line_of(flood)
            time.sleep(before_s)
            began, counts = time.monotonic(), self._counts()
            row = self.made.window(self.secs)
            took = time.monotonic() - began
            grown = {name: (value - counts[name]) / took for name, value in self._counts().items()}
            # It would go on for as long as the API may take.
            flood.terminate()
            told = line_of(flood)
        finally:
            end(flood)
        grown["lost at the SIP socket"] *= took
        sender = {"flood/s": told["done"] / told["took_s"], "sender %": told["cpu_us"] / 1e4 / told["took_s"]}
        return self._row(row, sender | grown)

    def _counts(self) -> Row:
        lost: Row = {"lost at the SIP socket": drops_of({self.sip})}
        connection = self.made.engine.connect()
        connection.timeout = API_S
        try:
            metrics = self.made.engine.metrics(connection)
        except TimeoutError:
            # It stands still, which is what a flood may do.
            print(f"  the engine's API does not answer within {API_S:.0f} s", flush=True)
            return lost | {"dropped at the door/s": float("nan"), "turned away/s": float("nan")}
        finally:
            connection.close()
        dropped = sum(value for name, value in metrics.items() if name.startswith(GATE))
        turned_away = metrics["clutchcall_arrivals_turned_away_total"]
        return lost | {"dropped at the door/s": dropped, "turned away/s": turned_away}

    def _row(self, row: Row, more: Row) -> Row:
        engine = {"engine %": 100 * row["engine cores"], "RSS MB": self.made.engine.used.rss_kib() / 1024}
        shown = row | engine | more
        names = ("flood/s", "dropped at the door/s", "p50 µs", "p99 µs", "late %", "lost", "engine %", "RSS MB")
        print("   ", ", ".join(f"{name} {shown[name]:.2f}" for name in names if name in shown), flush=True)
        return shown


def flood(run: Run) -> None:
    rtp, media, sip, sink = run.program("rtp"), port(), port(), port()
    sender = begin([rtp, "stamp", str(media), str(LIMIT_S)])
    reader = begin([run.program("flood"), "sink", str(sink), str(LIMIT_S)])
    try:
        line_of(reader)
        with load(run, "stamped", audio=media, sip=sip, trunk=RULES) as made:
            for count in run.counts([CALLS]):
                made.more(count - made.calls)
                rows = measured(run, Flooded(run, made, sip, sink))
                show(f"{made.calls} calls under a flood", COLUMNS, rows)
            lost = calls_lost(made)
    finally:
        end(sender)
        end(reader)
    print(f"{lost:.0f} calls lost")
    judge(run, dict(rows), lost)


def calls_lost(made: Load) -> float:
    """Hangs up; how many calls were lost."""
    try:
        return made.hang_up()["lost"]
    except (Failed, TimeoutError) as failed:
        print(f"  the calls could not be hung up: {failed}")
        return made.calls


def measured(run: Run, flooded: Flooded) -> list[tuple[str, Row]]:
    found: dict[str, list[Row]] = {name: [] for name in ("quiet", *(kind.name for kind in KINDS))}
    for nth in range(run.options.rounds):
        if nth:
            # What the last flood left is no part of a quiet window.
            time.sleep(FORGOTTEN_S)
        quiet = flooded.quiet()
        found["quiet"].append(quiet | {"times quiet": 1.0})
        for kind in KINDS:
            print(f"  {kind.name}", flush=True)
            row = flooded.under(kind)
            found[kind.name].append(row | {"times quiet": row["p99 µs"] / quiet["p99 µs"]})
    rows = [(name, middle(of) | {lost: sum(row[lost] for row in of) for lost in SUMMED}) for name, of in found.items()]
    print(f"  {FROM_TRUNK.name}, for longer", flush=True)
    row = flooded.under(FROM_TRUNK, FORGOTTEN_S)
    quiet = dict(rows)["quiet"]
    rows.append((f"the same, {FORGOTTEN_S:.0f} s later", row | {"times quiet": row["p99 µs"] / quiet["p99 µs"]}))
    return rows


def judge(run: Run, rows: dict[str, Row], lost: float) -> None:
    slowest = min(row["flood/s"] for row in rows.values() if "flood/s" in row)
    run.found.note(flood_per_s=slowest, flood_lost=lost)
    if slowest < PER_S * REACHED:
        print(f"what a flood costs is not said: one came at {slowest:.0f} a second")
        return
    known = [row["times quiet"] for name, row in rows.items() if name not in ("quiet", FLOOR.name, "stranger")]
    run.found.note(flood_stranger=rows["stranger"]["times quiet"], flood_known=max(known))
