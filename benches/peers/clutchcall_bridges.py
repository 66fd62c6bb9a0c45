"""clutchcall: bridges of the SDK, a Python callback each; the far end is the engine, its relay and its phone.

`pool=1` gives each bridge a connection of its own, `pool=32` lets so many share one; `delivery` is `stream` or
`datagram`. The phone gives back the very frames that it hears, at its tick after the next. So a frame that comes home
made both ways, and one that does not is counted as lost on both:

* up: a stamp is the phone's RTP clock, laid beside ours at the call's first packet, and so as far off as that packet
  was late. A frame is therefore timed by how much longer it took than the quickest of its bridge, which is what p50
  and p99 are of; it is late after more than 20 ms of that;
* down: the phone takes one frame per tick, so what comes after its tick moves all that follow. Each tick at which
  it had nothing is a late frame, but for one per channel, since its clock may stand at the edge of ours.

A publisher paces as the peers do, from a thread of its own, through `publish_downlink`.
"""

from __future__ import annotations

import contextlib
import gc
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from channel import (
    DRAIN_S,
    FRAME_NS,
    HEADER,
    LATE_NS,
    SLOTS,
    End,
    difference,
    frame,
    hear,
    now_ns,
    quantiles,
    say,
    slots,
    usage,
)

NUMBER = "+15550009012"
ORG, TRUNK = "org_bench", "trunk_main"
CALLS = 4096
"""What one audio thread carries at most."""
UP_LIMIT_S = 60.0
PLACED_AT_ONCE = 4


@contextlib.contextmanager
def engine() -> Iterator[list[str]]:
    """One that carries as many calls as anybody asks for: what `Voice` is given."""
    from clutchcall.engine import Engine

    key = secrets.token_urlsafe(32)
    config = {
        "api": {"listen": "127.0.0.1:0"},
        "relay": {"listen": "127.0.0.1:0"},
        "keys": [{"org": ORG, "key": key}],
        "trunks": {TRUNK: {"kind": "phone", "channel_limit": CALLS, "max_cps": CALLS}},
        "phone": {"ring_ms": 0},
        "limits": {"calls": CALLS, "requests_per_s": 10 * CALLS, "request_burst": 10 * CALLS},
    }
    with tempfile.TemporaryDirectory() as state, Engine({"state": state, **config}) as serving:
        yield [serving.base_url, key, ORG]


def far(end: End) -> None:
    with engine() as where:
        say(listening=where)
        say(ready="far")
        from_ns = hear()["from_ns"]
        wait_until(from_ns)
        before = usage()
        wait_until(from_ns + int((end.secs + DRAIN_S) * 1e9))
        say(sent=0, heard=0, late=0, **difference(before, usage()))
        hear()


def near(end: End) -> None:
    echoes, begun = Echoes(), time.monotonic()
    with up(end, [echoes.take] * end.channels) as bridges:
        gc.collect()
        gc.freeze()
        say(ready="near", connect_s=time.monotonic() - begun)
        measure(end, echoes, [bridge.publish_downlink for bridge in bridges])


@contextlib.contextmanager
def up(end: End, callbacks: list[Callable[[bytes, int], None]]) -> Iterator[list[Any]]:
    """A call and a connected bridge for each callback."""
    from clutchcall.voice import Voice

    delivery, pool = end.options.get("delivery", "stream"), int(end.options.get("pool", 32))
    with Voice(*end.options["where"].split(","), pool=pool) as voice:

        def bridge(callback: Callable[[bytes, int], None]) -> object:
            call = voice.calls.originate(to=NUMBER, from_="+15550000000", trunk_id=TRUNK)
            call.wait("in_progress", UP_LIMIT_S)
            return voice.audio_bridge.attach(call.sid, on_uplink=callback, delivery=delivery)

        with ThreadPoolExecutor(PLACED_AT_ONCE) as placing:
            bridges = list(placing.map(bridge, callbacks))
        wait_connected(bridges, UP_LIMIT_S)
        yield bridges


def wait_connected(bridges: list[Any], limit_s: float) -> None:
    limit = time.monotonic() + limit_s
    while any(bridge.state != "connected" for bridge in bridges):
        if time.monotonic() > limit:
            raise TimeoutError("not all bridges are up")
        time.sleep(0.01)


class Echoes:
    """What came home."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, int]] = []
        """Of each frame its channel, its way up, and when it was due at the phone after it was due here; ns."""

    def take(self, heard: bytes, ts_us: int) -> None:
        at = now_ns()
        _, channel, due, _ = HEADER.unpack_from(heard)
        self.heard.append((channel, at - ts_us * 1000, ts_us * 1000 - due))

    def late(self) -> int:
        last: dict[int, int] = {}
        missed: dict[int, int] = {}
        for channel, _, down in self.heard:
            steps = round((down - last.get(channel, down)) / FRAME_NS)
            missed[channel] = missed.get(channel, 0) + max(0, steps)
            last[channel] = down
        up = sum(1 for took in self.up() if took > LATE_NS)
        return up + sum(max(0, count - 1) for count in missed.values())

    def up(self) -> list[int]:
        """How much longer than the quickest frame of its channel each took; frames may go on coming."""
        heard = self.heard[:]
        quickest: dict[int, int] = {}
        for channel, took, _ in heard:
            quickest[channel] = min(took, quickest.get(channel, took))
        return [took - quickest[channel] for channel, took, _ in heard]


def measure(end: End, echoes: Echoes, calls: list) -> None:
    from_ns = hear()["from_ns"]
    used: dict[str, float] = {}
    drained_ns = from_ns + int((end.secs + DRAIN_S) * 1e9)

    def watch() -> None:
        wait_until(from_ns)
        before = usage()
        wait_until(drained_ns)
        used.update(difference(before, usage()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    sent = publish(end, calls, from_ns)
    watcher.join()
    say(
        sent=2 * sent,
        heard=2 * len(echoes.heard),
        late=echoes.late(),
        **quantiles(echoes.up()),
        **used,
    )
    hear()


def publish(end: End, calls: list, from_ns: int) -> int:
    shares, sent, slot = slots(end.channels), 0, 0
    for due_ns in range(from_ns, from_ns + int(end.secs * 1e9), FRAME_NS // SLOTS):
        wait_until(due_ns)
        for channel in shares[slot]:
            calls[channel](frame(channel, due_ns))
        sent += len(shares[slot])
        slot = (slot + 1) % SLOTS
    return sent


def wait_until(at_ns: int) -> None:
    time.sleep(max(0, at_ns - now_ns()) / 1e9)


if __name__ == "__main__":
    given = End(sys.argv[1:])
    far(given) if given.is_far else near(given)
