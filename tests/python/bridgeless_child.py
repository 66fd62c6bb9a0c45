"""A program without a bridge, whose callback or log handler blocks while it awaits other things.

    bridgeless_child.py status|handler URL KEY ORG

Nothing that carries audio runs in it. It prints `done` when all that others wait for has come.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading

from clutchcall import _core
from clutchcall.voice import AsyncCall, AsyncVoice

WHAT, *SETTINGS = sys.argv[1:]
LIMIT_S = 20.0
RECORDS = 10
entered, release, changed, told = (threading.Event() for _ in range(4))
said: list[str] = []


def block(status: str = "") -> None:
    entered.set()
    release.wait()


class Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("blocks"):
            block()
        if text.startswith("later"):
            said.append(text)
            if len(said) == RECORDS:
                told.set()


async def came(event: threading.Event, what: str) -> None:
    assert await asyncio.to_thread(event.wait, LIMIT_S), what


async def dialled(voice: AsyncVoice) -> AsyncCall:
    return await asyncio.wait_for(
        voice.calls.originate(to="+15550009000", from_="+15558675309", trunk_id="trunk_main"), LIMIT_S
    )


async def others_go_on(voice: AsyncVoice) -> None:
    for _ in range(20):
        await asyncio.wait_for(voice.calls.list(limit=1), LIMIT_S)
    other = await dialled(voice)
    other.on_status(lambda status: changed.set())
    await came(changed, "no status of the other call")
    await asyncio.wait_for(anext(other.events()), LIMIT_S)
    await other.hangup()


async def main() -> None:
    logging.getLogger("clutchcall").addHandler(Handler())
    async with AsyncVoice(*SETTINGS) as voice:
        call = await dialled(voice)
        if WHAT == "status":
            call.on_status(block)
        else:
            _core._log_sample("warning", "blocks", 1)
        await came(entered, "nothing blocked")
        await others_go_on(voice)
        _core._log_sample("warning", "later", RECORDS)
        if WHAT == "handler":
            # The handler itself is what they wait for.
            await others_go_on(voice)
            assert not said
            release.set()
        await came(told, "the records did not come")
        assert said == [f"later number={number} sid=CA1" for number in range(RECORDS)], said
        await call.hangup()


try:
    asyncio.run(main())
finally:
    release.set()
print("done")
