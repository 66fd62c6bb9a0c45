"""Calls and their audio: `Voice`, `Call`, `AudioBridge`.

```python
from clutchcall.voice import Voice

with Voice() as v:
    call = v.calls.originate(to="+15551234567", from_="+15558675309", trunk_id="trunk_main")
    with v.audio_bridge.attach(call.sid, on_uplink=lambda frame, ts_us: ...) as bridge:
        call.wait(status="completed")
```

Every method that asks the control plane waits in the calling thread without holding the interpreter lock, ends at
Ctrl-C, and raises the classes of `clutchcall.errors`. Wrong arguments raise `ValueError` or `TypeError` before anything
is sent.
"""

from __future__ import annotations

from clutchcall import _core
from clutchcall._closing import Closing
from clutchcall._core import BridgeStats

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    from clutchcall.types import AudioBuffer, AudioCodec, BridgeState, CallStatus, Delivery, FrameCallback

__all__ = [
    "Agents",
    "AudioBridge",
    "AudioBridges",
    "BridgeStats",
    "Call",
    "CallPage",
    "Calls",
    "Voice",
]

_FINAL: tuple[CallStatus, ...] = ("completed", "failed", "no_answer")


class Voice(Closing):
    """A control plane, and what can be done with it: `calls`, `audio_bridge`, `agents`.

    A setting that is not given is looked for in the environment, then in a running `clutchcall dev` on this machine.
    Nothing is sent and no thread starts before the first request. Use it from any thread; after `fork()` make a new one
    in the child.

    Args:
        base_url: Origin of the control plane, such as `https://engine.clutchcall.dev` (`CLUTCHCALL_BASE_URL`).
        api_key: Key with `voice:*` scopes (`CLUTCHCALL_API_KEY`, or `CLUTCHCALL_CREDENTIALS` as the key itself or as
            the path of a file with it).
        org_id: Organisation of every call (`CLUTCHCALL_ORG_ID`).
        relay_host: Host, or host:port, that replaces the one of the relay which the control plane names
            (`CLUTCHCALL_RELAY_HOST`).
        pool: At most so many bridges on one connection to the relay, 1 to 32 (`CLUTCHCALL_POOL`). They share one only
            where the engine says so, as it does for its own relay; elsewhere each has its own. 1: each has its own
            everywhere, so that nothing one connection suffers is felt by two calls, for more work per frame.
        drafts: Numbers of the drafts of MoQT that a relay is offered, the preferred first, such as `["18"]`
            (`CLUTCHCALL_DRAFTS`, with commas). Empty: all that are spoken here.
        timeout: Seconds for one request with its retries.
        connect_timeout: Seconds for one attempt to connect.
        max_retries: Repetitions after the first attempt, of requests that can't act twice.

    Raises:
        ConfigError: A setting is missing or unusable; the message names it.
        ValueError: A limit is out of range.
    """

    __slots__ = ("_bridges", "_core", "agents", "audio_bridge", "calls")

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        org_id: str | None = None,
        relay_host: str | None = None,
        *,
        pool: int | None = None,
        drafts: Sequence[str] = (),
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        max_retries: int = 2,
    ) -> None:
        _check_text_or_none(base_url=base_url, api_key=api_key, org_id=org_id, relay_host=relay_host)
        _check_number(timeout=timeout, connect_timeout=connect_timeout, max_retries=max_retries)
        _check_number(pool=1 if pool is None else pool)
        self._core = _core.Client(
            base_url, api_key, org_id, relay_host, pool, list(drafts), timeout, connect_timeout, max_retries
        )
        self.calls: Calls = Calls(self._core)
        """Control plane: place calls and fetch them."""
        self.audio_bridge: AudioBridges = AudioBridges(self._core)
        """Data plane: hear a call and speak on it."""
        self.agents: Agents = Agents(self._core)
        """Bind an agent of the engine to a call."""

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

    def close(self) -> None:
        """Closes the bridges that were attached through this object and are still open. Twice is once."""
        self.audio_bridge._close_all()

    def __repr__(self) -> str:
        return f"Voice(base_url={self.base_url!r}, api_key='…', org_id={self.org_id!r}, relay_host={self.relay_host!r})"


