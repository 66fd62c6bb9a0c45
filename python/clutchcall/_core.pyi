"""
The native half of `clutchcall`; use the public modules instead.
"""

from _typeshed import SupportsGetItem
from os import PathLike
from pathlib import Path
from typing import Any, Final, SupportsFloat, SupportsIndex, final

__all__ = ["__version__", "Agent", "Attaching", "AudioPublication", "AudioSubscription", "Begun", "Bridge", "BridgeStats", "CallLeg", "CallRow", "CallStats", "CallTransfer", "Client", "Dtmf", "Engine", "Frame", "InteropReport", "MoqtClient", "OpusDecoder", "OpusEncoder", "Phone", "Placing", "Post", "Relay", "Taker", "Watch", "_after_fork", "_bench_rings", "_claim", "_error_classes", "_log_sample", "_raise_sample", "_shutdown", "certificate_days", "check_token", "create_key", "decode_alaw", "decode_ulaw", "drafts", "encode_alaw", "encode_ulaw", "example_config", "interop", "interop_cases", "list_keys", "mint_key", "mint_token", "opus_version", "public_key", "read_token", "revoke_key", "shown_url"]

__version__: Final[str]
"""
The version of the wheel.
"""

@final
class Agent:
    """
    An agent that the engine has.
    """
    def __repr__(self, /) -> str: ...
    @property
    def id(self, /) -> str:
        """
        What `originate` and `Agents.attach` take.
        """
    @property
    def kind(self, /) -> str:
        """
        What it is, such as `echo`.
        """

@final
class Attaching:
    """
    What a bridge is attached to, and as what.
    """
    def __new__(cls, /, *, call_sid: str, role: str, codec: str, sample_rate: SupportsIndex | None, channels: SupportsIndex, frame_ms: SupportsIndex, delivery: str) -> Attaching:
        """
        `role` is "server" or "caller"; `sample_rate` absent: the codec's usual one.
        """

@final
class AudioPublication:
    """
    A published track.
    """
    def close(self, /) -> None: ...
    def subscriber_count(self, /) -> int: ...
    def write(self, /, timestamp_us: Any, data: Any) -> None:
        """
        Neither lets go of the interpreter nor takes a lock.
        """

@final
class AudioSubscription:
    """
    A subscribed track.
    """
    def close(self, /) -> None: ...
    @property
    def dropped(self, /) -> int: ...
    @property
    def frames(self, /) -> int: ...
    @property
    def missing(self, /) -> int: ...

@final
class Begun:
    """
    Work that somebody awaits.
    """
    def abandon(self, /) -> None:
        """
        Nobody awaits it any more: the work ends where it stands, nothing of it stays, a call that it placed is hung up.
        """

@final
class Bridge:
    """
    The native half of `AudioBridge`. Its audio goes on when it is collected: the delivery registry and the media worker hold
    what moves, until `close`.
    """
    def close(self, /) -> None: ...
    def close_later(self, /, post: Post, future: Any) -> Begun: ...
    def leave(self, /) -> None:
        """
        Closes it and waits for nobody.
        """
    def on_dtmf(self, /, callback: Any | None) -> None:
        """
        Told of the keys of the far end from now on, in place of whoever was told before; no key is lost or told twice. The first one
        subscribes to them.
        """
    def on_frame(self, /, callback: Any | None, batch: bool) -> None:
        """
        Swaps the consumer; `None` for one that comes by itself.
        """
    def on_state(self, /, callback: Any | None) -> None:
        """
        Told of the link from now on, of its state now first, in place of whoever was told before.
        """
    def publish(self, /, frame: Any, timestamp_us: Any | None) -> None:
        """
        Neither lets go of the interpreter nor takes a lock: it copies once and returns.
        """
    @property
    def queued_ms(self, /) -> int: ...
    @property
    def reason(self, /) -> str | None:
        """
        Why it is not connected, where that is known.
        """
    def send_dtmf(self, /, digits: str, duration_ms: SupportsIndex) -> None: ...
    def send_dtmf_later(self, /, post: Post, future: Any, digits: str, duration_ms: SupportsIndex) -> Begun: ...
    @property
    def sid(self, /) -> str: ...
    @property
    def state(self, /) -> str: ...
    def stats(self, /) -> BridgeStats: ...
    def stats_later(self, /, post: Post, future: Any) -> Begun: ...
    def taker(self, /) -> Taker:
        """
        Whoever takes the frames from now on.
        """

