//! How a trunk does: what its far side says to OPTIONS and to calls, and the breaker that opens when every call fails.
//!
//! A [`Health`] hears of each answer and each silence. `healthy`: the last question was answered. `degraded`: something failed
//! lately, calls are tried. `down`: nobody answers, or the breaker is open: no call is tried. While it is open one call a
//! [`Settings::breaker`] is let through, and one success closes it. An answer that refuses one call (486, 404) says that the far
//! side is well; a 5xx says the opposite, but for a limit of the customer's own.

use std::time::{Duration, Instant};

/// So many questions in a row without an answer, and nobody is there.
const DOWN_AFTER: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Healthy,
    Degraded,
    Down,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// 5xx in a row before the breaker opens; 0: never.
    pub breaker_failures: u32,
    /// For how long, unless a Retry-After asks for longer.
    pub breaker: Duration,
    /// What a Retry-After may ask for at most.
    pub longest: Duration,
}

#[derive(Clone, Debug)]
pub struct Health {
    settings: Settings,
    unanswered: u32,
    failures: u32,
    open_until: Option<Instant>,
}

impl Health {
    pub fn new(settings: Settings) -> Self {
        Self { settings, unanswered: 0, failures: 0, open_until: None }
    }

    /// A final answer to OPTIONS (RFC 3261 §11). Any but 408 and 503 comes from somebody who is there.
    pub fn handle_options(&mut self, code: u16) {
        match code {
            408 => self.handle_silence(),
            503 => self.unanswered = self.unanswered.max(1),
            _ => self.unanswered = 0,
        }
    }

