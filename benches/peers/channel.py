"""What every process of a pair does, whoever carries its frames: N channels, a frame per 20 ms each way.

A peer's file has one coroutine, `connect(end)`, that makes the connection and returns how to send; `serve` does the
rest. A frame carries when it was due and when it was sent, on the clock that both processes share. It is late when its
callback runs more than 20 ms after it was due, or never. Both ends send in twenty slots of a millisecond.

The driver (`pair.py`) and a process talk in JSON lines that begin with `@`; whatever else a peer prints is ignored.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import struct
import sys
import threading
import time
from array import array
from collections.abc import Awaitable, Callable
from typing import Any

FRAME_BYTES = 160
HEADER = struct.Struct("<B3xIQQ")
"""An Opus TOC octet (RFC 6716 §3.1), the channel, when it was due, when it was sent; nanoseconds."""
TOC = 0xF8
PADDING = bytes(FRAME_BYTES - HEADER.size)
FRAME_NS = 20_000_000
SLOTS = 20
LATE_NS = 20_000_000
DRAIN_S = 0.6
"""After the last frame was due, for those under way."""
LIMIT_S = 150.0
"""No process of a pair lives longer than this and four times what it measures, whatever becomes of the driver."""

Send = Callable[[int, bytes], object]
Flush = Callable[[], object]
now_ns = time.monotonic_ns


def say(**line: Any) -> None:  # noqa: ANN401 (JSON)
    print("@" + json.dumps(line), flush=True)


def hear() -> dict[str, Any]:
    line: dict[str, Any] = json.loads(sys.stdin.readline() or "null") or sys.exit(0)
    return line


async def hear_meanwhile() -> dict[str, Any]:
    return await asyncio.get_running_loop().run_in_executor(None, hear)


class End:
    """This process: what it was told, and what it heard."""

    def __init__(self, arguments: list[str], limit_s: float = LIMIT_S) -> None:
        self.role, self.channels, self.secs = arguments[0], int(arguments[1]), float(arguments[2])
        self.port = int(arguments[3])
        self.options = dict(word.split("=", 1) for word in arguments[4:])
        signal.alarm(int(limit_s + 4 * self.secs))
        self.late_by = array("q")
        self.took = array("q")

    @property
    def is_far(self) -> bool:
        return self.role == "far"

    def on_frame(self, frame: bytes, _now: Callable[[], int] = now_ns, _read: Any = HEADER.unpack_from) -> None:  # noqa: ANN401
        at = _now()
        _, _, due, sent = _read(frame)
        self.took.append(at - sent)
        self.late_by.append(at - due)

    def report(self, sent: int, used: dict[str, float]) -> None:
        late = sum(1 for late in self.late_by if late > LATE_NS)
        say(sent=sent, heard=len(self.took), late=late, **quantiles(self.took), **used)


def quantiles(took_ns: Any) -> dict[str, float]:  # noqa: ANN401 (list or array)
    values = sorted(took_ns)
    if not values:
        return {"p50_us": float("nan"), "p99_us": float("nan")}
    at = {f"p{percent}_us": values[len(values) * percent // 100] / 1000 for percent in (50, 99)}
    return {**at, "most_us": values[-1] / 1000}


def usage() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_us": 1e6 * (used.ru_utime + used.ru_stime), "sleeps": float(used.ru_nvcsw)}


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in after}


def frame(channel: int, due_ns: int) -> bytes:
    return HEADER.pack(TOC, channel, due_ns, now_ns()) + PADDING


def slots(channels: int) -> list[range]:
    return [range(slot, channels, SLOTS) for slot in range(SLOTS)]


async def pace(end: End, from_ns: int, send: Send, flush: Flush | None) -> int:
    """A frame per channel and 20 ms, until the time is over. Returns how many."""
    waits = asyncio.iscoroutinefunction(send)
    shares, sent, slot = slots(end.channels), 0, 0
    for due_ns in range(from_ns, from_ns + int(end.secs * 1e9), FRAME_NS // SLOTS):
        await asyncio.sleep(max(0, due_ns - now_ns()) / 1e9)
        share = shares[slot]
        for channel in share:
            done = send(channel, frame(channel, due_ns))
            if waits:
                await done  # type: ignore[misc]
        if flush:
            flush()
        sent += len(share)
        slot = (slot + 1) % SLOTS
    return sent


def computing(ending: threading.Event) -> None:
    """A thread that has the interpreter whenever nobody takes it away, until the event is set."""

    def compute() -> None:
        number = 1
        while not ending.is_set():
            for _ in range(1000):
                number = number * 1_103_515_245 % 2_147_483_647

    threading.Thread(target=compute, daemon=True).start()


async def only_hear(end: End, from_ns: int) -> int:
    """`busy=1`: a thread computes beside, so nothing could be paced here."""
    ending = threading.Event()
    computing(ending)
    await asyncio.sleep(max(0, from_ns + int(end.secs * 1e9) - now_ns()) / 1e9)
    ending.set()
    return 0


async def _serve(connect: Callable[[End], Awaitable[tuple[Send, Flush | None]]], end: End) -> None:
    begun = time.monotonic()
    send, flush = await connect(end)
    gc.collect()
    gc.freeze()
    say(ready=end.role, connect_s=time.monotonic() - begun)
    from_ns = (await hear_meanwhile())["from_ns"]
    await asyncio.sleep(max(0, from_ns - now_ns()) / 1e9)
    before = usage()
    is_busy = "busy" in end.options and not end.is_far
    sent = await (only_hear(end, from_ns) if is_busy else pace(end, from_ns, send, flush))
    await asyncio.sleep(DRAIN_S)
    end.report(sent, difference(before, usage()))
    await hear_meanwhile()


def serve(connect: Callable[[End], Awaitable[tuple[Send, Flush | None]]]) -> None:
    end = End(sys.argv[1:])
    asyncio.run(_serve(connect, end))
    # A foreign library's threads and tasks may never end by themselves.
    os._exit(0)


def certificate() -> tuple[str, str]:
    """Chain and key that the driver made."""
    return os.environ["PEERS_CERTIFICATE"], os.environ["PEERS_KEY"]