@final
class BridgeStats:
    """
    A bridge in numbers; frames unless the name says otherwise.
    """
    def __repr__(self, /) -> str: ...
    @property
    def behind(self, /) -> int:
        """
        Frames dropped because the link was too far behind.
        """
    @property
    def callback_errors(self, /) -> int:
        """
        Exceptions that left its callbacks: that of the audio, and those of keys and of the link.
        """
    @property
    def delivery_stalled_ms(self, /) -> int:
        """
        For how long that has been so now, in milliseconds; 0: it is not.
        """
    @property
    def delivery_stalls(self, /) -> int:
        """
        Of the whole process: how often nothing was delivered to anybody, because four callbacks blocked at the same time.
        """
    @property
    def dials(self, /) -> int:
        """
        Attempts to have a link.
        """
    @property
    def dropped(self, /) -> int:
        """
        Frames that arrived and made room for newer ones, because the callback was too slow.
        """
    @property
    def duplicates(self, /) -> int:
        """
        Frames that came again over another link, or from before the time it joined; they are not delivered.
        """
    @property
    def frames_in(self, /) -> int:
        """
        Frames that arrived.
        """
    @property
    def frames_out(self, /) -> int:
        """
        Frames sent to at least one listener.
        """
    @property
    def gaps(self, /) -> int:
        """
        Holes in what arrived.
        """
    @property
    def keys(self, /) -> int:
        """
        Keys that the far end pressed, while somebody was told of them.
        """
    @property
    def keys_dropped(self, /) -> int:
        """
        Keys that made room for newer ones, because 64 waited for the callback.
        """
    @property
    def link_lost(self, /) -> int: ...
    @property
    def link_packets(self, /) -> int:
        """
        Packets that the link sent, and those of them that were lost.
        """
    @property
    def link_window(self, /) -> int:
        """
        How many bytes of the link may be on their way.
        """
    @property
    def migrations(self, /) -> int:
        """
        Links that took the place of one that stood, without a loss: the relay asked for it, or the path was quiet.
        """
    @property
    def missing(self, /) -> int:
        """
        Frames that are missing in those holes.
        """
    @property
    def offline(self, /) -> int:
        """
        Frames whose time came while no link was up.
        """
    @property
    def queued_ms(self, /) -> int:
        """
        Published audio that has not left yet, in milliseconds.
        """
    @property
    def reconnects(self, /) -> int:
        """
        Links that came back after a loss.
        """
    @property
    def rtt_ms(self, /) -> float:
        """
        Round trip of the link's path now, in milliseconds; 0 when there is none.
        """
    @property
    def shared_by(self, /) -> int:
        """
        Bridges that share the link now, this one included; 0 when there is none.
        """
    @property
    def slow_callbacks(self, /) -> int:
        """
        Callbacks that took longer than 20 ms, of each sort.
        """
    @property
    def stale(self, /) -> int:
        """
        Frames that a stall of the path held up for more than 200 ms; they are not delivered.
        """
    @property
    def state(self, /) -> str:
        """
        `connecting`, `connected`, `reconnecting`, `closed` or `failed`.
        """
    @property
    def too_old(self, /) -> int:
        """
        Of `frames_out`, those dropped because they waited 100 ms for room on the path (`delivery="datagram"`).
        """
    @property
    def unheard(self, /) -> int:
        """
        Frames sent while nobody listened.
        """

