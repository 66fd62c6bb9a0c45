"""aiomoqt as a peer of the relay: publishes COUNT stamped frames, or subscribes and prints what it gets.

    aiomoqt_peer.py publish|subscribe PORT TOKEN NAMESPACE TRACK COUNT [DRAFT [quic|webtransport]]

Draft 18 and raw QUIC unless told otherwise, the token in SETUP. Frame n has the stamp START + n * 20000 and the
payload `frame n`. A subscriber prints one JSON object per frame and then `{"done": true}`, and ends when its standard
input closes. A publisher waits for a line there before each ten frames: a new group may overtake the end of the one
before.
"""

import asyncio
import json
import logging
import sys

from aiomoqt.client import MOQTClient
from aiomoqt.delivery import FanoutDelivery, StreamMapping
from aiomoqt.messages.base import MOQTMessage
from aiomoqt.protocol import MOQTSessionQuic
from aiomoqt.track import PublishedTrack, SubscribedTrack
from aiomoqt.types import SetupParamType
from aiomoqt.utils.logger import set_log_level

START_US = 1_700_000_000_000_000
FRAME_US = 20_000
GROUP = 50
TIMESTAMP = 0x10
TIMESCALE = 0x08
ROLE, PORT, TOKEN, NAMESPACE, TRACK, COUNT, *REST = sys.argv[1:]
DRAFT, WIRE = (REST + ["18", "quic"][len(REST) :])[:2]


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


class Speech(PublishedTrack):
    """COUNT frames, ten for each line."""

    mapping = StreamMapping.PER_GROUP

    async def produce(self, out: FanoutDelivery) -> None:
        for n in range(int(COUNT)):
            if n % 10 == 0:
                # The subscriber has its SUBSCRIBE_OK, and heard all that was written before.
                await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            group, number = divmod(n, GROUP)
            stamp = {TIMESTAMP: START_US + n * FRAME_US}
            payload = f"frame {n}".encode()
            await out.write(group, number, payload, extensions=stamp, group_start=number == 0)
        say(written=int(COUNT))
        await asyncio.Event().wait()


async def publish(session: MOQTSessionQuic) -> None:
    track = Speech(session, NAMESPACE, TRACK, track_properties={TIMESCALE: 1_000_000})
    await track.publish(announce_namespace=True, publish_track=False)
    say(announced=NAMESPACE)
    await asyncio.Event().wait()


async def subscribe(session: MOQTSessionQuic) -> None:
    heard = 0

    def on_object(message: MOQTMessage, *_: object) -> None:
        nonlocal heard
        payload = bytes(message.payload or b"")
        if payload:
            heard += 1
            say(stamp=(message.extensions or {}).get(TIMESTAMP), payload=payload.decode())
        if heard == int(COUNT):
            say(done=True)

    track = SubscribedTrack(session, NAMESPACE, TRACK, on_object=on_object)
    await track.subscribe()
    say(subscribed=TRACK)
    session.keep = track


async def main() -> None:
    client = MOQTClient(
        "127.0.0.1", int(PORT), path="/", use_quic=WIRE == "quic", verify_tls=False, supported_drafts=int(DRAFT)
    )
    async with client.connect() as session:
        await session.client_session_init(parameters={SetupParamType.AUTH_TOKEN: TOKEN.encode()})
        await (publish(session) if ROLE == "publish" else subscribe(session))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    set_log_level(logging.ERROR)
    asyncio.run(main())
