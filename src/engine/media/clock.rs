//! When each call's next frame is due: an absolute schedule in slots of 1 ms, pure.
//!
//! A call that begins is put into one of the twenty slots of 20 ms and ticks from then on every [`Params::frame_ms`](crate::audio::Params)
//! exactly, whatever the thread's sleep did. Calls fill a slot up to [`PER_SLOT`] before the next is opened: few calls
//! wake the thread once per frame, many are spread over the frame. After a stall a call catches up [`CATCH_UP_MS`] at most;
//! what lies further back is skipped and counted, for a far end that heard nothing so long does not want it any more, and a burst
//! of more than a bridge's ring would be dropped there.

use std::time::{Duration, Instant};

/// Ticks later than this are skipped. A bridge's ring holds 200 ms.
const CATCH_UP_MS: u64 = 160;
/// Slots of the schedule; every period is shorter.
const BUCKETS: u64 = 64;
/// Slots that calls are spread over.
const SLOTS: usize = 20;
/// Calls of a slot before the next is opened: about 1 ms of work where everything is transcoded.
const PER_SLOT: usize = 8;

/// One frame of one call is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    pub(super) key: u64,
    /// The time it was due at, for stamps: consecutive ticks of a call lie one frame apart, exactly.
    pub(super) timestamp_us: u64,
    pub(super) at: Instant,
}

#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    due_ms: u64,
    period_ms: u64,
    slot: usize,
}

/// The clock that all stamps of a thread are read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    epoch: Instant,
    /// What a stamp of the epoch reads.
    base_us: u64,
}

impl Stamps {
    pub(super) fn at(self, at: Instant) -> u64 {
        let after = |from: Instant, to: Instant| to.saturating_duration_since(from).as_micros() as u64;
        (self.base_us + after(self.epoch, at)).saturating_sub(after(at, self.epoch))
    }
}

pub(super) struct Wheel {
    epoch: Instant,
    /// What a stamp of the epoch reads.
    base_us: u64,
    /// The next millisecond that was not looked at.
    cursor_ms: u64,
    buckets: Vec<Vec<Entry>>,
    load: [usize; SLOTS],
    entries: usize,
    skipped: u64,
}

impl Wheel {
    pub(super) fn new(epoch: Instant, base_us: u64) -> Self {
        let buckets = (0..BUCKETS).map(|_| Vec::new()).collect();
        Self { epoch, base_us, cursor_ms: 0, buckets, load: [0; SLOTS], entries: 0, skipped: 0 }
    }

    /// `key` ticks every `period_ms` (1 to 60) from its slot's next turn on.
    pub(super) fn insert(&mut self, key: u64, period_ms: u8, now: Instant) {
        // The first of those that are least full, in rounds: who comes in a row shares slots, as he shares a link.
        let rounds = |(_, load): &(usize, &usize)| **load / PER_SLOT;
        let slot = self.load.iter().enumerate().min_by_key(rounds).map_or(0, |(slot, _)| slot);
        if self.entries == 0 {
            self.cursor_ms = self.ms(now);
        }
        let from = self.cursor_ms.max(self.ms(now)) + 1;
        let step = SLOTS as u64;
        let due_ms = from + (slot as u64 + step - from % step) % step;
        self.load[slot] += 1;
        self.entries += 1;
        self.put(Entry { key, due_ms, period_ms: u64::from(period_ms).clamp(1, BUCKETS - 1), slot });
    }

    pub(super) fn remove(&mut self, key: u64) {
        for bucket in &mut self.buckets {
            if let Some(at) = bucket.iter().position(|entry| entry.key == key) {
                let entry = bucket.swap_remove(at);
                self.load[entry.slot] -= 1;
                self.entries -= 1;
                return;
            }
        }
    }

    /// Appends what is due by now, in order of time.
    pub(super) fn due(&mut self, now: Instant, out: &mut Vec<Tick>) {
        let now_ms = self.ms(now);
        if self.entries == 0 {
            return;
        }
        if now_ms.saturating_sub(self.cursor_ms) > CATCH_UP_MS {
            self.skip_to(now_ms - CATCH_UP_MS);
        }
        while self.cursor_ms <= now_ms {
            let bucket = (self.cursor_ms % BUCKETS) as usize;
            let mut at = 0;
            while let Some(entry) = self.buckets[bucket].get(at).copied() {
                if entry.due_ms != self.cursor_ms {
                    at += 1;
                    continue;
                }
                self.buckets[bucket].swap_remove(at);
                out.push(self.tick(entry));
                self.put(Entry { due_ms: entry.due_ms + entry.period_ms, ..entry });
            }
            self.cursor_ms += 1;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.entries == 0 {
            return None;
        }
        let due = |ms: &u64| self.buckets[(*ms % BUCKETS) as usize].iter().any(|entry| entry.due_ms == *ms);
        let ms = (self.cursor_ms..self.cursor_ms + BUCKETS).find(due)?;
        Some(self.epoch + Duration::from_millis(ms))
    }

    /// Stamps of moments, for frames that no tick made.
    pub(super) fn stamps(&self) -> Stamps {
        Stamps { epoch: self.epoch, base_us: self.base_us }
    }

    /// Ticks that were not made up for.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    fn skip_to(&mut self, ms: u64) {
        let late: Vec<Entry> = self.buckets.iter_mut().flat_map(|bucket| bucket.drain(..)).collect();
        for mut entry in late {
            if entry.due_ms < ms {
                let ticks = (ms - entry.due_ms).div_ceil(entry.period_ms);
                entry.due_ms += ticks * entry.period_ms;
                self.skipped += ticks;
            }
            self.put(entry);
        }
        self.cursor_ms = ms;
    }

