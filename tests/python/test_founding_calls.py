"""The founding document's `Calls` and `Call`."""

from __future__ import annotations

import inspect
import json
import socket
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from founding import begun, run
from listening import FROM, LIMIT_S, Heard, connected, dial, ended
from recorded import recorded, success

from clutchcall.engine import Engine
from clutchcall.errors import NotFoundError
from clutchcall.types import CallStatus
from clutchcall.voice import Call, Voice

FIELDS = ["sid", "status", "to", "from_", "started_at", "trunk_id", "agent"]


@pytest.fixture
def names(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("CLUTCHCALL_CREDENTIALS", engine.api_key)
    return begun(engine)


def test_calls_control_plane_originates_and_fetches(voice: Voice) -> None:
    placed = dial(voice, "9000")
    fetched = voice.calls.get(sid=placed.sid)
    assert (type(placed), fetched.sid) == (Call, placed.sid)
    placed.hangup()


def test_calls_originate_as_the_document_does(
    engine: Engine, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("originate", names, engine)
    call: Call = names["call"]
    assert capsys.readouterr().out == f"{call.sid} dialing\n"
    assert (call.to, call.from_, call.trunk_id, call.agent) == ("+15551234567", "+15558675309", "trunk_main", "echo")
    call.hangup()


def test_calls_originate_sends_its_arguments_and_defaults() -> None:
    with recorded((200, success())) as there, Voice(there.url, "k", "org_abc") as v:
        v.calls.originate(to="+15551234567", from_=FROM, trunk_id="trunk_main")
        v.calls.originate("+15551234567", from_=FROM, trunk_id="t", agent="a", ring_timeout_sec=7.5)
    bodies = [json.loads(request.body) for request in there.asked]
    common = {"orgId": "org_abc", "to": "+15551234567", "from": FROM}
    assert bodies[0] == {**common, "trunkId": "trunk_main", "agent": None, "ringTimeoutSec": 30}
    assert bodies[1] == {**common, "trunkId": "t", "agent": "a", "ringTimeoutSec": 7.5}
    assert {request.line for request in there.asked} == {"POST /api/trpc/voice.calls.originate HTTP/1.1"}


@pytest.mark.parametrize("missing", ["to", "from_", "trunk_id"])
def test_calls_originate_requires(voice: Voice, missing: str) -> None:
    given: dict[str, Any] = {"to": "+15551234567", "from_": FROM, "trunk_id": "trunk_main"}
    del given[missing]
    with pytest.raises(TypeError, match=missing):
        voice.calls.originate(**given)


def test_calls_originate_clamps_the_ringing_to_5_and_120(voice: Voice) -> None:
    """By the records: nobody rings for less than 5 s, however little is asked for."""
    short = [dial(voice, "9000", ring_timeout_sec=seconds) for seconds in (-1e300, 0, 4.9)]
    long = dial(voice, "9000", ring_timeout_sec=1e300)
    for call in short:
        assert call.wait("no_answer", timeout=LIMIT_S).end_reason == "ring_timeout"
        assert call.ended_at is not None
        rang = datetime.fromisoformat(call.ended_at) - datetime.fromisoformat(call.started_at)
        assert rang.total_seconds() >= 5
    assert long.refresh().status == "ringing"
    long.hangup()


def test_calls_originate_over_a_sip_trunk(tmp_path: Any) -> None:  # noqa: ANN401
    """Whom nobody answers over TCP can't be reached; calls that are answered are `tests/sip`'s, against SIPp."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        carrier = {"sbc_ip": "127.0.0.1", "destination_sbc_port": nobody.getsockname()[1], "transport": "tcp"}
        trunks = {"carrier": {**carrier, "source_pbx_port": 0}}
        secret = "tqs_live_of_somebody_who_calls"
        key = {"org": "org_a", "key": secret, "scopes": ["voice:*"]}
        settings = {"state": "s", "api": {"listen": "127.0.0.1:0"}, "relay": {"listen": "127.0.0.1:0"}}
        with Engine({**settings, "trunks": trunks, "keys": [key]}, state=tmp_path) as engine:
            voice = Voice(engine.base_url, secret, "org_a")
            call = voice.calls.originate(to="+15551234567", from_=FROM, trunk_id="carrier")
            assert call.wait("failed", timeout=LIMIT_S).end_reason == "network_error"
            voice.close()


def test_calls_originate_over_an_unknown_trunk(voice: Voice) -> None:
    with pytest.raises(NotFoundError, match="trunk_of_nobody"):
        voice.calls.originate(to="+15551234567", from_=FROM, trunk_id="trunk_of_nobody")


def test_calls_get_reads_the_status_of_now(engine: Engine, names: dict[str, Any]) -> None:
    run("originate", names, engine)
    names["sid"] = names["call"].sid
    names["call"].wait("in_progress", timeout=LIMIT_S)
    run("get", names, engine)
    assert (names["call"].status, names["call"].sid) == ("in_progress", names["sid"])
    names["call"].hangup()


def test_calls_get_of_nobodys_call(voice: Voice) -> None:
    with pytest.raises(NotFoundError) as told:
        voice.calls.get(sid="CA1")
    assert told.value.status == 404


def test_call_handle_has_the_documents_fields(voice: Voice) -> None:
    before = datetime.now(UTC)
    call = dial(voice, "9000")
    assert (call.to, call.from_, call.trunk_id, call.agent) == ("+15550009000", FROM, "trunk_main", None)
    assert call.sid.isalnum()
    assert call.sid.isascii()
    assert call.status in get_args(CallStatus)
    started = datetime.fromisoformat(call.started_at)
    # To the millisecond, as a record has it.
    assert before.replace(microsecond=before.microsecond // 1000 * 1000) <= started <= datetime.now(UTC)
    call.hangup()


@pytest.mark.parametrize("field", FIELDS)
def test_call_handle_is_read_only(field: str) -> None:
    with recorded((200, success())) as there, Voice(there.url, "k", "o") as v:
        call = v.calls.get("CA1")
    with pytest.raises(AttributeError):
        setattr(call, field, "other")


@pytest.mark.parametrize("absent", ['"trunkId":null,"agent":null,', '"trunkId":"","agent":"",', ""])
def test_call_handle_optional_fields_are_none(absent: str) -> None:
    row = '"sid":"CA1","status":"ringing","to":"+1","from":"+2","startedAt":"2026-01-01T00:00:00.000Z"'
    with recorded((200, success(f"{{{absent}{row}}}"))) as there, Voice(there.url, "k", "o") as v:
        call = v.calls.get("CA1")
    assert (call.trunk_id, call.agent) == (None, None)


def test_call_handle_has_two_mutating_methods() -> None:
    assert list(inspect.signature(Call.transfer).parameters) == ["self", "to", "agent"]
    assert list(inspect.signature(Call.hangup).parameters) == ["self"]


def test_call_transfer_forwards_to_a_number(engine: Engine, names: dict[str, Any]) -> None:
    run("originate", names, engine)
    names["call"].wait("in_progress", timeout=LIMIT_S)
    assert run("transfer to", names, engine) is None  # type: ignore[func-returns-value]
    call: Call = names["call"].wait("completed", timeout=LIMIT_S)
    assert (call.end_reason, call.transferred_to) == ("transferred", "+15557654321")


def test_call_transfer_takes_a_bare_number(engine: Engine, names: dict[str, Any]) -> None:
    run("originate", names, engine)
    names["call"].wait("in_progress", timeout=LIMIT_S)
    names["call"].transfer("+15557654321")
    assert names["call"].wait(timeout=LIMIT_S).transferred_to == "+15557654321"


def test_call_transfer_binds_another_agent(engine: Engine, names: dict[str, Any], voice: Voice) -> None:
    names["call"] = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S)
    run("transfer agent", names, engine)
    assert (names["call"].refresh().agent, names["call"].status) == ("echo", "in_progress")
    names["call"].hangup()


@pytest.mark.parametrize("given", [{}, {"to": "+15557654321", "agent": "billing-bot"}, {"to": None, "agent": None}])
def test_call_transfer_takes_exactly_one(given: dict[str, str | None]) -> None:
    with recorded((200, success())) as there, Voice(there.url, "k", "o") as v:
        call = v.calls.get("CA1")
        with pytest.raises(ValueError, match="exactly one of to and agent"):
            call.transfer(**given)
    assert len(there.asked) == 1, "nothing was sent"


def test_call_hangup_ends_the_call_and_drops_both_tracks(engine: Engine, names: dict[str, Any], voice: Voice) -> None:
    names["call"] = dial(voice, "9030").wait("in_progress", timeout=LIMIT_S)
    bridges = [
        connected(voice.audio_bridge.attach(names["call"].sid, on_uplink=Heard())),
        connected(voice.audio_bridge.attach_caller(names["call"].sid, on_downlink=Heard())),
    ]
    run("hangup", names, engine)
    assert names["call"].wait(timeout=LIMIT_S).end_reason == "normal"
    for bridge in bridges:
        ended(bridge)
    run("hangup", names, engine)
