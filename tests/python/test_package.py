"""What the package weighs: its import, its dependencies, its wheel."""

import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

MIB = 1 << 20
# A private key, an API key, an address of somebody's.
PRIVATE = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY|tqs_live_[0-9A-Za-z]{16}"
    rb"|(?<![\d.])(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"
)


def run(code: str) -> str:
    """Runs `code` in a bare interpreter and returns what it printed."""
    return subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    "module", ["clutchcall", *(f"clutchcall.{name}" for name in ("cli", "engine", "errors", "media", "moqt", "voice"))]
)
def test_import_starts_nothing(module: str) -> None:
    out = run(
        "import os, sys; tasks = len(os.listdir('/proc/self/task')); fds = len(os.listdir('/proc/self/fd'))\n"
        f"import {module}\n"
        "print(len(os.listdir('/proc/self/task')) - tasks, len(os.listdir('/proc/self/fd')) - fds,"
        " [m for m in ('asyncio', 'ssl', 'urllib.request', 'http.client', 'numpy', 'logging') if m in sys.modules])"
    )
    assert out == "0 0 []"


def test_import_brings_few_modules() -> None:
    out = run("import sys; before = set(sys.modules)\nimport clutchcall.voice\nprint(len(set(sys.modules) - before))")
    assert int(out) <= 45


def test_import_brings_little_memory() -> None:
    if not os.environ.get("CLUTCHCALL_WHEEL"):
        pytest.skip("CLUTCHCALL_WHEEL is not set: only the release build is meant; `make test-python` sets it")
    resident = "int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()"
    out = run(f"import resource; before = {resident}\nimport clutchcall.voice\nprint({resident} - before)")
    assert int(out) <= 8 * MIB


def test_no_dependencies() -> None:
    assert metadata.requires("clutchcall") in (None, [])


def test_version_is_the_distributions() -> None:
    assert run("import clutchcall; print(clutchcall.__version__)") == metadata.version("clutchcall")


@pytest.mark.parametrize("private", ["-----BEGIN RSA PRIVATE KEY", "tqs_live_0123456789abcdef", "at 203.0.113.7:5060"])
def test_what_is_private_is_known(private: str) -> None:
    assert PRIVATE.search(private.encode())
    assert not PRIVATE.search(b"127.0.0.1, 0.0.0.0:80, tqs_live_, version 1.2.3")


def test_wheel_is_small_typed_and_private() -> None:
    wheel = os.environ.get("CLUTCHCALL_WHEEL")
    if not wheel:
        pytest.skip("CLUTCHCALL_WHEEL is not set: `make test-python` sets it")
    assert Path(wheel).stat().st_size <= 6 * MIB
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
        assert sum(entry.file_size for entry in entries) <= 16 * MIB
        names = {entry.filename for entry in entries}
        assert {"clutchcall/py.typed", "clutchcall/_core.pyi", "clutchcall/_core.abi3.so"} <= names
        home = str(Path.home()).encode() + b"/"
        here = str(Path(__file__).parents[2]).encode() + b"/"
        for entry in entries:
            content = archive.read(entry)
            assert home not in content, f"{entry.filename} names the build machine's home"
            assert here not in content, f"{entry.filename} names the build folder"
            # The library has the words that key files begin with: it reads them.
            found = None if entry.filename.endswith(".so") else PRIVATE.search(content)
            assert found is None, f"{entry.filename} holds {found}"
