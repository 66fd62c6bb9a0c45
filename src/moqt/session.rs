//! The session state machine: see the module's contract in [`crate::moqt`].

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::message::{
    GoAway, Publish, PublishDone, PublishOk, RequestError, Setup, Subscribe, SubscribeOk, Token, TrackProperties,
};
use super::name::{FullTrackName, TrackNamespace};
use super::object::{Object, SubgroupHeader};
use super::version::Draft;

/// A stream as the session and its link name it; the link maps it to a QUIC stream id.
///
/// Numbers the session chose (streams it opens) are even, numbers from [`Session::accept_stream`] are odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A request of either side, as this endpoint names it: its draft-18 Request ID (§9.1), unique in the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// An outgoing subgroup stream opened by [`Session::open_subgroup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubgroupId(pub u64);

/// Direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    Bi,
    Uni,
}

/// Which side of the connection this endpoint is: it decides the parity of Request IDs (§9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// What an endpoint is told at birth.
#[derive(Clone, Debug)]
pub struct Config {
    pub role: Role,
    pub draft: Draft,
    /// Our own SETUP: tokens, path and authority (raw QUIC clients only), implementation name.
    pub setup: Setup,
    pub limits: Limits,
}

/// Bounds on what a peer can make this session remember.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The peer's SETUP must arrive within this time, or the session closes with CONTROL_MESSAGE_TIMEOUT.
    pub setup_timeout: Duration,
    /// Open requests of the peer that this session holds at once.
    pub requests: usize,
    /// Bytes of one object's payload.
    pub object_bytes: usize,
    /// Bytes held for data streams and datagrams whose track alias is not known yet, and for how long.
    pub pending_bytes: usize,
    pub pending_time: Duration,
}

/// What the link has to do. Order matters within one stream, and `Open` comes before the rest of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// `priority`: higher is sent first (QUIC stream priority).
    Open {
        stream: StreamId,
        dir: Dir,
        priority: i32,
    },
    Data {
        stream: StreamId,
        data: Bytes,
    },
    /// FIN after what was written.
    Finish {
        stream: StreamId,
    },
    Reset {
        stream: StreamId,
        code: u64,
    },
    /// STOP_SENDING.
    Stop {
        stream: StreamId,
        code: u64,
    },
    Datagram(Bytes),
    /// Close the whole session; nothing follows.
    Close {
        code: u64,
        reason: String,
    },
}

/// What the application learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer's SETUP arrived; requests of ours may have been sent before.
    Setup(Setup),

    // The peer asks; answer with accept_*/reject.
    Subscribe {
        request: RequestId,
        subscribe: Subscribe,
    },
    Publish {
        request: RequestId,
        publish: Publish,
    },
    PublishNamespace {
        request: RequestId,
        namespace: TrackNamespace,
        tokens: Vec<Token>,
    },
    SubscribeNamespace {
        request: RequestId,
        prefix: TrackNamespace,
        tokens: Vec<Token>,
    },
    /// REQUEST_UPDATE on a subscription of the peer: forward state or priority changed (already answered OK).
    Updated {
        request: RequestId,
        forward: bool,
    },
    /// The peer withdrew its own request (reset, stopped, or finished the request stream).
    Cancelled {
        request: RequestId,
    },

    // Answers to our requests.
    SubscribeOk {
        request: RequestId,
        ok: SubscribeOk,
    },
    /// REQUEST_OK to PUBLISH_NAMESPACE, SUBSCRIBE_NAMESPACE or PUBLISH.
    RequestOk {
        request: RequestId,
    },
    RequestError {
        request: RequestId,
        error: RequestError,
    },
    /// The publisher says that a subscription of ours is over; or its stream ended without a word (`done` is then INTERNAL_ERROR
    /// with an empty reason).
    PublishDone {
        request: RequestId,
        done: PublishDone,
    },
    Namespace {
        request: RequestId,
        suffix: TrackNamespace,
    },
    NamespaceDone {
        request: RequestId,
        suffix: TrackNamespace,
    },

    // Media of a subscription of ours.
    /// A subgroup stream began; its objects follow with the same `stream`.
    Subgroup {
        request: RequestId,
        stream: StreamId,
        header: SubgroupHeader,
    },
    /// One object, as soon as it is whole. `stream` is `None` when it came as a datagram.
    Object {
        request: RequestId,
        stream: Option<StreamId>,
        object: Object,
    },
    /// A subgroup stream ended: by FIN (`reset` is `None`) or by RESET_STREAM.
    SubgroupEnd {
        request: RequestId,
        stream: StreamId,
        reset: Option<u64>,
    },

    GoAway(GoAway),
    /// The session is over: we closed it (a violation by the peer, or [`Session::close`]).
    Closed {
        code: u64,
        reason: String,
    },
}

/// A datagram that does not fit or that the path can't carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// One MoQT session of one draft, in either role.
pub struct Session {
    _config: Config,
}

