"""A control plane that answers what a test wrote down, and keeps every request as it came."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ROW = (
    '{"sid":"CA1","status":"dialing","to":"+15551234567","from":"+15558675309",'
    '"startedAt":"2026-01-01T00:00:00.000Z","trunkId":"trunk_main","agent":null}'
)
OK = '{"result":{"data":{"ok":true}}}'


def success(data: str = ROW) -> str:
    return f'{{"result":{{"data":{data}}}}}'


@dataclass
class Request:
    """One request, byte for byte: its first line, its headers in their order, its body."""

    line: str
    headers: list[tuple[str, str]]
    body: str

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)

    @property
    def procedure(self) -> str:
        return self.line.split(" ")[1].partition("?")[0].rpartition("/")[2]


@dataclass
class Recorded:
    """Where it is, what it was asked, and what it answers: one after the other, the last one for ever."""

    url: str
    answers: list[tuple[int, str]]
    asked: list[Request] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> tuple[int, str]:
        with self._turn:
            self.asked.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def recorded(*answers: tuple[int, str]) -> Iterator[Recorded]:
    """Serves until the block ends."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while (request := self.request_of_now()) is not None:
                status, body = there.answer(request)
                head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body.encode())}"
                self.wfile.write(f"{head}\r\n\r\n{body}".encode())

        def request_of_now(self) -> Request | None:
            line = self.rfile.readline().decode().rstrip("\r\n")
            if not line:
                return None
            headers = []
            while header := self.rfile.readline().decode().rstrip("\r\n"):
                name, _, value = header.partition(":")
                headers.append((name.lower(), value.strip()))
            length = int(dict(headers).get("content-length", 0))
            return Request(line, headers, self.rfile.read(length).decode())

    class Server(socketserver.ThreadingTCPServer):
        # The client keeps its connections, and with them the threads that serve it.
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        there = Recorded(f"http://127.0.0.1:{server.server_address[1]}", list(answers))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield there
        finally:
            server.shutdown()
            thread.join()
