"""What calls and bridges leave behind when they are over: nothing. `make soak` is the long form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("soak_child.py")
GROWTH = 0.01
PER_SECOND = {"bridges": 50, "calls": 25}
"""With a pace as many are up, or were so a moment ago, at the end as at the beginning, however busy the machine is.
Calls take 40 s for their warm-up, longer than SIP remembers one (32 s): the peak of that lies before the first reading
too."""
# A huge page is 3 % of the process, and the system makes one of small ones when it likes (decision 0156).
SMALL_PAGES = {"MIMALLOC_ALLOW_THP": "0"}


def soaked(what: str, warm_up: int, count: int, per_second: int, folder: Path, limit_s: float) -> float:
    """By how much the memory has grown; the rest is as before."""
    arguments = [what, str(warm_up), str(count), str(per_second), str(folder)]
    done = subprocess.run(
        [sys.executable, str(CHILD), *arguments],
        env=os.environ | SMALL_PAGES,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    before, after = told["before"], told["after"]
    rss_kib = before.pop("rss_kib"), after.pop("rss_kib")
    growth = float(rss_kib[1] - rss_kib[0]) / float(rss_kib[0])
    print(f"{count} {what} in {told['took_s']:.1f} s: {after}, {rss_kib[0]} KiB then {rss_kib[1]} KiB ({growth:+.2%})")
    # Less is no leak: a call that was cancelled at the start may be followed for 64·T1 then (RFC 3261 §17).
    assert all(after[name] <= number for name, number in before.items()), (before, after)
    return growth


@pytest.mark.parametrize("what", ["calls", "bridges"])
def test_nothing_is_left_behind(what: str, tmp_path: Path) -> None:
    """The memory has its say in the long form: so few don't fill what is bounded."""
    soaked(what, 50, 200, 0, tmp_path / "state", 100)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["bridges", "calls"])
def test_ten_thousand_leave_nothing_behind(what: str, tmp_path: Path) -> None:
    assert soaked(what, 1000, 10_000, PER_SECOND[what], tmp_path / "state", 850) <= GROWTH
