"""`clutchcall phone` as a person runs it, and an engine with a SIP trunk to it."""

from __future__ import annotations

import array
import json
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from listening import LIMIT_S, Heard, connected, until

from clutchcall.cli.phone import NUMBERS
from clutchcall.engine import Engine
from clutchcall.voice import Voice

KEY = "a-key-for-the-desk-phone"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "clutchcall.cli", *map(str, arguments)]


@contextmanager
def phone(*arguments: str | Path) -> Iterator[dict[str, Any]]:
    """A running phone: what it told when it listened, and its process."""
    process = subprocess.Popen(
        command("phone", "--listen", "127.0.0.1:0", "--json", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, process.communicate(timeout=LIMIT_S)[1]
        yield {**json.loads(line), "process": process}
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, complaints


@pytest.fixture(params=[("opus", "udp"), ("PCMU", "tcp")], ids="-".join)
def line(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Codec, and how SIP goes."""
    codec, transport = request.param
    return codec, transport


def config(address: str, line: tuple[str, str] = ("opus", "udp")) -> dict[str, object]:
    codec, transport = line
    trunk = {
        "kind": "sip",
        "sbc_ip": address,
        "transport": transport,
        "internal_sip_ip": "127.0.0.1",
        "source_pbx_port": 0,
        "codec_preferences": [codec],
        "options_interval_sec": 0,
        "channel_limit": 100,
    }
    return {
        "state": "state",
        "api": {"listen": "127.0.0.1:0"},
        "relay": {"listen": "127.0.0.1:0"},
        "keys": [{"org": "org_abc", "key": KEY}],
        "trunks": {"desk": trunk},
    }


def test_a_trunk_of_the_config_calls_a_phone_of_another_process(
    line: tuple[str, str], speech: Path, tmp_path: Path
) -> None:
    records = tmp_path / "records"
    with (
        phone("--says", speech / "vm-intro.wav", "--records", records, "--ring", "100") as desk,
        Engine(config(desk["address"], line), state=tmp_path) as engine,
        Voice(engine.base_url, KEY, "org_abc") as voice,
    ):
        busy = voice.calls.originate(to="+15550009486", from_="+15558675309", trunk_id="desk")
        busy.wait(timeout=LIMIT_S)
        assert (busy.status, busy.end_reason, busy.sip_code) == ("failed", "busy", 486)

        call = voice.calls.originate(to="+15550009010", from_="+15558675309", trunk_id="desk")
        heard = Heard()
        bridge = connected(voice.audio_bridge.attach(call.sid, on_uplink=heard, codec="pcm16", sample_rate=16_000))
        heard.wait(100)
        bridge.publish_downlink(bytes(640))
        until(lambda: bridge.queued_ms == 0, "it has left")
        call.hangup()
        call.wait("completed", timeout=LIMIT_S)
        until(lambda: bool(list(records.glob("*.json"))), "the phone has told what it heard")
        (report,) = records.glob("*.json")
        told = json.loads(report.read_text())
        assert told["frames_said"] >= 100
        assert told["malformed"] == 0
        with wave.open(str(report.with_suffix(".wav"))) as file:
            assert (file.getframerate(), file.getnframes()) == (16_000, told["recorded_samples"])
        samples = array.array("h", b"".join(heard.frames))
        assert max(samples) > 2000, "its clip is heard"


def test_a_phone_that_ends_hangs_up(tmp_path: Path) -> None:
    with phone() as desk, Engine(config(desk["address"]), state=tmp_path) as engine:
        voice = Voice(engine.base_url, KEY, "org_abc")
        call = voice.calls.originate(to="+15550009011", from_="+15558675309", trunk_id="desk")
        call.wait("in_progress", timeout=LIMIT_S)
        desk["process"].send_signal(signal.SIGTERM)
        assert desk["process"].wait(LIMIT_S) == 0
        call.wait("completed", timeout=LIMIT_S)
        assert (call.end_reason, call.ended_by) == ("normal", "remote")


def test_what_it_is_told_wrongly_is_said(tmp_path: Path) -> None:
    def complaint(*arguments: str | Path) -> str:
        done = subprocess.run(command("phone", *arguments), capture_output=True, text=True, timeout=LIMIT_S)
        assert (done.returncode, done.stdout) == (2, ""), done
        return done.stderr

    assert 'listen is "nowhere"' in complaint("--listen", "nowhere")
    assert "name one of this machine's" in complaint("--listen", "0.0.0.0:0")
    assert "can't be bound" in complaint("--listen", "192.0.2.1:5070")
    (tmp_path / "no.wav").write_bytes(b"RIFF")
    assert "no.wav" in complaint("--listen", "127.0.0.1:0", "--says", tmp_path / "no.wav")


def test_its_help_lists_every_ending_of_the_readme_and_what_two_of_them_are_by_itself() -> None:
    environment = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(command("phone", "--help"), capture_output=True, text=True, timeout=LIMIT_S, env=environment)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.split("| Number ends in |", 1)[1].split("\n\n", 1)[0]
    for ending in (*range(9000, 9006), *range(9010, 9015), 9020, 9030, 9300, 9699):
        assert str(ending) in done.stdout, ending
        assert str(ending) in table, ending
    alone = " ".join(done.stdout.split("By itself", 1)[1].split())
    assert "9003 says nothing, like 9001" in alone
    assert "9030 answers" in alone
    assert "By itself" not in NUMBERS, "an engine's own phone is known before it is called"
