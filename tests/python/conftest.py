"""What the end-to-end tests share: recorded speech, an engine with its phone, a user of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clutchcall.engine import Engine
from clutchcall.voice import Voice


@pytest.fixture(scope="session")
def speech() -> Path:
    """A folder of human speech, 8 kHz, 16 bit, mono."""
    folder = Path(os.environ.get("SPEECH", "/usr/share/asterisk/sounds/en_US_f_Allison"))
    if not (folder / "demo-congrats.wav").exists():
        pytest.fail(f"no recorded speech in {folder}: `make packages` installs it, SPEECH names another folder")
    return folder


@pytest.fixture(scope="session")
def engine(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for all tests that need none of their own: each has its own calls."""
    with Engine(clip=speech / "vm-intro.wav", record=tmp_path_factory.mktemp("heard")) as engine:
        yield engine


@pytest.fixture
def voice(engine: Engine) -> Iterator[Voice]:
    """A user of that engine, who closes his bridges when the test ends."""
    with Voice(engine.base_url, engine.api_key, engine.org_id) as voice:
        yield voice
