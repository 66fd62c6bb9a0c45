"""moq-rs through a relay: a broadcast per end, a track per channel, one session per end.

`delivery=datagram`, or `delivery=stream`: a group of one frame, which is a stream, per frame. The relay is
`moq_rs_relay.py` in a process of its own.
"""

import asyncio

import moq
from channel import End, say, serve

UP_LIMIT_S = 30.0


async def connect(end: End):  # noqa: ANN201
    datagrams = end.options["delivery"] == "datagram"
    mine, theirs = ("far", "near") if end.is_far else ("near", "far")
    if end.is_far:
        say(listening=True)
    client = moq.Client(f"https://127.0.0.1:{end.port}", tls_verify=False, websocket_enabled=False)
    await client.__aenter__()
    broadcast = client.create_broadcast(mine)
    tracks = [broadcast.publish_track(str(channel)) for channel in range(end.channels)]
    broadcast.announce()
    other = await asyncio.wait_for(client.announced_broadcast(theirs), UP_LIMIT_S)

    async def listen(name: str) -> None:
        track = await other.subscribe_track(name)
        read = track.recv_datagram if datagrams else track.read_frame
        while (heard := await read()) is not None:
            end.on_frame(heard.payload)

    listeners = [asyncio.create_task(listen(str(channel))) for channel in range(end.channels)]
    for track in tracks:
        await asyncio.wait_for(track.demand().used(), UP_LIMIT_S)
    end.held = [client, broadcast, other, listeners]
    if datagrams:
        return lambda channel, frame: tracks[channel].append_datagram(frame, 0), None
    return lambda channel, frame: tracks[channel].write_frame(frame, 0), None


serve(connect)
