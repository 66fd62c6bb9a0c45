"""Asterisk 22 beside us: calls in µ-law that go on in Opus and come back, so that it transcodes both ways.

SIPp calls it and speaks; a second SIPp answers in Opus and gives every packet back. There are two legs of RTP per call,
where ours has one and a bridge. A load is carried while Asterisk sends on what it hears and hears what is due, by its
own counters, and none is lost at its sockets. The load grows until it is too much; then the last step is halved. Our
calls have their turn at each load.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import floors
from far import HERE, OPUS, Carrier, Used, begin, drops_of, end, kill_tree, scenario
from load import LATE_PERCENT, Missing, Run, load
from pair import busy_s
from parts import AUDIO_THREADS, transcoded
from table import Row, middle, show

SCRIPTS = HERE.parents[1] / "tests" / "asterisk"
PORT, FAR = 25_060, 25_070
STEPS = (25, 50, 75, 100, 125, 150, 200)
HOLD_MS = 600_000
PACKETS = 100
"""A second and call, from both ends."""
OFF_PERCENT = 1.0
FINEST = 10
"""Loads that are no further apart than this are not told apart."""
RTP = range(26_000, 28_000)
"""As in `tests/asterisk/conf/rtp.conf`."""
UP_S = 60.0
ANSWERS_S = 20.0
"""At its console."""
CHANNEL = re.compile(r"\d\d:\d\d:\d\d +\w+ +(\d+) +\d+ +\d+ +[\d.]+ +(\d+) ")
"""Of `pjsip show channelstats`: packets heard and sent."""
COLUMNS = (
    "%/call",
    "user %/call",
    "SIPp %/call",
    "cores",
    "late or lost %",
    "heard of those due %",
    "lost at its sockets",
    "wake-ups/frame",
    "MB/call",
    "others",
)


def asked(root: str, command: str) -> str:
    ran = subprocess.run([SCRIPTS / "run.sh", root, "-rx", command], capture_output=True, text=True, timeout=ANSWERS_S)
    return ran.stdout


def until(what: str, root: str, command: str, words: str, caller: subprocess.Popen[str] | None = None) -> None:
    limit = time.monotonic() + UP_S
    while words not in asked(root, command):
        if time.monotonic() > limit or (caller and caller.poll() is not None):
            raise TimeoutError(f"asterisk: {what}: {asked(root, command)}")
        time.sleep(0.2)


def measure(run: Run) -> None:
    root = run.options.asterisk
    if not root or not Path(root, "usr/sbin/asterisk").exists():
        raise Missing("there is no Asterisk: make asterisk, then CLUTCHCALL_ASTERISK or --asterisk names its folder")
    if os.geteuid():
        raise Missing("Asterisk in a folder of its own needs root")
    (run.folder / "voice.ul").write_bytes(voice())
    far = Carrier(run.folder, 8, None, "answers", at=FAR, codec=OPUS)
    rows: list[tuple[str, Row]] = []
    name = version(root)

    def carries(count: int) -> bool:
        theirs, own = loaded(run, root, far.used, count), ours(run, count)
        rows.extend([(f"{count} through {name}", theirs), (f"{count} through clutchcall", own)])
        if is_carried := is_enough(theirs):
            run.found.note(asterisk_calls=count, asterisk=own["%/call"] / theirs["%/call"])
        return is_carried

    try:
        largest(run, carries)
    finally:
        end(far.process)
    show("calls transcoded both ways, in turn", COLUMNS, [*rows, *as_theirs(floors.codec())])
    carried = run.found.figures.get("asterisk_calls")
    print(f"{name} carries {carried:.0f} calls" if carried else f"{name} carries none of these loads")


def loaded(run: Run, root: str, far: Used, count: int) -> Row:
    """Under an Asterisk of its own: one that was given too much may answer nothing any more, then there is no row."""
    server = begin([SCRIPTS / "run.sh", root, SCRIPTS / "conf"], stdout=subprocess.DEVNULL)
    try:
        until("it does not come up", root, "core waitfullybooted", "fully booted")
        return Theirs(run, root, Used(server), far).loaded(count)
    except subprocess.TimeoutExpired as late:
        print(f"    asterisk {count}: its console is silent for {late.timeout:.0f} s")
        return {}
    finally:
        end(server)


def is_enough(row: Row) -> bool:
    """It hears what is due and sends what it hears. One that has no time sends what has waited, more than it hears."""
    if not row or row["lost at its sockets"]:
        return False
    return abs(row["late or lost %"]) <= OFF_PERCENT and abs(row["heard of those due %"] - 100) <= OFF_PERCENT


def largest(run: Run, carries: Callable[[int], bool]) -> None:
    """More and more until it is too much, and then halfway between; or what was asked for, as it stands."""
    fits, bound = 0, None
    for count in run.counts(list(STEPS)):
        if not carries(count):
            bound = count
            break
        fits = count
    while not run.options.calls and bound and bound - fits > FINEST:
        middle_ = (fits + bound) // 2
        fits, bound = (middle_, bound) if carries(middle_) else (fits, middle_)


def ours(run: Run, count: int) -> Row:
    """The same load through an engine and a user of its own."""
    with load(run, "coded", top=AUDIO_THREADS) as made:
        row = transcoded(made, count)
        made.hang_up()
    lost = row["lost"] + row["downlink dropped"]
    if row["late %"] >= LATE_PERCENT:
        print(f"  {count} calls are too many for clutchcall here: {row['late %']:.1f} % late, {lost:.0f} frames lost")
    own = {"%/call": row["engine %/call"], "cores": row["engine cores"], "late or lost %": row["late %"]}
    return (
        row | own | {"lost at its sockets": row["lost at our sockets"], "wake-ups/frame": row["engine wake-ups/frame"]}
    )


def as_theirs(rows: list[tuple[str, Row]]) -> list[tuple[str, Row]]:
    return [(name, {"%/call": row["engine %/call"]}) for name, row in rows]


def version(root: str) -> str:
    ran = subprocess.run(["chroot", root, "asterisk", "-V"], capture_output=True, text=True, timeout=20)
    return ran.stdout.strip() or "Asterisk"


class Theirs:
    """Asterisk, and what it is loaded with."""

    def __init__(self, run: Run, root: str, used: Used, far: Used) -> None:
        self.run, self.root, self.used, self.far = run, root, used, far
        self.base_kib = used.rss_kib()

    def loaded(self, count: int) -> Row:
        """Calls that come up, and their windows."""
        file = scenario("asks", self.run.folder, clip=self.run.folder / "voice.ul", hold=HOLD_MS)
        where = ["-i", "127.0.0.1", "-p", "25080", "-mi", "127.0.0.1", "-mp", "29000", "-rtp_threadtasks", "50"]
        bounds = ["-m", str(count), "-l", str(count), "-r", "20", "-nostdin"]
        command: list[str | Path] = ["sipp", "-sf", file, f"127.0.0.1:{PORT}", *where, *bounds]
        caller = begin(command, cwd=self.run.folder, stdout=subprocess.DEVNULL)
        up = f"{count} calls do not come up"
        try:
            until(up, self.root, "core show channels count", f"{2 * count} active channels", caller)
            time.sleep(1.0)
            found = [self.window(Used(caller), count) for _ in range(self.run.options.rounds)]
            return middle(found)
        finally:
            kill_tree(caller)

    def window(self, caller: Used, count: int) -> Row:
        sipp, secs = (caller, self.far), self.run.options.secs
        # To count costs Asterisk something, outside of what is measured.
        counted = self.packets()
        before, own = self.used.now(), sum(used.now()["cpu_us"] for used in sipp)
        lost, busy, begun = drops_of(RTP), busy_s(), time.monotonic()
        time.sleep(secs)
        took, after = time.monotonic() - begun, self.used.now()
        cores = (after["cpu_us"] - before["cpu_us"]) / 1e6 / took
        theirs = (sum(used.now()["cpu_us"] for used in sipp) - own) / 1e6 / took
        others = max(0.0, (busy_s() - busy) / took - cores - theirs)
        heard, sent, counted_s = (now - was for now, was in zip(self.packets(), counted, strict=True))
        row = {
            "%/call": 100 * cores / count,
            "SIPp %/call": 100 * theirs / count,
            "cores": cores,
            "late or lost %": 100 * (1 - sent / max(1, heard)),
            "heard of those due %": 100 * heard / counted_s / count / PACKETS,
            "lost at its sockets": drops_of(RTP) - lost,
            "wake-ups/frame": (after["sleeps"] - before["sleeps"]) / took / count / 100,
            "MB/call": (self.used.rss_kib() - self.base_kib) / 1024 / count,
            "others": others,
        }
        print(f"    asterisk {count}: " + ", ".join(f"{name} {value:.2f}" for name, value in row.items()), flush=True)
        return row

    def packets(self) -> tuple[int, int, float]:
        """What all of its channels have heard and sent, and when that was."""
        found = CHANNEL.findall(asked(self.root, "pjsip show channelstats"))
        return sum(int(heard) for heard, _ in found), sum(int(sent) for _, sent in found), time.monotonic()


def voice() -> bytes:
    """Ten seconds of the same tones that our user speaks, in µ-law."""
    from clutchcall.media import encode_ulaw

    samples, rate = array("h"), 8000
    for at in range(10 * rate):
        nth = at // 160
        loud = 0.0 if nth % 50 > 38 else 0.5 + 0.5 * math.sin(nth / 4)
        pitch = 120 + 40 * math.sin(at / rate * 3)
        tone = sum(math.sin(2 * math.pi * pitch * k * at / rate) / k for k in range(1, 9))
        samples.append(int(3500 * loud * tone))
    return bytes(encode_ulaw(samples.tobytes()))
