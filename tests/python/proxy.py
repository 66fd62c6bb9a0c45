"""UDP between two processes: counted, and cut when a test says so."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_BUFFER = 4 << 20
_DATAGRAM = 65_535
# Datagrams that one socket gives before the others have their turn.
_TURN = 64


@dataclass(frozen=True)
class Packets:
    """Datagrams passed on: towards the server, and back."""

    there: int = 0
    back: int = 0

    def __sub__(self, other: Packets) -> Packets:
        return Packets(self.there - other.there, self.back - other.back)

    @property
    def both(self) -> int:
        return self.there + self.back


class UdpProxy:
    """A port of loopback that stands for another one. Each client has its own socket towards the server."""

    def __init__(self) -> None:
        self._front = _socket()
        self._front.bind(("127.0.0.1", 0))
        self.port: int = self._front.getsockname()[1]
        self._target = 0
        self._cut = False
        self._there = self._back = 0
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._front, selectors.EVENT_READ)
        self._bell, bell = socket.socketpair()
        self._selector.register(bell, selectors.EVENT_READ)
        self._ring = bell
        self._thread = threading.Thread(target=self._run, name="udp-proxy", daemon=True)
        self._thread.start()

    def lead_to(self, port: int) -> None:
        """Where the server is."""
        self._target = port

    @property
    def packets(self) -> Packets:
        return Packets(self._there, self._back)

    def cut_for(self, seconds: float) -> tuple[Packets, int]:
        """A partition: all that comes is dropped. What was passed on meanwhile, and when it healed (monotonic µs)."""
        self._cut = True
        # The datagram that is under way in this moment may still pass.
        before = self._settled()
        threading.Event().wait(seconds)
        passed = self.packets - before
        self._cut = False
        return passed, time.monotonic_ns() // 1000

    def close(self) -> None:
        self._bell.close()
        self._thread.join(10.0)
        for one in (self._front, self._ring, *self._sockets.values()):
            one.close()
        self._selector.close()

    def _settled(self) -> Packets:
        pause = threading.Event()
        while True:
            before = self.packets
            pause.wait(0.02)
            if before == self.packets:
                return before

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._ring:
                    return
                if key.fileobj is self._front:
                    self._forward()
                else:
                    self._return(key.fileobj, key.data)  # type: ignore[arg-type]

    def _forward(self) -> None:
        for _ in range(_TURN):
            try:
                data, client = self._front.recvfrom(_DATAGRAM)
            except BlockingIOError:
                return
            if self._cut or self._target == 0:
                continue
            try:
                self._towards_server(client).send(data)
            except OSError:
                continue  # Nobody listens there now, or the kernel has no room: lost, as on any path.
            self._there += 1

    def _towards_server(self, client: tuple[str, int]) -> socket.socket:
        known = self._sockets.get(client)
        if known is None:
            known = self._sockets[client] = _socket()
            known.connect(("127.0.0.1", self._target))
            self._selector.register(known, selectors.EVENT_READ, client)
        return known

    def _return(self, server: socket.socket, client: tuple[str, int]) -> None:
        for _ in range(_TURN):
            try:
                data = server.recv(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # The port was closed when the last datagram reached it.
            if self._cut:
                continue
            try:
                self._front.sendto(data, client)
            except OSError:
                continue
            self._back += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    return made