    fn put(&mut self, entry: Entry) {
        self.buckets[(entry.due_ms % BUCKETS) as usize].push(entry);
    }

    fn tick(&self, entry: Entry) -> Tick {
        let timestamp_us = self.base_us + entry.due_ms * 1000;
        Tick { key: entry.key, timestamp_us, at: self.epoch + Duration::from_millis(entry.due_ms) }
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Runs as a thread would that wakes up when asked, `late` ms later.
    fn run(wheel: &mut Wheel, from: Instant, until: Instant, late: u64) -> Vec<Tick> {
        let (mut ticks, mut now) = (Vec::new(), from);
        while let Some(at) = wheel.poll_timeout().filter(|at| *at <= until) {
            now = now.max(at + ms(late));
            wheel.due(now, &mut ticks);
        }
        ticks
    }

    #[test]
    fn stamps_lie_one_frame_apart_whatever_the_sleep_does() {
        for (period, late) in [(20, 0), (20, 3), (10, 7), (30, 0), (60, 15)] {
            let start = Instant::now();
            let mut wheel = Wheel::new(start, 1_000_000);
            wheel.insert(7, period, start);
            let ticks = run(&mut wheel, start, start + ms(3000), late);
            assert!(ticks.len() as u64 >= 2900 / u64::from(period), "{}", ticks.len());
            for pair in ticks.windows(2) {
                assert_eq!(pair[1].timestamp_us - pair[0].timestamp_us, u64::from(period) * 1000);
                assert_eq!(pair[1].at - pair[0].at, ms(u64::from(period)));
            }
            assert_eq!(wheel.skipped(), 0);
        }
    }

    #[test]
    fn few_calls_share_a_slot_and_many_are_spread() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, 0);
        (0..PER_SLOT as u64).for_each(|key| wheel.insert(key, 20, start));
        let ticks = run(&mut wheel, start, start + ms(25), 0);
        assert!(ticks.iter().all(|tick| tick.at == ticks[0].at), "one wake-up for all");
        (PER_SLOT as u64..400).for_each(|key| wheel.insert(key, 20, start + ms(30)));
        let (least, most) = (wheel.load.iter().min().unwrap(), wheel.load.iter().max().unwrap());
        assert_eq!((wheel.load.iter().sum::<usize>(), most - least), (400, PER_SLOT));
        (0..400).for_each(|key| wheel.remove(key));
        assert_eq!((wheel.load, wheel.poll_timeout()), ([0; SLOTS], None));
    }

    /// A third of the packets' cost at a thousand calls (docs/performance.md, "together").
    #[test]
    fn whoever_comes_in_a_row_shares_slots_however_many_there_are() {
        const LINK: u64 = 32;
        let start = Instant::now();
        let mut wheel = Wheel::new(start, 0);
        (0..960).for_each(|key| wheel.insert(key, 20, start));
        let mut ticks = Vec::new();
        wheel.due(start + ms(20), &mut ticks);
        assert_eq!(ticks.len(), 960);
        for link in 0..960 / LINK {
            let own = ticks.iter().filter(|tick| tick.key / LINK == link);
            let slots: std::collections::BTreeSet<_> = own.map(|tick| tick.timestamp_us).collect();
            assert_eq!(slots.len(), LINK as usize / PER_SLOT, "link {link}");
        }
    }

    #[test]
    fn a_short_stall_is_made_up_for_and_a_long_one_skipped() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, 0);
        wheel.insert(1, 20, start);
        let mut ticks = Vec::new();
        wheel.due(start + ms(20), &mut ticks);
        wheel.due(start + ms(140), &mut ticks);
        assert_eq!((ticks.len(), wheel.skipped()), (7, 0));
        wheel.due(start + ms(2140), &mut ticks);
        let made_up = ticks.len() as u64 - 7;
        assert_eq!(made_up + wheel.skipped(), 100, "no tick is unaccounted for");
        assert!(made_up <= CATCH_UP_MS / 20 + 1);
        assert!(ticks.windows(2).all(|pair| (pair[1].timestamp_us - pair[0].timestamp_us) % 20_000 == 0));
        wheel.due(start + ms(2160), &mut ticks);
        let last = &ticks[ticks.len() - 2..];
        assert_eq!(last[1].timestamp_us - last[0].timestamp_us, 20_000);
    }

    #[test]
    fn a_call_that_comes_after_an_idle_hour_starts_now() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, 0);
        let mut ticks = Vec::new();
        wheel.due(start, &mut ticks);
        let later = start + ms(3_600_000);
        wheel.insert(1, 20, later);
        let at = wheel.poll_timeout().unwrap();
        assert!(at > later && at <= later + ms(20));
        wheel.due(at, &mut ticks);
        assert_eq!((ticks.len(), wheel.skipped()), (1, 0));
    }
}
