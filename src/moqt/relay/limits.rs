//! What one session may make the relay remember and do, and what the relay counts.

use std::time::{Duration, Instant};

/// Bounds of one session. What exceeds them is answered with EXCESSIVE_LOAD and a time to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Subscriptions, held ones included.
    pub subscriptions: usize,
    /// Subscriptions that wait for a publisher.
    pub held: usize,
    /// Announced namespaces, listings of namespaces and published tracks.
    pub publications: usize,
    /// Bytes of all those names.
    pub name_bytes: usize,
    /// Requests per second in the long run, and in one burst.
    pub requests_per_s: u32,
    pub requests_burst: u32,
    /// Bytes of one subscription that its link has not taken yet.
    pub backlog_bytes: usize,
}

impl Default for Limits {
    /// For a stranger on a wire.
    fn default() -> Self {
        Self {
            subscriptions: 1024,
            held: 64,
            publications: 256,
            name_bytes: 256 * 1024,
            requests_per_s: 50,
            requests_burst: 512,
            backlog_bytes: 256 * 1024,
        }
    }
}

impl Limits {
    /// For the one session that carries all calls of an engine: the same rules, with room for 4096 calls.
    pub fn engine() -> Self {
        Self {
            subscriptions: 16 * 1024,
            held: 8192,
            publications: 16 * 1024,
            name_bytes: 4 * 1024 * 1024,
            requests_per_s: 2000,
            requests_burst: 16 * 1024,
            ..Self::default()
        }
    }
}

/// Allows [`Limits::requests_per_s`] with bursts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Thousandths of a request.
    level: u64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self { level: u64::from(limits.requests_burst) * 1000, at: now }
    }

    pub(super) fn take(&mut self, limits: &Limits, now: Instant) -> bool {
        let passed_ms = now.saturating_duration_since(self.at).min(Duration::from_secs(3600)).as_millis() as u64;
        if passed_ms > 0 {
            let full = u64::from(limits.requests_burst) * 1000;
            self.level = full.min(self.level + passed_ms * u64::from(limits.requests_per_s));
            self.at = now;
        }
        let enough = self.level >= 1000;
        if enough {
            self.level -= 1000;
        }
        enough
    }
}

/// What happened since the start; the last four are levels of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub objects_in: u64,
    pub objects_out: u64,
    /// Payload bytes handed to subscribers' sessions.
    pub bytes_out: u64,
    /// Objects that a second publisher of a track brought once more.
    pub duplicates: u64,
    /// Datagrams that did not fit the subscriber's path.
    pub datagrams_too_large: u64,
    pub unauthorized: u64,
    /// Requests beyond [`Limits`].
    pub excessive: u64,
    /// Subscriptions that no publisher came for.
    pub unanswered: u64,
    pub too_far_behind: u64,
    /// Publications that a newer epoch of their holder replaced.
    pub superseded: u64,

    pub sessions: usize,
    pub tracks: usize,
    pub subscriptions: usize,
    pub namespaces: usize,
}
