//! How calls leave the board: ended, in memory for a while, then left to the store; or taken back by whoever asked for them.
//!
//! A client that gave up its originate does not know whether it had come through. With the key of that request it takes it back
//! ([`Board::take_back`]): the call that it placed is hung up, and if it comes later than that it is refused. What is taken back is remembered
//! in memory only: a request that an engine had not seen does not outlive that engine's connections.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::{Board, Sid};
use super::entry::{Entry, Phase};
use super::mint::unix_ms;
use crate::engine::store::{KEY_MEMORY_MS, Recalled, Remembered};

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
        let name = (org, key);
        if let Some(sid) = self.keys.get(&name).cloned() {
            return self.hangup(&name.0, &sid, now).is_ok();
        }
        self.taken_back.add(name.0, name.1);
        false
    }

    /// The call of this key, if it is here; also while the store fails, or has lost it. One that is on its way to the disk is the store's
    /// to tell: it may be refused yet.
    pub(super) fn recall(&self, org: String, key: String) -> Option<Recalled> {
        let sid = self.keys.get(&(org, key))?;
        let entry = self.calls.get(sid).filter(|entry| !matches!(entry.phase, Phase::Saving(_)))?;
        let is_remembered = unix_ms().saturating_sub(entry.record().started_ms) < KEY_MEMORY_MS;
        let remembered = entry.remembered.as_ref().filter(|_| is_remembered)?;
        Some(Recalled { sid: sid.to_string(), hash: remembered.hash })
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
        if let Some(at) = self.take_out(sid).and_then(|entry| entry.timer) {
            self.timers.remove(&(at, Arc::clone(sid)));
        }
    }

    /// With its key, unless that is a later call's by now.
    pub(super) fn take_out(&mut self, sid: &Sid) -> Option<Box<Entry>> {
        let entry = self.calls.remove(sid)?;
        if let Some(Remembered { org, key, .. }) = &entry.remembered {
            let name = (org.clone(), key.clone());
            if self.keys.get(&name) == Some(sid) {
                self.keys.remove(&name);
            }
        }
        Some(entry)
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
        let (trunk_id, turn) = (entry.trunk_id.clone(), entry.turn);
        self.trunks.leave(&trunk_id);
        self.trunks.give_back(&trunk_id, turn, now);
        self.leave_leg(sid, None, now);
        self.metrics.active(self.trunks.active());
        self.ended.push_back(Arc::clone(sid));
        while self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.leave(&oldest);
        }
    }
}