@final
class CallLeg:
    """
    A second leg of a call that was transferred by a bridge.
    """
    def __repr__(self, /) -> str: ...
    @property
    def answered_at(self, /) -> str | None: ...
    @property
    def ended_at(self, /) -> str | None: ...
    @property
    def q850(self, /) -> int | None: ...
    @property
    def sip_call_id(self, /) -> str | None: ...
    @property
    def sip_code(self, /) -> int | None: ...
    @property
    def started_at(self, /) -> str: ...
    @property
    def state(self, /) -> str:
        """
        `dialing`, `ringing`, `in_progress`, `ended` or `failed`.
        """
    @property
    def stats(self, /) -> CallStats | None:
        """
        What the packets of its phone were, once it is over.
        """
    @property
    def to(self, /) -> str: ...

@final
class CallRow:
    """
    What the control plane said about a call at one moment.
    """
    @property
    def agent(self, /) -> str | None: ...
    @property
    def answered_at(self, /) -> str | None: ...
    @property
    def direction(self, /) -> str | None: ...
    @property
    def end_reason(self, /) -> str | None: ...
    @property
    def ended_at(self, /) -> str | None: ...
    @property
    def ended_by(self, /) -> str | None: ...
    @property
    def from_(self, /) -> str: ...
    @property
    def legs(self, /) -> list[CallLeg]:
        """
        Its second legs, the oldest first.
        """
    @property
    def metadata(self, /) -> dict[str, str]: ...
    @property
    def q850(self, /) -> int | None: ...
    @property
    def sid(self, /) -> str: ...
    @property
    def sip_call_id(self, /) -> str | None: ...
    @property
    def sip_code(self, /) -> int | None: ...
    @property
    def sip_phrase(self, /) -> str | None: ...
    @property
    def started_at(self, /) -> str: ...
    @property
    def stats(self, /) -> CallStats | None:
        """
        What the packets of its phone were.
        """
    @property
    def status(self, /) -> str: ...
    @property
    def to(self, /) -> str: ...
    @property
    def transfer(self, /) -> CallTransfer | None:
        """
        Its last transfer to a number.
        """
    @property
    def transferred_to(self, /) -> str | None: ...
    @property
    def trunk_id(self, /) -> str | None: ...

@final
class CallStats:
    """
    What the RTP packets of a phone were, a call's or a second leg's.
    """
    def __repr__(self, /) -> str: ...
    @property
    def bytes_received(self, /) -> int: ...
    @property
    def bytes_sent(self, /) -> int: ...
    @property
    def codec(self, /) -> str:
        """
        `PCMU`, `PCMA` or `opus`.
        """
    @property
    def jitter_ms(self, /) -> float: ...
    @property
    def mos(self, /) -> float | None:
        """
        Estimated, 1 to 4.5 (ITU-T G.107).
        """
    @property
    def packets_lost(self, /) -> int:
        """
        Packets that should have come.
        """
    @property
    def packets_received(self, /) -> int: ...
    @property
    def packets_sent(self, /) -> int: ...
    @property
    def remote_packets_lost(self, /) -> int | None:
        """
        Packets of the engine's that the far end missed, as it says itself.
        """
    @property
    def round_trip_ms(self, /) -> float | None: ...

@final
class CallTransfer:
    """
    The last transfer of a call to a number.
    """
    def __repr__(self, /) -> str: ...
    @property
    def mode(self, /) -> str:
        """
        How it was tried last: `refer` or `bridge`.
        """
    @property
    def sip_code(self, /) -> int | None: ...
    @property
    def state(self, /) -> str:
        """
        `pending`, `accepted`, `bridged`, `completed`, `failed` or `unknown`.
        """
    @property
    def to(self, /) -> str: ...

