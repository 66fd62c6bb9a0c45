//! The session state machine: one MoQT session, either role (see the module's contract in [`crate::moqt`]).
//!
//! What it owns: the state of every request, alias and stream of one connection, and the queue of what the link has to do.
//! What it never does: look at a payload, wait, or keep what nobody asked for beyond [`Limits`].
//!
//! * Request streams of the peer are answered in order; until its SETUP has come they are held, so [`Event::Setup`] is the first.
//! * Data whose track alias is not known yet is held within [`Limits::pending_bytes`] and [`Limits::pending_time`], then dropped.
//! * A violation of the draft closes the session: one [`Transmit::Close`], one [`Event::Closed`], and nothing after them.
//! * FETCH, TRACK_STATUS and SUBSCRIBE_TRACKS are asked of servers; a client refuses them with NOT_SUPPORTED by itself.
//! * Every [`Event::Update`] is answered with `accept_update` or `reject_update`, as every request is.
//! * A subscription ends for the application with one of [`Event::RequestError`], [`Event::PublishDone`], [`Event::Cancelled`].
//!   Streams that PUBLISH_DONE overtook are still delivered for [`constants::LATE_STREAMS`].
//!
//! The link calls [`Session::handle_written`] for the data of every stream that it took off its own queue; without it
//! [`Session::backlog`] grows.

mod aliases;
mod control;
mod fill;
mod ids;
mod inbound;
mod lateness;
mod messages;
mod moving;
mod outbound;
mod past;
mod renewals;
mod requests;
mod stalls;
mod state;
mod streams;
#[cfg(test)]
pub(crate) mod tests;
mod topology;
mod types;
mod updates;

pub use fill::Fill;
pub use types::{
    Config, Counters, Dir, Event, Limits, RequestId, Role, StreamId, SubgroupId, TooLarge, Transmit, priority,
};

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::authorization::TokenCache;
use super::draft16::Topology;
use super::version::Draft;
use crate::moqt::few::FewMap;
use aliases::Aliases;
use control::Deadline;
use ids::PeerIds;
use outbound::{Outbound, Queued};
use requests::Request;
use stalls::Stalls;
use streams::Stream;

/// Timers and bounds that are the same for every session; the rest is in [`Limits`].
pub mod constants {
    use std::time::Duration;

    /// After PUBLISH_DONE, streams and datagrams of the subscription are still taken for this long (§10.11).
    pub const LATE_STREAMS: Duration = Duration::from_secs(3);
    /// Aliases of cancelled subscriptions remembered, so that late data is discarded at once.
    pub const RETIRED_ALIASES: usize = 1024;
    /// Request IDs of the peer that may be missing below the largest before the oldest gap is given up.
    pub const ID_GAPS: usize = 1024;
    /// Namespaces that one SUBSCRIBE_NAMESPACE of ours follows; beyond them it is cancelled.
    pub const NAMESPACES_PER_LISTING: usize = 16 * 1024;
    /// What a data stream began is ended within this time, or within twice of it.
    pub const DATA_TIMEOUT: Duration = Duration::from_secs(30);
    /// Bytes of unfinished objects, over all streams.
    pub const UNFINISHED_BYTES: usize = 4 * 1024 * 1024;
    /// Bytes of request streams held until the peer's SETUP comes.
    pub const EARLY_BYTES: usize = 256 * 1024;
    /// Told to whom we refuse for [`Limits::requests`](super::Limits).
    pub const RETRY_AFTER: Duration = Duration::from_secs(1);
    /// Answers and namespaces on one request stream that its link has not written.
    pub const REQUEST_BACKLOG: usize = 1024 * 1024;
    /// REQUEST_UPDATEs of the peer that one request may have without an answer.
    pub const EARLY_UPDATES: usize = 16;
    /// Ours that one request has without an answer, if the peer allows no fewer.
    pub const SENT_UPDATES: u64 = 16;
    /// First buffer of a subgroup stream: some audio objects.
    pub const SUBGROUP_BUFFER: usize = 1024;
    /// A datagram's integers, of which each may take three bytes more in draft 16.
    pub const LONGER_INTEGERS: usize = 32;
    /// Groups of a subscription that are open at once and nothing of them waits: so far they are in their places without being told anew.
    pub const GROUPS_IN_PLACE: u64 = 64;
    /// Datagrams are cut from buffers of this size.
    pub const DATAGRAM_BUFFER: usize = 4096;
}

