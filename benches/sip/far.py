"""The processes of a load: SIPp as the carrier, `clutchcall serve` with trunks to it, and what each of them costs.

Every process ends by itself at its limit, whatever becomes of the driver.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "peers"))

from machine import port  # noqa: E402
from pair import Row, busy_s, line_of, tell, usage_of, wait_for_quiet  # noqa: E402, F401

ORG = "org_bench"
LIMIT_S = 900
"""No process of a bench lives longer."""
RTP_FIRST, RTP_LAST = 10_000, 20_999
MEDIA_FIRST = 21_000
"""SIPp's; it listens on the one two above, too."""
PR_SET_PDEATHSIG = 1
PCMU, OPUS = ("0", "PCMU/8000"), ("107", "opus/48000/2")


def begin(command: list[str | Path], cores: str | None = None, **options: Any) -> subprocess.Popen[str]:  # noqa: ANN401
    """Starts it with the priority of a voice server, on these cores."""
    first = ["taskset", "-c", cores] if cores else []
    if os.geteuid() == 0:
        first += ["nice", "-n", "-10"]
    shown = None if os.environ.get("BENCH_ERRORS") else subprocess.DEVNULL
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": shown, "text": True} | options
    process: subprocess.Popen[str] = subprocess.Popen(
        ["timeout", "--foreground", str(LIMIT_S), *first, *map(str, command)], preexec_fn=apart, **options
    )
    return process


def apart() -> None:
    """In the child: it ends when the driver does, and may open as many files as it wants."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))


def end(process: subprocess.Popen[str], limit_s: float = 20.0) -> None:
    for pipe in (process.stdin,):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        kill_tree(process)
    if process.stdout:
        process.stdout.close()


def kill_tree(process: subprocess.Popen[str]) -> None:
    """What `timeout` started, and itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(real(process), signal.SIGKILL)
    process.kill()
    process.wait()


def real(process: subprocess.Popen[str]) -> int:
    """The process behind `timeout`."""
    with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
        return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    return process.pid


