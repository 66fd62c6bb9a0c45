"""What the core says reaches `logging`: names, levels, bounds; and nothing where nobody asked for it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from listening import FROM, LIMIT_S, Heard, connected, dial, until
from processes import ORG, Stage

from clutchcall import _core
from clutchcall.engine import Engine
from clutchcall.errors import APIConnectionError
from clutchcall.voice import Voice

Said = pytest.LogCaptureFixture


@pytest.fixture
def said(caplog: Said) -> Iterator[Said]:
    """Everything that the library says from now on."""
    with caplog.at_level(logging.DEBUG, "clutchcall"):
        yield caplog


def having(said: Said, text: str) -> list[logging.LogRecord]:
    return [record for record in said.records if text in record.getMessage()]


def run(body: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, given an engine's settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CLUTCHCALL_")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body), *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**clean, **environment},
    )


def settings(engine: Engine) -> tuple[str, str, str]:
    return engine.base_url, engine.api_key, engine.org_id


def test_a_lost_relay_is_told_of(tmp_path: Path, said: Said) -> None:
    with Stage(tmp_path) as stage, Voice(stage.base_url, stage._key, ORG) as voice:
        call = voice.calls.originate(to="+15550009010", from_=FROM, trunk_id="trunk_main")
        bridge, heard = voice.audio_bridge.attach(call.sid), Heard()
        bridge.on_uplink(heard)
        heard.wait(5)
        stage.relay.kill()
        until(lambda: bool(having(said, "a relay is lost")), "the loss is told of")
        stage.restart_relay()
        until(lambda: bool(having(said, "reached again")), "its end too")
    lost, back = having(said, "a relay is lost")[0], having(said, "reached again")[0]
    assert (lost.name, lost.levelno) == ("clutchcall.media", logging.WARNING)
    assert (back.name, back.levelno) == ("clutchcall.media", logging.INFO)
    assert "bridges=1" in lost.getMessage()
    assert lost.threadName == "clutchcall-media"
    assert lost.pathname.startswith("src/client/")
    assert lost.created <= back.created


def test_a_slow_callback_is_told_of_once(engine: Engine) -> None:
    done = run(
        """
        import logging, sys, threading, time
        from clutchcall.voice import Voice
        logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
        heard = threading.Semaphore(0)
        def slow(frame, timestamp_us):
            time.sleep(0.03)
            heard.release()
        with Voice(*sys.argv[1:]) as voice:
            call = voice.calls.originate(to="+15550009010", from_="+15550000000", trunk_id="trunk_main")
            with voice.audio_bridge.attach(call.sid, on_uplink=slow):
                for _ in range(5):
                    heard.acquire()
            call.hangup()
        """,
        *settings(engine),
    )
    assert done.returncode == 0, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done
    assert lines[0].startswith("WARNING clutchcall.media a callback took ")


def test_a_repeated_request_is_told_of_without_the_key(said: Said) -> None:
    voice = Voice("http://127.0.0.1:9", "tqs_live_secret", "org_1", max_retries=1)
    with pytest.raises(APIConnectionError):
        voice.calls.get("CA1")
    (again,) = having(said, "asked again")
    assert (again.name, again.levelno) == ("clutchcall.http", logging.DEBUG)
    assert not having(said, "secret")


def test_levels_are_those_of_logging(voice: Voice, caplog: Said) -> None:
    def sample(level: str, text: str) -> None:
        # Levels are looked at before a question.
        voice.calls.list(limit=1)
        _core._log_sample(level, text, 1)

    with caplog.at_level(logging.ERROR, "clutchcall"):
        sample("warning", "first")
        sample("error", "second")
        until(lambda: bool(having(caplog, "second")), "an error is told of")
    with caplog.at_level(logging.INFO, "clutchcall.media"):
        sample("debug", "third")
        sample("info", "fourth")
        until(lambda: bool(having(caplog, "fourth")), "what is wanted is told of")
        logging.disable(logging.CRITICAL)
        try:
            sample("error", "fifth")
        finally:
            logging.disable(logging.NOTSET)
        sample("info", "sixth")
        until(lambda: bool(having(caplog, "sixth")), "what is wanted again is told of")
    for unwanted in ("first", "third", "fifth"):
        assert not having(caplog, unwanted)
    assert {record.name.partition(".")[0] for record in caplog.records} == {"clutchcall"}


def test_a_record_says_which_call_it_is_about(voice: Voice, said: Said) -> None:
    voice.calls.list(limit=1)
    _core._log_sample("warning", "sample", 1)
    until(lambda: bool(having(said, "sample")), "it is told of")
    record = having(said, "sample")[0]
    assert (record.getMessage(), record.__dict__["sid"]) == ("sample number=0 sid=CA1", "CA1")
    assert record.levelname == "WARNING"


def test_more_than_can_be_kept_is_counted(voice: Voice, said: Said) -> None:
    voice.calls.list(limit=1)
    _core._log_sample("warning", "flood", 1000)
    until(lambda: bool(having(said, "records were dropped")), "the loss is told of")
    dropped = sum(int(record.getMessage().split()[0]) for record in having(said, "records were dropped"))
    kept = having(said, "flood")
    assert dropped > 0
    assert len(kept) + dropped == 1000
    assert [record.getMessage().split()[1] for record in kept][:3] == ["number=0", "number=1", "number=2"]


def test_a_handler_that_blocks_holds_up_no_audio(voice: Voice) -> None:
    entered, release, heard = threading.Event(), threading.Event(), Heard()

    class Blocking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "blocks" in record.getMessage():
                entered.set()
                release.wait(LIMIT_S)

    logger, handler = logging.getLogger("clutchcall"), Blocking()
    call = dial(voice, "9010")
    logger.addHandler(handler)
    try:
        with voice.audio_bridge.attach(call.sid, on_uplink=heard) as bridge:
            heard.wait(5)
            _core._log_sample("warning", "blocks", 1)
            assert entered.wait(LIMIT_S)
            heard.wait_more(30)
            release.set()
            assert bridge.stats().dropped == 0
    finally:
        release.set()
        logger.removeHandler(handler)
    call.hangup()


def test_what_a_filter_raises_is_told_and_records_go_on(
    voice: Voice, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    error = LookupError("mine")

    def raising(record: logging.LogRecord) -> bool:
        if "number=0" in record.getMessage():
            raise error
        return True

    logger = logging.getLogger("clutchcall.media")
    logger.addFilter(raising)
    try:
        voice.calls.list(limit=1)
        _core._log_sample("warning", "filtered", 2)
        until(lambda: bool(having(said, "filtered number=1")), "the one after it is told of")
    finally:
        logger.removeFilter(raising)
    assert told == [error]


SYNC = """
    import os, sys
    import clutchcall.voice
    assert "logging" not in sys.modules
    from clutchcall import _core
    _core._log_sample("error", "before", 1)
    voice = clutchcall.voice.Voice(*sys.argv[1:])
    threads = len(os.listdir("/proc/self/task"))
    _core._log_sample("error", "first", 1)
    voice.calls.list(limit=1)
    _core._log_sample("error", "second", 1)
    print(threads, len(os.listdir("/proc/self/task")), flush=True)
