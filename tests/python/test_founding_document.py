"""Every heading of the founding document has its tests, and neither headings nor snippets drift from it."""

from __future__ import annotations

import ast
import os
from collections import Counter
from pathlib import Path

import pytest
from founding import HEADINGS, SNIPPETS

FOLDER = Path(__file__).parent


def written() -> list[str]:
    """Names of the tests in the files of the document's own."""
    found = []
    for path in sorted(FOLDER.glob("test_founding_*.py")):
        if path == Path(__file__):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.append(node.name)
    return found


def slug(test: str) -> str | None:
    """The longest one that fits: some begin as others do."""
    fitting = [slug for slug in HEADINGS.values() if test == f"test_{slug}" or test.startswith(f"test_{slug}_")]
    return max(fitting, key=len, default=None)


def test_every_heading_has_its_tests_and_every_test_its_heading() -> None:
    of = Counter(slug(test) for test in written())
    assert of.pop(None, 0) == 0, [test for test in written() if slug(test) is None]
    assert set(of) == set(HEADINGS.values())


def test_no_test_hides_another() -> None:
    assert [name for name, times in Counter(written()).items() if times > 1] == []


def test_the_document_still_says_so() -> None:
    """Where the document is at hand, headings and snippets are compared with it."""
    path = os.environ.get("CLUTCHCALL_DOCUMENT")
    if not path:
        pytest.skip("CLUTCHCALL_DOCUMENT is not set")
    document = Path(path).read_text(encoding="utf-8")
    # Comments in its snippets begin as headings do.
    lines = [line for number, part in enumerate(document.split("```")) if number % 2 == 0 for line in part.splitlines()]
    assert [line for line in lines if line.startswith("#")] == list(HEADINGS)
    for name, text in SNIPPETS.items():
        assert text.strip() in document, name
