"""`clutchcall tokens`: relay tokens by hand. An engine mints its own; this is for other publishers and subscribers."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from clutchcall.cli.folder import state_folder
from clutchcall.cli.terminal import FAILED, USAGE, complain, say

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DATES = ("iat", "nbf", "exp")


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser("tokens", help="mint tokens for a relay; show what a token says")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_mint(actions)
    show = actions.add_parser(
        "show",
        help="show what a token says",
        description="Prints a token's header and claims. With --public-key it also says what a relay with that key "
        "says to it; the exit status is then 1 for a refusal.",
    )
    show.add_argument("token", metavar="TOKEN", help="the text, or - to read it from standard input")
    show.add_argument("--public-key", action="append", default=[], metavar="KEY|FILE", help="verify it; repeatable")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=_show)


def _add_mint(actions: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    mint = actions.add_parser(
        "mint",
        help="mint a token",
        description="Prints a token (JWT, Ed25519) that lets its bearer publish and subscribe the tracks of some "
        "namespaces, at relays that have the public half of the key.",
    )
    mint.add_argument(
        "--ns",
        action="append",
        required=True,
        metavar="PATTERN",
        help="fields between slashes; * is one field, a last ** any rest: 'voice/CA1/*'; repeatable",
    )
    mint.add_argument("--publish", action="store_true", help="may publish (neither flag: may do both)")
    mint.add_argument("--subscribe", action="store_true", help="may subscribe")
    mint.add_argument("--key", metavar="FILE", help="signing key, PKCS#8 in DER or PEM (default: the one in --state)")
    mint.add_argument("--state", metavar="DIR", help="state folder of an engine (default: that of `clutchcall dev`)")
    mint.add_argument(
        "--ttl", default="1h", metavar="TIME", help="how long it counts: 90s, 15m, 1h, 7d (default: %(default)s)"
    )
    mint.add_argument("--kid", help="the key's name at the relay (default: made of its bytes)")
    mint.add_argument("--sub", default="cli", help="whose it is: a relay can revoke it by this (default: %(default)s)")
    mint.add_argument("--jti", help="the token's own name: a relay can revoke it by this")
    mint.add_argument("--json", action="store_true", help="print one JSON object: the token and its claims")
    mint.set_defaults(run=_mint)


def _mint(arguments: argparse.Namespace) -> int:
    from clutchcall import _core

    ttl_s = _seconds(arguments.ttl)
    if ttl_s is None:
        complain(f"--ttl is {arguments.ttl!r}: write a number and s, m, h or d, such as 15m")
        return USAGE
    if wrong := next((complaint for ns in arguments.ns if (complaint := _wrong(ns))), None):
        complain(f"--ns {wrong}")
        return USAGE
    key = Path(arguments.key) if arguments.key else Path(arguments.state or state_folder() / "dev") / "token.key"
    if not key.is_file():
        remedy = "name a file" if arguments.key else "name a key with --key, or an engine's state folder with --state"
        complain(f"--key: there is no {key}: {remedy}; `clutchcall keys public --state DIR` makes a key in DIR")
        return USAGE
    now_s = int(time.time())
    claims: dict[str, object] = {"sub": arguments.sub, "iat": now_s, "exp": now_s + ttl_s}
    if arguments.jti:
        claims["jti"] = arguments.jti
    if arguments.publish == arguments.subscribe:
        claims["ns"] = arguments.ns
    else:
        claims["publish"] = arguments.ns if arguments.publish else []
        claims["subscribe"] = arguments.ns if arguments.subscribe else []
    token = _core.mint_token(key, json.dumps(claims), arguments.kid)
    say(json.dumps({"token": token, "claims": claims}) if arguments.json else token)
    return 0


def _seconds(text: str) -> int | None:
    """`15m` is 900."""
    parts = re.fullmatch(r"([1-9]\d{0,8})([smhd]?)", text.strip())
    return int(parts[1]) * _UNITS_S[parts[2]] if parts else None


def _wrong(pattern: str) -> str | None:
    """What the relay would say to this pattern, before a key is looked for."""
    fields = pattern.split("/")
    if not all(fields):
        return f"{pattern!r} has an empty field: write fields between single slashes, such as 'voice/CA1/*'"
    if "**" in fields[:-1]:
        return f"{pattern!r}: ** stands for any rest and can only be the last field"
    if len(fields) > 32:
        return f"{pattern!r} has {len(fields)} fields: a namespace has at most 32"
    return None


def _show(arguments: argparse.Namespace) -> int:
    from clutchcall import _core

    token = sys.stdin.read() if arguments.token == "-" else arguments.token
    header, claims = (json.loads(part) for part in _core.read_token(token))
    refused: str | None = None
    if arguments.public_key:
        refused = _core.check_token(token, [key_text(text) for text in arguments.public_key], int(time.time()))
    if arguments.json:
        told = {"header": header, "claims": claims}
        say(json.dumps({**told, "refused": refused} if arguments.public_key else told))
    else:
        for name, value in {**header, **claims}.items():
            say(f"{name:<11}{_shown(name, value)}")
        if arguments.public_key:
            say(f"{'relay':<11}{refused or 'takes it'}")
    return FAILED if refused else 0


def key_text(text: str) -> str:
    """A public key, or what stands in the file of that name."""
    file = Path(text)
    return file.read_text(encoding="ascii").strip() if file.is_file() else text


def _shown(name: str, value: object) -> str:
    if name in _DATES and isinstance(value, (int, float)):
        left_s = int(value - time.time())
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))
        return f"{when} ({f'in {left_s} s' if left_s >= 0 else f'{-left_s} s ago'})"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return value if isinstance(value, str) else json.dumps(value)
