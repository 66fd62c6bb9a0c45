"""`clutchcall keys`: API keys, and the key that an engine signs relay tokens with."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from clutchcall.cli.folder import state_folder
from clutchcall.cli.terminal import complain, say

# What it is called in a state folder (`engine/config/keyfile.rs`).
_FILE = "keys.toml"


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser("keys", help="make, list and revoke API keys; show the key that a relay needs")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_file_actions(actions)
    mint = actions.add_parser(
        "mint",
        help="make an API key for the engine's own file",
        description="Prints a fresh API key, which is shown only now, and the lines that the engine's file "
        "needs for it. `create` needs no restart of the engine.",
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
    for action in (mint, public):
        action.add_argument("--json", action="store_true", help="print one JSON object")


def _add_file_actions(actions: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    create = actions.add_parser(
        "create",
        help="make an API key",
        description="Makes an API key and prints it, which is done only now: the file holds a salted hash. "
        "A running engine takes it within a second or two.",
    )
    create.add_argument("--org", required=True, metavar="ID", help="whose key it is")
    create.add_argument(
        "--scope",
        action="append",
        default=[],
        metavar="SCOPE",
        help="what it may do: voice:calls.get, voice:calls.* and the like; repeatable (default: voice:*)",
    )
    create.add_argument("--name", metavar="TEXT", help="what it is for, to be read in `keys list`")
    create.set_defaults(run=_create)
    listed = actions.add_parser("list", help="show the API keys that were made")
    listed.set_defaults(run=_list)
    revoke = actions.add_parser(
        "revoke",
        help="take an API key away",
        description="Takes a key out of the file. A running engine refuses it within a second or two (at once after "
        "SIGHUP) and ends its event streams; bridges that have a token keep it until it runs out.",
    )
    revoke.add_argument("id", metavar="ID", help="as `keys list` shows it, such as key_0123456789")
    revoke.set_defaults(run=_revoke)
    for action in (create, listed, revoke):
        place = action.add_mutually_exclusive_group()
        place.add_argument("--state", metavar="DIR", help="state folder of the engine (default: that of `dev`)")
        place.add_argument("--file", metavar="FILE", help="the engine's api.keys_file, where it is not in its state")
        action.add_argument("--json", action="store_true", help="print JSON")


def _file(arguments: argparse.Namespace) -> Path:
    if arguments.file:
        return Path(arguments.file)
    return Path(arguments.state or state_folder() / "dev") / _FILE


def _create(arguments: argparse.Namespace) -> int:
    from clutchcall import _core

    file = _file(arguments)
    ident, text = _core.create_key(file, arguments.org, arguments.scope, arguments.name, time.time_ns() // 1_000_000)
    owner, host = file.stat().st_uid, file.parent.stat().st_uid
    if owner != host:
        # Root gives it away by itself.
        complain(f"{file} is user {owner}'s, its folder user {host}'s: `chown` it, or their engine can't read it")
    if arguments.json:
        say(json.dumps({"id": ident, "org": arguments.org, "key": text, "file": str(file)}))
    else:
        say(f"key   {text}")
        say(f"id    {ident}")
        say(f"file  {file}")
        say("The key is shown only now.")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from clutchcall import _core

    keys = _core.list_keys(_file(arguments))
    if arguments.json:
        fields = ("id", "org", "scopes", "name", "created")
        say(json.dumps([dict(zip(fields, key, strict=True)) for key in keys]))
        return 0
    for ident, org, scopes, name, created in keys:
        say(f"{ident}  {org}  {','.join(scopes)}  {created or '-'}  {name or ''}".rstrip())
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    from clutchcall import _core

    org = _core.revoke_key(_file(arguments), arguments.id)
    if arguments.json:
        say(json.dumps({"id": arguments.id, "org": org, "revoked": True}))
    else:
        say(f"{arguments.id} of {org} is revoked")
    return 0


def _mint(arguments: argparse.Namespace) -> int:
    from clutchcall import _core

    key, kept = _core.mint_key(arguments.org)
    if arguments.json:
        say(json.dumps({"org": arguments.org, "key": key, "hash": kept}))
        return 0
    say(f"{key}\n")
    say(f'[[keys]]\norg = "{arguments.org}"\nhash = "{kept}"')
    return 0


def _public(arguments: argparse.Namespace) -> int:
    from clutchcall import _core

    key = _core.public_key(arguments.state)
    say(json.dumps({"public_key": key}) if arguments.json else key)
    return 0
