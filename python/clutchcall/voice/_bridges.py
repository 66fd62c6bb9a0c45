"""Audio bridges: hear a call and speak on it, frame by frame, batch by batch, or in a loop."""

from __future__ import annotations

from clutchcall._closing import Closing
from clutchcall.voice._checks import attaching, check_callback, check_dtmf, check_text, check_whole, consumer

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from typing import Self

    from clutchcall import _core
    from clutchcall._core import BridgeStats, Frame
    from clutchcall.types import (
        AudioBuffer,
        AudioCodec,
        BatchCallback,
        BridgeState,
        Delivery,
        DtmfCallback,
        FrameCallback,
        StateCallback,
    )
    from clutchcall.voice._checks import Role

__all__ = ["AudioBridge", "AudioBridges", "Frames"]


class OpenBridges:
    """The bridges of one `Voice`, which are closed with it."""

    __slots__ = ("_core", "_open")

    def __init__(self, core: _core.Client) -> None:
        self._core = core
        # Changed by single operations only: attaching is allowed from any thread.
        self._open: set[_core.Bridge] = set()

    def _keep(self, bridge: _core.Bridge) -> _core.Bridge:
        self._open.difference_update([other for other in tuple(self._open) if other.state == "closed"])
        self._open.add(bridge)
        return bridge

    def _hearing(self, bridge: _core.Bridge, on_dtmf: DtmfCallback | None) -> _core.Bridge:
        if on_dtmf is not None:
            from clutchcall.errors import BridgeClosed

            try:
                bridge.on_dtmf(on_dtmf)
            except BridgeClosed:
                # The call has ended meanwhile: whoever attached learns it as he would without keys.
                return bridge
            except BaseException:
                bridge.leave()
                raise
        return self._keep(bridge)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._core.base_url}>"


