//! The relay as a brain: sessions in, forwarded objects out; no socket, clock, lock or thread.
//!
//! A [`Core`] owns no session. Somebody ([`crate::relay`]'s shard, a test) owns them, hands every event to
//! [`Core::handle_event`] and lends the sessions through [`Sessions`]; the core answers by speaking to them. What it
//! never does: parse a payload, parse a property on the way of an object, hold an object back, open a session (whoever owns
//! sessions may hand it one to another relay: [`edge`]).
//!
//! The rules (draft-18 §"Relays", and ours where the draft leaves room):
//!
//! * Every request is authorised by the rights of its own tokens or of its session ([`Rights`]). A refusal has the same
//!   bytes whether the track exists or not. What was accepted goes on for [`Limits::expiry_grace`] behind the end of its token,
//!   unless another one is brought; new requests don't.
//! * What flows is offered by PUBLISH to whoever asked for all tracks of its namespace ([`offers`]).
//! * What a session asks for is counted, and what a token's sessions ask for together ([`Limits`]).
//! * A SUBSCRIBE goes to every publisher of the track's namespace or a prefix of it, and is answered when the first of
//!   them answers; later subscribers share that upstream subscription, which ends with the last of them.
//! * FORWARD upstream follows the subscribers: a publisher whom nobody listens to is paused, and told when somebody does.
//! * Without a publisher it is held for RENDEZVOUS_TIMEOUT, at most [`Limits::rendezvous`], or answered DOES_NOT_EXIST at once.
//! * A publisher whose token leases one track is asked for no other; a newer epoch of the lease replaces the older.
//! * Several publishers of a track are all heard, and each object passes once ([`flows`]).
//! * A publisher that contradicts the end of its group or track ends the track with MALFORMED_TRACK; that object goes nowhere.
//! * A subscriber that falls behind by bytes or by time is ended with TOO_FAR_BEHIND. Nobody else notices.
//! * The latest objects of a live track are kept ([`cache`]); a FETCH is answered from them, and nobody is asked for more. A subscription
//!   begins at the live edge all the same.
//! * When the last publisher is gone its PUBLISH_DONE code goes to the subscribers; a session that died without one reads
//!   INTERNAL_ERROR. END_OF_TRACK is an object like others and is forwarded.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod abroad;
mod accounts;
mod backlog;
mod blocks;
mod cache;
mod directory;
mod drain;
mod edge;
mod errands;
mod fetch;
mod flows;
mod forward;
mod grants;
mod history;
mod interests;
mod join;
mod limits;
mod listings;
mod offers;
mod publishers;
mod record;
mod requests;
mod rights;
mod sources;
mod subscribers;
#[cfg(test)]
mod tests;
mod track;
mod updates;

pub use edge::{Scope, Upstream};
pub use limits::{CacheLimits, Counters, Limits};
pub use rights::{Everything, Gate, Lease, Rights};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::moqt::few::FewMap;
use crate::moqt::ids::IdMap;
use crate::moqt::message::GoAway;
use crate::moqt::session::RequestId;
use crate::moqt::{Event, FullTrackName, RequestErrorCode, Session, TrackNamespace};
use accounts::{Account, Tokens};
use cache::Cache;
use directory::Directory;
use edge::Uplink;
use errands::Errand;
use grants::Grant;
use interests::Interests;
use join::Join;
use requests::refusal;
use sources::passed_on;
use track::Track;

/// Timers and bounds that are the same for every session; the rest is in [`Limits`].
pub mod constants {
    use std::time::Duration;

