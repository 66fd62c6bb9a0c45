"""The commands as a person runs them: processes, their output and their exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 60


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "clutchcall.cli", *map(str, arguments)]


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=LIMIT_S, env=environment)


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """An environment in which no running engine can be found."""
    return {"CLUTCHCALL_STATE_DIR": str(tmp_path / "state")}


@pytest.fixture
def dev(alone: dict[str, str], speech: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A running `clutchcall dev`: its first line, and `lines` to read the rest from."""
    arguments = ("dev", "--port", "0", "--relay-port", "0", "--json")
    phone = ("--phone-says", speech / "vm-intro.wav", "--phone-records", tmp_path / "phone")
    environment = {**os.environ, **alone}
    process = subprocess.Popen(
        command(*arguments, *phone), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        yield {**json.loads(first), "lines": process.stdout, "env": alone, "process": process}
    finally:
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, complaints


def test_help_names_every_command_and_version_is_the_wheels() -> None:
    helped = run("--help")
    assert helped.returncode == 0
    for name in ("dev", "call", "calls", "serve", "relay", "phone", "keys", "tokens", "doctor"):
        assert re.search(rf"^\s+{name}\s", helped.stdout, re.MULTILINE), name
        assert run(name, "--help").returncode == 0
    assert re.fullmatch(r"clutchcall \d+\.\d+\.\d+\n", run("--version").stdout)


def test_a_call_without_an_engine_starts_one_plays_and_records(
    alone: dict[str, str], speech: Path, tmp_path: Path
) -> None:
    heard = tmp_path / "heard.wav"
    said = speech / "vm-goodbye.wav"
    phone = ("--phone-says", speech / "vm-intro.wav", "--phone-records", tmp_path / "phone")
    done = run("call", "+15550009010", "--play", said, "--record", heard, *phone, "--json", env=alone)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["status"], report["end_reason"], report["gaps"]) == ("completed", "normal", 0)
    frames = wave_frames(said)
    assert report["frames_said"] >= frames
    assert report["latency_p50_us"] > 0
    assert wave_frames(heard) == report["frames_heard"] > 0
    assert wave_frames(tmp_path / "phone" / f"{report['sid']}.wav") >= frames
    # Where nobody watches, each status is one line.
    assert [line.split()[4] for line in done.stderr.splitlines()][-1] == "in_progress"


def wave_frames(path: Path) -> int:
    """Its length in frames of 20 ms, the last one filled up."""
    with wave.open(str(path), "rb") as file:
        return -(-file.getnframes() * 50 // file.getframerate())


def test_a_call_says_why_it_failed(alone: dict[str, str]) -> None:
    busy = run("call", "+15550009486", env=alone)
    assert busy.returncode == 1
    assert "failed: busy, SIP 486" in busy.stdout
    assert run("call", "+15550009603", "--json", env=alone).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("call", "555"), 2, "to"),
        (("call", "+15550009010", "--play", "nowhere.wav"), 2, "nowhere.wav"),
        (("call", "+15550009010", "--base-url", "http://127.0.0.1:9"), 2, "api_key"),
        (("serve", "--config", "nowhere.toml"), 2, "nowhere.toml"),
        (("relay", "--listen", "127.0.0.1:0"), 2, "--public-key"),
        (("relay", "--listen", "somewhere", "--public-key", "A" * 43), 2, "listen"),
        (("relay", "--listen", "127.0.0.1:0", "--public-key", "short"), 2, "public_keys"),
        (("doctor", "--certificate", "nowhere.pem"), 1, "nowhere.pem"),
    ],
)
def test_a_wrong_word_is_named(alone: dict[str, str], arguments: tuple[str, ...], status: int, words: str) -> None:
    done = run(*arguments, env=alone)
    assert done.returncode == status
    assert words in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_no_engine_is_told_apart(alone: dict[str, str]) -> None:
    settings = {"CLUTCHCALL_API_KEY": "k" * 20, "CLUTCHCALL_ORG_ID": "org"}
    done = run("call", "+15550009010", "--base-url", "http://127.0.0.1:9", env={**alone, **settings})
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr


def test_dev_is_found_by_voice_and_the_readmes_script_makes_a_call(dev: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = readme.split("```python\n", 1)[1].split("```", 1)[0]
    environment = {**os.environ, **dev["env"]}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT_S, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"[A-Za-z0-9]+ normal ", done.stdout), done.stdout
    sid = done.stdout.split()[0]
    followed = next(line for line in dev["lines"] if sid in line)
    assert json.loads(followed)["to"] == "+15550009013"


def test_dev_prints_a_script_that_is_the_readmes() -> None:
    from clutchcall.cli import dev as module

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = [line.split("  #")[0] for line in module._SCRIPT.splitlines()]
    written = [line.split("  #")[0] for line in readme.split("```python\n", 1)[1].split("```", 1)[0].splitlines()]
    assert printed == written


def test_a_minted_key_opens_an_engine_that_was_given_its_hash(alone: dict[str, str], tmp_path: Path) -> None:
    minted = run("keys", "mint", "--org", "org_abc")
    key, rows = minted.stdout.split("\n\n", 1)
    file = tmp_path / "clutchcall.toml"
    file.write_text(
        f'state = "state"\n[api]\nlisten = "127.0.0.1:0"\n[relay]\nlisten = "127.0.0.1:0"\n{rows}'
        '[trunks.trunk_main]\nkind = "phone"\n',
        encoding="utf-8",
    )
    serve = subprocess.Popen(command("serve", "--config", file, "--json"), stdout=subprocess.PIPE, text=True)
    with serve as process:
        assert process.stdout is not None
        served = json.loads(process.stdout.readline())
        settings = {"CLUTCHCALL_API_KEY": key, "CLUTCHCALL_ORG_ID": "org_abc"}
        environment = {**alone, **settings, "CLUTCHCALL_BASE_URL": served["base_url"]}
        done = run("call", "+15550009486", "--json", env=environment)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LIMIT_S) == 0
    assert json.loads(done.stdout)["end_reason"] == "busy", done.stderr


def test_the_example_of_a_configuration_starts_an_engine(tmp_path: Path) -> None:
    example = run("serve", "--example").stdout
    (tmp_path / "clutchcall.toml").write_text(example, encoding="utf-8")
    ports = {"CLUTCHCALL_API_LISTEN": "127.0.0.1:0", "CLUTCHCALL_RELAY_LISTEN": "127.0.0.1:0"}
    serve = subprocess.Popen(
        command("serve", "--json"), stdout=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, **ports}
    )
    with serve as process:
        assert process.stdout is not None
        assert set(json.loads(process.stdout.readline())) == {"base_url", "relay_url"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LIMIT_S) == 0


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "clutchcall.toml"
    file.write_text('state = "state"\n[relay]\nlissten = "127.0.0.1:0"\n', encoding="utf-8")
    done = run("serve", "--config", file)
    assert done.returncode == 2
    assert "relay.lissten" in done.stderr
    assert "listen" in done.stderr.replace("lissten", "")


def test_doctor_finds_a_machine_that_can_call(alone: dict[str, str]) -> None:
    done = run("doctor", "--json", env=alone)
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, findings
    assert findings["call"]["verdict"] == "ok"
    checks = ["interpreter", "wheel", "libopus", "UDP buffers", "open files", "certificate", "call"]
    assert list(findings) == checks
    for finding in findings.values():
        assert finding["verdict"] == "ok" or finding["remedy"], finding
