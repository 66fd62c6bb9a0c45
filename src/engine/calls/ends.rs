//! How calls leave the board: ended, in memory for a while, then left to the store; or taken back by whoever asked for them.
//!
//! A client that gave up its originate does not know whether it had come through. With the key of that request it takes it back
//! ([`Board::take_back`]): the call that it placed is hung up, and if it comes later than that it is refused. What is taken back is remembered
//! in memory only: a request that an engine had not seen does not outlive that engine's connections.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::{Board, Entry, Sid};
use crate::engine::store::Remembered;

/// An ended call stays in memory for this long, and longer while the store fails.
const KEEP_ENDED: Duration = Duration::from_secs(60);
/// Ended calls in memory; beyond, the oldest is left to the store alone, which knows its newest state too while the disk fails.
const MAX_ENDED: usize = 256;
/// Keys that were taken back before their request came; beyond, the oldest is forgotten.
const MAX_TAKEN_BACK: usize = 1024;

/// Organisations and keys, the oldest first.
#[derive(Default)]
pub(super) struct TakenBack(VecDeque<(String, String)>);

impl TakenBack {
    fn add(&mut self, org: String, key: String) {
        if self.0.len() == MAX_TAKEN_BACK {
            self.0.pop_front();
        }
        self.0.push_back((org, key));
    }

    pub(super) fn holds(&self, remembered: &Remembered) -> bool {
        self.0.iter().any(|(org, key)| *org == remembered.org && *key == remembered.key)
    }
}

impl Board {
    /// Hangs up the call of this key. `false`: none is here. Then a request with it that comes later is refused, and the store may know of
    /// an earlier one.
    pub(super) fn take_back(&mut self, org: String, key: String, now: Instant) -> bool {
        let of_key = |entry: &Entry| entry.org == org && entry.key.as_ref() == Some(&key);
        match self.calls.values().find(|entry| of_key(entry)).map(|entry| entry.record().sid.clone()) {
            Some(sid) => self.hangup(&org, &sid, now).is_ok(),
            None => {
                self.taken_back.add(org, key);
                false
            }
        }
    }

    /// While the store fails memory is what is true, so it is kept.
    pub(super) fn forget(&mut self, sid: &Sid, now: Instant) {
        if self.store.health().failing.is_some() {
            if let Some(entry) = self.calls.get_mut(sid) {
                entry.forget_at = Some(now + KEEP_ENDED);
            }
            self.arm(sid);
        } else {
            self.leave(sid);
        }
    }

    /// The store alone knows it from now on.
    fn leave(&mut self, sid: &Sid) {
        if let Some(at) = self.calls.remove(sid).and_then(|entry| entry.timer) {
            self.timers.remove(&(at, Arc::clone(sid)));
        }
    }

    /// Once per call, at its end.
    pub(super) fn note_end(&mut self, sid: &Sid, now: Instant) {
        let Some(entry) = self.calls.get_mut(sid) else { return };
        if !entry.is_over() || entry.forget_at.is_some() {
            return;
        }
        entry.forget_at = Some(now + KEEP_ENDED);
        entry.agent = None;
        entry.memory = None;
        let record = entry.record();
        tracing::info!(%sid, status = record.status.as_str(), reason = record.end_reason.map(|r| r.as_str()), "call ended");
        self.metrics.ended(record.status);
        let trunk_id = entry.trunk_id.clone();
        self.trunks.leave(&trunk_id);
        self.metrics.active(self.trunks.active());
        self.ended.push_back(Arc::clone(sid));
        while self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.leave(&oldest);
        }
    }
}
