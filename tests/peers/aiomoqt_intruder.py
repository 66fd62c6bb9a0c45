"""aiomoqt with a token for another call: asks for the one named in every way it knows, and says what it got.

    aiomoqt_intruder.py PORT TOKEN NAMESPACE TRACK

Raw QUIC, draft 18. One JSON object: the answer to each kind of request, and how many objects came.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable

from aiomoqt.client import MOQTClient
from aiomoqt.protocol import MOQTSessionQuic
from aiomoqt.types import SetupParamType
from aiomoqt.utils.logger import set_log_level

PORT, TOKEN, NAMESPACE, TRACK = sys.argv[1:]
LIMIT_S = 5.0


def requests(session: MOQTSessionQuic, on_object: object) -> dict[str, Callable[[], Awaitable[object]]]:
    wait = {"wait_response": True}
    return {
        "subscribe": lambda: session.subscribe(NAMESPACE, TRACK, on_object=on_object, **wait),
        "fetch": lambda: session.fetch(NAMESPACE, TRACK, end_group=1 << 20, on_object=on_object, **wait),
        "track_status": lambda: session.track_status(NAMESPACE, TRACK, **wait),
        "publish_namespace": lambda: session.publish_namespace(NAMESPACE, **wait),
        "publish": lambda: session.publish(NAMESPACE, TRACK, **wait),
        "subscribe_namespace": lambda: session.subscribe_namespace(NAMESPACE, **wait),
    }


async def answer(ask: Callable[[], Awaitable[object]]) -> dict[str, object]:
    try:
        message = await asyncio.wait_for(ask(), LIMIT_S)
    except Exception as error:
        message = error
    code = getattr(message, "error_code", getattr(message, "code", None))
    return {"kind": type(message).__name__, "code": None if code is None else int(code)}


async def main() -> None:
    objects = 0

    def on_object(*_: object) -> None:
        nonlocal objects
        objects += 1

    client = MOQTClient("127.0.0.1", int(PORT), path="/", use_quic=True, verify_tls=False, supported_drafts=18)
    async with client.connect() as session:
        await session.client_session_init(parameters={SetupParamType.AUTH_TOKEN: TOKEN.encode()})
        answers = {name: await answer(ask) for name, ask in requests(session, on_object).items()}
        print(json.dumps({"answers": answers, "objects": objects}), flush=True)


if __name__ == "__main__":
    set_log_level(logging.CRITICAL)
    asyncio.run(main())
