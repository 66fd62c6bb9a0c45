"""UDP between two processes, through the program of `crates/weather`: lost, delayed, cut, moved and counted."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
# What a command waits for at most; none that passes comes near it.
_LIMIT_S = 20.0


@functools.cache
def program() -> Path:
    """Built when it is not there yet, or is older than its source."""
    named = os.environ.get("CLUTCHCALL_WEATHER")
    if named:
        return Path(named)
    command = [
        "cargo",
        "build",
        "--locked",
        "--quiet",
        "--package",
        "weather",
        "--message-format=json-render-diagnostics",
    ]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = [json.loads(line).get("executable") for line in built.splitlines()]
    return Path(next(path for path in found if path))


@dataclass(frozen=True)
class Packets:
    """Datagrams passed on: towards the server, and back."""

    there: int = 0
    back: int = 0

    def __sub__(self, other: Packets) -> Packets:
        return Packets(self.there - other.there, self.back - other.back)

    @property
    def both(self) -> int:
        return self.there + self.back


class UdpProxy:
    """A port that stands for another one. Each client's address has a socket of its own towards the server."""

    def __init__(self, seed: int = 1, host: str = "127.0.0.1") -> None:
        command = [str(program()), "--listen", f"{host}:0", "--seed", str(seed)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.host = host
        self.port: int = int(self._answer()["address"].rpartition(":")[2])

    def lead_to(self, port: int) -> None:
        """Where the server is."""
        self.tell(f"to {self.host}:{port}")

    @property
    def packets(self) -> Packets:
        counts = self.tell("count")
        return Packets(counts["there"]["passed"], counts["back"]["passed"])

    def climate(self, direction: str = "both", /, **words: float) -> None:
        """`there`, `back` or `both`; the words are those of `crates/weather/src/climate.rs`. None: a clear day."""
        self.tell(" ".join([direction, *(f"{name}={value}" for name, value in words.items())]))

    def cut_for(self, seconds: float) -> tuple[Packets, int]:
        """A partition: all that comes is dropped. What was passed on meanwhile, and when it healed (monotonic µs)."""
        self.tell("cut")
        before = self.packets
        threading.Event().wait(seconds)
        passed = self.packets - before
        self.tell("heal")
        return passed, time.monotonic_ns() // 1000

    def rebind(self, address: str = "") -> None:
        """From now on the clients come to the server from other ports; and from that address, if one is named."""
        self.tell(f"rebind {address}".strip())

    def tell(self, line: str) -> dict[str, Any]:
        """One command; the counters of both directions once it is done."""
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._child.communicate(timeout=_LIMIT_S)

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        # A proxy that died says nothing more, and that reads as an end.
        line = self._child.stdout.readline()
        assert line, f"the proxy ended with {self._child.wait(_LIMIT_S)}"
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise ValueError(told["error"])
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