@final
class Client:
    """
    One user of a control plane. A method that ends in `_later` begins the work and returns; what its twin returns becomes the
    result of `future`, on the loop of `post`.
    """
    def __new__(cls, /, base_url: str | None, api_key: str | None, org_id: str | None, relay_host: str | None, profile: str | None, pool: SupportsIndex | None, drafts: SupportsGetItem[int, str], timeout: SupportsFloat | SupportsIndex, connect_timeout: SupportsFloat | SupportsIndex, max_retries: SupportsIndex, ca_file: str | None) -> Client: ...
    def agents(self, /) -> list[Agent]: ...
    def agents_later(self, /, post: Post, future: Any) -> Begun: ...
    def answer(self, /, sid: str, agent: str | None) -> None: ...
    def answer_later(self, /, post: Post, future: Any, sid: str, agent: str | None) -> Begun: ...
    def attach(self, /, attaching: Attaching, on_frame: Any | None, batch: bool) -> Bridge:
        """
        `on_frame` absent: somebody takes the frames.
        """
    def attach_agent(self, /, sid: str, agent: str) -> None: ...
    def attach_agent_later(self, /, post: Post, future: Any, sid: str, agent: str) -> Begun: ...
    def attach_later(self, /, post: Post, future: Any, attaching: Attaching, on_frame: Any | None, batch: bool) -> Begun: ...
    @property
    def base_url(self, /) -> str: ...
    def call(self, /, sid: str) -> CallRow: ...
    def call_later(self, /, post: Post, future: Any, sid: str) -> Begun: ...
    def events(self, /, sid: str) -> Taker:
        """
        Takes the rows of a call whenever its status has changed, that of now first.
        """
    def hangup(self, /, sid: str) -> None: ...
    def hangup_later(self, /, post: Post, future: Any, sid: str) -> Begun: ...
    def list(self, /, status: str | None, limit: SupportsIndex, cursor: str | None) -> tuple[list[CallRow], str | None]:
        """
        One page of calls, newest first, and the cursor of the next.
        """
    def list_later(self, /, post: Post, future: Any, status: str | None, limit: SupportsIndex, cursor: str | None) -> Begun: ...
    @property
    def org_id(self, /) -> str: ...
    def originate(self, /, placing: Placing) -> CallRow: ...
    def originate_later(self, /, post: Post, future: Any, placing: Placing) -> Begun: ...
    def reject(self, /, sid: str, reason: str) -> None: ...
    def reject_later(self, /, post: Post, future: Any, sid: str, reason: str) -> Begun: ...
    @property
    def relay_host(self, /) -> str | None: ...
    def send_dtmf(self, /, sid: str, digits: str, duration_ms: SupportsIndex) -> None: ...
    def send_dtmf_later(self, /, post: Post, future: Any, sid: str, digits: str, duration_ms: SupportsIndex) -> Begun: ...
    def test_trunk(self, /, trunk_id: str) -> str:
        """
        An object as JSON.
        """
    def test_trunk_later(self, /, post: Post, future: Any, trunk_id: str) -> Begun: ...
    def transfer(self, /, sid: str, to: str | None, agent: str | None) -> None: ...
    def transfer_later(self, /, post: Post, future: Any, sid: str, to: str | None, agent: str | None) -> Begun: ...
    def trunks(self, /) -> str:
        """
        A list as JSON.
        """
    def trunks_later(self, /, post: Post, future: Any) -> Begun: ...
    def wait(self, /, sid: str, statuses: SupportsGetItem[int, str], timeout: SupportsFloat | SupportsIndex | None) -> CallRow | None:
        """
        `None`: the time is over.
        """
    def wait_later(self, /, post: Post, future: Any, sid: str, statuses: SupportsGetItem[int, str], timeout: SupportsFloat | SupportsIndex | None) -> Begun: ...
    def watch(self, /, sid: str, callback: Any) -> Watch:
        """
        `callback` is given these rows; until the call is over, or the watch is closed.
        """

@final
class Dtmf:
    """
    A key that the far end has pressed and let go.
    """
    def __repr__(self, /) -> str: ...
    @property
    def digit(self, /) -> str:
        """
        `0` to `9`, `*`, `#`, or `A` to `D`.
        """
    @property
    def duration_ms(self, /) -> int:
        """
        How long it was held, in milliseconds; 0 where nobody says.
        """
    @property
    def source(self, /) -> str:
        """
        How it came: `rfc4733` between the packets of the audio, `info` signalled; a newer engine may have further ones.
        """
    @property
    def timestamp_us(self, /) -> int:
        """
        When it was pressed, in microseconds on the clock of the stamps of the frames.
        """

