"""Ports that nobody takes between being named and being bound. As `tests/sip/ports.rs` has them, from the same blocks.

They lie below those that the kernel gives out by itself. Whoever has bound the first port of a block has the block.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import socket
import sys
from pathlib import Path

FIRST = 10_000
BLOCKS = 10
# Of a block, and what is given at a time.
PORTS = 2000
RUN = 20


def bound(port: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket | None:
    sock = socket.socket(socket.AF_INET, kind)
    # A TCP port is free again as soon as nobody listens there.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        return None
    return sock


class Block:
    def __init__(self) -> None:
        for first in range(FIRST, FIRST + BLOCKS * PORTS, PORTS):
            if mark := bound(first):
                # Held while the process lives.
                atexit.register(mark.close)
                self._runs = itertools.cycle(range(first + RUN, first + PORTS, RUN))
                return
        raise AssertionError("more than ten test programs at a time")

    def take(self) -> int:
        for port in itertools.islice(self._runs, PORTS // RUN):
            socks = [bound(port + nth) for nth in range(RUN)] + [bound(port, socket.SOCK_STREAM)]
            for sock in socks:
                if sock:
                    sock.close()
            if all(socks):
                return port
        raise AssertionError("no run of ports is free")


@functools.cache
def _block() -> Block:
    return Block()


def free_port() -> int:
    """An even one that nobody else has or listens at, and neither the 19 above it."""
    return _block().take()


def is_taken(port: int) -> bool:
    """Whether somebody has this UDP port of 127.0.0.1. Binding it to see would take it from whoever is about to."""
    place = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), sys.byteorder):08X}:{port:04X}"
    return any(line.split()[1] == place for line in Path("/proc/net/udp").read_text().splitlines())
