"""Every status and end reason that the simulated phone can cause, transfers, and agents of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from listening import LIMIT_S, Heard, connected, dial, ended, is_calm, report

from clutchcall.engine import Engine
from clutchcall.errors import CallError, ConflictError, NotFoundError
from clutchcall.voice import AsyncVoice, Call, Voice

# Number, then status, end reason, SIP code and Q.850 cause of the record.
ENDINGS: list[tuple[str, str, str, int | None, int | None]] = [
    ("9000", "no_answer", "ring_timeout", None, 19),
    ("9001", "failed", "no_response", None, 18),
    ("9003", "failed", "network_error", None, 38),
    ("9013", "completed", "normal", None, 16),
    ("9302", "failed", "redirected", 302, None),
    ("9401", "failed", "auth_failed", 401, 21),
    ("9403", "failed", "forbidden", 403, 21),
    ("9404", "failed", "not_found", 404, 1),
    ("9407", "failed", "auth_failed", 407, 21),
    ("9408", "no_answer", "remote_timeout", 408, 18),
    ("9410", "failed", "not_found", 410, 22),
    ("9415", "failed", "codec_mismatch", 415, 79),
    ("9480", "failed", "unavailable", 480, 18),
    ("9484", "failed", "invalid_number", 484, 28),
    ("9486", "failed", "busy", 486, 17),
    ("9487", "no_answer", "remote_timeout", 487, 18),
    ("9488", "failed", "codec_mismatch", 488, 79),
    ("9500", "failed", "carrier_error", 500, 41),
    ("9503", "failed", "carrier_error", 503, 41),
    ("9504", "failed", "carrier_error", 504, 102),
    ("9600", "failed", "busy", 600, 17),
    ("9603", "failed", "declined", 603, 21),
    ("9604", "failed", "not_found", 604, 1),
    ("9606", "failed", "codec_mismatch", 606, 79),
    ("9607", "failed", "declined", 607, 21),
]


@pytest.fixture(scope="module")
def calls(engine: Engine) -> dict[str, Call]:
    """All of them at once; nobody is rung for longer than 5 s."""
    voice = Voice(engine.base_url, engine.api_key, engine.org_id)
    placed = {ending[0]: dial(voice, ending[0], ring_timeout_sec=5) for ending in ENDINGS}
    assert {call.status for call in placed.values()} == {"dialing"}
    return placed


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending[0])
def test_how_a_call_ends(calls: dict[str, Call], ending: tuple[str, str, str, int | None, int | None]) -> None:
    number, status, reason, sip_code, q850 = ending
    call = calls[number].wait(timeout=LIMIT_S)
    assert (call.status, call.end_reason, call.sip_code, call.q850) == (status, reason, sip_code, q850)
    assert (call.answered_at is not None) == (status == "completed")
    assert call.ended_at is not None
    assert call.started_at <= (call.answered_at or call.ended_at) <= call.ended_at
    assert f"`{reason}`" in (Call.end_reason.__doc__ or "")
    assert call.ended_by in ("remote", "system") if status != "completed" else call.ended_by is not None
    assert (call.direction, call.trunk_id, call.agent, call.transferred_to) == ("outbound", "trunk_main", None, None)
    if status != "completed":
        with pytest.raises(CallError) as told:
            call.wait("in_progress", timeout=LIMIT_S)
        assert (told.value.end_reason, told.value.sip_code, told.value.q850) == (reason, sip_code, q850)


def test_a_key_dials_once_and_keeps_its_notes(voice: Voice) -> None:
    key, notes = f"key-{uuid4()}", {"order": "7", "name": "Zoë"}
    call = dial(voice, "9000", idempotency_key=key, metadata=notes)
    assert dial(voice, "9000", idempotency_key=key, metadata=notes).sid == call.sid
    with pytest.raises(ConflictError, match="Idempotency-Key"):
        dial(voice, "9000", idempotency_key=key, metadata={"order": "8"})
    other = dial(voice, "9000")
    assert other.sid != call.sid, "each call of originate has a key of its own"
    call.metadata["order"] = "9"
    assert call.metadata == voice.calls.get(call.sid).metadata == notes
    assert other.metadata == {}
    for placed in (call, other):
        placed.hangup()


def test_statuses_come_in_their_order(voice: Voice) -> None:
    call = dial(voice, "9002")
    assert (call.status, call.answered_at, call.ended_at, call.end_reason) == ("dialing", None, None, None)
    assert call.wait("ringing", timeout=LIMIT_S).answered_at is None
    assert call.wait("in_progress", timeout=LIMIT_S).answered_at is not None
    call.hangup()
    assert (call.wait("completed", timeout=LIMIT_S).end_reason, call.ended_by) == ("normal", "local")


def test_an_announcement_is_heard_in_a_call_that_is_never_answered(voice: Voice) -> None:
    call, heard = dial(voice, "9005"), Heard()
    connected(voice.audio_bridge.attach(call.sid, on_uplink=heard))
    heard.wait(50)
    call.wait(timeout=LIMIT_S)
    assert (call.status, call.end_reason, call.sip_code, call.q850) == ("failed", "not_found", 404, 1)
    assert call.answered_at is None


def test_nobody_waits_for_a_status_that_is_past(engine: Engine, voice: Voice) -> None:
    call = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S)
    for status in ("ringing", ("dialing", "ringing")):
        with pytest.raises(CallError, match="is in_progress and will not be") as told:
            call.wait(status)
        assert (told.value.end_reason, told.value.sip_code) == (None, None)

    async def awaited() -> None:
        async with AsyncVoice(engine.base_url, engine.api_key, engine.org_id) as later:
            await (await later.calls.get(call.sid)).wait("dialing")

    with pytest.raises(CallError, match="will not be dialing"):
        asyncio.run(awaited())
    call.hangup()


def test_a_call_is_ended_by_its_longest_duration(voice: Voice) -> None:
    call = dial(voice, "9010", max_duration_sec=1)
    assert (call.wait("completed", timeout=LIMIT_S).end_reason, call.ended_by) == ("max_duration", "system")
    dial(voice, "9000", max_duration_sec=None).hangup()


def test_the_agents_of_the_engine_are_listed(engine: Engine, voice: Voice) -> None:
    (agent,) = voice.agents.list()
    assert (agent.id, agent.kind) == ("echo", "echo")
    assert repr(agent) == "Agent(id='echo', kind='echo')"

    async def listed() -> list[str]:
        async with AsyncVoice(engine.base_url, engine.api_key, engine.org_id) as later:
            return [agent.id for agent in await later.agents.list()]

    assert asyncio.run(listed()) == ["echo"]


def test_an_orderly_shutdown_is_on_record(tmp_path: Path) -> None:
    config = {
        "state": "state",
        "api": {"listen": "127.0.0.1:0"},
        "relay": {"listen": "127.0.0.1:0"},
        "keys": [{"org": "org_abc", "key": "a-key-that-outlives-the-engine"}],
        "trunks": {"trunk_main": {"kind": "phone"}},
    }
    with Engine(config, state=tmp_path) as engine:
        voice = Voice(engine.base_url, "a-key-that-outlives-the-engine", "org_abc")
        answered, ringing = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S), dial(voice, "9000")
    with Engine(config, state=tmp_path) as engine:
        voice = Voice(engine.base_url, "a-key-that-outlives-the-engine", "org_abc")
        for before, status in ((answered, "completed"), (ringing, "failed")):
            after = voice.calls.get(sid=before.sid)
            assert (after.status, after.end_reason, after.started_at) == (status, "server_shutdown", before.started_at)


@pytest.fixture(scope="module", autouse=True)
def ignored(engine: Engine) -> Iterator[tuple[Call, Future[None]]]:
    """A transfer that the phone says nothing about; the API answers after 20 s, while the other tests run."""
    call = dial(Voice(engine.base_url, engine.api_key, engine.org_id), "9022")
    call.wait("in_progress", timeout=LIMIT_S)
    with ThreadPoolExecutor(1) as thread:
        yield call, thread.submit(call.transfer, to="+15557654321")


def test_an_accepted_transfer(voice: Voice) -> None:
    call = dial(voice, "9020")
    bridge = connected(voice.audio_bridge.attach(call.sid, on_uplink=Heard()))
    with pytest.raises(ConflictError, match="transfer it once it is in_progress"):
        dial(voice, "9000").transfer(to="+15557654321")
    call.wait("in_progress", timeout=LIMIT_S)
    call.transfer(to="+15557654321")
    call.wait(timeout=LIMIT_S)
    assert (call.status, call.end_reason, call.transferred_to) == ("completed", "transferred", "+15557654321")
    done = call.last_transfer
    assert done is not None
    assert (done.to, done.mode, done.state, done.sip_code) == ("+15557654321", "refer", "completed", None)
    assert (call.legs, call.stats, call.ended_by) == ([], None, "remote")
    ended(bridge)
    with pytest.raises(ConflictError, match="the call has ended"):
        call.transfer(to="+15557654321")


def test_a_refused_transfer(voice: Voice) -> None:
    call = dial(voice, "9021").wait("in_progress", timeout=LIMIT_S)
    heard = Heard()
    connected(voice.audio_bridge.attach(call.sid, on_uplink=heard))
    with pytest.raises(ConflictError, match="refused the transfer with SIP 603: the call goes on") as told:
        call.transfer("+15557654321")
    assert (told.value.status, told.value.code) == (409, "CONFLICT")
    heard.wait_more(10)
    assert (call.refresh().status, call.transferred_to) == ("in_progress", None)
    call.hangup()


def test_an_agent_from_the_answer_on(engine: Engine, voice: Voice) -> None:
    call = dial(voice, "9013", agent="echo")
    assert call.agent == "echo"
    with pytest.raises(ConflictError, match='agent "echo" speaks on this call'):
        voice.audio_bridge.attach(call.sid, on_uplink=Heard())
    call.wait("completed", timeout=LIMIT_S)
    told = report(engine, call)
    # Each frame comes back at the next tick, and the last before the phone hangs up.
    assert told["frames_heard"] == told["frames_said"] == told["clip_frames_said"]
    assert told["malformed"] == 0
    assert told["gaps"] == 0 or not is_calm()


@pytest.mark.parametrize("way", ["transfer", "attach"])
def test_an_agent_in_mid_call(engine: Engine, voice: Voice, way: str) -> None:
    call = dial(voice, "9010")
    heard = Heard()
    bridge = connected(voice.audio_bridge.attach(call.sid, on_uplink=heard))
    heard.wait(5)
    if way == "transfer":
        call.transfer(agent="echo")
    else:
        voice.agents.attach(call.sid, "echo")
    assert (call.refresh().agent, call.status) == ("echo", "in_progress")
    for codec in ("opus", "pcm16"):
        with pytest.raises(ConflictError, match="speaks on this call"):
            voice.audio_bridge.attach(call.sid, on_uplink=Heard(), codec=codec)
    # The earlier bridge goes on hearing; what it says is not heard any more.
    heard.wait_more(25)
    assert heard.steps_us() == {20_000}
    bridge.close()
    call.hangup()
    call.wait("completed", timeout=LIMIT_S)
    told = report(engine, call)
    assert 20 <= told["frames_heard"] < told["frames_said"]
    with pytest.raises(ConflictError, match="the call has ended"):
        voice.agents.attach(call.sid, "echo")


def test_unknown_names_are_404(voice: Voice) -> None:
    call = dial(voice, "9000")
    for ask in (
        lambda: voice.agents.attach(call.sid, "billing-bot"),
        lambda: call.transfer(agent="billing-bot"),
        lambda: dial(voice, "9010", agent="billing-bot"),
    ):
        with pytest.raises(NotFoundError, match='agent "billing-bot" is not known: this engine has echo') as told:
            ask()
        assert told.value.status == 404
    with pytest.raises(NotFoundError, match="trunk_other"):
        voice.calls.originate(to="+15550009010", from_="+15558675309", trunk_id="trunk_other")
    assert call.refresh().agent is None
    call.hangup()


def test_a_transfer_nobody_speaks_of(ignored: tuple[Call, Future[None]]) -> None:
    call, transfer = ignored
    assert transfer.result(LIMIT_S) is None
    assert (call.refresh().status, call.transferred_to) == ("in_progress", None)
    call.hangup()