    /// Longest time that a SUBSCRIBE is held for a publisher.
    pub const RENDEZVOUS_MAX: Duration = Duration::from_secs(30);
    /// An accepted request goes on for this long behind the end of its token.
    pub const EXPIRY_GRACE: Duration = Duration::from_secs(60);
    /// A publisher must answer our SUBSCRIBE within this time.
    pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
    /// A publisher who had no such track is asked again, while somebody is held for it, after the first and at most the second;
    /// between them it doubles.
    pub const ASK_STEP: Duration = Duration::from_millis(500);
    pub const ASK_MAX: Duration = Duration::from_secs(5);
    /// After PUBLISH_DONE, streams that it counted are waited for this long (§"PUBLISH_DONE").
    pub const LATE_STREAMS: Duration = Duration::from_secs(2);
    /// Age of the oldest byte that ends a subscription, and the step in which it is measured.
    pub const BACKLOG_AGE: Duration = Duration::from_secs(2);
    pub const BACKLOG_STEP: Duration = Duration::from_millis(100);
    /// Told to whom we refuse for [`Limits`](super::Limits).
    pub const RETRY_AFTER: Duration = Duration::from_secs(1);
    /// Subgroups and datagrams of a track remembered, to know those that a second publisher brings again.
    pub const REMEMBERED: usize = 64;
    pub const TOKENS_PER_REQUEST: usize = 4;
    /// [`CacheLimits`](super::CacheLimits).
    pub const CACHE_AGE: Duration = Duration::from_secs(10);
    pub const CACHE_TRACK_BYTES: usize = 64 * 1024;
    pub const CACHE_BYTES: usize = 16 * 1024 * 1024;
    /// How long another relay is asked for what is not known here, and what it may bring.
    pub const ERRAND: Duration = Duration::from_secs(3);
    pub const ERRAND_BYTES: usize = 256 * 1024;
    /// A fill, which nobody cancels, leaves this many times its room for everything else of its session.
    pub const FILL_SHARE: usize = 4;
    /// [`Limits::listed`](super::Limits::listed) of a stranger.
    pub const LISTED: usize = 4096;
    /// So many of those tracks, or of those namespaces, cost as much as a request.
    pub const OFFERS_PER_REQUEST: usize = 16;
    pub const NAMESPACES_PER_REQUEST: usize = 64;
    /// Tracks that one SUBSCRIBE_TRACKS may have been told PUBLISH_BLOCKED of.
    pub const BLOCKED: usize = 1024;
}

/// The sessions that a core speaks to, by the key they were inserted with.
pub trait Sessions {
    fn session(&mut self, key: u64) -> Option<&mut Session>;
}

/// What a request of a session is to the relay.
#[derive(Clone, Debug)]
enum Role {
    /// The peer's SUBSCRIBE.
    Subscription {
        track: u64,
        held: bool,
    },
    /// Our SUBSCRIBE to the peer.
    Source {
        track: u64,
    },
    /// The peer's PUBLISH.
    Publication {
        track: u64,
    },
    /// The peer's PUBLISH_NAMESPACE.
    Announcement(TrackNamespace),
    /// The peer's SUBSCRIBE_NAMESPACE.
    Listing,
    /// The peer's FETCH, of which its link has not taken all.
    Fetch {
        track: Option<u64>,
        bytes: usize,
    },
    /// The peer's SUBSCRIBE_TRACKS.
    Interest,
    /// Our PUBLISH, which becomes a subscription when it is accepted.
    Offer {
        track: u64,
    },
    /// The peer's FETCH that joins a subscription which waits for a publisher.
    Joining {
        joined: RequestId,
    },
    /// The peer's FETCH that another relay is asked for, and our FETCH to it.
    Sent {
        uplink: u64,
        request: RequestId,
    },
    Errand,
}

/// One session, as the relay accounts for it.
struct Peer {
    rights: Vec<Arc<dyn Rights>>,
    account: Account,
    /// Looked up for each object; what else is known of a request stands in `grants`.
    requests: FewMap<RequestId, Role>,
    grants: FewMap<RequestId, Grant>,
    /// Bytes of its fetches that run.
    fetching: usize,
    /// It said GOAWAY: it is asked for nothing new (§10.4).
    leaving: bool,
    /// It is another relay's: what comes from it does not go back to it.
    relay: bool,
}

/// Forwards between sessions. See the module's contract.
pub struct Core {
    gate: Box<dyn Gate>,
    peers: IdMap<u64, Peer>,
    tokens: Tokens,
    directory: Directory,
    interests: Interests,
    uplinks: Vec<Uplink>,
    /// Sessions of other relays.
    relays: usize,
    /// Ordered by namespace, so that all tracks under a prefix are neighbours.
    names: BTreeMap<FullTrackName, u64>,
    tracks: IdMap<u64, Track>,
    next_track: u64,
    /// When a request of a session must be looked at again.
    deadlines: BTreeSet<(Instant, u64, RequestId)>,
    /// When the token that allows a request is over, its grace included.
    expiries: BTreeSet<(Instant, u64, RequestId)>,
    /// Fetches that wait for a subscription, by that; and subscriptions among them that do so no more.
    joins: BTreeMap<(u64, RequestId), Vec<Join>>,
    settled: Vec<(u64, RequestId)>,
    /// Our FETCHes to other relays.
    errands: BTreeMap<(u64, RequestId), Errand>,
    counters: Counters,
    cache: Cache,
    /// What everybody is told who asks for something from now on: this relay ends.
    draining: Option<GoAway>,
    /// The latest time that was told; `None` before the first session.
    now: Option<Instant>,
}

