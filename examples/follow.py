"""Dials several numbers and follows what becomes of them: statuses, how each ended, and what the library has to say.

clutchcall dev                 # in another terminal
python examples/follow.py [NUMBER ...]
"""

from __future__ import annotations

import logging
import sys
import threading
from functools import partial

from clutchcall.errors import CallError
from clutchcall.types import CallStatus
from clutchcall.voice import Call, Voice

# The library's records have the names `clutchcall`, `clutchcall.media`, `clutchcall.http`, …
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
NUMBERS = sys.argv[1:] or ["+15550009013", "+15550009486", "+15550009603"]


def follow(call: Call) -> None:
    """Waits for an answer, then for the end."""
    try:
        call.wait("in_progress", timeout=60)
    except CallError as error:
        print(f"{call.to}: no answer: {error.end_reason}, SIP {error.sip_code}", flush=True)
        return
    *_, last = call.events()
    print(f"{call.to}: answered {last.answered_at}, ended {last.ended_at}: {last.end_reason}", flush=True)


def told(number: str, status: CallStatus) -> None:
    """Called on a thread of the library."""
    print(f"{number}: {status}", flush=True)


with Voice() as voice:
    threads = []
    for number in NUMBERS:
        call = voice.calls.originate(number, from_="+15558675309", trunk_id="trunk_main")
        call.on_status(partial(told, number))
        threads.append(threading.Thread(target=follow, args=(call,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