class AudioBridges(OpenBridges):
    """Opens audio bridges. Reached as `Voice.audio_bridge`."""

    __slots__ = ()

    def attach(
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
    ) -> AudioBridge:
        """Hears the caller (uplink) and speaks to her (downlink), in any state of the call.

        Returns once the control plane has granted it; audio comes when there is some. The audio goes on until
        `close()`, the end of the call or the end of the process, whether or not the returned object is held.

        Args:
            call_sid: The call.
            on_uplink: Called on the SDK's own thread with one encoded frame and its stamp in microseconds. It should
                return within a frame's time; up to 10 frames wait for it, then the oldest is dropped and counted. What
                it raises goes to `sys.unraisablehook`.
            on_uplink_batch: Called in its place with a list of `Frame`: all that have arrived since the last call. With
                neither of both frames wait, as above, for `AudioBridge.uplink()` or `AudioBridge.on_uplink()`.
            on_dtmf: Called on the same thread with a `Dtmf` for each key that the caller presses, when she lets it go.
                Up to 64 wait for it, then the oldest is dropped and counted. Keys of before are not told.
            codec: What one frame is, both ways.
            sample_rate: In Hz. Opus and pcm16: 8000, 12000, 16000, 24000 or 48000 (the default); G.711: 8000.
            channels: 1, or 2 for opus and pcm16.
            frame_ms: Milliseconds of one frame: 10, 20, 40 or 60; G.711 also 30 and 50.
            delivery: How frames travel.

        Raises:
            ValueError: A codec, rate, number of channels or length that is none of these.
            NotFoundError: No such call.
            ConflictError: Another bridge with these parameters, or an agent, speaks on this call, or the call is over.
            BridgeError: `on_dtmf` was given, and this engine tells no keys.
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
        bridge = self._core.attach(wanted, *consumer("uplink", on_uplink, on_uplink_batch))
        return AudioBridge(self._hearing(bridge, on_dtmf), "server")

    def attach_caller(
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
    ) -> AudioBridge:
        """Stands in for the caller of a call whose far end is empty: hears the downlink, speaks on the uplink.

        Takes the arguments of `attach`, but for the consumer and `on_dtmf`, and raises what it raises.

        Args:
            on_downlink: As `on_uplink` there, for what is said to the caller.
            on_downlink_batch: As `on_uplink_batch` there.

        Raises:
            ConflictError: The call has a phone of its own, or somebody speaks as the caller already.
        """
        wanted = attaching(
            call_sid,
            role="caller",
            codec=codec,
            sample_rate=sample_rate,
            channels=channels,
            frame_ms=frame_ms,
            delivery=delivery,
        )
        bridge = self._core.attach(wanted, *consumer("downlink", on_downlink, on_downlink_batch))
        return AudioBridge(self._keep(bridge), "caller")

    def _close_all(self) -> None:
        for bridge in tuple(self._open):
            bridge.close()
            self._open.discard(bridge)


class BridgeFace:
    """What a bridge is to both sorts of programs: everything that waits for nothing."""

    __slots__ = ("_core", "_role")

    def __init__(self, core: _core.Bridge, role: Role) -> None:
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
            raise self._other_side("publish_uplink()")
        self._core.publish(frame, timestamp_us)

    def publish_uplink(self, frame: AudioBuffer, timestamp_us: int | None = None) -> None:
        """Says one encoded frame as the caller (`attach_caller`); see `publish_downlink`."""
        if self._role != "caller":
            raise self._other_side("publish_downlink()")
        self._core.publish(frame, timestamp_us)

    def on_uplink(self, callback: FrameCallback) -> None:
        """Swaps the consumer of the caller's audio in mid-call; no frame is lost or heard twice.

        Args:
            callback: Called with one encoded frame and its stamp in microseconds, as `on_uplink` of `attach`.

        Raises:
            TypeError: `callback` can't be called.
            BridgeClosed: The bridge or its call is over: the callback would never be called.
            BridgeError: This is a caller's bridge.
        """
        self._swap("uplink", callback, batch=False)

    def on_uplink_batch(self, callback: BatchCallback) -> None:
        """Swaps it for a `callback` that is given a list of `Frame`: all that have arrived since it was last called.

        It raises what `on_uplink` raises.
        """
        self._swap("uplink", callback, batch=True)

    def on_downlink(self, callback: FrameCallback) -> None:
        """Swaps the consumer of a caller's bridge (`attach_caller`) for `callback`; see `on_uplink`."""
        self._swap("downlink", callback, batch=False)

    def on_downlink_batch(self, callback: BatchCallback) -> None:
        """Swaps the consumer of a caller's bridge for a `callback` of lists; see `on_uplink_batch`."""
        self._swap("downlink", callback, batch=True)

    def on_dtmf(self, callback: DtmfCallback | None) -> None:
        """Calls `callback` with a `Dtmf` for each key that the caller presses, when she lets it go; see `attach`.

        In mid-call it takes the place of the callback before, and no key is lost or told twice; `None` ends that.

        Raises:
            TypeError: `callback` can't be called.
            BridgeClosed: The bridge or its call is over: no key is told any more.
            BridgeError: This engine tells no keys; or this is a caller's bridge.
        """
        check_dtmf(callback, "callback")
        if self._role != "server":
            raise self._other_side("a bridge of attach()")
        self._core.on_dtmf(callback)

    def on_state(self, callback: StateCallback | None) -> None:
        """Calls `callback` with the state of the link at every change, with that of now first, and `closed` last.

        It is called on the SDK's own thread, as frames are. It takes the place of the callback before; `None` ends
        that.

        Raises:
            TypeError: `callback` can't be called.
        """
        if callback is not None:
            check_callback("callback", callback, "(state: str)")
        self._core.on_state(callback)

    def _swap(self, side: str, callback: FrameCallback | BatchCallback, *, batch: bool) -> None:
        self._check_side(side, "on_{}_batch()" if batch else "on_{}()")
        check_callback("callback", callback, "a list of Frame" if batch else "(frame: bytes, timestamp_us: int)")
        self._core.on_frame(callback, batch)

    def _take(self, side: str) -> _core.Taker:
        self._check_side(side, "{}()")
        return self._core.taker()

    def _check_side(self, side: str, method: str) -> None:
        heard = "uplink" if self._role == "server" else "downlink"
        if side != heard:
            raise self._other_side(method.format(heard))

    def _other_side(self, instead: str) -> Exception:
        from clutchcall.errors import BridgeError

        opened = "attach" if self._role == "server" else "attach_caller"
        return BridgeError(f"this bridge was opened with {opened}(): use {instead}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.call_sid} {self.state}>"


class AudioBridge(BridgeFace, Closing):
    """Both tracks of one call, as `attach` or `attach_caller` opened them.

    Losing the object changes nothing: frames keep coming until `close()` or the end of the call. The link is dialled
    afresh after a loss and goes on at the live edge.
    """

    __slots__ = ()

    def uplink(self) -> Frames:
        """The caller's audio as an iterator of `Frame`, in place of a callback; no frame is lost or heard twice.

        ```python
        for frame in bridge.uplink():
            asr.feed(frame.data)
        ```

        Up to 10 frames wait for it, then the oldest is dropped and counted in `Frame.lost_before`. It ends with the
        bridge, with the call, and when another consumer takes its place.
        """
        return Frames(self._take("uplink"))

    def downlink(self) -> Frames:
        """What is said to the caller, on a caller's bridge (`attach_caller`); see `uplink`."""
        return Frames(self._take("downlink"))

    def send_dtmf(self, digits: str, duration_ms: int = 160) -> None:
        """Presses keys for the caller's phone, one after the other; see `Call.send_dtmf`.

        It raises what that raises, and `BridgeClosed` where the bridge or its call is over.
        """
        check_text(digits=digits)
        check_whole(duration_ms=duration_ms)
        self._core.send_dtmf(digits, duration_ms)

    def stats(self) -> BridgeStats:
        """What passed so far, and how the link stands."""
        return self._core.stats()

    def close(self) -> None:
        """Withdraws both tracks and gives the right to speak back. What has not left by then is not heard.

        Twice is once.
        """
        self._core.close()


class Frames:
    """What a bridge hears, one `Frame` after the other: an iterator. `AudioBridge.uplink` returns it."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.Taker) -> None:
        self._core = core

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        frame: Frame | None = self._core.wait()
        if frame is None:
            raise StopIteration
        return frame
