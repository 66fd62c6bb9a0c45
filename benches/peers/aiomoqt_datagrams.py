"""aiomoqt: a MoQT object datagram per frame, draft 18, all channels on one session, no relay."""

import asyncio
import logging

from aiomoqt.client import MOQTClient
from aiomoqt.delivery import StreamMapping
from aiomoqt.server import MOQTServer
from aiomoqt.track import PublishedTrack, SubscribedTrack
from aiomoqt.types import MOQTMessageType
from aiomoqt.utils.logger import set_log_level
from channel import End, certificate, say, serve

DRAFT = 18
UP_LIMIT_S = 30.0


class Track(PublishedTrack):
    """One of ours, once somebody subscribed to it."""

    writer = None

    async def produce(self, writer: object) -> None:
        self.writer = writer
        await asyncio.Event().wait()


async def connect(end: End):  # noqa: ANN201
    set_log_level(logging.ERROR)
    mine, theirs = ("far", "near") if end.is_far else ("near", "far")
    tracks: list[Track] = []
    end.held = [tracks]

    def publish(session: object) -> None:
        for channel in range(end.channels):
            track = Track(session, mine, str(channel), fetch_history_bytes=0)
            track.mapping = StreamMapping.DATAGRAM
            track.attach()
            tracks.append(track)

    async def subscribe(session: object) -> None:
        for channel in range(end.channels):
            heard = SubscribedTrack(
                session, theirs, str(channel), on_object=lambda message, *_: end.on_frame(bytes(message.payload))
            )
            await heard.subscribe()
            end.held.append(heard)

    if end.is_far:
        chain, key = certificate()
        server = MOQTServer(
            host="127.0.0.1",
            port=end.port,
            certificate=chain,
            private_key=key,
            path="/",
            use_quic=True,
            supported_drafts=DRAFT,
            congestion_control_algorithm="cubic",
        )
        arrived = asyncio.get_running_loop().create_future()

        async def on_subscribe(session: object, message: object) -> None:
            if not tracks:
                publish(session)
                arrived.set_result(session)
            name = message.track_name
            await tracks[int(name.decode() if isinstance(name, bytes) else name)]._on_subscribe(session, message)

        server.register_handler(MOQTMessageType.SUBSCRIBE, on_subscribe)
        end.held.append(await server.serve())
        say(listening=True)
        session = await arrived
        await asyncio.sleep(0.2)  # The client publishes before it subscribes; its tracks are up by now.
        await subscribe(session)
    else:
        client = MOQTClient(
            "127.0.0.1",
            end.port,
            path="/",
            use_quic=True,
            supported_drafts=DRAFT,
            verify_tls=False,
            congestion_control_algorithm="cubic",
        )
        dialled = client.connect()
        session = await dialled.__aenter__()
        await session.client_session_init()
        end.held += [client, dialled]
        publish(session)
        await subscribe(session)
    async with asyncio.timeout(UP_LIMIT_S):
        while any(track.writer is None for track in tracks):
            await asyncio.sleep(0.02)
    groups = [0] * end.channels

    async def send(channel: int, frame: bytes) -> None:
        group = groups[channel]
        groups[channel] = group + 1
        await tracks[channel].writer.write(group, 0, frame, group_start=True)

    return send, None


serve(connect)
