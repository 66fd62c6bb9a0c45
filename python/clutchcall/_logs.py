"""Where records of the core go: to the logger `clutchcall` and those below it, as any library's.

The core calls `begin()` when the first `Voice`, `MoqtClient`, `Engine` or `Relay` of a process is made. Handlers and
levels are the program's. `CLUTCHCALL_LOG=debug` (`info`, `warning`, `error`) writes to standard error without one.
"""

from __future__ import annotations

import logging
import os

_LEVELS = ("debug", "info", "warning", "error")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


_screen: logging.Handler | None = None


def begin(default: str = "") -> None:
    """Without a handler of the program's nothing is printed, unless `CLUTCHCALL_LOG`, else `default`, says so.

    Twice is once.
    """
    global _screen
    logger = logging.getLogger("clutchcall")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    level = (os.environ.get("CLUTCHCALL_LOG") or default).lower()
    if not level or _screen is not None:
        return
    if level not in _LEVELS:
        from clutchcall.errors import ConfigError

        raise ConfigError(f"CLUTCHCALL_LOG is {level!r}: choose {', '.join(_LEVELS)}")
    _screen = logging.StreamHandler()
    _screen.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(_screen)
    logger.setLevel(level.upper())
