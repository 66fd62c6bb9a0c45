"""A MoQT relay by itself, inside this process: `Relay`.

An engine has one of its own; a relay alone is for several engines, or for a machine nearer to those who listen. It
speaks MoQT (draft-ietf-moq-transport) over raw QUIC and WebTransport on one UDP port, forwards objects without parsing
audio, and lets nobody publish or subscribe without a token that one of its public keys can verify.
"""

from __future__ import annotations

import os

from clutchcall import _core
from clutchcall._checks import (
    check_flag,
    check_seconds,
    check_text,
    check_text_or_none,
    check_whole,
    checked_path,
    items_of,
    path_or_none,
    texts,
)
from clutchcall._closing import Closing

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Relay"]

# Who waits for longer forgot that he does.
_LONGEST_DRAIN_S = 86_400
# How a relay's address may begin.
_SCHEMES = ("moqt", "moq", "quic", "https")


class Relay(Closing):
    """Serves until `close()`.

    Args:
        listen: Address and UDP port; port 0 takes a free one.
        public_keys: Whose tokens count: keys, or files with one key a line. An engine's key is what
            `clutchcall keys public --state DIR` prints. Files are read again when they change, and sessions
            whose key has gone end.
        revoked: A file of tokens that count no longer, one a line: `jti NAME`, `sub NAME` or `sha256 HEX`.
            Read again when it changes; sessions with such a token end.
        certificate: PEM files of the chain (leaf first) and of its key. `None`: self-minted, for loopback.
        drafts: Numbers of the drafts of MoQT that are spoken, the preferred first, such as `["18"]`. Empty: all
            that are known here.
        open: Anybody may publish and subscribe everything, without a token.
        shards: Threads, each with a UDP port of its own: the first is that of `listen`, the others follow it. Every one
            serves everybody; tracks of a call live on one of them.
        upstream: Another relay that this one is an edge of: `url`, `token` (text or file), and whom to trust by
            `roots`, `certificate_hashes` or `trust = "anything"`.
        limits: Bounds by name, as in `[relay.limits]` of `clutchcall serve --example`.
        metrics: Address and TCP port for `/healthz` and `/metrics` (Prometheus) over plain HTTP; `None`: nowhere.
        state: Folder for the QUIC keys, and for a self-minted certificate. A relay that starts again
            with the same folder tells the peers of its former life at once.

    Raises:
        ConfigError: The port, a file or the folder can't be used; the message names it.
        ValueError: A setting can't be read; the message names it and the remedy.
    """

    __slots__ = ("_core",)

    def __init__(
        self,
        listen: str = "127.0.0.1:4433",
        *,
        public_keys: Iterable[str | os.PathLike[str]] = (),
        open: bool = False,
        revoked: str | os.PathLike[str] | None = None,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        drafts: Sequence[str] = (),
        shards: int = 1,
        upstream: Mapping[str, object] | None = None,
        limits: Mapping[str, int] | None = None,
        metrics: str | None = None,
        state: str | os.PathLike[str],
    ) -> None:
        from clutchcall._toml import toml

        check_text(listen=listen)
        check_text_or_none(metrics=metrics)
        check_flag(open=open)
        check_whole(shards=shards)
        folder, revoked = checked_path("state", state), path_or_none("revoked", revoked)
        chain, key = _pair(certificate)
        settings = {
            "listen": listen,
            "public_keys": [_absolute(key) for key in _paths("public_keys", public_keys)],
            "revoked": revoked and os.path.abspath(revoked),
            "certificate": chain and os.path.abspath(chain),
            "key": key and os.path.abspath(key),
            "drafts": texts("drafts", drafts),
            "open": open,
            "shards": shards.__index__(),
            "limits": _table("limits", limits),
            "upstream": _files_in_full(_table("upstream", upstream)),
            "metrics": metrics,
        }
        self._core = _core.Relay(toml(settings, ""), folder)

    @property
    def address(self) -> str:
        """Address and port that it is bound to."""
        return self._core.address

    @property
    def url(self) -> str:
        """Where to dial it over raw QUIC."""
        return f"moqt://{self.address}"

    @property
    def metrics_url(self) -> str | None:
        """Where `/metrics` is; `/healthz` stands beside it."""
        address = self._core.metrics_address
        return None if address is None else f"http://{address}/metrics"

    @property
    def addresses(self) -> list[str]:
        """Address and port of every shard, the public one first."""
        return self._core.addresses

    @property
    def certificate_hash(self) -> str:
        """SHA-256 of its certificate, hexadecimal: for `relay.certificate_hashes` of an engine, or a browser's pin."""
        return self._core.certificate_hash

    def counters(self) -> dict[str, int]:
        """What passed so far, and what is there now."""
        return dict(self._core.counters())

    def reload(self) -> None:
        """Reads the files of keys and revoked tokens again; they are read by themselves soon after they change."""
        self._core.reload()

    def drain(self, seconds: float, to: str = "") -> bool:
        """Sends every session away by GOAWAY and waits until all have gone; `False`: some had not in time.

        Args:
            seconds: How long they have; then they are closed.
            to: URL of the relay that they are to go to. Empty: to this address again.

        Raises:
            ValueError: `seconds` is negative or longer than a day, or `to` is no URL of a relay.
        """
        import time

        check_seconds(seconds=seconds)
        check_text(to=to)
        if not 0 <= seconds <= _LONGEST_DRAIN_S:
            raise ValueError(f"seconds is {seconds}: give 0 to {_LONGEST_DRAIN_S}")
        if to:
            check_relay_url("to", to)
        self._core.drain(seconds, to)
        deadline = time.monotonic() + seconds
        while self.counters().get("sessions"):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        """Closes every session and ends the threads. Twice is once."""
        self._core.shutdown()

    def __repr__(self) -> str:
        return f"<Relay {self.url}>"


def _pair(certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None) -> tuple[str | None, str | None]:
    """Chain and key."""
    if certificate is None:
        return None, None
    files = _paths("certificate", certificate)
    if len(files) != 2:
        raise ValueError(f"certificate holds {len(files)} paths: give two, that of the chain and that of its key")
    return files[0], files[1]


def _paths(field: str, value: Iterable[str | os.PathLike[str]]) -> list[str]:
    return [checked_path(f"{field}[{n}]", path) for n, path in enumerate(items_of(field, value))]  # type: ignore[arg-type]


def _table(field: str, value: Mapping[str, object] | None) -> dict[str, object]:
    if value is not None and not hasattr(type(value), "keys"):
        raise TypeError(f"{field} is a {type(value).__name__}: give a dict")
    table = dict(value or {})
    for name in table:
        check_text(**{f"a name in {field}": name})
    return table


def _absolute(path: str) -> str:
    """A file's name in full; a key's text as it is."""
    return os.path.abspath(path) if os.path.isfile(path) else path


def _files_in_full(upstream: Mapping[str, object]) -> dict[str, object]:
    """Files are looked for where the process stands, not in the state folder."""
    named = {key: value for key, value in upstream.items() if value is not None}
    for key in ("token", "roots"):
        if key in named:
            named[key] = _absolute(checked_path(f"upstream[{key!r}]", named[key]))  # type: ignore[arg-type]
    return named


def check_relay_url(name: str, url: str) -> None:
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES or not rest:
        raise ValueError(f"{name} is {url!r}: give the URL of a relay, such as {_SCHEMES[0]}://relay.example.org:4433")
