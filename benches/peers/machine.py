"""What the driver needs of this machine: programs, interpreters, a certificate, free ports; relays to start."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pair import FAR_CORE, Peer, Relay, end, line_of, start

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOREIGN = ROOT / ".venv-bench-peers" / "bin" / "python"


def port() -> int:
    """One that nobody has just now, neither UDP nor TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            found: int = udp.getsockname()[1]
            with contextlib.suppress(OSError):
                tcp.bind(("127.0.0.1", found))
                return found


class Machine:
    """Everything that is made for one run of the driver, in a folder of its own."""

    def __init__(self, python: str, foreign: str) -> None:
        self.python, self.foreign = python, foreign
        self.folder = Path(tempfile.mkdtemp(prefix="clutchcall-peers-"))

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def certificate(self) -> str | None:
        """What is missing, or nothing: then the peers find it in their environment."""
        if shutil.which("openssl") is None:
            return "openssl is not installed"
        chain, key = self.folder / "chain.pem", self.folder / "key.pem"
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command = ["openssl", "req", "-x509", *curve, "-days", "13", "-keyout", key, "-out", chain, *subject]
        subprocess.run(command, check=True, capture_output=True)
        os.environ.update(PEERS_CERTIFICATE=str(chain), PEERS_KEY=str(key))
        return None

    def udp(self) -> Peer:
        program = self.folder / "udp"
        if shutil.which("cc") is None:
            return Peer("C UDP", [], missing="no C compiler")
        subprocess.run(["cc", "-O2", "-o", program, HERE / "udp.c"], check=True)
        return Peer("C UDP", [str(program)])

    def theirs(self, name: str, file: str, module: str, *options: str) -> Peer:
        missing = None
        if not Path(self.foreign).exists():
            missing = f"no {self.foreign}: make .venv-bench-peers/requirements.txt"
        elif subprocess.run([self.foreign, "-c", f"import {module}"], capture_output=True).returncode:
            missing = f"{self.foreign} has no {module}: make .venv-bench-peers/requirements.txt"
        return Peer(name, [self.foreign, "-u", str(HERE / file)], list(options), missing=missing)

    def ours(self, name: str, file: str, *options: str) -> Peer:
        return Peer(name, [self.python, "-u", str(HERE / file)], list(options), missing=self._no_product())

    def _no_product(self) -> str | None:
        if subprocess.run([self.python, "-c", "import clutchcall._core"], capture_output=True).returncode:
            return f"{self.python} has no clutchcall: make .venv-test/wheel, and run this with .venv-test/bin/python"
        return None

    def relayed(self, peer: Peer, ours: bool) -> Peer:
        """The same with a relay of its maker in between."""
        peer.relay = self.our_relay if ours else partial(self.their_relay, self.foreign)
        return peer

    @contextlib.contextmanager
    def our_relay(self, port: int) -> Iterator[Relay]:
        state = tempfile.mkdtemp(dir=self.folder)
        cli = [self.python, "-m", "clutchcall.cli"]
        key = subprocess.run([*cli, "keys", "public", "--state", state], check=True, capture_output=True, text=True)
        listen = ["--listen", f"127.0.0.1:{port}", "--public-key", key.stdout.strip(), "--state", f"{state}/relay"]
        process = start([*cli, "relay", *listen, "--json"], FAR_CORE)
        try:
            shown = line_of(process)
            yield Relay(process, [f"key={state}/token.key", f"hash={shown['certificate_hash']}"])
        finally:
            process.terminate()
            end(process)

    @staticmethod
    @contextlib.contextmanager
    def their_relay(foreign: str, port: int) -> Iterator[Relay]:
        process = start([foreign, "-u", str(HERE / "moq_rs_relay.py"), str(port)], FAR_CORE)
        try:
            line_of(process)
            yield Relay(process)
        finally:
            process.kill()
            end(process)


def machine(foreign: str | None) -> Machine:
    return Machine(sys.executable, foreign or str(FOREIGN))
