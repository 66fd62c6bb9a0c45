"""The founding document's `Agents`, and its TIP."""

from __future__ import annotations

from typing import Any

import pytest
from founding import begun, run
from listening import LIMIT_S, Heard, dial

from clutchcall.engine import Engine
from clutchcall.errors import ConflictError, NotFoundError
from clutchcall.voice import Voice


@pytest.fixture
def names(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("CLUTCHCALL_CREDENTIALS", engine.api_key)
    return begun(engine)


def test_agents_ai_agent_attach_by_originate(voice: Voice) -> None:
    """One of the TIP's two ways: bound on answer, and the engine wires the audio."""
    call = dial(voice, "9010", agent="echo")
    assert call.agent == "echo"
    with pytest.raises(ConflictError, match='agent "echo" speaks on this call'):
        voice.audio_bridge.attach(call.sid, on_uplink=Heard())
    call.hangup()


def test_agents_ai_agent_attach_in_mid_call(voice: Voice) -> None:
    """The other: from a human to a bot, and from one bot to another."""
    call = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S)
    with voice.audio_bridge.attach(call.sid, on_uplink=Heard()):
        voice.agents.attach(call.sid, "echo")
        assert call.refresh().agent == "echo"
    voice.agents.attach(call.sid, "echo")
    assert (call.refresh().agent, call.status) == ("echo", "in_progress")
    call.hangup()


def test_agents_attach_as_the_document_does(engine: Engine, names: dict[str, Any], voice: Voice) -> None:
    names["call"] = dial(voice, "9010").wait("in_progress", timeout=LIMIT_S)
    run("agents", names, engine)
    assert names["call"].refresh().agent == "echo"
    names["call"].hangup()


def test_agents_attach_needs_an_agent_and_a_live_call(voice: Voice) -> None:
    call = dial(voice, "9000")
    with pytest.raises(NotFoundError, match='agent "billing-bot" is not known'):
        voice.agents.attach(call.sid, "billing-bot")
    with pytest.raises(NotFoundError):
        voice.agents.attach("CA1", "echo")
    call.hangup()
    call.wait(timeout=LIMIT_S)
    with pytest.raises(ConflictError, match="the call has ended"):
        voice.agents.attach(call.sid, "echo")
