"""The command line: `clutchcall …`. Every command is written over the public SDK."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from clutchcall import __version__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clutchcall", description="Voice calls from Python.")
    parser.add_argument("--version", action="version", version=f"clutchcall {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    _parser().parse_args(argv)
    _parser().print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main())
