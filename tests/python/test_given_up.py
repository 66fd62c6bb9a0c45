"""Originates that are given up: the phone that they may have made ring does not ring on.

In front of the engine stands a proxy that passes every request on and keeps the answers to an originate back: so the
call is placed, and its asker never hears of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from listening import FROM, LIMIT_S, until

from clutchcall.engine import Engine
from clutchcall.errors import APITimeoutError
from clutchcall.voice import AsyncVoice, Call, Voice

RINGS = "+15550009000"


class Deaf:
    """A TCP proxy whose client never hears the answers to an originate."""

    def __init__(self, base_url: str) -> None:
        host, _, port = base_url.removeprefix("http://").rpartition(":")
        self._engine = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.kept_back = threading.Event()
        """An originate was answered, and its asker was not told."""
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in self._sockets:
            # Whoever waits in it hears of its end.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            engine = socket.create_connection(self._engine)
            self._sockets += [client, engine]
            keeps = threading.Event()
            threading.Thread(target=self._there, args=(client, engine, keeps), daemon=True).start()
            threading.Thread(target=self._back, args=(engine, client, keeps), daemon=True).start()

    def _there(self, client: socket.socket, engine: socket.socket, keeps: threading.Event) -> None:
        for chunk in chunks(client):
            if b"voice.calls.originate" in chunk:
                keeps.set()
            engine.sendall(chunk)
        # The engine is not told that its client has gone: neither are engines behind other proxies.

    def _back(self, engine: socket.socket, client: socket.socket, keeps: threading.Event) -> None:
        for chunk in chunks(engine):
            if keeps.is_set():
                self.kept_back.set()
                continue
            try:
                client.sendall(chunk)
            except OSError:
                return


def chunks(source: socket.socket) -> Iterator[bytes]:
    try:
        while chunk := source.recv(65536):
            yield chunk
    except OSError:
        return


@pytest.fixture
def deaf(engine: Engine) -> Iterator[Deaf]:
    deaf = Deaf(engine.base_url)
    yield deaf
    deaf.close()


@pytest.fixture
def fresh(voice: Voice) -> Callable[[], Call]:
    """The call that was placed since the test began."""
    before = {call.sid for call in voice.calls.list(limit=500)}

    def newest() -> Call:
        found = [call for call in voice.calls.list(limit=500) if call.sid not in before]
        assert len(found) == 1, "one request, one call"
        return found[0]

    return newest


def assert_hung_up(call: Call) -> None:
    call.wait(timeout=LIMIT_S)
    assert (call.status, call.end_reason) == ("failed", "canceled")


def place(voice: Voice, key: str | None = None) -> Call:
    return voice.calls.originate(to=RINGS, from_=FROM, trunk_id="trunk_main", ring_timeout_sec=120, idempotency_key=key)


def test_ctrl_c_hangs_up_what_was_placed(engine: Engine, deaf: Deaf, fresh: Callable[[], Call]) -> None:
    def interrupt() -> None:
        deaf.kept_back.wait(LIMIT_S)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with Voice(deaf.base_url, engine.api_key, engine.org_id) as voice, pytest.raises(KeyboardInterrupt):
            place(voice)
    finally:
        signal.signal(signal.SIGINT, before)
    assert_hung_up(fresh())


SCRIPT = """
import sys
from clutchcall.voice import Voice
voice = Voice(*sys.argv[1:4])
voice.calls.originate(to=sys.argv[4], from_=sys.argv[5], trunk_id="trunk_main", ring_timeout_sec=120)
"""


def test_a_program_that_ends_with_it_says_so_before(engine: Engine, deaf: Deaf, fresh: Callable[[], Call]) -> None:
    arguments = [sys.executable, "-c", SCRIPT, deaf.base_url, engine.api_key, engine.org_id, RINGS, FROM]

    def heed() -> None:
        # A process that was started in the background ignores it, and so do its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as program:
        assert deaf.kept_back.wait(LIMIT_S)
        program.send_signal(signal.SIGINT)
        _, told = program.communicate(timeout=LIMIT_S)
    assert told.rstrip().endswith("KeyboardInterrupt"), told
    assert_hung_up(fresh())


@pytest.mark.parametrize("how", ["cancel", "timeout", "run"])
def test_a_cancelled_task_hangs_up_what_was_placed(
    engine: Engine, deaf: Deaf, fresh: Callable[[], Call], how: str
) -> None:
    async def originate() -> None:
        async with AsyncVoice(deaf.base_url, engine.api_key, engine.org_id) as voice:
            await voice.calls.originate(to=RINGS, from_=FROM, trunk_id="trunk_main", ring_timeout_sec=120)

    async def give_up() -> None:
        task = asyncio.ensure_future(originate())
        kept_back = asyncio.to_thread(deaf.kept_back.wait, LIMIT_S)
        if how == "timeout":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 1)
            await kept_back
            return
        await kept_back
        if how == "cancel":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        # Else the loop ends with it.

    asyncio.run(give_up())
    assert deaf.kept_back.is_set()
    assert_hung_up(fresh())


def test_a_row_that_comes_with_the_cancellation_is_hung_up(engine: Engine, fresh: Callable[[], Call]) -> None:
    """The answer is there, and whoever awaits it is cancelled before he looks."""

    async def run() -> None:
        async with AsyncVoice(engine.base_url, engine.api_key, engine.org_id) as voice:
            task = asyncio.ensure_future(voice.calls.originate(to=RINGS, from_=FROM, trunk_id="trunk_main"))
            await asyncio.sleep(0)
            # The loop stands still until the answer waits for it; what it does first is ours.
            until(lambda: len(voice_calls()) == 1, "the call is placed")
            time.sleep(0.2)  # So long its row needs, to this process and through it; shorter is the other tests' case.
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with Voice(engine.base_url, engine.api_key, engine.org_id) as other:
        known = {call.sid for call in other.calls.list(limit=500)}

        def voice_calls() -> list[Call]:
            return [call for call in other.calls.list(limit=500) if call.sid not in known]

        asyncio.run(run())
    assert_hung_up(fresh())


def test_an_answer_that_never_came_hangs_up_what_was_placed(
    engine: Engine, deaf: Deaf, fresh: Callable[[], Call]
) -> None:
    with (
        Voice(deaf.base_url, engine.api_key, engine.org_id, timeout=1, max_retries=0) as voice,
        pytest.raises(APITimeoutError),
    ):
        place(voice)
    assert_hung_up(fresh())


def test_a_key_of_ones_own_finds_the_call_again(
    engine: Engine, voice: Voice, deaf: Deaf, fresh: Callable[[], Call]
) -> None:
    with (
        Voice(deaf.base_url, engine.api_key, engine.org_id, timeout=1, max_retries=0) as other,
        pytest.raises(APITimeoutError),
    ):
        place(other, "mine")
    found = place(voice, "mine")
    assert found.sid == fresh().sid
    assert found.status in ("dialing", "ringing")
    found.hangup()
