"""The founding document's Python snippets, as they stand there, but for base URL, key, org and the agents' names.

`SNIPPETS` is the document's text; `run` executes it with these replacements. `sid`, `asr` and `tts` are the test's, as
the document leaves them open.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from listening import FROM, LIMIT_S, Heard

from clutchcall.engine import Engine
from clutchcall.errors import BridgeClosed
from clutchcall.media import OpusEncoder
from clutchcall.voice import Call, Voice

SNIPPETS = {
    "import": """
from clutchcall.voice import Voice
""",
    "voice": """
import os

v = Voice(
    base_url="https://engine.clutchcall.dev",
    api_key=os.environ["CLUTCHCALL_CREDENTIALS"],
    org_id="org_abc",
)

v.calls         # control plane
v.audio_bridge  # data plane
v.agents        # AI-agent attach
""",
    "originate": """
call = v.calls.originate(
    to="+15551234567",
    from_="+15558675309",
    trunk_id="trunk_main",
    agent="healthcare-assistant",   # optional
    ring_timeout_sec=30,            # optional, clamped 5..120
)
print(call.sid, call.status)
""",
    "get": """
call = v.calls.get(sid=sid)
""",
    "transfer to": """
call.transfer(to="+15557654321")     # forward to PSTN
""",
    "transfer agent": """
call.transfer(agent="billing-bot")   # re-attach an agent
""",
    "hangup": """
call.hangup()
""",
    "attach": """
def on_uplink(frame: bytes, ts_us: int) -> None:
    asr.feed(frame)

bridge = v.audio_bridge.attach(
    call.sid,
    on_uplink=on_uplink,
    codec="opus",
    sample_rate=48000,
    channels=1,
    frame_ms=20,
)

tts.on_chunk(lambda opus: bridge.publish_downlink(opus))
""",
    "agents": """
v.agents.attach(call.sid, "healthcare-assistant")
""",
}


class Recognizer:
    """`asr` of the document: hears frames."""

    def __init__(self) -> None:
        self.heard = Heard()

    def feed(self, frame: bytes) -> None:
        self.heard(frame, 0)


class Synthesizer:
    """`tts` of the document: says what it is told to, chunk by chunk."""

    def __init__(self) -> None:
        self.say: Callable[[bytes], None] = lambda opus: None

    def on_chunk(self, callback: Callable[[bytes], None]) -> None:
        self.say = callback


@pytest.fixture
def names(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the snippets know: the names that those before them made."""
    monkeypatch.setenv("CLUTCHCALL_CREDENTIALS", engine.api_key)
    names: dict[str, Any] = {"asr": Recognizer(), "tts": Synthesizer()}
    run("import", names, engine)
    run("voice", names, engine)
    return names


def run(snippet: str, names: dict[str, Any], engine: Engine) -> None:
    text = SNIPPETS[snippet]
    replacements = {
        '"https://engine.clutchcall.dev"': repr(engine.base_url),
        '"org_abc"': repr(engine.org_id),
        '"healthcare-assistant"': '"echo"',
        '"billing-bot"': '"echo"',
    }
    for before, after in replacements.items():
        text = text.replace(before, after)
    exec(compile(text, snippet, "exec"), names)


def test_the_document_still_says_so() -> None:
    """Where the document is at hand, the snippets are compared with it, so that neither drifts."""
    path = os.environ.get("CLUTCHCALL_DOCUMENT")
    if not path:
        pytest.skip("CLUTCHCALL_DOCUMENT is not set")
    with open(path, encoding="utf-8") as file:
        document = file.read()
    for name, text in SNIPPETS.items():
        assert text.strip() in document, name


def test_a_call_with_an_agent(engine: Engine, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run("originate", names, engine)
    call: Call = names["call"]
    assert capsys.readouterr().out == f"{call.sid} dialing\n"
    assert (call.to, call.from_, call.trunk_id, call.agent) == ("+15551234567", "+15558675309", "trunk_main", "echo")
    assert call.started_at.endswith("Z")
    names["sid"] = call.sid
    call.wait("in_progress", timeout=LIMIT_S)
    run("get", names, engine)
    assert names["call"].status == "in_progress"
    run("transfer agent", names, engine)
    run("agents", names, engine)
    run("hangup", names, engine)
    assert names["call"].wait(timeout=LIMIT_S).end_reason == "normal"


def test_a_call_is_forwarded(engine: Engine, names: dict[str, Any]) -> None:
    run("originate", names, engine)
    names["call"].wait("in_progress", timeout=LIMIT_S)
    run("transfer to", names, engine)
    call: Call = names["call"].wait("completed", timeout=LIMIT_S)
    assert (call.end_reason, call.transferred_to) == ("transferred", "+15557654321")


def test_transfer_takes_a_bare_number(engine: Engine, names: dict[str, Any]) -> None:
    run("originate", names, engine)
    names["call"].wait("in_progress", timeout=LIMIT_S)
    names["call"].transfer("+15557654321")
    assert names["call"].wait(timeout=LIMIT_S).end_reason == "transferred"


def test_audio_both_ways(engine: Engine, names: dict[str, Any]) -> None:
    """The phone gives back what it hears, so what is said comes back as Opus of the caller."""
    v: Voice = names["v"]
    names["call"] = v.calls.originate(to="+15550009012", from_=FROM, trunk_id="trunk_main")
    run("attach", names, engine)
    names["call"].wait("in_progress", timeout=LIMIT_S)
    opus = OpusEncoder().encode(bytes(1920))
    for _ in range(25):
        names["tts"].say(opus)
    names["asr"].heard.wait(25)
    bridge = names["bridge"]
    assert bridge.call_sid == names["call"].sid
    run("hangup", names, engine)
    bridge.close()
    with pytest.raises(BridgeClosed):
        bridge.publish_downlink(opus)
    v.close()


def test_the_handle_may_be_lost(engine: Engine, names: dict[str, Any]) -> None:
    """The document's WARNING as a passing test: collected in mid-call, and the audio goes on."""
    import gc

    v: Voice = names["v"]
    names["call"] = v.calls.originate(to="+15550009010", from_=FROM, trunk_id="trunk_main")
    run("attach", names, engine)
    heard = names["asr"].heard
    heard.wait(5)
    del names["bridge"], names["v"], v
    names["tts"] = Synthesizer()
    gc.collect()
    heard.wait_more(50)
    run("hangup", names, engine)
