"""Every piece of Python in the README, in `docs/` and in docstrings runs as it is printed, against an engine."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from founding import Recognizer
from listening import LIMIT_S, dial

from clutchcall import _core
from clutchcall.engine import Engine
from clutchcall.voice import AsyncVoice, Voice
from clutchcall.voice._bridges import OpenBridges

ROOT = Path(__file__).parents[2]
PRINTED = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted((ROOT / "python/clutchcall").rglob("*.py"))
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks() -> Iterator[tuple[str, str]]:
    for path in [*PRINTED, *SOURCES]:
        text = path.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{path.relative_to(ROOT)}:{line}", textwrap.dedent(found[2])


BLOCKS = dict(blocks())


def test_they_are_found() -> None:
    assert sum("README.md" in place for place in BLOCKS) >= 2
    assert sum("python/clutchcall" in place for place in BLOCKS) >= 7


class FarEnd:
    """Hangs up what a snippet placed, once it is answered and the snippet has done what it does on it."""

    def __init__(self, voice: Voice, asr: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._voice, self._asr = voice, asr
        self._over, self._attached = threading.Event(), threading.Event()
        keep = OpenBridges._keep

        def noting(bridges: OpenBridges, bridge: _core.Bridge) -> _core.Bridge:
            kept = keep(bridges, bridge)
            self._attached.set()
            return kept

        monkeypatch.setattr(OpenBridges, "_keep", noting)

    def follow(self, code: str) -> None:
        if "attach(" in code:
            self._attached.wait(LIMIT_S)
        if "asr." in code:
            self._asr.heard.wait(3)
        while not self._over.wait(0.05):
            for call in self._voice.calls.list(status="in_progress"):
                call.hangup()

    def close(self) -> None:
        self._over.set()
        self._attached.set()


@pytest.mark.parametrize("place", BLOCKS)
def test_a_snippet_runs(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = BLOCKS[place]
    # As a user's shell has it; an engine of its own, since all its calls are hung up.
    with Engine(ring_ms=10) as own, Voice(own.base_url, own.api_key, own.org_id) as voice:
        for name in ("base_url", "api_key", "org_id"):
            monkeypatch.setenv(f"CLUTCHCALL_{name.upper()}", str(getattr(own, name)))
        asr = Recognizer()
        far_end = FarEnd(voice, asr, monkeypatch)
        names = surroundings(code, voice, asr)
        hanging_up = threading.Thread(target=far_end.follow, args=(code,))
        hanging_up.start()
        try:
            run(place, code, names)
        finally:
            far_end.close()
            hanging_up.join(LIMIT_S)
            if "client" in names:
                names["client"].close()


def surroundings(code: str, voice: Voice, asr: Recognizer) -> dict[str, Any]:
    """What a snippet leaves to its reader."""
    names: dict[str, Any] = {"AsyncVoice": AsyncVoice, "asr": asr, "token": "any", "frame": b"frame"}
    if "originate(" in code:
        return names
    names["call"] = call = dial(voice, "9010")
    if "await asr" in code:
        names["asr"] = Awaited(asr)
    elif "bridge." in code:
        names["bridge"] = voice.audio_bridge.attach(call.sid)
    return names


class Awaited:
    """The recognizer of an event loop."""

    def __init__(self, asr: Recognizer) -> None:
        self._asr = asr

    async def feed(self, frame: bytes) -> None:
        self._asr.feed(frame)


def run(place: str, code: str, names: dict[str, Any]) -> None:
    begun = eval(compile(code, place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if not inspect.iscoroutine(begun):
        return

    async def awaited() -> None:
        if "call" in names:
            names["bridge"] = await AsyncVoice().audio_bridge.attach(names["call"].sid)
        await asyncio.wait_for(begun, LIMIT_S)

    asyncio.run(awaited())
