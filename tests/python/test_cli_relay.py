"""`clutchcall relay` and `clutchcall tokens` as a person runs them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clutchcall.moqt import AudioPublication, MoqtClient

LIMIT_S = 60


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "clutchcall.cli", *map(str, arguments)]


def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=LIMIT_S, input=stdin)


def done(*arguments: str | Path) -> str:
    finished = run(*arguments)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


@contextmanager
def relay(*arguments: str | Path, env: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """A running relay: what it told when it served, and its process."""
    process = subprocess.Popen(
        command("relay", "--json", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, process.communicate(timeout=LIMIT_S)[1]
        yield {**json.loads(line), "process": process}
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, complaints


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An engine's state folder with its key, and that key's public half in `token.pub`."""
    done("keys", "public", "--state", tmp_path)
    return tmp_path


def test_a_relay_tells_its_health_and_its_figures(state: Path) -> None:
    served = ("--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--state", state / "relay")
    with relay(*served, "--public-key", state / "token.pub") as told:
        status, text = get(told["metrics_url"])
        assert status == 200
        lines = text.splitlines()
        names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
        assert len(names) == len(set(names)) > 30
        for name in names:
            assert any(line.startswith(f"# HELP {name} ") for line in lines), name
            assert f'{name}{{shard="0"}}' in text
        assert 'clutchcall_relay_sessions{shard="0"} 0' in lines
        origin = told["metrics_url"].removesuffix("/metrics")
        status, text = get(f"{origin}/healthz")
        assert (status, json.loads(text)["ok"]) == (200, True)
        assert get(f"{origin}/nothing")[0] == 404
        taken = run("relay", *served, "--public-key", "A" * 43, "--metrics", origin.removeprefix("http://"))
        assert taken.returncode == 2
        assert "metrics" in taken.stderr
        assert "choose another" in taken.stderr


def test_what_is_minted_is_told_in_json(tmp_path: Path) -> None:
    public = json.loads(done("keys", "public", "--state", tmp_path, "--json"))
    assert public == {"public_key": done("keys", "public", "--state", tmp_path)}
    minted = json.loads(done("tokens", "mint", "--ns", "voice/CA1/*", "--state", tmp_path, "--jti", "one", "--json"))
    shown = json.loads(done("tokens", "show", minted["token"], "--json", "--public-key", public["public_key"]))
    assert (shown["claims"], shown["refused"]) == (minted["claims"], None)
    assert minted["claims"]["jti"] == "one"
    key = json.loads(done("keys", "mint", "--org", "org_abc", "--json"))
    assert (key.keys(), key["org"]) == ({"org", "key", "hash"}, "org_abc")
    assert key["key"] not in key["hash"]


def test_cases_are_told_in_json(tmp_path: Path) -> None:
    with relay("--listen", "127.0.0.1:0", "--state", tmp_path / "relay", "--open") as told:
        against = ("interop", "--json", "--tls-disable-verify", "-r", f"moqt://{told['address']}")
        case = json.loads(done(*against, "-t", "setup-only"))
        assert (case["case"], case["verdict"], len(case["sessions"])) == ("setup-only", "passed", 1)
        assert case["sessions"][0].keys() == {"role", "transport", "moqt_version", "connection_id"}
        cases = [json.loads(line)["case"] for line in done(*against).splitlines()]
        assert cases == json.loads(done("interop", "--list", "--json")) == done("interop", "--list").splitlines()
    gone = run(*against, "-t", "setup-only")
    # Which of them depends on what ends first, the time of the case or that of the handshake.
    assert gone.returncode == 1
    assert json.loads(gone.stdout)["verdict"] in {"failed", "unreachable"}
    nowhere = run("interop", "--json", "-r", "moqt://relay.invalid:4443")
    (told_of,) = map(json.loads, nowhere.stdout.splitlines())
    assert (nowhere.returncode, told_of["verdict"]) == (1, "unreachable"), "the first case is the last one"
    for wrong, name in ((("-t", "nothing"), "--test"), (("--draft", "7"), "--draft")):
        refused = run(*against, *wrong)
        assert (refused.returncode, refused.stdout) == (127, "")
        assert name in refused.stderr


