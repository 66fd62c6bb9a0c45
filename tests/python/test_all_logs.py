"""No secret leaves by a log, a traceback or a `repr`: a program of its own, with `logging` at its most talkative."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LIMIT_S = 60

# Places calls well and badly, shows everything it has, and dies of an exception that it does not catch.
_PROGRAM = """
import asyncio, logging, sys, threading, traceback
from clutchcall.engine import Engine
from clutchcall.errors import ClutchCallError
from clutchcall.moqt import MoqtClient
from clutchcall.voice import AsyncVoice, Voice

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
wrong, note, state = sys.argv[1:]
engine = Engine(state=state)
print("key", engine.api_key)
voice = Voice(engine.base_url, engine.api_key, engine.org_id)
call = voice.calls.originate(to="+15550001111", from_="+15558675309", trunk_id="trunk_main", metadata={"note": note})
call.wait(status="in_progress", timeout=20)
bridge = voice.audio_bridge.attach(call.sid, on_uplink=lambda frame, ts_us: None)
shown = [engine, voice, voice.calls, voice.audio_bridge, voice.agents, call, bridge, bridge.stats(), bridge.state]

async def awaited():
    async with AsyncVoice(engine.base_url, engine.api_key, engine.org_id) as other:
        shown.append(repr(other))
        shown.append(repr(await other.calls.get(call.sid)))

asyncio.run(awaited())
stranger = Voice(engine.base_url, wrong, engine.org_id)
shown.append(stranger)
for attempt in (
    lambda: stranger.calls.list(),
    lambda: voice.calls.originate(to="+15550001111", from_="+15558675309", trunk_id="none"),
    lambda: Voice(engine.base_url + "x:y", wrong, "org"),
    lambda: Voice(engine.base_url, wrong + "\\n", "org"),
    lambda: Engine({"state": state + "2", "keys": [{"org": "o", "key": wrong, "hash": wrong}]}),
    lambda: Engine({"state": state + "2", "keys": [{"org": "o", "key": wrong}], "trunks": "x"}),
):
    try:
        attempt()
    except (ClutchCallError, ValueError, OSError) as error:
        shown.append(error)
        shown.append(traceback.format_exc())
        shown.append(getattr(error, "body", None))
failed = threading.Event()
tell = lambda state: failed.set() if "failed" in str(state) else None
pretender = MoqtClient.connect(engine.relay_url, token=wrong, insecure=True, on_state=tell)
assert failed.wait(20), "a wrong token is refused"
shown.append(pretender)
pretender.close()
for value in shown:
    print(repr(value), str(value), file=sys.stderr)
call.hangup()
bridge.close()
logging.getLogger().debug("the last word")
stranger.calls.list()
"""


def test_nothing_that_is_shown_holds_a_secret(tmp_path: Path) -> None:
    wrong, note = "tqs_live_of_nobody_at_all_0123456789", "a note that is nobody's business"
    environment = {**os.environ, "PYTHONDEVMODE": "1", "CLUTCHCALL_STATE_DIR": str(tmp_path / "none")}
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", _PROGRAM, wrong, note, str(tmp_path / "state")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment)
    assert done.returncode == 1, done.stderr
    said = done.stderr
    # What was looked for is there: the log, the exceptions, the objects, and the traceback of the end.
    for part in (
        "DEBUG:clutchcall",
        "the last word",
        "AuthenticationError",
        "<Engine http",
        "Traceback",
        "call ended",
        "SETUP refused",
    ):
        assert part in said, f"{part} is missing in {said}"
    key = next(line for line in done.stdout.splitlines() if line.startswith("key ")).split()[1]
    private = (tmp_path / "state" / "key.pem").read_text().splitlines()[1]
    signing = (tmp_path / "state" / "token.key").read_bytes()[16:48]
    for secret in (key, wrong, note, "tqs_live_", "eyJ", private, signing.hex(), repr(signing)[2:20]):
        lines = [line for line in said.splitlines() if secret in line]
        assert lines == [], f"{secret[:8]}… is shown"
