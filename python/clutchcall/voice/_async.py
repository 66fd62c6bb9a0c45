"""`AsyncVoice` and what hangs on it: the twins of `Voice`, `Calls`, `Call` and `AudioBridge` for an event loop.

Same names, same arguments, same core. What waits in the one is awaited in the other, and never holds up the loop;
what waits for nothing (`publish_downlink`, `state`, swapping a consumer) is the same method. A task that is
cancelled while it awaits leaves nothing behind: the request ends, a bridge that was about to be granted is given
back, and a call that was about to be placed is hung up.
"""

from __future__ import annotations

from clutchcall.voice._bridges import BridgeFace, OpenBridges
from clutchcall.voice._calls import CallFields
from clutchcall.voice._checks import (
    attaching,
    check_callback,
    check_dtmf,
    check_seconds_or_none,
    check_text,
    check_text_or_none,
    check_whole,
    consumer,
    placing,
    wanted_statuses,
)
from clutchcall.voice._loops import asked, posted
from clutchcall.voice._trunks import read, tested
from clutchcall.voice._voice import Settings

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Any, Self

    from clutchcall import _core
    from clutchcall._core import BridgeStats, Frame
    from clutchcall.types import (
        AudioCodec,
        BatchCallback,
        CallStatus,
        Delivery,
        DtmfCallback,
        FrameCallback,
        RejectReason,
        StatusCallback,
        Trunk,
        TrunkTest,
    )

__all__ = [
    "AsyncAgents",
    "AsyncAudioBridge",
    "AsyncAudioBridges",
    "AsyncCall",
    "AsyncCallEvents",
    "AsyncCallPage",
    "AsyncCalls",
    "AsyncFrames",
    "AsyncVoice",
]


class AsyncClosing:
    """An asynchronous context manager that ends with `aclose()`."""

    __slots__ = ()

    async def close(self) -> None:
        """Each class says what that means."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """`close()`, by the name that `contextlib.aclosing` calls."""
        await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncVoice(Settings, AsyncClosing):
    """A control plane, and what can be done with it from an event loop; the twin of `Voice`, with its arguments and
    errors.

    It may be made anywhere and used from any loop. Callbacks (`on_uplink` and the like) are called on the SDK's own
    thread; `async for frame in bridge.uplink()` brings frames to the loop, with one wake-up of the loop for all that
    is ready.
    """

    __slots__ = ("agents", "audio_bridge", "calls", "trunks")

    def _begin(self) -> None:
        self.calls: AsyncCalls = AsyncCalls(self._core)
        """Control plane: place calls and fetch them."""
        self.audio_bridge: AsyncAudioBridges = AsyncAudioBridges(self._core)
        """Data plane: hear a call and speak on it."""
        self.agents: AsyncAgents = AsyncAgents(self._core)
        """Bind an agent of the engine to a call."""
        self.trunks: AsyncTrunks = AsyncTrunks(self._core)
        """The lines that calls go over."""

    async def close(self) -> None:
        """Closes the bridges that were attached through this object and are still open. Twice is once."""
        await self.audio_bridge._close_all()


class AsyncCalls:
    """Places calls and fetches their state. Reached as `AsyncVoice.calls`; the twin of `Calls`."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.Client) -> None:
        self._core = core

    async def originate(
        self,
        to: str,
        *,
        from_: str,
        trunk_id: str,
        agent: str | None = None,
        ring_timeout_sec: float | None = 30,
        idempotency_key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        max_duration_sec: float | None = None,
        send_digits: str | None = None,
        headers: Mapping[str, str] | None = None,
        caller_name: str | None = None,
        status_callback: str | None = None,
    ) -> AsyncCall:
        """Places an outbound call; returns once it is `dialing`. See `Calls.originate`."""
        wanted = placing(
            to=to,
            from_=from_,
            trunk_id=trunk_id,
            agent=agent,
            ring_timeout_sec=ring_timeout_sec,
            idempotency_key=idempotency_key,
            metadata=metadata,
            max_duration_sec=max_duration_sec,
            send_digits=send_digits,
            headers=headers,
            caller_name=caller_name,
            status_callback=status_callback,
        )
        row: _core.CallRow = await asked(self._core.originate_later, wanted)
        return AsyncCall(self._core, row)

    async def get(self, sid: str) -> AsyncCall:
        """The state of a call now. See `Calls.get`."""
        check_text(sid=sid)
        row: _core.CallRow = await asked(self._core.call_later, sid)
        return AsyncCall(self._core, row)

    async def list(
        self, *, status: CallStatus | None = None, limit: int = 50, cursor: str | None = None
    ) -> AsyncCallPage:
        """The organisation's calls, newest first. See `Calls.list`."""
        check_text_or_none(status=status, cursor=cursor)
        check_whole(limit=limit)
        rows, following = await asked(self._core.list_later, status, limit, cursor)
        return AsyncCallPage((AsyncCall(self._core, row) for row in rows), following)

    def __repr__(self) -> str:
        return f"<AsyncCalls of {self._core.base_url}>"


