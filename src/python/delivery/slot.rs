//! One ring and whoever takes what comes through it.
//!
//! A [`Consumer`] is called, item by item or with all that is there, or it comes by itself ([`Taker`](super::super::taker)). It may be
//! swapped at any moment, for one of the other sort too: every item goes to exactly one of them, in order. While a taker is the
//! consumer, the delivery thread leaves the ring unsettled (`held`): nobody is told of it again until the taker has looked.
//!
//! The lock is held for moments only and never while Python code runs, so whoever is attached may wait for it.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::super::frame::Frame;
use super::super::post::{Deed, Post};
use crate::client::Delivered;
use crate::ring::{RingReceiver, Source};

/// Who takes a ring's items.
pub(in crate::python) enum Consumer {
    /// Called with each, as it comes.
    Each(Py<PyAny>),
    /// Called with a list of frames: all that are there.
    Batch(Py<PyAny>),
    /// Comes for them. The number tells it from those before.
    Taker(u64),
    /// One answer, and who waits for it: the ring ends when it is there.
    Answer(Py<Post>, Deed),
}

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::python) enum Sort {
    /// Whoever leaves it open at exit has forgotten it.
    Bridge,
    /// Changes of state: the callback is told of the last one too.
    States,
    /// A subscription of frames, or whatever else just ends.
    Frames,
}

/// See the module's contract.
pub(in crate::python) struct Slot {
    pub(super) frames: RingReceiver<Delivered>,
    pub(super) label: String,
    pub(super) sort: Sort,
    /// What one frame is, for whoever is given more than its bytes.
    codec: &'static str,
    place: Mutex<Place>,
    /// Something may be there for a taker, or he is none any more.
    news: Condvar,
    /// The sequence number after the last frame that was taken; 0: none was.
    next_sequence: AtomicU64,
    errors: AtomicU64,
    slow: AtomicU64,
}

struct Place {
    /// `None`: closed. Stays so.
    consumer: Option<Consumer>,
    /// Taken from the ready list and not settled, on behalf of a taker.
    held: bool,
    /// Event loops on which a taker waits.
    waiting: Vec<(Py<Post>, Py<PyAny>)>,
    takers: u64,
}

/// Where the next item goes.
pub(super) enum Way {
    Each(Py<PyAny>),
    Batch(Py<PyAny>),
    /// To a taker: these are waiting for it.
    Taker(Vec<(Py<Post>, Py<PyAny>)>),
    Answer,
    Nowhere,
}

/// What a taker finds.
pub(in crate::python) enum Found {
    Item(Delivered),
    Nothing,
    /// There is another consumer now, or none.
    Over,
}

