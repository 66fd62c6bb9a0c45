"""`Voice`: where the control plane is, who asks it, and what hangs on that."""

from __future__ import annotations

from clutchcall import _core
from clutchcall._closing import Closing
from clutchcall.voice._bridges import AudioBridges
from clutchcall.voice._calls import Calls
from clutchcall.voice._checks import (
    check_seconds,
    check_text,
    check_text_or_none,
    check_whole,
    check_whole_or_none,
    checked_path,
    texts,
)
from clutchcall.voice._trunks import Trunks

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

__all__ = ["Agents", "Voice"]


class Settings:
    """A control plane, and who asks it; `Voice` and `AsyncVoice` say what can be asked."""

    __slots__ = ("_core",)

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        org_id: str | None = None,
        relay_host: str | None = None,
        *,
        profile: str | None = None,
        pool: int | None = None,
        drafts: Sequence[str] = (),
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        max_retries: int = 2,
        ca_file: str | PathLike[str] | None = None,
    ) -> None:
        check_text_or_none(base_url=base_url, api_key=api_key, org_id=org_id, relay_host=relay_host, profile=profile)
        check_seconds(timeout=timeout, connect_timeout=connect_timeout)
        check_whole(max_retries=max_retries)
        check_whole_or_none(pool=pool)
        authority = None if ca_file is None else checked_path("ca_file", ca_file)
        self._core = _core.Client(
            base_url,
            api_key,
            org_id,
            relay_host,
            profile,
            pool,
            texts("drafts", drafts),
            timeout,
            connect_timeout,
            max_retries,
            authority,
        )
        self._begin()

    def _begin(self) -> None:
        """What hangs on the settings: each class says what that is."""
        raise NotImplementedError

    @property
    def base_url(self) -> str:
        """Origin of the control plane, without a slash at its end."""
        return self._core.base_url

    @property
    def org_id(self) -> str:
        """Organisation of every call."""
        return self._core.org_id

    @property
    def relay_host(self) -> str | None:
        """What replaces the relay's host, if anything does."""
        return self._core.relay_host

    def __repr__(self) -> str:
        settings = f"base_url={self.base_url!r}, api_key='…', org_id={self.org_id!r}, relay_host={self.relay_host!r}"
        return f"{type(self).__name__}({settings})"


class Voice(Settings, Closing):
    """A control plane, and what can be done with it: `calls`, `audio_bridge`, `agents`, `trunks`.

    A setting that is not given is looked for in the environment, then in a profile of the user's own file of settings
    (`CLUTCHCALL_CONFIG`, else `~/.config/clutchcall/config.toml`), then in a running `clutchcall dev` on this machine.
    Nothing is sent and no thread starts before the first request. Use it from any thread; after `fork()` make a new one
    in the child.

    Args:
        base_url: Origin of the control plane, such as `https://engine.clutchcall.dev` (`CLUTCHCALL_BASE_URL`).
        api_key: Key with `voice:*` scopes (`CLUTCHCALL_API_KEY`, or `CLUTCHCALL_CREDENTIALS` as the key itself or as
            the path of a file with it).
        org_id: Organisation of every call (`CLUTCHCALL_ORG_ID`).
        relay_host: Host, or host:port, that replaces the one of the relay which the control plane names
            (`CLUTCHCALL_RELAY_HOST`).
        profile: Which table of that file, `[profiles.NAME]`, serves what is given nowhere else (`CLUTCHCALL_PROFILE`,
            else `default`). Its key is sent to its own `base_url` only.
        pool: At most so many bridges on one connection to the relay, 1 to 32 (`CLUTCHCALL_POOL`). They share one only
            where the engine says so, as it does for its own relay; elsewhere each has its own. 1: each has its own
            everywhere, so that nothing one connection suffers is felt by two calls, for more work per frame.
        drafts: Numbers of the drafts of MoQT that a relay is offered, the preferred first, such as `["18"]`
            (`CLUTCHCALL_DRAFTS`, with commas). Empty: all that are spoken here.
        timeout: Seconds for one request with its retries.
        connect_timeout: Seconds for one attempt to connect.
        max_retries: Repetitions after the first attempt, of requests that can't act twice: those that only ask,
            `originate` (by its idempotency key), `hangup`, and `attach` of a bridge. They wait 0.5 s, then twice as
            long each time up to 8 s, with jitter, or as long as the engine says (`Retry-After`) where that is within
            `timeout`. What may act twice is sent once: `transfer`, `answer`, `reject`, `send_dtmf`, `agents.attach`
            and `trunks.test`.
        ca_file: PEM file of the only authorities whose certificate the control plane may show (`CLUTCHCALL_CA_FILE`).
            Without it the machine's own count, or those of `SSL_CERT_FILE`.

    Raises:
        ConfigError: A setting is missing or unusable; the message names it.
        ValueError: A limit is out of range.
    """

    __slots__ = ("agents", "audio_bridge", "calls", "trunks")

    def _begin(self) -> None:
        self.calls: Calls = Calls(self._core)
        """Control plane: place calls and fetch them."""
        self.audio_bridge: AudioBridges = AudioBridges(self._core)
        """Data plane: hear a call and speak on it."""
        self.agents: Agents = Agents(self._core)
        """Bind an agent of the engine to a call."""
        self.trunks: Trunks = Trunks(self._core)
        """The lines that calls go over."""

    def close(self) -> None:
        """Closes the bridges that were attached through this object and are still open. Twice is once."""
        self.audio_bridge._close_all()


class Agents:
    """Binds agents of the engine to calls. Reached as `Voice.agents`."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.Client) -> None:
        self._core = core

    def attach(self, call_sid: str, agent: str) -> None:
        """Binds `agent` to a live call, in place of the one before. The engine wires its audio.

        Args:
            call_sid: The call.
            agent: Id of an agent that `list` names.

        Raises:
            NotFoundError: No such call or agent.
            ConflictError: The call is over.
        """
        check_text(call_sid=call_sid, agent=agent)
        self._core.attach_agent(call_sid, agent)

    def list(self) -> list[_core.Agent]:
        """The agents that the engine has."""
        return self._core.agents()

    def __repr__(self) -> str:
        return f"<Agents of {self._core.base_url}>"
