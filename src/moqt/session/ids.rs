//! The peer's Request IDs (§10.1): right parity, never twice.

use std::collections::BTreeSet;

use super::{Role, constants};

/// Ids arrive out of order, for every request has its own stream, and some never: their stream was reset before it said anything.
pub(super) struct PeerIds {
    parity: u64,
    /// Every id below was seen or given up.
    below: u64,
    /// Seen beyond it.
    above: BTreeSet<u64>,
}

impl PeerIds {
    /// `role` is ours; the peer has the other parity.
    pub(super) fn new(role: Role) -> Self {
        let parity = u64::from(role == Role::Client);
        Self { parity, below: parity, above: BTreeSet::new() }
    }

    /// `false`: wrong parity or seen before.
    pub(super) fn take(&mut self, id: u64) -> bool {
        if id % 2 != self.parity || id < self.below || !self.above.insert(id) {
            return false;
        }
        if self.above.len() > constants::ID_GAPS {
            self.below = self.above.first().copied().unwrap_or(self.below);
        }
        while self.above.first() == Some(&self.below) && self.below < u64::MAX - 1 {
            self.above.pop_first();
            self.below += 2;
        }
        true
    }

    /// The least id that is above all seen ones: what GOAWAY says (§10.4).
    pub(super) fn next(&self) -> u64 {
        self.above.last().map_or(self.below, |last| last.saturating_add(2)).min(u64::MAX - 1 + self.parity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_taken_once_in_any_order() {
        let mut ids = PeerIds::new(Role::Server);
        assert_eq!(ids.next(), 0);
        assert!(ids.take(4) && ids.take(0) && ids.take(2));
        assert!(!ids.take(2) && !ids.take(4) && !ids.take(7));
        assert_eq!((ids.next(), ids.above.len()), (6, 0));
        assert!(ids.take(u64::MAX - 1) && !ids.take(u64::MAX - 1));
    }

    #[test]
    fn gaps_are_bounded() {
        let mut ids = PeerIds::new(Role::Client);
        for i in 0..100_000_u64 {
            assert!(ids.take(4 * i + 1));
        }
        assert!(ids.above.len() <= constants::ID_GAPS + 1);
        assert!(!ids.take(3));
    }
}
