"""What a public docstring must hold: every argument, its unit, the errors, and where the rules come from.

That each name has a docstring at all is `test_surface.py`'s. A docstring may lean on another by naming it in backticks,
as the twins of `AsyncVoice` do and what stands on a caller's bridge; that other one is then held to the same.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from test_surface import KNOWN, MODULES, members, public

from clutchcall import errors

# Classes that users are given, not make: of their arguments nobody needs to know.
GIVEN = {"AudioPublication", "AudioSubscription", "MoqtClient", "Frame", "BridgeStats", "Agent"}
GIVEN |= {
    f"{sort}{name}"
    for sort in ("", "Async")
    for name in (
        "Agents",
        "AudioBridge",
        "AudioBridges",
        "Call",
        "CallEvents",
        "CallPage",
        "Calls",
        "Frames",
        "Trunks",
        "Trunk",
        "TrunkTest",
    )
}
# How a unit is written, for a name that ends so.
UNITS = {
    "_ms": r"\bms\b|[Mm]illiseconds?",
    "_us": r"\bµs\b|[Mm]icroseconds?|monotonic_ns\(\) // 1000",
    "_sec": r"\b\d* ?s\b|[Ss]econds?",
    "timeout": r"\b\d* ?s\b|[Ss]econds?",
    "_bytes": r"[Bb]ytes?",
    "_rate": r"\bk?Hz\b",
}


def documented() -> Iterator[tuple[str, Any, str]]:
    """Every public routine and class with its name and the docstring that users see for it."""
    for module in MODULES:
        for name, value in public(module):
            if inspect.isclass(value) or inspect.isroutine(value):
                yield name, value, inspect.getdoc(value) or ""
            for member, of in members(name, value):
                if member.rpartition(".")[2] not in KNOWN and (inspect.isroutine(of) or isinstance(of, property)):
                    yield member, of, inspect.getdoc(of) or ""


def signature(value: Any) -> inspect.Signature | None:  # noqa: ANN401
    if isinstance(value, (classmethod, staticmethod)):
        value = value.__func__
    if isinstance(value, property):
        return None
    try:
        return inspect.signature(value)
    except (TypeError, ValueError):
        return None


def arguments(value: Any) -> list[str]:  # noqa: ANN401
    found = signature(value)
    if found is None or (inspect.isclass(value) and (issubclass(value, BaseException) or value.__name__ in GIVEN)):
        return []
    return [name for name in found.parameters if name not in ("self", "cls", "_cls") and not name.startswith("_")]


def with_leanings(name: str, text: str) -> str:
    """The docstring, and those that it names as saying the rest: `AudioBridge.attach`, or a sister's plain name."""
    whole, seen, next_up = "", set(), [(name, text)]
    while next_up:
        here, its = next_up.pop()
        if here in seen:
            continue
        seen.add(here)
        whole += its + "\n"
        owner = here.rpartition(".")[0]
        for said in re.findall(r"`((?:\w+\.)*\w+)(?:\(\))?`", its):
            next_up += [
                (other, of) for other, _, of in DOCUMENTED if other in (f"{owner}.{said}", f"clutchcall.voice.{said}")
            ]
    return whole


DOCUMENTED = list(documented())
ROUTINES = [(name, value, text) for name, value, text in DOCUMENTED if arguments(value)]


@pytest.mark.parametrize(("name", "value", "text"), ROUTINES, ids=[name for name, *_ in ROUTINES])
def test_every_argument_is_described(name: str, value: Any, text: str) -> None:  # noqa: ANN401
    whole = with_leanings(name, text)
    missing = [each for each in arguments(value) if not re.search(rf"^\s*{each}:|`{each}`", whole, re.M)]
    assert not missing, f"{name} says nothing of {missing}:\n{text}"


@pytest.mark.parametrize(("name", "value", "text"), DOCUMENTED, ids=[name for name, *_ in DOCUMENTED])
def test_every_quantity_has_its_unit(name: str, value: Any, text: str) -> None:  # noqa: ANN401
    whole = with_leanings(name, text)
    for each in [*arguments(value), *([name.rpartition(".")[2]] if isinstance(value, property) else [])]:
        unit = next((how for ending, how in UNITS.items() if each.endswith(ending)), None)
        assert unit is None or re.search(unit, whole), f"{name}: in which unit is {each}?"


@pytest.mark.parametrize(("name", "value", "text"), ROUTINES, ids=[name for name, *_ in ROUTINES])
def test_what_can_be_refused_says_how(name: str, value: Any, text: str) -> None:  # noqa: ANN401
    assert "Raises:" in with_leanings(name, text) or inspect.isclass(value), (
        f"{name} takes arguments and names no error"
    )


def test_errors_that_are_named_exist() -> None:
    for name, _, text in DOCUMENTED:
        raised = text.partition("Raises:")[2]
        for kind in re.findall(r"^\s+([A-Z]\w+(?:Error|Closed|Unreachable)?):", raised, re.M):
            assert hasattr(errors, kind) or hasattr(builtins, kind), f"{name} names {kind}"


@pytest.mark.parametrize("module", [each for each in MODULES if each not in ("clutchcall", "clutchcall.errors")])
def test_each_module_names_its_source(module: str) -> None:
    text = importlib.import_module(module).__doc__ or ""
    assert re.search(r"RFC \d+|draft-ietf|§|ITU-T", text), f"{module} does not say which document its rules are from"
