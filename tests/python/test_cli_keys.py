"""`clutchcall keys`: keys that are made, shown and revoked beside a running engine."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from test_cli import run

from clutchcall.engine import Engine
from clutchcall.errors import AuthenticationError
from clutchcall.voice import Voice

LIMIT_S = 20.0


def made_by(*arguments: str | Path) -> str:
    done = run("keys", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return done.stdout


def keys(*arguments: str | Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(made_by(*arguments))
    return told


def counts(engine: Engine, key: str) -> bool:
    with Voice(engine.base_url, key, "org_dev") as voice:
        try:
            voice.calls.list(limit=1)
        except AuthenticationError:
            return False
    return True


def until(engine: Engine, key: str, expected: bool) -> None:
    deadline = time.monotonic() + LIMIT_S
    while counts(engine, key) is not expected:
        assert time.monotonic() < deadline, f"the engine has not looked at its key file for {LIMIT_S} s"
        time.sleep(0.05)


def test_a_key_is_made_and_revoked_beside_a_running_engine(tmp_path: Path) -> None:
    with Engine(state=tmp_path) as engine:
        made = keys("create", "--org", "org_dev", "--name", "for CI", "--state", tmp_path)
        until(engine, made["key"], True)
        assert Path(made["file"]) == tmp_path / "keys.toml"
        (listed,) = json.loads(made_by("list", "--state", tmp_path))
        assert (listed["id"], listed["org"], listed["scopes"]) == (made["id"], "org_dev", ["voice:*"])
        assert listed["name"] == "for CI"
        assert listed["created"].endswith("Z")
        shown = run("keys", "list", "--file", tmp_path / "keys.toml").stdout
        assert made["id"] in shown
        assert made["key"] not in shown + (tmp_path / "keys.toml").read_text()
        assert keys("revoke", made["id"], "--state", tmp_path)["revoked"] is True
        engine.reload()
        until(engine, made["key"], False)
        assert json.loads(made_by("list", "--state", tmp_path)) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "--org", "an org"), "org"),
        (("create", "--org", "o", "--scope", "voice:calls.gte"), "voice:calls.get"),
        (("create", "--org", "o", "--name", "a\nb"), "name"),
        (("revoke", "key_0123456789"), "keys list"),
    ],
)
def test_a_wrong_word_is_named(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run("keys", *arguments, "--state", tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "keys.toml").exists()


def test_keys_of_the_engines_own_settings_are_said_to_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "clutchcall")
    with Engine(state=tmp_path) as engine:
        assert engine.api_key is not None
        # A question to the engine: with it a changed level counts.
        assert counts(engine, engine.api_key)
        engine.reload()
        deadline = time.monotonic() + LIMIT_S
        while not any("count until it ends" in record.getMessage() for record in caplog.records):
            assert time.monotonic() < deadline, f"nothing was said in {LIMIT_S} s"
            time.sleep(0.05)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_the_first_key_is_for_the_owner_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 12_345, 12_345)
    made = run("keys", "create", "--org", "o", "--state", folder)
    assert (made.returncode, made.stderr) == (0, "")
    assert (folder / "keys.toml").stat().st_uid == 12_345
    # A file that is there stays whose it is: that an engine of the folder's owner can't read it is said.
    os.chown(folder, 12_346, 12_346)
    made = run("keys", "create", "--org", "o", "--state", folder)
    assert made.returncode == 0
    assert re.search(r"keys\.toml is user 12345's, its folder user 12346's: .*chown", made.stderr), made.stderr
