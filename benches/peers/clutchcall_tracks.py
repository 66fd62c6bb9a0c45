"""clutchcall through a relay: a track per channel and end, `delivery=stream` or `datagram`.

`pool` channels share a `MoqtClient`, which has a token of its own: a relay bounds what one token may (64 subscriptions
that wait for their publisher). The relay is `clutchcall relay` in a process of its own; `key` signs its tokens, and
`hash` is its certificate's.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from channel import End, now_ns, say, serve

from clutchcall import _core
from clutchcall.moqt import MoqtClient

UP_LIMIT_S = 30.0


async def connect(end: End):  # noqa: ANN201
    mine, theirs = ("far", "near") if end.is_far else ("near", "far")
    if end.is_far:
        say(listening=True)
    pool, delivery = int(end.options["pool"]), end.options["delivery"]
    clients = [client(end, f"{mine}{nth}") for nth in range(0, end.channels, pool)]
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


def client(end: End, name: str) -> MoqtClient:
    now_s = int(time.time())
    claims = {"sub": name, "iat": now_s, "exp": now_s + 900, "ns": ["bench/**"]}
    token = _core.mint_token(Path(end.options["key"]), json.dumps(claims), None)
    where = f"moqt://127.0.0.1:{end.port}"
    return MoqtClient.connect(where, token=token, certificate_hashes=[end.options["hash"]])


serve(connect)