class Calls:
    """Places calls and fetches their state. Reached as `Voice.calls`."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.Client) -> None:
        self._core = core

    def originate(
        self,
        to: str,
        *,
        from_: str,
        trunk_id: str,
        agent: str | None = None,
        ring_timeout_sec: float | None = 30,
        idempotency_key: str | None = None,
    ) -> Call:
        """Places an outbound call; returns once it is `dialing`.

        Args:
            to: Destination, E.164.
            from_: Caller id, E.164.
            trunk_id: Trunk to route over.
            agent: Agent of the engine to bind on answer.
            ring_timeout_sec: Seconds to ring; the server clamps to 5..120, `None` means 30.
            idempotency_key: The same key within 24 hours never dials twice. Without one each call of this method has
                its own, which covers its retries.

        Raises:
            NotFoundError: No such trunk or agent.
            APIStatusError: Any other refusal; see its subclasses.
            APIConnectionError: The engine can't be reached.
        """
        _check_text(to=to, from_=from_, trunk_id=trunk_id)
        _check_text_or_none(agent=agent, idempotency_key=idempotency_key)
        _check_number(ring_timeout_sec=30 if ring_timeout_sec is None else ring_timeout_sec)
        return Call(self._core, self._core.originate(to, from_, trunk_id, agent, ring_timeout_sec, idempotency_key))

    def get(self, sid: str) -> Call:
        """The state of a call now.

        Raises:
            NotFoundError: No such call in this organisation.
        """
        _check_text(sid=sid)
        return Call(self._core, self._core.call(sid))

    def list(self, *, status: CallStatus | None = None, limit: int = 50, cursor: str | None = None) -> CallPage:
        """The organisation's calls, newest first.

        Args:
            status: Only calls of this status.
            limit: At most so many, 1 to 500.
            cursor: `CallPage.cursor` of the page before; `None` begins at the newest.
        """
        _check_text_or_none(status=status, cursor=cursor)
        _check_number(limit=limit)
        rows, following = self._core.list(status, limit, cursor)
        return CallPage((Call(self._core, row) for row in rows), following)

    def __repr__(self) -> str:
        return f"<Calls of {self._core.base_url}>"


class Call:
    """One call: its state as it was when last asked, and what can be done with it.

    The fields don't move by themselves: `refresh()` asks again, `wait()` asks until something is so.
    """

    __slots__ = ("_core", "_row")

    def __init__(self, core: _core.Client, row: _core.CallRow) -> None:
        self._core = core
        self._row = row

    @property
    def sid(self) -> str:
        """The call's only address."""
        return self._row.sid

    @property
    def status(self) -> CallStatus:
        """Where the call stood."""
        return self._row.status  # type: ignore[return-value]

    @property
    def to(self) -> str:
        """Destination, E.164."""
        return self._row.to

    @property
    def from_(self) -> str:
        """Caller id, E.164."""
        return self._row.from_

    @property
    def started_at(self) -> str:
        """When it was placed: ISO 8601, UTC."""
        return self._row.started_at

    @property
    def trunk_id(self) -> str | None:
        """The trunk it was routed over."""
        return self._row.trunk_id

    @property
    def agent(self) -> str | None:
        """The agent that is bound to it."""
        return self._row.agent

    @property
    def direction(self) -> Literal["outbound", "inbound"] | None:
        """Who placed it."""
        return self._row.direction  # type: ignore[return-value]

    @property
    def answered_at(self) -> str | None:
        """When it was answered: ISO 8601, UTC."""
        return self._row.answered_at

    @property
    def ended_at(self) -> str | None:
        """When it ended: ISO 8601, UTC."""
        return self._row.ended_at

    @property
    def end_reason(self) -> str | None:
        """Why it ended, in one word: `hangup`, `busy`, `declined`, `ring_timeout`, `transferred`, …"""
        return self._row.end_reason

    @property
    def sip_code(self) -> int | None:
        """The final SIP status of a call that was not answered."""
        return self._row.sip_code

    @property
    def q850(self) -> int | None:
        """The ITU-T Q.850 cause, where one came."""
        return self._row.q850

    @property
    def transferred_to(self) -> str | None:
        """Where the far end was transferred to."""
        return self._row.transferred_to

    def refresh(self) -> Call:
        """Fetches the state of now into this object, and returns it."""
        self._row = self._core.call(self.sid)
        return self

    def wait(self, status: CallStatus | tuple[CallStatus, ...] | None = None, timeout: float | None = None) -> Call:
        """Waits until the call has this status, and returns it refreshed.

        Args:
            status: One status, or several of which any will do. `None`: any final one.
            timeout: Seconds; `None` waits as long as it takes.

        Raises:
            TimeoutError: The time is over.
            CallError: The call has ended in another way, so that it will never have that status; `end_reason`,
                `sip_code` and `q850` say how.
        """
        wanted = _FINAL if status is None else (status,) if isinstance(status, str) else tuple(status)
        row = self._core.wait(self.sid, list(wanted), timeout)
        if row is None:
            raise TimeoutError(f"call {self.sid} was not {' or '.join(wanted)} within {timeout} s")
        self._row = row
        return self

    def transfer(self, to: str | None = None, *, agent: str | None = None) -> None:
        """Transfers the far end to a number, or binds another agent. Give exactly one.

        Raises:
            ConflictError: The call is not answered, has ended, or the far end refuses.
            NotFoundError: No such agent.
            ValueError: Both were given, or neither.
        """
        _check_text_or_none(to=to, agent=agent)
        self._core.transfer(self.sid, to, agent)

    def hangup(self) -> None:
        """Ends the call in any state, and both audio tracks with it. A call that is over already stays so."""
        self._core.hangup(self.sid)

    def __repr__(self) -> str:
        return f"<Call {self.sid} {self.status} {self.from_} → {self.to}>"


