//! Which frames of a live speaker are too old to be heard: pure, stamps and time in, yes or no out.
//!
//! After a stall the path gives out at once what it held up. A listener wants to hear the speaker as he is now, so right
//! after a stall a frame is dropped that comes more than [`STALE`] later than frames of this speaker do at their quickest.
//! (What a newer frame has overtaken is dropped by the pool, for every listener.)
//!
//! A user who knows better than this room whether the path stalled says so ([`Lag::stalled`]); for others
//! ([`Lag::by_silence`]) a silence looks like a stall.
//!
//! Only for speakers whose stamps follow real time, pauses included. A clock that jumps (another speaker) is believed at once
//! when it jumps by more than [`JUMP`]; anything else that looks like lag is believed after [`STALL_ENDS`].

use std::time::{Duration, Instant};

/// Audio older than this is not worth hearing.
const STALE: i64 = 200_000;
/// Nothing came for so long: the path may have stalled.
const STALL: Duration = Duration::from_millis(300);
/// What a stall held up comes within this time; later lag is the path's new length.
pub const STALL_ENDS: Duration = Duration::from_secs(1);
/// A greater step of the stamps is another clock.
const JUMP: i64 = 30_000_000;
/// The quickest frame of this time and of the one before is what others are compared with: clocks drift.
const WINDOW: Duration = Duration::from_secs(10);

/// One speaker as one listener hears him. Microseconds.
#[derive(Debug, Default)]
pub struct Lag {
    /// The first frame's arrival, and the last one's.
    began: Option<Instant>,
    last: Option<Instant>,
    /// The least of arrival minus stamp in this window and in the one before.
    least: Option<i64>,
    before: Option<i64>,
    window_ends: Option<Instant>,
    stall_ends: Option<Instant>,
    by_silence: bool,
}

impl Lag {
    pub fn by_silence() -> Self {
        Self { by_silence: true, ..Self::default() }
    }

    /// The path stalls, or did so until now.
    pub fn stalled(&mut self, now: Instant) {
        self.stall_ends = Some(now + STALL_ENDS);
    }

    /// `false`: too old to be heard.
    pub fn admit(&mut self, stamp_us: u64, now: Instant) -> bool {
        let stamp = i64::try_from(stamp_us).unwrap_or(i64::MAX);
        let began = *self.began.get_or_insert(now);
        let arrival = i64::try_from(now.saturating_duration_since(began).as_micros()).unwrap_or(i64::MAX);
        let lag = arrival.saturating_sub(stamp);
        let silent = self.last.replace(now).is_some_and(|last| now.saturating_duration_since(last) >= STALL);
        if silent && self.by_silence {
            self.stalled(now);
        }
        let Some(usual) = self.usual() else { return self.restart(lag, now) };
        if lag.saturating_sub(usual).saturating_abs() > JUMP {
            return self.restart(lag, now);
        }
        if self.is_held_up(lag.saturating_sub(usual), now) {
            return false;
        }
        self.note(lag, now);
        true
    }

    fn usual(&self) -> Option<i64> {
        self.least.into_iter().chain(self.before).min()
    }

    /// Right after a stall, until a frame comes in time.
    fn is_held_up(&mut self, beyond: i64, now: Instant) -> bool {
        let Some(ends) = self.stall_ends else { return false };
        if beyond > STALE && now < ends {
            return true;
        }
        self.stall_ends = None;
        if beyond > STALE {
            // The path is longer than it was.
            (self.least, self.before) = (None, None);
        }
        false
    }

    fn note(&mut self, lag: i64, now: Instant) {
        if self.window_ends.is_none_or(|ends| ends <= now) {
            self.window_ends = Some(now + WINDOW);
            self.before = self.least.take();
        }
        self.least = Some(self.least.map_or(lag, |least| least.min(lag)));
    }

