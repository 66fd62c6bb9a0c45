//! When to dial: pure, now in, yes or no out.
//!
//! In the first minute without a link somebody who waits for audio must not wait for a timer of ours: a new attempt
//! starts 125–250 ms after the last one began, whether or not that one still hangs (a handshake packet sent into an
//! outage is only repeated after a back-off of the transport's own). After that minute the attempts back off
//! exponentially to [`SLOW_CAP`]. Everything carries jitter, so that a thousand links that fell together don't
//! rise together.

use std::time::{Duration, Instant};

/// The phase in which attempts follow each other closely.
const FAST_PHASE: Duration = Duration::from_secs(60);
/// Most time between two attempts in it; the least is half of that.
const FAST_STEP: Duration = Duration::from_millis(250);
/// The first attempt after a loss comes within this time.
const FIRST_SPREAD: Duration = Duration::from_millis(150);
/// Where the back-off after the fast phase starts and ends.
const SLOW_STEP: Duration = Duration::from_millis(500);
const SLOW_CAP: Duration = Duration::from_secs(8);
/// Without a link nobody waits longer than this, whatever relays do to those who come.
const FALL_CAP: Duration = Duration::from_secs(2);
/// A peer that refuses our authorisation is asked at this pace, and this often.
const REFUSED_STEP: Duration = Duration::from_secs(1);
const REFUSED_LIMIT: u32 = 5;
/// Attempts under way at once: at [`FAST_STEP`] each has a second to come up.
pub const IN_FLIGHT: usize = 4;

/// The clock of one link slot.
#[derive(Clone, Debug)]
pub struct Reconnect {
    random: Jitter,
    /// Since when there is no link.
    since: Option<Instant>,
    next: Option<Instant>,
    slow_step: Duration,
    refusals: u32,
}

impl Reconnect {
    /// `seed` makes the jitter this slot's own.
    pub fn new(seed: u64) -> Self {
        Self { random: Jitter::new(seed), since: None, next: None, slow_step: SLOW_STEP, refusals: 0 }
    }

    /// A link is wanted for the first time: the first attempt is due at once.
    pub fn start(&mut self, now: Instant) {
        self.since = Some(now);
        self.next = Some(now);
        self.slow_step = SLOW_STEP;
    }

    /// The link fell, or a second one is wanted beside it.
    pub fn lost(&mut self, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
            self.slow_step = SLOW_STEP;
            self.next = Some(now + self.random.between(Duration::ZERO, FIRST_SPREAD));
        }
    }

    /// The peer asks to be left; `hurried` times in a row soon after we came. The next attempt comes the later, the more often, but
    /// within `limit`.
    pub fn sent_away(&mut self, hurried: u32, limit: Option<Duration>, now: Instant) {
        self.since.get_or_insert(now);
        let spread = (FIRST_SPREAD * 2_u32.pow(hurried.min(6))).min(SLOW_CAP).min(limit.unwrap_or(SLOW_CAP));
        let least = if hurried == 0 { Duration::ZERO } else { spread / 2 };
        self.next = Some(now + self.random.between(least, spread));
    }

    /// There is no link any more, though one was to be left at some later time; `falls` times in a row soon after it stood.
    pub fn fell(&mut self, falls: u32, now: Instant) {
        self.lost(now);
        let spread = (FIRST_SPREAD * 2_u32.pow(falls.min(6))).min(FALL_CAP);
        let soon = now + self.random.between(spread / 2, spread);
        self.next = self.next.map(|next| next.min(soon));
    }

    /// The peer closed the session over our authorisation. `false`: it did so too often, stop.
    pub fn refused(&mut self, now: Instant) -> bool {
        self.refusals += 1;
        self.since.get_or_insert(now);
        let stop = self.refusals >= REFUSED_LIMIT;
        self.next = (!stop).then(|| now + self.random.between(REFUSED_STEP / 2, REFUSED_STEP));
        !stop
    }

    /// A link is up: no more attempts.
    pub fn up(&mut self) {
        self.since = None;
        self.next = None;
    }

    /// The peer accepted a request of ours: its authorisation works.
    pub fn accepted(&mut self) {
        self.refusals = 0;
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// `true` when an attempt is due; the following one is then scheduled.
    pub fn poll(&mut self, now: Instant) -> bool {
        let (Some(next), Some(since)) = (self.next, self.since) else { return false };
        if now < next {
            return false;
        }
        let step = if now.saturating_duration_since(since) < FAST_PHASE {
            FAST_STEP
        } else {
            self.slow_step = (self.slow_step * 2).min(SLOW_CAP);
            self.slow_step
        };
        self.next = Some(now + self.random.between(step / 2, step));
        true
    }
}