class CallPage(list[Call]):
    """Some calls, and where the next ones begin."""

    __slots__ = ("cursor",)

    def __init__(self, calls: Iterable[Call], cursor: str | None) -> None:
        super().__init__(calls)
        self.cursor: str | None = cursor
        """For the next page; `None` at the end."""


class AudioBridges:
    """Opens audio bridges. Reached as `Voice.audio_bridge`."""

    __slots__ = ("_core", "_open")

    def __init__(self, core: _core.Client) -> None:
        self._core = core
        # Changed by single operations only: attaching is allowed from any thread.
        self._open: set[_core.Bridge] = set()

    def attach(
        self,
        call_sid: str,
        *,
        on_uplink: FrameCallback,
        codec: AudioCodec = "opus",
        sample_rate: int | None = None,
        channels: int = 1,
        frame_ms: int = 20,
        delivery: Delivery = "stream",
    ) -> AudioBridge:
        """Hears the caller (uplink) and speaks to her (downlink), in any state of the call.

        Returns once the control plane has granted it; audio comes when there is some. The audio goes on until
        `close()`, the end of the call or the end of the process, whether or not the returned object is held.

        Args:
            call_sid: The call.
            on_uplink: Called on the SDK's own thread with one encoded frame and its stamp in microseconds. It should
                return within a frame's time; up to 10 frames wait for it, then the oldest is dropped and counted. What
                it raises goes to `sys.unraisablehook`.
            codec: What one frame is, both ways.
            sample_rate: In Hz. Opus and pcm16: 8000, 12000, 16000, 24000 or 48000 (the default); G.711: 8000.
            channels: 1, or 2 for opus and pcm16.
            frame_ms: 10, 20, 40 or 60; G.711 also 30 and 50.
            delivery: How frames travel.

        Raises:
            NotFoundError: No such call.
            ConflictError: Another bridge with these parameters, or an agent, speaks on this call, or the call is over.
        """
        settings = (codec, sample_rate, channels, frame_ms, delivery)
        return self._attach(call_sid, "server", "on_uplink", on_uplink, settings)

    def attach_caller(
        self,
        call_sid: str,
        *,
        on_downlink: FrameCallback,
        codec: AudioCodec = "opus",
        sample_rate: int | None = None,
        channels: int = 1,
        frame_ms: int = 20,
        delivery: Delivery = "stream",
    ) -> AudioBridge:
        """Stands in for the caller of a call whose far end is empty: hears the downlink, speaks on the uplink.

        Takes the arguments of `attach` with `on_downlink` in place of `on_uplink`, and raises what it raises. On a
        call with a phone of its own it is a `ConflictError`.
        """
        settings = (codec, sample_rate, channels, frame_ms, delivery)
        return self._attach(call_sid, "caller", "on_downlink", on_downlink, settings)

    def _attach(
        self,
        call_sid: str,
        role: Literal["server", "caller"],
        field: str,
        callback: FrameCallback,
        settings: tuple[AudioCodec, int | None, int, int, Delivery],
    ) -> AudioBridge:
        codec, sample_rate, channels, frame_ms, delivery = settings
        _check_text(call_sid=call_sid, codec=codec, delivery=delivery)
        _check_number(channels=channels, frame_ms=frame_ms, sample_rate=0 if sample_rate is None else sample_rate)
        _check_callback(field, callback)
        bridge = self._core.attach(call_sid, role, callback, *settings)
        self._open.difference_update([other for other in tuple(self._open) if other.state == "closed"])
        self._open.add(bridge)
        return AudioBridge(bridge, role)

    def _close_all(self) -> None:
        for bridge in tuple(self._open):
            bridge.close()
            self._open.discard(bridge)

    def __repr__(self) -> str:
        return f"<AudioBridges of {self._core.base_url}>"


