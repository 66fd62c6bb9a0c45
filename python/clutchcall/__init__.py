"""Voice calls from Python: a control plane, a MoQT data plane and the engine behind them, in one wheel.

Start with `from clutchcall.voice import Voice`. `clutchcall dev` on the command line starts an engine to talk to.
"""

import sys

from clutchcall import _core
from clutchcall._core import __version__

__all__ = ["__version__"]

if not _core._claim(id(sys)):
    raise ImportError(
        "clutchcall serves one interpreter of a process, and another one has imported it: use it in that one, "
        "or use processes in place of subinterpreters"
    )