class AsyncCall(CallFields):
    """One call: its state as it was when last asked, and what can be done with it. The twin of `Call`."""

    __slots__ = ()

    async def refresh(self) -> AsyncCall:
        """Fetches the state of now into this object, and returns it."""
        self._row = await asked(self._core.call_later, self.sid)
        return self

    async def wait(
        self, status: CallStatus | tuple[CallStatus, ...] | None = None, timeout: float | None = None
    ) -> AsyncCall:
        """Waits until the call has this status, and returns it refreshed. See `Call.wait`."""
        wanted = wanted_statuses(status)
        check_seconds_or_none(timeout=timeout)
        row: _core.CallRow | None = await asked(self._core.wait_later, self.sid, list(wanted), timeout)
        if row is None:
            raise TimeoutError(f"call {self.sid} was not {' or '.join(wanted)} within {timeout} s")
        self._row = row
        return self

    def events(self) -> AsyncCallEvents:
        """The call at every change of its status, as an asynchronous iterator. See `Call.events`."""
        return AsyncCallEvents(self._core, self._core.events(self.sid))

    def on_status(self, callback: StatusCallback | None) -> None:
        """Calls `callback` with the status at every change. See `Call.on_status`."""
        if callback is not None:
            check_callback("callback", callback, "(status: str)")
        self._watch_with(callback)

    async def transfer(self, to: str | None = None, *, agent: str | None = None) -> None:
        """Transfers the far end to a number, or binds another agent. See `Call.transfer`."""
        check_text_or_none(to=to, agent=agent)
        await asked(self._core.transfer_later, self.sid, to, agent)

    async def answer(self, *, agent: str | None = None) -> None:
        """Answers a call that came in and rings. See `Call.answer`."""
        check_text_or_none(agent=agent)
        await asked(self._core.answer_later, self.sid, agent)

    async def reject(self, reason: RejectReason = "declined") -> None:
        """Refuses a call that came in and rings. See `Call.reject`."""
        check_text(reason=reason)
        await asked(self._core.reject_later, self.sid, reason)

    async def hangup(self) -> None:
        """Ends the call in any state, and both audio tracks with it. See `Call.hangup`."""
        await asked(self._core.hangup_later, self.sid)

    async def send_dtmf(self, digits: str, duration_ms: int = 160) -> None:
        """Presses keys for the far end, one after the other. See `Call.send_dtmf`."""
        check_text(digits=digits)
        check_whole(duration_ms=duration_ms)
        await asked(self._core.send_dtmf_later, self.sid, digits, duration_ms)


class AsyncCallEvents:
    """A call at every change of its status: what `AsyncCall.events` returns. An asynchronous iterator of
    `AsyncCall`.
    """

    __slots__ = ("_core", "_taker")

    def __init__(self, core: _core.Client, taker: _core.Taker) -> None:
        self._core = core
        self._taker = taker

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncCall:
        return AsyncCall(self._core, await _next(self._taker))

    async def aclose(self) -> None:
        """Nothing follows. So it is when the object is collected, too."""
        self._taker.close()


class AsyncCallPage(list[AsyncCall]):
    """Some calls, and where the next ones begin."""

    __slots__ = ("cursor",)

    def __init__(self, calls: Iterable[AsyncCall], cursor: str | None) -> None:
        super().__init__(calls)
        self.cursor: str | None = cursor
        """For the next page; `None` at the end."""


class AsyncAudioBridges(OpenBridges):
    """Opens audio bridges. Reached as `AsyncVoice.audio_bridge`; the twin of `AudioBridges`."""

    __slots__ = ()

    async def attach(
        self,
        call_sid: str,
        *,
        on_uplink: FrameCallback | None = None,
        on_uplink_batch: BatchCallback | None = None,
        on_dtmf: DtmfCallback | None = None,
        codec: AudioCodec = "opus",
        sample_rate: int | None = None,
        channels: int = 1,
        frame_ms: int = 20,
        delivery: Delivery = "stream",
    ) -> AsyncAudioBridge:
        """Hears the caller (uplink) and speaks to her (downlink), in any state of the call. See
        `AudioBridges.attach`.
        """
        wanted = attaching(
            call_sid,
            role="server",
            codec=codec,
            sample_rate=sample_rate,
            channels=channels,
            frame_ms=frame_ms,
            delivery=delivery,
        )
        check_dtmf(on_dtmf)
        callback, batch = consumer("uplink", on_uplink, on_uplink_batch)
        bridge: _core.Bridge = await asked(self._core.attach_later, wanted, callback, batch)
        return AsyncAudioBridge(self._hearing(bridge, on_dtmf), "server")

    async def attach_caller(
        self,
        call_sid: str,
        *,
        on_downlink: FrameCallback | None = None,
        on_downlink_batch: BatchCallback | None = None,
        codec: AudioCodec = "opus",
        sample_rate: int | None = None,
        channels: int = 1,
        frame_ms: int = 20,
        delivery: Delivery = "stream",
    ) -> AsyncAudioBridge:
        """Stands in for the caller of a call whose far end is empty. See `AudioBridges.attach_caller`."""
        wanted = attaching(
            call_sid,
            role="caller",
            codec=codec,
            sample_rate=sample_rate,
            channels=channels,
            frame_ms=frame_ms,
            delivery=delivery,
        )
        callback, batch = consumer("downlink", on_downlink, on_downlink_batch)
        bridge: _core.Bridge = await asked(self._core.attach_later, wanted, callback, batch)
        return AsyncAudioBridge(self._keep(bridge), "caller")

    async def _close_all(self) -> None:
        bridges = tuple(self._open)
        if bridges:
            import asyncio

            await asyncio.gather(*(asked(bridge.close_later) for bridge in bridges))
            self._open.difference_update(bridges)


