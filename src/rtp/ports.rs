//! Which pair of ports is next: RTP on the even one, RTCP on the odd one above it (RFC 3550 §11).
//!
//! A pair that was given back rests for [`REST`], so that what a peer still sends to an ended call does not speak into the next.
//! Pairs are used in a circle from a random start: the longest unused is always next. Nothing here is bound; who can't bind a pair
//! gives it back and asks again.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How long a used pair rests. Longer than any peer's patience with a lost BYE but for the stubborn, whom the latch refuses.
pub const REST: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct PortPool {
    free: VecDeque<u16>,
    resting: VecDeque<(Instant, u16)>,
    taken: usize,
    exhausted: u64,
}

/// A range of ports without a pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ports {0} to {1} hold no pair of an even port and the odd one above it, or begin below 1024")]
pub struct NoPair(u16, u16);

impl PortPool {
    /// `seed`: where the circle begins.
    pub fn new(range: RangeInclusive<u16>, seed: u64) -> Result<Self, NoPair> {
        let (first, last) = (*range.start(), *range.end());
        let even = |port: &u16| port.is_multiple_of(2);
        let mut free: VecDeque<u16> = range.filter(even).filter(|port| *port < last).collect();
        if free.is_empty() || first < 1024 {
            return Err(NoPair(first, last));
        }
        let start = (seed % free.len() as u64) as usize;
        free.rotate_left(start);
        Ok(Self { free, resting: VecDeque::new(), taken: 0, exhausted: 0 })
    }

    /// The even port of a pair; `None`: all are in use or rest.
    pub fn take(&mut self, now: Instant) -> Option<u16> {
        while let Some((_, port)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            self.free.push_back(port);
        }
        let port = self.free.pop_front();
        match port {
            Some(_) => self.taken += 1,
            None => self.exhausted += 1,
        }
        port
    }

    /// When a pair can be taken; `None`: not before one is given back.
    pub fn free_at(&self, now: Instant) -> Option<Instant> {
        if self.free.is_empty() { self.resting.front().map(|(until, _)| (*until).max(now)) } else { Some(now) }
    }

    /// A pair of [`PortPool::take`] is free again.
    pub fn give_back(&mut self, port: u16, now: Instant) {
        self.taken = self.taken.saturating_sub(1);
        self.resting.push_back((now + REST, port));
    }

    pub fn taken(&self) -> usize {
        self.taken
    }

    /// How often nothing was left.
    pub fn exhausted(&self) -> u64 {
        self.exhausted
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pairs_are_even_within_the_range_and_each_comes_once() {
        for (range, pairs) in [(10_001..=10_011, 5), (10_000..=10_010, 5), (10_000..=10_001, 1)] {
            let mut pool = PortPool::new(range.clone(), 3).unwrap();
            let now = Instant::now();
            let ports: HashSet<u16> = std::iter::from_fn(|| pool.take(now)).collect();
            assert!(ports.iter().all(|port| port % 2 == 0 && range.contains(port) && range.contains(&(port + 1))));
            assert_eq!((ports.len(), pool.taken(), pool.exhausted()), (pairs, pairs, 1));
        }
        assert_eq!(PortPool::new(10_001..=10_002, 0).unwrap_err(), NoPair(10_001, 10_002));
        assert!(PortPool::new(1000..=2000, 0).is_err());
        assert!(PortPool::new(65_534..=65_535, 0).is_ok_and(|mut pool| pool.take(Instant::now()) == Some(65_534)));
    }

    #[test]
    fn the_start_is_the_seeds() {
        let first = |seed| PortPool::new(10_000..=10_999, seed).unwrap().take(Instant::now());
        assert_eq!((first(0), first(1), first(501)), (Some(10_000), Some(10_002), Some(10_002)));
    }

    #[test]
    fn a_used_pair_rests_and_is_then_the_last_in_line() {
        let (mut pool, now) = (PortPool::new(10_000..=10_005, 0).unwrap(), Instant::now());
        let port = pool.take(now).unwrap();
        pool.give_back(port, now);
        assert_eq!((pool.take(now), pool.take(now), pool.take(now)), (Some(10_002), Some(10_004), None));
        assert_eq!(pool.take(now + REST - Duration::from_millis(1)), None);
        assert_eq!(pool.take(now + REST), Some(port));
        assert_eq!((pool.taken(), pool.exhausted()), (3, 2));
    }
}
