"""A far end of a SIP trunk, as small as a test needs: it answers, gives back what it hears, presses and hears keys.

One call at a time, over UDP on loopback, on a thread of its own for signalling and one for audio.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from listening import LIMIT_S

KEYS = "0123456789*#ABCD"
EVENTS = 101
# Of an engine with `settings`.
ORG = "org_far"
KEY = "tqs_live_of_who_calls_the_far_end"
EVENT_MS = 100
# Of one key: packets without an end, and three with it.
STEPS = (20, 60, EVENT_MS, EVENT_MS, EVENT_MS)


class FarEnd:
    """Whoever is called over a trunk that leads to `port`."""

    def __init__(self) -> None:
        self._sip = _bound()
        self._rtp = _bound()
        self._us: tuple[str, int] | None = None
        self._sequence = 0
        self._timestamp = 0
        self._lock = threading.Condition()
        self._ends: dict[int, list[int]] = {}
        self._heard = 0
        self._closed = False
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._signal, self._talk)]
        for thread in self._threads:
            thread.start()

    @property
    def port(self) -> int:
        port: int = self._sip.getsockname()[1]
        return port

    def trunk(self, rtp_from: int) -> dict[str, object]:
        """The settings of a trunk that leads here."""
        return {
            "sbc_ip": "127.0.0.1",
            "destination_sbc_port": self.port,
            "source_pbx_port": 0,
            "channel_limit": 4,
            "options_interval_sec": 0,
            "rtp_start_port": rtp_from,
            "rtp_end_port": rtp_from + 39,
        }

    def press(self, keys: str) -> str:
        """Presses keys of 100 ms as telephone events (RFC 4733), once audio has come, and says which."""
        with self._lock:
            assert self._lock.wait_for(lambda: self._us is not None, LIMIT_S)
            for key in keys:
                self._timestamp += 8 * 400
                for ms in STEPS:
                    event = struct.pack("!BBH", KEYS.index(key), 0x8A if ms == EVENT_MS else 0x0A, ms * 8)
                    self._send(EVENTS, self._timestamp, event)
        return keys

    def pressed(self, count: int) -> list[tuple[str, int]]:
        """So many keys that were pressed for it, and how long each was, in milliseconds; each ended three times."""

        def whole() -> list[list[int]]:
            return [end for end in self._ends.values() if end[2] == 3]

        with self._lock:
            assert self._lock.wait_for(lambda: len(whole()) >= count, LIMIT_S), self._ends
            return [(KEYS[code], units // 8) for code, units, _ in whole()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for sock in (self._sip, self._rtp):
            # Wakes its reader.
            sock.sendto(b"", sock.getsockname())
        for thread in self._threads:
            thread.join(LIMIT_S)
        self._sip.close()
        self._rtp.close()

    def _signal(self) -> None:
        while not self._closed:
            data, peer = self._sip.recvfrom(65536)
            text = data.decode(errors="replace")
            method = text.partition(" ")[0]
            if method == "INVITE":
                self._sip.sendto(self._answer(text, "180 Ringing"), peer)
                self._sip.sendto(self._answer(text, "200 OK", self._description()), peer)
            elif method in ("BYE", "OPTIONS", "CANCEL", "INFO"):
                self._sip.sendto(self._answer(text, "200 OK"), peer)

    def _talk(self) -> None:
        while not self._closed:
            data, peer = self._rtp.recvfrom(2048)
            if len(data) < 12 or data[0] >> 6 != 2:
                continue
            kind, timestamp = data[1] & 0x7F, struct.unpack("!I", data[4:8])[0]
            with self._lock:
                self._us = peer
                if kind == EVENTS:
                    code, flags, units = struct.unpack("!BBH", data[12:16])
                    if flags & 0x80:
                        end = self._ends.setdefault(timestamp, [code, units, 0])
                        end[2] += 1
                    self._lock.notify_all()
                else:
                    self._timestamp += len(data) - 12
                    self._send(kind, self._timestamp, data[12:])

    def _send(self, kind: int, timestamp: int, payload: bytes) -> None:
        assert self._us is not None
        self._sequence = (self._sequence + 1) & 0xFFFF
        head = struct.pack("!BBHII", 0x80, kind, self._sequence, timestamp & 0xFFFFFFFF, 7)
        self._rtp.sendto(head + payload, self._us)
        self._lock.notify_all()

    def _description(self) -> str:
        lines = ["v=0", "o=far 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
        lines += [f"m=audio {self._rtp.getsockname()[1]} RTP/AVP 0 {EVENTS}", "a=rtpmap:0 PCMU/8000"]
        lines += [f"a=rtpmap:{EVENTS} telephone-event/8000", "a=ptime:20", ""]
        return "\r\n".join(lines)

    def _answer(self, request: str, status: str, body: str = "") -> bytes:
        kept = ("via", "from", "to", "call-id", "cseq")
        lines = [f"SIP/2.0 {status}"]
        for line in request.split("\r\n\r\n")[0].split("\r\n")[1:]:
            name = line.partition(":")[0].lower()
            if name in kept:
                lines.append(line if name != "to" or ";tag=" in line else f"{line};tag=far")
        lines.append(f"Contact: <sip:far@127.0.0.1:{self.port}>")
        if body:
            lines.append("Content-Type: application/sdp")
        lines.append(f"Content-Length: {len(body)}")
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def settings(trunks: Mapping[str, object]) -> dict[str, object]:
    """An engine's, with these trunks, on free ports of loopback."""
    loopback = {"listen": "127.0.0.1:0"}
    keys = [{"org": ORG, "key": KEY}]
    return {"state": "state", "api": loopback, "relay": loopback, "keys": keys, "trunks": dict(trunks)}


def _bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock
