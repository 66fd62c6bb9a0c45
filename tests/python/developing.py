"""A running `clutchcall dev`, as a developer has one in another terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 120


@contextlib.contextmanager
def developing(folder: Path, clip: Path | None = None, python: Path | None = None) -> Iterator[dict[str, str]]:
    """Gives the environment in which it is found; `python` runs it in place of this interpreter."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLUTCHCALL_")}
    environment["CLUTCHCALL_STATE_DIR"] = str(folder)
    # Nothing of the checkout is to be found by a stranger.
    environment.pop("PYTHONPATH", None)
    command = [
        str(python or sys.executable),
        "-m",
        "clutchcall.cli",
        "dev",
        "--port",
        "0",
        "--relay-port",
        "0",
        "--json",
    ]
    phone = [] if clip is None else ["--phone-says", str(clip)]
    with (folder / "dev.log").open("wb") as log:
        process = subprocess.Popen([*command, *phone], stdout=subprocess.PIPE, stderr=log, env=environment, cwd=folder)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith(b"{"), (folder / "dev.log").read_text()
        yield environment
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, (folder / "dev.log").read_text()