class Used:
    """What a process has used so far: CPU, sleeps, memory."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._pid = process.pid

    @property
    def pid(self) -> int:
        """Of what `timeout` has started; it may have to wait a moment for that."""
        until = time.monotonic() + 5
        while self._pid == self._process.pid and time.monotonic() < until:
            self._pid = real(self._process)
        return self._pid

    def now(self) -> Row:
        # `usage_of` asks for nothing but the number.
        row: Row = usage_of(self)  # type: ignore[arg-type]
        return row

    def rss_kib(self, line: str = "VmRSS") -> int:
        return line_of_status(self.pid, line)


def line_of_status(pid: int, name: str) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name + ":"))


def scenario(name: str, folder: Path, **keys: object) -> Path:
    text = (HERE / f"{name}.xml").read_text(encoding="utf-8")
    for key, value in keys.items():
        text = text.replace(f"[{key}]", str(value))
    file = folder / f"{name}-{secrets.token_hex(4)}.xml"
    file.write_text(text, encoding="utf-8")
    return file


class Carrier:
    """One SIPp that answers on a port of its own and gives back what it hears on its media port."""

    def __init__(
        self, folder: Path, nth: int = 0, cores: str | None = None, name: str = "answers", **keys: object
    ) -> None:
        self.port, self.media = int(str(keys.pop("at", 0))) or port(), media_port(nth)
        kind, codec = keys.pop("codec", PCMU)  # type: ignore[misc]
        transport = str(keys.pop("transport", "udp"))
        words = {"audio": self.media, "type": kind, "codec": codec} | keys
        where = ["-i", "127.0.0.1", "-p", self.port, "-mi", "127.0.0.1", "-mp", self.media]
        command = [
            "sipp",
            "-sf",
            scenario(name, folder, **words),
            *map(str, where),
            "-t",
            f"{transport[0]}1",
            "-rtp_echo",
            "-nostdin",
        ]
        self.process = begin(command, cores, cwd=folder, stdout=subprocess.DEVNULL)
        wait_bound(self.port, transport)
        self.used = Used(self.process)

    def drops(self) -> int:
        """Packets that came while its own socket was full: lost by the far end, not by us."""
        return drops_of({self.media})


def media_port(nth: int) -> int:
    """One that nobody has, nor the one that SIPp takes beside it."""
    for first in range(MEDIA_FIRST + 10 * nth, 25_000, 100):
        with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as audio:
            audio.bind(("127.0.0.1", first))
            with socket.socket(type=socket.SOCK_DGRAM) as video:
                video.bind(("127.0.0.1", first + 2))
                return first
    raise TimeoutError("no free port for SIPp's audio")


def wait_bound(number: int, transport: str = "udp") -> None:
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with socket.socket(socket.AF_INET, kind) as tried:
            try:
                tried.bind(("127.0.0.1", number))
            except OSError:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens on {transport.upper()} port {number}: is sipp installed (make packages)?")


def drops_of(ports: set[int] | range) -> int:
    """Of UDP sockets on these ports (proc(5), `/proc/net/udp`)."""
    dropped = 0
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rsplit(":", 1)[1], 16) in ports:
            dropped += int(words[-1])
    return dropped


class Serving:
    """`clutchcall serve` with a SIP trunk to each of these ports."""

    def __init__(self, python: str, folder: Path, ports: list[int], cores: str | None = None, **more: str) -> None:
        self.key, self.trunks = secrets.token_urlsafe(32), [f"carrier{n}" for n in range(len(ports))]
        state = Path(tempfile.mkdtemp(dir=folder))
        share = (RTP_LAST + 1 - RTP_FIRST) // len(ports) // 2 * 2
        tables = [
            f'[trunks.{name}]\nkind = "sip"\nsbc_ip = "127.0.0.1"\ndestination_sbc_port = {ports[n]}\n'
            f'internal_sip_ip = "127.0.0.1"\nsource_pbx_port = {more.get("sip", 0)}\noptions_interval_sec = 0\n'
            f"rtp_start_port = {RTP_FIRST + n * share}\nrtp_end_port = {RTP_FIRST + (n + 1) * share - 1}\n"
            f"channel_limit = {min(share // 2, 4000)}\nmax_cps = 1000\n"
            + 'codec_preferences = ["PCMU"]\n'
            + more.get("trunk", "").replace("[name]", name)
            for n, name in enumerate(self.trunks)
        ]
        (state / "clutchcall.toml").write_text(
            f'state = "state"\n{more.get("top", "")}\n[api]\nlisten = "127.0.0.1:0"\n[relay]\nlisten = "127.0.0.1:0"\n'
            f'[[keys]]\norg = "{ORG}"\nkey = "{self.key}"\n[limits]\ncalls = 4000\n' + "\n".join(tables),
            encoding="utf-8",
        )
        command = [python, "-m", "clutchcall.cli", "serve", "--config", state / "clutchcall.toml", "--json"]
        self.process = begin(command, cores)
        self.base_url: str = line_of(self.process)["base_url"]
        self.used = Used(self.process)

    @property
    def where(self) -> list[str]:
        return [self.base_url, self.key, ORG]

    def ask(self, path: str, connection: HTTPConnection | None = None) -> Any:  # noqa: ANN401 (JSON)
        own = connection or self.connect()
        own.request("GET", path, headers={"authorization": f"Bearer {self.key}"})
        body = own.getresponse().read()
        if connection is None:
            own.close()
        return body.decode() if path == "/metrics" else json.loads(body)["result"]["data"]

    def connect(self) -> HTTPConnection:
        found = urlsplit(self.base_url)
        return HTTPConnection(found.hostname or "", found.port, timeout=30)

    def row(self, sid: str, connection: HTTPConnection | None = None) -> dict[str, Any]:
        wanted = quote(json.dumps({"orgId": ORG, "sid": sid}))
        row: dict[str, Any] = self.ask(f"/api/trpc/voice.calls.get?input={wanted}", connection)
        return row

    def metrics(self, connection: HTTPConnection | None = None) -> dict[str, float]:
        told = self.ask("/metrics", connection).splitlines()
        lines = (line.rsplit(" ", 1) for line in told if line and line[0] != "#")
        return {name: float(value) for name, value in lines}

    def drops(self) -> int:
        return drops_of(range(RTP_FIRST, RTP_LAST + 1))


@dataclass
class Syscalls:
    """System calls of a process while it is watched, by `perf stat`; `nan` where that can't be had."""

    pid: int
    secs: float
    counted: float = float("nan")
    _thread: threading.Thread | None = field(default=None, repr=False)

    def start(self) -> Syscalls:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        event = ["-e", "raw_syscalls:sys_enter", "-p", str(self.pid), "-x", ","]
        with contextlib.suppress(OSError, ValueError, IndexError, subprocess.TimeoutExpired):
            command = ["perf", "stat", *event, "--", "sleep", str(self.secs)]
            told = subprocess.run(command, capture_output=True, text=True, timeout=self.secs + 10).stderr
            lines = [line for line in told.splitlines() if "raw_syscalls" in line]
            self.counted = float(lines[0].split(",")[0])

    def wait(self) -> float:
        if self._thread:
            self._thread.join()
        return self.counted


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="clutchcall-sip-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def many(work: Callable[[int], None], count: int, threads: int) -> None:
    """`work` of each number, so many at a time."""
    numbers, lock = iter(range(count)), threading.Lock()

    def run() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            work(number)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
