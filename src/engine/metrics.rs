//! Figures of the engine, and their text form for `/metrics` (Prometheus, version 0.0.4).
//!
//! Counters only grow. They are counted where the thing happens, one relaxed addition each; nobody waits for them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::media::Stats;
use super::sip;
use super::store::{Forgotten, Health};
use super::webhooks;
use crate::call::Status;

#[derive(Debug, Default)]
pub struct Metrics {
    originated: AtomicU64,
    /// Calls that came in, and those of them that were turned away without a record.
    came: AtomicU64,
    turned_away: AtomicU64,
    refused: AtomicU64,
    active: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    no_answer: AtomicU64,
    requests: AtomicU64,
    rate_limited: AtomicU64,
    unauthorized: AtomicU64,
    tls_failed: AtomicU64,
    /// Open now.
    connections: AtomicU64,
    accept_failed: AtomicU64,
    ambiguous: AtomicU64,
    reached: [AtomicU64; BOUNDS.len()],
    events: AtomicU64,
    events_missed: AtomicU64,
    event_streams: AtomicU64,
    reloads: [[AtomicU64; 2]; 2],
    /// In the key file now.
    keys_skipped: AtomicU64,
    frames_up: AtomicU64,
    frames_down: AtomicU64,
    gaps_up: AtomicU64,
    gaps_down: AtomicU64,
    dropped_down: AtomicU64,
    dropped_before_answer: AtomicU64,
    /// Of RTP: came, went, lost, late, refused.
    rtp: [AtomicU64; 5],
    media_timeouts: AtomicU64,
    /// Of SIP: what was not let in.
    sip: Arc<sip::Counts>,
    webhooks: Arc<webhooks::Counts>,
}

/// A limit of the API that was reached: its key in `[limits]`, but for [`Bound::Stalled`], whose time is `idle_ms` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Head,
    Idle,
    /// A client took nothing of its answer.
    Stalled,
    Body,
    BodyBytes,
    Connections,
    ConnectionsPerAddress,
}

const BOUNDS: [&str; 7] =
    ["head_ms", "idle_ms", "stalled", "body_ms", "body_bytes", "connections", "connections_per_address"];

/// What was read again.
#[derive(Clone, Copy, Debug)]
pub enum Reloaded {
    Keys,
    Certificate,
}

impl Metrics {
    pub fn originated(&self) {
        self.originated.fetch_add(1, Relaxed);
    }

    /// A call came in.
    pub fn came(&self) {
        self.came.fetch_add(1, Relaxed);
    }

    /// A call came in that no rule has, or for which there was no room.
    pub fn turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub fn active(&self, calls: usize) {
        self.active.store(calls as u64, Relaxed);
    }