def test_a_minted_token_says_what_was_asked_for(state: Path) -> None:
    token = done("tokens", "mint", "--ns", "voice/CA1/*", "--ns", "voice/CA2/*", "--state", state, "--ttl", "15m")
    shown = json.loads(done("tokens", "show", token, "--json", "--public-key", state / "token.pub"))
    assert shown["refused"] is None
    claims = shown["claims"]
    assert claims["ns"] == ["voice/CA1/*", "voice/CA2/*"]
    assert claims["exp"] - claims["iat"] == 900
    assert abs(claims["iat"] - time.time()) < 60
    assert shown["header"]["alg"] == "EdDSA"
    for flag, other in (("publish", "subscribe"), ("subscribe", "publish")):
        token = done("tokens", "mint", "--ns", "voice/**", f"--{flag}", "--key", state / "token.key")
        claims = json.loads(done("tokens", "show", token, "--json"))["claims"]
        assert (claims[flag], claims[other]) == (["voice/**"], [])
        assert "ns" not in claims
    named = done(
        "tokens",
        "mint",
        "--ns",
        "a",
        "--publish",
        "--subscribe",
        "--state",
        state,
        "--kid",
        "k1",
        "--sub",
        "acme",
        "--jti",
        "7",
    )
    shown = json.loads(done("tokens", "show", named, "--json"))
    assert (shown["header"]["kid"], shown["claims"]["sub"], shown["claims"]["jti"]) == ("k1", "acme", "7")
    assert shown["claims"]["ns"] == ["a"]


def test_a_token_is_shown_to_a_person(state: Path, tmp_path: Path) -> None:
    token = done("tokens", "mint", "--ns", "voice/CA1/*", "--state", state)
    shown = run("tokens", "show", "-", stdin=token + "\n")
    assert shown.returncode == 0
    assert "voice/CA1/*" in shown.stdout
    assert " s)" in shown.stdout
    assert "UTC" in shown.stdout
    stranger = done("keys", "public", "--state", tmp_path / "other")
    refused = run("tokens", "show", token, "--public-key", stranger)
    assert refused.returncode == 1
    assert "kid" in refused.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mint",), ["--ns"]),
        (("mint", "--ns", "a", "--ttl", "soon"), ["--ttl", "15m"]),
        (("mint", "--ns", "a//b"), ["--ns", "single slashes"]),
        (("mint", "--ns", "**/b"), ["--ns", "last field"]),
        (("mint", "--ns", "a", "--key", "nowhere.key"), ["--key", "nowhere.key", "keys public"]),
        (("mint", "--ns", "a", "--key", __file__), ["openssl"]),
        (("mint", "--ns", "a", "--state", "nowhere"), ["--state", "nowhere"]),
        (("show", "rubbish"), ["not a signed JWT"]),
    ],
)
def test_a_wrong_word_about_tokens_is_named(arguments: tuple[str, ...], words: list[str]) -> None:
    wrong = run("tokens", *arguments)
    assert wrong.returncode == 2
    for word in words:
        assert word in wrong.stderr
    assert "Traceback" not in wrong.stderr


def settled(told: dict[str, Any], token: str | None) -> tuple[str, str]:
    """How a client with this token fares: the state in which it comes to rest, and why."""
    states: queue.SimpleQueue[str] = queue.SimpleQueue()
    client = MoqtClient.connect(
        told["url"], token=token, certificate_hashes=[told["certificate_hash"]], on_state=states.put
    )
    try:
        while (state := states.get(timeout=LIMIT_S)) not in ("connected", "failed"):
            pass
        client.publish_audio(("voice", "CA1", "uplink"), "audio")
        with contextlib.suppress(queue.Empty):
            while state != "failed":
                # The relay's word about the token comes behind the transport's; while it dials it is not at rest.
                state = states.get(timeout=2.0 if state == "connected" else LIMIT_S)
        return state, client.reason or ""
    finally:
        client.close()


def test_a_hangup_reads_keys_and_revocations_again(state: Path, tmp_path: Path) -> None:
    keys, revoked = tmp_path / "keys", tmp_path / "revoked"
    done("keys", "public", "--state", tmp_path / "new")
    keys.write_text((state / "token.pub").read_text())
    revoked.write_text("")
    served = ("--listen", "127.0.0.1:0", "--state", state / "relay", "--public-key", keys, "--revoked", revoked)
    mint = ("tokens", "mint", "--ns", "voice/CA1/*", "--jti")
    old = done(*mint, "old", "--state", state)
    new = done(*mint, "new", "--state", tmp_path / "new")
    with relay(*served) as told:
        assert settled(told, old)[0] == "connected"
        assert settled(told, new)[0] == "failed"
        revoked.write_text("jti old\n")
        keys.write_text(keys.read_text() + (tmp_path / "new" / "token.pub").read_text())
        told["process"].send_signal(signal.SIGHUP)
        until = time.monotonic() + LIMIT_S
        while settled(told, new)[0] != "connected":
            assert time.monotonic() < until
        state_now, why = settled(told, old)
        assert state_now == "failed"
        assert "revoked" in why


