"""When SIP messages were on the wire: the kernel's own times of what passes loopback, for one UDP port.

A raw socket with a filter in the kernel (packet(7)), so that RTP beside it costs nothing here. It needs root.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from dataclasses import dataclass, field

SO_ATTACH_FILTER, SO_TIMESTAMPNS, SO_RCVBUFFORCE = 26, 35, 33
ETH_P_IP, PACKET_OUTGOING = 0x0800, 4
UDP = 17
BUFFER_BYTES = 8 << 20
LOOK_S = 0.2


def of_port(port: int) -> bytes:
    """UDP from or to this port, in the words of the kernel's packet filter; without a link header."""
    accept, reject = 7, 8
    program = [
        (0x30, 0, 0, 9),  # the protocol
        (0x15, 0, reject - 2, UDP),
        (0xB1, 0, 0, 0),  # where IP's header ends
        (0x48, 0, 0, 0),  # the source port
        (0x15, accept - 5, 0, port),
        (0x48, 0, 0, 2),  # the destination
        (0x15, 0, reject - 7, port),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    ]
    return b"".join(struct.pack("HBBI", *row) for row in program)


@dataclass
class Seen:
    """One call's messages, in nanoseconds of the wall clock; the first of each kind."""

    number: str = ""
    at_ns: dict[str, int] = field(default_factory=dict)


class Wire:
    """Watches a port until it is closed; `calls` by Call-ID."""

    def __init__(self, port: int) -> None:
        self.calls: dict[str, Seen] = {}
        self.lost = 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        program = of_port(port)
        held = ctypes.create_string_buffer(program)
        words = struct.pack("HP", len(program) // 8, ctypes.addressof(held))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, words)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._socket.bind(("lo", ETH_P_IP))
        self._socket.settimeout(LOOK_S)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                packet, extra, _, source = self._socket.recvmsg(65_535, 256)
            except TimeoutError:
                continue
            if source[2] != PACKET_OUTGOING:
                self._note(packet, extra)

    def _note(self, packet: bytes, extra: list[tuple[int, int, bytes]]) -> None:
        stamps = [data for level, kind, data in extra if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS)]
        if not stamps:
            return
        secs, nanos = struct.unpack("qq", stamps[0][:16])
        text = packet[4 * (packet[0] & 15) + 8 :].decode("latin-1")
        head = text.split("\r\n\r\n", 1)[0].split("\r\n")
        named = {
            line.split(":", 1)[0].strip().lower(): line.split(":", 1)[1].strip() for line in head[1:] if ":" in line
        }
        sequence = named.get("cseq", " ").split()
        if len(sequence) != 2 or "call-id" not in named:
            return
        what = head[0].split(" ")[1] + " " + sequence[1] if head[0].startswith("SIP/") else sequence[1]
        seen = self.calls.setdefault(named["call-id"], Seen())
        seen.at_ns.setdefault(what, secs * 1_000_000_000 + nanos)
        if what == "INVITE":
            seen.number = head[0].split("sip:", 1)[1].split("@", 1)[0]
