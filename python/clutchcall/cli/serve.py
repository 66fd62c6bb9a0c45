"""`clutchcall serve`: an engine from a configuration file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from clutchcall.cli.terminal import Stop, say, show_logs


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser(
        "serve",
        help="run an engine from a configuration file",
        description="Runs an engine until Ctrl-C or SIGTERM; calls that are up end as server_shutdown. SIGHUP reads "
        "again what may change in files: API keys, relay.public_keys, relay.revoked, certificates.",
        epilog="CLUTCHCALL_API_LISTEN and the like replace single values of the file.",
    )
    parser.add_argument("--example", action="store_true", help="print a file with every key, to begin with")
    parser.add_argument("--config", default="clutchcall.toml", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object when it serves")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serves until somebody asks for the end."""
    if arguments.example:
        from clutchcall import _core

        say(_core.example_config().rstrip())
        return 0
    from clutchcall.engine import Engine

    stop = Stop()
    show_logs()
    with Engine(arguments.config) as engine:
        stop.on_hangup(engine.reload)
        if arguments.json:
            say(json.dumps({"base_url": engine.base_url, "relay_url": engine.relay_url}))
        else:
            say(f"API        {engine.base_url}")
            say(f"relay      {engine.relay_url}")
            say("Ctrl-C ends it")
        while not stop.wait(3600.0):
            pass
        if not arguments.json:
            say("ending the calls that are up; Ctrl-C again ends the process at once")
    return 0