    /// OPTIONS or INVITE without any answer, or a far side that can't be reached.
    pub fn handle_silence(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// A final answer to an INVITE. `retry_after` is its header's; `is_limit`: it says that the customer's own limit is reached.
    pub fn handle_answer(&mut self, code: u16, retry_after: Option<Duration>, is_limit: bool, now: Instant) {
        self.unanswered = 0;
        if !(500..=599).contains(&code) || is_limit {
            (self.failures, self.open_until) = (0, None);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let is_enough = self.settings.breaker_failures > 0 && self.failures >= self.settings.breaker_failures;
        if is_enough {
            let asked = retry_after.unwrap_or_default().min(self.settings.longest);
            self.open_until = Some(now + self.settings.breaker.max(asked));
        }
    }

    /// A call rings (RFC 3261 §21.1: 180 to 183): the far side takes calls, so the next ones are tried. What failed before is forgotten by
    /// the final answer alone: a far side that rings and then fails opens the breaker again at once.
    pub fn handle_ringing(&mut self) {
        (self.unanswered, self.open_until) = (0, None);
    }

    pub fn state(&self, now: Instant) -> State {
        if self.unanswered >= DOWN_AFTER || self.open_until.is_some_and(|until| now < until) {
            State::Down
        } else if self.unanswered > 0 || self.failures > 0 {
            State::Degraded
        } else {
            State::Healthy
        }
    }

    /// Whether the breaker is open (the vendor's `is_cb_tripped`).
    pub fn is_tripped(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }

    /// Lets a call through, or says when to ask again. After the time of an open breaker one call tries it out: until that one is
    /// answered the next are refused for as long again.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.open_until {
            Some(until) if now < until => Err(until - now),
            Some(_) => {
                self.open_until = Some(now + self.settings.breaker);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings =
        Settings { breaker_failures: 3, breaker: Duration::from_secs(30), longest: Duration::from_secs(600) };

    struct Bench {
        health: Health,
        now: Instant,
    }

    impl Bench {
        #[allow(clippy::disallowed_methods)] // the origin of the virtual clock
        fn new() -> Self {
            Self { health: Health::new(SETTINGS), now: Instant::now() }
        }

        fn answers(&mut self, codes: &[u16]) -> State {
            codes.iter().for_each(|code| self.health.handle_answer(*code, None, false, self.now));
            self.health.state(self.now)
        }

        fn after(&mut self, seconds: u64) -> State {
            self.now += Duration::from_secs(seconds);
            self.health.state(self.now)
        }
    }

    #[test]
    fn options_decide_whether_somebody_is_there() {
        let mut bench = Bench::new();
        assert_eq!(bench.health.state(bench.now), State::Healthy);
        bench.health.handle_silence();
        assert_eq!(bench.health.state(bench.now), State::Degraded);
        bench.health.handle_options(408);
        bench.health.handle_silence();
        assert_eq!(bench.health.state(bench.now), State::Down);
        // Nobody who says "no such method" is away.
        bench.health.handle_options(405);
        assert_eq!(bench.health.state(bench.now), State::Healthy);
        bench.health.handle_options(503);
        assert_eq!(bench.health.state(bench.now), State::Degraded);
    }

    #[test]
    fn a_trunk_that_is_down_for_silence_is_tried_all_the_same() {
        let mut bench = Bench::new();
        (0..5).for_each(|_| bench.health.handle_silence());
        assert_eq!(bench.health.admit(bench.now), Ok(()));
        assert_eq!(bench.answers(&[486]), State::Healthy);
    }

    #[test]
    fn failures_in_a_row_open_the_breaker_and_others_do_not() {
        let mut bench = Bench::new();
        assert_eq!(bench.answers(&[500, 503]), State::Degraded);
        assert_eq!(bench.answers(&[486]), State::Healthy);
        assert_eq!(bench.answers(&[500, 502, 200, 503, 500]), State::Degraded);
        assert_eq!(bench.answers(&[504]), State::Down);
        assert!(bench.health.is_tripped(bench.now));
        assert_eq!(bench.health.admit(bench.now), Err(Duration::from_secs(30)));
    }

    #[test]
    fn after_its_time_one_call_tries_the_trunk() {
        let mut bench = Bench::new();
        bench.answers(&[500, 500, 500]);
        assert_eq!(bench.after(30), State::Degraded);
        assert_eq!(bench.health.admit(bench.now), Ok(()));
        assert_eq!(bench.health.admit(bench.now), Err(Duration::from_secs(30)));
        assert_eq!(bench.answers(&[500]), State::Down);
        bench.after(30);
        assert_eq!(bench.health.admit(bench.now), Ok(()));
        assert_eq!(bench.answers(&[200]), State::Healthy);
        assert_eq!(bench.health.admit(bench.now), Ok(()));
    }

    #[test]
    fn a_call_that_rings_closes_the_breaker_until_the_next_failure() {
        let mut bench = Bench::new();
        bench.answers(&[500, 500, 500]);
        bench.after(30);
        assert_eq!(bench.health.admit(bench.now), Ok(()));
        bench.health.handle_ringing();
        assert_eq!((bench.health.admit(bench.now), bench.health.admit(bench.now)), (Ok(()), Ok(())));
        assert_eq!(bench.answers(&[503]), State::Down);
        bench.health.handle_ringing();
        assert_eq!(bench.answers(&[200]), State::Healthy);
    }

    #[test]
    fn a_retry_after_is_heeded_within_reason() {
        for (asked, waits) in [(10, 30), (100, 100), (100_000, 600)] {
            let mut bench = Bench::new();
            bench.answers(&[500, 500]);
            bench.health.handle_answer(503, Some(Duration::from_secs(asked)), false, bench.now);
            assert_eq!(bench.health.admit(bench.now), Err(Duration::from_secs(waits)), "{asked}");
        }
    }

    #[test]
    fn a_limit_of_our_own_is_no_outage() {
        let mut bench = Bench::new();
        (0..9).for_each(|_| bench.health.handle_answer(503, None, true, bench.now));
        assert_eq!(bench.health.state(bench.now), State::Healthy);
    }

    #[test]
    fn a_breaker_of_zero_never_opens() {
        let mut health = Health::new(Settings { breaker_failures: 0, ..SETTINGS });
        let now = Bench::new().now;
        (0..99).for_each(|_| health.handle_answer(503, None, false, now));
        assert_eq!((health.state(now), health.admit(now)), (State::Degraded, Ok(())));
    }
}