@final
class Engine:
    """
    A running engine, until it is closed or collected.
    """
    def __new__(cls, /, path: str | PathLike[str] | None, toml: str | None, state: str | PathLike[str], ports: tuple[SupportsIndex, SupportsIndex], clip: str | PathLike[str] | None, record: str | PathLike[str] | None, ring_ms: SupportsIndex | None) -> Engine:
        """
        `path` of a file, or `toml` text whose relative paths start in `state`, or neither: the development engine in `state`.
        """
    @property
    def api_key(self, /) -> str | None: ...
    @property
    def base_url(self, /) -> str: ...
    def close(self, /) -> None:
        """
        Ends every call and everything that was started. Twice is once.
        """
    @property
    def closed(self, /) -> bool: ...
    @property
    def org_id(self, /) -> str | None: ...
    @property
    def phone_record_dir(self, /) -> Path | None:
        """
        Where the simulated phone puts what it hears.
        """
    @property
    def relay_url(self, /) -> str: ...
    def reload(self, /) -> None:
        """
        Reads the files of keys, revocations and the certificate of its own relay again.
        """
    @property
    def state(self, /) -> Path: ...

@final
class Frame:
    """
    One encoded frame of a bridge.
    """
    def __repr__(self, /) -> str: ...
    @property
    def codec(self, /) -> str:
        """
        `opus`, `pcm16`, `g711_ulaw` or `g711_alaw`.
        """
    @property
    def data(self, /) -> bytes:
        """
        The encoded frame: one Opus packet, or the samples of one frame.
        """
    @property
    def lost_before(self, /) -> int:
        """
        Frames that are missing between the one that was delivered before and this one, wherever they were lost.
        """
    @property
    def pcm(self, /) -> memoryview:
        """
        The 16-bit samples of a `pcm16` frame, without a copy: a memory view of format `h`, interleaved. Any other codec is a
        `ValueError`: decode `data` with `clutchcall.media` first.
        """
    @property
    def sequence(self, /) -> int:
        """
        Its place among all frames of the track: it grows by one per frame, those that are missing included.
        """
    @property
    def timestamp_us(self, /) -> int:
        """
        Its stamp in microseconds, on the monotonic clock of whoever published it.
        """

@final
class InteropReport:
    """
    How a case went.
    """
    @property
    def duration_ms(self, /) -> int: ...
    @property
    def expected(self, /) -> str | None: ...
    @property
    def message(self, /) -> str:
        """
        What was heard, or why there was nobody.
        """
    @property
    def received(self, /) -> str | None: ...
    @property
    def sessions(self, /) -> list[tuple[str, str, str, str]]:
        """
        Role, transport, version and connection ID of each session.
        """
    @property
    def verdict(self, /) -> str:
        """
        `passed`, `failed`, `skipped` or `unreachable`.
        """

@final
class MoqtClient:
    """
    A link to a relay of the user's choice.
    """
    def __new__(cls, /, url: str, token: str | None, ask_token: Any | None, on_state: Any | None, certificate_hashes: SupportsGetItem[int, str], insecure: bool, drafts: SupportsGetItem[int, str]) -> MoqtClient: ...
    def close(self, /) -> None: ...
    @property
    def origin(self, /) -> str: ...
    def publish_audio(self, /, namespace: SupportsGetItem[int, SupportsGetItem[int, SupportsIndex]], name: str, frame_ms: SupportsIndex, delivery: str) -> AudioPublication: ...
    @property
    def reason(self, /) -> str | None: ...
    @property
    def reconnects(self, /) -> int: ...
    @property
    def state(self, /) -> str: ...
    def subscribe_audio(self, /, namespace: SupportsGetItem[int, SupportsGetItem[int, SupportsIndex]], name: str, on_frame: Any) -> AudioSubscription: ...
    def subscriber_count(self, /) -> int: ...
    @property
    def url(self, /) -> str: ...