impl Slot {
    pub(super) fn new(
        frames: RingReceiver<Delivered>,
        consumer: Consumer,
        label: String,
        (sort, codec): (Sort, &'static str),
    ) -> Self {
        let place = Place { consumer: Some(consumer), held: false, waiting: Vec::new(), takers: 0 };
        Self {
            frames,
            label,
            sort,
            codec,
            place: Mutex::new(place),
            news: Condvar::new(),
            next_sequence: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            slow: AtomicU64::new(0),
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes from now on, and what is there, goes to `consumer`. A closed slot stays closed.
    pub(super) fn swap(&self, py: Python<'_>, consumer: Consumer) {
        let mut place = self.place();
        let (before, waiting) = match place.consumer.is_some() {
            true => (place.consumer.replace(consumer), mem::take(&mut place.waiting)),
            false => (Some(consumer), Vec::new()),
        };
        self.let_go(&mut place);
        drop(place);
        drop(before);
        self.wake(py, waiting);
    }

    /// A taker becomes the consumer; its number.
    pub(super) fn begin_taking(&self, py: Python<'_>) -> u64 {
        let number = {
            let mut place = self.place();
            place.takers += 1;
            place.takers
        };
        self.swap(py, Consumer::Taker(number));
        number
    }

    /// Nobody takes anything after this. `true`: somebody did before.
    pub(super) fn close(&self, py: Python<'_>) -> bool {
        let mut place = self.place();
        let (before, waiting) = (place.consumer.take(), mem::take(&mut place.waiting));
        drop(place);
        self.wake(py, waiting);
        before.is_some()
    }

    /// Its answer has come, or nobody waits for it any more.
    pub(super) fn take_answer(&self) -> Option<(Py<Post>, Deed)> {
        let mut place = self.place();
        match place.consumer.take() {
            Some(Consumer::Answer(post, deed)) => Some((post, deed)),
            other => {
                place.consumer = other;
                None
            }
        }
    }

    /// For the delivery thread, before each item: the consumer may be swapped or closed by the one before.
    pub(super) fn way(&self, py: Python<'_>) -> Way {
        let mut place = self.place();
        match &place.consumer {
            Some(Consumer::Each(callback)) => Way::Each(callback.clone_ref(py)),
            Some(Consumer::Batch(callback)) => Way::Batch(callback.clone_ref(py)),
            Some(Consumer::Answer(..)) => Way::Answer,
            Some(Consumer::Taker(_)) => {
                place.held = true;
                let waiting = mem::take(&mut place.waiting);
                drop(place);
                self.news.notify_all();
                Way::Taker(waiting)
            }
            None => Way::Nowhere,
        }
    }

    /// What is there for this taker.
    pub(in crate::python) fn find(&self, number: u64) -> Found {
        if !self.place().serves(number) {
            return Found::Over;
        }
        self.frames.pop().map_or(Found::Nothing, Found::Item)
    }

    pub(in crate::python) fn is_over(&self, number: u64) -> bool {
        !self.place().serves(number)
    }

    /// Until something may be there for this taker, or for so long. Called detached.
    pub(in crate::python) fn wait(&self, number: u64, limit: Duration) {
        let mut place = self.place();
        self.let_go(&mut place);
        if place.serves(number) && self.frames.is_empty() {
            drop(self.news.wait_timeout(place, limit).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// `future` is done when something may be there for this taker. Called on its event loop.
    pub(in crate::python) fn wait_on(&self, number: u64, post: Py<Post>, future: Bound<'_, PyAny>) -> PyResult<()> {
        let mut place = self.place();
        self.let_go(&mut place);
        if place.serves(number) && self.frames.is_empty() {
            place.waiting.push((post, future.unbind()));
            return Ok(());
        }
        drop(place);
        future.call_method1("set_result", (future.py().None(),)).map(drop)
    }

    /// Gives the ring back, so that it is told of again.
    fn let_go(&self, place: &mut Place) {
        if mem::take(&mut place.held) {
            self.frames.settle();
        }
    }

    fn wake(&self, py: Python<'_>, waiting: Vec<(Py<Post>, Py<PyAny>)>) {
        self.news.notify_all();
        for (post, future) in waiting {
            post.get().add(Deed::wake(future));
            Post::flush(&post, py);
        }
    }

    /// Frames that are missing before this one, for whoever took the one before.
    pub(super) fn note_sequence(&self, sequence: u64) -> u64 {
        // One thread at a time works on a ring; several takers share what they find out.
        let next = self.next_sequence.load(Relaxed);
        self.next_sequence.store(next.max(sequence.saturating_add(1)), Relaxed);
        if next == 0 { 0 } else { sequence.saturating_sub(next) }
    }

    /// What arrived, with all that is known of it.
    pub(in crate::python) fn frame(
        &self,
        py: Python<'_>,
        payload: &[u8],
        (timestamp_us, sequence): (u64, u64),
    ) -> PyResult<Py<Frame>> {
        let lost_before = self.note_sequence(sequence);
        let data = PyBytes::new(py, payload).unbind();
        Py::new(py, Frame { data, timestamp_us, codec: self.codec, sequence, lost_before })
    }

    /// Something is in its ring.
    pub(in crate::python) fn waits(&self) -> bool {
        !self.frames.is_empty()
    }

    pub(in crate::python) fn dropped(&self) -> u64 {
        self.frames.dropped()
    }

    pub(in crate::python) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    pub(in crate::python) fn slow(&self) -> u64 {
        self.slow.load(Relaxed)
    }

    pub(super) fn note_error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    pub(super) fn note_slow(&self) {
        self.slow.fetch_add(1, Relaxed);
    }
}

impl Place {
    fn serves(&self, number: u64) -> bool {
        matches!(&self.consumer, Some(Consumer::Taker(current)) if *current == number)
    }
}
