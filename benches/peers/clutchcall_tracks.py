"""clutchcall through a relay: a `MoqtClient` per end, a track per channel, `delivery=stream` or `datagram`.

The relay is `clutchcall relay` in a process of its own; `token` and `hash` are what the driver got for it.
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
    client = MoqtClient.connect(
        f"moqt://127.0.0.1:{end.port}", token=end.options["token"], certificate_hashes=[end.options["hash"]]
    )
    delivery = end.options["delivery"]
    tracks = [
        client.publish_audio(f"bench/{mine}/{channel}", "audio", delivery=delivery) for channel in range(end.channels)
    ]
    heard = [
        client.subscribe_audio(f"bench/{theirs}/{channel}", "audio", lambda frame, ts_us: end.on_frame(frame))
        for channel in range(end.channels)
    ]
    end.held = [client, heard]
    async with asyncio.timeout(UP_LIMIT_S):
        while any(track.subscriber_count() == 0 for track in tracks):
            await asyncio.sleep(0.02)
    return lambda channel, frame: tracks[channel].write(now_ns() // 1000, frame), None


serve(connect)