/// Spreads what would otherwise happen at once (splitmix64: spread, not secrecy).
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between `low` and `high`, evenly.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let part = self.bits() >> 32;
        low + high.saturating_sub(low).mul_f64(part as f64 / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times of the attempts in the first `for_` after a loss at zero.
    fn attempts(seed: u64, for_: Duration) -> Vec<Duration> {
        let start = Instant::now();
        let mut reconnect = Reconnect::new(seed);
        reconnect.lost(start);
        let mut times = Vec::new();
        while let Some(at) = reconnect.poll_timeout().filter(|at| *at - start <= for_) {
            assert!(reconnect.poll(at), "due at its own timeout");
            times.push(at - start);
        }
        times
    }

    #[test]
    fn the_first_minute_never_waits_more_than_a_quarter_second() {
        for seed in 0..50 {
            let times = attempts(seed, FAST_PHASE);
            assert!(times[0] <= FIRST_SPREAD);
            for pair in times.windows(2) {
                let step = pair[1] - pair[0];
                assert!(step <= FAST_STEP && step >= FAST_STEP / 2, "{step:?}");
            }
        }
    }

    #[test]
    fn afterwards_it_backs_off_to_the_cap() {
        let times = attempts(7, Duration::from_secs(600));
        let late: Vec<_> = times.windows(2).filter(|p| p[0] > FAST_PHASE + SLOW_CAP * 3).map(|p| p[1] - p[0]).collect();
        assert!(late.len() > 30 && late.iter().all(|step| *step >= SLOW_CAP / 2 && *step <= SLOW_CAP));
        assert!(times.len() < 600);
    }

    #[test]
    fn a_thousand_that_fell_together_do_not_rise_together() {
        let mut slots = [0; 10];
        for seed in 0..1000 {
            let first = attempts(seed, Duration::from_secs(1))[0];
            slots[(first.as_micros() * 10 / (FIRST_SPREAD.as_micros() + 1)) as usize] += 1;
        }
        assert!(slots.iter().all(|n| (60..140).contains(n)), "{slots:?}");
    }

    #[test]
    fn a_refused_authorisation_is_asked_slowly_and_not_for_ever() {
        let mut now = Instant::now();
        let mut reconnect = Reconnect::new(1);
        reconnect.start(now);
        let mut asked = 0;
        while let Some(at) = reconnect.poll_timeout() {
            now = at;
            assert!(reconnect.poll(now));
            asked += 1;
            if !reconnect.refused(now) {
                break;
            }
            assert!(reconnect.poll_timeout().unwrap() - now >= REFUSED_STEP / 2);
        }
        assert_eq!((asked, reconnect.poll_timeout()), (REFUSED_LIMIT, None));
        reconnect.accepted();
        assert!(reconnect.refused(now), "an acceptance clears the count");
    }

    #[test]
    fn a_relay_that_sends_everybody_away_at_once_is_asked_ever_more_slowly() {
        let start = Instant::now();
        for seed in 0..50 {
            let mut reconnect = Reconnect::new(seed);
            let pauses: Vec<_> = (0..10)
                .map(|hurried| {
                    reconnect.up();
                    reconnect.sent_away(hurried, None, start);
                    reconnect.poll_timeout().unwrap() - start
                })
                .collect();
            assert!(pauses[0] <= FIRST_SPREAD && pauses[9] >= SLOW_CAP / 2 && pauses[9] <= SLOW_CAP, "{pauses:?}");
            reconnect.sent_away(9, Some(Duration::from_millis(200)), start);
            assert!(reconnect.poll_timeout().unwrap() <= start + Duration::from_millis(200), "in time all the same");
            reconnect.sent_away(9, None, start);
            reconnect.fell(9, start);
            assert!(reconnect.poll_timeout().unwrap() <= start + FALL_CAP);
        }
    }

    #[test]
    fn up_stops_and_a_second_loss_starts_afresh() {
        let now = Instant::now();
        let mut reconnect = Reconnect::new(1);
        reconnect.start(now);
        assert!(reconnect.poll(now));
        reconnect.up();
        assert_eq!(reconnect.poll_timeout(), None);
        assert!(!reconnect.poll(now + Duration::from_secs(99)));
        reconnect.lost(now + Duration::from_secs(100));
        assert!(reconnect.poll_timeout().is_some());
    }
}
