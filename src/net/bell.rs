//! How another thread ends a worker's sleep: at most one system call per sleep, none while the worker is awake.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};

use crossbeam_queue::SegQueue;

use super::LinkId;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
/// Rung since the worker last looked.
const RUNG: u8 = 2;

/// Ends a worker's sleep from any thread; cheap when it is awake.
#[derive(Clone, Debug)]
pub struct Waker(pub(super) Arc<Bell>);

impl Waker {
    /// [`App::handle_wake`](super::App::handle_wake) is called in the worker's next turn; many calls may end in one.
    pub fn wake(&self) {
        self.0.app.store(true, SeqCst);
        self.0.ring();
    }
}

#[derive(Debug)]
pub(super) struct Bell {
    state: AtomicU8,
    app: AtomicBool,
    /// Ports with something to take, each at most once (its lane remembers).
    ports: SegQueue<LinkId>,
    poll: mio::Waker,
}

impl Bell {
    pub(super) fn new(poll: mio::Waker) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(AWAKE), app: AtomicBool::new(false), ports: SegQueue::new(), poll })
    }

    pub(super) fn ring(&self) {
        if self.state.swap(RUNG, SeqCst) == ASLEEP
            && let Err(error) = self.poll.wake()
        {
            tracing::error!(%error, "can't wake a worker");
        }
    }

    pub(super) fn ring_for(&self, port: LinkId) {
        self.ports.push(port);
        self.ring();
    }

    /// Before the worker's wait. `false`: somebody rang meanwhile, don't sleep.
    pub(super) fn may_sleep(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, SeqCst, SeqCst).is_ok()
    }

    /// After the wait. `true`: somebody rang.
    pub(super) fn awake(&self) -> bool {
        self.state.swap(AWAKE, SeqCst) == RUNG
    }

    /// Whether [`Bell::take_app`] would say so.
    pub(super) fn is_wanted(&self) -> bool {
        self.app.load(SeqCst)
    }

    /// Whether [`Waker::wake`] was called since the last look.
    pub(super) fn take_app(&self) -> bool {
        self.app.load(SeqCst) && self.app.swap(false, SeqCst)
    }

    pub(super) fn take_port(&self) -> Option<LinkId> {
        self.ports.pop()
    }
}

/// A poll's waker is an event descriptor: nothing to fail but the descriptor limit.
pub(super) fn bell(poll: &mio::Poll, token: mio::Token) -> io::Result<Arc<Bell>> {
    Ok(Bell::new(mio::Waker::new(poll.registry(), token)?))
}