"""


def test_nothing_is_printed_where_nobody_asked(engine: Engine) -> None:
    """And no thread is there for it: whoever waits for an answer carries what was said."""
    done = run(SYNC, *settings(engine))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 2\n", ""), done


def test_a_handler_hears_the_last_words(engine: Engine) -> None:
    done = run(
        "import logging; logging.basicConfig()\n" + textwrap.dedent(SYNC).replace("assert", "#"), *settings(engine)
    )
    assert done.returncode == 0, done
    said = ["ERROR:clutchcall.media:first number=0", "ERROR:clutchcall.media:second number=0"]
    assert done.stderr.splitlines() == said, done


def test_the_variable_prints(engine: Engine) -> None:
    done = run(SYNC, *settings(engine), CLUTCHCALL_LOG="error")
    assert done.returncode == 0, done
    lines = done.stderr.splitlines()
    assert [line.partition(" ERROR ")[2] for line in lines] == [
        "clutchcall.media: first number=0",
        "clutchcall.media: second number=0",
    ], done


def test_the_variable_is_checked(engine: Engine) -> None:
    done = run(SYNC, *settings(engine), CLUTCHCALL_LOG="loud")
    assert done.returncode == 1
    assert "ConfigError: CLUTCHCALL_LOG is 'loud': choose debug, info, warning, error" in done.stderr


def test_the_child_of_a_fork_tells_its_own(engine: Engine) -> None:
    done = run(
        """
        import logging, os, sys
        from clutchcall import _core
        from clutchcall.voice import Voice
        logging.basicConfig()
        voice = Voice(*sys.argv[1:])
        _core._log_sample("warning", "parent", 1)
        pid = os.fork()
        _core._log_sample("warning", "child" if pid == 0 else "both", 1)
        Voice(*sys.argv[1:]).calls.list(limit=1)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        """,
        *settings(engine),
    )
    assert done.returncode == 0, done
    said = sorted(line.split(":")[2].split()[0] for line in done.stderr.splitlines())
    assert said == ["both", "child", "parent"], done


def test_a_server_says_what_it_has_to_say(tmp_path: Path) -> None:
    """`clutchcall serve` prints warnings of its own accord."""
    with Stage(tmp_path) as stage, Voice(stage.base_url, stage._key, ORG) as voice:
        call = voice.calls.originate(to="+15550009010", from_=FROM, trunk_id="trunk_main")
        # Audio: the engine has reached its relay.
        next(voice.audio_bridge.attach(call.sid).uplink())
        assert stage.engine.output() == ""
        stage.relay.kill()
        until(lambda: "WARNING clutchcall.engine: no link to the relay" in stage.engine.output(), stage.engine.output)
        stage.restart_relay()


def test_connections_are_not_told_of(voice: Voice, said: Said) -> None:
    """A call without a fault is worth no warning."""
    call = dial(voice, "9010")
    with voice.audio_bridge.attach(call.sid) as bridge:
        connected(bridge)
    call.hangup()
    voice.calls.list(limit=1)
    assert [record.getMessage() for record in said.records if record.levelno >= logging.WARNING] == []
