"""A network namespace with one cable to this host: pulled out and plugged in, with addresses that come and go.

Linux and root only. Without them a test that wants one is skipped and says why; with CI set it fails instead.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import subprocess
import warnings
from types import TracebackType
from typing import Self

import pytest

_PREFIX = "ccall"
_numbers = itertools.count(1)


def wanted() -> None:
    """Skips the test, loudly, where no namespace can be had."""
    reason = ""
    if shutil.which("ip") is None:
        reason = "there is no `ip` (Debian: iproute2)"
    elif os.geteuid() != 0:
        reason = "network namespaces want root"
    elif subprocess.run(["ip", "netns", "add", _name(0)], capture_output=True).returncode != 0:
        reason = "this kernel, or this container, gives no network namespace"
    else:
        _ip("netns", "delete", _name(0))
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        warnings.warn(pytest.PytestWarning(f"left out: {reason}"), stacklevel=2)
        pytest.skip(reason)


class Namespace:
    """One namespace. `host` is our end's address, `guest` the first one of theirs; `inside` goes before a command."""

    def __init__(self) -> None:
        _sweep()
        number = next(_numbers)
        self._name = _name(number)
        # Two processes that test at once have different nets, as far as their numbers differ.
        net = f"10.{200 + number % 50}.{os.getpid() % 256}"
        self.host, self.guest, self._net = f"{net}.1", f"{net}.2", net
        # At most 15 letters (IFNAMSIZ).
        self._ours, self._theirs = f"{self._name}h"[-15:], f"{self._name}g"[-15:]
        self.inside = ["ip", "netns", "exec", self._name]
        atexit.register(self.close)
        _ip("netns", "add", self._name)
        _ip("link", "add", self._ours, "type", "veth", "peer", "name", self._theirs, "netns", self._name)
        _ip("address", "add", f"{self.host}/24", "dev", self._ours)
        _ip("link", "set", self._ours, "up")
        self._inside("link", "set", "lo", "up")
        self._inside("address", "add", f"{self.guest}/24", "dev", self._theirs)
        self._inside("link", "set", self._theirs, "up")

    def pull(self) -> None:
        """The cable is out: the guest's own end goes down, and with it the way to us."""
        self._inside("link", "set", self._theirs, "down")

    def plug(self) -> None:
        self._inside("link", "set", self._theirs, "up")

    def move(self, last: int) -> str:
        """The guest has another address from now on, and the former one no more."""
        address = f"{self._net}.{last}"
        self._inside("address", "add", f"{address}/24", "dev", self._theirs)
        self._inside("address", "delete", f"{self.guest}/24", "dev", self._theirs)
        # The first address of a net takes those that came later with it, unless the kernel promotes them.
        self._inside("address", "replace", f"{address}/24", "dev", self._theirs)
        self.guest = address
        return address

    def close(self) -> None:
        atexit.unregister(self.close)
        # The cable goes with either end; what is gone already is gone.
        subprocess.run(["ip", "link", "delete", self._ours], capture_output=True)
        subprocess.run(["ip", "netns", "delete", self._name], capture_output=True)

    def _inside(self, *words: str) -> None:
        _ip("-netns", self._name, *words)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _name(number: int) -> str:
    return f"{_PREFIX}{os.getpid()}n{number}"


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def _sweep() -> None:
    """Namespaces of test runs that were killed."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix(_PREFIX).partition("n")[0]
        if name.startswith(_PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
