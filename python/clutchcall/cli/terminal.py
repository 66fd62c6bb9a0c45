"""What commands share on the screen: one live line, plain lines where nobody watches, complaints, a stop flag."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

__all__ = ["FAILED", "INTERRUPTED", "NO_ENGINE", "USAGE", "LiveLine", "Stop", "complain", "say", "show_logs"]

FAILED = 1
USAGE = 2
NO_ENGINE = 3
INTERRUPTED = 130


def say(text: str = "") -> None:
    """One line on standard output, at once even into a pipe."""
    print(text, flush=True)


def complain(text: str) -> None:
    """One line on standard error."""
    print(f"clutchcall: {text}", file=sys.stderr, flush=True)


def show_logs() -> None:
    """What a server has to say goes to standard error: warnings and errors, or what `CLUTCHCALL_LOG` says."""
    from clutchcall import _logs

    _logs.begin("warning")


class LiveLine:
    """A line that is rewritten in place on a terminal; elsewhere it is printed when `key` changes."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._key: object = None
        self._open = False

    def show(self, text: str, key: object) -> None:
        """Shows `text`; `key` is what is worth a line of its own where lines can't be rewritten."""
        if self._live:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            print(f"\r\x1b[K{text[: max(width - 1, 1)]}", end="", file=sys.stderr, flush=True)
            self._open = True
        elif key != self._key:
            print(text, file=sys.stderr, flush=True)
        self._key = key

    def end(self) -> None:
        """Leaves the line as it stands."""
        if self._open:
            print(file=sys.stderr, flush=True)
        self._open = False


class Stop:
    """The first Ctrl-C or SIGTERM asks for an orderly end, the second ends the process at once."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._asked)

    def on_hangup(self, reload: Callable[[], None]) -> None:
        """SIGHUP asks to read files again, as daemons do."""
        signal.signal(signal.SIGHUP, lambda *_: reload())

    def _asked(self, number: int, _frame: FrameType | None) -> None:
        if self._event.is_set():
            os._exit(INTERRUPTED)
        self._event.set()

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits for the question; `True` when it came."""
        return self._event.wait(seconds)
