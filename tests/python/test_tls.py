"""The API over TLS, as other programs see it: Python's `ssl`, `openssl s_client`, and the SDK with `ca_file`."""

from __future__ import annotations

import http.client
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from clutchcall.engine import Engine
from clutchcall.errors import APIConnectionError
from clutchcall.voice import Voice

KEY = "tqs_live_of_a_test_over_tls"


def mint(folder: Path, name: str) -> Path:
    """A certificate for loopback, by somebody else's program."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE"]
    command += ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder / f"{name}.pem"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    mint(folder, "api")
    mint(folder, "other")
    return folder


@pytest.fixture(scope="module")
def secret(folder: Path) -> Iterator[Engine]:
    config = {
        "state": "state",
        "api": {"listen": "127.0.0.1:0", "certificate": "api.pem", "private_key": "api.key"},
        "relay": {"listen": "127.0.0.1:0"},
        "keys": [{"org": "org_a", "key": KEY}],
        "trunks": {"trunk_main": {"kind": "phone"}},
    }
    with Engine(config, state=folder) as engine:
        yield engine


def test_the_sdk_calls_with_its_authority_and_refuses_another(secret: Engine, folder: Path) -> None:
    assert secret.base_url.startswith("https://")
    with Voice(secret.base_url, KEY, "org_a", ca_file=str(folder / "api.pem")) as voice:
        call = voice.calls.originate(to="+15550009000", from_="+15558675309", trunk_id="trunk_main")
        call.hangup()
    with (
        Voice(secret.base_url, KEY, "org_a", ca_file=str(folder / "other.pem")) as stranger,
        pytest.raises(APIConnectionError, match="ca_file"),
    ):
        stranger.calls.list()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_pythons_own_client_speaks_both_versions(secret: Engine, folder: Path, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(folder / "api.pem"))
    context.minimum_version = context.maximum_version = version
    where = urlsplit(secret.base_url)
    assert where.port is not None
    connection = http.client.HTTPSConnection("127.0.0.1", where.port, context=context, timeout=20)
    try:
        for _ in range(2):
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            assert (answer.status, b'"ok":true' in answer.read()) == (200, True)
    finally:
        connection.close()


def test_openssl_verifies_it_and_old_versions_are_refused(secret: Engine, folder: Path) -> None:
    where = urlsplit(secret.base_url).netloc
    shake = ["openssl", "s_client", "-connect", where, "-CAfile", str(folder / "api.pem"), "-alpn", "http/1.1"]
    done = subprocess.run([*shake, "-verify_return_error"], input=b"", capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"Verify return code: 0 (ok)" in done.stdout
    assert b"ALPN protocol: http/1.1" in done.stdout
    old = subprocess.run([*shake, "-tls1_1"], input=b"", capture_output=True, timeout=60)
    assert old.returncode != 0
