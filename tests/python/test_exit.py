"""How a program ends that has audio running, whatever it was built with: by itself, and without a word too much.

`make exits` runs each cell 200 times.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clutchcall.engine import Engine
from clutchcall.voice import Voice

RUNS = int(os.environ.get("CLUTCHCALL_EXIT_RUNS", "5"))
AT_ONCE = 5
CHILD = Path(__file__).with_name("exit_child.py")
WARNING = re.compile(r"^(<?\w+>?|.*\.py):\d+: ResourceWarning: unclosed bridge of call \w+: call close\(\).*$")
# What the interpreter says of a warning beside its first line.
ECHO = re.compile(r"^(  .*|ResourceWarning: Enable tracemalloc to get the object allocation traceback)$")

pytestmark = pytest.mark.timeout(60 + 12 * RUNS)


def end(engine: Engine, mode: str, ending: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "default::ResourceWarning", *options, str(CHILD), mode, ending]
    settings = [engine.base_url, engine.api_key, engine.org_id]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, timeout=60, check=False)
    with Voice(*settings) as voice:
        for sid in done.stdout.split():
            voice.calls.get(sid).hangup()
    return done


def check(done: subprocess.CompletedProcess[str], ending: str) -> None:
    failed = ending == "exception"
    assert done.returncode == int(failed), done
    assert re.fullmatch(r"\w+\n", done.stdout), done
    lines = done.stderr.splitlines()
    if failed:
        begun, over = lines.index("Traceback (most recent call last):"), lines.index("LookupError: mine")
        del lines[begun : over + 1]
    assert len([line for line in lines if WARNING.match(line)]) == 1, done
    assert [line for line in lines if not WARNING.match(line) and not ECHO.match(line)] == [], done


@pytest.mark.parametrize("ending", ["live", "blocked", "collected", "exception"])
@pytest.mark.parametrize("mode", ["sync", "threads", "asyncio"])
def test_a_program_ends(engine: Engine, mode: str, ending: str) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = list(pool.map(lambda _: end(engine, mode, ending), range(RUNS)))
    for done in runs:
        check(done, ending)


@pytest.mark.parametrize("ending", ["live", "blocked", "collected", "exception"])
@pytest.mark.parametrize("mode", ["sync", "threads", "asyncio"])
def test_a_program_ends_in_development_mode(engine: Engine, mode: str, ending: str) -> None:
    """`PYTHONDEVMODE`: faulthandler, debug hooks of the allocators, asyncio's debug mode, every warning."""
    check(end(engine, mode, ending, "-X", "dev"), ending)
