"""How the client reaches an engine that is not on this machine: proxies, authorities, limits. No network is needed."""

from __future__ import annotations

import base64
import json
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clutchcall.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConfigError,
    RateLimitError,
    ServerError,
)
from clutchcall.voice import Voice

ROW = {"sid": "CA1", "status": "ringing", "to": "+1", "from": "+2", "startedAt": "2026-01-01T00:00:00.000Z"}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "CLUTCHCALL_CA_FILE")


class Server(ThreadingHTTPServer):
    """Answers every request with a row, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        body = json.dumps({"result": {"data": ROW}}).encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        self.send_error(502)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with serving(Server()) as server:
        yield server


def url(server: Server, credentials: str = "") -> str:
    return f"http://{credentials}127.0.0.1:{server.server_port}"


def test_a_plain_engine_is_asked_through_the_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", url(server, "user:pass@"))
    with Voice("http://engine.test", "k", "o") as voice:
        assert voice.calls.get("CA1").status == "ringing"
        assert voice.calls.get("CA1").status == "ringing"
    for method, path, headers in server.asked:
        assert (method, path.split("?")[0]) == ("GET", "http://engine.test/api/trpc/voice.calls.get")
        assert headers["proxy-authorization"] == "Basic " + base64.b64encode(b"user:pass").decode()
    assert len(server.asked) == 2


def test_a_tls_engine_is_asked_through_a_tunnel(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url(server))
    with Voice("https://engine.test", "secret_key", "o", max_retries=0) as voice, pytest.raises(APIConnectionError):
        voice.calls.get("CA1")
    method, path, headers = server.asked[0]
    assert (method, path) == ("CONNECT", "engine.test:443")
    assert "secret_key" not in str(headers), "the key is the engine's alone"


class Tunnel(socketserver.ThreadingTCPServer):
    """A proxy of either sort that leads every connection to the same place, and keeps what it was asked for."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, sort: str) -> None:
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.port, self.sort = port, sort
        self.asked: list[str] = []
        self.seen = b""

    class Handler(socketserver.StreamRequestHandler):
        server: Tunnel

        def handle(self) -> None:
            self.server.asked.append(self._http() if self.server.sort == "http" else self._socks())
            with socket.create_connection(("127.0.0.1", self.server.port)) as there:
                threading.Thread(target=self._back, args=(there,), daemon=True).start()
                while chunk := self.connection.recv(65536):
                    self.server.seen += chunk
                    there.sendall(chunk)

        def _back(self, there: socket.socket) -> None:
            with suppress(OSError):
                while chunk := there.recv(65536):
                    self.connection.sendall(chunk)

        def _http(self) -> str:
            line = self.rfile.readline().decode().split()[1]
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            return line

        def _socks(self) -> str:
            """RFC 1928: no authentication, CONNECT to a name."""
            _, methods = self.rfile.read(2)
            self.rfile.read(methods)
            self.wfile.write(b"\x05\x00")
            assert self.rfile.read(4) == b"\x05\x01\x00\x03"
            name = self.rfile.read(self.rfile.read(1)[0]).decode()
            port = int.from_bytes(self.rfile.read(2), "big")
            self.wfile.write(b"\x05\x00\x00\x01" + bytes(6))
            return f"{name}:{port}"


