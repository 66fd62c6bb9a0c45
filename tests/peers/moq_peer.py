"""moq-rs as a peer of the relay: publishes COUNT stamped frames, or subscribes and prints what it gets.

    moq_peer.py publish|subscribe PORT TOKEN NAMESPACE TRACK COUNT [DRAFT [quic|webtransport]]

Raw QUIC unless told otherwise; the draft is the relay's choice, for this stack can't name one. The token is in the
path's query. Frame n has the stamp START + n * 20000 and the payload `frame n`. A subscriber prints one JSON object per
frame and then `{"done": true}`. A publisher waits for a line on its standard input before each ten frames: every frame
is a stream of its own here, the newest goes first, and a bridge drops what comes 200 ms behind a newer one. Both end
when that input closes.
"""

import asyncio
import json
import os
import sys

import moq

START_US = 1_700_000_000_000_000
FRAME_US = 20_000
ROLE, PORT, TOKEN, NAMESPACE, TRACK, COUNT, *REST = sys.argv[1:]
SCHEME = "https" if REST[1:] == ["webtransport"] else "moqt"


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


async def go() -> None:
    """Waits for a line: the subscriber has its SUBSCRIBE_OK, and heard all that was written before."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def publish(client: moq.Client) -> None:
    broadcast = client.create_broadcast(NAMESPACE)
    track = broadcast.publish_track(TRACK)
    broadcast.announce()
    say(announced=NAMESPACE)
    await track.demand().used()
    for n in range(int(COUNT)):
        if n % 10 == 0:
            await go()
        track.write_frame(f"frame {n}".encode(), timestamp_us=START_US + n * FRAME_US)
    say(written=int(COUNT))
    client.keep = (broadcast, track)


async def subscribe(client: moq.Client) -> None:
    broadcast = await client.announced_broadcast(NAMESPACE)
    track = await broadcast.subscribe_track(TRACK)
    say(subscribed=TRACK)
    heard = 0
    while heard < int(COUNT) and (group := await track.next_group()) is not None:
        while (frame := await group.read_frame()) is not None:
            say(stamp=frame.timestamp_us, payload=frame.payload.decode())
            heard += 1
            if heard == int(COUNT):
                break
    say(done=True)


async def main() -> None:
    url = f"{SCHEME}://127.0.0.1:{PORT}/?jwt={TOKEN}"
    async with moq.Client(url, tls_verify=False, websocket_enabled=False) as client:
        await (publish(client) if ROLE == "publish" else subscribe(client))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    finally:
        # Its worker threads don't always let the interpreter go.
        os._exit(0)
