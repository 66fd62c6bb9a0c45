"""The server side inside a Python process: control plane, relay and simulated phone, for a test or a notebook.

Calls are SIP (RFC 3261) with RTP (RFC 3550); their audio travels by MoQT (draft-ietf-moq-transport).

```python
from clutchcall.engine import Engine
from clutchcall.voice import Voice

with Engine() as engine, Voice(engine.base_url, engine.api_key, engine.org_id) as v:
    call = v.calls.originate(to="+15550009012", from_="+15550000000", trunk_id="trunk_main")
```
"""

from __future__ import annotations

import os

from clutchcall import _core
from clutchcall._checks import check_whole, check_whole_or_none, checked_path, path_or_none
from clutchcall._closing import Closing

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Engine"]


class Engine(Closing):
    """A running engine. Without a configuration it is the one of `clutchcall dev`.

    That one listens on free ports of loopback, has one organisation with a fresh key, the trunk `trunk_main` with the
    simulated phone behind it, and the agent `echo`. What it keeps is gone with it unless `state` is given.

    Args:
        config: Path of a `clutchcall.toml`, or its content as nested mappings; `None` for the development engine.
        state: Folder for records, certificate and keys; relative paths of a mapping start here.
        port: TCP port of the API; 0 takes a free one (development engine, like all that follow).
        relay_port: UDP port of the relay; 0 takes a free one.
        clip: WAV that the phone says when it answers.
        record: Folder for what the phone hears, `<sid>.wav`.
        ring_ms: Milliseconds that the phone rings before it answers.

    Raises:
        ConfigError: The configuration names something that is not there, or a port is taken; the message says which.
    """

    __slots__ = ("__weakref__", "_core", "_temporary")

    def __init__(
        self,
        config: str | os.PathLike[str] | Mapping[str, object] | None = None,
        *,
        state: str | os.PathLike[str] | None = None,
        port: int = 0,
        relay_port: int = 0,
        clip: str | os.PathLike[str] | None = None,
        record: str | os.PathLike[str] | None = None,
        ring_ms: int | None = None,
    ) -> None:
        check_whole(port=port, relay_port=relay_port)
        check_whole_or_none(ring_ms=ring_ms)
        clip, record, state = path_or_none("clip", clip), path_or_none("record", record), path_or_none("state", state)
        path, toml = _read(config)
        changes = (port or None, relay_port or None, clip, record, ring_ms)
        if config is not None and any(change is not None for change in changes):
            raise ValueError(
                "ports, clip, record and ring_ms change the development engine: write them into config instead"
            )
        self._temporary: str | None = None
        if state is None:
            import tempfile

            state = self._temporary = tempfile.mkdtemp(prefix="clutchcall-")
        try:
            self._core = _core.Engine(path, toml, state, (port, relay_port), clip, record, ring_ms)
        except BaseException:
            self._remove_state()
            raise

    @property
    def base_url(self) -> str:
        """Origin of the control plane."""
        return self._core.base_url

    @property
    def relay_url(self) -> str:
        """What bridges are told to dial."""
        return self._core.relay_url

    @property
    def api_key(self) -> str:
        """The key that was minted for this engine. Raises `ConfigError` when its configuration brought its own."""
        return self._minted(self._core.api_key)

    @property
    def org_id(self) -> str:
        """Whose key that is."""
        return self._minted(self._core.org_id)

    @property
    def phone_record_dir(self) -> str | None:
        """Folder in which the simulated phone puts what it hears, as `<sid>.wav`."""
        folder = self._core.phone_record_dir
        return None if folder is None else os.fspath(folder)

    def reload(self) -> None:
        """Reads again what may change in files: API keys, `relay.public_keys`, `relay.revoked`, certificates.

        They are read by themselves soon after they change.
        """
        self._core.reload()

    def close(self) -> None:
        """Ends every call and everything that was started. Twice is once."""
        self._core.close()
        self._remove_state()

    def _minted(self, value: str | None) -> str:
        if value is None:
            from clutchcall.errors import ConfigError

            raise ConfigError("this engine's configuration lists its own keys: pass one of them to Voice")
        return value

    def _remove_state(self) -> None:
        folder, self._temporary = self._temporary, None
        if folder is not None:
            import shutil

            shutil.rmtree(folder, ignore_errors=True)

    def __repr__(self) -> str:
        return f"<Engine {self.base_url}{' closed' if self._core.closed else ''}>"


def _read(config: str | os.PathLike[str] | Mapping[str, object] | None) -> tuple[str | None, str | None]:
    """The path of a file, or TOML."""
    if config is None:
        return None, None
    if isinstance(config, (str, os.PathLike)):
        return checked_path("config", config), None
    if not hasattr(type(config), "items"):
        raise TypeError(f"config is a {type(config).__name__}: give the path of a file, or nested dicts")
    from clutchcall._toml import toml

    return None, toml(config)