@final
class OpusDecoder:
    """
    Opus packets to 16-bit PCM.
    """
    def __new__(cls, /, sample_rate: SupportsIndex, channels: SupportsIndex) -> OpusDecoder: ...
    def decode(self, /, packet: Any | None, lost_ms: Any) -> bytes:
        """
        `None` for a packet that was lost: `lost_ms` of what may have stood in it.
        """
    @property
    def sample_rate(self, /) -> int: ...

@final
class OpusEncoder:
    """
    16-bit PCM to Opus packets.
    """
    def __new__(cls, /, sample_rate: SupportsIndex, channels: SupportsIndex) -> OpusEncoder: ...
    def encode(self, /, samples: Any) -> bytes: ...
    @property
    def lookahead(self, /) -> int:
        """
        Samples per channel that decoded audio lags behind.
        """

@final
class Phone:
    """
    A SIP endpoint that takes every call, until it is closed or collected.
    """
    def __new__(cls, /, listen: str, clip: str | PathLike[str] | None, record: str | PathLike[str] | None, ring_ms: SupportsIndex | None) -> Phone:
        """
        `listen`: an address of this machine with a port, of UDP and TCP; 0 takes a free one.
        """
    @property
    def address(self, /) -> str:
        """
        Host address and port that it is bound to.
        """
    def close(self, /) -> None:
        """
        Hangs up everywhere. Twice is once.
        """

@final
class Placing:
    """
    What a call is placed with. It is looked at when it is placed.
    """
    def __new__(cls, /, *, to: str, from_: str, trunk_id: str, agent: str | None, ring_timeout_sec: SupportsFloat | SupportsIndex | None, idempotency_key: str | None, metadata: dict[str, str], max_duration_sec: SupportsFloat | SupportsIndex | None, send_digits: str | None, headers: dict[str, str], caller_name: str | None, status_callback: str | None) -> Placing: ...

@final
class Post:
    """
    Leads to one event loop.
    """
    def __new__(cls, /, event_loop: Any) -> Post:
        """
        `event_loop`: a weak reference to it.
        """
    def _run(self, /) -> None:
        """
        On the loop: does what there is to do.
        """

@final
class Relay:
    """
    A MoQT relay with a UDP port of its own. It runs until `shutdown`.
    """
    def __new__(cls, /, toml: str, state: str | PathLike[str]) -> Relay:
        """
        `toml`: what `clutchcall.relay.Relay` was told. `state`: folder for the QUIC keys and a self-minted certificate; relative
        paths start there.
        """
    @property
    def address(self, /) -> str:
        """
        Host address and port that it is bound to.
        """
    @property
    def addresses(self, /) -> list[str]:
        """
        Those of all shards.
        """
    @property
    def certificate_hash(self, /) -> str:
        """
        SHA-256 of the certificate that is shown now, hexadecimal.
        """
    def counters(self, /) -> list[tuple[str, int]]:
        """
        Name and value of every counter.
        """
    def drain(self, /, seconds: SupportsFloat | SupportsIndex, to: str) -> None:
        """
        Sends every session away; it has so many seconds to go. Returns at once.
        """
    @property
    def metrics_address(self, /) -> str | None:
        """
        Where `/healthz` and `/metrics` are answered.
        """
    def reload(self, /) -> None:
        """
        Reads the files of keys, revocations and the certificate again.
        """
    def shutdown(self, /) -> None:
        """
        Closes every session and ends the threads. Twice is once.
        """

@final
class Taker:
    """
    Takes what comes through one ring, until it ends, or another consumer takes its place.
    """
    def close(self, /) -> None:
        """
        Nobody takes any more. Twice is once.
        """
    @property
    def over(self, /) -> bool:
        """
        Nothing comes any more.
        """
    def ready(self, /, post: Post, future: Any) -> None:
        """
        `future` is done as soon as `take` may find something. On the loop of `post`.
        """
    def take(self, /) -> Any | None:
        """
        What is there, or `None`.
        """
    def wait(self, /) -> Any | None:
        """
        What comes next; waits for it. `None`: it is over.
        """

@final
class Watch:
    """
    Somebody is told of a call.
    """
    def close(self, /) -> None:
        """
        He is told no more. Twice is once.
        """