class AsyncAudioBridge(BridgeFace, AsyncClosing):
    """Both tracks of one call, as `attach` or `attach_caller` opened them. The twin of `AudioBridge`.

    Losing the object changes nothing: frames keep coming until `close()` or the end of the call.
    """

    __slots__ = ()

    def uplink(self) -> AsyncFrames:
        """The caller's audio as an asynchronous iterator of `Frame`; no frame is lost or heard twice.

        ```python
        async for frame in bridge.uplink():
            await asr.feed(frame.data)
        ```

        Up to 10 frames wait for it, then the oldest is dropped and counted in `Frame.lost_before`. It ends with the
        bridge, with the call, and when another consumer takes its place.
        """
        return AsyncFrames(self._take("uplink"))

    def downlink(self) -> AsyncFrames:
        """What is said to the caller, on a caller's bridge (`attach_caller`); see `uplink`."""
        return AsyncFrames(self._take("downlink"))

    async def send_dtmf(self, digits: str, duration_ms: int = 160) -> None:
        """Presses keys for the caller's phone, one after the other. See `AudioBridge.send_dtmf`."""
        check_text(digits=digits)
        check_whole(duration_ms=duration_ms)
        await asked(self._core.send_dtmf_later, digits, duration_ms)

    async def stats(self) -> BridgeStats:
        """What passed so far, and how the link stands."""
        stats: BridgeStats = await asked(self._core.stats_later)
        return stats

    async def close(self) -> None:
        """Withdraws both tracks and gives the right to speak back. What has not left by then is not heard.

        Twice is once.
        """
        await asked(self._core.close_later)


class AsyncFrames:
    """What a bridge hears, one `Frame` after the other: an asynchronous iterator. `AsyncAudioBridge.uplink` returns
    it.
    """

    __slots__ = ("_core",)

    def __init__(self, core: _core.Taker) -> None:
        self._core = core

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        frame: Frame = await _next(self._core)
        return frame


class AsyncAgents:
    """Binds agents of the engine to calls. Reached as `AsyncVoice.agents`; the twin of `Agents`."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.Client) -> None:
        self._core = core

    async def attach(self, call_sid: str, agent: str) -> None:
        """Binds `agent` to a live call, in place of the one before. See `Agents.attach`."""
        check_text(call_sid=call_sid, agent=agent)
        await asked(self._core.attach_agent_later, call_sid, agent)

    async def list(self) -> list[_core.Agent]:
        """The agents that the engine has. See `Agents.list`."""
        found: list[_core.Agent] = await asked(self._core.agents_later)
        return found

    def __repr__(self) -> str:
        return f"<AsyncAgents of {self._core.base_url}>"


async def _next(taker: _core.Taker) -> Any:  # noqa: ANN401 (whatever comes through its ring)
    while True:
        item = taker.take()
        if item is not None:
            return item
        if taker.over:
            raise StopAsyncIteration
        post, future = posted()
        taker.ready(post, future)
        await future


class AsyncTrunks:
    """The trunks that calls may be routed over. Reached as `AsyncVoice.trunks`; the twin of `Trunks`."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.Client) -> None:
        self._core = core

    async def list(self) -> list[Trunk]:
        """The trunks that the organisation may use, and how they do. See `Trunks.list`."""
        rows: str = await asked(self._core.trunks_later)
        return read(rows)

    async def test(self, trunk_id: str) -> TrunkTest:
        """Has the engine ask the trunk's far side whether it is there. See `Trunks.test`."""
        check_text(trunk_id=trunk_id)
        row: str = await asked(self._core.test_trunk_later, trunk_id)
        return tested(row)

    def __repr__(self) -> str:
        return f"<AsyncTrunks of {self._core.base_url}>"