    pub fn ended(&self, status: Status) {
        let counter = match status {
            Status::Completed => &self.completed,
            Status::NoAnswer => &self.no_answer,
            _ => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub fn rate_limited(&self) {
        self.rate_limited.fetch_add(1, Relaxed);
    }

    pub fn unauthorized(&self) {
        self.unauthorized.fetch_add(1, Relaxed);
    }

    pub fn connection_came(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub fn connection_went(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    pub fn accept_failed(&self) {
        self.accept_failed.fetch_add(1, Relaxed);
    }

    /// A head said twice where its body ends.
    pub fn ambiguous(&self) {
        self.ambiguous.fetch_add(1, Relaxed);
    }

    pub fn reached(&self, bound: Bound) {
        self.reached[bound as usize].fetch_add(1, Relaxed);
    }

    pub fn tls_failed(&self) {
        self.tls_failed.fetch_add(1, Relaxed);
    }

    pub fn event(&self) {
        self.events.fetch_add(1, Relaxed);
    }

    pub fn event_missed(&self) {
        self.events_missed.fetch_add(1, Relaxed);
    }

    pub fn event_streams(&self, open: usize) {
        self.event_streams.store(open as u64, Relaxed);
    }

    /// `done` is false where the old ones go on.
    pub fn reloaded(&self, what: Reloaded, done: bool) {
        self.reloads[what as usize][usize::from(done)].fetch_add(1, Relaxed);
    }

    /// Keys in the file whose organisation is unknown.
    pub fn keys_skipped(&self, keys: usize) {
        self.keys_skipped.store(keys as u64, Relaxed);
    }

    pub fn media(&self, stats: &Stats) {
        self.frames_up.fetch_add(stats.frames_up, Relaxed);
        self.frames_down.fetch_add(stats.frames_down, Relaxed);
        self.gaps_up.fetch_add(stats.gaps_up, Relaxed);
        self.gaps_down.fetch_add(stats.gaps_down, Relaxed);
        self.dropped_down.fetch_add(stats.dropped_down, Relaxed);
        self.dropped_before_answer.fetch_add(stats.dropped_before_answer, Relaxed);
        for line in [&stats.line, &stats.second].into_iter().flatten() {
            let counts =
                [line.packets_received, line.packets_sent, line.packets_lost, line.packets_late, line.packets_refused];
            for (counter, count) in self.rtp.iter().zip(counts) {
                counter.fetch_add(count, Relaxed);
            }
        }
    }

    /// The phone of a call was not heard for too long.
    pub fn media_timeout(&self) {
        self.media_timeouts.fetch_add(1, Relaxed);
    }

    /// What SIP drops is counted there.
    pub fn sip(&self) -> Arc<sip::Counts> {
        Arc::clone(&self.sip)
    }

    /// What becomes of webhooks is counted there.
    pub fn webhooks(&self) -> Arc<webhooks::Counts> {
        Arc::clone(&self.webhooks)
    }

    /// The text of `/metrics`.
    pub fn render(&self, store: &Health) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: u64| {
            // Writing into a String can't fail.
            let _ = writeln!(text, "clutchcall_{name} {value}");
        };
        line("calls_active", self.active.load(Relaxed));
        for (result, counter) in
            [("completed", &self.completed), ("failed", &self.failed), ("no_answer", &self.no_answer)]
        {
            line(&format!("calls_total{{result=\"{result}\"}}"), counter.load(Relaxed));
        }
        for (name, counter) in [
            ("originates_total", &self.originated),
            ("arrivals_total", &self.came),
            ("arrivals_turned_away_total", &self.turned_away),
            ("originates_refused_total", &self.refused),
            ("api_requests_total", &self.requests),
            ("api_rate_limited_total", &self.rate_limited),
            ("api_unauthorized_total", &self.unauthorized),
            ("api_tls_failed_total", &self.tls_failed),
            ("api_connections", &self.connections),
            ("api_accept_failed_total", &self.accept_failed),
            ("api_ambiguous_total", &self.ambiguous),
            ("api_keys_skipped", &self.keys_skipped),
            ("events_total", &self.events),
            ("events_missed_total", &self.events_missed),
            ("event_streams", &self.event_streams),
            ("frames_total{direction=\"uplink\"}", &self.frames_up),
            ("frames_total{direction=\"downlink\"}", &self.frames_down),
            ("gaps_total{direction=\"uplink\"}", &self.gaps_up),
            ("gaps_total{direction=\"downlink\"}", &self.gaps_down),
            ("downlink_dropped_total", &self.dropped_down),
            ("dropped_before_answer_total", &self.dropped_before_answer),
            ("media_timeouts_total", &self.media_timeouts),
        ] {
            line(name, counter.load(Relaxed));
        }
        for (what, counter) in ["received", "sent", "lost", "late", "refused"].iter().zip(&self.rtp) {
            line(&format!("rtp_packets_total{{what=\"{what}\"}}"), counter.load(Relaxed));
        }
        for (what, count) in self.sip.all() {
            line(&format!("sip_dropped_total{{what=\"{what}\"}}"), count);
        }
        for (result, count) in self.webhooks.all() {
            line(&format!("webhooks_total{{result=\"{result}\"}}"), count);
        }
        for (bound, counter) in BOUNDS.iter().zip(&self.reached) {
            line(&format!("api_limit_total{{limit=\"{bound}\"}}"), counter.load(Relaxed));
        }
        for (what, results) in ["key", "certificate"].iter().zip(&self.reloads) {
            for (result, counter) in ["failed", "done"].iter().zip(results) {
                line(&format!("api_{what}_reloads_total{{result=\"{result}\"}}"), counter.load(Relaxed));
            }
        }
        line("store_failing", u64::from(store.failing.is_some()));
        line("store_waiting", store.waiting as u64);
        line("store_dropped_total", store.dropped);
        line("store_commits_total", store.commits);
        line("store_records", store.records);
        let Forgotten { by_age, by_number, by_size } = store.forgotten;
        for (bound, count) in [("record_days", by_age), ("records", by_number), ("store_mb", by_size)] {
            line(&format!("store_forgotten_total{{bound=\"{bound}\"}}"), count);
        }
        text
    }
}

/// The same with the type of each figure before its first line: what is counted ends in `_total`, anything else is of now.
pub fn typed(text: &str) -> String {
    let (mut typed, mut before) = (String::with_capacity(2 * text.len()), "");
    for line in text.lines() {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        if name != before {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            let _ = writeln!(typed, "# TYPE {name} {kind}");
        }
        let _ = writeln!(typed, "{line}");
        before = name;
    }
    typed
}
