"""moq-rs as a publisher or a subscriber of COUNT stamped frames; argument and behaviour are those of `aiomoqt_peer.py`.

The token goes into the query of the URL. It can't be told which draft to speak: it takes the newest that the relay
has. Every frame that it publishes on streams is a stream of its own, of which the newest goes first; a bridge drops
what comes 200 ms behind a newer one, so nothing is written before the ten frames before it were heard.
"""

import asyncio
import json
import os
import sys

import moq

START_US = 1_700_000_000_000_000
FRAME_US = 20_000
BURST = 10
WISH = json.loads(sys.argv[1])
COUNT = WISH["count"]


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


async def publish(client: moq.Client) -> None:
    broadcast = client.create_broadcast(WISH["namespace"])
    track = broadcast.publish_track("audio")
    broadcast.announce()
    say(announced=WISH["namespace"])
    await track.demand().used()
    say(wanted=True)
    write = track.append_datagram if WISH["datagram"] else track.write_frame
    for n in range(COUNT):
        if n % BURST == 0:
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        write(f"frame {n}".encode(), timestamp_us=START_US + n * FRAME_US)
    say(written=COUNT)
    client.keep = (broadcast, track)


async def subscribe(client: moq.Client) -> None:
    broadcast = await client.announced_broadcast(WISH["namespace"])
    track = await broadcast.subscribe_track("audio")
    say(subscribed="audio")
    heard = 0
    while heard < COUNT:
        if WISH["datagram"]:
            frame = await track.recv_datagram()
            if frame is None:
                break
            say(stamp=frame.timestamp_us, payload=frame.payload.decode())
            heard += 1
            continue
        group = await track.next_group()
        if group is None:
            break
        while heard < COUNT and (frame := await group.read_frame()) is not None:
            say(stamp=frame.timestamp_us, payload=frame.payload.decode())
            heard += 1
    say(done=True, heard=heard)


async def main() -> None:
    query = f"?jwt={WISH['token']}" if WISH["token"] else ""
    async with moq.Client(WISH["url"].rstrip("/") + "/" + query, tls_verify=False, websocket_enabled=False) as client:
        await (publish if WISH["role"] == "publish" else subscribe)(client)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    finally:
        # Its worker threads don't always let the interpreter go.
        sys.stdout.flush()
        os._exit(0)
