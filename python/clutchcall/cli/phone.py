"""`clutchcall phone`: the simulated phone by itself, for whatever speaks SIP."""

from __future__ import annotations

import argparse
import json
from typing import Any

from clutchcall.cli.terminal import Stop, say, show_logs

NUMBERS = """\
What the simulated phone does, by the last digits of the number:
  9300..9699  answers with that SIP status: 9486 is busy, 9603 declines
  9000        rings, never answers          9010  plays its clip, records (so does any other number)
  9001        does not even ring            9011  records, says nothing
  9002        rings 3 s longer              9012  echoes
  9003        can't be reached              9013  plays its clip and hangs up at its end
  9004        plays its clip before it answers, and again once it has
  9005        plays its clip, then says that there is no such number (404)
  9014        presses 1, 2, 3 and # a second after it answered, says nothing
  9020..9022  accepts, refuses, ignores a transfer
  9030        has an empty far end, for attach_caller
"""
_ALONE = """\
By itself it knows a call when it has come: 9003 says nothing, like 9001, and 9030 answers with audio both sides of
which are inactive.
"""
_EPILOG = f"""\
{NUMBERS}
{_ALONE}
It speaks Opus and G.711; SIP comes over UDP or TCP. A recording is named by what stands before the @ of the call's
Call-ID, and has a report of the same name beside it (.json). A trunk that leads to it, in a file for
`clutchcall serve`:

  [trunks.desk]
  sbc_ip = "127.0.0.1:5070"
  source_pbx_port = 0
"""
_LISTEN = "127.0.0.1:5070"


def add(commands: Any) -> None:  # noqa: ANN401 (argparse has no public name for it)
    """Describes the command."""
    parser = commands.add_parser(
        "phone",
        help="run the simulated phone by itself, as a SIP endpoint",
        description="Answers SIP calls until Ctrl-C, then hangs up. `clutchcall dev` has such a phone of its own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--listen",
        default=_LISTEN,
        metavar="ADDRESS:PORT",
        help="UDP and TCP, an address of this machine; port 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument("--says", metavar="WAV", help="what it says when it answers (default: a voice made of tones)")
    parser.add_argument("--records", metavar="DIR", help="where it puts what it hears, one WAV per call")
    parser.add_argument("--ring", type=int, metavar="MS", help="how long it rings before it answers (default: 200)")
    parser.add_argument("--json", action="store_true", help="print one JSON object when it listens")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Takes calls until somebody asks for the end."""
    from clutchcall import _core

    stop = Stop()
    show_logs()
    phone = _core.Phone(arguments.listen, arguments.says, arguments.records, arguments.ring)
    try:
        if arguments.json:
            say(json.dumps({"address": phone.address, "uri": f"sip:{phone.address}"}))
        else:
            say(f"phone      sip:{phone.address} (UDP and TCP); `clutchcall phone --help` says what its numbers do")
            say("Ctrl-C ends it")
        while not stop.wait(3600.0):
            pass
    finally:
        phone.close()
    return 0