/// One MoQT session of one draft, in either role.
pub struct Session {
    draft: Draft,
    role: Role,
    limits: Limits,
    /// The latest time that the link told.
    now: Instant,
    closed: bool,
    counters: Counters,

    transmits: VecDeque<Queued>,
    events: VecDeque<Event>,

    /// Draft 16 has other streams than the ones we know.
    older: Option<Box<Topology>>,

    /// What arrives, by stream. Streams of ours are here when they are bidirectional.
    streams: FewMap<StreamId, Stream>,
    opened_streams: u64,
    accepted_streams: u64,
    /// Our control stream.
    control: StreamId,
    has_peer_control: bool,
    /// The peer's SETUP has come.
    is_set_up: bool,
    setup_by: Instant,
    /// Request streams with bytes that came before the peer's SETUP, in order, and all those bytes.
    early: Vec<StreamId>,
    early_bytes: usize,
    /// Bytes of unfinished objects.
    unfinished_bytes: usize,
    stalls: Stalls,

    requests: FewMap<RequestId, Request>,
    next_request: u64,
    /// Requests that could not be said; their ids count down from the top.
    unsent_requests: u64,
    peer_ids: PeerIds,
    /// REQUEST_UPDATEs of ours that one request may have unanswered at the peer: its MAX_REQUEST_UPDATES, or fewer.
    peer_updates: u64,
    /// What the peer has registered, within the size that our SETUP told.
    token_cache: TokenCache,
    /// Open requests of the peer.
    peer_requests: usize,
    /// Ended by PUBLISH_DONE, taking late streams until then.
    ending: VecDeque<(Instant, RequestId)>,

    aliases: Aliases,
    next_alias: u64,
    outbound: FewMap<StreamId, Outbound>,
    /// Bytes of all of them that the link has not reported as written.
    unwritten: usize,
    /// Streams whose objects grow old.
    timed: usize,
    max_datagram: Option<usize>,
    datagrams: BytesMut,

    goaway_received: bool,
    goaway_sent: bool,
    goaway_by: Option<Deadline>,
    /// Requests of the peer that were sent away with a time.
    moving: Vec<(Deadline, RequestId)>,
}

impl Session {
    /// Queues our SETUP on a fresh control stream.
    pub fn new(config: Config, now: Instant) -> Self {
        let Config { role, draft, setup, limits } = config;
        let mut session = Self {
            draft,
            role,
            now,
            closed: false,
            counters: Counters::default(),
            older: (draft == Draft::D16).then(|| Box::new(Topology::new(role == Role::Client, limits.object_bytes))),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            streams: FewMap::default(),
            opened_streams: 0,
            accepted_streams: 0,
            control: StreamId(0),
            has_peer_control: false,
            is_set_up: false,
            setup_by: now + limits.setup_timeout,
            early: Vec::new(),
            early_bytes: 0,
            unfinished_bytes: 0,
            stalls: Stalls::default(),
            requests: FewMap::default(),
            next_request: u64::from(role == Role::Server),
            unsent_requests: 0,
            peer_ids: PeerIds::new(role),
            peer_updates: constants::SENT_UPDATES,
            token_cache: TokenCache::new(setup.max_token_cache),
            peer_requests: 0,
            ending: VecDeque::new(),
            aliases: Aliases::new(&limits),
            next_alias: 0,
            outbound: FewMap::default(),
            unwritten: 0,
            timed: 0,
            max_datagram: None,
            datagrams: BytesMut::new(),
            goaway_received: false,
            goaway_sent: false,
            goaway_by: None,
            moving: Vec::new(),
            limits,
        };
        session.send_setup(setup);
        session
    }

    // ---- from the link ----

    /// The peer opened a stream; the returned name is used for everything that follows on it.
    pub fn accept_stream(&mut self, dir: Dir) -> StreamId {
        let id = StreamId(self.accepted_streams * 2 + 1);
        self.accepted_streams += 1;
        let known = self.older.as_mut().is_none_or(|older| older.accept(id, dir));
        if known && !self.closed {
            self.streams.insert(id, Stream::accepted(dir, self.draft));
        }
        id
    }

