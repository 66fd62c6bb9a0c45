"""The command line: `clutchcall …`. Every command is written over the public SDK.

One file per command; each has `add(commands)`, which describes its arguments, and `run(arguments)`, which returns the
exit status. What commands share on the screen is in `terminal`. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from clutchcall import __version__
from clutchcall.cli import call, calls, dev, doctor, interop, keys, phone, relay, serve, tokens, trunks
from clutchcall.cli.terminal import INTERRUPTED, USAGE, complain, unread
from clutchcall.errors import ClutchCallError

__all__ = ["main"]

_EPILOG = """\
Start with `clutchcall dev` in one terminal and `clutchcall call +15550009010` in another.
`clutchcall COMMAND --help` tells more about each."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clutchcall",
        description="Voice calls from Python: engine, relay, phone and SDK.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"clutchcall {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (dev, call, calls, serve, relay, phone, keys, tokens, trunks, interop, doctor):
        command.add(commands)
    return parser


def _joined(argv: Sequence[str]) -> list[str]:
    """One key in 64 begins with a dash: joined to its option it is not taken for another."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] == "--public-key":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    0: done. 1: the call did not come to what was asked for. 2: wrong arguments or settings. 3: no engine. 130: Ctrl-C.
    141: nobody reads on, as behind `| head`.
    """
    arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    try:
        status: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return unread()
    except (ClutchCallError, ValueError, OSError) as error:
        complain(str(error))
        return USAGE
    return status
