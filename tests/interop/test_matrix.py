"""The interop matrix: cells of `cells`, carried out by `conversation`, and the runner's cases by both clients.

The short form (no mark) is part of every test run; `make interop` runs all and writes the table of `docs/interop.md`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from cells import DRAFTS, OURS, RELAYS, WIRES, Cell, cells, is_short, known, known_case
from conversation import converse
from stacks import AnyRelay, Certificate, peers_python, relay_of
from table import Record

from clutchcall import _core

Start = Callable[[str, int], AnyRelay]
# All cases of one client, one after another.
CASES_LIMIT_S = 240


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a relay for a draft, or gives the one that runs already."""
    certificate = Certificate.minted(tmp_path_factory.mktemp("certificate"))
    running: dict[tuple[str, int], AnyRelay] = {}

    def started(name: str, draft: int) -> AnyRelay:
        # Ours speaks one draft at a time; theirs speak all they know, and the client chooses.
        key = (name, draft if name == "clutchcall" else 0)
        if key not in running:
            running[key] = relay_of(name, certificate, tmp_path_factory.mktemp("relay"), draft)
        return running[key]

    yield started
    for relay in running.values():
        relay.close()


@pytest.fixture(scope="session")
def record() -> Iterator[Record]:
    """What was found; at the end of the run it is written down where somebody wants it."""
    record = Record()
    yield record
    if path := os.environ.get("CLUTCHCALL_INTEROP_TABLE"):
        record.write(Path(path))


def param(cell: Cell) -> object:
    return pytest.param(cell, id=str(cell), marks=[] if is_short(cell) else [pytest.mark.matrix])


@pytest.mark.parametrize("cell", [param(cell) for cell in cells()])
def test_every_frame_and_every_stamp(cell: Cell, start: Start, record: Record) -> None:
    failure = known(cell)
    try:
        converse(start(cell.relay, cell.draft), cell)
    except AssertionError as error:
        if failure is None:
            record.cell(cell, f"fails: {error}")
            raise
        said = str(error)
    else:
        assert failure is None, f"it passes, although {failure.reason}: take that out of `known`"
        record.cell(cell, "pass")
        return
    proof = cell.evidence()
    with pytest.raises(AssertionError) as without_us:
        converse(start(proof.relay, proof.draft), proof)
    record.peer_failure(cell, failure.reason, said, f"{proof}: {without_us.value}")


def wired(relays: tuple[str, ...]) -> Sequence[object]:
    """Relay × draft × wire."""
    found = []
    for relay in relays:
        for draft in DRAFTS:
            for wire in WIRES:
                short = draft == DRAFTS[0] and relay in (OURS, "aiomoqt")
                marks = [] if short else [pytest.mark.matrix]
                found.append(pytest.param(relay, draft, wire, id=f"{relay}-{draft}-{wire}", marks=marks))
    return found


@pytest.mark.timeout(CASES_LIMIT_S)
@pytest.mark.parametrize(("relay", "draft", "wire"), wired((OURS, *RELAYS)))
def test_our_cases(relay: str, draft: int, wire: str, start: Start, record: Record) -> None:
    """`clutchcall interop` against everybody's relay."""
    there = start(relay, draft)
    command = [sys.executable, "-m", "clutchcall.cli", "interop", "--tls-disable-verify", "--draft", str(draft)]
    environment = {"RELAY_URL": there.url(wire), "AUTH_TOKEN": there.token or ""}
    judge(OURS, (relay, draft, wire), verdicts(command, environment), record)


@pytest.mark.timeout(CASES_LIMIT_S)
@pytest.mark.parametrize(("relay", "draft", "wire"), wired((OURS, *RELAYS)))
def test_aiomoqts_cases(relay: str, draft: int, wire: str, start: Start, record: Record) -> None:
    """aiomoqt's client of the interop runner against our relay; against its own and the others it is the evidence."""
    there = start(relay, draft)
    program = Path(peers_python()).with_name("moq-interop-client")
    # It sends a token with PUBLISH_NAMESPACE only, and none of a URL's query over WebTransport.
    url = there.url(wire) + (there.token or "")
    found: dict[str, tuple[bool, str]] = {}
    for case in [None, "fetch", "join"]:
        command = [str(program), "-r", url, "--tls-disable-verify", "--draft", str(draft)]
        found |= verdicts(command + (["-t", case] if case else []), {})
    judge("aiomoqt", (relay, draft, wire), found, record)


def verdicts(command: list[str], environment: dict[str, str]) -> dict[str, tuple[bool, str]]:
    """Case by case: whether it passed, and what was said about it."""
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=CASES_LIMIT_S
    )
    text = ended.stdout
    assert "TAP version 14\n" in text, text + ended.stderr
    assert "Bail out!" not in text, text
    found = {}
    for block in re.split(r"^(?=ok |not ok )", text, flags=re.M)[1:]:
        head = re.match(r"(ok|not ok) \d+ - (\S+)( # SKIP)?", block)
        assert head is not None, block
        received = re.search(r"^ +(?:received|message): (.*)$", block, flags=re.M)
        if not head[3]:
            said = received[1] if received else ""
            found[head[2]] = (head[1] == "ok", json.loads(said) if said.startswith('"') else said)
    planned = re.search(r"^1\.\.(\d+)$", text, flags=re.M)
    assert planned is not None
    assert ended.returncode == (0 if all(passed for passed, _ in found.values()) else 1)
    return found


def judge(client: str, where: tuple[str, int, str], found: dict[str, tuple[bool, str]], record: Record) -> None:
    """Every case passes but those that this relay is known to fail; those must."""
    relay, _draft, _wire = where
    record.cases(client, where, found)
    wrong = []
    for case, (passed, said) in found.items():
        reason = known_case(relay, case)
        if passed == (reason is None) or OURS not in (client, relay):
            # What aiomoqt's client and a foreign relay have with each other is told in the table: not ours to judge.
            continue
        wrong.append(
            f"{case} passes, although {relay} {reason}: take that out of `known_case`" if passed else f"{case}: {said}"
        )
    assert not wrong, "\n".join(wrong)
    assert found


def test_what_is_no_case_of_ours() -> None:
    command = [sys.executable, "-m", "clutchcall.cli", "interop"]
    environment = {**os.environ, "RELAY_URL": "moqt://127.0.0.1:9", "TESTCASE": "no-such-case"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert (ended.returncode, "# SKIP" in ended.stdout) == (127, True), ended
    ended = subprocess.run([*command, "--draft", "7"], capture_output=True, text=True, env=environment, timeout=60)
    assert ended.returncode == 127, ended
    ended = subprocess.run([*command, "--list"], capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == _core.interop_cases()


def test_nobody_there_is_a_bail_out() -> None:
    """Port 9 of loopback: nobody listens, and the system says so or nothing."""
    command = [sys.executable, "-m", "clutchcall.cli", "interop", "-r", "moqt://127.0.0.1:9", "-t", "setup-only"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "not ok 1 - setup-only" in ended.stdout or "Bail out!" in ended.stdout, ended.stdout
