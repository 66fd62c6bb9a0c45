//! The ready list and the signal of one consumer.

use std::fmt;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::RingId;
use super::queue::{self, HandoffReceiver, HandoffSender, RingReceiver, RingSender};
use super::sync::{AtomicBool, AtomicU64, Condvar, Mutex, SegQueue};

/// What a consumer waits on. Clones are the same inbox.
#[derive(Clone)]
pub struct Inbox(Arc<Shared>);

/// The producers' view of an inbox: where a thread says at the end of its turn that it has pushed.
#[derive(Clone)]
pub struct Neighbour(Arc<Shared>);

/// Why [`Inbox::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Ready,
    TimedOut,
}

pub(super) struct Shared {
    /// Bounded by the number of queues: each stands here at most once.
    ready: SegQueue<RingId>,
    /// A signal was given and the consumer has not looked since.
    signalled: AtomicBool,
    signals: AtomicU64,
    next: AtomicU64,
    wake: Wake,
}

enum Wake {
    /// The consumer waits in [`Inbox::wait`].
    Park { lock: Mutex<()>, condvar: Condvar },
    /// The consumer waits somewhere else (a worker's poll) and knows how it is called.
    Call(Box<dyn Fn() + Send + Sync>),
}

impl Inbox {
    /// For a thread that waits in [`Inbox::wait`] and nowhere else.
    pub fn parking() -> Self {
        Self::new(Wake::Park { lock: Mutex::new(()), condvar: Condvar::new() })
    }

    /// For a thread with a wait of its own, which `wake` ends; it calls [`Inbox::take`] when it wakes.
    pub fn calling(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self::new(Wake::Call(Box::new(wake)))
    }

    fn new(wake: Wake) -> Self {
        Self(Arc::new(Shared {
            ready: SegQueue::new(),
            signalled: AtomicBool::new(false),
            signals: AtomicU64::new(0),
            next: AtomicU64::new(0),
            wake,
        }))
    }

    /// A queue of at most `capacity` items (at least 1) that drops its oldest.
    pub fn ring<T>(&self, capacity: usize) -> (RingSender<T>, RingReceiver<T>) {
        queue::ring(&self.0, self.next_id(), capacity.max(1))
    }

    /// A queue of at most `limit_us` microseconds of items that refuses what is too much.
    pub fn handoff<T>(&self, limit_us: u64) -> (HandoffSender<T>, HandoffReceiver<T>) {
        queue::handoff(&self.0, self.next_id(), limit_us)
    }

    pub fn neighbour(&self) -> Neighbour {
        Neighbour(self.0.clone())
    }

    /// The next queue with something in it. Whoever takes it drains it and says [`settle`](super::Source::settle).
    pub fn take(&self) -> Option<RingId> {
        // Before looking, not after: a push that comes after the look must find the signal unset. Swapped, not stored: so whatever was
        // done before the signal that this takes away is seen from here on.
        if self.0.signalled.load(SeqCst) {
            self.0.signalled.swap(false, SeqCst);
        }
        self.0.ready.pop()
    }

    pub fn is_ready(&self) -> bool {
        !self.0.ready.is_empty()
    }

    /// Waits for a queue to become ready, for [`Neighbour::nudge`], or for the time to pass. May return early.
    /// On a calling inbox it returns at once: that consumer waits elsewhere.
    pub fn wait(&self, limit: Option<Duration>) -> Wait {
        let Wake::Park { lock, condvar } = &self.0.wake else { return Wait::Ready };
        let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.0.signalled.swap(false, SeqCst) && self.0.ready.is_empty() {
            match limit {
                None => guard = condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(limit) => {
                    let (_guard, waited) = condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner);
                    return if waited.timed_out() { Wait::TimedOut } else { Wait::Ready };
                }
            }
        }
        Wait::Ready
    }

    /// How often the consumer was signalled.
    pub fn signals(&self) -> u64 {
        self.0.signals.load(SeqCst)
    }

    fn next_id(&self) -> RingId {
        RingId(self.0.next.fetch_add(1, SeqCst))
    }
}

impl Neighbour {
    /// Once at the end of a turn: signals the consumer if something is ready that it has not been told of.
    pub fn flush(&self) {
        if !self.0.ready.is_empty() {
            self.nudge();
        }
    }

    /// Ends the consumer's wait whether or not something is ready.
    pub fn nudge(&self) {
        self.0.signal();
    }
}

impl Shared {
    pub(super) fn ready(&self, id: RingId) {
        self.ready.push(id);
    }

    fn signal(&self) {
        if self.signalled.swap(true, SeqCst) {
            return;
        }
        self.signals.fetch_add(1, SeqCst);
        match &self.wake {
            Wake::Call(wake) => wake(),
            Wake::Park { lock, condvar } => {
                // Through the lock, so that the signal can't fall between the consumer's look and its sleep.
                drop(lock.lock().unwrap_or_else(PoisonError::into_inner));
                condvar.notify_one();
            }
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("ready", &self.0.ready.len()).field("signals", &self.signals()).finish()
    }
}

impl fmt::Debug for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Inbox(self.0.clone()).fmt(f)
    }
}
