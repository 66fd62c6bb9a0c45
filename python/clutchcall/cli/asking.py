"""What commands share that ask a running engine: their two options, and one line for an engine that is not there."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from clutchcall.cli.terminal import FAILED, NO_ENGINE, complain
from clutchcall.errors import APIConnectionError, NotFoundError

if TYPE_CHECKING:
    from clutchcall.voice import Voice

__all__ = ["asks_an_engine"]


def asks_an_engine(*actions: argparse.ArgumentParser) -> None:
    """Gives each `--base-url` and `--json`, and calls its default `act` with the arguments and a `Voice`."""
    for action in actions:
        action.add_argument("--base-url", metavar="URL", help="the engine's API (CLUTCHCALL_BASE_URL)")
        action.add_argument("--json", action="store_true", help="one JSON object a line")
        action.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from clutchcall.voice import Voice

    try:
        with Voice(arguments.base_url) as voice:
            return _act(arguments, voice)
    except APIConnectionError as error:
        complain(str(error))
        return NO_ENGINE
    except NotFoundError as error:
        complain(str(error))
        return FAILED


def _act(arguments: argparse.Namespace, voice: Voice) -> int:
    status: int = arguments.act(arguments, voice)
    return status