@pytest.mark.parametrize(("sort", "scheme"), [("http", "http"), ("socks", "socks5h")])
def test_a_tls_engine_behind_a_proxy_shows_its_own_certificate(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sort: str, scheme: str
) -> None:
    """The proxy hears the name, and nothing of what is said."""
    with serving(with_certificate(tmp_path, "engine.test")) as engine, Tunnel(engine.server_port, sort) as tunnel:
        threading.Thread(target=tunnel.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv(
            "HTTPS_PROXY" if sort == "http" else "ALL_PROXY", f"{scheme}://127.0.0.1:{tunnel.server_address[1]}"
        )
        with Voice("https://engine.test", "secret_key", "o", ca_file=tmp_path / "certificate.pem") as voice:
            assert [voice.calls.get("CA1").status for _ in range(2)] == ["ringing"] * 2
        tunnel.shutdown()
        assert tunnel.asked == ["engine.test:443"]
        assert b"secret_key" not in tunnel.seen
        assert len(engine.asked) == 2
    assert server.asked == []


def test_no_proxy_and_this_machine_go_past_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", url(server))
    monkeypatch.setenv("NO_PROXY", "engine.test,.invalid")
    for there in ("http://engine.test:9", "http://a.invalid:9", "http://127.0.0.1:9", "http://localhost:9"):
        with (
            Voice(there, "k", "o", max_retries=0, connect_timeout=0.5) as voice,
            pytest.raises(APIConnectionError, match=there),
        ):
            voice.calls.get("CA1")
    assert server.asked == []


def with_certificate(folder: Path, name: str) -> Server:
    """A server for this name, with a certificate of its own in `certificate.pem`."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=engine"
    extensions = f"-addext subjectAltName=DNS:{name} -addext basicConstraints=critical,CA:FALSE"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made.split(), *extensions.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server()
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


@pytest.fixture
def tls(server: Server, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The base URL of a server with a certificate of its own, and the file of that."""
    with serving(with_certificate(tmp_path, "localhost")) as other:
        yield f"https://localhost:{other.server_port}", tmp_path / "certificate.pem"


@pytest.mark.parametrize("how", ["argument", "CLUTCHCALL_CA_FILE", "SSL_CERT_FILE"])
def test_a_private_authority_is_named_by_its_file(
    tls: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    base_url, certificate = tls
    with (
        Voice(base_url, "k", "o") as stranger,
        pytest.raises(APIConnectionError, match="CLUTCHCALL_CA_FILE") as told,
    ):
        stranger.calls.get("CA1")
    assert not told.value.retryable
    ca_file = None
    if how == "argument":
        ca_file = certificate
    else:
        monkeypatch.setenv(how, str(certificate))
    with Voice(base_url, "k", "o", ca_file=ca_file) as voice:
        assert voice.calls.get("CA1").sid == "CA1"


def test_a_file_that_holds_no_authority_is_named(server: Server, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for wrong in (empty, tmp_path / "absent.pem"):
        with pytest.raises(ConfigError, match=f"^ca_file.*{wrong.name}"):
            Voice("https://engine.test", "k", "o", ca_file=wrong)
    with pytest.raises(TypeError, match="ca_file"):
        Voice("https://engine.test", "k", "o", ca_file=7)  # type: ignore[arg-type]


def test_retries_are_the_users_to_choose(server: Server) -> None:
    server.answers = [(503, {"retry-after": "0"})] * 2
    with Voice(url(server), "k", "o") as voice:
        assert voice.calls.get("CA1").sid == "CA1"
    assert len(server.asked) == 3
    server.answers = [(503, {"retry-after": "0"})]
    with Voice(url(server), "k", "o", max_retries=0) as voice, pytest.raises(ServerError):
        voice.calls.get("CA1")
    assert len(server.asked) == 4


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitError), (503, ServerError)])
def test_a_long_retry_after_is_told_not_waited_for(server: Server, status: int, kind: type[APIStatusError]) -> None:
    server.answers = [(status, {"retry-after": "3600"})]
    with Voice(url(server), "k", "o") as voice:
        with pytest.raises(kind) as told:
            voice.calls.get("CA1")
        assert (told.value.retry_after, len(server.asked)) == (3600.0, 1)
    server.answers = [(status, {})]
    with Voice(url(server), "k", "o", max_retries=0) as voice:
        with pytest.raises(kind) as untold:
            voice.calls.get("CA1")
        assert untold.value.retry_after is None


def test_an_engine_that_says_nothing_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Voice(address, "k", "o", timeout=0.1) as voice, pytest.raises(APITimeoutError, match=r"timeout 0\.1 s"):
            voice.calls.get("CA1")


def test_an_engine_that_answers_too_late_is_asked_again(server: Server) -> None:
    """504 is the engine's own word for an answer that did not come in time, and that of a proxy in front of it."""
    server.answers = [(504, {"retry-after": "0"})]
    with Voice(url(server), "k", "o") as voice:
        assert voice.calls.get("CA1").status == "ringing"
    assert len(server.asked) == 2
    server.answers = [(504, {"retry-after": "0"})] * 3
    with Voice(url(server), "k", "o") as voice, pytest.raises(ServerError) as caught:
        voice.calls.get("CA1")
    assert (caught.value.status, caught.value.retryable) == (504, True)
    assert len(server.asked) == 5
