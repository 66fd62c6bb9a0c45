"""`clutchcall relay`: a MoQT relay by itself."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from clutchcall.cli.folder import state_folder
from clutchcall.cli.terminal import USAGE, Stop, complain, say, show_logs

# What the interop runner reads as: this program has no such role.
UNSUPPORTED = 127


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser(
        "relay",
        help="run a MoQT relay by itself",
        epilog="In a container of the interop runner (MOQT_ROLE or MOQT_PORT is set) the defaults are UDP [::]:4443, "
        "/certs/cert.pem and /certs/priv.key.",
        description="Runs a MoQT relay (draft 18: raw QUIC and WebTransport on one UDP port) until Ctrl-C.",
    )
    parser.add_argument("--listen", metavar="ADDRESS:PORT", help="UDP (default: 127.0.0.1:4433)")
    parser.add_argument("--open", action="store_true", help="let anybody publish and subscribe, without a token")
    parser.add_argument(
        "--drain",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="at SIGTERM, how long sessions have to move elsewhere (GOAWAY) before the end (default: %(default)s)",
    )
    parser.add_argument(
        "--drain-to", default="", metavar="URL", help="the relay that they are told to go to (default: here again)"
    )
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
        "--shards", type=int, default=1, metavar="N", help="threads, each with a UDP port behind the first (default: 1)"
    )
    _add_upstream(parser)
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a bound by its name in [relay.limits] of `clutchcall serve --example`; repeatable",
    )
    parser.add_argument(
        "--metrics",
        metavar="ADDRESS:PORT",
        help="TCP, for /healthz and /metrics (Prometheus) over plain HTTP, such as 127.0.0.1:9464 (default: nowhere)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object when it serves")
    parser.set_defaults(run=run)


def _add_upstream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--upstream", metavar="URL", help="another relay that this one is an edge of")
    parser.add_argument("--upstream-token", metavar="TOKEN|FILE", help="what this relay may do there")
    parser.add_argument(
        "--upstream-hash",
        action="append",
        default=[],
        metavar="SHA256",
        help="trust certificates there by their hash (default: the machine's roots); repeatable",
    )
    parser.add_argument("--upstream-roots", metavar="PEM", help="trust these roots there")
    parser.add_argument("--upstream-insecure", action="store_true", help="trust whatever is there: for tests")


def run(arguments: argparse.Namespace) -> int:
    """Serves until somebody asks for the end."""
    from clutchcall.relay import Relay, check_relay_url

    if (role := os.environ.get("MOQT_ROLE", "relay")) != "relay":
        complain(f"MOQT_ROLE is {role!r}: this is a relay, `clutchcall interop` is a client")
        return UNSUPPORTED
    contained = bool({"MOQT_ROLE", "MOQT_PORT"} & os.environ.keys())
    if contained:
        _contain(arguments)
    if not arguments.public_key and not arguments.open:
        complain(
            "--public-key is missing: without a key nobody's token counts; "
            "`clutchcall keys public --state DIR` prints one"
        )
        return USAGE
    if (arguments.cert is None) != (arguments.key is None):
        complain("--cert and --key belong together: give both or none")
        return USAGE
    if arguments.drain_to:
        check_relay_url("--drain-to", arguments.drain_to)
    certificate = None if arguments.cert is None else (arguments.cert, arguments.key)
    stop = Stop()
    show_logs()
    with Relay(
        arguments.listen or "127.0.0.1:4433",
        open=arguments.open,
        public_keys=arguments.public_key,
        revoked=arguments.revoked,
        certificate=certificate,
        shards=arguments.shards,
        upstream=_upstream(arguments),
        limits=_limits(arguments.limit),
        metrics=arguments.metrics,
        state=arguments.state or state_folder() / "relay",
    ) as relay:
        stop.on_hangup(relay.reload)
        if arguments.json:
            known = {"url": relay.url, "address": relay.address, "certificate_hash": relay.certificate_hash}
            say(json.dumps({**known, "addresses": relay.addresses, "metrics_url": relay.metrics_url}))
        else:
            say(f"relay      {relay.url}")
            say(f"certificate sha256 {relay.certificate_hash}")
            if relay.metrics_url:
                say(f"metrics    {relay.metrics_url}")
            say("Ctrl-C ends it")
        while not stop.wait(3600.0):
            pass
        relay.drain(arguments.drain, arguments.drain_to)
        if contained:
            _log(relay.counters())
    return 0


def _contain(arguments: argparse.Namespace) -> None:
    """The defaults of the interop runner's relay containers."""
    arguments.listen = arguments.listen or f"[::]:{os.environ.get('MOQT_PORT', '4443')}"
    certs = Path(os.environ.get("MOQT_CERTS", "/certs"))
    chain, key = certs / "cert.pem", certs / "priv.key"
    if arguments.cert is None and arguments.key is None and chain.is_file() and key.is_file():
        arguments.cert, arguments.key = str(chain), str(key)


def _log(counters: dict[str, int]) -> None:
    """What passed, where the runner collects logs."""
    folder = Path(os.environ.get("MOQT_MLOG", "/mlog"))
    if folder.is_dir() and os.access(folder, os.W_OK):
        (folder / "clutchcall-relay.json").write_text(json.dumps(counters) + "\n", encoding="utf-8")


def _upstream(arguments: argparse.Namespace) -> dict[str, object] | None:
    told = {
        "url": arguments.upstream,
        "token": arguments.upstream_token,
        "certificate_hashes": arguments.upstream_hash or None,
        "roots": arguments.upstream_roots,
        "trust": "anything" if arguments.upstream_insecure else None,
    }
    return {key: value for key, value in told.items() if value is not None} or None


def _limits(told: list[str]) -> dict[str, int]:
    limits = {}
    for limit in told:
        name, _, number = limit.partition("=")
        if not number.isdecimal():
            raise ValueError(f"--limit is {limit!r}: write NAME=NUMBER, such as subscriptions=2048")
        limits[name] = int(number)
    return limits
