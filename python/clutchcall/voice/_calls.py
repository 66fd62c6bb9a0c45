"""Calls: placed, fetched, waited for, followed, answered, transferred, ended."""

from __future__ import annotations

from clutchcall.voice._checks import (
    check_callback,
    check_seconds_or_none,
    check_text,
    check_text_or_none,
    check_whole,
    placing,
    wanted_statuses,
)

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal, Self

    from clutchcall import _core
    from clutchcall.types import CallStatus, RejectReason, StatusCallback

__all__ = ["Call", "CallEvents", "CallPage", "Calls"]


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
        metadata: Mapping[str, str] | None = None,
        max_duration_sec: float | None = None,
        send_digits: str | None = None,
        headers: Mapping[str, str] | None = None,
        caller_name: str | None = None,
        status_callback: str | None = None,
    ) -> Call:
        """Places an outbound call; returns once it is `dialing`.

        Whoever gives up before that (Ctrl-C, a cancelled task, a lost answer) can't know whether a phone rings. Unless
        `idempotency_key` is yours, the call is then taken back in the background: hung up if it was placed, refused if
        it is yet to come. The end of the program waits for that, for less than a second.

        Args:
            to: Destination, E.164.
            from_: Caller id, E.164.
            trunk_id: Trunk to route over.
            agent: Agent of the engine to bind on answer.
            ring_timeout_sec: Seconds to ring; the server clamps to 5..120, `None` means 30.
            idempotency_key: The same key within 24 hours never dials twice. Without one each call of this method has
                its own, which covers its retries. With other arguments the same key is a `ConflictError`. A call with a
                key of yours is never taken back: place it again with the same key, and you have it.
            metadata: Names and texts to keep with the call, for yourself: at most 32 names of 64 bytes, with texts of
                512, of 4,096 bytes together. `Call.metadata` shows them.
            max_duration_sec: Seconds after which the engine ends the call, counted from its answer (`end_reason`
                `max_duration`): 1 to 86,400, `None` means never.
            send_digits: Keys to press for the far end once it has answered, as `Call.send_dtmf` takes them; `ww1`
                waits a second first. A far end that takes none does not end the call: the engine's log says so.
            headers: Headers of your own in the INVITE, whose names begin with `X-`: at most 16, with values of 256
                bytes, of 2,048 bytes together. They are not kept with the call.
            caller_name: What phones show beside `from_`, where carriers let it pass: at most 64 bytes, no `<` and `>`.
            status_callback: A URL of http or https. At each change of the call's status the engine posts
                `{"type": "call.<status>", "timestamp", "data": {…the call…}}` there, with the headers `webhook-id`,
                `webhook-timestamp` and, if the organisation has a `webhook_secret`, `webhook-signature` (Standard
                Webhooks). What is not taken with a 2xx is tried again for some minutes.

        Raises:
            NotFoundError: No such trunk or agent.
            APIStatusError: Any other refusal; see its subclasses.
            APIConnectionError: The engine can't be reached.
        """
        asked = placing(
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
        row = self._core.originate(asked)
        return Call(self._core, row)

    def get(self, sid: str) -> Call:
        """The state of a call now.

        Args:
            sid: The call.

        Raises:
            NotFoundError: No such call in this organisation.
        """
        check_text(sid=sid)
        return Call(self._core, self._core.call(sid))

    def list(self, *, status: CallStatus | None = None, limit: int = 50, cursor: str | None = None) -> CallPage:
        """The organisation's calls, newest first.

        Args:
            status: Only calls of this status.
            limit: At most so many, 1 to 500.
            cursor: `CallPage.cursor` of the page before; `None` begins at the newest.

        Raises:
            ValueError: No such status, or a limit out of range.
            BadRequestError: The cursor is not of a page.
        """
        check_text_or_none(status=status, cursor=cursor)
        check_whole(limit=limit)
        rows, following = self._core.list(status, limit, cursor)
        return CallPage((Call(self._core, row) for row in rows), following)

    def __repr__(self) -> str:
        return f"<Calls of {self._core.base_url}>"


class CallFields:
    """What is known of one call: as it was when last asked."""

    __slots__ = ("_core", "_row", "_watch")

    def __init__(self, core: _core.Client, row: _core.CallRow) -> None:
        self._core = core
        self._row = row
        self._watch: _core.Watch | None = None

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
        """Why it ended, in one word; a newer engine may have further ones.

        `normal`, `transferred`, `max_duration`, `server_shutdown`, `node_lost`, `canceled`, `ring_timeout`,
        `remote_timeout`, `no_response`, `network_error`, `unavailable`, `busy`, `declined`, `auth_failed`, `forbidden`,
        `not_found`, `invalid_number`, `codec_mismatch`, `redirected`, `carrier_limit`, `carrier_error`,
        `media_timeout`, `session_expired`, `no_ack`, `answered_elsewhere`.
        """
        return self._row.end_reason

    @property
    def ended_by(self) -> str | None:
        """Whose doing its end was: "local" is a user of the API, "remote" the far end or a carrier,
        "system" a timer or the end of the engine."""
        return self._row.ended_by

    @property
    def sip_code(self) -> int | None:
        """The final SIP status of a call that was not answered."""
        return self._row.sip_code

    @property
    def sip_phrase(self) -> str | None:
        """The far end's own words beside it; of a "network_error", which has no status, why nobody
        could be asked."""
        return self._row.sip_phrase

    @property
    def sip_call_id(self) -> str | None:
        """The Call-ID of its INVITE, by which a carrier finds it."""
        return self._row.sip_call_id

    @property
    def q850(self) -> int | None:
        """The ITU-T Q.850 cause, where one came."""
        return self._row.q850

    @property
    def transferred_to(self) -> str | None:
        """Where the far end was transferred to."""
        return self._row.transferred_to

    @property
    def last_transfer(self) -> _core.CallTransfer | None:
        """The last transfer to a number, and what became of it."""
        return self._row.transfer

    @property
    def legs(self) -> list[_core.CallLeg]:
        """Second legs of a call that was transferred by a bridge, the oldest first."""
        return self._row.legs

    @property
    def stats(self) -> _core.CallStats | None:
        """What the RTP packets of its phone were; known a moment after its end."""
        return self._row.stats

    @property
    def metadata(self) -> dict[str, str]:
        """What `originate(metadata=)` noted on it; a copy."""
        return self._row.metadata

    def _watch_with(self, callback: StatusCallback | None) -> None:
        before, self._watch = self._watch, None
        if before is not None:
            before.close()
        if callback is None:
            return

        def told(row: _core.CallRow) -> None:
            self._row = row
            callback(self.status)

        self._watch = self._core.watch(self.sid, told)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.sid} {self.status} {self.from_} → {self.to}>"