def _after_fork() -> None:
    """
    The child of a fork has none of the parent's threads.
    """

def _bench_rings(on_frame: Any, bridges: SupportsIndex, frames_per_s: SupportsIndex, seconds: SupportsFloat | SupportsIndex, frame_bytes: SupportsIndex) -> tuple[int, int, int]:
    """
    Feeds `bridges` rings with `frames_per_s` frames each, for `seconds`. `on_frame(frame, timestamp_us)` is called for each;
    the stamp is the moment of the push on `time.monotonic()`'s clock. Returns (pushed, dropped, late_slots): frames
    pushed, frames that made room in a full ring, and slots that the producer itself began more than 1 ms late.
    """

def _claim(interpreter: SupportsIndex) -> bool:
    """
    `interpreter` is the address of its `sys`. `false`: another interpreter of this process has the module.
    """

def _error_classes() -> list[tuple[str, str]]:
    """
    Every (class, parent class) that this module can raise; a test compares it with `clutchcall.errors`.
    """

def _log_sample(level: str, text: str, count: SupportsIndex) -> None:
    """
    Says something in the core, so that a test can follow it into `logging`.
    """

def _raise_sample(name: str) -> None:
    """
    Raises what the class `name` looks like with every field filled in, so that a test can follow each field across the border.
    """

def _shutdown() -> None:
    """
    Ends all threads of the SDK within a second. Registered with `atexit`.
    """

def certificate_days(chain: str | PathLike[str]) -> int:
    """
    Whole days until the leaf of this PEM chain runs out; negative: since.
    """

def check_token(token: str, public_keys: SupportsGetItem[int, str], now_s: SupportsIndex) -> str | None:
    """
    What a relay with these public keys says to a token at this Unix time: nothing, or why it is refused.
    """

def create_key(file: str | PathLike[str], org: str, scopes: SupportsGetItem[int, str], name: str | None, now_ms: SupportsIndex) -> tuple[str, str]:
    """
    Adds an API key to a key file: its id, and its text, which is shown once. No scopes: all of them.
    """

def decode_alaw(data: Any) -> bytes: ...
def decode_ulaw(data: Any) -> bytes: ...

def drafts() -> list[str]:
    """
    Numbers of the drafts that are advertised, the preferred one first.
    """

def encode_alaw(pcm: Any) -> bytes: ...
def encode_ulaw(pcm: Any) -> bytes: ...

def example_config() -> str:
    """
    A `clutchcall.toml` with every key.
    """

def interop(name: str, url: str, token: str | None, prefix: SupportsGetItem[int, SupportsGetItem[int, SupportsIndex]], insecure: bool, drafts: SupportsGetItem[int, str]) -> InteropReport:
    """
    Plays one case on the calling thread.
    """

def interop_cases() -> list[str]:
    """
    The names of the cases, in the order in which they are run.
    """

def list_keys(file: str | PathLike[str]) -> list[tuple[str, str, list[str], str | None, str | None]]:
    """
    The keys of a key file: id, organisation, scopes, name, when it was made. No file: none.
    """

def mint_key(org: str) -> tuple[str, str]:
    """
    A fresh API key of this organisation: its text, which is shown once, and the hash that a configuration file keeps.
    """

def mint_token(key: str | PathLike[str], claims: str, kid: str | None) -> str:
    """
    A token of these claims (a JSON object), signed with the key in this file (PKCS#8, DER or PEM). `kid`: the name of the key
    where it is not the one that its bytes give it.
    """

def opus_version() -> str:
    """
    The version of libopus in this wheel.
    """

def public_key(state: str | PathLike[str]) -> str:
    """
    The public half of the key that an engine with this state folder signs its tokens with; made if there is none.
    """

def read_token(token: str) -> tuple[str, str]:
    """
    Header and claims of a token as JSON texts. Nothing is verified.
    """

def revoke_key(file: str | PathLike[str], id: str) -> str:
    """
    Takes a key out of a key file by its id; whose it was.
    """

def shown_url(url: str) -> str:
    """
    A URL as messages may show it: without user, password and query.
    """
