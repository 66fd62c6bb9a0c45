//! The brain of one direction: a datagram goes in with its time, and comes out when it is due, or never.
//!
//! No socket, no clock: time is an argument, in microseconds from any moment. Every datagram takes the same number of
//! draws from the generator, whatever the climate, so its fate depends on the seed and on how many came before it. What is under
//! way is bounded by [`HELD_BYTES`]; beyond that it is dropped and counted like what finds no room in front of the line.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::climate::{Climate, Loss};
use crate::random::Random;

/// All that is under way in one direction.
const HELD_BYTES: u64 = 32 << 20;

/// What became of the datagrams of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub came: u64,
    /// Handed on, second copies included.
    pub passed: u64,
    pub lost: u64,
    /// Came, or were under way, while the path was cut.
    pub cut: u64,
    /// Found no room in front of the line.
    pub overflowed: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub bytes_passed: u64,
}

/// One direction of a path. `T` is the datagram, and where it goes.
pub struct Sky<T> {
    climate: Climate,
    random: Random,
    held: BinaryHeap<Held<T>>,
    held_bytes: u64,
    /// How many were ever held: ties go in the order of coming.
    number: u64,
    /// When the line is free again.
    line_free_us: u64,
    /// When the last one that kept its place is due.
    last_due_us: u64,
    is_bad: bool,
    is_cut: bool,
    tally: Tally,
}

struct Held<T> {
    due_us: u64,
    number: u64,
    bytes: u64,
    datagram: T,
}

impl<T: Clone> Sky<T> {
    pub fn new(seed: u64) -> Self {
        Self {
            climate: Climate::default(),
            random: Random::new(seed),
            held: BinaryHeap::new(),
            held_bytes: 0,
            number: 0,
            line_free_us: 0,
            last_due_us: 0,
            is_bad: false,
            is_cut: false,
            tally: Tally::default(),
        }
    }

    /// For what comes from now on; what is under way keeps its time.
    pub fn change(&mut self, climate: Climate) {
        self.climate = climate;
    }

    /// Nothing passes any more; what is under way is lost too.
    pub fn cut(&mut self) {
        self.is_cut = true;
        self.tally.cut += self.held.len() as u64;
        self.held.clear();
        self.held_bytes = 0;
    }

    pub fn heal(&mut self) {
        self.is_cut = false;
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// A datagram comes.
    pub fn push(&mut self, now_us: u64, bytes: u64, datagram: T) {
        self.tally.came += 1;
        let [loss, duplicate, reorder, jitter] = std::array::from_fn(|_| self.random.share());
        if self.is_cut {
            self.tally.cut += 1;
        } else if self.loses(loss) {
            self.tally.lost += 1;
        } else if duplicate < self.climate.duplicate {
            self.tally.duplicated += 1;
            self.send(now_us, bytes, datagram.clone(), (reorder, jitter));
            self.send(now_us, bytes, datagram, (1.0, jitter));
        } else {
            self.send(now_us, bytes, datagram, (reorder, jitter));
        }
    }

    /// The next datagram that is due.
    pub fn pop(&mut self, now_us: u64) -> Option<T> {
        self.held.peek().filter(|held| held.due_us <= now_us)?;
        let held = self.held.pop()?;
        self.held_bytes -= held.bytes;
        self.tally.passed += 1;
        self.tally.bytes_passed += held.bytes;
        Some(held.datagram)
    }

    pub fn due_us(&self) -> Option<u64> {
        self.held.peek().map(|held| held.due_us)
    }

    fn loses(&mut self, draw: f64) -> bool {
        match self.climate.loss {
            Loss::None => false,
            Loss::Uniform(rate) => draw < rate,
            Loss::Bursts { rate, burst } => {
                let ends = 1.0 / burst;
                let begins = rate * ends / (1.0 - rate);
                self.is_bad = if self.is_bad { draw >= ends } else { draw < begins };
                self.is_bad
            }
        }
    }

    fn send(&mut self, now_us: u64, bytes: u64, datagram: T, (reorder, jitter): (f64, f64)) {
        let Some(sent_us) = self.line(now_us, bytes) else {
            self.tally.overflowed += 1;
            return;
        };
        let mut due_us = sent_us + self.climate.delay_us + (jitter * self.climate.jitter_us as f64) as u64;
        if reorder < self.climate.reorder {
            self.tally.reordered += 1;
            due_us += self.climate.reorder_us;
        } else {
            due_us = due_us.max(self.last_due_us);
            self.last_due_us = due_us;
        }
        self.number += 1;
        self.held_bytes += bytes;
        self.held.push(Held { due_us, number: self.number, bytes, datagram });
    }

    /// When the line has carried it; `None` without room.
    fn line(&mut self, now_us: u64, bytes: u64) -> Option<u64> {
        if self.held_bytes + bytes > HELD_BYTES {
            return None;
        }
        let Some(rate_bps) = self.climate.rate_bps else { return Some(now_us) };
        let begins_us = self.line_free_us.max(now_us);
        let waiting = u128::from(begins_us - now_us) * u128::from(rate_bps) / 8_000_000;
        if waiting + u128::from(bytes) > u128::from(self.climate.queue_bytes) {
            return None;
        }
        self.line_free_us = begins_us + bytes * 8_000_000 / rate_bps;
        Some(self.line_free_us)
    }
}

/// The earliest is the greatest: `BinaryHeap` gives the greatest first.
impl<T> Ord for Held<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due_us, other.number).cmp(&(self.due_us, self.number))
    }
}
impl<T> PartialOrd for Held<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> PartialEq for Held<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<T> Eq for Held<T> {}
