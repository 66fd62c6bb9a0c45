"""Asterisk 22 beside us: calls in µ-law that go on in Opus and come back, so that it transcodes both ways.

SIPp calls it and speaks; a second SIPp answers in Opus and gives every packet back. There are two legs of RTP per call,
where ours has one and a bridge. A load is carried while as many packets leave the sockets of the machine as the calls
need.
"""

from __future__ import annotations

import math
import os
import subprocess
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from far import HERE, OPUS, Carrier, Used, begin, end, kill_tree, scenario
from pair import busy_s, packets
from table import Row, middle, show

if TYPE_CHECKING:
    from parts import Run

SCRIPTS = HERE.parents[1] / "tests" / "asterisk"
PORT, FAR = 25_060, 25_070
STEPS = (25, 50, 75, 100, 125, 150, 200)
HOLD_MS = 600_000
PACKETS = 200
"""A second and call: both ways of two legs."""
CARRIED = 0.99
UP_S = 60.0
COLUMNS = ("asterisk %/call", "cores", "packets of those due", "wake-ups/frame", "MB/call", "others")


def asked(root: str, command: str) -> str:
    ran = subprocess.run([SCRIPTS / "run.sh", root, "-rx", command], capture_output=True, text=True, timeout=20)
    return ran.stdout


def until(what: str, root: str, command: str, words: str, caller: subprocess.Popen[str] | None = None) -> None:
    limit = time.monotonic() + UP_S
    while words not in asked(root, command):
        if time.monotonic() > limit or (caller and caller.poll() is not None):
            raise TimeoutError(f"asterisk: {what}: {asked(root, command)}")
        time.sleep(0.2)


def measure(run: Run, missing: type[Exception]) -> None:
    root = run.options.asterisk
    if not root or not Path(root, "usr/sbin/asterisk").exists():
        raise missing("there is no Asterisk: make asterisk, then CLUTCHCALL_ASTERISK or --asterisk names its folder")
    if os.geteuid():
        raise missing("Asterisk in a folder of its own needs root")
    clip = run.folder / "voice.ul"
    clip.write_bytes(voice())
    far = Carrier(run.folder, 8, None, "answers", at=FAR, codec=OPUS)
    server = begin([SCRIPTS / "run.sh", root, SCRIPTS / "conf"], stdout=subprocess.DEVNULL)
    rows: list[tuple[str, Row]] = []
    try:
        until("it does not come up", root, "core waitfullybooted", "fully booted")
        used = Used(server)
        base_kib = used.rss_kib()
        for count in run.counts(list(STEPS)):
            row = loaded(run, root, used, clip, count, base_kib)
            rows.append((str(count), row))
            if row["packets of those due"] < CARRIED:
                break
            run.found.note(asterisk_cpu=row["asterisk %/call"])
    finally:
        asked(root, "core stop now")
        end(server)
        end(far.process)
    show(f"calls through {version(root)}, µ-law ↔ Opus", COLUMNS, rows)
    ours, theirs = (run.found.figures.get(name) for name in ("coded_cpu", "asterisk_cpu"))
    if ours and theirs:
        run.found.note(asterisk=ours / theirs)


def version(root: str) -> str:
    ran = subprocess.run(["chroot", root, "asterisk", "-V"], capture_output=True, text=True, timeout=20)
    return ran.stdout.strip() or "Asterisk"


def loaded(run: Run, root: str, used: Used, clip: Path, count: int, base_kib: int) -> Row:
    """Fresh calls, their windows, and their end."""
    file = scenario("asks", run.folder, clip=clip, hold=HOLD_MS)
    where = ["-i", "127.0.0.1", "-p", "25080", "-mi", "127.0.0.1", "-mp", "29000", "-rtp_threadtasks", "50"]
    bounds = ["-m", str(count), "-l", str(count), "-r", "20", "-nostdin"]
    caller = begin(
        ["sipp", "-sf", file, f"127.0.0.1:{PORT}", *where, *bounds], cwd=run.folder, stdout=subprocess.DEVNULL
    )
    try:
        until(f"{count} calls do not come up", root, "core show channels count", f"{2 * count} active channels", caller)
        time.sleep(1.0)
        found = []
        for _ in range(run.options.rounds):
            found.append(window(run.options.secs, used, count, base_kib))
            print(
                f"    asterisk {count}: " + ", ".join(f"{name} {value:.2f}" for name, value in found[-1].items()),
                flush=True,
            )
        return middle(found)
    finally:
        kill_tree(caller)
        asked(root, "channel request hangup all")
        until("calls do not end", root, "core show channels count", "0 active channels")


def window(secs: float, used: Used, count: int, base_kib: int) -> Row:
    before, sent, busy, begun = used.now(), packets(), busy_s(), time.monotonic()
    time.sleep(secs)
    took, after = time.monotonic() - begun, used.now()
    cores = (after["cpu_us"] - before["cpu_us"]) / 1e6 / took
    return {
        "asterisk %/call": 100 * cores / count,
        "cores": cores,
        "packets of those due": (packets() - sent) / took / count / PACKETS,
        "wake-ups/frame": (after["sleeps"] - before["sleeps"]) / took / count / 100,
        "MB/call": (used.rss_kib() - base_kib) / 1024 / count,
        "others": max(0.0, (busy_s() - busy) / took - cores),
    }


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
