//! How old the oldest byte is that a subscriber's link has not taken: bytes alone would let a thin track fall minutes behind.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::constants;

/// Bytes handed over, with the time they were handed over at in steps of [`constants::BACKLOG_STEP`].
#[derive(Default)]
pub(super) struct Backlog {
    handed: u64,
    /// (all bytes handed over before this step, when the step began), oldest first.
    marks: VecDeque<(u64, Instant)>,
}

impl Backlog {
    /// `before` and `after`: the session's backlog around one object. Returns how long the oldest waiting byte has waited.
    pub(super) fn hand(&mut self, before: usize, after: usize, now: Instant) -> Duration {
        let newest = self.marks.back().map(|(_, at)| *at);
        if newest.is_none_or(|at| now.saturating_duration_since(at) >= constants::BACKLOG_STEP) {
            self.marks.push_back((self.handed, now));
        }
        self.handed += after.saturating_sub(before) as u64;
        let taken = self.handed.saturating_sub(after as u64);
        // A mark is over when everything up to the next one (or to now) was taken.
        while self.marks.get(1).map_or(self.handed, |(start, _)| *start) <= taken && !self.marks.is_empty() {
            self.marks.pop_front();
        }
        self.marks.front().map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
mod tests {
    use super::*;

    /// One object of 100 bytes every 20 ms; `drain` says how much the link takes before each.
    fn oldest(ticks: u64, drain: impl Fn(u64) -> usize) -> Duration {
        let start = Instant::now();
        let (mut backlog, mut held, mut age) = (Backlog::default(), 0_usize, Duration::ZERO);
        for tick in 0..ticks {
            held -= held.min(drain(tick));
            age = backlog.hand(held, held + 100, start + Duration::from_millis(20 * tick));
            held += 100;
            assert!(backlog.marks.len() <= 2 + (held / 100) * 20 / constants::BACKLOG_STEP.as_millis() as usize);
        }
        age
    }

    #[test]
    fn a_link_that_takes_nothing_ages_from_the_first_byte() {
        assert_eq!(oldest(101, |_| 0), Duration::from_secs(2));
    }

    #[test]
    fn a_link_that_is_always_one_object_behind_does_not_age() {
        assert!(oldest(1000, |_| 100) <= constants::BACKLOG_STEP + Duration::from_millis(20));
    }

    #[test]
    fn a_link_that_lags_by_a_second_is_a_second_old() {
        let age = oldest(1000, |tick| if tick < 50 { 0 } else { 100 });
        assert!(age >= Duration::from_millis(900) && age <= Duration::from_millis(1250), "{age:?}");
    }
}
