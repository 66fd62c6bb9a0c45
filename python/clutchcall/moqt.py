"""Tracks by name on any MoQT relay (draft-ietf-moq-transport): what lies under an audio bridge.

An object is one frame, with its stamp as the TIMESTAMP of draft-ietf-moq-loc §2.3.1; `docs/moqt.md` says which drafts.

```python
from clutchcall.moqt import MoqtClient

client = MoqtClient.connect("moqt://127.0.0.1:4443", token=token)
track = client.publish_audio("voice/CA1/uplink", "audio")
track.write(0, frame)
```
"""

from __future__ import annotations

from clutchcall import _core
from clutchcall._checks import check_callback, check_flag, check_text, check_whole, items_of, texts
from clutchcall._closing import Closing

TYPE_CHECKING = False  # As type checkers read it; `typing` itself would double the time of the import.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clutchcall.types import AudioBuffer, BridgeState, Delivery, FrameCallback, Namespace

__all__ = ["AudioPublication", "AudioSubscription", "MoqtClient"]


class MoqtClient(Closing):
    """A link to a relay, made by `connect`.

    It is dialled afresh after every loss; publications and subscriptions stay.
    """

    __slots__ = ("_core",)

    def __init__(self, core: _core.MoqtClient) -> None:
        self._core = core

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        token: str | Callable[[], str] | None = None,
        on_state: Callable[[BridgeState], object] | None = None,
        certificate_hashes: Sequence[str] = (),
        insecure: bool = False,
        drafts: Sequence[str] = (),
    ) -> MoqtClient:
        """Returns at once and dials in the background.

        Args:
            url: `moqt://host:port` for raw QUIC (`moq://` and `quic://` mean the same), `https://host:port/path` for
                WebTransport.
            token: Sent in SETUP and with every request. A text can't be renewed: behind its end the relay ends what it
                allowed, and the client fails. A callable is asked for the token of now, on the SDK's own thread: at
                each dial, ahead of the end that the last one names (`exp` of a JWT), and when the relay refuses it.
            on_state: Called with each new state, on the SDK's own thread.
            certificate_hashes: SHA-256 of the certificates to accept, hexadecimal. Empty: the machine's roots decide.
            insecure: Accept any certificate.
            drafts: Numbers of the drafts of MoQT to offer, the preferred first, such as `["18"]`. Empty: all that are
                spoken here.

        Raises:
            ValueError: `url`, a hash or a draft can't be read.
            RelayUnreachable: No socket can be had.
        """
        check_text(url=url)
        check_flag(insecure=insecure)
        if on_state is not None:
            check_callback("on_state", on_state, "(state: str)")
        text, ask = (token, None) if token is None or isinstance(token, str) else (None, token)
        if text is not None:
            check_text(token=text)
        if ask is not None:
            check_callback("token", ask, "nothing and returns one, or give a text")
        hashes, numbers = texts("certificate_hashes", certificate_hashes), texts("drafts", drafts)
        return cls(_core.MoqtClient(url, text, ask, on_state, hashes, insecure, numbers))

    @property
    def url(self) -> str:
        """Where it connects to."""
        return self._core.url

    @property
    def state(self) -> BridgeState:
        """How the link stands."""
        return self._core.state  # type: ignore[return-value]

    @property
    def reason(self) -> str | None:
        """Why it does not stand, where that is known."""
        return self._core.reason

    @property
    def reconnects(self) -> int:
        """Links that came back after a loss."""
        return self._core.reconnects

    def publish_audio(
        self,
        namespace: Namespace,
        name: str,
        capability: str = "",
        *,
        sample_rate: int = 48000,
        channels: int = 1,
        frame_ms: int = 20,
        delivery: Delivery = "stream",
    ) -> AudioPublication:
        """Announces the namespace and serves the track to whoever subscribes.

        Args:
            namespace: The track's namespace.
            name: The track's name.
            capability: What the payload is, such as `voice/opus`; said to nobody, as MoQT has no place for it.
            sample_rate: In Hz; it describes the payload and changes nothing on the wire.
            channels: The same.
            frame_ms: Milliseconds that one frame covers, 1 to 1000: a group of objects is about a second.
            delivery: How frames travel.

        Raises:
            ValueError: A number is out of range, or a field of the namespace can't stand in one.
            BridgeClosed: The client is closed.
        """
        check_text(name=name, capability=capability, delivery=delivery)
        check_whole(sample_rate=sample_rate, channels=channels, frame_ms=frame_ms)
        return AudioPublication(self._core.publish_audio(_fields(namespace), name, frame_ms, delivery))

    def subscribe_audio(self, namespace: Namespace, name: str, on_frame: FrameCallback) -> AudioSubscription:
        """Subscribes from the live edge, and holds out for a publisher that is not there yet.

        Args:
            namespace: The track's namespace.
            name: The track's name.
            on_frame: Called with each payload and its stamp in microseconds, on the SDK's own thread.

        Raises:
            ValueError: A field of the namespace can't stand in one.
            BridgeClosed: The client is closed.
        """
        check_text(name=name)
        check_callback("on_frame", on_frame)
        return AudioSubscription(self._core.subscribe_audio(_fields(namespace), name, on_frame))

    def subscriber_count(self) -> int:
        """Subscriptions on all tracks that this client publishes."""
        return self._core.subscriber_count()

    def close(self) -> None:
        """Withdraws every track and closes the link. Twice is once."""
        self._core.close()

    def __repr__(self) -> str:
        return f"<MoqtClient {self._core.origin} {self.state}>"


