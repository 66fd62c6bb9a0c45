"""`clutchcall keys`: API keys, and the key that an engine signs relay tokens with."""

from __future__ import annotations

import argparse
from typing import Any

from clutchcall.cli.terminal import say


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser("keys", help="make API keys; show the key that a relay needs of an engine")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    mint = actions.add_parser(
        "mint",
        help="make an API key",
        description="Prints a fresh API key, which is shown only now, and the lines that the engine's file "
        "needs for it.",
    )
    mint.add_argument("--org", required=True, metavar="ID", help="whose key it is")
    mint.set_defaults(run=_mint)
    public = actions.add_parser(
        "public",
        help="show the public key of an engine",
        description="Prints the public key of the engine with this state folder; makes the key if there is none.",
    )
    public.add_argument("--state", required=True, metavar="DIR", help="state folder of the engine")
    public.set_defaults(run=_public)


def _mint(arguments: argparse.Namespace) -> int:
    from clutchcall import _core

    key, kept = _core.mint_key(arguments.org)
    say(f"{key}\n")
    say(f'[[keys]]\norg = "{arguments.org}"\nhash = "{kept}"')
    return 0


def _public(arguments: argparse.Namespace) -> int:
    from clutchcall import _core

    say(_core.public_key(arguments.state))
    return 0
