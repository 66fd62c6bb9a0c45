//! What one session, or one token over all its sessions, may make the relay remember and do, and what the relay counts.

use std::time::Duration;

use super::constants;

/// Bounds of one session; the same figures hold for one token over all its sessions. A request beyond them is answered with
/// EXCESSIVE_LOAD and a time to retry, a subscriber that does not take what it asked for with TOO_FAR_BEHIND.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Subscriptions, held ones, offers and running fetches included.
    pub subscriptions: usize,
    /// Subscriptions that wait for a publisher.
    pub held: usize,
    /// Announced namespaces, listings of namespaces and tracks, and published tracks.
    pub publications: usize,
    /// Bytes of all those names.
    pub name_bytes: usize,
    /// Namespaces that one SUBSCRIBE_NAMESPACE may list when it begins or changes, and tracks that may flow already under the prefix of
    /// a SUBSCRIBE_TRACKS; beyond it the prefix is NAMESPACE_TOO_LARGE.
    pub listed: usize,
    /// Requests per second in the long run, and in one burst; a REQUEST_UPDATE is one too.
    pub requests_per_s: u32,
    pub requests_burst: u32,
    /// Longest time that a SUBSCRIBE is held for a publisher.
    pub rendezvous: Duration,
    /// Bytes of one subscription that its link has not taken yet, and the age of the oldest of them. A session's fetches together
    /// have the same bytes.
    pub backlog_bytes: usize,
    pub backlog_age: Duration,
    /// The same bytes over all subscriptions of the session.
    pub session_backlog_bytes: usize,
    /// How long after its token's end an accepted request goes on. `None`: as long as its session.
    pub expiry_grace: Option<Duration>,
}

impl Default for Limits {
    /// For a stranger on a wire.
    fn default() -> Self {
        Self {
            subscriptions: 1024,
            held: 64,
            publications: 256,
            name_bytes: 256 * 1024,
            listed: constants::LISTED,
            requests_per_s: 50,
            requests_burst: 512,
            rendezvous: constants::RENDEZVOUS_MAX,
            backlog_bytes: 256 * 1024,
            backlog_age: constants::BACKLOG_AGE,
            session_backlog_bytes: 8 * 1024 * 1024,
            expiry_grace: Some(constants::EXPIRY_GRACE),
        }
    }
}

impl Limits {
    /// For the one session that carries all calls of an engine: the same rules, with room for 4096 calls. Its calls outlive
    /// its token, and end with them.
    pub fn engine() -> Self {
        Self {
            subscriptions: 16 * 1024,
            held: 8192,
            publications: 16 * 1024,
            name_bytes: 4 * 1024 * 1024,
            listed: 16 * 1024,
            requests_per_s: 2000,
            requests_burst: 16 * 1024,
            session_backlog_bytes: 256 * 1024 * 1024,
            expiry_grace: None,
            ..Self::default()
        }
    }

    /// The wider of each bound: what a token may, some of whose sessions may more than others.
    pub(super) fn widest(self, other: Self) -> Self {
        Self {
            subscriptions: self.subscriptions.max(other.subscriptions),
            held: self.held.max(other.held),
            publications: self.publications.max(other.publications),
            name_bytes: self.name_bytes.max(other.name_bytes),
            requests_per_s: self.requests_per_s.max(other.requests_per_s),
            requests_burst: self.requests_burst.max(other.requests_burst),
            ..self
        }
    }
}

/// Bounds of the objects that are kept for FETCH, over all sessions. Any of them 0: nothing is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// An object is served for so long; a track may say less (MAX_CACHE_DURATION).
    pub age: Duration,
    /// Of one track and of all, what is remembered beside the payloads included.
    pub track_bytes: usize,
    pub bytes: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { age: constants::CACHE_AGE, track_bytes: constants::CACHE_TRACK_BYTES, bytes: constants::CACHE_BYTES }
    }
}

impl CacheLimits {
    pub const MOST_TRACK_BYTES: usize = 1 << 24;
    pub const MOST_BYTES: usize = 1 << 34;

    /// What the cache can count.
    pub(super) fn within(self) -> Self {
        let none = self.age.is_zero() || self.track_bytes == 0;
        Self {
            track_bytes: self.track_bytes.min(Self::MOST_TRACK_BYTES),
            bytes: if none { 0 } else { self.bytes.min(Self::MOST_BYTES) },
            ..self
        }
    }
}

/// What happened since the start; the last ones are levels of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub objects_in: u64,
    pub objects_out: u64,
    /// Payload bytes handed to subscribers' sessions.
    pub bytes_out: u64,
    /// Objects that a second publisher of a track brought once more.
    pub duplicates: u64,
    /// Streams in the middle of which another publisher of the track went on.
    pub taken_over: u64,
    /// Datagrams that did not fit the subscriber's path.
    pub datagrams_too_large: u64,
    /// Tracks ended because a publisher broke their rules (§"Malformed Tracks").
    pub malformed_tracks: u64,
    pub unauthorized: u64,
    /// Requests beyond [`Limits`]; by which of them, below.
    pub excessive: u64,
    pub over_subscriptions: u64,
    pub over_held: u64,
    pub over_publications: u64,
    pub over_name_bytes: u64,
    pub over_requests: u64,
    /// Requests refused with NAMESPACE_TOO_LARGE; not among the excessive ones.
    pub over_listed: u64,
    /// Of all these, refused for what their token has in other sessions.
    pub over_token: u64,
    /// Subscriptions that no publisher came for.
    pub unanswered: u64,
    /// Subscriptions ended with TOO_FAR_BEHIND; by which bound, below.
    pub too_far_behind: u64,
    pub behind_bytes: u64,
    pub behind_age: u64,
    pub behind_session: u64,
    /// Publications that a newer epoch of their holder replaced.
    pub superseded: u64,
    /// Tracks offered by PUBLISH to those who asked for all of a namespace, and those that a limit kept from being offered.
    pub offers: u64,
    pub offers_blocked: u64,
    /// Requests ended because their token did, or was revoked.
    pub expired: u64,
    pub revoked: u64,
    /// FETCHes answered, and the objects handed to them.
    pub fetches: u64,
    pub objects_fetched: u64,
    /// FETCHes of ours to relays in charge, and those that brought nothing.
    pub errands: u64,
    pub errands_in_vain: u64,
    /// FETCHes refused, and fills failed, for what the session has not taken of others.
    pub over_fetching: u64,
    /// Parts of a track's history that made room for its own next objects though they were young, and for those of any track.
    pub cache_track_full: u64,
    pub cache_full: u64,
    /// Objects that are larger than what a track may keep.
    pub cache_too_large: u64,

    pub sessions: usize,
    /// Sessions of other relays, and ours to them; not among `sessions`.
    pub relays: usize,
    pub tracks: usize,
    pub subscriptions: usize,
    /// Subscriptions that wait for a publisher.
    pub held: usize,
    pub namespaces: usize,
    /// Tokens that something is counted for.
    pub tokens: usize,
    /// Bytes of answers to FETCH that are on their way.
    pub fetching: usize,
    /// Bytes of the memory in which objects are kept for FETCH.
    pub cache_bytes: usize,
}
