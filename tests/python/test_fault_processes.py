"""Faults of whole processes, each named after its row of `docs/reliability.md`: SIGTERM, files that run out."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from listening import LIMIT_S, Heard, connected, dial, ended, until
from test_cli import command
from test_records import CONFIG

from clutchcall.errors import APIConnectionError, ClutchCallError
from clutchcall.voice import Voice

KEY = "tqs_live_of_org_abc_and_all_of_it"


@contextmanager
def serving(folder: Path, *before: str | Path) -> Iterator[tuple[subprocess.Popen[str], Voice]]:
    """`clutchcall serve`, and a user of it. `before`: what runs it, where that is not the command itself."""
    file = folder / "clutchcall.toml"
    file.write_text(CONFIG, encoding="utf-8")
    arguments = [*(before or command()), "serve", "--config", file, "--json"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            base_url = json.loads(process.stdout.readline())["base_url"]
            with Voice(base_url, KEY, "org_abc", max_retries=0, timeout=5) as voice:
                yield process, voice
        finally:
            process.kill()
            process.stderr.read()


def status_after(folder: Path, sid: str) -> tuple[str, str | None]:
    """What the record says once another engine has read it."""
    with serving(folder) as (_, voice):
        call = voice.calls.get(sid)
        return call.status, call.end_reason


def test_sigterm_mid_call_drains(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, voice):
        call, ringing = dial(voice, "9010"), dial(voice, "9000")
        bridge = connected(voice.audio_bridge.attach(call.sid, on_uplink=(heard := Heard())))
        heard.wait(5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
        ended(bridge)
        with pytest.raises(APIConnectionError):
            dial(voice, "9000")
    assert status_after(tmp_path, call.sid) == ("completed", "server_shutdown")
    assert status_after(tmp_path, ringing.sid) == ("failed", "server_shutdown")


def test_second_sigterm_ends_at_once(tmp_path: Path) -> None:
    """Both are there before it looks, so that the second comes before the first has been obeyed to its end (0)."""
    with serving(tmp_path) as (process, voice):
        call = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S)
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        assert process.wait(LIMIT_S) == 130
    # As far as it came by then.
    assert status_after(tmp_path, call.sid) in {("failed", "node_lost"), ("completed", "server_shutdown")}


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_out_of_fds_in_the_engine(tmp_path: Path) -> None:
    """The call goes on, who is connected is served, others wait; all is well once there are files again."""
    with serving(tmp_path) as (process, voice):
        call = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S)
        bridge = connected(voice.audio_bridge.attach(call.sid, on_uplink=(heard := Heard())))
        heard.wait(5)
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (descriptors(process.pid), hard))
        address = voice.base_url.removeprefix("http://").split(":")
        # Those that the engine closes meanwhile are taken, too.
        held = [socket.create_connection((address[0], int(address[1]))) for _ in range(16)]
        with (
            Voice(voice.base_url, KEY, "org_abc", max_retries=0, timeout=0.5) as stranger,
            pytest.raises(APIConnectionError),
        ):
            stranger.calls.get(call.sid)
        heard.wait_more(25)
        assert call.refresh().status == "in_progress"
        assert dial(voice, "9000").status == "dialing"
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        for connection in held:
            connection.close()
        with Voice(voice.base_url, KEY, "org_abc", max_retries=0) as stranger:
            until(lambda: answers(stranger, call.sid), "a stranger is served again")
        heard.wait_more(10)
        bridge.close()


def answers(voice: Voice, sid: str) -> bool:
    try:
        return voice.calls.get(sid).sid == sid
    except ClutchCallError:
        return False


OUT_OF_FILES = """
    import os, resource, sys, threading
    from clutchcall.errors import ClutchCallError
    from clutchcall.media import OpusEncoder
    from clutchcall.moqt import MoqtClient
    from clutchcall.voice import Voice

    settings, sid = sys.argv[1:4], sys.argv[4]
    taken = []

    def take_all():
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                return

    def told(act):
        try:
            return act() and "done"
        except ClutchCallError as error:
            return f"{type(error).__name__}: {error}"

    more = threading.Semaphore(0)
    voice = Voice(*settings, max_retries=0, timeout=5, connect_timeout=5)
    if sys.argv[5] == "live":
        bridge = voice.audio_bridge.attach(sid, on_uplink=lambda frame, ts_us: more.release())
        more.acquire()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    take_all()
    print(told(lambda: Voice(*settings, max_retries=0, timeout=5).calls.get(sid)), flush=True)
    print(told(lambda: MoqtClient.connect("moqt://127.0.0.1:9")), flush=True)
    print(told(lambda: Voice(*settings, max_retries=0, timeout=5).audio_bridge.attach(sid)), flush=True)
    print(told(lambda: OpusEncoder().encode(bytes(1920))), flush=True)
    if sys.argv[5] == "live":
        while more.acquire(blocking=False):
            pass
        for _ in range(25):
            more.acquire()
        print("heard", flush=True)
    for number in taken:
        os.close(number)
    print(told(lambda: Voice(*settings, max_retries=0).calls.get(sid)), flush=True)
    if sys.argv[5] == "live":
        bridge.close()
    with Voice(*settings).audio_bridge.attach(sid, on_uplink=lambda frame, ts_us: more.release()):
        more.acquire()
    print("heard", flush=True)
"""


@pytest.mark.parametrize("when", ["live", "first"])
def test_out_of_fds_in_the_sdk(engine: Any, voice: Voice, when: str) -> None:  # noqa: ANN401
    """With a live bridge, and before anything has started: typed errors, and all is well again afterwards."""
    call = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S)
    settings = [engine.base_url, engine.api_key, engine.org_id, call.sid, when]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OUT_OF_FILES), *settings],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    call.hangup()
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "Error" in lines[0], lines
    # Where a thread stands already, a link needs no file of its own.
    for line in lines[1:3]:
        assert line == "done" or line.partition(":")[0].endswith(("Error", "Unreachable")), lines
    assert lines[3] == "done"
    assert lines[4:] == (["heard"] if when == "live" else []) + ["done", "heard"], lines
