//! One ring of the registry, as Python sees it: its consumer at the ring's [`Desk`], what it is for, and what is counted of it.
//!
//! No Python code runs and no object of Python's is dropped under the desk's lock, so whoever is attached may wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::super::frame::Frame;
use super::super::post::{Deed, Post};
use crate::client::Delivered;
use crate::ring::{self, Desk, Found, Left, RingId, RingReceiver, Source as _};

/// Who is called with a ring's items.
pub(in crate::python) enum Consumer {
    /// With each, as it comes.
    Each(Py<PyAny>),
    /// With a list of frames: all that are there.
    Batch(Py<PyAny>),
    /// With one answer, for whoever waits for it: the ring ends when it is there.
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

/// What a slot is for, for those who tell of it.
pub(in crate::python) struct Purpose {
    pub(super) label: String,
    pub(super) sort: Sort,
    /// What one frame is, for whoever is given more than its bytes.
    codec: &'static str,
    tally: Arc<Tally>,
}

/// What became of callbacks: of one slot, or of several that count together.
#[derive(Default)]
pub(in crate::python) struct Tally {
    errors: AtomicU64,
    slow: AtomicU64,
}

/// See the module's contract.
pub(in crate::python) struct Slot {
    pub(super) desk: Desk<Delivered, Consumer, Waiter>,
    pub(super) purpose: Purpose,
    /// The sequence number after the last frame that was taken; 0: none was.
    next_sequence: AtomicU64,
}

/// A future on an event loop, for which a taker waits.
pub(super) type Waiter = (Py<Post>, Py<PyAny>);

/// Where the next item goes.
pub(super) type Way = ring::Way<Called, Waiter>;

pub(super) enum Called {
    Each(Py<PyAny>),
    Batch(Py<PyAny>),
    Answer,
}

/// What a taker finds: an item, and how many frames are missing before it.
pub(in crate::python) type Taken = Found<(Delivered, u64)>;

impl Slot {
    /// Without a consumer for one that comes by itself ([`Taker`](super::super::taker::Taker)), later.
    pub(super) fn new(frames: RingReceiver<Delivered>, consumer: Option<Consumer>, purpose: Purpose) -> Self {
        Self { desk: Desk::new(frames, consumer), purpose, next_sequence: AtomicU64::new(0) }
    }

    pub(super) fn frames(&self) -> &RingReceiver<Delivered> {
        self.desk.items()
    }

    /// What comes from now on, and what is there, goes to `consumer`. A closed slot stays closed.
    pub(super) fn swap(&self, py: Python<'_>, consumer: Option<Consumer>) {
        self.wake(py, self.desk.swap(consumer));
    }

    /// A taker becomes the consumer; its number.
    pub(super) fn begin_taking(&self, py: Python<'_>) -> u64 {
        let (number, left) = self.desk.begin_taking();
        self.wake(py, left);
        number
    }

    /// Nobody takes anything after this. `true`: somebody did before.
    pub(super) fn close(&self, py: Python<'_>) -> bool {
        let left = self.desk.close();
        let open = left.open;
        self.wake(py, left);
        open
    }

    /// Its answer has come, or nobody waits for it any more.
    pub(super) fn take_answer(&self) -> Option<(Py<Post>, Deed)> {
        match self.desk.close_if(|consumer| matches!(consumer, Consumer::Answer(..))) {
            Some(Consumer::Answer(post, deed)) => Some((post, deed)),
            _ => None,
        }
    }

    /// For the delivery thread, before each item.
    pub(super) fn way(&self, py: Python<'_>) -> Way {
        self.desk.way(|consumer| match consumer {
            Consumer::Each(callback) => Called::Each(callback.clone_ref(py)),
            Consumer::Batch(callback) => Called::Batch(callback.clone_ref(py)),
            Consumer::Answer(..) => Called::Answer,
        })
    }

    /// What is there for this taker.
    pub(in crate::python) fn find(&self, number: u64) -> Taken {
        self.desk.find(number, |item| {
            let lost_before = match &item {
                Delivered::Frame { sequence, .. } => self.note_sequence(*sequence),
                _ => 0,
            };
            (item, lost_before)
        })
    }

    pub(in crate::python) fn is_over(&self, number: u64) -> bool {
        self.desk.is_over(number)
    }

    /// Until something may be there for this taker, or for so long. Called detached.
    pub(in crate::python) fn wait(&self, number: u64, limit: Duration) {
        self.desk.wait(number, limit);
    }

    /// `future` is done when something may be there for this taker. Called on its event loop.
    pub(in crate::python) fn wait_on(&self, number: u64, post: Py<Post>, future: Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        match self.desk.wait_on(number, (post, future.unbind())) {
            Some((_, future)) => future.call_method1(py, "set_result", (py.None(),)).map(drop),
            None => Ok(()),
        }
    }

    fn wake(&self, py: Python<'_>, left: Left<Consumer, Waiter>) {
        drop(left.consumer);
        for (post, future) in left.waiting {
            post.get().add(Deed::wake(future));
            Post::flush(&post, py);
        }
    }

    /// Frames that are missing before this one, for whoever took the one before. One thread at a time: that which works on the
    /// ring, or a taker at the desk.
    pub(super) fn note_sequence(&self, sequence: u64) -> u64 {
        let next = self.next_sequence.load(Relaxed);
        self.next_sequence.store(next.max(sequence.saturating_add(1)), Relaxed);
        if next == 0 { 0 } else { sequence.saturating_sub(next) }
    }

    /// What arrived, with all that is known of it.
    pub(in crate::python) fn frame(
        &self,
        py: Python<'_>,
        payload: &[u8],
        (timestamp_us, sequence, lost_before): (u64, u64, u64),
    ) -> PyResult<Py<Frame>> {
        let data = PyBytes::new(py, payload).unbind();
        Py::new(py, Frame { data, timestamp_us, codec: self.purpose.codec, sequence, lost_before })
    }

    /// Something is in its ring.
    pub(in crate::python) fn waits(&self) -> bool {
        !self.frames().is_empty()
    }

    pub(in crate::python) fn id(&self) -> RingId {
        self.frames().id()
    }

    pub(in crate::python) fn dropped(&self) -> u64 {
        self.frames().dropped()
    }

    pub(in crate::python) fn tally(&self) -> &Tally {
        &self.purpose.tally
    }
}

impl Purpose {
    /// Counted by itself.
    pub(in crate::python) fn new(label: String, sort: Sort) -> Self {
        Self { label, sort, codec: "", tally: Arc::default() }
    }

    pub(in crate::python) fn of_codec(self, codec: &'static str) -> Self {
        Self { codec, ..self }
    }

    pub(in crate::python) fn counted_with(self, other: &Slot) -> Self {
        Self { tally: other.purpose.tally.clone(), ..self }
    }
}

impl Tally {
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