impl Core {
    pub fn new(gate: Box<dyn Gate>) -> Self {
        Self {
            gate,
            peers: IdMap::default(),
            tokens: Tokens::default(),
            directory: Directory::default(),
            interests: Interests::default(),
            uplinks: Vec::new(),
            relays: 0,
            names: BTreeMap::new(),
            tracks: IdMap::default(),
            next_track: 0,
            deadlines: BTreeSet::new(),
            expiries: BTreeSet::new(),
            joins: BTreeMap::new(),
            settled: Vec::new(),
            errands: BTreeMap::new(),
            counters: Counters::default(),
            cache: Cache::new(CacheLimits::default()),
            draining: None,
            now: None,
        }
    }

    /// How much is kept for FETCH. What is kept is forgotten.
    pub fn set_cache(&mut self, limits: CacheLimits) {
        self.tracks.values_mut().for_each(|track| self.cache.free(&mut track.kept));
        self.cache = Cache::new(limits);
    }

    /// Takes in a session whose SETUP was checked; `rights` are those of its SETUP's tokens. Events of a session that was
    /// not inserted are ignored.
    pub fn insert(&mut self, key: u64, rights: Vec<Arc<dyn Rights>>, limits: Limits, now: Instant) {
        self.now = Some(now);
        let account = Account::new(limits, now);
        let peer = Peer {
            rights,
            account,
            requests: FewMap::default(),
            grants: FewMap::default(),
            fetching: 0,
            leaving: false,
            relay: false,
        };
        self.peers.insert(key, peer);
    }

    pub fn handle_event(&mut self, sessions: &mut dyn Sessions, key: u64, event: Event, now: Instant) {
        if !self.peers.contains_key(&key) {
            return;
        }
        self.now = Some(now);
        self.take(sessions, key, event, now);
        self.serve_joins(sessions, now);
    }

    fn take(&mut self, sessions: &mut dyn Sessions, key: u64, event: Event, now: Instant) {
        match event {
            Event::Object { request, stream, object } => {
                self.handle_object(sessions, (key, request), stream, &object, now)
            }
            Event::Subgroup { request, stream, header } => self.handle_subgroup((key, request), stream, header),
            Event::SubgroupEnd { request, stream, reset } => {
                self.handle_subgroup_end(sessions, (key, request), stream, reset, now);
            }
            Event::SubscribeOk { request, ok } => self.handle_subscribe_ok(sessions, key, request, ok),
            Event::RequestError { request, error } if self.errands.contains_key(&(key, request)) => {
                self.end_errand(sessions, (key, request), passed_on(error.code), now);
            }
            Event::RequestError { request, error } => {
                if !self.drop_offer((key, request))
                    && !self.handle_abroad_refused(sessions, (key, request), error.code)
                    && !self.handle_up_refused(sessions, (key, request), error.code)
                {
                    self.handle_refused(sessions, key, request, &error);
                }
            }
            Event::PublishDone { request, done } => self.handle_publish_done(sessions, key, request, done, now),
            Event::Update { request, update } => self.handle_update(sessions, (key, request), &update, now),
            Event::Updated { request, forward, filter } => {
                self.handle_updated(sessions, (key, request), forward, filter)
            }
            Event::Cancelled { request } | Event::Fulfilled { request } => {
                self.handle_cancelled(sessions, key, request);
            }
            Event::Subscribe { .. }
            | Event::Publish { .. }
            | Event::PublishNamespace { .. }
            | Event::SubscribeNamespace { .. }
            | Event::SubscribeTracks { .. }
            | Event::Fetch { .. }
            | Event::TrackStatus { .. } => self.handle_request(sessions, key, event, now),
            Event::Fill(fill) => self.fill(sessions, key, fill, now),
            Event::FetchOk { request, ok } => self.errand_ok(sessions, (key, request), *ok, now),
            Event::Fetched { request, fetched } => self.errand_brings(sessions, (key, request), fetched, now),
            Event::FetchEnd { request, reset } => {
                self.errand_ends(sessions, (key, request), reset.is_some(), now);
            }
            Event::GoAway(_) => self.handle_goaway(key),
            Event::RequestOk { request } => {
                if !self.handle_taken(sessions, (key, request)) {
                    self.handle_up_ok(sessions, (key, request));
                }
            }
            Event::Namespace { request, suffix } => self.handle_told(sessions, (key, request), suffix, now),
            Event::NamespaceDone { request, suffix } => self.handle_untold(sessions, (key, request), &suffix),
            // A relay listens where it is asked to publish, and lists nothing of others. A refused update of ours ends its
            // subscription, which is told next.
            Event::Setup(_)
            | Event::TrackStatusOk { .. }
            | Event::PublishBlocked { .. }
            | Event::UpdateOk { .. }
            | Event::RequestGoAway { .. }
            | Event::UpdateError { .. }
            | Event::Closed { .. } => {}
        }
    }

