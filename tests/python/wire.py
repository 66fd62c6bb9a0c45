"""RTP as it is on the loopback interface, seen by neither of the two that talk there."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

ETH_P_IP = 0x0800
UDP = 17
RTP_HEADER = 12
# More than a minute of everything that these tests send.
ROOM = 32 * 1024 * 1024


class Wire:
    """Keeps every RTP packet between two ranges of ports. Needs the right to see packets (root has it)."""

    def __init__(self) -> None:
        # By protocol: then each packet is seen once, where it arrives.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self._socket.bind(("lo", ETH_P_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, ROOM)  # SO_RCVBUFFORCE
        self._socket.settimeout(0.1)
        self._packets: list[tuple[int, int, bytes]] = []
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, name="wire", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            try:
                packet = self._socket.recv(4096)
            except TimeoutError:
                continue
            head = (packet[0] & 0x0F) * 4
            if packet[9] != UDP or len(packet) < head + 8 + RTP_HEADER or packet[head + 8] >> 6 != 2:
                continue
            source, target = (int.from_bytes(packet[head + at : head + at + 2], "big") for at in (0, 2))
            length = int.from_bytes(packet[head + 4 : head + 6], "big")
            self._packets.append((source, target, packet[head + 8 : head + length]))

    def payloads(self, source: range, target: range, payload_types: set[int]) -> list[bytes]:
        """In the order of their sequence numbers."""
        found = [
            data
            for from_port, to_port, data in list(self._packets)
            if from_port in source and to_port in target and data[1] & 0x7F in payload_types
        ]
        first = int.from_bytes(found[0][2:4], "big") if found else 0
        found.sort(key=lambda data: (int.from_bytes(data[2:4], "big") - first) & 0xFFFF)
        return [data[RTP_HEADER:] for data in found]

    def close(self) -> None:
        self._ended.set()
        self._reader.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
