//! One wake-up of one delivering thread: every ready ring is drained into its consumer.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::super::errors::raise;
use super::super::frame::Dtmf;
use super::super::post::{Deed, Post};
use super::super::row::Row;
use super::slot::{Called, Slot, Sort, Way};
use super::{Delivery, Seat};
use crate::client::{Delivered, Link};
use crate::ring::Source;

/// A callback that took longer is told of, at most this often, whoever it was.
const SLOW: Duration = Duration::from_millis(20);
const SLOW_PAUSE: Duration = Duration::from_secs(10);
/// What a callback publishes reaches the media worker after this time at the latest, and at the end of the turn.
const FLUSH: Duration = Duration::from_millis(1);

/// See the module's contract.
pub(super) struct Turn<'a> {
    delivery: &'a Delivery,
    seat: &'a Seat,
    now: Instant,
    flushed: Instant,
    /// Event loops for which something became ready in this turn.
    posts: Vec<Py<Post>>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(delivery: &'a Delivery, seat: &'a Seat) -> Self {
        let now = Instant::now();
        Self { delivery, seat, now, flushed: now, posts: Vec::new() }
    }

    /// Takes what is in the slot's ring to whoever is its consumer, and gives the ring back, unless a taker comes for it.
    pub(super) fn drain(&mut self, py: Python<'_>, slot: &Slot) {
        loop {
            if slot.frames().is_empty() {
                break;
            }
            match slot.way(py) {
                Way::Called(Called::Each(callback)) => self.one(py, slot, callback.bind(py)),
                Way::Called(Called::Batch(callback)) => self.batch(py, slot, callback.bind(py)),
                Way::Taker(waiting) => {
                    for (post, future) in waiting {
                        self.add(post, Deed::wake(future));
                    }
                    return;
                }
                Way::Called(Called::Answer) => {
                    drop(slot.frames().pop());
                    let answer = slot.take_answer();
                    self.delivery.forget(py, slot);
                    if let Some((post, deed)) = answer {
                        self.add(post, deed);
                    }
                    break;
                }
                Way::Nowhere => break,
            }
        }
        slot.frames().settle();
    }

    /// Tells every loop of what became ready, once, and `logging` of what was said. When it was over, or nearly.
    pub(super) fn end(mut self, py: Python<'_>) -> Instant {
        self.tell(py);
        self.delivery.carry(py, self.seat);
        self.now
    }

    fn tell(&mut self, py: Python<'_>) {
        for post in self.posts.drain(..) {
            Post::flush(&post, py);
        }
    }

    fn add(&mut self, post: Py<Post>, deed: Deed) {
        post.get().add(deed);
        if !self.posts.iter().any(|known| known.is(&post)) {
            self.posts.push(post);
        }
    }

    fn one(&mut self, py: Python<'_>, slot: &Slot, callback: &Bound<'_, PyAny>) {
        let Some(item) = slot.frames().pop() else { return };
        self.enter(py, slot);
        let called = match item {
            Delivered::Frame { timestamp_us, payload, sequence } => {
                slot.note_sequence(sequence);
                callback.call1((PyBytes::new(py, &payload), timestamp_us)).map(drop)
            }
            Delivered::State(link) => callback.call1((link.as_str(),)).map(drop),
            Delivered::Dtmf(key) => callback.call1((Dtmf::from(key),)).map(drop),
            Delivered::Row(Ok(row)) => callback.call1((Row::from(*row),)).map(drop),
            Delivered::Row(Err(error)) => Err(raise(py, *error)),
            Delivered::Token(asked) => {
                let told = callback.call0().and_then(|token| token.extract::<String>());
                asked.answer(told.as_ref().map(String::clone).map_err(|error| format!("no token: {error}")));
                told.map(drop)
            }
            Delivered::Closed => {
                let last_word = (slot.purpose.sort == Sort::States).then(|| callback.call1((Link::Closed.as_str(),)));
                self.delivery.forget(py, slot);
                last_word.transpose().map(drop)
            }
        };
        self.leave(py, slot, callback, called);
    }

    /// All frames that are there, in one list.
    fn batch(&mut self, py: Python<'_>, slot: &Slot, callback: &Bound<'_, PyAny>) {
        let (mut frames, mut over, mut failed) = (Vec::new(), false, Ok(()));
        // No more than were there at first: more may come as fast as they are taken.
        for _ in 0..slot.frames().len() {
            match slot.frames().pop() {
                Some(Delivered::Frame { timestamp_us, payload, sequence }) => {
                    let lost_before = slot.note_sequence(sequence);
                    match slot.frame(py, &payload, (timestamp_us, sequence, lost_before)) {
                        Ok(frame) => frames.push(frame),
                        Err(error) => failed = Err(error),
                    }
                }
                Some(Delivered::Closed) => over = true,
                // Nothing else comes through a ring of frames.
                Some(_) => {}
                None => break,
            }
        }
        if !frames.is_empty() {
            self.enter(py, slot);
            let called = PyList::new(py, frames).and_then(|frames| callback.call1((frames,))).map(drop);
            self.leave(py, slot, callback, failed.and(called));
        }
        if over {
            self.delivery.forget(py, slot);
        }
    }

    /// Loops are told first: the callback may block.
    fn enter(&mut self, py: Python<'_>, slot: &Slot) {
        if !self.posts.is_empty() {
            self.tell(py);
        }
        self.seat.ring.store(slot.frames().id().0, Relaxed);
        self.seat.entered_us.store(self.delivery.us(self.now), Relaxed);
    }

    /// A callback has returned. Looks at the clock once per callback.
    fn leave(&mut self, py: Python<'_>, slot: &Slot, callback: &Bound<'_, PyAny>, called: PyResult<()>) {
        self.seat.entered_us.store(0, Relaxed);
        if let Err(error) = called {
            slot.tally().note_error();
            error.write_unraisable(py, Some(callback));
        }
        let began = std::mem::replace(&mut self.now, Instant::now());
        if self.delivery.stalls.is_on() {
            self.delivery.stalls.end(self.delivery.us(self.now));
        }
        if self.now - began > SLOW {
            slot.tally().note_slow();
            let now_us = self.delivery.us(self.now);
            let told_us = self.delivery.told_us.load(Relaxed);
            if told_us == 0 || now_us - told_us > SLOW_PAUSE.as_micros() as u64 {
                self.delivery.told_us.store(now_us, Relaxed);
                tracing::warn!(
                    "a callback took {} ms ({}): frames wait while it runs, and more than 10 of them are dropped; hand long work to a thread of yours",
                    (self.now - began).as_millis(),
                    slot.purpose.label
                );
            }
        }
        if self.now - self.flushed > FLUSH {
            self.flushed = self.now;
            self.delivery.runtime.flush();
        }
    }
}
