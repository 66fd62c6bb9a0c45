//! The queue in virtual time. Frames carry their number.
#![allow(clippy::disallowed_methods)]

use super::*;

const CLOCK_US: u64 = 5_000_000;

struct Rig {
    queue: Queue,
    start: Instant,
    now: Instant,
    number: u32,
    /// When it left in µs since the start, its number, its stamp.
    out: Vec<(u64, u32, u64)>,
}

impl Rig {
    fn new() -> Self {
        let start = Instant::now();
        Self { queue: Queue::new(20_000, CLOCK_US, start), start, now: start, number: 0, out: Vec::new() }
    }

    fn push(&mut self, stamp_us: Option<u64>) -> bool {
        let payload = Bytes::copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        self.queue.push(payload, stamp_us, self.now).is_ok()
    }

    fn drain(&mut self) {
        while let Some(due) = self.queue.poll(self.now) {
            let number = u32::from_le_bytes(due.payload[..].try_into().unwrap());
            self.out.push(((self.now - self.start).as_micros() as u64, number, due.timestamp_us));
        }
    }

    fn advance_ms(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// Sleeps as the queue asks until it has nothing left.
    fn run(&mut self) {
        self.drain();
        while let Some(at) = self.queue.poll_timeout() {
            assert!(at > self.now, "a queue that was drained has nothing due");
            self.now = at;
            let before = self.out.len();
            self.drain();
            assert!(self.out.len() > before, "the timeout was the right one");
        }
    }

    fn stamps_grow(&self) -> bool {
        self.out.windows(2).all(|pair| pair[0].2 < pair[1].2 && pair[0].1 < pair[1].1)
    }
}

#[test]
fn a_live_source_passes_straight_through() {
    let mut rig = Rig::new();
    for n in 0..500 {
        // The first millisecond of a frame time, or the last.
        rig.now = rig.start + Duration::from_millis(n * 20 + (n * 7) % 19);
        assert!(rig.push(None));
        rig.drain();
        assert_eq!(rig.out.len() as u64, n + 1, "left in the instant in which it came");
    }
    assert!(rig.stamps_grow());
    assert!(rig.queue.poll_timeout().is_none());
}

#[test]
fn thirty_seconds_at_once_leave_in_their_own_time() {
    let mut rig = Rig::new();
    (0..1500).for_each(|_| assert!(rig.push(None)));
    assert_eq!(rig.queue.queued_us(), 30_000_000);
    rig.run();
    assert_eq!(rig.out.len(), 1500);
    for (n, (left_us, number, stamp_us)) in rig.out.iter().enumerate() {
        let place_us = n as u64 * 20_000;
        assert_eq!((*number, *stamp_us), (n as u32, CLOCK_US + place_us), "in order, 20 ms apart");
        assert_eq!(*left_us, place_us.saturating_sub(60_000), "at most 60 ms ahead");
    }
    assert_eq!(rig.queue.queued_us(), 0);
}

#[test]
fn a_full_queue_refuses_and_loses_nothing() {
    let mut rig = Rig::new();
    (0..3000).for_each(|_| assert!(rig.push(None)));
    let full = rig.queue.push(Bytes::from_static(b"more"), None, rig.now).unwrap_err();
    assert_eq!((full.queued_us, &full.payload[..]), (60_000_000, &b"more"[..]));
    rig.drain();
    assert_eq!(rig.out.len(), 4, "the first 60 ms");
    (0..4).for_each(|_| assert!(rig.push(None), "there is room for what has left"));
    assert!(!rig.push(None));
    rig.run();
    assert_eq!(rig.out.len(), 3004);
    assert!(rig.stamps_grow());
}

#[test]
fn a_second_sentence_starts_when_it_is_said() {
    let mut rig = Rig::new();
    (0..5).for_each(|_| assert!(rig.push(None)));
    rig.run();
    rig.now = rig.start + Duration::from_secs(3);
    (0..5).for_each(|_| assert!(rig.push(None)));
    rig.run();
    assert_eq!(rig.out[5], (3_000_000, 5, CLOCK_US + 3_000_000));
    assert_eq!(rig.out[9].2, CLOCK_US + 3_080_000);
}

#[test]
fn stamps_are_honoured() {
    let mut rig = Rig::new();
    assert!(rig.push(Some(CLOCK_US + 500_000)));
    assert!(rig.push(None), "behind the stamped one");
    assert!(rig.push(Some(CLOCK_US + 900_000)));
    rig.run();
    assert_eq!(
        rig.out,
        [(440_000, 0, CLOCK_US + 500_000), (460_000, 1, CLOCK_US + 520_000), (840_000, 2, CLOCK_US + 900_000)]
    );
}

#[test]
fn stamps_in_the_past_leave_at_once_in_order() {
    let mut rig = Rig::new();
    rig.advance_ms(10_000);
    // A user's own time line, going backwards once.
    for stamp in [1000, 21_000, 5000, 41_000] {
        assert!(rig.push(Some(stamp)));
    }
    rig.drain();
    let stamps: Vec<u64> = rig.out.iter().map(|(_, _, stamp)| *stamp).collect();
    assert_eq!(stamps, [1000, 21_000, 21_001, 41_000]);
    assert!(rig.out.iter().all(|(left_us, ..)| *left_us == 10_000_000));
    // Not before an earlier frame that is still to come.
    assert!(rig.push(Some(CLOCK_US + 11_000_000)));
    assert!(rig.push(Some(CLOCK_US + 10_500_000)));
    rig.run();
    assert_eq!(rig.out[4], (10_940_000, 4, CLOCK_US + 11_000_000));
    assert_eq!(rig.out[5], (10_940_000, 5, CLOCK_US + 11_000_001));
}

#[test]
fn a_stamp_of_another_clock_is_refused() {
    let mut rig = Rig::new();
    assert!(!rig.push(Some(u64::MAX)));
    assert!(!rig.push(Some(CLOCK_US + 61_000_000)));
    assert!(rig.push(Some(CLOCK_US + 59_000_000)));
    rig.run();
    assert_eq!(rig.out.len(), 1);
}

#[test]
fn time_runs_on_while_nobody_listens() {
    let mut rig = Rig::new();
    (0..500).for_each(|_| assert!(rig.push(None)));
    rig.drain();
    rig.advance_ms(4000);
    rig.drain();
    assert_eq!(rig.out.len(), 204, "what was due meanwhile is given out now");
    assert!(rig.stamps_grow());
    rig.run();
    let (left_us, _, stamp_us) = rig.out[499];
    assert_eq!((left_us, stamp_us), (9_920_000, CLOCK_US + 9_980_000), "the rest keeps its time");
}

#[test]
fn clear_drops_what_has_not_left() {
    let mut rig = Rig::new();
    (0..100).for_each(|_| assert!(rig.push(None)));
    rig.drain();
    assert_eq!(rig.queue.clear(), 96 * 20_000);
    assert!(rig.queue.poll_timeout().is_none());
    assert!(rig.push(None));
    rig.run();
    assert_eq!(rig.out.last().unwrap(), &(20_000, 100, CLOCK_US + 80_000), "right behind what had left");
}

#[test]
fn odd_arguments_do_not_panic() {
    let mut rig = Rig::new();
    rig.queue = Queue::new(10_000, u64::MAX - 10, rig.start);
    // A clock near its end is no reason to panic.
    assert!(rig.push(None));
    rig.advance_ms(1000);
    let _ = rig.push(None);
    rig.drain();
    rig.queue = Queue::new(0, 0, rig.start);
    assert!(rig.push(None), "a frame of no length is one of a microsecond");
}

#[test]
fn whatever_is_pushed_leaves_in_order_and_not_too_early() {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for _ in 0..50 {
        let (mut rig, mut accepted) = (Rig::new(), Vec::new());
        for _ in 0..300 {
            let now_us = CLOCK_US + (rig.now - rig.start).as_micros() as u64;
            let stamp_us = match random(8) {
                0 => Some(random(now_us)),
                1 => Some(now_us + random(70_000_000)),
                _ => None,
            };
            for _ in 0..random(20) {
                let number = rig.number;
                if rig.push(stamp_us) {
                    accepted.push(number);
                }
            }
            assert!(rig.queue.queued_us() <= CAPACITY.as_micros() as u64);
            rig.advance_ms(random(400));
            if random(3) > 0 {
                rig.drain();
            }
        }
        rig.run();
        assert!(rig.stamps_grow());
        assert_eq!(rig.out.iter().map(|(_, number, _)| *number).collect::<Vec<_>>(), accepted, "nothing is lost");
        let early = |&(left_us, _, stamp_us): &(u64, u32, u64)| stamp_us.saturating_sub(CLOCK_US + left_us);
        // A stamp that had to grow past the one before by microseconds is not the frame's place.
        assert!(rig.out.iter().all(|out| early(out) <= AHEAD.as_micros() as u64 + 6000));
    }
}
