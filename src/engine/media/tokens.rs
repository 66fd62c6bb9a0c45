//! The engine's own tokens on one audio thread: one goes with the calls of some minutes, and a lease at a relay elsewhere is given
//! the next ahead of its end.
//!
//! The engine's own relay lets its calls outlive their token; one elsewhere does not. Times are arguments; what a token is made of
//! is the [`Mint`]'s affair.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Mint, Supply};
use crate::moqt::message::Token;
use crate::tracks::{LeaseId, Pool};

/// A minted token goes with the calls of so many minutes, or of a sixth of its life if that is less.
const AGE: Duration = Duration::from_secs(600);

pub(super) struct Tokens {
    mint: Mint,
    /// A relay elsewhere ends what an old token allowed.
    elsewhere: bool,
    last: (Instant, Token),
    /// When each lease is given a fresh one, in that order.
    due: VecDeque<(Instant, LeaseId)>,
}

impl Tokens {
    pub(super) fn new(mint: Mint, supply: &Supply, now: Instant) -> Self {
        let last = (now, minted(&mint));
        Self { mint, elsewhere: matches!(supply, Supply::Dial { .. }), last, due: VecDeque::new() }
    }

    /// A token of now, or of some minutes ago.
    pub(super) fn young(&mut self, now: Instant) -> Token {
        if now.saturating_duration_since(self.last.0) > AGE.min(self.mint.life / 6) {
            return self.fresh(now);
        }
        self.last.1.clone()
    }

    pub(super) fn fresh(&mut self, now: Instant) -> Token {
        self.last = (now, minted(&self.mint));
        self.last.1.clone()
    }

    /// The lease has a young token. By the time that it is given the next it has used up half of the life of this one, and two thirds at
    /// most. Calls are renewed as they came, not all at once.
    pub(super) fn lent(&mut self, lease: LeaseId, now: Instant) {
        if self.elsewhere {
            self.due.push_back((now + self.mint.life / 2, lease));
        }
    }

    pub(super) fn handle_timeout(&mut self, pool: &mut Pool, now: Instant) {
        while let Some((_, lease)) = self.due.pop_front_if(|(at, _)| *at <= now) {
            // A call that ended has given its lease back.
            if pool.standing(lease).is_some() {
                pool.renew(lease, vec![self.young(now)]);
                self.lent(lease, now);
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| *at)
    }
}

fn minted(mint: &Mint) -> Token {
    Token { kind: 0, value: Bytes::from((mint.token)()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::tracks::RouteKind;

    fn mint(life_s: u64) -> Mint {
        let minted = AtomicU64::new(0);
        let token = Arc::new(move || minted.fetch_add(1, Ordering::Relaxed).to_string());
        Mint { token, life: Duration::from_secs(life_s) }
    }

    fn tokens(life_s: u64, elsewhere: bool, now: Instant) -> Tokens {
        let mint = mint(life_s);
        let last = (now, minted(&mint));
        Tokens { mint, elsewhere, last, due: VecDeque::new() }
    }

    #[test]
    fn no_lease_elsewhere_holds_a_token_until_its_end() {
        let (life, mut now) = (Duration::from_secs(60), Instant::now());
        let mut pool = Pool::new(1, now, Duration::ZERO);
        let mut tokens = tokens(60, true, now);
        let route = pool.route(RouteKind { cap: 1 });
        let mut leases = Vec::new();
        let mut oldest = Duration::ZERO;
        for _ in 0..600 {
            now += Duration::from_secs(1);
            if leases.len() < 20 {
                let token = tokens.young(now);
                leases.push(pool.lease(route, vec![token], now));
                tokens.lent(leases[leases.len() - 1], now);
            }
            while tokens.poll_timeout().is_some_and(|at| at <= now) {
                tokens.handle_timeout(&mut pool, now);
            }
            assert_eq!(tokens.due.len(), leases.len());
            assert!(tokens.due.iter().all(|(at, _)| *at <= now + life / 2));
            oldest = oldest.max(now - tokens.last.0);
        }
        assert!(oldest <= life / 2 + life / 6, "{oldest:?}");
    }

    #[test]
    fn at_our_own_relay_nothing_is_due() {
        let now = Instant::now();
        let mut pool = Pool::new(1, now, Duration::ZERO);
        let mut tokens = tokens(2, false, now);
        let route = pool.route(RouteKind { cap: 1 });
        let lease = pool.lease(route, vec![tokens.young(now)], now);
        tokens.lent(lease, now);
        assert_eq!(tokens.poll_timeout(), None);
        assert_ne!(tokens.young(now), tokens.young(now + Duration::from_secs(1)), "a token is not lent when it is old");
    }

    #[test]
    fn a_lease_that_was_given_back_is_forgotten() {
        let now = Instant::now();
        let mut pool = Pool::new(1, now, Duration::ZERO);
        let mut tokens = tokens(60, true, now);
        tokens.lent(LeaseId(7), now);
        tokens.handle_timeout(&mut pool, now + Duration::from_secs(30));
        assert_eq!(tokens.poll_timeout(), None);
    }
}