def test_shards_and_an_upstream_relay_are_there_when_asked_for(state: Path, tmp_path: Path) -> None:
    key = ("--public-key", state / "token.pub", "--listen", "127.0.0.1:0")
    token = tmp_path / "edge.token"
    token.write_text(done("tokens", "mint", "--ns", "voice/**", "--state", state))
    with relay(*key, "--shards", "2", "--state", tmp_path / "origin") as origin:
        assert len(origin["addresses"]) == 2
        assert origin["addresses"][0] == origin["address"]
        towards = (
            "--upstream",
            origin["url"],
            "--upstream-hash",
            origin["certificate_hash"],
            "--upstream-token",
            token,
        )
        metrics = ("--metrics", "127.0.0.1:0", "--limit", "sessions=100", "--state", tmp_path / "edge")
        with relay(*key, *towards, *metrics) as edge:
            until = time.monotonic() + LIMIT_S
            while 'clutchcall_relay_upstream_up{shard="0"} 1' not in get(edge["metrics_url"])[1]:
                assert time.monotonic() < until


def test_a_key_that_begins_with_a_dash_is_a_key(tmp_path: Path) -> None:
    with relay("--listen", "127.0.0.1:0", "--state", tmp_path, "--public-key", "-" + "A" * 42) as told:
        assert told["url"].startswith("moqt://")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--limit", "sesions=3"), ["limits.sesions", "did you mean limits.sessions?"]),
        (("--limit", "sessions"), ["--limit", "NAME=NUMBER"]),
        (("--limit", "sessions=0"), ["limits.sessions is 0"]),
        (("--shards", "65"), ["shards is 65", "from 1 to 64"]),
        (("--upstream", "http://x"), ["upstream.url", "moqt://"]),
        (("--upstream", "moqt://x", "--upstream-token", "rubbish"), ["upstream.token", "tokens mint"]),
        (("--upstream-insecure",), ["upstream.url is missing"]),
        (("--revoked", "nowhere"), ["nowhere", "can't be read"]),
        (("--public-key", "nowhere"), ["public_keys[1]", "no such file"]),
    ],
)
def test_a_wrong_setting_of_a_relay_is_named(tmp_path: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    wrong = run("relay", "--listen", "127.0.0.1:0", "--state", tmp_path, "--public-key", "A" * 43, *arguments)
    assert wrong.returncode == 2
    for word in words:
        assert word in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_relay_in_the_runners_container_is_open_only_when_told(tmp_path: Path) -> None:
    with relay("--listen", "127.0.0.1:0", "--open", "--state", tmp_path / "certs") as told:
        assert settled(told, None)[0] == "connected"
    certs, mlog = tmp_path / "certs", tmp_path / "mlog"
    mlog.mkdir()
    (certs / "key.pem").rename(certs / "priv.key")
    (certs / "certificate.pem").rename(certs / "cert.pem")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    env = {"MOQT_PORT": str(port), "MOQT_ROLE": "relay", "MOQT_CERTS": str(certs), "MOQT_MLOG": str(mlog)}
    with relay("--open", "--state", tmp_path / "state", env=env) as contained:
        assert contained["address"] == f"[::]:{port}"
        assert contained["certificate_hash"] == told["certificate_hash"]
        assert settled({**contained, "url": f"moqt://127.0.0.1:{port}"}, None)[0] == "connected"
    assert json.loads((mlog / "clutchcall-relay.json").read_text())["sessions_admitted"] == 1
    refused = subprocess.run(
        command("relay", "--open"), capture_output=True, text=True, env={**os.environ, "MOQT_ROLE": "client"}
    )
    assert refused.returncode == 127
    closed = subprocess.run(command("relay"), capture_output=True, text=True, env={**os.environ, **env})
    assert closed.returncode == 2
    assert "--public-key" in closed.stderr


def test_sigterm_sends_sessions_away_before_the_end(state: Path) -> None:
    served = ("--listen", "127.0.0.1:0", "--state", state / "relay", "--public-key", state / "token.pub")
    token = done("tokens", "mint", "--ns", "voice/CA1/*", "--state", state)
    with relay(*served, "--drain", "0.5") as told:
        states: queue.SimpleQueue[str] = queue.SimpleQueue()
        client = MoqtClient.connect(
            told["url"], token=token, certificate_hashes=[told["certificate_hash"]], on_state=states.put
        )
        try:
            while states.get(timeout=LIMIT_S) != "connected":
                pass
            told["process"].send_signal(signal.SIGTERM)
            assert told["process"].wait(LIMIT_S) == 0
            while states.get(timeout=LIMIT_S) not in ("reconnecting", "connecting"):
                pass
        finally:
            client.close()


def test_an_edge_hears_its_upstream_relay_again_after_it_was_told_to_end(state: Path, tmp_path: Path) -> None:
    """SIGTERM and a start again: who listens at the edge stays there, and hears on."""
    public = ("--public-key", state / "token.pub")
    token = done("tokens", "mint", "--ns", "voice/**", "--state", state)
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def origin(listen: str) -> contextlib.AbstractContextManager[dict[str, Any]]:
        return relay("--listen", listen, "--state", tmp_path / "origin", *public, "--drain", "0.5")

    def listen_for(track: AudioPublication, ours: bytes) -> None:
        """Says it until it is heard."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            track.write(time.monotonic_ns() // 1000, ours)
            with contextlib.suppress(queue.Empty):
                while True:
                    if heard.get(timeout=0.02) == ours:
                        return
        pytest.fail(f"{ours!r} was not heard")

    with contextlib.ExitStack() as stack:
        first = origin("127.0.0.1:0")
        told = first.__enter__()
        up = ("--upstream", told["url"], "--upstream-hash", told["certificate_hash"], "--upstream-token", token)
        at = stack.enter_context(relay("--listen", "127.0.0.1:0", "--state", tmp_path / "edge", *public, *up))
        speaker, listener = (
            stack.enter_context(
                MoqtClient.connect(where["url"], token=token, certificate_hashes=[where["certificate_hash"]])
            )
            for where in (told, at)
        )
        listener.subscribe_audio("voice/CA1/uplink", "audio", lambda frame, _: heard.put(frame))
        track = speaker.publish_audio("voice/CA1/uplink", "audio")
        listen_for(track, b"before")
        told["process"].send_signal(signal.SIGTERM)
        assert told["process"].wait(LIMIT_S) == 0
        first.__exit__(None, None, None)
        stack.enter_context(origin(told["address"]))
        listen_for(track, b"after")
        assert (listener.state, listener.reconnects) == ("connected", 0)


class Wiretap:
    """Hands packets on to a relay, and writes down what the first of each connection is addressed to (RFC 9000 §17.2):
    20 bytes of the client's choice, and of the server's ever after."""

    def __init__(self, port: int) -> None:
        self.seen: list[str] = []
        self._front = socket.socket(type=socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self.port: int = self._front.getsockname()[1]
        self._relay = ("127.0.0.1", port)
        self._backs: dict[Any, socket.socket] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            ready, _, _ = select.select([self._front, *self._backs.values()], [], [], 0.05)
            for end in ready:
                packet, sender = end.recvfrom(65_536)
                if end is not self._front:
                    client = next(client for client, back in self._backs.items() if back is end)
                    self._front.sendto(packet, client)
                    continue
                if sender not in self._backs:
                    self._backs[sender] = socket.socket(type=socket.SOCK_DGRAM)
                is_long, addressed = packet[0] & 0x80, packet[6:26].hex()
                if is_long and packet[5] == 20 and addressed not in self.seen:
                    self.seen.append(addressed)
                self._backs[sender].sendto(packet, self._relay)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(LIMIT_S)
        for end in (self._front, *self._backs.values()):
            end.close()


@pytest.mark.parametrize("scheme", ["moqt", "https"])
def test_a_case_tells_by_which_connection_id_a_relay_has_it_in_its_log(tmp_path: Path, scheme: str) -> None:
    with relay("--listen", "127.0.0.1:0", "--state", tmp_path / "relay", "--open") as told:
        tap = Wiretap(int(told["address"].rpartition(":")[2]))
        try:
            for case, parts in [("setup-only", [""]), ("fetch", ["publisher_", "subscriber_", "fetcher_"])]:
                tap.seen.clear()
                played = done("interop", "-r", f"{scheme}://127.0.0.1:{tap.port}", "--tls-disable-verify", "-t", case)
                assert f"ok 1 - {case}\n" in played
                lines = [line.strip() for line in played.splitlines() if "connection_id: " in line]
                assert lines == [f"{part}connection_id: {seen}" for part, seen in zip(parts, tap.seen, strict=True)]
        finally:
            tap.close()


def test_where_to_drain_to_is_judged_at_the_start(tmp_path: Path) -> None:
    served = ("--open", "--listen", "127.0.0.1:0", "--state", tmp_path)
    refused = run("relay", *served, "--drain-to", "relay.example.org:1")
    assert refused.returncode == 2
    assert "--drain-to is 'relay.example.org:1': give the URL of a relay" in refused.stderr
