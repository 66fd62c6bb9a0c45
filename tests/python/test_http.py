"""How the client reaches an engine that is not on this machine: proxies, authorities, limits. No network is needed."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clutchcall.errors import APIConnectionError, APITimeoutError, ConfigError, RateLimitError, ServerError
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


@pytest.fixture
def tls(server: Server, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The base URL of a server with a certificate of its own, and the file of that."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    extensions = "-addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made.split(), *extensions.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    other = Server()
    other.socket = context.wrap_socket(other.socket, server_side=True, do_handshake_on_connect=False)
    with serving(other):
        yield f"https://localhost:{other.server_port}", certificate


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


def test_a_long_retry_after_is_told_not_waited_for(server: Server) -> None:
    server.answers = [(429, {"retry-after": "3600"})]
    with Voice(url(server), "k", "o") as voice, pytest.raises(RateLimitError) as told:
        voice.calls.get("CA1")
    assert (told.value.retry_after, len(server.asked)) == (3600.0, 1)


def test_an_engine_that_says_nothing_is_a_timeout() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Voice(address, "k", "o", timeout=0.1) as voice, pytest.raises(APITimeoutError, match=r"timeout 0\.1 s"):
            voice.calls.get("CA1")