    pub fn handle_data(&mut self, stream: StreamId, data: Bytes, fin: bool, now: Instant) {
        self.now = self.now.max(now);
        if self.closed {
            return;
        }
        match self.older.is_none() {
            true => self.data(stream, data, fin),
            false => self.through(|older, ids| older.data(stream, data, fin, ids)),
        }
    }

    fn data(&mut self, stream: StreamId, data: Bytes, fin: bool) {
        match self.streams.get_mut(&stream) {
            None => {}
            Some(Stream::Request(_)) => self.request_data(stream, data, fin),
            Some(Stream::Control(reader)) => {
                reader.push(data);
                self.read_control(stream, fin);
            }
            Some(_) => self.uni_data(stream, data, fin),
        }
    }

    /// RESET_STREAM from the peer.
    pub fn handle_reset(&mut self, stream: StreamId, code: u64, now: Instant) {
        self.now = self.now.max(now);
        if self.closed {
            return;
        }
        match self.older.is_none() {
            true => self.reset(stream, code),
            false => self.through(|older, _| older.reset(stream, code)),
        }
    }

    fn reset(&mut self, stream: StreamId, code: u64) {
        match self.streams.get(&stream) {
            None => {}
            Some(Stream::Request(_)) => self.request_stream_ended(stream, true),
            Some(Stream::Control(_)) => self.control_lost(),
            Some(_) => self.uni_reset(stream, code),
        }
    }

    /// STOP_SENDING from the peer.
    pub fn handle_stopped(&mut self, stream: StreamId, code: u64, now: Instant) {
        self.now = self.now.max(now);
        if self.closed {
            return;
        }
        match self.older.is_none() {
            true => self.stopped(stream, code),
            false => self.through(|older, _| older.stopped(stream, code)),
        }
    }

    fn stopped(&mut self, stream: StreamId, code: u64) {
        if stream == self.control {
            self.control_lost();
        } else if self.outbound.contains_key(&stream) {
            self.data_stopped(stream, code);
        } else if matches!(self.streams.get(&stream), Some(Stream::Request(_))) {
            self.request_stopped(stream, code);
        }
    }

    pub fn handle_datagram(&mut self, data: Bytes, now: Instant) {
        self.now = self.now.max(now);
        if self.closed {
            return;
        }
        match self.older.is_none() {
            true => self.datagram_arrived(&data),
            false => self.through(|older, _| older.datagram(&data)),
        }
    }

    /// `bytes` of a stream's data left the link's own queue for the transport: shrinks [`Session::backlog`].
    pub fn handle_written(&mut self, stream: StreamId, bytes: usize) {
        match self.older.is_none() {
            true => self.written(stream, bytes),
            false => self.through(|older, _| older.written(stream, bytes)),
        }
    }

    /// The largest datagram the path carries now; `None`: no datagrams.
    pub fn set_max_datagram(&mut self, size: Option<usize>) {
        // The integers of draft 16 are longer than the ones we count.
        let room = if self.older.is_some() { constants::LONGER_INTEGERS } else { 0 };
        self.max_datagram = size.map(|size| size.saturating_sub(room));
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if !self.closed {
            self.expire();
        }
    }

    // ---- to the link and the application ----

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if self.older.is_some() { self.poll_older() } else { self.next_transmit() }
    }

    fn next_transmit(&mut self) -> Option<Transmit> {
        loop {
            let Some(queued) = self.transmits.pop_front() else {
                rewind(&mut self.transmits);
                return None;
            };
            match queued {
                Queued::Ready(transmit) => return Some(transmit),
                Queued::Flush(stream) => {
                    if let Some(data) = self.take_buffer(stream) {
                        return Some(Transmit::Data { stream, data });
                    }
                }
            }
        }
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() {
            rewind(&mut self.events);
        }
        event
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_deadline()
    }

    pub fn draft(&self) -> Draft {
        self.draft
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// No request is open and no stream beside the control streams is known: what tests of leaks look at.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        let control = |stream: &Stream| matches!(stream, Stream::Control(_));
        self.requests.is_empty() && self.outbound.is_empty() && self.streams.values().all(control)
    }

    /// Requests and streams that are known: what tests of leaks look at.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.requests.len() + self.outbound.len() + self.streams.len() + self.ending.len()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }
}

/// An empty queue begins again at its first place: the memory that it wrote last, not what it wrote some turns ago.
fn rewind<T>(queue: &mut VecDeque<T>) {
    queue.clear();
}
