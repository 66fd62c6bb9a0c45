"""What commands share on the screen: one live line, plain lines where nobody watches, complaints, a stop flag."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

__all__ = ["FAILED", "INTERRUPTED", "NO_ENGINE", "USAGE", "LiveLine", "Stop", "complain", "say", "show_logs", "unread"]

FAILED = 1
USAGE = 2
NO_ENGINE = 3
INTERRUPTED = 130
# As a shell tells of SIGPIPE, which the interpreter ignores.
_UNREAD = 141


def say(text: str = "") -> None:
    """One line on standard output, at once even into a pipe."""
    print(text, flush=True)


def unread() -> int:
    """Whoever read the output has gone: no word of it, and the exit status that says so."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    # What is left in the buffer is written at the exit of the interpreter, which would complain.
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return _UNREAD


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
        self._asked_for = False
        # A signal may come in on any thread, and interrupt whoever holds a lock: so the interpreter itself writes
        # each into a pipe, and who waits looks at that. Both ends are open as long as the process lives.
        self._woken, wakes = os.pipe()
        os.set_blocking(wakes, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._asked)

    def on_hangup(self, reload: Callable[[], None]) -> None:
        """SIGHUP asks to read files again, as daemons do."""
        signal.signal(signal.SIGHUP, lambda *_: reload())

    def _asked(self, number: int, _frame: FrameType | None) -> None:
        if self._asked_for:
            os._exit(INTERRUPTED)
        self._asked_for = True

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self._asked_for

    def wait(self, seconds: float) -> bool:
        """Waits for the question; `True` when it came."""
        deadline = time.monotonic() + seconds
        while not self._asked_for and (left := deadline - time.monotonic()) > 0:
            if select.select([self._woken], [], [], left)[0]:
                os.read(self._woken, 4096)
        return self._asked_for