class Call(CallFields):
    """One call: its state as it was when last asked, and what can be done with it.

    The fields don't move by themselves: `refresh()` asks again, `wait()` waits until something is so, `events()` and
    `on_status()` follow it.
    """

    __slots__ = ()

    def refresh(self) -> Call:
        """Fetches the state of now into this object, and returns it."""
        self._row = self._core.call(self.sid)
        return self

    def wait(self, status: CallStatus | tuple[CallStatus, ...] | None = None, timeout: float | None = None) -> Call:
        """Waits until the call has this status, and returns it refreshed.

        The engine tells it, over one connection for all waits of this `Voice`; an engine without events is asked again
        and again.

        Args:
            status: One status, or several of which any will do. `None`: any final one.
            timeout: Seconds; `None` waits as long as it takes.

        Raises:
            TimeoutError: The time is over.
            CallError: The call will never have that status: it is past it, or has ended in another way; then
                `end_reason`, `sip_code` and `q850` say how.
        """
        wanted = wanted_statuses(status)
        check_seconds_or_none(timeout=timeout)
        row = self._core.wait(self.sid, list(wanted), timeout)
        if row is None:
            raise TimeoutError(f"call {self.sid} was not {' or '.join(wanted)} within {timeout} s")
        self._row = row
        return self

    def events(self) -> CallEvents:
        """The call at every change of its status, as it is now first; ends with the call.

        ```python
        for now in call.events():
            print(now.status)
        ```

        The engine tells every change. One that can't be asked for a while is asked again; of an engine without events a
        status that lasts for less than half a second may be passed over.

        Raises:
            NotFoundError: No such call any more (while iterating).
        """
        return CallEvents(self._core, self._core.events(self.sid))

    def on_status(self, callback: StatusCallback | None) -> None:
        """Calls `callback` with the status at every change, with that of now first, until the call is over.

        It is called on the SDK's own thread, as frames are, and the fields of this object are those of that moment. It
        takes the place of the callback before; `None` ends that.

        Raises:
            TypeError: `callback` can't be called.
        """
        if callback is not None:
            check_callback("callback", callback, "(status: str)")
        self._watch_with(callback)

    def transfer(self, to: str | None = None, *, agent: str | None = None) -> None:
        """Transfers the far end to a number, or binds another agent. Give exactly one.

        Args:
            to: Number to transfer to, E.164.
            agent: Agent of the engine to bind; the line stays as it is.

        Raises:
            ConflictError: The call is not answered, has ended, or the far end refuses.
            NotFoundError: No such agent.
            ValueError: Both were given, or neither.
        """
        check_text_or_none(to=to, agent=agent)
        self._core.transfer(self.sid, to, agent)

    def answer(self, *, agent: str | None = None) -> None:
        """Answers a call that came in and rings.

        It is `in_progress` once the caller has acknowledged that, a moment later. A call that nobody answers in its
        ring timeout (30 s unless the trunk's rule says otherwise) ends as `no_answer`.

        Args:
            agent: Agent of the engine that speaks from then on; with `None` a bridge can.

        Raises:
            ConflictError: The call goes out, is answered, or has ended.
            NotFoundError: No such agent.
        """
        check_text_or_none(agent=agent)
        self._core.answer(self.sid, agent)

    def reject(self, reason: RejectReason = "declined") -> None:
        """Refuses a call that came in and rings; it ends as `failed`, with the reason as its `end_reason`.

        Args:
            reason: What the caller is told: `busy` (SIP 486), `declined` (603), `unavailable` (480), `not_found` (404)
                or `forbidden` (403).

        Raises:
            ConflictError: The call goes out, is answered, or has ended.
            ValueError: No such reason.
        """
        check_text(reason=reason)
        self._core.reject(self.sid, reason)

    def hangup(self) -> None:
        """Ends the call in any state, and both audio tracks with it. A call that is over already stays so.

        A call that came in and rings is refused by it, as by `reject("declined")`.
        """
        self._core.hangup(self.sid)

    def send_dtmf(self, digits: str, duration_ms: int = 160) -> None:
        """Presses keys for the far end, one after the other, in place of audio (RFC 4733) or as SIP INFO.

        Returns once the engine has all of them.

        Args:
            digits: 1 to 64 of `0` to `9`, `*`, `#` and `A` to `D`; `w` is a pause of half a second, `W` of a second.
            duration_ms: How long each is pressed: 40 to 4,000 milliseconds.

        Raises:
            ConflictError: The call is not answered or has ended, its far end takes no keys or is empty, or keys and
                pauses wait already and these would be more than 64 with them.
            ValueError: There is another letter in it, or one of both is out of range.
        """
        check_text(digits=digits)
        check_whole(duration_ms=duration_ms)
        self._core.send_dtmf(self.sid, digits, duration_ms)


class CallEvents:
    """A call at every change of its status: what `Call.events` returns. An iterator of `Call`."""

    __slots__ = ("_core", "_taker")

    def __init__(self, core: _core.Client, taker: _core.Taker) -> None:
        self._core = core
        self._taker = taker

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Call:
        row: _core.CallRow | None = self._taker.wait()
        if row is None:
            raise StopIteration
        return Call(self._core, row)

    def close(self) -> None:
        """Nothing follows. So it is when the object is collected, too."""
        self._taker.close()


class CallPage(list[Call]):
    """Some calls, and where the next ones begin."""

    __slots__ = ("cursor",)

    def __init__(self, calls: Iterable[Call], cursor: str | None) -> None:
        super().__init__(calls)
        self.cursor: str | None = cursor
        """For the next page; `None` at the end."""
