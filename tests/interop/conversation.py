"""One cell, carried out: COUNT frames from a publisher through a relay to a subscriber, all counted."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

from cells import OURS, Cell
from stacks import LIMIT_S, AnyRelay, Process, peer

from clutchcall.moqt import MoqtClient

COUNT = 120
BURST = 10
START_US = 1_700_000_000_000_000
FRAME_US = 20_000
# What does not count: said until it is heard for the first time.
WARM = b"warm-up"

Frame = tuple[int, str]


def sent() -> list[Frame]:
    """What every publisher says."""
    return [(START_US + n * FRAME_US, f"frame {n}") for n in range(COUNT)]


class Listener(Protocol):
    """Someone who subscribed."""

    def hear(self, count: int) -> list[Frame]:
        """The next frames; raises when they don't come."""

    def close(self) -> None: ...


class Speaker(Protocol):
    """Someone who publishes."""

    def wanted(self) -> None:
        """Waits until somebody subscribed."""

    def say(self, frames: list[Frame]) -> None: ...

    def close(self) -> None: ...


class OurListener:
    """A `MoqtClient` that subscribes."""

    def __init__(self, relay: AnyRelay, cell: Cell, namespace: str) -> None:
        self._frames: list[Frame] = []
        self._taken = 0
        self.is_live = False
        self._news = threading.Condition()
        self._client = our_client(relay, cell)
        self._subscription = self._client.subscribe_audio(namespace, "audio", self._on_frame)

    def _on_frame(self, frame: bytes, timestamp_us: int) -> None:
        with self._news:
            if frame == WARM:
                self.is_live = True
            else:
                self._frames.append((timestamp_us, frame.decode()))
            self._news.notify_all()

    def wait_live(self, pause_s: float) -> None:
        """Until a warm-up was heard, or for so long."""
        with self._news:
            self._news.wait_for(lambda: self.is_live, pause_s)

    def hear(self, count: int) -> list[Frame]:
        until = self._taken + count
        with self._news:
            came = self._news.wait_for(lambda: len(self._frames) >= until, LIMIT_S)
            state = f"{self._client.state} ({self._client.reason})"
            assert came, f"we heard {len(self._frames)} of {until} frames; the link is {state}"
            found = self._frames[self._taken : until]
        self._taken = until
        return found

    def more(self) -> int:
        """Frames that came beyond those that were asked for."""
        return len(self._frames) - self._taken

    def close(self) -> None:
        self._client.close()


class TheirListener:
    """A foreign client that subscribes."""

    def __init__(self, relay: AnyRelay, cell: Cell, namespace: str) -> None:
        self._process = peer(cell.subscriber, "subscribe", relay, cell.wire, wish(cell, namespace))

    def hear(self, count: int) -> list[Frame]:
        lines = [self._process.message("payload", "done") for _ in range(count)]
        return [(line.get("stamp", -1), line.get("payload", "the end")) for line in lines]

    def close(self) -> None:
        self._process.close()


class OurSpeaker:
    """A `MoqtClient` that publishes."""

    def __init__(self, relay: AnyRelay, cell: Cell, namespace: str) -> None:
        self._client = our_client(relay, cell)
        delivery: Any = cell.delivery
        self._track = self._client.publish_audio(namespace, "audio", delivery=delivery)

    def wanted(self) -> None:
        deadline, pause = time.monotonic() + LIMIT_S, threading.Event()
        while self._track.subscriber_count() == 0:
            state = f"{self._client.state} ({self._client.reason})"
            assert time.monotonic() < deadline, f"nobody subscribes to us; the link is {state}"
            pause.wait(0.005)

    def warm_up(self, listener: OurListener) -> None:
        """A foreign relay may subscribe to us before it has placed its own subscriber, who hears the live edge."""
        deadline = time.monotonic() + LIMIT_S
        for n in itertools.count():
            self._track.write(n, WARM)
            listener.wait_live(0.02)
            if listener.is_live:
                return
            assert time.monotonic() < deadline, f"we heard none of {n} frames"

    def say(self, frames: list[Frame]) -> None:
        for stamp, payload in frames:
            self._track.write(stamp, payload.encode())

    def close(self) -> None:
        self._client.close()


class TheirSpeaker:
    """A foreign client that publishes what `sent` has, ten frames at a time."""

    def __init__(self, relay: AnyRelay, cell: Cell, namespace: str) -> None:
        self._process: Process = peer(cell.publisher, "publish", relay, cell.wire, wish(cell, namespace))

    def wanted(self) -> None:
        self._process.message("wanted")

    def say(self, frames: list[Frame]) -> None:
        del frames
        self._process.go()

    def close(self) -> None:
        self._process.close()


def our_client(relay: AnyRelay, cell: Cell) -> MoqtClient:
    return MoqtClient.connect(relay.url(cell.wire), token=relay.token, insecure=True, drafts=[str(cell.draft)])


def wish(cell: Cell, namespace: str) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "count": COUNT,
        "draft": cell.draft,
        "datagram": cell.delivery == "datagram",
    }


def bursts() -> Iterator[list[Frame]]:
    frames = sent()
    for start in range(0, COUNT, BURST):
        yield frames[start : start + BURST]


def converse(relay: AnyRelay, cell: Cell) -> None:
    """Raises where a frame is missing, strange, twice, or has a stamp that is not its own."""
    namespace = f"voice/{uuid.uuid4().hex}/uplink"
    with ExitStack() as ends:
        speaker: Speaker = (OurSpeaker if cell.publisher == OURS else TheirSpeaker)(relay, cell, namespace)
        ends.callback(speaker.close)
        listener: Listener = (OurListener if cell.subscriber == OURS else TheirListener)(relay, cell, namespace)
        ends.callback(listener.close)
        speaker.wanted()
        if isinstance(speaker, OurSpeaker) and isinstance(listener, OurListener):
            speaker.warm_up(listener)
        heard: list[Frame] = []
        for burst in bursts():
            speaker.say(burst)
            heard += listener.hear(len(burst))
        # Streams may overtake each other, and so may datagrams.
        assert sorted(heard) == sent(), f"{len(set(heard) & set(sent()))} of {COUNT} frames are right"
        if isinstance(listener, OurListener):
            assert listener.more() == 0, "frames came twice"
