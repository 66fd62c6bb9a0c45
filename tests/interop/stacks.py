"""Everybody's relays and clients as processes, each with lines that can be waited for.

The foreign stacks run with the interpreter that `CLUTCHCALL_PEERS_PYTHON` names (`make peers` builds its environment);
`moq-relay` is the program that `CLUTCHCALL_MOQ_RELAY` names (`make moq-relay` builds it).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clutchcall import _core
from clutchcall.relay import Relay

SCRIPTS = Path(__file__).parents[1] / "peers"
# Generous: nothing is asserted on how long something takes.
LIMIT_S = 30.0


def peers_python() -> str:
    """The interpreter of the foreign stacks; without one the test is left out, and in CI fails."""
    python = os.environ.get("CLUTCHCALL_PEERS_PYTHON")
    if not python:
        missing = "CLUTCHCALL_PEERS_PYTHON names no interpreter with aiomoqt and moq-rs: `make peers` builds one"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return python


def moq_relay() -> str:
    """The program of the third relay."""
    program = os.environ.get("CLUTCHCALL_MOQ_RELAY")
    if not program:
        pytest.skip("CLUTCHCALL_MOQ_RELAY names no moq-relay: `make moq-relay` builds it")
    return program


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A child whose lines on standard output can be waited for. Standard error is kept for the one who asks why."""

    def __init__(self, command: Sequence[str | Path], env: dict[str, str] | None = None) -> None:
        self._child = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._told: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, limit_s: float = LIMIT_S) -> str:
        """The next line. `Silence` when none comes, or none can come any more."""
        try:
            line = self._lines.get(timeout=limit_s)
        except queue.Empty:
            raise Silence(f"nothing for {limit_s:g} s, after: {self.told()}") from None
        if line is None:
            raise Silence(f"it ended with {self._child.wait()}, after: {self.told()}")
        self._told.append(line)
        return line

    def message(self, *keys: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
        """The next JSON line that has one of these keys."""
        deadline = time.monotonic() + limit_s
        while True:
            line = self.line(max(deadline - time.monotonic(), 0.001))
            if line.startswith("{"):
                message: dict[str, Any] = json.loads(line)
                if any(key in message for key in keys):
                    return message

    def go(self) -> None:
        """One line on its standard input."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write("go\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise Silence(f"it ended, after: {self.told()}") from None

    def told(self) -> str:
        """The end of what it said: that is where a reason stands."""
        return " | ".join(self._told[-6:])[-600:] or "not a word"

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        self._reader.join()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Silence(AssertionError):
    """A peer says nothing more."""


@dataclass
class Certificate:
    """Self-signed, for localhost and 127.0.0.1."""

    chain: Path
    key: Path

    @classmethod
    def minted(cls, folder: Path) -> Certificate:
        made = cls(folder / "cert.pem", folder / "key.pem")
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "13"]
        ends = ["-keyout", str(made.key), "-out", str(made.chain), "-subj", "/CN=localhost", "-addext", names]
        subprocess.run(["openssl", "req", "-x509", *curve, *ends], check=True, capture_output=True)
        return made


class AnyRelay:
    """A relay on loopback, ours or somebody else's."""

    name: str
    token: str | None = None

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, wire: str) -> str:
        return f"{'https' if wire == 'webtransport' else 'moqt'}://127.0.0.1:{self.port}/"

    def wait(self) -> None:
        """Until a session can be had."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            report = _core.interop("setup-only", self.url("raw"), self.token, [], True, self.drafts())
            if report.verdict == "passed":
                return
            assert time.monotonic() < deadline, f"{self.name} does not serve: {report.message}; {self.told()}"

    def drafts(self) -> list[str]:
        return []

    def told(self) -> str:
        return ""

    def close(self) -> None: ...


class OurRelay(AnyRelay):
    """Speaks one draft only, so that a peer that can't be told which one has no choice."""

    name = "clutchcall"

    def __init__(self, folder: Path, draft: int) -> None:
        self._draft = draft
        key = folder / "token.key"
        self._relay = Relay(
            "127.0.0.1:0", public_keys=[_core.public_key(folder)], state=folder / "relay", drafts=[str(draft)]
        )
        super().__init__(int(self._relay.address.rpartition(":")[2]))
        claims = {"sub": "interop", "ns": ["**"], "exp": int(time.time()) + 3600}
        self.token = _core.mint_token(key, json.dumps(claims), None)

    def drafts(self) -> list[str]:
        return [str(self._draft)]

    def counters(self) -> dict[str, int]:
        return self._relay.counters()

    def close(self) -> None:
        self._relay.close()


class TheirRelay(AnyRelay):
    """A process that serves every draft it knows."""

    def __init__(self, name: str, command: Sequence[str | Path], port: int, env: dict[str, str] | None = None) -> None:
        super().__init__(port)
        self.name = name
        self._process = Process(command, env)

    def told(self) -> str:
        return self._process.told()

    def close(self) -> None:
        self._process.close()


def relay_of(name: str, certificate: Certificate, folder: Path, draft: int) -> AnyRelay:
    """Starts that relay and waits until it serves."""
    port = free_port()
    if name == "clutchcall":
        relay: AnyRelay = OurRelay(folder, draft)
    elif name == "aiomoqt":
        program = Path(peers_python()).with_name("moq-interop-relay")
        files = ("--cert", certificate.chain, "--key", certificate.key)
        relay = TheirRelay(name, [program, "--bind", "127.0.0.1", "--port", str(port), *files, "--dual"], port)
    elif name == "moq-rs":
        command: list[str | Path] = [
            peers_python(),
            SCRIPTS / "moq_relay.py",
            str(port),
            certificate.chain,
            certificate.key,
        ]
        relay = TheirRelay(name, command, port)
    else:
        tls = {"MOQ_LISTEN_TLS_CERT": str(certificate.chain), "MOQ_LISTEN_TLS_KEY": str(certificate.key)}
        command = [moq_relay(), "--listen", f"127.0.0.1:{port}", "--auth-public", "**"]
        relay = TheirRelay(name, command, port, tls)
    try:
        relay.wait()
    except BaseException:
        relay.close()
        raise
    return relay


def peer(name: str, role: str, relay: AnyRelay, wire: str, wish: dict[str, Any]) -> Process:
    """A foreign client that publishes or subscribes."""
    script = {"aiomoqt": "aiomoqt_peer.py", "moq-rs": "moq_peer.py"}[name]
    whole = {"role": role, "url": relay.url(wire), "token": relay.token, **wish}
    return Process([peers_python(), SCRIPTS / script, json.dumps(whole)])


def versions() -> dict[str, str]:
    """What the peers call themselves."""
    show = "import importlib.metadata as m; print(*(m.version(n) for n in ('aiomoqt', 'moq-rs')))"
    told = subprocess.run([peers_python(), "-c", show], capture_output=True, text=True, check=True).stdout.split()
    known = {"clutchcall": _core.__version__, "aiomoqt": told[0], "moq-rs": told[1], "python": sys.version.split()[0]}
    if program := os.environ.get("CLUTCHCALL_MOQ_RELAY"):
        shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        known["moq-relay"] = shown.split()[-1]
    return known
