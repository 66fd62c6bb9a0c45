"""aiomoqt as a publisher or a subscriber of COUNT stamped frames. Its one argument is a JSON object:

    {"role": "publish" | "subscribe", "url": …, "token": … | null, "namespace": …, "count": …, "draft": …,
     "datagram": …}

Frame n has the stamp START + n * 20000 and the payload `frame n`; the token goes into SETUP. A subscriber prints one
JSON object per frame and then `{"done": true}`. A publisher prints `{"wanted": true}` when somebody subscribes, and
waits for a line on its standard input before each ten frames. Both end when that input closes.
"""

import asyncio
import json
import logging
import sys
from urllib.parse import urlsplit

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
BURST = 10
TIMESTAMP = 0x10
TIMESCALE = 0x08
WISH = json.loads(sys.argv[1])
COUNT = WISH["count"]


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


class Speech(PublishedTrack):
    """COUNT frames, ten at a time."""

    mapping = StreamMapping.DATAGRAM if WISH["datagram"] else StreamMapping.PER_GROUP

    async def produce(self, out: FanoutDelivery) -> None:
        say(wanted=True)
        for n in range(COUNT):
            if n % BURST == 0:
                await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            # A datagram is a group of its own, as peers of the moq-rs family want it.
            group, number = (n, 0) if WISH["datagram"] else divmod(n, GROUP)
            stamp = {TIMESTAMP: START_US + n * FRAME_US}
            await out.write(group, number, f"frame {n}".encode(), extensions=stamp, group_start=number == 0)
        say(written=COUNT)
        await asyncio.Event().wait()


async def publish(session: MOQTSessionQuic) -> None:
    track = Speech(session, WISH["namespace"], "audio", track_properties={TIMESCALE: 1_000_000})
    await track.publish(announce_namespace=True, publish_track=False)
    say(announced=WISH["namespace"])
    await asyncio.Event().wait()


async def subscribe(session: MOQTSessionQuic) -> None:
    heard = 0

    def on_object(message: MOQTMessage, *_: object) -> None:
        nonlocal heard
        payload = bytes(message.payload or b"")
        if payload:
            heard += 1
            say(stamp=(message.extensions or {}).get(TIMESTAMP), payload=payload.decode())
        if heard == COUNT:
            say(done=True)

    track = SubscribedTrack(session, WISH["namespace"], "audio", on_object=on_object)
    await track.subscribe()
    say(subscribed="audio")
    session.keep = track


async def main() -> None:
    url = urlsplit(WISH["url"])
    client = MOQTClient(
        url.hostname,
        url.port,
        path=url.path or "/",
        use_quic=url.scheme == "moqt",
        verify_tls=False,
        supported_drafts=WISH["draft"],
    )
    async with client.connect() as session:
        token = {SetupParamType.AUTH_TOKEN: WISH["token"].encode()} if WISH["token"] else {}
        await session.client_session_init(parameters=token)
        say(draft=session.negotiated_draft)
        if WISH["role"] == "publish" and WISH["datagram"] and not session.datagram_max_payload():
            # It would drop every one of them without a word.
            raise SystemExit("aiomoqt says that it can send no datagram on this session")
        await (publish if WISH["role"] == "publish" else subscribe)(session)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    set_log_level(logging.ERROR)
    asyncio.run(main())
