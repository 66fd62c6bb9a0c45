"""What phone calls cost: `make bench-sip`, or parts of it by hand.

```sh
.venv-test/bin/python benches/sip/run.py                     # everything
.venv-test/bin/python benches/sip/run.py --only passed latency --calls 50 --secs 5
```

The interpreter that runs it has our release wheel. A call is a SIP call from `clutchcall serve` to SIPp, over loopback,
with RTP both ways, and a bridge of one Python process with a callback. SIPp gives every packet back. CPU is of each
process by itself (proc(5), `schedstat`), in percent of one core per call: it survives a machine that others use, as
times do not.

| part | goals | measures |
|---|---|---|
| `floor` | | C that gives packets back, a socket per call; bare libopus. A row of every table it belongs to, too |
| `passed` | P11 | µ-law through and through, on both cores: lost, late, CPU, system calls, memory |
| `most` | P11 | the same with engine and user on one core: how many calls fit (under 1 % late or lost) |
| `coded` | P11 | µ-law on the line, Opus to the user, both ways transcoded |
| `latency` | | from a packet's sending to the callback that is given its payload, at 50 calls |
| `rate` | P11 | calls a second for a minute: failures, and what set-up cost us |
| `soak` | | ten thousand short calls, fifty a second: memory, step by step |
| `flood` | R9 | ten thousand junk INVITEs a second beside the calls of `latency` |
| `asterisk` | | Asterisk 22 with the load of `coded`, more and more, until it can't, and ours in turn: CPU per call |

Every part is bounded, and ends by itself. What can't be measured here is named with the reason.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asterisk
import flood
import floors
import parts
import soak
from far import folder, wait_for_quiet
from load import Missing, Run
from pair import Failed
from table import Found, verdicts

PARTS: dict[str, Callable[[Run], None]] = {
    "floor": floors.floor,
    "passed": parts.passed,
    "most": parts.most,
    "coded": parts.coded,
    "latency": parts.latency,
    "rate": parts.rate,
    "soak": soak.soak,
    "flood": flood.flood,
    "asterisk": asterisk.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--calls", type=int, nargs="+", help="how many at the same time, instead of the part's own")
    parser.add_argument("--secs", type=float, default=10.0, help="length of a window (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each row; the medians are shown")
    parser.add_argument("--count", type=int, help="calls of rate and soak (3,000 and 10,000)")
    parser.add_argument("--per-s", type=float, help="calls a second of rate and soak (50)")
    parser.add_argument("--transport", choices=("udp", "tcp"), default="udp", help="of rate and soak (%(default)s)")
    parser.add_argument("--asterisk", metavar="FOLDER", default=os.environ.get("CLUTCHCALL_ASTERISK"), help="its root")
    arguments = parser.parse_args()
    begun, found = time.monotonic(), Found()
    print(f"others use {wait_for_quiet(10.0):.2f} cores before")
    try:
        with folder() as made:
            run = Run(arguments, sys.executable, Path(made), found)
            for name in arguments.only:
                try:
                    PARTS[name](run)
                except (Missing, Failed, TimeoutError) as missing:
                    print(f"{name} is not measured: {missing}", flush=True)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    verdicts(found)
    print(f"others use {wait_for_quiet(0.0):.2f} cores after; {(time.monotonic() - begun) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