class AudioBridge(Closing):
    """Both tracks of one call, as `attach` or `attach_caller` opened them.

    Losing the object changes nothing: frames keep coming until `close()` or the end of the call. The link is dialled
    afresh after a loss and goes on at the live edge.
    """

    __slots__ = ("_core", "_role")

    def __init__(self, core: _core.Bridge, role: Literal["server", "caller"]) -> None:
        self._core = core
        self._role = role

    @property
    def call_sid(self) -> str:
        """The call this bridge belongs to."""
        return self._core.sid

    @property
    def state(self) -> BridgeState:
        """How the link stands."""
        return self._core.state  # type: ignore[return-value]

    @property
    def reason(self) -> str | None:
        """Why it does not stand, where that is known."""
        return self._core.reason

    @property
    def queued_ms(self) -> int:
        """Milliseconds of published audio that have not left yet."""
        return self._core.queued_ms

    def publish_downlink(self, frame: AudioBuffer, timestamp_us: int | None = None) -> None:
        """Says one encoded frame to the caller, after those before it.

        Never waits. A burst is spoken in its own time: up to 60 s are held, and frames leave at most 60 ms early.

        Args:
            frame: One encoded frame of the bridge's codec: any contiguous buffer of bytes or 16-bit integers, copied
                before this returns.
            timestamp_us: When it is to be heard, on the clock of `time.monotonic_ns() // 1000`; a moment in the past
                means now.

        Raises:
            ValueError: The frame is not one frame of this bridge, or its stamp is more than 60 s ahead.
            TypeError: It is no such buffer.
            BridgeClosed: The bridge or its call is over.
            BridgeError: 60 s are waiting already; or this is a caller's bridge.
        """
        if self._role != "server":
            raise self._other_side("publish_uplink")
        self._core.publish(frame, timestamp_us)

    def publish_uplink(self, frame: AudioBuffer, timestamp_us: int | None = None) -> None:
        """Says one encoded frame as the caller (`attach_caller`); see `publish_downlink`."""
        if self._role != "caller":
            raise self._other_side("publish_downlink")
        self._core.publish(frame, timestamp_us)

    def on_uplink(self, callback: FrameCallback) -> None:
        """Swaps the consumer of the caller's audio in mid-call; no frame is lost or heard twice."""
        if self._role != "server":
            raise self._other_side("on_downlink")
        _check_callback("callback", callback)
        self._core.on_frame(callback)

    def on_downlink(self, callback: FrameCallback) -> None:
        """Swaps the consumer of a caller's bridge (`attach_caller`)."""
        if self._role != "caller":
            raise self._other_side("on_uplink")
        _check_callback("callback", callback)
        self._core.on_frame(callback)

    def stats(self) -> BridgeStats:
        """What passed so far, and how the link stands."""
        return self._core.stats()

    def close(self) -> None:
        """Withdraws both tracks and gives the right to speak back. What has not left by then is not heard.

        Twice is once.
        """
        self._core.close()

    def _other_side(self, method: str) -> Exception:
        from clutchcall.errors import BridgeError

        opened = "attach" if self._role == "server" else "attach_caller"
        return BridgeError(f"this bridge was opened with {opened}(): use {method}()")

    def __repr__(self) -> str:
        return f"<AudioBridge of {self.call_sid} {self.state}>"


class Agents:
    """Binds agents of the engine to calls. Reached as `Voice.agents`."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.Client) -> None:
        self._core = core

    def attach(self, call_sid: str, agent: str) -> None:
        """Binds `agent` to a live call, in place of the one before. The engine wires its audio.

        Raises:
            NotFoundError: No such call or agent.
            ConflictError: The call is over.
        """
        _check_text(call_sid=call_sid, agent=agent)
        self._core.attach_agent(call_sid, agent)

    def __repr__(self) -> str:
        return f"<Agents of {self._core.base_url}>"


def _check_callback(field: str, callback: object) -> None:
    if not callable(callback):
        raise TypeError(
            f"{field} is a {type(callback).__name__}: give a callable that takes (frame: bytes, timestamp_us: int)"
        )


def _check_text(**fields: object) -> None:
    for field, value in fields.items():
        if not isinstance(value, str):
            raise TypeError(f"{field} is a {type(value).__name__}: give text")


def _check_text_or_none(**fields: object) -> None:
    _check_text(**{field: value for field, value in fields.items() if value is not None})


def _check_number(**fields: object) -> None:
    for field, value in fields.items():
        # What the core makes of it is its own question; text and None are nobody's numbers.
        if not (hasattr(type(value), "__index__") or hasattr(type(value), "__float__")):
            raise TypeError(f"{field} is a {type(value).__name__}: give a number")
