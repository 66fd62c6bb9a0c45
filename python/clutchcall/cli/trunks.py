"""`clutchcall trunks`: the lines that calls of an engine go over."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from clutchcall.cli.asking import asks_an_engine
from clutchcall.cli.terminal import FAILED, complain, say

if TYPE_CHECKING:
    from clutchcall.types import Trunk, TrunkTest
    from clutchcall.voice import Voice

__all__ = ["add"]


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser(
        "trunks",
        help="list and test the trunks of an engine",
        description="Asks a running engine about its trunks: `clutchcall dev` on this machine, or the one that "
        "CLUTCHCALL_BASE_URL, CLUTCHCALL_API_KEY and CLUTCHCALL_ORG_ID name.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="what they are, how many calls they carry, and how they do")
    listing.set_defaults(act=_list)
    test = actions.add_parser(
        "test", help="ask the far side of one whether it is there", description="Ends with 1 where it is not well."
    )
    test.add_argument("trunk_id", metavar="ID", help="the trunk")
    test.set_defaults(act=_test)
    asks_an_engine(listing, test)


def _list(arguments: argparse.Namespace, voice: Voice) -> int:
    trunks = voice.trunks.list()
    for trunk in trunks:
        say(json.dumps(trunk, ensure_ascii=False) if arguments.json else _line(trunk))
    if not trunks:
        complain("no trunks")
    return 0


def _line(trunk: Trunk) -> str:
    calls = f"{trunk['active_calls']}/{trunk['channel_limit']} calls"
    waiting = f" ({trunk['waiting_calls']} waiting)" if trunk["waiting_calls"] else ""
    words = [trunk["trunk_id"], trunk["kind"], trunk["health"], f"{calls}{waiting}", f"{trunk['max_cps']}/s"]
    sip = trunk.get("sip", {})
    peer = sip.get("proxy") or sip.get("sbc_ip") or sip.get("gateway_ip") or sip.get("domain")
    if peer:
        words.append(f"{peer} over {sip['transport']}")
    if trunk["display_name"]:
        words.append(trunk["display_name"])
    if "problem" in trunk:
        words.append(trunk["problem"])
    return "  ".join(words)


def _test(arguments: argparse.Namespace, voice: Voice) -> int:
    tested = voice.trunks.test(arguments.trunk_id)
    if arguments.json:
        say(json.dumps(tested, ensure_ascii=False))
    else:
        for name, value in _findings(tested):
            say(f"{name:<14} {value}")
        if "advice" in tested:
            complain(tested["advice"])
    return 0 if tested["ok"] else FAILED


def _findings(tested: TrunkTest) -> list[tuple[str, str]]:
    found = [("trunk", tested["trunk_id"])]
    if "peer" in tested:
        at = f", at {tested['address']}" if "address" in tested else ""
        found.append(("peer", f"{tested['peer']} over {tested.get('transport', 'an unknown transport')}{at}"))
        answer = f"{tested['sip_code']} {tested.get('sip_phrase', '')}" if "sip_code" in tested else tested.get("error")
        found.append(("OPTIONS", f"{answer or 'nothing'}, after {tested.get('after_ms', '?')} ms"))
    else:
        found.append(("OPTIONS", "a simulated phone: nobody to ask"))
    if "registration" in tested:
        found.append(("registration", _registration(tested["registration"])))
    return [*found, ("health", tested["health"])]


def _registration(registration: dict[str, object]) -> str:
    if "expires_in_s" in registration:
        return f"{registration['state']}, for {registration['expires_in_s']} s more"
    code = f" ({registration['sip_code']})" if "sip_code" in registration else ""
    return f"{registration['state']}{code}"