    /// The session is gone: what it published ends, what it asked for is forgotten.
    pub fn handle_down(&mut self, sessions: &mut dyn Sessions, key: u64) {
        let Some(peer) = self.peers.get(&key) else { return };
        let requests: Vec<RequestId> = peer.requests.keys().copied().collect();
        for request in requests {
            self.withdraw(sessions, key, request);
        }
        self.lose_uplink(sessions, key);
        self.relays -= usize::from(self.relay(key).is_some());
        self.peers.remove(&key);
        if let Some(now) = self.now {
            self.serve_joins(sessions, now);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = [self.deadlines.first(), self.expiries.first()];
        first.into_iter().flatten().map(|(at, ..)| *at).min()
    }

    pub fn handle_timeout(&mut self, sessions: &mut dyn Sessions, now: Instant) {
        self.now = Some(now);
        while let Some(&(at, key, request)) = self.deadlines.first().filter(|(at, ..)| *at <= now) {
            self.deadlines.remove(&(at, key, request));
            match self.peers.get(&key).and_then(|peer| peer.requests.get(&request)) {
                Some(Role::Subscription { track, held: true }) => {
                    self.held_is_due(sessions, *track, (key, request), now)
                }
                Some(Role::Source { track } | Role::Publication { track }) => {
                    self.source_is_late(sessions, *track, (key, request), at);
                }
                Some(Role::Errand) => self.end_errand(sessions, (key, request), RequestErrorCode::Timeout, now),
                _ => {}
            }
        }
        self.handle_expiries(sessions, now);
        self.serve_joins(sessions, now);
    }

    pub fn counters(&self) -> Counters {
        Counters {
            sessions: self.peers.len() - self.relays,
            relays: self.relays,
            tracks: self.tracks.len(),
            subscriptions: self.tracks.values().map(|track| track.subscribers.len()).sum(),
            held: self.tracks.values().map(|track| track.waiting.len()).sum(),
            namespaces: self.directory.len(),
            tokens: self.tokens.len(),
            fetching: self.peers.values().map(|peer| peer.fetching).sum(),
            cache_bytes: self.cache.bytes(),
            ..self.counters
        }
    }

    fn track_id(&mut self, name: &FullTrackName) -> u64 {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = self.next_track;
        self.next_track += 1;
        self.names.insert(name.clone(), id);
        self.tracks.insert(id, Track::new(name.clone()));
        self.cache.expect(self.tracks.len());
        id
    }

    /// Forgets a track that nobody publishes, wants or waits for.
    fn tidy(&mut self, track: u64) {
        if let Some(unused) = self.tracks.get(&track).filter(|track| track.is_unused()) {
            self.names.remove(&unused.name);
            self.tracks.remove(&track);
        }
    }

    fn tracks_under(&self, prefix: &TrackNamespace) -> Vec<u64> {
        let first = FullTrackName { namespace: prefix.clone(), name: bytes::Bytes::new() };
        let under = self.names.range(first..).take_while(|(name, _)| name.namespace.starts_with(prefix));
        under.map(|(_, id)| *id).collect()
    }

    /// The track that a request of ours or of a publisher brings objects of.
    fn source_track(&self, key: u64, request: RequestId) -> Option<u64> {
        match self.peers.get(&key)?.requests.get(&request)? {
            Role::Source { track } | Role::Publication { track, .. } => Some(*track),
            _ => None,
        }
    }

    /// Ends a request's bookkeeping.
    fn forget(&mut self, key: u64, request: RequestId) {
        self.note_settled(key, request);
        self.release(key, request);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.requests.remove(&request);
        }
    }

    fn note(&mut self, key: u64, request: RequestId, role: Role) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.requests.insert(request, role);
        }
    }
}

fn namespace_bytes(namespace: &TrackNamespace) -> usize {
    namespace.fields().iter().map(|field| field.len()).sum()
}

fn name_bytes(name: &FullTrackName) -> usize {
    namespace_bytes(&name.namespace) + name.name.len()
}
