"""Somebody who has never seen this: an empty environment, the wheel, the README's lines, and the caller is heard.

`pytest -s` prints how long it took. Nothing is asserted on that: the machine may be doing other things.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from developing import LIMIT_S, ROOT, developing

MOST_LINES = 12


def program() -> str:
    """The README's first piece of Python."""
    found = re.search(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found
    return found[1]


def output(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=LIMIT_S, check=False, env=env, cwd=cwd
    )
    assert done.returncode == 0, done
    return done.stdout


def test_the_program_is_short() -> None:
    lines = [line for line in program().splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


def test_from_nothing_to_the_caller_s_voice(tmp_path: Path) -> None:
    wheel = os.environ.get("CLUTCHCALL_WHEEL")
    if not wheel:
        pytest.skip("CLUTCHCALL_WHEEL is not set: `make test-python` sets it")
    python, began = tmp_path / "venv" / "bin" / "python", time.monotonic()
    output(sys.executable, "-m", "venv", tmp_path / "venv")
    made = time.monotonic()
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    output(python, "-m", "pip", "install", *quiet, "--no-index", Path(wheel).resolve(), cwd=tmp_path)
    installed = time.monotonic()
    with developing(tmp_path, python=python) as environment:
        serving = time.monotonic()
        said = output(python, "-c", program(), env=environment, cwd=tmp_path)
    ended = time.monotonic()
    told = re.search(r"^\w+ normal BridgeStats\(state='\w+', frames_in=(\d+), .*frames_out=(\d+)", said)
    assert told, said
    frames = int(told[1])
    assert frames > 50
    assert int(told[2]) > 0
    # The program prints at the call's end; what it heard came in frames of 20 ms until then.
    heard = ended - frames * 0.02
    print(
        f"\nan empty environment {made - began:.1f} s, pip install {installed - made:.1f} s, "
        f"clutchcall dev {serving - installed:.1f} s, program {ended - serving:.1f} s with {frames} frames; "
        f"from pip install to the caller's first frame {heard - made:.1f} s at most"
    )
