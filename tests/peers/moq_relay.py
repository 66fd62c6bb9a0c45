"""moq-rs as a relay: `moq_relay.py PORT CERT KEY`. Whoever comes is let in.

Publishers and subscribers share one origin, so it relays. Prints `{"serving": …}`; ends when its standard input closes.
"""

import asyncio
import json
import os
import sys

import moq

PORT, CERT, KEY = sys.argv[1:]


async def main() -> None:
    loop = asyncio.get_running_loop()
    sessions = []

    async def hold(request: moq.Request) -> None:
        sessions.append(await request.accept())

    async with moq.Server(f"127.0.0.1:{PORT}", tls_cert=[CERT], tls_key=[KEY]) as server:
        print(json.dumps({"serving": server.local_addr}), flush=True)
        ending = loop.run_in_executor(None, sys.stdin.read)
        ending.add_done_callback(lambda _: os._exit(0))
        holding = set()
        async for request in server:
            task = asyncio.ensure_future(hold(request))
            holding.add(task)
            task.add_done_callback(holding.discard)


if __name__ == "__main__":
    asyncio.run(main())