class AudioPublication:
    """A track that `MoqtClient.publish_audio` opened."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.AudioPublication) -> None:
        self._core = core

    def write(self, timestamp_us: int, data: AudioBuffer) -> None:
        """Sends one frame now. Never waits.

        Args:
            timestamp_us: Its stamp in microseconds, 0 or more, on a monotonic clock of yours.
            data: The frame: any contiguous buffer of bytes or 16-bit integers, copied before this returns.

        Raises:
            BridgeClosed: The track or its client is closed.
        """
        self._core.write(timestamp_us, data)

    def subscriber_count(self) -> int:
        """Subscriptions on this track."""
        return self._core.subscriber_count()

    def close(self) -> None:
        """Ends the track for good: subscribers learn that nothing follows."""
        self._core.close()


class AudioSubscription:
    """A track that `MoqtClient.subscribe_audio` opened. It goes on when the object is collected, until `close()`."""

    __slots__ = ("_core",)

    def __init__(self, core: _core.AudioSubscription) -> None:
        self._core = core

    @property
    def frames(self) -> int:
        """Frames that arrived."""
        return self._core.frames

    @property
    def missing(self) -> int:
        """Frames known to be missing among them."""
        return self._core.missing

    @property
    def dropped(self) -> int:
        """Frames that made room for newer ones, because the callback was too slow."""
        return self._core.dropped

    def close(self) -> None:
        """Ends the subscription."""
        self._core.close()


def _fields(namespace: Namespace) -> list[bytes]:
    if isinstance(namespace, str):
        check_text(namespace=namespace)
        return [field.encode() for field in namespace.split("/")]
    return [_field(number, field) for number, field in enumerate(items_of("namespace", namespace))]


def _field(number: int, field: object) -> bytes:
    if isinstance(field, (bytes, bytearray)):
        return bytes(field)
    check_text(**{f"namespace[{number}]": field})
    assert isinstance(field, str)
    return field.encode()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in ("captureMicrophone", "capture_microphone", "OpusPlayer"):
            raise AttributeError(
                f"{name} is the browser's, whose softphone comes with a later version: here encode with "
                "media.OpusEncoder, speak with AudioBridge.publish_uplink, and play what media.OpusDecoder gives"
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
