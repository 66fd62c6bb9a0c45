"""Hostile values of every variable and file that `Voice` looks at: an error that names it, or a valid outcome."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hostile import TEXTUAL

from clutchcall.errors import ConfigError
from clutchcall.voice import Voice

SETTINGS = {"BASE_URL": "http://127.0.0.1:9", "API_KEY": "key", "ORG_ID": "org"}
VARIABLES = [*SETTINGS, "CREDENTIALS", "RELAY_HOST", "CONFIG", "PROFILE", "POOL", "DRAFTS", "CA_FILE", "STATE_DIR"]
VALUES = [text for text in TEXTUAL if "\0" not in text and len(text) < 100_000 and not text.startswith("\ud800")]
VALUES += [
    "/dev/full",
    "/dev/zero",
    "/proc/self/mem",
    "/",
    "no/such",
    "http://",
    "//",
    "18446744073709551616",
    "-1",
    "18,18,,",
]
# What a message calls the setting, where the variable is not its only source.
SAID = {
    "BASE_URL": "base_url",
    "API_KEY": "api_key",
    "ORG_ID": "org_id",
    "RELAY_HOST": "relay_host",
    "PROFILE": "profile",
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("CLUTCHCALL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"CLUTCHCALL_{name}", value)


@pytest.mark.parametrize("name", VARIABLES)
def test_hostile_variables(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    wrong = []
    for value in VALUES:
        monkeypatch.setenv(f"CLUTCHCALL_{name}", value)
        try:
            assert Voice().org_id
        except ConfigError as error:
            if f"CLUTCHCALL_{name}" not in str(error) and SAID.get(name, name) not in str(error):
                wrong.append(f"{value[:60]!a}: {str(error)[:200]}")
    assert wrong == []


FILES = [
    b"\xff\xfe",
    b"",
    b"[profiles",
    b"profiles = 7",
    b"[profiles.default]\nbase_url = 7",
    b"x" * 100_000,
    b"\0",
    b"[[profiles]]",
]
FILES += [b"[profiles.default]\nnobody = 1", b"[profiles.default]\napi_key = '\\ud800'", b"a = " + b"[" * 30_000]


@pytest.mark.parametrize("number", range(len(FILES)))
@pytest.mark.parametrize("name", ["CONFIG", "CREDENTIALS"])
def test_hostile_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, number: int) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(FILES[number])
    monkeypatch.setenv(f"CLUTCHCALL_{name}", str(file))
    try:
        voice = Voice()
    except ConfigError as error:
        named = "settings.toml" in str(error) or f"CLUTCHCALL_{name}" in str(error)
    else:
        named = voice.org_id == "org"
    assert named
