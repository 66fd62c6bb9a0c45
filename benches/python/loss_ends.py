"""The processes of `loss.py`, one role each: who publishes and who subscribes, with clutchcall or with aiomoqt.

A frame is 80 bytes: its number, the moment it was written (monotonic ns, the same clock for every process of a
machine), and nothing. Roles talk in JSON lines: `{"ready": true}` when they are served, then what they have done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import sys
import time
from typing import Any

FRAME_NS = 20_000_000
GROUP = 50
NAME = "audio"


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def frame(number: int) -> bytes:
    return struct.pack(">QQ", number, time.monotonic_ns()) + bytes(64)


class Ear:
    """What came: its number, and how long after it was written."""

    def __init__(self) -> None:
        self.late_us: dict[int, int] = {}
        self.twice = 0

    def take(self, payload: bytes) -> None:
        number, written_ns = struct.unpack(">QQ", payload[:16])
        self.twice += number in self.late_us
        self.late_us.setdefault(number, (time.monotonic_ns() - written_ns) // 1000)

    def tell(self, **more: object) -> None:
        say(late_us=[self.late_us.get(number, -1) for number in range(JOB["count"])], twice=self.twice, **more)


def ours_publish() -> None:
    from clutchcall.moqt import MoqtClient

    with client(MoqtClient) as ours:
        track = ours.publish_audio(JOB["namespace"], NAME, delivery=JOB["mapping"])
        while track.subscriber_count() == 0:
            time.sleep(0.01)
        say(ready=True)
        sys.stdin.readline()
        begin_ns = time.monotonic_ns()
        for number in range(JOB["count"]):
            time.sleep(max(0, begin_ns + number * FRAME_NS - time.monotonic_ns()) / 1e9)
            track.write(number * FRAME_NS // 1000, frame(number))
        say(reconnects=ours.reconnects)
        sys.stdin.readline()


def ours_subscribe() -> None:
    from clutchcall.moqt import MoqtClient

    ear = Ear()
    with client(MoqtClient) as ours:
        subscription = ours.subscribe_audio(JOB["namespace"], NAME, lambda payload, _: ear.take(payload))
        say(ready=True)
        sys.stdin.readline()
        ear.tell(reconnects=ours.reconnects, missing=subscription.missing, dropped=subscription.dropped)


def client(kind: Any) -> Any:  # noqa: ANN401 (this file also runs where clutchcall is not)
    return kind.connect(f"moqt://127.0.0.1:{JOB['port']}", token=JOB["token"], insecure=True)


async def line() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def aiomoqt(role: str) -> None:
    from aiomoqt.client import MOQTClient

    moqt = MOQTClient("127.0.0.1", JOB["port"], path="/", use_quic=True, verify_tls=False, supported_drafts=18)
    async with moqt.connect() as session:
        await session.client_session_init()
        await (aiomoqt_publish if role == "publish" else aiomoqt_subscribe)(session)


async def aiomoqt_publish(session: Any) -> None:  # noqa: ANN401
    from aiomoqt.delivery import StreamMapping
    from aiomoqt.track import PublishedTrack

    class Speech(PublishedTrack):
        mapping = StreamMapping.DATAGRAM if JOB["mapping"] == "datagram" else StreamMapping.PER_GROUP

        async def produce(self, out: Any) -> None:  # noqa: ANN401
            say(ready=True)
            await line()
            begin_ns = time.monotonic_ns()
            for number in range(JOB["count"]):
                await asyncio.sleep(max(0, begin_ns + number * FRAME_NS - time.monotonic_ns()) / 1e9)
                group, in_group = (number, 0) if JOB["mapping"] == "datagram" else divmod(number, GROUP)
                stamp = {0x10: number * FRAME_NS // 1000}
                await out.write(group, in_group, frame(number), extensions=stamp, group_start=in_group == 0)
            say(reconnects=0)
            await asyncio.Event().wait()

    track = Speech(session, JOB["namespace"], NAME, track_properties={0x08: 1_000_000})
    await track.publish(announce_namespace=True, publish_track=False)
    say(announced=True)
    await asyncio.Event().wait()


async def aiomoqt_subscribe(session: Any) -> None:  # noqa: ANN401
    from aiomoqt.track import SubscribedTrack

    ear = Ear()

    def on_object(message: Any, *_: object) -> None:  # noqa: ANN401
        if message.payload:
            ear.take(bytes(message.payload))

    track = SubscribedTrack(session, JOB["namespace"], NAME, on_object=on_object)
    await track.subscribe()
    say(ready=True)
    await line()
    ear.tell(reconnects=0)


if __name__ == "__main__":
    make, role = sys.argv[1:]
    JOB = json.loads(sys.stdin.readline())
    if make == "ours":
        {"publish": ours_publish, "subscribe": ours_subscribe}[role]()
    else:
        import logging

        from aiomoqt.utils.logger import set_log_level

        set_log_level(logging.CRITICAL)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(aiomoqt(role))