#[allow(unused_variables, clippy::todo)]
impl Session {
    /// Queues our SETUP on a fresh control stream.
    pub fn new(config: Config, now: Instant) -> Self {
        todo!()
    }

    // ---- from the link ----

    /// The peer opened a stream; the returned name is used for everything that follows on it.
    pub fn accept_stream(&mut self, dir: Dir) -> StreamId {
        todo!()
    }
    pub fn handle_data(&mut self, stream: StreamId, data: Bytes, fin: bool, now: Instant) {
        todo!()
    }
    /// RESET_STREAM from the peer.
    pub fn handle_reset(&mut self, stream: StreamId, code: u64, now: Instant) {
        todo!()
    }
    /// STOP_SENDING from the peer.
    pub fn handle_stopped(&mut self, stream: StreamId, code: u64, now: Instant) {
        todo!()
    }
    pub fn handle_datagram(&mut self, data: Bytes, now: Instant) {
        todo!()
    }
    /// `bytes` of a stream's data left the link's own queue for the transport: shrinks [`Session::backlog`].
    pub fn handle_written(&mut self, stream: StreamId, bytes: usize) {
        todo!()
    }
    /// The largest datagram the path carries now; `None`: no datagrams.
    pub fn set_max_datagram(&mut self, size: Option<usize>) {
        todo!()
    }
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    // ---- to the link and the application ----

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        todo!()
    }
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    pub fn is_closed(&self) -> bool {
        todo!()
    }

    // ---- requests of ours (each on its own bidi stream, may precede the peer's SETUP) ----

    pub fn subscribe(&mut self, subscribe: Subscribe) -> RequestId {
        todo!()
    }
    pub fn publish(&mut self, track: FullTrackName, properties: TrackProperties, tokens: Vec<Token>) -> RequestId {
        todo!()
    }
    pub fn publish_namespace(&mut self, namespace: TrackNamespace, tokens: Vec<Token>) -> RequestId {
        todo!()
    }
    pub fn subscribe_namespace(&mut self, prefix: TrackNamespace, tokens: Vec<Token>) -> RequestId {
        todo!()
    }
    /// Withdraws a request of ours (RESET_STREAM + STOP_SENDING on its stream). Unknown ids do nothing.
    pub fn cancel(&mut self, request: RequestId) {
        todo!()
    }

    // ---- answers to the peer's requests ----

    /// SUBSCRIBE_OK; a free track alias is chosen. The request is a publication from here on.
    pub fn accept_subscribe(&mut self, request: RequestId, ok: SubscribeOk) {
        todo!()
    }
    /// REQUEST_OK to PUBLISH: objects of the track follow as events.
    pub fn accept_publish(&mut self, request: RequestId, ok: PublishOk) {
        todo!()
    }
    /// REQUEST_OK to PUBLISH_NAMESPACE or SUBSCRIBE_NAMESPACE.
    pub fn accept(&mut self, request: RequestId) {
        todo!()
    }
    pub fn reject(&mut self, request: RequestId, error: RequestError) {
        todo!()
    }
    /// NAMESPACE / NAMESPACE_DONE on an accepted SUBSCRIBE_NAMESPACE.
    pub fn namespace(&mut self, request: RequestId, suffix: &TrackNamespace) {
        todo!()
    }
    pub fn namespace_done(&mut self, request: RequestId, suffix: &TrackNamespace) {
        todo!()
    }

    // ---- media of a publication of ours (accepted SUBSCRIBE of the peer, or our accepted PUBLISH) ----

    /// Opens a subgroup stream. `None` when the request is unknown, ended, or not forwarding.
    pub fn open_subgroup(&mut self, request: RequestId, header: &SubgroupHeader) -> Option<SubgroupId> {
        todo!()
    }
    /// Appends an object to an open subgroup; ids must grow. Unknown subgroups do nothing (the peer may have stopped it).
    pub fn send_object(&mut self, subgroup: SubgroupId, object: &Object) {
        todo!()
    }
    pub fn finish_subgroup(&mut self, subgroup: SubgroupId) {
        todo!()
    }
    pub fn reset_subgroup(&mut self, subgroup: SubgroupId, code: u64) {
        todo!()
    }
    pub fn send_datagram(&mut self, request: RequestId, object: &Object) -> Result<(), TooLarge> {
        todo!()
    }
    /// PUBLISH_DONE with the exact stream count, then FIN; open subgroups of the publication are finished first.
    pub fn end_publication(&mut self, request: RequestId, done: PublishDone) {
        todo!()
    }
    /// Bytes of the publication's streams that the link still holds.
    pub fn backlog(&self, request: RequestId) -> usize {
        todo!()
    }

    // ---- the session ----

    pub fn goaway(&mut self, goaway: GoAway) {
        todo!()
    }
    pub fn close(&mut self, code: u64, reason: &str) {
        todo!()
    }
}
