//! Going away: the relay as a whole, or one of its peers (§10.4).
//!
//! A relay that drains says GOAWAY to everybody and serves on: what is new is refused with GOING_AWAY by each session, which closes
//! itself with GOAWAY_TIMEOUT when its time is over and requests are still open. A peer that says GOAWAY is asked for
//! nothing new; what it publishes is heard until it is gone, beside whoever takes its place.

use std::time::Duration;

use super::{Core, Sessions};
use crate::moqt::message::GoAway;

impl Core {
    /// Sends everybody away, to `uri` or (when it is empty) to where they came from. Only the first call counts.
    pub fn drain(&mut self, sessions: &mut dyn Sessions, uri: &str, timeout: Duration) {
        if self.draining.is_some() {
            return;
        }
        let goaway = GoAway { uri: uri.to_owned(), timeout: Some(timeout) };
        self.draining = Some(goaway.clone());
        let mut keys: Vec<u64> = self.peers.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            if let Some(session) = sessions.session(key) {
                session.goaway(goaway.clone());
            }
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Whoever came after [`Core::drain`] learns of it with its first request. `true`: the relay drains.
    pub(super) fn sends_away(&self, sessions: &mut dyn Sessions, key: u64) -> bool {
        let Some(goaway) = &self.draining else { return false };
        if let Some(session) = sessions.session(key) {
            session.goaway(goaway.clone());
        }
        true
    }

    pub(super) fn handle_goaway(&mut self, key: u64) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.leaving = true;
        }
    }
}
