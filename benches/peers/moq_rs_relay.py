"""The server of moq-rs with one origin for all sessions: what its clients publish it forwards to the others."""

import asyncio
import sys

import moq
from channel import say


async def main(port: int) -> None:
    origin = moq.OriginProducer()
    address = f"127.0.0.1:{port}"
    async with moq.Server(address, tls_generate=["localhost"], publish=origin, subscribe=origin) as server:
        say(listening=True)
        await server.serve()


asyncio.run(main(int(sys.argv[1])))
