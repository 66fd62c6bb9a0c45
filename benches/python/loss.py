"""Frames through a path that loses some: clutchcall beside aiomoqt in the same run (docs/performance.md, "Loss").

```sh
python benches/python/loss.py --peers .venv-peers/bin/python                       # 2 and 5 % at 50 ms RTT, 20 s each
python benches/python/loss.py --rtt 40 --loss 0.05 0.3                             # R2
python benches/python/loss.py --rtt 40 --loss 0.3 --secs 600 --mappings stream     # ten minutes
```

80-byte frames at 50 a second go publisher → relay → subscriber, a process each. Between relay and subscriber stands
the proxy of `crates/weather`: half the round trip each way, and the loss each way, uniform unless `--burst` says how
many are lost in a row. Both makes run at once, each with its own relay and a proxy with the same seed. Late is from
`write` to the callback.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "python"))
from proxy import UdpProxy  # noqa: E402 (it stands beside the tests)

SCRIPT = Path(sys.executable).with_name("clutchcall")
# A publisher that was killed may still be known to its relay: each case has a name of its own.
NAMES = (f"voice/loss{number}/uplink" for number in itertools.count())
DRAIN_S = 3.0
COLUMNS = ("got", "p50", "p95", "p99", "most", "> 60", "> 100", "within 120 ms", "lost", "packets")
# What the subscriber says at the end: links lost, frames that never came, frames that made room for newer ones.
ENDS = ("reconnects", "missing", "dropped")


class End:
    """One process, told and heard in JSON lines."""

    def __init__(self, command: list[str], job: dict[str, Any] | None = None) -> None:
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        if job is not None:
            self.tell(job)

    def tell(self, line: object = None) -> None:
        assert self._child.stdin
        self._child.stdin.write(json.dumps(line) + "\n")
        self._child.stdin.flush()

    def hear(self, key: str) -> dict[str, Any]:
        """The next line that has this key."""
        assert self._child.stdout
        for text in self._child.stdout:
            line: dict[str, Any] = json.loads(text) if text.startswith("{") else {}
            if key in line:
                return line
        raise RuntimeError(f"a process ended with {self._child.wait(10)} before it said {key}")

    def end(self) -> None:
        self._child.kill()
        self._child.communicate()


class Make:
    """One make of relay and clients, on its own ports."""

    def __init__(self, name: str, python: str, folder: Path) -> None:
        self.name, self._python, self._folder = name, python, folder
        self.token = ""
        self.relay, self.port = self._ours() if name == "clutchcall" else self._aiomoqt()

    def _ours(self) -> tuple[End, int]:
        state = str(self._folder / "engine")
        key = self._told("keys", "public", "--state", state)
        self.token = self._told("tokens", "mint", "--state", state, "--ns", "voice/**")
        command = ["relay", "--json", "--listen", "127.0.0.1:0", "--state", str(self._folder / "relay")]
        relay = End([str(SCRIPT), *command, f"--public-key={key}"])
        return relay, int(relay.hear("address")["address"].rpartition(":")[2])

    def _aiomoqt(self) -> tuple[End, int]:
        cert, key = self._folder / "cert.pem", self._folder / "key.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-subj", "/CN=localhost", "-days", "13", "-keyout", str(key), "-out", str(cert)),
            ],
            check=True,
            capture_output=True,
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(Path(self._python).with_name("moq-interop-relay")), "--bind", "127.0.0.1", "--port", str(port)]
        relay = End([*command, "--cert", str(cert), "--key", str(key), "--dual", "--draft", "18"])
        # It says nothing when it listens.
        time.sleep(2.0)
        return relay, port

    def _told(self, *arguments: str) -> str:
        return subprocess.run([str(SCRIPT), *arguments], check=True, capture_output=True, text=True).stdout.strip()

    def role(self, role: str, port: int, **job: object) -> End:
        kind = "ours" if self.name == "clutchcall" else "aiomoqt"
        job |= {"port": port, "token": self.token}
        return End([self._python, str(HERE / "loss_ends.py"), kind, role], job)


class Case:
    """One make, one mapping, one weather."""

    def __init__(self, make: Make, mapping: str, count: int, weather: dict[str, float]) -> None:
        self.make, self._stack = make, contextlib.ExitStack()
        self.proxy = self._stack.enter_context(UdpProxy(seed=5))
        self.proxy.lead_to(make.port)
        job = {"mapping": mapping, "count": count, "namespace": next(NAMES)}
        self.publisher = self._end("publish", make.port, **job)
        if make.name != "clutchcall":
            self.publisher.hear("announced")
        self.subscriber = self._end("subscribe", self.proxy.port, **job)
        self.subscriber.hear("ready")
        self.publisher.hear("ready")
        # The loss begins when all are there, so that it strikes frames and nothing else.
        self.proxy.climate(**weather)
        self._before = self.proxy.tell("count")

    def _end(self, role: str, port: int, **job: object) -> End:
        end = self.make.role(role, port, **job)
        self._stack.callback(end.end)
        return end

    def go(self) -> None:
        self.publisher.tell()

    def row(self) -> dict[str, Any]:
        self.publisher.hear("reconnects")
        time.sleep(DRAIN_S)
        counts = self.proxy.tell("count")
        self.subscriber.tell()
        told = self.subscriber.hear("late_us")
        self._stack.close()
        ways = [(counts[way], self._before[way]) for way in ("there", "back")]
        came = sum(now["came"] - before["came"] for now, before in ways)
        lost = sum(now["lost"] - before["lost"] for now, before in ways)
        return {
            **figures(told["late_us"]),
            "lost": lost / came,
            "packets": came,
            **{name: told.get(name, "") for name in ENDS},
        }


def figures(late_us: list[int]) -> dict[str, Any]:
    came = sorted(late / 1000 for late in late_us if late >= 0)
    at = {f"p{percent}": came[len(came) * percent // 100] for percent in (50, 95, 99)} if came else {}
    return {
        "got": f"{len(came)} of {len(late_us)}",
        **at,
        "most": came[-1] if came else float("nan"),
        "> 60": sum(late > 60 for late in came),
        "> 100": sum(late > 100 for late in came),
        "within 120 ms": sum(late <= 120 for late in came) / len(late_us),
    }


def cell(name: str, value: object) -> str:
    if name in ("lost", "within 120 ms"):
        return f"{100 * float(value):.1f} %"  # type: ignore[arg-type]
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="an interpreter with aiomoqt; without it clutchcall runs alone")
    parser.add_argument("--rtt", type=float, default=50.0, help="milliseconds, there and back")
    parser.add_argument("--loss", type=float, nargs="+", default=[0.0, 0.02, 0.05])
    parser.add_argument("--burst", type=float, help="datagrams lost in a row, on average")
    parser.add_argument("--secs", type=float, default=20.0)
    parser.add_argument("--mappings", nargs="+", default=["stream", "datagram"])
    options = parser.parse_args()
    # Whoever ends it ends its children too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        makes = [Make("clutchcall", sys.executable, Path(folder))]
        makes += [Make("aiomoqt", options.peers, Path(folder))] if options.peers else []
        for make in makes:
            stack.callback(make.relay.end)
        print("| loss | mapping | who | " + " | ".join((*COLUMNS, *ENDS)) + " |")
        print("|---" * (3 + len(COLUMNS) + len(ENDS)) + "|")
        for loss in options.loss:
            weather = {"delay_us": int(options.rtt * 500), "loss": loss}
            weather |= {"burst": options.burst} if options.burst else {}
            for mapping in options.mappings:
                cases = [Case(make, mapping, int(options.secs * 50), weather) for make in makes]
                for case in cases:
                    case.go()
                for case in cases:
                    row = case.row()
                    cells = " | ".join(cell(name, row.get(name, "")) for name in (*COLUMNS, *ENDS))
                    print(f"| {100 * loss:g} % | {mapping} | {case.make.name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
