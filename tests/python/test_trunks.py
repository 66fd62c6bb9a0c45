"""Trunks, as both faces and the command line show them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from far_end import KEY, ORG, FarEnd, settings

from clutchcall.cli import main
from clutchcall.engine import Engine
from clutchcall.errors import NotFoundError
from clutchcall.types import Trunk, TrunkTest
from clutchcall.voice import AsyncVoice, Voice

RTP_FROM = 24_100


def test_trunks_are_listed_alike(engine: Engine, voice: Voice) -> None:
    (trunk,) = voice.trunks.list()
    assert (trunk["trunk_id"], trunk["kind"], trunk["health"]) == ("trunk_main", "phone", "healthy")
    assert (trunk["caller_ids"], trunk["transfer_mode"]) == ([], "refer")
    assert trunk["waiting_calls"] == 0
    assert "sip" not in trunk

    async def listed() -> list[Trunk]:
        async with AsyncVoice(engine.base_url, engine.api_key, engine.org_id) as later:
            return await later.trunks.list()

    (same,) = asyncio.run(listed())
    assert same.keys() == trunk.keys()


def test_the_command_line_lists_them(
    engine: Engine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUTCHCALL_API_KEY", engine.api_key)
    monkeypatch.setenv("CLUTCHCALL_ORG_ID", engine.org_id)
    assert main(["trunks", "list", "--base-url", engine.base_url]) == 0
    words = capsys.readouterr().out.split()
    assert words[:3] == ["trunk_main", "phone", "healthy"]
    assert main(["trunks", "list", "--base-url", engine.base_url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trunk_id"] == "trunk_main"
    assert main(["trunks", "list", "--base-url", "http://127.0.0.1:9"]) == 3


def test_a_far_side_is_asked_whether_it_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FarEnd() as far:
        port, config = far.port, settings({"carrier": far.trunk(RTP_FROM)})
        engine = Engine(config, state=tmp_path)
    monkeypatch.setenv("CLUTCHCALL_API_KEY", KEY)
    monkeypatch.setenv("CLUTCHCALL_ORG_ID", ORG)
    test = ["trunks", "test", "carrier", "--base-url", engine.base_url]
    with engine, Voice(engine.base_url, KEY, ORG) as voice:
        # Nobody is there any more.
        silent = voice.trunks.test("carrier")
        assert (silent["ok"], silent["transport"], "sip_code" in silent) == (False, "udp", False)
        assert silent["peer"] == silent["address"] == f"127.0.0.1:{port}"
        assert "through every firewall" in silent["advice"]
        assert silent["error"]
        assert main(test) == 1
        told = capsys.readouterr()
        assert "through every firewall" in told.err
        assert told.out.splitlines()[0].split() == ["trunk", "carrier"]
        with pytest.raises(NotFoundError, match="no trunk of this organisation"):
            voice.trunks.test("nope")


def test_a_far_side_that_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FarEnd() as far, Engine(settings({"carrier": far.trunk(RTP_FROM)}), state=tmp_path) as engine:

        async def tested() -> TrunkTest:
            async with AsyncVoice(engine.base_url, KEY, ORG) as later:
                return await later.trunks.test("carrier")

        there = asyncio.run(tested())
        assert (there["ok"], there["sip_code"], there["sip_phrase"]) == (True, 200, "OK")
        assert (there["health"], "advice" in there, "registration" in there) == ("healthy", False, False)
        monkeypatch.setenv("CLUTCHCALL_API_KEY", KEY)
        monkeypatch.setenv("CLUTCHCALL_ORG_ID", ORG)
        assert main(["trunks", "test", "carrier", "--base-url", engine.base_url]) == 0
        told = capsys.readouterr().out
        assert "200 OK, after " in told
        assert f"{there['peer']} over udp, at {there['address']}" in told
        assert main(["trunks", "test", "carrier", "--base-url", engine.base_url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["ok"] is True
        (trunk,) = Voice(engine.base_url, KEY, ORG).trunks.list()
        assert trunk["sip"]["sbc_ip"] == "127.0.0.1"
