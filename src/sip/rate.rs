//! New calls per second of a trunk, and the calls that wait for their turn.
//!
//! A [`Rate`] lets at most so many calls begin within any second. A call beyond it is told when its turn is; one whose turn would
//! come too late is refused, so that nobody waits longer than he would ring. It keeps the times of the last second and of the
//! turns to come, which are as many as calls may wait.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Rate {
    per_s: usize,
    /// When calls began or will begin, in order.
    turns: VecDeque<Instant>,
}

/// No turn comes in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// A turn within the wait is free again then, if nobody else takes it.
    pub retry_after: Duration,
}

impl Rate {
    /// 0 is 1: a trunk that may begin no call at all is none.
    pub fn new(per_s: usize) -> Self {
        Self { per_s: per_s.max(1), turns: VecDeque::new() }
    }

    /// When a call may begin that can wait this long.
    pub fn turn(&mut self, longest_wait: Duration, now: Instant) -> Result<Instant, Full> {
        while self.turns.front().is_some_and(|turn| now.saturating_duration_since(*turn) >= SECOND) {
            self.turns.pop_front();
        }
        let free = self.turns.len().checked_sub(self.per_s).map_or(now, |at| self.turns[at] + SECOND);
        // Nobody overtakes who waits already.
        let turn = self.turns.back().map_or(now, |last| *last).max(free).max(now);
        let wait = turn.saturating_duration_since(now);
        if wait > Duration::ZERO && wait >= longest_wait {
            return Err(Full { retry_after: (wait - longest_wait).max(SECOND) });
        }
        self.turns.push_back(turn);
        Ok(turn)
    }

    /// The call ended before its turn. Those behind it keep theirs.
    pub fn give_back(&mut self, turn: Instant, now: Instant) {
        if turn > now {
            self.untake(turn);
        }
    }

    /// What was just taken is not needed after all: nothing began.
    pub fn untake(&mut self, turn: Instant) {
        if let Some(at) = self.turns.iter().rposition(|taken| *taken == turn) {
            self.turns.remove(at);
        }
    }

    /// Calls that wait.
    pub fn waiting(&self, now: Instant) -> usize {
        self.turns.iter().rev().take_while(|turn| **turn > now).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    #[allow(clippy::disallowed_methods)] // the origin of the virtual clock
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn so_many_begin_at_once_and_the_next_wait_for_their_second() {
        let (mut rate, now) = (Rate::new(2), origin());
        let turns: Vec<_> = (0..6).map(|_| rate.turn(WAIT, now).unwrap() - now).collect();
        assert_eq!(turns, [0, 0, 1, 1, 2, 2].map(Duration::from_secs));
        assert_eq!(rate.waiting(now), 4);
    }

    #[test]
    fn a_turn_beyond_the_wait_is_refused_and_says_when() {
        let (mut rate, now) = (Rate::new(1), origin());
        (0..5).for_each(|_| assert!(rate.turn(WAIT, now).is_ok()));
        assert_eq!(rate.turn(WAIT, now), Err(Full { retry_after: SECOND }));
        assert_eq!(rate.turn(WAIT * 2, now), Ok(now + WAIT));
        assert_eq!(rate.turn(WAIT, now), Err(Full { retry_after: SECOND }));
        assert_eq!(rate.turn(Duration::from_secs(1), now), Err(Full { retry_after: Duration::from_secs(5) }));
        assert!(rate.turn(WAIT, now + Duration::from_secs(3)).is_ok());
    }

    #[test]
    fn a_call_that_was_taken_back_leaves_its_turn_to_the_last() {
        let (mut rate, now) = (Rate::new(1), origin());
        let turns: Vec<_> = (0..3).map(|_| rate.turn(WAIT, now).unwrap()).collect();
        rate.give_back(turns[2], now);
        assert_eq!(rate.turn(WAIT, now), Ok(turns[2]));
        // What has begun stays counted.
        rate.give_back(turns[0], now);
        assert_eq!(rate.turn(WAIT, now), Ok(now + Duration::from_secs(3)));
    }

    #[test]
    fn a_call_that_did_not_begin_is_not_counted() {
        let (mut rate, now) = (Rate::new(1), origin());
        let turn = rate.turn(WAIT, now).unwrap();
        rate.untake(turn);
        assert_eq!(rate.turn(WAIT, now), Ok(now));
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_allowed(
            per_s in 1usize..5,
            asks in prop::collection::vec((0u64..700, 1u64..4000, any::<bool>()), 1..60),
        ) {
            let (mut rate, mut now, mut taken) = (Rate::new(per_s), origin(), Vec::new());
            for (later, wait, gives_back) in asks {
                now += Duration::from_millis(later);
                let Ok(turn) = rate.turn(Duration::from_millis(wait), now) else { continue };
                prop_assert!(turn >= now && turn.saturating_duration_since(now) < Duration::from_millis(wait) || turn == now);
                if gives_back && turn > now { rate.give_back(turn, now) } else { taken.push(turn) }
            }
            taken.sort();
            for window in taken.windows(per_s + 1) {
                prop_assert!(window[per_s] - window[0] >= SECOND);
            }
        }
    }
}
