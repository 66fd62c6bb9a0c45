//! Whether a path still answers: data outstanding for [`QUIET_AFTER`] without an acknowledgement is a reason to look for another.
//!
//! QUIC itself declares a path dead after its idle timeout, which is far too late for audio; who needs the path acts on this. Its
//! own probes double their distance, up to seconds: a quiet path is asked at a steady pace instead, so that one that heals is
//! known to live at once. Who listens and says nothing has nothing outstanding, so a peer that falls silent is asked too.

use std::time::{Duration, Instant};

use quinn_proto::Connection;

use super::{LinkEvent, QUIET_AFTER};

/// A peer that spoke says nothing for so long: a pause, or a path that died. One question tells.
const SILENCE: Duration = Duration::from_millis(200);
/// From one question to the next while the path is quiet. Nothing else of ours may be leaving then.
const ASK_EVERY: Duration = Duration::from_millis(50);
const ASKS_MORE: u32 = 3;

#[derive(Default)]
pub(super) struct Quiet {
    since: Option<Instant>,
    acks: u64,
    asked: u64,
    told: bool,
    /// Frames with something in them that came, and when it is a silence that none came since.
    heard: u64,
    silent_at: Option<Instant>,
    /// The next question to a quiet path.
    ask_at: Option<Instant>,
    /// One is to leave now.
    asks: bool,
    /// Questions to a path that speaks again.
    more: u32,
}

impl Quiet {
    /// Packets went out: with data, or with a keep-alive that waits for an answer like data. What flow control holds back
    /// says nothing about the path.
    pub(super) fn sent(&mut self, connection: &Connection, now: Instant) {
        let stats = connection.stats();
        let frames = stats.frame_tx;
        // A probe for a larger packet size is a PING that may go missing on the best of paths.
        let pings = frames.ping.saturating_sub(stats.path.sent_plpmtud_probes);
        let asked = frames.stream + frames.datagram + pings;
        if asked != self.asked {
            self.asked = asked;
            self.since.get_or_insert(now);
        }
    }

    /// Packets came in. An acknowledgement ends the silence. It may be an old one, of what arrived before: the path is asked a few
    /// times more, because only the answer to a new packet tells what was lost, and makes room for what is to be said.
    pub(super) fn received(&mut self, connection: &mut Connection, now: Instant) -> Option<LinkEvent> {
        let frames = connection.stats().frame_rx;
        let heard = frames.stream + frames.datagram;
        if std::mem::replace(&mut self.heard, heard) != heard {
            self.silent_at = Some(now + SILENCE);
        }
        if std::mem::replace(&mut self.acks, frames.acks) == frames.acks {
            return None;
        }
        self.since = None;
        if !std::mem::take(&mut self.told) {
            return None;
        }
        self.ask(connection);
        (self.more, self.ask_at) = (ASKS_MORE, Some(now + ASK_EVERY));
        Some(LinkEvent::Alive)
    }

    pub(super) fn deadline(&self, rtt: Duration) -> Option<Instant> {
        self.answer_by(rtt).into_iter().chain(self.silent_at).min()
    }

    fn answer_by(&self, rtt: Duration) -> Option<Instant> {
        self.ask_at.or_else(|| self.since.map(|since| since + patience(rtt)))
    }

    pub(super) fn handle_timeout(&mut self, connection: &mut Connection, now: Instant) -> Option<LinkEvent> {
        if self.silent_at.take_if(|at| *at <= now).is_some() && self.since.is_none() {
            self.ask(connection);
        }
        if self.answer_by(connection.rtt()).is_none_or(|at| at > now) {
            return None;
        }
        self.ask(connection);
        if self.ask_at.is_some() && !self.told {
            self.more -= 1;
            self.ask_at = (self.more > 0).then(|| now + ASK_EVERY);
            return None;
        }
        self.ask_at = Some(now + ASK_EVERY);
        (!std::mem::replace(&mut self.told, true)).then_some(LinkEvent::Quiet)
    }

    fn ask(&mut self, connection: &mut Connection) {
        connection.ping();
        self.asks = true;
    }

    /// The packet that is built next is a question.
    pub(super) fn take_question(&mut self) -> bool {
        std::mem::take(&mut self.asks)
    }

    pub(super) fn quiet_for(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// On a slow path an answer takes a round trip.
fn patience(rtt: Duration) -> Duration {
    QUIET_AFTER.max(rtt * 2)
}
