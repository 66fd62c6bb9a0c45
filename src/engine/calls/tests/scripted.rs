//! A trunk whose far end is the test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Log;
use crate::audio::Params;
use crate::engine::trunk::{Asker, Dial, FarEnd, Keys, Trunk};

/// Writes down what it is told; the test says what the far end does.
pub(super) struct Scripted {
    pub(super) log: Log,
    /// For how long it lets no call through.
    pub(super) closed_for: Option<Duration>,
}

impl Scripted {
    pub(super) fn new(log: &Log) -> Self {
        Self { log: Arc::clone(log), closed_for: None }
    }

    fn note(&self, word: String) {
        self.log.lock().unwrap().push(word);
    }
}

impl Trunk for Scripted {
    fn dial(&mut self, dial: Dial, _now: Instant) {
        self.note(format!("{}dial {} {}s", of_leg(&dial.sid), dial.to, dial.ring_timeout.as_secs()));
    }
    fn dial_like(&mut self, dial: Dial, first: Option<Params>, now: Instant) {
        if let Some(first) = first.filter(|first| *first != Params::CALL) {
            self.note(format!("like {}", first.codec.as_str()));
        }
        self.dial(dial, now);
    }
    fn cancel(&mut self, sid: &str, _now: Instant) {
        self.note(format!("{}cancel", of_leg(sid)));
    }
    fn bye(&mut self, sid: &str, _now: Instant) {
        self.note(format!("{}bye", of_leg(sid)));
    }
    fn take_in(&mut self, key: u64, _sid: &str, _now: Instant) {
        self.note(format!("take in {key}"));
    }
    fn turn_away(&mut self, key: u64, code: u16, retry_after: Option<Duration>, _now: Instant) {
        self.note(format!("turn away {key} {code} {:?}", retry_after.map(|after| after.as_secs())));
    }
    fn ring(&mut self, _sid: &str, _now: Instant) {
        self.note("ring".to_owned());
    }
    fn answer(&mut self, _sid: &str, _now: Instant) {
        self.note("answer".to_owned());
    }
    fn reject(&mut self, _sid: &str, code: u16, _now: Instant) {
        self.note(format!("reject {code}"));
    }
    fn admit(&mut self, _now: Instant) -> Result<(), Duration> {
        self.closed_for.map_or(Ok(()), Err)
    }
    fn transfer(&mut self, _sid: &str, to: &str, _now: Instant) {
        self.note(format!("transfer {to}"));
    }
    fn press(&mut self, sid: &str, keys: Keys, asker: Asker, _now: Instant) {
        let count = keys.strokes.len();
        self.note(format!("{}press {count} strokes of {} ms", of_leg(sid), keys.duration_ms));
        asker.tell(if count < 5 { Ok(()) } else { Err("too many".to_owned()) });
    }
    fn far_end(&self, to: &str) -> FarEnd {
        if to.ends_with('0') { FarEnd::Empty } else { FarEnd::Phone }
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn handle_timeout(&mut self, _now: Instant) {}
}

/// `leg 0: ` for that of a second leg, nothing for a call.
fn of_leg(sid: &str) -> String {
    sid.split_once('-').map(|(_, leg)| format!("leg {leg}: ")).unwrap_or_default()
}