    /// Another clock, or the first frame.
    fn restart(&mut self, lag: i64, now: Instant) -> bool {
        (self.least, self.before, self.stall_ends) = (None, None, None);
        self.note(lag, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_MS: u64 = 20;

    struct Bench {
        lag: Lag,
        start: Instant,
        base_us: u64,
    }

    impl Bench {
        fn new() -> Self {
            Self { lag: Lag::by_silence(), start: Instant::now(), base_us: 1_700_000_000_000_000 }
        }

        /// The frame that was said at `said_ms` comes at `at_ms`.
        fn comes(&mut self, said_ms: u64, at_ms: u64) -> bool {
            self.lag.admit(self.base_us + said_ms * 1000, self.start + Duration::from_millis(at_ms))
        }

        /// Frames said from..to come `after_ms` later each.
        fn flow(&mut self, from_ms: u64, to_ms: u64, after_ms: u64) -> Vec<bool> {
            (from_ms..to_ms).step_by(FRAME_MS as usize).map(|ms| self.comes(ms, ms + after_ms)).collect()
        }
    }

    #[test]
    fn what_comes_in_its_time_is_heard_also_after_a_pause() {
        let mut bench = Bench::new();
        assert!(bench.flow(0, 30_000, 5).iter().all(|heard| *heard));
        assert!(bench.flow(50_000, 80_000, 30).iter().all(|heard| *heard), "he was silent for 20 s");
    }

    #[test]
    fn what_a_stall_held_up_is_dropped_to_the_live_edge() {
        let mut bench = Bench::new();
        bench.flow(0, 5_000, 5);
        let heard: Vec<u64> = (5_000..7_000).step_by(20).filter(|ms| bench.comes(*ms, 7_010)).collect();
        assert_eq!(heard, (6_820..7_000).step_by(20).collect::<Vec<_>>(), "200 ms are still worth hearing");
        assert!(bench.flow(7_020, 9_000, 5).iter().all(|heard| *heard));
    }

    #[test]
    fn a_stall_can_be_told() {
        let mut bench = Bench::new();
        bench.lag = Lag::default();
        bench.flow(0, 5_000, 5);
        assert!(bench.comes(5_000, 7_000), "nobody said so");
        assert!(bench.flow(7_020, 9_000, 5).iter().all(|heard| *heard));
        bench.lag.stalled(bench.start + Duration::from_millis(11_000));
        assert!(!bench.comes(9_000, 11_000));
        assert!(bench.comes(10_980, 11_000));
    }

    #[test]
    fn a_path_that_has_become_longer_is_believed() {
        let mut bench = Bench::new();
        bench.flow(0, 5_000, 5);
        let later = bench.flow(5_000, 10_000, 505);
        let dropped = later.iter().take_while(|heard| !**heard).count();
        assert!(dropped <= 50, "{dropped}: a second at most");
        assert!(later[dropped..].iter().all(|heard| *heard));
        assert!(bench.flow(10_000, 40_000, 505).iter().all(|heard| *heard));
    }

    #[test]
    fn another_clock_is_believed_at_once() {
        let mut bench = Bench::new();
        bench.flow(0, 5_000, 5);
        for base_us in [1_000_000, 1_800_000_000_000_000, 0] {
            bench.base_us = base_us;
            assert!(bench.flow(6_000, 8_000, 5).iter().all(|heard| *heard), "{base_us}");
        }
        assert!(bench.lag.admit(u64::MAX, bench.start + Duration::from_secs(9)));
        assert!(bench.lag.admit(0, bench.start + Duration::from_secs(9)));
    }

    #[test]
    fn clocks_drift() {
        let mut bench = Bench::new();
        // 200 parts in a million for ten minutes, and then a stall.
        for ms in (0..600_000).step_by(20) {
            assert!(bench.comes(ms, ms + 5 + ms / 5_000));
        }
        assert!(!bench.comes(600_000, 602_125));
        assert!(bench.comes(602_000, 602_126));
        // And towards us.
        let mut bench = Bench::new();
        for ms in (0..600_000).step_by(20) {
            assert!(bench.comes(ms, 500 + ms - ms / 5_000));
        }
        assert!(!bench.comes(600_000, 602_380));
    }
}
