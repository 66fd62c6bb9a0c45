"""Every test that `docs/` names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clutchcall.voice import Call

ROOT = Path(__file__).parents[2]
PAPERS = sorted((ROOT / "docs").glob("*.md"))
NAMED = re.compile(r"`((?:tests|src|crates)/[\w/]+\.(?:py|rs))::(\w+)`")


def named(paper: Path) -> list[tuple[str, str]]:
    return NAMED.findall(paper.read_text(encoding="utf-8"))


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_the_tests_that_it_names_exist(paper: Path) -> None:
    missing = []
    for file, test in named(paper):
        path = ROOT / file
        keyword = "def" if file.endswith(".py") else "fn"
        if not path.exists() or not re.search(rf"\b{keyword} {test}\(", path.read_text(encoding="utf-8")):
            missing.append(f"{file}::{test}")
    assert missing == []


@pytest.mark.parametrize("name", ["reliability.md", "states.md", "verdicts.md"])
def test_every_row_names_a_test(name: str) -> None:
    rows = [line for line in (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    body = [row for row in rows if not row.startswith(("| Fault", "| #", "| Feature", "| what happens"))]
    assert len(body) > 15
    assert [row for row in body if not NAMED.search(row)] == []


def test_every_row_of_the_state_table_is_told() -> None:
    named_tests = {test for _, test in named(ROOT / "docs/states.md")}
    for file in ("table", "transfers", "inbound"):
        source = (ROOT / f"src/call/tests/{file}.rs").read_text(encoding="utf-8")
        rows = set(re.findall(r"#\[test\]\s+fn (\w+)", source))
        assert rows - named_tests == set(), file


def test_every_end_reason_is_told_to_users() -> None:
    source = (ROOT / "src/call/reason.rs").read_text(encoding="utf-8").partition("impl EndReason")[2]
    reasons = set(re.findall(r'Self::\w+ => "(\w+)"', source))
    assert len(reasons) > 20
    assert reasons == set(re.findall(r"`(\w+)`", Call.end_reason.__doc__ or ""))
