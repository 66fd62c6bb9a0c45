"""The public names: what they are, that each is documented, and that each is typed.

`surface.txt` is what the package promises. A change of it is a change for users: `CLUTCHCALL_SURFACE=write` rewrites
it, and the change log says why.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MODULES = [
    "clutchcall",
    *(f"clutchcall.{name}" for name in ("engine", "errors", "media", "moqt", "relay", "types", "voice")),
]
KEPT = Path(__file__).with_name("surface.txt")
# Of protocols that everybody knows.
KNOWN = {"__init__", "__repr__", "__enter__", "__exit__", "__aenter__", "__aexit__"}
KNOWN |= {"__iter__", "__next__", "__aiter__", "__anext__"}


def public(module: str) -> Iterator[tuple[str, Any]]:
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        yield f"{module}.{name}", getattr(loaded, name)


def members(name: str, value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """A class's own and inherited public members, as they stand in it."""
    if not inspect.isclass(value):
        return
    for member in sorted(dir(value)):
        own = next((kind.__dict__[member] for kind in value.__mro__ if member in kind.__dict__), None)
        origin = next((kind for kind in value.__mro__ if member in kind.__dict__), object)
        if origin.__module__.partition(".")[0] != "clutchcall":
            continue
        if not member.startswith("_") or (member in KNOWN and member != "__repr__"):
            yield f"{name}.{member}", own


def line(name: str, value: Any) -> str:  # noqa: ANN401
    if isinstance(value, (classmethod, staticmethod)):
        value = value.__func__
    if inspect.isclass(value):
        return f"class {name}({', '.join(base.__name__ for base in value.__bases__)})"
    if inspect.isroutine(value):
        signature = str(inspect.signature(value))
        return f"{'async ' if inspect.iscoroutinefunction(value) else ''}def {name}{signature}"
    return name


def surface() -> list[str]:
    lines = []
    for module in MODULES:
        for name, value in public(module):
            lines.append(line(name, value))
            lines += [line(member, of) for member, of in members(name, value)]
    return lines


def test_the_names_are_those_that_were_promised() -> None:
    text = "\n".join(surface()) + "\n"
    if os.environ.get("CLUTCHCALL_SURFACE") == "write":
        KEPT.write_text(text)
    assert text.splitlines() == KEPT.read_text().splitlines()


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_documented(module: str) -> None:
    silent = []
    for name, value in public(module):
        if inspect.isclass(value) or inspect.isroutine(value):
            silent += [name] if not inspect.getdoc(value) else []
        for member, of in members(name, value):
            if member.rpartition(".")[2] in KNOWN or not (inspect.isroutine(of) or isinstance(of, property)):
                continue
            silent += [member] if not inspect.getdoc(of) else []
    assert silent == []
