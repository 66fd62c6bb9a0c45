//! Verified tokens by their hash: all that somebody leans on, and the last few that nobody does any more.
//!
//! A token that many requests bring, or the reconnect of a second ago, is found here and not verified again. What nobody leans on goes
//! after [`RECENT`] others, so that a relay which has seen a million bridges holds no more than one that has seen a hundred.
//! Owned by the [`Verifier`](super::auth::Verifier) of a shard; it never judges a token.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

/// A SHA-256 of the token as it came.
pub(super) type Hash = [u8; 32];

/// Tokens that stay although nobody leans on them; the oldest is forgotten first and simply verified again.
const RECENT: usize = 64;
/// Those that nobody leans on are looked for when there are this many, and whenever there are twice as many as were left.
const SWEEP_AT: usize = 256;

pub(super) struct Remembered<T> {
    all: HashMap<Hash, Weak<T>>,
    recent: VecDeque<Arc<T>>,
    sweep_at: usize,
}

impl<T> Remembered<T> {
    pub(super) fn new() -> Self {
        Self { all: HashMap::new(), recent: VecDeque::with_capacity(RECENT), sweep_at: SWEEP_AT }
    }

    pub(super) fn find(&self, hash: &Hash) -> Option<Arc<T>> {
        self.all.get(hash)?.upgrade()
    }

    pub(super) fn insert(&mut self, hash: Hash, token: Arc<T>) {
        if self.all.len() >= self.sweep_at {
            self.all.retain(|_, token| token.strong_count() > 0);
            self.sweep_at = SWEEP_AT.max(2 * self.all.len());
        }
        self.all.insert(hash, Arc::downgrade(&token));
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }

    /// Forgets the others, whoever leans on them. Asks twice about some.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        self.recent.retain(|token| stays(token));
        self.all.retain(|_, token| token.upgrade().is_some_and(|token| stays(&token)));
    }
}

#[cfg(test)]
impl<T> Remembered<T> {
    pub(super) fn len(&self) -> usize {
        self.all.values().filter(|token| token.strong_count() > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: usize) -> Hash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        hash
    }

    #[test]
    fn what_nobody_leans_on_is_forgotten_after_some_others() {
        let mut tokens = Remembered::new();
        for n in 0..10_000 {
            tokens.insert(hash(n), Arc::new(n));
            assert!(tokens.all.len() <= SWEEP_AT && tokens.recent.len() <= RECENT);
        }
        assert_eq!(tokens.len(), RECENT);
        assert_eq!(tokens.find(&hash(10_000 - RECENT)), Some(Arc::new(10_000 - RECENT)));
        assert_eq!(tokens.find(&hash(10_000 - RECENT - 1)), None);
    }

    #[test]
    fn what_somebody_leans_on_is_found_however_many_come_after_it() {
        let mut tokens = Remembered::new();
        let held: Vec<_> = (0..2_000).map(Arc::new).collect();
        for n in 0..10_000 {
            let token = held.get(n).cloned().unwrap_or_else(|| Arc::new(n));
            tokens.insert(hash(n), token);
        }
        assert!((0..2_000).all(|n| tokens.find(&hash(n)).is_some_and(|token| Arc::ptr_eq(&token, &held[n]))));
        assert!(tokens.all.len() <= 2 * (held.len() + RECENT) + SWEEP_AT, "{}", tokens.all.len());
    }

    #[test]
    fn what_does_not_stay_is_not_found_though_somebody_leans_on_it() {
        let mut tokens = Remembered::new();
        let held: Vec<_> = (0..10).map(Arc::new).collect();
        held.iter().for_each(|token| tokens.insert(hash(**token), token.clone()));
        tokens.retain(|n| n % 2 == 0);
        assert_eq!((0..10).filter(|n| tokens.find(&hash(*n)).is_some()).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
        assert_eq!((tokens.len(), tokens.recent.len()), (5, 5));
    }
}
