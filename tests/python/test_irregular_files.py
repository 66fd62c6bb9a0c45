"""A FIFO that nobody writes to, a device without an end, a folder, where a file is named.

Nobody waits for them, and nobody fills memory.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from listening import LIMIT_S

from clutchcall import _core
from clutchcall.cli.wavfile import opus_frames
from clutchcall.engine import Engine
from clutchcall.errors import ClutchCallError
from clutchcall.relay import Relay
from clutchcall.voice import Voice

TLS = "https://127.0.0.1:9"
Ask = Callable[[Path, Path], object]


def by_variable(name: str) -> Ask:
    """As `Voice` finds it in the environment."""

    def ask(file: Path, _: Path) -> object:
        os.environ[name] = str(file)
        try:
            return Voice(TLS, None if name == "CLUTCHCALL_CREDENTIALS" else "a-key", "org_abc")
        finally:
            del os.environ[name]

    return ask


def engine(section: str, *keys: str) -> Ask:
    def ask(file: Path, state: Path) -> object:
        table = dict.fromkeys(keys, str(file))
        more = {"url": "moqt://127.0.0.1:9"} if keys == ("roots",) else {"listen": "127.0.0.1:0"}
        more = {} if section == "phone" else more
        kept = {"trunks": {"trunk_main": {"kind": "phone"}}, "api": {"listen": "127.0.0.1:0"}}
        return Engine({**kept, "relay": {"listen": "127.0.0.1:0"}, section: {**more, **table}}, state=state)

    return ask


def relay(name: str) -> Ask:
    def ask(file: Path, state: Path) -> object:
        more: dict[str, object] = {
            "certificate": {"certificate": (file, file)},
            "revoked": {"revoked": file},
            "public_keys": {"public_keys": [file]},
            "roots": {"upstream": {"url": "moqt://127.0.0.1:9", "roots": str(file)}},
            "token": {"upstream": {"url": "moqt://127.0.0.1:9", "token": str(file)}},
        }[name]  # type: ignore[assignment]
        return Relay("127.0.0.1:0", open=True, state=state, **more)  # type: ignore[arg-type]

    return ask


def kept(name: str) -> Ask:
    """One of the engine's own, in its state folder."""

    def ask(file: Path, state: Path) -> object:
        state.mkdir(exist_ok=True)
        (state / name).symlink_to(file)
        try:
            return Engine(state=state)
        finally:
            (state / name).unlink()

    return ask


READERS: dict[str, Ask] = {
    "ca_file": lambda file, _: Voice(TLS, "a-key", "org_abc", ca_file=file),
    **{name: by_variable(name) for name in ("CLUTCHCALL_CA_FILE", "CLUTCHCALL_CONFIG", "CLUTCHCALL_CREDENTIALS")},
    "SSL_CERT_FILE": by_variable("SSL_CERT_FILE"),
    "config of an engine": lambda file, _: Engine(file),
    "clip": lambda file, state: Engine(clip=file, state=state),
    "phone.clip": engine("phone", "clip"),
    "api.certificate": engine("api", "certificate", "private_key"),
    "api.keys_file": engine("api", "keys_file"),
    "relay.certificate": engine("relay", "certificate", "key"),
    "relay.roots": engine("relay", "roots"),
    "relay.revoked": engine("relay", "revoked"),
    **{f"{name} of a relay": relay(name) for name in ("certificate", "revoked", "public_keys", "roots", "token")},
    **{name: kept(name) for name in ("token.key", "quic.key", "keys.toml", "calls.db")},
    "keys list": lambda file, _: _core.list_keys(file),
    "keys revoke": lambda file, _: _core.revoke_key(file, "key_0123456789"),
    "keys create": lambda file, _: _core.create_key(file, "org", [], None, 0),
    "tokens mint": lambda file, _: _core.mint_token(file, '{"sub": "s", "exp": 1}', None),
    "doctor": lambda file, _: _core.certificate_days(file),
    "call --say": lambda file, _: opus_frames(str(file)),
}


@pytest.mark.parametrize("sort", ["fifo", "/dev/zero", "/dev/full", "folder"])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file_is_refused_at_once(reader: str, sort: str, tmp_path: Path) -> None:
    file = Path(sort) if sort.startswith("/dev") else tmp_path / sort
    if sort == "fifo":
        os.mkfifo(file)
    elif sort == "folder":
        file.mkdir()
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            READERS[reader](file, tmp_path / "state")
        except BaseException as error:
            raised.append(error)

    # A reader that waits for ever must not take the test along.
    thread = threading.Thread(target=functools.partial(ask), daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), f"{reader} waits for {sort}"
    (error,) = raised
    assert isinstance(error, (ClutchCallError, ValueError)), repr(error)
    words = ("FIFO", "device", "folder", "regular", "no such file", "neither")
    assert any(word in str(error) for word in words), str(error)
