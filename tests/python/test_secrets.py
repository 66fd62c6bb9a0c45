"""Row "secrets" of `docs/reliability.md`: keys, tokens and passwords stand in no log, traceback, `repr` or record.

A user who logs everything and prints every traceback goes through successes and failures of each kind, with an engine
that logs everything; then all that either of them left is searched.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from listening import LIMIT_S
from test_cli import command, run

from clutchcall.engine import Engine
from clutchcall.errors import ConfigError
from clutchcall.moqt import MoqtClient
from clutchcall.relay import Relay
from clutchcall.voice import Voice

# What only secrets hold. The engine's key is made for each run.
SECRETS = {
    "a wrong key": "tqs_live_wrong_but_secret_all_the_same",
    "a proxy's password": "the-password-of-the-proxy",
    "a token of one's own": "eyJhbGciOiJFZERTQSJ9.a-token-of-ones-own",
    "a token in a URL": "a-token-in-a-path",
    "a user of a relay": "the-user-of-the-relay",
    "a password of a relay": "the-password-of-the-relay",
    "a token in a query": "a-token-in-a-query",
    "a text that is no key": "secret with a space",
}

USER = """
    import faulthandler, gc, json, logging, os, sys, traceback
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    faulthandler.enable()
    from clutchcall.errors import ClutchCallError
    from clutchcall.moqt import MoqtClient
    from clutchcall.relay import Relay
    from clutchcall.voice import AsyncVoice, Voice
    import asyncio

    base_url, key, secrets = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    wrong, password, token, path, name, word, query, no_key = secrets

    def told(act):
        try:
            print(repr(act()))
        except Exception as error:
            traceback.print_exc()
            print(repr(error), vars(error), error.args)

    def user(base_url=base_url, key=key, **more):
        return Voice(base_url, key, "org_abc", max_retries=0, timeout=5, connect_timeout=1, **more)

    voice = user()
    call = voice.calls.originate(to="+15550009010", from_="+15550000000", trunk_id="trunk_main", idempotency_key="mine")
    heard = []

    def on_uplink(frame, timestamp_us):
        heard.append(frame)
        raise LookupError("a callback's own")

    bridge = voice.audio_bridge.attach(call.sid, on_uplink=on_uplink)
    while len(heard) < 5:
        pass
    for thing in (voice, voice.calls, voice.audio_bridge, voice.agents, call, bridge, bridge.stats(), voice._core):
        print(repr(thing), str(thing))
    told(lambda: voice.audio_bridge.attach(call.sid))
    told(lambda: user(key=wrong).calls.get(call.sid))
    told(lambda: user(key=wrong).audio_bridge.attach(call.sid))
    told(lambda: user(key=no_key))
    told(lambda: user(key=7))
    told(lambda: user(base_url=f"http://{password}@127.0.0.1:1"))
    told(lambda: user(base_url="http://127.0.0.1:9").calls.get(call.sid))
    told(lambda: user(base_url="https://127.0.0.1:9").calls.get(call.sid))
    told(lambda: asyncio.run(AsyncVoice(base_url, wrong, "org_abc").calls.get("CA1")))
    os.environ["HTTP_PROXY"] = f"http://user:{password}@127.0.0.1:9"
    told(lambda: user(base_url="http://engine.test").calls.get("CA1"))
    user_and_query = f"moqt://{name}:{word}@127.0.0.1:9?jwt={query}"
    for url in ("moqt://127.0.0.1:9", f"moqt://127.0.0.1:9/{path}", user_and_query, f"ftp://127.0.0.1/{token}"):
        told(lambda: MoqtClient.connect(url, token=token))
    with Relay("127.0.0.1:0", state=sys.argv[4]) as relay:
        client = MoqtClient.connect(f"{relay.url}", token=token, certificate_hashes=[relay.certificate_hash])
        while client.reason is None:
            pass
        print(client, client.reason)
        client.close()
    os.environ["CLUTCHCALL_CREDENTIALS"] = wrong
    told(lambda: Voice(base_url).calls.get("CA1"))
    call.hangup()
    bridge.close()
    del voice, call, bridge
    gc.collect()
    print("over", flush=True)
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_secrets_stand_in_no_log_or_traceback(tmp_path: Path) -> None:
    key, _, told = run("keys", "mint", "--org", "org_abc").stdout.partition("\n")
    key, hashed = key.split()[0], told.rsplit('"', 2)[1]
    assert key.startswith("tqs_live_")
    config = tmp_path / "clutchcall.toml"
    config.write_text(
        f"""
state = "state"
api.listen = "127.0.0.1:0"
relay.listen = "127.0.0.1:0"
trunks.trunk_main.kind = "phone"
keys = [{{ org = "org_abc", hash = "{hashed}" }}]
"""
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLUTCHCALL_")}
    environment |= {"CLUTCHCALL_LOG": "debug", "RUST_LOG": "trace", "RUST_BACKTRACE": "full"}
    serve = command("serve", "--config", config, "--json")
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as engine:
        assert engine.stdout is not None
        try:
            base_url = json.loads(engine.stdout.readline())["base_url"]
            arguments = [base_url, key, json.dumps(list(SECRETS.values())), str(tmp_path / "relay")]
            user = subprocess.run(
                [sys.executable, "-X", "dev", "-W", "ignore", "-c", textwrap.dedent(USER), *arguments],
                capture_output=True,
                text=True,
                timeout=90,
                env=environment,
                check=False,
            )
        finally:
            engine.terminate()
            output, complaints = engine.communicate(timeout=LIMIT_S)
    assert user.returncode == 0, user.stderr
    assert user.stdout.endswith("over\n"), user.stdout
    assert user.stderr.count("Traceback") >= 10, "every failure was printed"
    assert "DEBUG" in user.stderr, "everything was logged"
    assert "DEBUG" in complaints, "and by the engine"
    kept = {
        str(path): path.read_bytes().decode("latin-1") for path in (tmp_path / "state").rglob("*") if path.is_file()
    }
    assert any(path.endswith("calls.db") for path in kept)
    everything = {"stdout": user.stdout, "stderr": user.stderr, "the engine": output + complaints, **kept}
    for name, secret in {**SECRETS, "the key": key, "the key's end": key[-12:]}.items():
        for place, text in everything.items():
            assert secret not in text, f"{name} stands in {place}"
    for place, text in everything.items():
        assert "eyJ" not in text, f"a token stands in {place}"


SLOW = """
    import logging, sys, threading, time
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    from clutchcall.moqt import MoqtClient
    called = threading.Event()

    def slow(*state):
        time.sleep(0.1)  # Longer than a callback may take: the log names it.
        called.set()
        return "a.b.c"

    client = MoqtClient.connect(sys.argv[1], **{sys.argv[2]: slow})
    print(client)
    if sys.argv[2] == "on_state":
        client.close()  # Nobody answers there: this is its first change.
    assert called.wait(20)
    client.close()
"""


@pytest.mark.parametrize(("callback", "label"), [("token", "token for"), ("on_state", "states of")])
def test_the_log_names_a_relay_without_its_secrets(callback: str, label: str) -> None:
    url = "moqt://the-user:the-password@127.0.0.1:9?jwt=the-token"
    user = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SLOW), url, callback],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert user.returncode == 0, user.stderr
    assert re.search(rf"{label} moqt://\S+@127\.0\.0\.1:9\)", user.stderr), user.stderr
    assert re.search(r"<MoqtClient moqt://\S+@127\.0\.0\.1:9 \w+>", user.stdout), user.stdout
    for secret in ("the-user", "the-password", "the-token"):
        assert secret not in user.stdout + user.stderr


