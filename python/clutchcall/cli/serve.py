"""`clutchcall serve`: an engine from a configuration file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from clutchcall.cli.terminal import Stop, say

_EXAMPLE = """\
A file to begin with:

  state = "/var/lib/clutchcall"       # records, certificate, keys (owner only)

  [api]
  listen = "127.0.0.1:8080"           # HTTP; put TLS in front of it

  [relay]
  listen = "0.0.0.0:4433"             # UDP: MoQT over raw QUIC and WebTransport
  certificate = "fullchain.pem"
  key = "privkey.pem"
  public_url = "moqt://voice.example.com:4433"

  [[keys]]
  org = "org_abc"
  hash = "hmac-sha256$…"              # as `clutchcall keys mint --org org_abc` prints it

  [trunks.trunk_main]
  kind = "phone"                      # the simulated phone

  [agents.echo]
  kind = "echo"

CLUTCHCALL_API_LISTEN and the like replace single values of the file."""


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser(
        "serve",
        help="run an engine from a configuration file",
        description="Runs an engine until Ctrl-C or SIGTERM; calls that are up end as server_shutdown.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="clutchcall.toml", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object when it serves")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serves until somebody asks for the end."""
    from clutchcall.engine import Engine

    stop = Stop()
    with Engine(arguments.config) as engine:
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
