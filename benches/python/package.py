"""What the package weighs: the time of its import, the threads that it starts, the size of its wheel.

```sh
python benches/python/package.py target/wheels/*.whl
```

Goals: at most 15 ms, none, at most 6 MB.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

RUNS = 20
MEASURE = """
import sys, time, os
tasks = len(os.listdir("/proc/self/task"))
began = time.perf_counter_ns()
{statement}
print((time.perf_counter_ns() - began) / 1e6, len(os.listdir("/proc/self/task")) - tasks)
"""


def run(statement: str) -> tuple[float, int]:
    """Milliseconds and threads of one statement in a fresh interpreter."""
    code = MEASURE.format(statement=statement)
    ms, threads = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    return float(ms), int(threads)


def main() -> None:
    print("| statement | ms, least (median) of 20 | threads started |\n|---|---|---|")
    for statement in ("import clutchcall", "import clutchcall.voice", "import json  # for comparison"):
        run(statement)
        ms, threads = zip(*(run(statement) for _ in range(RUNS)), strict=True)
        print(f"| `{statement}` | {min(ms):.1f} ({statistics.median(ms):.1f}) | {max(threads)} |")
    for wheel in map(Path, sys.argv[1:]):
        print(f"\n{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
