"""A relay, an engine and users of the SDK, each a process of its own that can be killed and started again."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from namespaces import Namespace
from proxy import UdpProxy

# Generous: nothing is asserted on how long a start takes.
LIMIT_S = 30.0
SCRIPT = Path(sysconfig.get_path("scripts")) / "clutchcall"
ORG = "org_test"


class Process:
    """One child, followed by the JSON lines that it prints; what it says on standard error is kept in a file."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        # Nothing of the user's own settings.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CLUTCHCALL_")}
        environment["XDG_STATE_HOME"] = str(folder)
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
            )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"reads {name}", daemon=True)
        self._reader.start()

    def line(self) -> dict[str, Any]:
        """The next line, an object."""
        try:
            text = self._lines.get(timeout=LIMIT_S)
        except queue.Empty:
            text = ""
        assert text, f"{self.name} said nothing (it ended: {self._child.poll()}):\n{self.output()}"
        told: dict[str, Any] = json.loads(text)
        return told

    def begin(self, do: str, **arguments: object) -> None:
        """Asks for something; `answer` waits for it."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self._child.stdin.flush()

    def answer(self) -> Any:  # noqa: ANN401 (whatever the child answers)
        told = self.line()
        assert "error" not in told, f"{self.name}: {told['error']}\n{self.output()}"
        return told["answer"]

    def ask(self, do: str, **arguments: object) -> Any:  # noqa: ANN401 (whatever the child answers)
        self.begin(do, **arguments)
        return self.answer()

    def output(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """SIGKILL: it has no time for last words."""
        self._child.send_signal(signal.SIGKILL)
        self._gone()

    def stop(self) -> None:
        """SIGSTOP: it stands still, and the kernel keeps what comes for it."""
        self._child.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM, and waits for its end."""
        self._child.terminate()
        assert self._child.wait(LIMIT_S) == 0, self.output()
        self._gone()

    def end(self) -> None:
        if self._child.poll() is None:
            self._child.terminate()
            self._child.send_signal(signal.SIGCONT)
        try:
            self._child.wait(10.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._gone()

    def _gone(self) -> None:
        self._child.wait(10.0)
        self._reader.join(10.0)
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # What nobody read in time.

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._lines.put(line.decode())
        self._lines.put("")


class Stage:
    """The three processes, and a proxy on each way between them: SDK to relay, engine to relay.

    `pool` bridges share a connection. In a `namespace` users of the SDK have an own network, and reach relay and engine
    over it without a proxy.
    """

    def __init__(self, folder: Path, pool: int = 1, namespace: Namespace | None = None) -> None:
        self._folder = folder
        self._pool = pool
        self._namespace = namespace
        self._host = namespace.host if namespace else "127.0.0.1"
        self._running: list[Process] = []
        self.sdk_side, self.engine_side = UdpProxy(host=self._host), UdpProxy(host=self._host)
        self._api_port = self._relay_port = 0
        try:
            self._start_all()
        except BaseException:
            self.close()
            raise

    def _start_all(self) -> None:
        folder = self._folder
        self._public_key = self._output("keys", "public", "--state", str(folder / "engine"))
        minted = self._output("keys", "mint", "--org", ORG)
        self._key, self._hash = minted.split()[0], minted.rsplit('"', 2)[1]
        self.relay, told = self._start_relay()
        self._certificate_hash: str = told["certificate_hash"]
        self.engine, told = self._start_engine()
        self.base_url: str = told["base_url"]

    def restart_relay(self) -> None:
        """Returns when its port answers."""
        self.relay, _ = self._start_relay()

    def restart_engine(self) -> None:
        self.engine, told = self._start_engine()
        assert told["base_url"] == self.base_url

    def sdk(self, name: str = "sdk") -> Process:
        child = Path(__file__).with_name("sdk_child.py")
        command = [sys.executable, str(child), self.base_url, self._key, ORG, str(self._pool)]
        return self._start(name, [*(self._namespace.inside if self._namespace else []), *command])[0]

    def close(self) -> None:
        for process in reversed(self._running):
            process.end()
        self.sdk_side.close()
        self.engine_side.close()

    def output(self) -> str:
        """What all of them said, for whoever reads a failure."""
        return "\n".join(f"--- {process.name}\n{process.output()}" for process in self._running)

    def _start_relay(self) -> tuple[Process, dict[str, Any]]:
        listen, state = f"{self._host}:{self._relay_port}", str(self._folder / "relay")
        command = ["relay", "--json", "--listen", listen, "--state", state, f"--public-key={self._public_key}"]
        process, told = self._start("relay", [str(SCRIPT), *command])
        self._relay_port = int(told["address"].rpartition(":")[2])
        for proxy in (self.sdk_side, self.engine_side):
            proxy.lead_to(self._relay_port)
        return process, told

    def _start_engine(self) -> tuple[Process, dict[str, Any]]:
        config = self._folder / "clutchcall.toml"
        users_port = self._relay_port if self._namespace else self.sdk_side.port
        config.write_text(
            f"""
state = "engine"
api.listen = "{self._host}:{self._api_port}"
trunks.trunk_main.kind = "phone"
phone.ring_ms = 20
keys = [{{ org = "{ORG}", hash = "{self._hash}" }}]

[relay]
url = "moqt://{self._host}:{self.engine_side.port}"
public_url = "moqt://{self._host}:{users_port}"
pool = {self._pool}
certificate_hashes = ["{self._certificate_hash}"]
"""
        )
        process, told = self._start("engine", [str(SCRIPT), "serve", "--json", "--config", str(config)])
        self._api_port = int(told["base_url"].rpartition(":")[2])
        return process, told

    def _start(self, name: str, command: Sequence[str]) -> tuple[Process, dict[str, Any]]:
        process = Process(name, command, self._folder)
        self._running.append(process)
        return process, process.line()

    def _output(self, *arguments: str) -> str:
        return subprocess.run([str(SCRIPT), *arguments], check=True, capture_output=True, text=True).stdout.strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(self.output())
        self.close()
