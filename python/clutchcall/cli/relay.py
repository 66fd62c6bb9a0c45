"""`clutchcall relay`: a MoQT relay by itself."""

from __future__ import annotations

import argparse
import json
from typing import Any

from clutchcall.cli.folder import state_folder
from clutchcall.cli.terminal import USAGE, Stop, complain, say


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser(
        "relay",
        help="run a MoQT relay by itself",
        description="Runs a MoQT relay (draft 18: raw QUIC and WebTransport on one UDP port) until Ctrl-C.",
    )
    parser.add_argument("--listen", default="127.0.0.1:4433", metavar="ADDRESS:PORT", help="UDP (default: %(default)s)")
    parser.add_argument(
        "--public-key",
        action="append",
        default=[],
        metavar="KEY|FILE",
        help="whose tokens count: the text that `clutchcall keys public` prints, or a file with one key a line, which "
        "is read again when it changes and on SIGHUP; repeatable",
    )
    parser.add_argument(
        "--revoked",
        metavar="FILE",
        help="tokens that count no longer, one a line: jti NAME, sub NAME or sha256 HEX; read again like key files",
    )
    parser.add_argument("--cert", metavar="PEM", help="certificate chain (default: self-minted, for loopback)")
    parser.add_argument("--key", metavar="PEM", help="private key of --cert")
    parser.add_argument("--state", metavar="DIR", help="folder for QUIC keys (default: a folder of the user's state)")
    parser.add_argument(
        "--metrics",
        metavar="ADDRESS:PORT",
        help="TCP, for /healthz and /metrics (Prometheus) over plain HTTP, such as 127.0.0.1:9464 (default: nowhere)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object when it serves")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serves until somebody asks for the end."""
    from clutchcall.relay import Relay

    if not arguments.public_key:
        complain(
            "--public-key is missing: without a key nobody's token counts; "
            "`clutchcall keys public --state DIR` prints one"
        )
        return USAGE
    if (arguments.cert is None) != (arguments.key is None):
        complain("--cert and --key belong together: give both or none")
        return USAGE
    certificate = None if arguments.cert is None else (arguments.cert, arguments.key)
    stop = Stop()
    with Relay(
        arguments.listen,
        public_keys=arguments.public_key,
        revoked=arguments.revoked,
        certificate=certificate,
        metrics=arguments.metrics,
        state=arguments.state or state_folder() / "relay",
    ) as relay:
        stop.on_hangup(relay.reload)
        if arguments.json:
            known = {"url": relay.url, "address": relay.address, "certificate_hash": relay.certificate_hash}
            say(json.dumps({**known, "metrics_url": relay.metrics_url}))
        else:
            say(f"relay      {relay.url}")
            say(f"certificate sha256 {relay.certificate_hash}")
            if relay.metrics_url:
                say(f"metrics    {relay.metrics_url}")
            say("Ctrl-C ends it")
        while not stop.wait(3600.0):
            pass
    return 0
