"""`clutchcall interop`: the interop runner's client. Short cases against anybody's relay, told in TAP 14 or in JSON.

Exit status: 0 when every case passed, 1 when one failed or the relay can't be reached, 127 when the case or the draft
is none of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from clutchcall.cli.terminal import FAILED, USAGE, complain, say

if TYPE_CHECKING:
    from clutchcall._core import InteropReport

UNSUPPORTED = 127


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command. Its defaults are the variables that the interop runner sets."""
    parser = commands.add_parser(
        "interop",
        help="test a MoQT relay, in the interop runner's way",
        description="Plays the cases of the MoQ interop runner against a relay and prints TAP 14. Variables: "
        "RELAY_URL, TESTCASE, TLS_DISABLE_VERIFY, VERBOSE, DRAFT or MOQT_DRAFT, AUTH_TOKEN, NAMESPACE_PREFIX.",
    )
    parser.add_argument("-r", "--relay", metavar="URL", help="moqt:// for raw QUIC, https:// for WebTransport")
    parser.add_argument("-t", "--test", metavar="NAME", help="one case only")
    parser.add_argument("-l", "--list", action="store_true", help="the names of the cases")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell of each session")
    parser.add_argument("--tls-disable-verify", action="store_true", help="accept any certificate")
    parser.add_argument("--draft", metavar="N", help="speak this draft, or the first of a list that the relay speaks")
    parser.add_argument("--auth-token", metavar="TOKEN", help="sent in SETUP and with every request")
    parser.add_argument("--namespace-prefix", metavar="A/B", help="fields before every namespace")
    parser.add_argument("--json", action="store_true", help="one JSON object a case, in place of TAP")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Plays what is asked for."""
    from clutchcall import _core

    cases = _core.interop_cases()
    if arguments.list:
        say(json.dumps(cases) if arguments.json else "\n".join(cases))
        return 0
    relay = arguments.relay or os.environ.get("RELAY_URL")
    if not relay:
        complain("no relay: give --relay URL, or set RELAY_URL")
        return USAGE
    wanted = arguments.test or os.environ.get("TESTCASE") or None
    tap = _nothing if arguments.json else say
    tap("TAP version 14")
    if wanted is not None and wanted not in cases:
        tap(f"1..1\nnot ok 1 - {wanted} # SKIP no such case here")
        if arguments.json:
            complain(f"--test is {wanted!r}: choose one of --list")
        return UNSUPPORTED
    asked = arguments.draft or os.environ.get("DRAFT") or os.environ.get("MOQT_DRAFT") or ""
    drafts = [draft for draft in re.findall(r"\d+", asked) if draft in _core.drafts()]
    if asked and not drafts:
        none = f"draft {asked} is none of ours: {', '.join(_core.drafts())}"
        complain(f"--draft: {none}") if arguments.json else say(f"1..0 # SKIP {none}")
        return UNSUPPORTED
    tap(f"# clutchcall {_core.__version__} against {_core.shown_url(relay)}")
    return _play([wanted] if wanted else cases, relay, drafts, arguments)


def _play(cases: list[str], relay: str, drafts: list[str], arguments: argparse.Namespace) -> int:
    from clutchcall import _core

    token = arguments.auth_token or os.environ.get("AUTH_TOKEN") or None
    prefix = arguments.namespace_prefix or os.environ.get("NAMESPACE_PREFIX") or ""
    fields = [field.encode() for field in prefix.split("/") if field]
    insecure = arguments.tls_disable_verify or _is_set("TLS_DISABLE_VERIFY")
    verbose = arguments.verbose or _is_set("VERBOSE")
    passed = True
    if not arguments.json:
        say(f"1..{len(cases)}")
    for number, name in enumerate(cases, 1):
        report = _core.interop(name, relay, token, fields, insecure, drafts)
        passed &= report.verdict != "failed"
        if arguments.json:
            say(json.dumps({"case": name, **_told(report)}))
            if report.verdict == "unreachable":
                return FAILED
            continue
        if report.verdict == "unreachable":
            say(f"Bail out! {_one_line(report.message)}")
            return FAILED
        skip = f" # SKIP {_one_line(report.message)}" if report.verdict == "skipped" else ""
        say(f"{'not ok' if report.verdict == 'failed' else 'ok'} {number} - {name}{skip}")
        say("\n".join(_diagnosis(report, verbose=verbose)))
    return 0 if passed else FAILED


def _nothing(_line: str) -> None:
    """Where TAP is not wanted."""


def _told(report: InteropReport) -> dict[str, object]:
    """A case as JSON."""
    fields = ("role", "transport", "moqt_version", "connection_id")
    return {
        "verdict": report.verdict,
        "duration_ms": report.duration_ms,
        "expected": report.expected,
        "received": report.received,
        "message": report.message,
        "sessions": [dict(zip(fields, session, strict=True)) for session in report.sessions],
    }


def _diagnosis(report: InteropReport, *, verbose: bool) -> Iterator[str]:
    """The YAML block under a case."""
    yield "  ---"
    yield f"  duration_ms: {report.duration_ms}"
    if report.expected is not None:
        yield f"  expected: {json.dumps(report.expected)}"
    if report.received is not None:
        yield f"  received: {json.dumps(report.received)}"
    # By the first Destination Connection ID (RFC 9000 §7.2) a relay's log is found.
    for role, _, _, connection_id in report.sessions:
        part = "" if len(report.sessions) == 1 else f"{role}_"
        yield f"  {part}connection_id: {connection_id}"
    if report.sessions:
        yield "  sessions:"
    for role, transport, version, _ in report.sessions:
        yield f"    {role}:"
        yield f"      transport: {transport}"
        yield f"      moqt_version: {version}"
    if verbose:
        yield f"  message: {json.dumps(report.message)}"
    yield "  ..."


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