# Signs that end a host, or stand before one, at the places where a reader may be led astray.
PASSWORDS = ["pa55", "pa/55", "pa?55", "pa#55", "pa@55", "pa\\55", "pa//55", "1/55", "1?55", "1#55"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_malformed_url_shows_no_part_of_its_password(password: str, tmp_path: Path) -> None:
    engine, relay = f"http://us3r:{password}@engine.test:x", f"moqt://us3r:{password}@relay.test:x"
    voice = functools.partial(Voice, api_key="a-key", org_id="org_abc")
    asked: list[Callable[[], object]] = [
        lambda: voice(engine),
        lambda: voice("http://127.0.0.1:9", relay_host=f"us3r:{password}@relay.test"),
        lambda: MoqtClient.connect(relay),
        lambda: MoqtClient.connect(relay.replace("moqt", "ftp")),
        lambda: Engine({"state": tmp_path, "relay": {"url": relay}}),
        lambda: Engine({"state": tmp_path, "relay": {"public_url": relay.removesuffix(":x")}}),
        lambda: Relay("127.0.0.1:0", open=True, upstream={"url": relay}, state=tmp_path),
    ]
    for ask in asked:
        with pytest.raises((ConfigError, ValueError)) as caught:
            ask()
        told = f"{caught.value!r} {caught.value} {vars(caught.value)} {caught.value.__cause__!r}"
        assert "…" in told
        assert "us3r" not in told
        assert "55" not in told.replace(str(tmp_path), "")


def test_the_command_line_shows_no_part_of_a_password(tmp_path: Path) -> None:
    url = "moqt://us3r:pa/55@relay.test"
    for words in (("interop", "-r", url), ("relay", "--open", "--state", str(tmp_path), "--upstream", url)):
        done = run(*words)
        assert done.returncode != 0
        told = (done.stdout + done.stderr).replace(str(tmp_path), "")
        assert "moqt://…" in told
        assert "us3r" not in told
        assert "55" not in told
