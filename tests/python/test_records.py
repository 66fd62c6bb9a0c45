"""Records and keys of an engine that is killed: what was answered is durable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from listening import dial
from test_cli import LIMIT_S, command

from clutchcall.errors import ConflictError
from clutchcall.voice import Voice

CONFIG = """
state = "state"
[api]
listen = "127.0.0.1:0"
[relay]
listen = "127.0.0.1:0"
[[keys]]
org = "org_abc"
key = "tqs_live_of_org_abc_and_all_of_it"
[trunks.trunk_main]
kind = "phone"
"""


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Voice]]:
    (folder / "clutchcall.toml").write_text(CONFIG, encoding="utf-8")
    arguments = command("serve", "--config", folder / "clutchcall.toml", "--json")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        base_url = json.loads(process.stdout.readline())["base_url"]
        try:
            with Voice(base_url, "tqs_live_of_org_abc_and_all_of_it", "org_abc") as voice:
                yield process, voice
        finally:
            process.kill()


def test_a_key_dials_once_across_a_crash(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, voice):
        rings = dial(voice, "9000", idempotency_key="order-7", metadata={"order": "7"})
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=LIMIT_S)
    with serving(tmp_path) as (process, voice):
        again = dial(voice, "9000", idempotency_key="order-7", metadata={"order": "7"})
        assert again.sid == rings.sid
        assert (again.status, again.end_reason) == ("failed", "node_lost")
        assert again.metadata == {"order": "7"}
        with pytest.raises(ConflictError, match="Idempotency-Key"):
            dial(voice, "9001", idempotency_key="order-7", metadata={"order": "7"})
        assert [call.sid for call in voice.calls.list()] == [rings.sid]
        assert dial(voice, "9000", idempotency_key="order-8").sid != rings.sid
