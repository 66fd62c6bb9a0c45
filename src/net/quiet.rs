//! Whether a path still answers: data outstanding for [`QUIET_AFTER`] without an acknowledgement is a reason to look for another.
//!
//! QUIC itself declares a path dead after its idle timeout, which is far too late for audio; who needs the path acts on this.

use std::time::{Duration, Instant};

use quinn_proto::Connection;

use super::{LinkEvent, QUIET_AFTER};

#[derive(Default)]
pub(super) struct Quiet {
    since: Option<Instant>,
    acks: u64,
    pings: u64,
    told: bool,
}

impl Quiet {
    /// Data went out.
    pub(super) fn sent(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Packets came in. An acknowledgement ends the silence.
    pub(super) fn received(&mut self, connection: &Connection) -> Option<LinkEvent> {
        let acks = connection.stats().frame_rx.acks;
        if acks == self.acks {
            return None;
        }
        self.acks = acks;
        self.since = None;
        std::mem::take(&mut self.told).then_some(LinkEvent::Alive)
    }

    /// A timer may have sent a keep-alive: that waits for an answer like data.
    pub(super) fn probed(&mut self, connection: &Connection, now: Instant) {
        let pings = connection.stats().frame_tx.ping;
        if pings != self.pings {
            self.pings = pings;
            self.sent(now);
        }
    }

    pub(super) fn deadline(&self, rtt: Duration) -> Option<Instant> {
        self.since.filter(|_| !self.told).map(|since| since + patience(rtt))
    }

    pub(super) fn handle_timeout(&mut self, rtt: Duration, now: Instant) -> Option<LinkEvent> {
        if self.deadline(rtt).is_none_or(|deadline| deadline > now) {
            return None;
        }
        self.told = true;
        Some(LinkEvent::Quiet)
    }

    pub(super) fn quiet_for(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// On a slow path an answer takes a round trip.
fn patience(rtt: Duration) -> Duration {
    QUIET_AFTER.max(rtt * 2)
}
