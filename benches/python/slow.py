"""One slow listener among a hundred bridges: what the others notice (goal R4: their p99 at most 1.2 times).

```sh
python benches/python/slow.py --rounds 5
```

The processes of `bridges.py`. In every second round one bridge's callback sleeps for 100 ms per frame, so that five
times as many frames come as it takes; the latencies are those of the others, from the moment a frame is due at the
phone to the callback. Rounds alternate, and the medians of both kinds are compared.
"""

from __future__ import annotations

import argparse
import statistics

from bridges import End, window


def others(bridges: int, secs: float, slow_s: float) -> tuple[float, float]:
    limit_s = 120 + 2 * secs
    with End("engine", 1, limit_s=limit_s) as far:
        where = far.hear()
        with End("sdk", 0, limit_s=limit_s, bridges=bridges, slow_s=slow_s, **where) as near:
            near.hear()
            at = window(secs)
            far.tell(at)
            near.tell(at)
            far.hear()
            heard = near.hear()
            return heard["p50_us"], heard["p99_us"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bridges", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs", type=float, default=5.0)
    options = parser.parse_args()
    kinds = {"nobody is slow": 0.0, "one sleeps 100 ms per frame": 0.1}
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, slow_s in kinds.items():
            found[kind].append(others(options.bridges, options.secs, slow_s))
            print(f"{kind}: p50 {found[kind][-1][0]} µs, p99 {found[kind][-1][1]} µs", flush=True)
    p99 = {kind: statistics.median(row[1] for row in rows) for kind, rows in found.items()}
    quiet, slow = p99.values()
    print(
        f"median p99 of {options.rounds} rounds: {quiet:.0f} µs, beside a slow one {slow:.0f}: {slow / quiet:.2f} times"
    )


if __name__ == "__main__":
    main()
