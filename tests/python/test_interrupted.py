"""Ctrl-C while waiting anywhere, and the exits that are neither a script's nor a loop's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from listening import FROM, LIMIT_S
from processes import ORG, Stage

from clutchcall.engine import Engine
from clutchcall.voice import Voice

# An engine that takes requests and answers none; each asks for a Ctrl-C once it has come.
SILENT = """
import asyncio, os, signal, socket, threading
from types import SimpleNamespace
from clutchcall.voice import AsyncCall, AsyncVoice, Call, Voice

signal.signal(signal.SIGINT, signal.default_int_handler)
listener = socket.create_server(("127.0.0.1", 0))
kept = []

def silent():
    connection, _ = listener.accept()
    kept.append(connection)
    connection.recv(1)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=silent, daemon=True).start()
settings = (f"http://127.0.0.1:{listener.getsockname()[1]}", "key", "org")
v = Voice(*settings)
call = Call(v._core, SimpleNamespace(sid="CA1"))

async def later(ask):
    # In development mode a loop tells of steps that take long, which on a busy machine all do.
    asyncio.get_running_loop().slow_callback_duration = 60
    async with AsyncVoice(*settings) as a:
        await ask(a)

def of(a):
    return AsyncCall(a._core, SimpleNamespace(sid="CA1"))
"""
QUESTIONS = {
    "originate": "v.calls.originate('+15550009010', from_='+15550000000', trunk_id='trunk_main')",
    "get": "v.calls.get('CA1')",
    "list": "v.calls.list()",
    "attach": "v.audio_bridge.attach('CA1')",
    "attach_caller": "v.audio_bridge.attach_caller('CA1')",
    "agents.attach": "v.agents.attach('CA1', 'echo')",
    "agents.list": "v.agents.list()",
    "trunks.list": "v.trunks.list()",
    "trunks.test": "v.trunks.test('trunk_main')",
    "refresh": "call.refresh()",
    "wait": "call.wait()",
    "wait with a limit": "call.wait('completed', timeout=1000)",
    "events": "next(call.events())",
    "transfer": "call.transfer('+15551234567')",
    "answer": "call.answer()",
    "reject": "call.reject()",
    "hangup": "call.hangup()",
    "send_dtmf": "call.send_dtmf('1')",
    "awaited originate": "asyncio.run(later(lambda a: a.calls.originate('+1555', from_='+1555', trunk_id='t')))",
    "awaited get": "asyncio.run(later(lambda a: a.calls.get('CA1')))",
    "awaited wait": "asyncio.run(later(lambda a: of(a).wait()))",
    "awaited events": "asyncio.run(later(lambda a: anext(of(a).events())))",
    "awaited hangup": "asyncio.run(later(lambda a: of(a).hangup()))",
    "awaited attach": "asyncio.run(later(lambda a: a.audio_bridge.attach('CA1')))",
}


def test_everything_that_asks_is_asked_here() -> None:
    """Whatever waits for the engine, by the names that the package promises."""
    surface = (Path(__file__).with_name("surface.txt")).read_text(encoding="utf-8")
    helpers = {"Calls": "v.calls", "Agents": "v.agents", "Trunks": "v.trunks", "AudioBridges": "v.audio_bridge"}
    told = "\n".join(QUESTIONS.values())
    for kind, reached in {**helpers, "Call": "call"}.items():
        for method in re.findall(rf"^def clutchcall\.voice\.{kind}\.([a-z]\w*)\(", surface, re.MULTILINE):
            # A callback waits for nothing.
            assert method == "on_status" or f"{reached}.{method}(" in told, f"{kind}.{method}"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "dev", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))
def test_a_question_that_nobody_answers(question: str) -> None:
    done = run(f"{SILENT}\ntry:\n    {question}\nexcept KeyboardInterrupt:\n    print('interrupted')\n")
    # The sockets are the test's own.
    complaints = [line for line in done.stderr.splitlines() if "ResourceWarning" not in line]
    assert (done.returncode, done.stdout, complaints) == (0, "interrupted\n", []), done


def test_an_interrupt_that_nobody_catches_ends_the_program() -> None:
    done = run(f"{SILENT}\n{QUESTIONS['get']}\n")
    assert done.returncode == -signal.SIGINT, done
    assert "\nKeyboardInterrupt\n" in done.stderr, done


def test_a_close_that_the_engine_does_not_confirm(tmp_path: Path) -> None:
    """The right to speak can't be given back to an engine that stands still: Ctrl-C ends that wait too."""
    program = """
        import signal, sys
        from clutchcall.voice import Voice
        signal.signal(signal.SIGINT, signal.default_int_handler)
        bridge = Voice(*sys.argv[1:4]).audio_bridge.attach(sys.argv[4])
        next(bridge.uplink())
        try:
            print("closing", flush=True)
            sys.stdin.readline()
            bridge.close()
        except KeyboardInterrupt:
            print("interrupted", bridge.state)
    """
    with Stage(tmp_path) as stage, Voice(stage.base_url, stage._key, ORG) as voice:
        call = voice.calls.originate("+15550009010", from_=FROM, trunk_id="trunk_main")
        settings = (stage.base_url, stage._key, ORG, call.sid)
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "closing\n"
        stage.engine.stop()
        try:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
            child.send_signal(signal.SIGINT)
            said, complaints = child.communicate(timeout=LIMIT_S)
        finally:
            stage.engine.go_on()
    assert (child.returncode, complaints) == (0, ""), complaints
    assert said.startswith("interrupted")


def test_an_exit_under_pytest(engine: Engine, tmp_path: Path) -> None:
    """A test that leaves its bridge open: pytest ends as ever, with the warning of what was left."""
    (tmp_path / "test_left_open.py").write_text(
        textwrap.dedent("""
            import os
            from clutchcall.voice import Voice
            def test_left_open():
                voice = Voice(*os.environ["SETTINGS"].split())
                call = voice.calls.originate("+15550009010", from_="+15550000000", trunk_id="trunk_main")
                next(voice.audio_bridge.attach(call.sid).uplink())
        """)
    )
    settings = f"{engine.base_url} {engine.api_key} {engine.org_id}"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, "SETTINGS": settings},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done
    assert "1 passed" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len([line for line in lines if "ResourceWarning: unclosed bridge of call" in line]) == 1, done
    assert all("ResourceWarning" in line or line.startswith("  ") for line in lines), done
