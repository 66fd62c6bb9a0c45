"""Ports and memory that run out: the rows of `docs/reliability.md` named after them.

For root, as network namespaces and cgroups want it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import namespaces
import pytest
from listening import LIMIT_S, Heard, connected, dial
from test_cli import command
from test_fault_processes import KEY, serving

from clutchcall.engine import Engine
from clutchcall.voice import Voice

OUT_OF_PORTS = """
    import errno, socket, sys, threading
    from clutchcall.errors import ClutchCallError
    from clutchcall.moqt import MoqtClient
    from clutchcall.voice import Voice

    settings, sid, when = sys.argv[1:4], sys.argv[4], sys.argv[5]
    host, port = settings[0].removeprefix("http://").split(":")
    RANGE = "/proc/sys/net/ipv4/ip_local_port_range"
    taken = []

    def take_all():
        \"\"\"Every port of the namespace that is not somebody's: towards the engine's API, and of UDP.\"\"\"
        for kind, take in (
            (socket.SOCK_STREAM, lambda one: one.connect((host, int(port)))),
            (socket.SOCK_DGRAM, lambda one: one.bind(("::", 0))),
        ):
            family = socket.AF_INET if kind == socket.SOCK_STREAM else socket.AF_INET6
            while True:
                one = socket.socket(family, kind)
                try:
                    take(one)
                except OSError as error:
                    assert error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE), error
                    break
                taken.append(one)

    def told(act):
        try:
            return act() and "done"
        except ClutchCallError as error:
            return f"{type(error).__name__}: {error}"

    more = threading.Semaphore(0)
    if when == "live":
        voice = Voice(*settings, max_retries=0, timeout=5, connect_timeout=5)
        bridge = voice.audio_bridge.attach(sid, on_uplink=lambda frame, ts_us: more.release())
        more.acquire()
    with open(RANGE) as file:
        before = file.read()
    with open(RANGE, "w") as file:
        file.write("50000 50007")
    take_all()
    print(told(lambda: Voice(*settings, max_retries=0, timeout=5).calls.get(sid)), flush=True)
    print(told(lambda: MoqtClient.connect(f"moqt://{host}:9")), flush=True)
    print(told(lambda: Voice(*settings, max_retries=0, timeout=5).audio_bridge.attach(sid)), flush=True)
    if when == "live":
        while more.acquire(blocking=False):
            pass
        for _ in range(25):
            more.acquire()
        print("heard", flush=True)
    for one in taken:
        one.close()
    with open(RANGE, "w") as file:
        file.write(before)
    print(told(lambda: Voice(*settings, max_retries=0).calls.get(sid)), flush=True)
    if when == "live":
        bridge.close()
    with Voice(*settings).audio_bridge.attach(sid, on_uplink=lambda frame, ts_us: more.release()):
        more.acquire()
    print("heard", flush=True)
"""


@pytest.fixture
def abroad(tmp_path: Path) -> Iterator[tuple[namespaces.Namespace, Engine, str]]:
    """A namespace, an engine that it reaches, and a call there."""
    namespaces.wanted()
    with namespaces.Namespace() as namespace:
        config = {
            "state": "state",
            "api": {"listen": f"{namespace.host}:0"},
            "relay": {"listen": f"{namespace.host}:0"},
            "keys": [{"org": "org_abc", "key": KEY}],
            "trunks": {"trunk_main": {"kind": "phone"}},
        }
        with Engine(config, state=tmp_path) as engine, Voice(engine.base_url, KEY, "org_abc") as voice:
            call = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S)
            yield namespace, engine, call.sid
            call.hangup()


@pytest.mark.parametrize("when", ["live", "first"])
def test_out_of_ports_in_the_sdk(abroad: tuple[namespaces.Namespace, Engine, str], when: str) -> None:
    """With a live bridge, and before anything has started: typed errors, and all is well once there are ports again."""
    namespace, engine, sid = abroad
    done = subprocess.run(
        [
            *namespace.inside,
            sys.executable,
            "-c",
            textwrap.dedent(OUT_OF_PORTS),
            engine.base_url,
            KEY,
            "org_abc",
            sid,
            when,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), done
    assert lines[0].startswith("APIConnectionError: "), lines
    # A worker that has its socket needs no other one for a link.
    assert lines[1] == "done" if when == "live" else lines[1].startswith("RelayUnreachable: "), lines
    assert lines[2].startswith("APIConnectionError: "), lines
    assert lines[3:] == (["heard"] if when == "live" else []) + ["done", "heard"], lines


class MemoryCap:
    """A memory cgroup of the test's own, in which a command runs: of whichever version is mounted."""

    _numbers = itertools.count(1)

    def __init__(self, mib: int) -> None:
        first = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
        root = Path("/sys/fs/cgroup/memory" if first else "/sys/fs/cgroup")
        self._path = root / f"clutchcall-{os.getpid()}-{next(self._numbers)}"
        self._path.mkdir()
        self.limit = mib << 20
        self._peak = "memory.max_usage_in_bytes" if first else "memory.peak"
        self._events = "memory.oom_control" if first else "memory.events"
        (self._path / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(self.limit))

    def inside(self, *words: str | Path) -> list[str | Path]:
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', self._path, *words]

    def kills(self) -> int:
        found = re.search(r"^oom_kill (\d+)$", (self._path / self._events).read_text(), re.M)
        assert found
        return int(found[1])

    def peak(self) -> int | None:
        with contextlib.suppress(FileNotFoundError):
            return int((self._path / self._peak).read_text())
        return None

    def close(self) -> None:
        self._path.rmdir()


