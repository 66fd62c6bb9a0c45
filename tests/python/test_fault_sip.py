"""SIGTERM to `clutchcall serve` with SIP calls up: everybody is told, and every record is complete."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from listening import LIMIT_S, until
from ports import free_port, is_taken
from test_cli import ROOT, command

KEY = "tqs_live_of_org_abc_and_all_of_it"
CALLS = 5
CONFIG = """
state = "state"
[api]
listen = "127.0.0.1:0"
[relay]
listen = "127.0.0.1:0"
[[keys]]
org = "org_abc"
key = "{key}"
"""
TRUNK = """
[trunks.{name}]
kind = "sip"
sbc_ip = "127.0.0.1"
destination_sbc_port = {port}
source_pbx_port = 0
options_interval_sec = 0
channel_limit = 20
rtp_start_port = {rtp}
rtp_end_port = {rtp_end}
"""


@contextmanager
def carrier(folder: Path, scenario: str, calls: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """SIPp, which fails unless so many calls go as the scenario says."""
    port = free_port()
    where = ["-i", "127.0.0.1", "-p", str(port), "-mi", "127.0.0.1", "-mp", str(free_port())]
    file = ROOT / "tests" / "data" / "sipp" / f"{scenario}.xml"
    bounds = ["-m", str(calls), "-timeout", "60s", "-timeout_error", "-nostdin", "-rtp_echo"]
    with subprocess.Popen(
        ["sipp", "-sf", file, *where, *bounds], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: is_taken(port), "sipp listens")
            yield port, process
        finally:
            process.kill()


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    arguments = command("serve", "--config", folder / "clutchcall.toml", "--json")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())["base_url"]
        finally:
            process.kill()


def asked(base_url: str, procedure: str, **given: str) -> dict[str, Any]:
    url, data = f"{base_url}/api/trpc/voice.calls.{procedure}", json.dumps({"orgId": "org_abc", **given})
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    is_question = procedure == "get"
    request = Request(
        f"{url}?input={quote(data)}" if is_question else url, None if is_question else data.encode(), headers
    )
    with urlopen(request, timeout=10) as answer:
        row: dict[str, Any] = json.load(answer)["result"]["data"]
        return row


def dial(base_url: str, trunk: str) -> str:
    sid: str = asked(base_url, "originate", to="+15550001234", **{"from": "+15558675309", "trunkId": trunk})["sid"]
    return sid


def test_sigterm_with_sip_calls_up_drains(tmp_path: Path) -> None:
    if shutil.which("sipp") is None:
        assert "CI" not in os.environ, "sipp is missing: make packages"
        pytest.skip("sipp is missing: make packages")
    with carrier(tmp_path, "our_bye", CALLS) as (answers, first), carrier(tmp_path, "rings", 1) as (rings, second):
        ports = (("answers", answers, 24_000), ("rings", rings, 24_100))
        trunks = (TRUNK.format(name=name, port=port, rtp=rtp, rtp_end=rtp + 99) for name, port, rtp in ports)
        (tmp_path / "clutchcall.toml").write_text(CONFIG.format(key=KEY) + "".join(trunks), encoding="utf-8")
        with serving(tmp_path) as (process, base_url):
            ringing = dial(base_url, "rings")
            sids = [dial(base_url, "answers") for _ in range(CALLS)]
            for sid in sids:
                until(lambda sid=sid: asked(base_url, "get", sid=sid)["status"] == "in_progress", "it is answered")  # type: ignore[misc]
            until(lambda: asked(base_url, "get", sid=ringing)["status"] == "ringing", "it rings")
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT_S) == 0
        # Each was hung up, and the one that rang was taken back: the scenarios were played to their ends.
        assert (first.wait(LIMIT_S), second.wait(LIMIT_S)) == (0, 0)
    with serving(tmp_path) as (_, base_url):
        for sid in sids:
            row = asked(base_url, "get", sid=sid)
            assert (row["status"], row["endReason"], row["endedBy"]) == ("completed", "server_shutdown", "system"), row
            # What its line was like is said last, and is there, too.
            assert row["rtp"]["codec"] == "PCMU", row
        row = asked(base_url, "get", sid=ringing)
        assert (row["status"], row["endReason"]) == ("failed", "server_shutdown"), row
