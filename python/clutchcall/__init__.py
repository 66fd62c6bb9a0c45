"""Voice calls from Python: a control plane, a MoQT data plane and the engine behind them, in one wheel.

Start with `from clutchcall.voice import Voice`. `clutchcall dev` on the command line starts an engine to talk to.
"""

from clutchcall._core import __version__

__all__ = ["__version__"]