@pytest.fixture
def cap() -> Iterator[MemoryCap]:
    try:
        cap = MemoryCap(192)
    except OSError as error:
        reason = f"no memory cgroup can be made here: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        warnings.warn(pytest.PytestWarning(f"left out: {reason}"), stacklevel=2)
        pytest.skip(reason)
    yield cap
    cap.close()


def pour(address: tuple[str, int], head: str, mib: int) -> None:
    """A request whose body goes on, for as long as somebody takes it."""
    with socket.create_connection(address) as connection, contextlib.suppress(OSError):
        connection.settimeout(2)
        connection.sendall(head.encode())
        chunk = b"10000\r\n" + b"[" * 0x10000 + b"\r\n"
        for _ in range(mib * 16):
            connection.sendall(chunk)


def test_a_memory_cap_above_the_bounds_is_never_met(tmp_path: Path, cap: MemoryCap) -> None:
    """What strangers send and slow readers leave is several times the cap. The call goes on, and so do new ones."""
    with serving(tmp_path, *cap.inside(*command())) as (_, voice):
        call = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S)
        bridge = connected(voice.audio_bridge.attach(call.sid, on_uplink=(heard := Heard())))
        heard.wait(5)
        host, port = voice.base_url.removeprefix("http://").split(":")
        address = (host, int(port))
        headers = f"host: x\r\nauthorization: Bearer {KEY}\r\n"
        readers: list[Any] = []
        for _ in range(32):
            readers.append(connection := socket.create_connection(address))
            connection.sendall(f"GET /api/trpc/voice.calls.events HTTP/1.1\r\n{headers}\r\n".encode())
        for _ in range(16):
            pour(
                address,
                f"POST /api/trpc/voice.calls.hangup HTTP/1.1\r\n{headers}transfer-encoding: chunked\r\n\r\n",
                mib=64,
            )
        # 32 unread streams of rows, each row with as much as a caller may write into it.
        notes = {f"name-{number}": "x" * 500 for number in range(7)}
        for _ in range(200):
            dial(voice, "9486", metadata=notes).wait(timeout=LIMIT_S)
        heard.wait_more(25)
        assert call.refresh().status == "in_progress"
        assert cap.kills() == 0
        peak = cap.peak()
        assert peak is None or peak < cap.limit, f"{peak} of {cap.limit} bytes"
        for connection in readers:
            connection.close()
        bridge.close()


# What the SDK imports when it is first used is there before: CPython out of memory in an import may raise SystemError.
OUT_OF_MEMORY = """
    import logging, resource, sys, threading
    from clutchcall.errors import ClutchCallError
    from clutchcall.voice import Voice

    settings, sid, spare_kib = sys.argv[1:4], sys.argv[4], int(sys.argv[5])
    more = threading.Semaphore(0)

    def told(act):
        try:
            return act() and "done"
        except (ClutchCallError, MemoryError) as error:
            return type(error).__name__

    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (taken + spare_kib * 1024, hard))
    print(told(lambda: Voice(*settings, max_retries=0).calls.get(sid)))
    print(told(lambda: Voice(*settings, max_retries=0).audio_bridge.attach(sid)))
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    print(told(lambda: Voice(*settings, max_retries=0).calls.get(sid)))
    with Voice(*settings).audio_bridge.attach(sid, on_uplink=lambda frame, ts_us: more.release()):
        more.acquire()
    print("heard", flush=True)
"""


# Less than the stack of a thread.
SPARE_KIB = 1024


def test_a_memory_cap_of_the_sdk_is_a_typed_error(engine: Engine, voice: Voice) -> None:
    """No thread can be had: that is said, and all is well once there is memory again."""
    call = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S)
    settings = [engine.base_url, str(engine.api_key), str(engine.org_id), call.sid, str(SPARE_KIB)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OUT_OF_MEMORY), *settings],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    call.hangup()
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), done
    assert set(lines[:2]) <= {"ConfigError", "MemoryError"}, lines
    assert lines[2:] == ["done", "heard"], lines
