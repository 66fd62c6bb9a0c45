"""`clutchcall dev`: engine, relay and simulated phone on this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clutchcall.cli.folder import state_folder
from clutchcall.cli.terminal import Stop, say, show_logs

if TYPE_CHECKING:
    from clutchcall.voice import Voice

_ORG = "org_dev"
_SCRIPT = """\
from clutchcall.voice import Voice

voice = Voice()  # finds this engine
call = voice.calls.originate(to="+15550009013", from_="+15558675309", trunk_id="trunk_main")

bridge = voice.audio_bridge.attach(call.sid, on_uplink=lambda frame, ts_us: None)
bridge.on_uplink(lambda frame, ts_us: bridge.publish_downlink(frame))  # the caller hears herself

call.wait(status="completed", timeout=60)  # this phone says its piece and hangs up
print(call.sid, call.end_reason, bridge.stats())
bridge.close()
"""
# How often the table of calls looks again.
_LOOK_S = 0.5


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser(
        "dev",
        help="run engine, relay and simulated phone on this machine",
        description="Runs an engine with its relay and its simulated phone on loopback. Voice() in other "
        "processes of this user finds it by itself.",
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="TCP, of the API; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--relay-port", type=int, default=4433, help="UDP, of the relay; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument("--state", metavar="DIR", help="folder for records, certificate and keys")
    parser.add_argument("--phone-says", metavar="WAV", help="what the phone says when it answers")
    parser.add_argument("--phone-records", metavar="DIR", help="where the phone puts what it hears, one WAV per call")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object per line: the engine, then every change of a call"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serves, tells of calls, and ends when asked."""
    from clutchcall import _core
    from clutchcall.engine import Engine
    from clutchcall.voice import Voice

    folder = state_folder()
    stop = Stop()
    show_logs()
    key, _ = _core.mint_key(_ORG)
    with Engine(_config(arguments, folder, key)) as engine:
        known = {"base_url": engine.base_url, "relay_url": engine.relay_url, "api_key": key, "org_id": _ORG}
        with _announced(known, folder), Voice(engine.base_url, key, _ORG) as voice:
            _greet(known, arguments.json)
            _follow(voice, stop, arguments.json)
        if not arguments.json:
            say("ending the calls that are up; Ctrl-C again ends the process at once")
    return 0


def _config(arguments: argparse.Namespace, folder: Path, key: str) -> dict[str, object]:
    """The development engine, with fixed ports and a state that outlives it."""
    absolute = {name: os.path.abspath(path) for name, path in _phone(arguments) if path}
    return {
        "state": os.path.abspath(arguments.state or folder / "dev"),
        "api": {"listen": f"127.0.0.1:{arguments.port}"},
        "relay": {"listen": f"127.0.0.1:{arguments.relay_port}"},
        "phone": absolute,
        "keys": [{"org": _ORG, "key": key}],
        "trunks": {"trunk_main": {"kind": "phone"}},
        "agents": {"echo": {"kind": "echo"}},
    }


def _phone(arguments: argparse.Namespace) -> list[tuple[str, str | None]]:
    return [("clip", arguments.phone_says), ("record", arguments.phone_records)]


@contextlib.contextmanager
def _announced(known: dict[str, str], folder: Path) -> Iterator[None]:
    """Leaves the file by which `Voice()` finds this engine; for the owner's eyes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file, unfinished = folder / "dev.json", folder / f"dev.{os.getpid()}"
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        json.dump({"pid": os.getpid(), **known}, out)
    unfinished.replace(file)
    try:
        yield
    finally:
        # A later `clutchcall dev` may have put its own there.
        with contextlib.suppress(OSError, ValueError):
            if json.loads(file.read_text(encoding="utf-8"))["pid"] == os.getpid():
                file.unlink()


def _greet(known: dict[str, str], as_json: bool) -> None:
    if as_json:
        say(json.dumps(known))
        return
    say(f"API        {known['base_url']}")
    say(f"relay      {known['relay_url']}")
    say(f"key        {known['api_key']}")
    say(f"org        {known['org_id']}")
    say("\nA first call, from another terminal:\n")
    say("    clutchcall call +15550009013\n")
    say("or as a script:\n")
    say("".join(f"    {line}\n" if line else "\n" for line in _SCRIPT.splitlines()))
    say("Ctrl-C ends it. Calls:")


def _follow(voice: Voice, stop: Stop, as_json: bool) -> None:
    """One line per change of a call's status."""
    seen: dict[str, str] = {}
    while not stop.wait(_LOOK_S):
        calls = voice.calls.list(limit=100)
        before, seen = seen, {call.sid: call.status for call in calls}
        for call in calls:
            if before.get(call.sid) == call.status:
                continue
            if as_json:
                say(json.dumps({"sid": call.sid, "status": call.status, "to": call.to, "end_reason": call.end_reason}))
            else:
                why = f" ({call.end_reason})" if call.end_reason else ""
                say(f"{time.strftime('%H:%M:%S')}  {call.sid}  {call.from_} → {call.to}  {call.status}{why}")
