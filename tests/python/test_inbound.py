"""A person calls in: the program finds the call while it rings, and answers or refuses it. SIPp is the caller."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from listening import until
from ports import free_port

from clutchcall.engine import Engine
from clutchcall.errors import ConflictError
from clutchcall.voice import AsyncVoice, Call, Voice

KEY = "tqs_live_of_somebody_who_is_called"
ORG = "org_a"
NUMBER = "+15550001234"
SCENARIOS = Path(__file__).parent.parent / "data" / "sipp"
PLAYED_S = 30


class Called:
    """An engine whose trunk rings, and who calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.caller = free_port(), free_port()
        trunk = {
            "org": ORG,
            "sbc_ip": f"127.0.0.1:{self.caller}",
            "internal_sip_ip": "127.0.0.1",
            "source_pbx_port": self.port,
            "options_interval_sec": 0,
            "rtp_start_port": 23_000,
            "rtp_end_port": 23_099,
            "channel_limit": 20,
            "inbound": [{"rule": "NOTIFY_AND_HANGUP"}],
        }
        self.engine = Engine(
            {
                "state": str(folder / "state"),
                "api": {"listen": "127.0.0.1:0"},
                "relay": {"listen": "127.0.0.1:0"},
                "keys": [{"org": ORG, "key": KEY}],
                "agents": {"echo": {"kind": "echo"}},
                "trunks": {"carrier": trunk},
            }
        )

    def calls(self, scenario: str, code: str = "") -> subprocess.Popen[bytes]:
        text = (SCENARIOS / f"{scenario}.xml").read_text().replace("[number]", NUMBER).replace("[code]", code)
        played = self.folder / f"{scenario}.xml"
        played.write_text(text)
        options = f"-i 127.0.0.1 -mi 127.0.0.1 -mp {free_port()} -nostdin -m 1 -recv_timeout 15000"
        command = ["sipp", "-sf", str(played), f"127.0.0.1:{self.port}", "-p", str(self.caller), *options.split()]
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def called(tmp_path: Path) -> Iterator[Called]:
    if shutil.which("sipp") is None:
        if "CI" in os.environ:
            pytest.fail("sipp is missing: make packages")
        pytest.skip("LEFT OUT: sipp is missing (make packages)")
    called = Called(tmp_path)
    with called.engine:
        yield called


def ringing(voice: Voice) -> Call:
    found: list[Call] = []

    def look() -> bool:
        found.extend(voice.calls.list(status="ringing"))
        return bool(found)

    until(look, "no call rings")
    return found[0]


def test_a_call_is_answered_and_hung_up(called: Called) -> None:
    with Voice(called.engine.base_url, KEY, ORG) as voice, called.calls("caller_stays") as caller:
        call = ringing(voice)
        assert (call.direction, call.to, call.from_) == ("inbound", NUMBER, "+15558675309")
        with pytest.raises(ValueError, match="choose one of busy, declined"):
            call.reject("bored")  # type: ignore[arg-type]
        call.answer(agent="echo")
        call.wait("in_progress", timeout=PLAYED_S)
        with pytest.raises(ConflictError, match="answered already"):
            call.reject()
        call.hangup()
        call.wait(timeout=PLAYED_S)
        assert (call.status, call.end_reason, call.agent) == ("completed", "normal", "echo")
        assert caller.wait(PLAYED_S) == 0


def test_a_call_is_refused(called: Called) -> None:
    with Voice(called.engine.base_url, KEY, ORG) as voice, called.calls("caller_refused", "486") as caller:
        call = ringing(voice)
        call.reject("busy")
        assert caller.wait(PLAYED_S) == 0
        call.refresh()
        assert (call.status, call.end_reason, call.sip_code) == ("failed", "busy", 486)


def test_the_same_awaited(called: Called) -> None:
    async def answer(sid: str) -> None:
        async with AsyncVoice(called.engine.base_url, KEY, ORG) as voice, asyncio.timeout(PLAYED_S):
            call = await voice.calls.get(sid)
            await call.answer()
            await call.wait("in_progress", timeout=PLAYED_S)
            with pytest.raises(ConflictError):
                await call.reject("declined")
            await call.hangup()

    with Voice(called.engine.base_url, KEY, ORG) as voice, called.calls("caller_stays") as caller:
        asyncio.run(answer(ringing(voice).sid))
        assert caller.wait(PLAYED_S) == 0
