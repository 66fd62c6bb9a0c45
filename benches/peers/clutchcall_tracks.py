"""clutchcall through a relay: a track per channel and end, `delivery=stream` or `datagram`.

`pool` channels share a `MoqtClient`; without it all of an end do. The relay is `clutchcall relay` in a process of its
own; `token` and `hash` are what the driver got for it.
"""

from __future__ import annotations

import asyncio

from channel import End, now_ns, say, serve

from clutchcall.moqt import MoqtClient

UP_LIMIT_S = 30.0


async def connect(end: End):  # noqa: ANN201
    mine, theirs = ("far", "near") if end.is_far else ("near", "far")
    if end.is_far:
        say(listening=True)
    pool = int(end.options.get("pool", end.channels))
    clients = [client(end) for _ in range(0, end.channels, pool)]
    delivery = end.options["delivery"]
    tracks = [
        clients[channel // pool].publish_audio(f"bench/{mine}/{channel}", "audio", delivery=delivery)
        for channel in range(end.channels)
    ]
    heard = [
        clients[channel // pool].subscribe_audio(
            f"bench/{theirs}/{channel}", "audio", lambda frame, ts_us: end.on_frame(frame)
        )
        for channel in range(end.channels)
    ]
    end.held = [clients, heard]
    async with asyncio.timeout(UP_LIMIT_S):
        while any(track.subscriber_count() == 0 for track in tracks):
            await asyncio.sleep(0.02)
    return lambda channel, frame: tracks[channel].write(now_ns() // 1000, frame), None


def client(end: End) -> MoqtClient:
    where, trusted = f"moqt://127.0.0.1:{end.port}", [end.options["hash"]]
    return MoqtClient.connect(where, token=end.options["token"], certificate_hashes=trusted)


serve(connect)
