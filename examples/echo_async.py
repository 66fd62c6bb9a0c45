"""The agent of `echo.py` on an event loop, on several calls at once.

clutchcall dev                 # in another terminal
python examples/echo_async.py [NUMBER ...]
"""

from __future__ import annotations

import asyncio
import sys

from clutchcall.voice import AsyncVoice

NUMBERS = sys.argv[1:] or ["+15550009013", "+15550009013"]


async def echo(voice: AsyncVoice, number: str) -> None:
    """One call, from its first frame to its last."""
    call = await voice.calls.originate(number, from_="+15558675309", trunk_id="trunk_main")
    said = 0
    async with await voice.audio_bridge.attach(call.sid) as bridge:
        async for frame in bridge.uplink():
            bridge.publish_downlink(frame.data)
            said += 1
    await call.wait(timeout=10)
    print(f"{call.sid} ended ({call.end_reason}): {said} frames said back")


async def main() -> None:
    """All of them."""
    async with AsyncVoice() as voice:
        await asyncio.gather(*(echo(voice, number) for number in NUMBERS))


asyncio.run(main())
