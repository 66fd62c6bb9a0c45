"""Exit, forks, signals and lost handles, each in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import gc, os, signal, sys, threading, time
from clutchcall.engine import Engine
from clutchcall.errors import *
from clutchcall.voice import Voice

arrived = threading.Event()
count = 0

def on_uplink(frame, ts_us):
    global count
    count += 1
    if count == 5:
        arrived.set()

engine = Engine(ring_ms=10)
v = Voice(engine.base_url, engine.api_key, engine.org_id)
call = v.calls.originate(to="+15550009010", from_="+15550000000", trunk_id="trunk_main")
"""


def interpreter(body: str, *options: str) -> subprocess.CompletedProcess[str]:
    code = PRELUDE + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def said(body: str, *options: str) -> str:
    """What it printed, having ended well and in silence."""
    done = interpreter(body, *options)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.strip()


@pytest.mark.parametrize("ending", ["pass", "sys.exit(0)", "v.close()", "engine.close()", "call.hangup()"])
def test_an_exit_with_a_live_bridge_is_clean(ending: str) -> None:
    assert (
        said(f"""
        bridge = v.audio_bridge.attach(call.sid, on_uplink=on_uplink)
        assert arrived.wait(20)
        print("done", flush=True)
        {ending}
    """)
        == "done"
    )


def test_a_forgotten_bridge_is_a_resource_warning() -> None:
    done = interpreter(
        """
        v.audio_bridge.attach(call.sid, on_uplink=on_uplink)
        assert arrived.wait(20)
        """,
        "-W",
        "always",
    )
    assert done.returncode == 0
    assert "ResourceWarning: unclosed bridge of call" in done.stderr


def test_a_closed_bridge_and_an_ended_call_are_none() -> None:
    assert (
        said(
            """
        bridge = v.audio_bridge.attach(call.sid, on_uplink=on_uplink)
        assert arrived.wait(20)
        bridge.close()
        other = v.audio_bridge.attach(call.sid, on_uplink=on_uplink)
        call.hangup()
        while other.state != "closed":
            time.sleep(0.01)
        engine.close()
        """,
            "-W",
            "always::ResourceWarning",
        )
        == ""
    )


def test_an_exit_waits_no_longer_than_a_second_for_a_blocked_callback() -> None:
    assert (
        said("""
        entered = threading.Event()
        def block(frame, ts_us):
            entered.set()
            time.sleep(1000)
        bridge = v.audio_bridge.attach(call.sid, on_uplink=block)
        assert entered.wait(20)
        print("done", flush=True)
    """)
        == "done"
    )


def test_ctrl_c_ends_a_wait() -> None:
    assert (
        said("""
        # A process that was started in the background ignores it, and so do its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            call.wait("no_answer", timeout=60)
        except KeyboardInterrupt:
            print("interrupted")
    """)
        == "interrupted"
    )


@pytest.mark.parametrize(
    "wait",
    [
        "next(v.audio_bridge.attach(silent.sid).uplink())",
        "[next(events) for events in [silent.events()] for _ in range(5)]",
        "silent.wait('completed')",
        "asyncio.run(awaited())",
    ],
    ids=["frames", "events", "status", "loop"],
)
def test_ctrl_c_ends_any_wait(wait: str) -> None:
    assert (
        said(f"""
        import asyncio
        from clutchcall.voice import AsyncVoice
        async def awaited():
            async with AsyncVoice(engine.base_url, engine.api_key, engine.org_id) as voice:
                async for frame in (await voice.audio_bridge.attach(silent.sid)).uplink():
                    pass
        signal.signal(signal.SIGINT, signal.default_int_handler)
        silent = v.calls.originate(to="+15550009000", from_="+15550000000", trunk_id="trunk_main")
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            {wait}
        except KeyboardInterrupt:
            print("interrupted")
        v.close()
    """)
        == "interrupted"
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_a_pool_ask_for_themselves(method: str) -> None:
    folder = os.path.dirname(__file__)
    assert (
        said(f"""
        sys.path.insert(0, {folder!r})
        import multiprocessing
        from forked import ask
        bridge = v.audio_bridge.attach(call.sid, on_uplink=on_uplink)
        assert arrived.wait(20)
        settings = (engine.base_url, engine.api_key, engine.org_id, call.sid)
        with multiprocessing.get_context({method!r}).Pool(2) as pool:
            print(set(pool.starmap(ask, [settings] * 6)))
            pool.close()
            pool.join()
        bridge.close()
    """)
        == "{'in_progress'}"
    )


def test_a_second_interpreter_is_refused_in_words() -> None:
    code = """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import clutchcall
        try:
            told = interpreters.run_string(interpreters.create(), "import clutchcall.voice")
        except Exception as error:
            told = error
        print(told)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "ImportError" in done.stdout
    assert "another one has imported it" in done.stdout or "does not support loading in subinterpreters" in done.stdout


def test_a_handler_s_own_exception_ends_a_wait() -> None:
    assert (
        said("""
        def handler(number, frame):
            raise LookupError("mine")
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            call.wait("no_answer", timeout=60)
        except LookupError as error:
            print(error)
    """)
        == "mine"
    )


def test_the_child_of_a_fork_is_told() -> None:
    assert (
        said("""
        bridge = v.audio_bridge.attach(call.sid, on_uplink=on_uplink)
        assert arrived.wait(20)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                v.calls.get(sid=call.sid)
            except ConfigError as error:
                try:
                    bridge.publish_downlink(b"x")
                except ConfigError:
                    with Voice(engine.base_url, engine.api_key, engine.org_id) as mine:
                        status = 0 if "fork" in str(error) and mine.calls.get(sid=call.sid).sid == call.sid else 2
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        v.calls.get(sid=call.sid)
        bridge.close()
    """)
        == "0"
    )


def test_a_lost_handle_keeps_its_audio_and_is_gone_after_the_call() -> None:
    assert (
        said("""
        import weakref
        class Consumer:
            def __call__(self, frame, ts_us):
                on_uplink(frame, ts_us)
        consumer = Consumer()
        alive = weakref.ref(consumer)
        v.audio_bridge.attach(call.sid, on_uplink=consumer)
        del consumer
        gc.collect()
        assert arrived.wait(20) and alive() is not None
        call.hangup()
        while alive() is not None:
            time.sleep(0.01)
        print("gone")
        engine.close()
    """)
        == "gone"
    )


def test_a_thousand_bridges_come_and_go_without_a_thread_more() -> None:
    assert (
        said("""
        def threads():
            return len(os.listdir("/proc/self/task"))
        def once():
            v.audio_bridge.attach(call.sid, on_uplink=on_uplink).close()
        for _ in range(5):
            once()
        before = threads()
        for _ in range(100):
            once()
        print(threads() - before)
    """)
        == "0"
    )
