//! Packets back in order: what comes early waits behind a hole for a while, everything else passes straight through.
//!
//! A [`Buffer`] belongs to one receiver of one stream. [`Buffer::insert`] takes an item under its number (without wrap, RFC 3550
//! §A.1) at its arrival, [`Buffer::pull`] gives what is next: an item, or the word that so many are missing. An item in order
//! waits for nothing. Behind a hole items wait at most [`Rules::wait`]; with a wait of zero nothing ever waits, and what is late
//! is dropped. Late and double items are counted and dropped. The buffer is a ring of [`Rules::capacity`] places: what
//! would not fit gives up the hole in front of it.
//!
//! It adds no delay of its own choice and keeps no cadence: it does not measure jitter, conceal or stretch. Who plays audio at a
//! constant pace wants more than this.
//!
//! The room has no clock, and knows no RTP and no audio.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long an item waits behind a hole.
    pub wait: Duration,
    /// Places, at least one.
    pub capacity: usize,
}

impl Default for Rules {
    /// Nothing waits.
    fn default() -> Self {
        Self { wait: Duration::ZERO, capacity: 32 }
    }
}

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled<T> {
    Item {
        number: u64,
        timestamp: u64,
        item: T,
    },
    /// These are not waited for any more.
    Missing {
        first: u64,
        count: u64,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub inserted: u64,
    /// Came when nobody waited for them any more, or twice.
    pub late: u64,
    pub double: u64,
    pub missing: u64,
    /// Of the missing: given up for want of a place, and not for time.
    pub overflowed: u64,
}

#[derive(Clone, Debug)]
struct Place<T> {
    number: u64,
    timestamp: u64,
    arrived: Instant,
    item: T,
}

#[derive(Clone, Debug)]
pub struct Buffer<T> {
    wait: Duration,
    places: Vec<Option<Place<T>>>,
    held: usize,
    /// The number that is next; `None` until the first item.
    next: Option<u64>,
    /// What gave way to newer items and was not pulled yet; at most twice as many as there are places.
    ready: VecDeque<Pulled<T>>,
    counters: Counters,
}

impl<T> Buffer<T> {
    pub fn new(rules: Rules) -> Self {
        let places = (0..rules.capacity.max(1)).map(|_| None).collect();
        let (ready, counters) = (VecDeque::new(), Counters::default());
        Self { wait: rules.wait, places, held: 0, next: None, ready, counters }
    }

    /// `false`: it was late or came twice, and is gone.
    pub fn insert(&mut self, number: u64, timestamp: u64, item: T, now: Instant) -> bool {
        let next = *self.next.get_or_insert(number);
        if number < next {
            self.counters.late += 1;
            return false;
        }
        self.make_room(number);
        let place = self.place(number);
        if self.places[place].is_some() {
            self.counters.double += 1;
            return false;
        }
        self.places[place] = Some(Place { number, timestamp, arrived: now, item });
        self.held += 1;
        self.counters.inserted += 1;
        true
    }

    /// What is next by now; `None`: nothing, or a hole that is still waited for.
    pub fn pull(&mut self, now: Instant) -> Option<Pulled<T>> {
        if let Some(pulled) = self.ready.pop_front() {
            return Some(pulled);
        }
        let next = self.next?;
        if let Some(item) = self.take(next) {
            return Some(item);
        }
        let (first_held, arrived) = self.first_held()?;
        if now.saturating_duration_since(arrived) < self.wait {
            return None;
        }
        Some(self.give_up(next, first_held))
    }

    /// When the hole in front is given up; `None`: there is none.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.first_held().map(|(_, arrived)| arrived + self.wait)
    }

    /// Another stream: what is held is dropped.
    pub fn clear(&mut self) {
        self.places.iter_mut().for_each(|place| *place = None);
        self.ready.clear();
        (self.held, self.next) = (0, None);
    }

    pub fn set_wait(&mut self, wait: Duration) {
        self.wait = wait;
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.held
    }

    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn place(&self, number: u64) -> usize {
        (number % self.places.len() as u64) as usize
    }

    /// The item of this number, which is the next one.
    fn take(&mut self, number: u64) -> Option<Pulled<T>> {
        let at = self.place(number);
        let Place { timestamp, item, .. } = self.places[at].take_if(|place| place.number == number)?;
        self.held -= 1;
        self.next = Some(number + 1);
        Some(Pulled::Item { number, timestamp, item })
    }

    fn give_up(&mut self, first: u64, until: u64) -> Pulled<T> {
        let count = until - first;
        self.next = Some(until);
        self.counters.missing += count;
        Pulled::Missing { first, count }
    }

    /// The lowest number that is held, and the arrival of whichever came first: that one has waited longest.
    fn first_held(&self) -> Option<(u64, Instant)> {
        if self.held == 0 {
            return None;
        }
        let numbers = self.places.iter().flatten().map(|place| place.number);
        let arrivals = self.places.iter().flatten().map(|place| place.arrived);
        numbers.min().zip(arrivals.min())
    }

    /// Moves on until `number` has a place. What is held goes first, in its order.
    fn make_room(&mut self, number: u64) {
        let capacity = self.places.len() as u64;
        while let Some(next) = self.next.filter(|next| number - next >= capacity) {
            let pulled = match self.take(next) {
                Some(item) => item,
                None => {
                    let floor = number + 1 - capacity;
                    let until = self.first_held().map_or(floor, |(held, _)| held.min(floor));
                    self.counters.overflowed += until - next;
                    self.give_up(next, until)
                }
            };
            if self.ready.len() >= 2 * self.places.len() {
                self.ready.pop_front();
            }
            self.ready.push_back(pulled);
        }
    }
}
