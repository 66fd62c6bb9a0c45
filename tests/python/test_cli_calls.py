"""`clutchcall calls` against an engine that runs, as a person uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from listening import dial
from recorded import recorded
from test_cli import LIMIT_S, command, run

from clutchcall.engine import Engine
from clutchcall.voice import Voice


@pytest.fixture
def settings(engine: Engine) -> dict[str, str]:
    assert engine.api_key is not None
    assert engine.org_id is not None
    return {
        "CLUTCHCALL_BASE_URL": engine.base_url,
        "CLUTCHCALL_API_KEY": engine.api_key,
        "CLUTCHCALL_ORG_ID": engine.org_id,
    }


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_calls_are_listed_and_shown_while_the_engine_runs(voice: Voice, settings: dict[str, str]) -> None:
    busy = dial(voice, "9486", metadata={"order": "7"}).wait("failed")
    rings = dial(voice, "9000").wait("ringing")
    listed = run("calls", "list", "--limit", "2", "--json", env=settings)
    assert [row["sid"] for row in rows(listed.stdout)] == [rings.sid, busy.sid], listed.stderr
    plain = run("calls", "list", "--limit", "1", "--status", "failed", env=settings)
    assert plain.stdout.split() == [busy.started_at, busy.sid, busy.from_, "→", busy.to, "failed", "busy", "486"]
    first = run("calls", "list", "--limit", "1", "--json", env=settings)
    cursor = first.stderr.split()[-1]
    after = run("calls", "list", "--limit", "1", "--json", "--cursor", cursor, env=settings)
    assert [row["sid"] for row in rows(first.stdout + after.stdout)] == [rings.sid, busy.sid]
    shown = run("calls", "show", busy.sid, "--json", env=settings)
    assert rows(shown.stdout)[0] == rows(listed.stdout)[1]
    assert rows(shown.stdout)[0]["metadata"] == {"order": "7"}
    words = dict(line.split(maxsplit=1) for line in run("calls", "show", busy.sid, env=settings).stdout.splitlines())
    assert (words["end_reason"], words["sip_code"]) == ("busy", "486")
    assert "answered_at" not in words
    rings.hangup()


def test_what_is_not_there_is_told_apart(settings: dict[str, str]) -> None:
    unknown = run("calls", "show", "CA1NOBODY", env=settings)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "CA1NOBODY" in unknown.stderr
    nowhere = run("calls", "list", env={**settings, "CLUTCHCALL_BASE_URL": "http://127.0.0.1:9"})
    assert (nowhere.returncode, nowhere.stdout) == (3, "")
    for wrong in (("list", "--status", "busy"), ("list", "--limit", "0"), ("tail", "--interval", "0")):
        done = run("calls", *wrong, env=settings)
        assert done.returncode == 2, done
        assert wrong[1] in done.stderr
    stranger = run("calls", "list", env={**settings, "CLUTCHCALL_API_KEY": "tqs_live_of_nobody"})
    assert stranger.returncode == 2
    assert "CLUTCHCALL_API_KEY" in stranger.stderr


def test_tail_tells_of_every_change_once(voice: Voice, settings: dict[str, str]) -> None:
    before = dial(voice, "9000").wait("ringing")
    last = dial(voice, "9486").wait("failed")
    arguments = ("calls", "tail", "--interval", "0.05", "--last", "1", "--json")
    environment = {**os.environ, **settings}
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True, env=environment) as tail:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["sid"] == last.sid
        # It was not shown, but it is followed: it is not over.
        before.hangup()
        ended = following(tail, before.sid)
        assert (ended["status"], ended["end_reason"]) == ("failed", "canceled")
        new = dial(voice, "9000", metadata={"order": "8"})
        first = following(tail, new.sid)
        assert first["metadata"] == {"order": "8"}
        if first["status"] == "dialing":
            assert following(tail, new.sid)["status"] == "ringing"
        new.hangup()
        assert following(tail, new.sid)["status"] == "failed"
        tail.send_signal(signal.SIGINT)
        rest, _ = tail.communicate(timeout=LIMIT_S)
    assert tail.returncode == 0
    assert new.sid not in rest, "nothing is told twice"


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("tail", "--last", "1")], ids=" ".join)
def test_who_stops_reading_is_told_nothing(voice: Voice, settings: dict[str, str], arguments: tuple[str, ...]) -> None:
    """As `clutchcall calls list | head -1` does."""
    dial(voice, "9603").wait("failed")
    reads, writes = os.pipe()
    os.close(reads)
    environment = {**os.environ, **settings}
    done = subprocess.run(
        command("calls", *arguments), stdout=writes, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, env=environment
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, "")


NOBODY = '{"result":{"data":{"calls":[],"cursor":null}}}'
ONE = (
    '{"result":{"data":{"calls":[{"sid":"CA1","status":"failed","to":"+15551234567","from":"+15558675309",'
    '"startedAt":"2026-01-01T00:00:00.000Z"}],"cursor":null}}}'
)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_tail_outlasts_what_heals_by_itself(status: int) -> None:
    """An engine that is started anew behind a proxy, or one whose disk is full for a while."""
    # `begin` asks for three statuses and the newest; so does each look.
    told = [(200, NOBODY)] * 4 + [(status, "<h1>Bad Gateway</h1>")] * 3 + [(200, NOBODY)] * 3 + [(200, ONE)]
    with recorded(*told, (200, NOBODY)) as there, tailing(there.url, "--last", "1", "--json") as tail:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["sid"] == "CA1"
        tail.send_signal(signal.SIGINT)
        _, complaints = tail.communicate(timeout=LIMIT_S)
    assert tail.returncode == 0, complaints
    assert complaints.count(str(status)) == 1, complaints


def test_tail_ends_at_what_does_not() -> None:
    refused = '{"error":{"message":"the API key is not known here","code":-32001,"data":{"code":"UNAUTHORIZED"}}}'
    with recorded(*[(200, NOBODY)] * 4, (401, refused)) as there, tailing(there.url) as tail:
        _, complaints = tail.communicate(timeout=LIMIT_S)
    assert tail.returncode == 2
    assert "not known here" in complaints


@contextmanager
def tailing(url: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """`calls tail` of another server, whose last answer comes again and again."""
    environment = {
        **os.environ,
        "CLUTCHCALL_BASE_URL": url,
        "CLUTCHCALL_API_KEY": "k",
        "CLUTCHCALL_ORG_ID": "o",
    }
    arguments = command("calls", "tail", "--interval", "0.05", *more)
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, env=environment) as tail:
        yield tail


def following(tail: subprocess.Popen[str], sid: str) -> dict[str, Any]:
    """The next line about this call; other tests' calls may change too."""
    assert tail.stdout is not None
    for line in tail.stdout:
        row: dict[str, Any] = json.loads(line)
        if row["sid"] == sid:
            return row
    raise AssertionError("tail ended")
