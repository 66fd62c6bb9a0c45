"""`clutchcall calls`: the records of an engine, also while it runs."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from clutchcall.cli.asking import asks_an_engine
from clutchcall.cli.terminal import Stop, complain, say
from clutchcall.errors import NotFoundError, VoiceError

if TYPE_CHECKING:
    from clutchcall.types import CallStatus
    from clutchcall.voice import Call, Voice

__all__ = ["add"]

_STATUSES = ("dialing", "ringing", "in_progress", "completed", "failed", "no_answer")
_FINAL = ("completed", "failed", "no_answer")
_PAGE = 500
# The calls that `tail` looks at from the newest on; more than so many new ones between two looks are not all shown.
_LATEST = 2000


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser(
        "calls",
        help="list, show and follow calls",
        description="Reads the records of a running engine: of `clutchcall dev` on this machine, or the one that "
        "CLUTCHCALL_BASE_URL, CLUTCHCALL_API_KEY and CLUTCHCALL_ORG_ID name.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the newest calls, or those of one status")
    listing.add_argument("--status", choices=_STATUSES, help="only calls of this status")
    listing.add_argument("--limit", type=_count, default=50, metavar="N", help="at most so many (50)")
    listing.add_argument("--cursor", metavar="TEXT", help="go on where an earlier list ended")
    listing.set_defaults(act=_list)
    show = actions.add_parser("show", help="everything about one call")
    show.add_argument("sid", metavar="SID", help="the call")
    show.set_defaults(act=_show)
    tail = actions.add_parser("tail", help="a line whenever a call begins or changes, until Ctrl-C")
    tail.add_argument("--interval", type=_seconds, default=1.0, metavar="S", help="seconds between two looks (1)")
    tail.add_argument("--last", type=_count, default=10, metavar="N", help="begin with so many calls (10)")
    tail.set_defaults(act=_tail)
    asks_an_engine(listing, show, tail)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: give 1 or more")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.05 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{number}: give 0.05 to 3600")
    return number


def _list(arguments: argparse.Namespace, voice: Voice) -> int:
    left, cursor, found = arguments.limit, arguments.cursor, 0
    while left > 0:
        page = voice.calls.list(status=arguments.status, limit=min(left, _PAGE), cursor=cursor)
        for call in page:
            _print(call, arguments.json)
        found += len(page)
        left -= len(page)
        cursor = page.cursor
        if cursor is None:
            break
    if cursor is not None:
        complain(f"there are more: --cursor {cursor}")
    elif not found:
        complain("no calls")
    return 0


def _show(arguments: argparse.Namespace, voice: Voice) -> int:
    call = voice.calls.get(arguments.sid)
    if arguments.json:
        say(json.dumps(_fields(call), ensure_ascii=False))
        return 0
    for name, value in _fields(call).items():
        if value not in (None, {}, []):
            say(f"{name:<14} {value}")
    return 0


def _tail(arguments: argparse.Namespace, voice: Voice) -> int:
    stop, follower = Stop(), _Follower(voice)
    for call in follower.begin(arguments.last):
        _print(call, arguments.json)
    while not stop.wait(arguments.interval):
        try:
            for call in follower.look():
                _print(call, arguments.json)
        except VoiceError as error:
            # An engine that restarts comes back, and its records with it; a proxy before it says 502 or 503 meanwhile.
            if not error.retryable:
                raise
            complain(str(error))
    return 0


def _newest(voice: Voice, most: int, status: CallStatus | None = None) -> Iterator[Call]:
    """The newest calls, newest first."""
    cursor = None
    while most > 0:
        page = voice.calls.list(status=status, limit=min(most, _PAGE), cursor=cursor)
        yield from page
        most -= _PAGE
        cursor = page.cursor
        if cursor is None:
            return


class _Follower:
    """What is new, look by look. It remembers the calls that are not over, and where the new ones begin."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._open: dict[str, str] = {}
        self._newest: str | None = None

    def begin(self, last: int) -> list[Call]:
        """The last calls as they stand, oldest first."""
        self._open = {sid: call.status for sid, call in self._live().items()}
        calls = list(_newest(self._voice, last))
        self._newest = calls[0].sid if calls else None
        self._note(calls)
        return calls[:last][::-1]

    def look(self) -> list[Call]:
        """Calls that are in another state than before, then those that are new, oldest first."""
        live = self._live()
        changed = []
        for sid, status in self._open.items():
            call = live.get(sid) or self._found(sid)
            if call is not None and call.status != status:
                changed.append(call)
        new = list(itertools.takewhile(lambda call: call.sid != self._newest, _newest(self._voice, _LATEST)))
        self._newest = new[0].sid if new else self._newest
        self._note(changed + new)
        known = {call.sid for call in changed}
        return changed + [call for call in new[::-1] if call.sid not in known]

    def _note(self, calls: list[Call]) -> None:
        for call in calls:
            if call.status in _FINAL:
                self._open.pop(call.sid, None)
            else:
                self._open[call.sid] = call.status

    def _live(self) -> dict[str, Call]:
        live: tuple[CallStatus, ...] = ("dialing", "ringing", "in_progress")
        return {call.sid: call for status in live for call in _newest(self._voice, _LATEST, status)}

    def _found(self, sid: str) -> Call | None:
        try:
            return self._voice.calls.get(sid)
        except NotFoundError:
            return None


def _fields(call: Call) -> dict[str, object]:
    return {
        "sid": call.sid,
        "status": call.status,
        "direction": call.direction,
        "from": call.from_,
        "to": call.to,
        "trunk_id": call.trunk_id,
        "agent": call.agent,
        "started_at": call.started_at,
        "answered_at": call.answered_at,
        "ended_at": call.ended_at,
        "end_reason": call.end_reason,
        "ended_by": call.ended_by,
        "sip_code": call.sip_code,
        "sip_phrase": call.sip_phrase,
        "q850": call.q850,
        "sip_call_id": call.sip_call_id,
        "transferred_to": call.transferred_to,
        "transfer": _parts(call.last_transfer),
        "legs": [(_parts(leg) or {}) | {"stats": _parts(leg.stats)} for leg in call.legs],
        "stats": _parts(call.stats),
        "metadata": call.metadata,
    }


def _parts(value: object) -> dict[str, object] | None:
    """The fields of a native value."""
    if value is None:
        return None
    return {name: getattr(value, name) for name in dir(value) if not name.startswith("_")}


def _print(call: Call, as_json: bool) -> None:
    if as_json:
        say(json.dumps(_fields(call), ensure_ascii=False))
        return
    end = "" if call.end_reason is None else f" {call.end_reason}"
    code = "" if call.sip_code is None else f" {call.sip_code}"
    say(f"{call.started_at}  {call.sid}  {call.from_} → {call.to}  {call.status}{end}{code}")
