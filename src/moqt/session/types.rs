//! The words between a session, its link and its application: names, bounds, [`Transmit`]s and [`Event`]s.

use std::time::Duration;

use bytes::Bytes;

use super::Fill;
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{
    Fetch, FetchOk, Filter, GoAway, GroupOrder, Publish, PublishBlocked, PublishDone, RequestError, Setup, Subscribe,
    SubscribeOk, Token, Update, UpdateOk, Wishes,
};
use crate::moqt::name::TrackNamespace;
use crate::moqt::object::{Object, SubgroupHeader};
use crate::moqt::version::Draft;

/// A stream as the session and its link name it; the link maps it to a QUIC stream id.
///
/// Numbers the session chose (streams it opens) are even, numbers from [`Session::accept_stream`](super::Session::accept_stream) are odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A request of either side, as this endpoint names it: its draft-18 Request ID (§9.1), unique in the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// An outgoing subgroup stream opened by [`Session::open_subgroup`](super::Session::open_subgroup).
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
    /// `priority`: higher is sent first (QUIC stream priority). On a bidirectional stream of the peer, which nobody opens here,
    /// we answer with [`priority::REQUEST`].
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
    /// A subscriber changed its mind: the new [`Transmit::Open`] priority of an open stream.
    Priority {
        stream: StreamId,
        priority: i32,
    },
    /// One object of a publication; [`Session::handle_dropped`](super::Session::handle_dropped) when it waited too long.
    Datagram {
        request: RequestId,
        data: Bytes,
    },
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
        /// Draft 16: it is a SUBSCRIBE_TRACKS too, with this FORWARD.
        tracks: Option<bool>,
        tokens: Vec<Token>,
    },
    /// Joining fetches name a request of the peer, by its id.
    Fetch {
        request: RequestId,
        fetch: Fetch,
        order: GroupOrder,
        /// How long the answer may wait for others (§10.2.5).
        fill_timeout: Option<Duration>,
        tokens: Vec<Token>,
    },
    TrackStatus {
        request: RequestId,
        subscribe: Subscribe,
    },
    /// [`Session::offer_with`](super::Session::offer_with) is told the wishes.
    SubscribeTracks {
        request: RequestId,
        prefix: TrackNamespace,
        wishes: Wishes,
        tokens: Vec<Token>,
    },
    /// The peer wants to change a request that it made, or its subscription to what we said PUBLISH of: judge its tokens and answer
    /// with accept_update/reject_update, each in its turn.
    Update {
        request: RequestId,
        update: Box<Update>,
    },
    /// What a publication of ours is now, by an update that was accepted, or by a PUBLISH_OK that asks for less than all. When
    /// `forward` went to 0 its open subgroups are reset. `filter` is a new one, if the peer sent one.
    Updated {
        request: RequestId,
        forward: bool,
        filter: Option<Filter>,
    },
    /// The peer withdrew its own request (reset, stopped, or finished the request stream), or its subscription to what we said
    /// PUBLISH of. Open subgroups are reset already.
    Cancelled {
        request: RequestId,
    },

    /// A subscription that we accepted is to be filled: [`Session::fill`](super::Session::fill) or
    /// [`Session::fail_fill`](super::Session::fail_fill) answers.
    Fill(Fill),
    /// The link took all of what answers the peer's FETCH: the request is over.
    Fulfilled {
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
    /// A refusal; or the peer ended the request's stream without a word, also long after it accepted it (`error` is then
    /// INTERNAL_ERROR with an empty reason). The request is over.
    RequestError {
        request: RequestId,
        error: RequestError,
    },
    /// An update of ours is in force.
    UpdateOk {
        request: RequestId,
        ok: UpdateOk,
    },
    /// The publisher refused one: it ends the subscription behind it. Or we can't say it, and nothing changes.
    UpdateError {
        request: RequestId,
        error: RequestError,
    },
    /// The publisher says that a subscription of ours is over; or its stream ended without a word (`done` is then INTERNAL_ERROR
    /// with an empty reason).
    PublishDone {
        request: RequestId,
        done: PublishDone,
    },
    FetchOk {
        request: RequestId,
        ok: Box<FetchOk>,
    },
    /// One thing of a fetched range; also before [`Event::FetchOk`].
    Fetched {
        request: RequestId,
        fetched: Fetched,
    },
    /// The fetch stream ended: by FIN (`reset` is `None`) or by RESET_STREAM.
    FetchEnd {
        request: RequestId,
        reset: Option<u64>,
    },
    /// The answer to TRACK_STATUS; the request is over.
    TrackStatusOk {
        request: RequestId,
        ok: SubscribeOk,
    },
    /// A track that our SUBSCRIBE_TRACKS does not get.
    PublishBlocked {
        request: RequestId,
        blocked: PublishBlocked,
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
    /// The peer's wish that this request is made again, elsewhere or here. Whoever stays sees it end.
    RequestGoAway {
        request: RequestId,
        goaway: GoAway,
    },
    /// The session is over: we closed it (a violation by the peer, or [`Session::close`](super::Session::close)).
    Closed {
        code: u64,
        reason: String,
    },
}

/// A datagram that does not fit or that the path can't carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Priorities of streams: control before requests, requests before data (§7.2).
pub mod priority {
    pub const CONTROL: i32 = 2;
    pub const REQUEST: i32 = 1;

    /// Bits of the place that a group has among those of its subscription.
    const PLACE_BITS: u32 = 15;
    /// The place of whoever has no others beside it.
    const MIDDLE: i32 = 1 << (PLACE_BITS - 1);

    /// Data: the subscriber's priority decides, then the publisher's; 0 is the most urgent of each.
    pub fn data(subscriber: u8, publisher: u8) -> i32 {
        in_order(subscriber, publisher, 0)
    }

    /// The same of one group of a subscription: `behind` places later than another of it (§7.2). All three fit into 31 bits.
    pub fn in_order(subscriber: u8, publisher: u8, behind: i64) -> i32 {
        let most = i64::from(MIDDLE) - 1;
        let place = MIDDLE + behind.clamp(-most, most) as i32;
        -((i32::from(subscriber) << 8 | i32::from(publisher)) << PLACE_BITS | place)
    }
}

/// What a session dropped within its [`Limits`], since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Data streams and datagrams of an alias that nobody named in time, or beyond `pending_bytes`.
    pub unknown_streams: u64,
    pub unknown_datagrams: u64,
    /// Data of subscriptions that were cancelled before.
    pub late_streams: u64,
    pub late_datagrams: u64,
    /// Streams stopped because unfinished objects held too many bytes, or because the peer does not take what it asks for.
    pub stopped: u64,
    /// Requests refused for `requests`, or before SETUP for `pending_bytes`.
    pub refused: u64,
    /// Streams of ours that were reset for a delivery timeout.
    pub timed_out: u64,
    /// Objects of ours that their stream or datagram can't say.
    pub unsendable: u64,
}
