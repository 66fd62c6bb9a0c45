"""The programs of `examples/`, as a person runs them, against one `clutchcall dev`."""

from __future__ import annotations

import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from developing import LIMIT_S, ROOT, developing

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def environment(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """In which `Voice()` finds a running `clutchcall dev`."""
    with developing(tmp_path_factory.mktemp("dev"), speech / "vm-intro.wav") as environment:
        yield environment


def run(name: str, environment: dict[str, str], *arguments: str | Path, folder: Path | None = None) -> str:
    """What it printed, having ended well and in silence, with every warning an error."""
    command = [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, env=environment, cwd=folder, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_all_of_them_are_run_here() -> None:
    tested = set(re.findall(r'run\(\s*"(\w+\.py)"', Path(__file__).read_text()))
    assert tested == {path.name for path in EXAMPLES.glob("*.py")}


def test_echo(environment: dict[str, str]) -> None:
    said = run("echo.py", environment)
    told = re.fullmatch(r"\w+ ended \(normal\): (\d+) frames heard, (\d+) said\n", said)
    assert told, said
    heard, spoken = map(int, told.groups())
    assert heard > 50
    assert spoken > 50


def test_the_echo_of_a_loop(environment: dict[str, str]) -> None:
    lines = run("echo_async.py", environment).splitlines()
    assert len(lines) == 2
    for line in lines:
        told = re.fullmatch(r"\w+ ended \(normal\): (\d+) frames said back", line)
        assert told, line
        assert int(told[1]) > 50


def test_record(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "caller.wav"
    said = run("record.py", environment, file)
    with wave.open(str(file)) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (1, 2, 16_000)
        samples = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2").astype(float)
    assert said.startswith(f"{file}: {len(samples) / 16_000:.2f} s of ")
    assert len(samples) > 16_000
    assert np.sqrt(np.mean(samples**2)) > 100, "it holds speech"


def test_listen(environment: dict[str, str]) -> None:
    lines = run("listen.py", environment).splitlines()
    spoken = [re.fullmatch(r"at [\d.]+ s: ([\d.]+) s of speech", line) for line in lines]
    assert spoken
    assert all(spoken), lines
    assert sum(float(found[1]) for found in spoken if found) > 1.0


def test_speak(environment: dict[str, str], speech: Path) -> None:
    assert re.fullmatch(r"100 frames said to \w+\n", run("speak.py", environment))
    with wave.open(str(speech / "vm-goodbye.wav")) as wav:
        frames = -(-wav.getnframes() * 50 // wav.getframerate())
    assert run("speak.py", environment, speech / "vm-goodbye.wav").startswith(f"{frames} frames said to ")


def test_follow(environment: dict[str, str]) -> None:
    said = run("follow.py", environment)
    for number, last in [("9013", "completed"), ("9486", "failed"), ("9603", "failed")]:
        statuses = re.findall(rf"^\+1555000{number}: (\w+)$", said, re.MULTILINE)
        # The program ends when it has what it waits for: the last status may come after that.
        assert statuses
        assert statuses[-1] in (last, "in_progress", "ringing", "dialing")
    assert re.search(r"9013: answered \S+Z, ended \S+Z: normal", said)
    assert "9486: no answer: busy, SIP 486" in said
    assert "9603: no answer: declined, SIP 603" in said
