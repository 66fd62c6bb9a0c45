"""The founding document as data: its headings, and its Python snippets as they stand there.

A test of a line is named after the heading that the line stands under (`HEADINGS`), in a file `test_founding_*.py`.
`run` executes a snippet with its base URL, key, org and agents' names replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from listening import Heard

from clutchcall.engine import Engine

# The heading, and how its tests begin: `test_<that>_…`.
HEADINGS = {
    "# Voice — SDK Methods": "voice_sdk_methods",
    "## `Voice`": "voice_client",
    "## `Calls` — control plane": "calls_control_plane",
    "### `calls.originate(args) → Promise<Call>`": "calls_originate",
    "### `calls.get({ sid }) → Promise<Call>`": "calls_get",
    "## `Call` — one call handle": "call_handle",
    "### `call.transfer(args | string) → Promise<void>`": "call_transfer",
    "### `call.hangup() → Promise<void>`": "call_hangup",
    "## `AudioBridge` — data plane": "audio_bridge_data_plane",
    "### `audioBridge.attach(callSid, opts) → Promise<AudioBridge>`": "audio_bridge_attach",
    "### `audioBridge.attachCaller(callSid, opts) → Promise<AudioBridge>`": "audio_bridge_caller",
    "### `AudioBridge` methods": "audio_bridge_methods",
    "## `Agents` — AI-agent attach": "agents_ai_agent_attach",
    "### `agents.attach(callSid, agent) → Promise<void>`": "agents_attach",
    "## Browser softphone helpers": "browser_softphone_helpers",
    "### `captureMicrophone(publication, opts?) → Promise<MicCapture>`": "capture_microphone",
    "### `OpusPlayer`": "opus_player",
    "## Types and events": "types_and_events",
    "## Other languages": "other_languages",
}

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


def begun(engine: Engine) -> dict[str, Any]:
    """What the snippets know after the document's first two; `asr` and `tts` it leaves open. The environment names the
    key, as the document has it."""
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
