//! The delivery thread: what arrived becomes calls of Python callbacks.
//!
//! One thread attaches to the interpreter once for its life and lets go of it while it waits; each wake-up delivers all
//! that is ready, of every bridge. At most one thread is inside one bridge's callback at a time. When a callback blocks, a
//! spare thread (at most [`SPARES`]) takes over what else is there: the media worker notices it at the end of a turn, so no
//! frame pays for it, and the control thread while something waits that no media worker pushed. Records are handed to `logging` by one
//! thread at a time, so a handler that blocks holds up none but them. As many as there are threads are a stall ([`Stalls`]). An exception goes to `sys.unraisablehook` and is counted; delivery goes on.
//!
//! The registry ([`Delivery::register`]) holds every callback until its bridge is closed or its call is over: a collected
//! handle stays audible. Python's exit ends the threads within a second (`process`); a forked child has none and makes its own.
//!
//! What is awaited on an event loop comes this way too: a turn that found something for a loop tells it at its end, or before it
//! calls a callback, which may block; a loop that has been told and has not looked is not told again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use pyo3::prelude::*;

use super::errors::raise;
use super::logs;
use crate::client::{Delivered, Look, Runtime, Stalls};
use crate::error::Error;
use crate::moqt::ids::IdMap;
use crate::ring::{RingId, RingReceiver, Source, Wait};

mod process;
mod slot;
mod turn;

pub(super) use process::{after_fork, claim, clock, shutdown, watch_process};
pub(super) use slot::{Consumer, Purpose, Slot, Sort, Taken};
use turn::Turn;

/// Threads beside the first one, while callbacks block.
const SPARES: usize = 3;
/// A callback that has run this long is blocking: others must not wait more than a frame.
const BLOCK: Duration = Duration::from_millis(10);
/// A spare without work ends.
const SPARE_IDLE: Duration = Duration::from_secs(2);

/// Which levels loggers want is looked at this often while something is delivered.
const LEVELS_PAUSE: Duration = Duration::from_secs(1);

/// In the place of a ring: a handler of `logging`.
const HANDLER: u64 = u64::MAX;

static DELIVERY: ArcSwapOption<Delivery> = ArcSwapOption::const_empty();

/// Wakes the delivery thread, if there is one, for what is not in a ring. From any thread.
pub(super) fn nudge() {
    if let Some(delivery) = DELIVERY.load().as_ref() {
        delivery.runtime.nudge_delivery();
    }
}

/// The threads and the registry of one process.
pub(super) struct Delivery {
    runtime: Arc<Runtime>,
    slots: RwLock<IdMap<RingId, Arc<Slot>>>,
    seats: [Seat; SPARES + 1],
    born: Instant,
    stopping: AtomicBool,
    /// A thread hands records to `logging`.
    carrying: AtomicBool,
    stalls: Stalls,
    /// When the last slow callback was told of, and when it was looked which records are wanted, in microseconds since birth.
    told_us: AtomicU64,
    looked_us: AtomicU64,
    /// Signalled whenever a thread ends.
    ended: (Mutex<()>, Condvar),
}

/// One thread's place.
#[derive(Default)]
struct Seat {
    taken: AtomicBool,
    /// When the callback that runs now was entered, in microseconds since the delivery's birth; 0: none runs.
    entered_us: AtomicU64,
    /// Whose it is, or [`HANDLER`].
    ring: AtomicU64,
}

impl Delivery {
    /// The one of this process, started if it isn't.
    pub(super) fn of(py: Python<'_>, runtime: &Arc<Runtime>) -> PyResult<Arc<Self>> {
        watch_process(py)?;
        let delivery = loop {
            let found = DELIVERY.load_full();
            if let Some(delivery) = found.as_ref().filter(|delivery| Arc::ptr_eq(&delivery.runtime, runtime)) {
                break delivery.clone();
            }
            // No lock: one that another thread held at a fork would stay shut in the child. Who comes second uses what the first made.
            let fresh = Arc::new(Self::new(runtime));
            let before = DELIVERY.compare_and_swap(&found, Some(fresh.clone()));
            if before.as_ref().map(Arc::as_ptr) == found.as_ref().map(Arc::as_ptr) {
                break fresh;
            }
        };
        delivery.begin(py)?;
        Ok(delivery)
    }

    fn new(runtime: &Arc<Runtime>) -> Self {
        Self {
            runtime: runtime.clone(),
            slots: RwLock::default(),
            seats: Default::default(),
            born: Instant::now(),
            stopping: AtomicBool::new(false),
            carrying: AtomicBool::new(false),
            stalls: Stalls::default(),
            told_us: AtomicU64::new(0),
            looked_us: AtomicU64::new(0),
            ended: Default::default(),
        }
    }

    /// Sees to it that there is a thread.
    fn begin(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let running = || self.seats.iter().any(|seat| seat.taken.load(SeqCst));
        if running() {
            return Ok(());
        }
        self.runtime.set_look(Arc::downgrade(self));
        match self.start() || running() {
            true => Ok(()),
            false => {
                let why = "the delivery thread can't start: look at the limits of processes and memory";
                Err(raise(py, Error::config(why)))
            }
        }
    }

    /// From now on `consumer` (without one: a taker that is still to come) is given what comes through `frames`, which must be
    /// empty yet: a queue whose slot a thread has looked for in vain is never given out again. Attached or not: no Python code
    /// runs under the lock.
    pub(super) fn register(
        &self,
        frames: RingReceiver<Delivered>,
        consumer: Option<Consumer>,
        purpose: Purpose,
    ) -> Arc<Slot> {
        let slot = Arc::new(Slot::new(frames, consumer, purpose));
        self.slots.write().unwrap_or_else(PoisonError::into_inner).insert(slot.frames().id(), slot.clone());
        slot
    }

    /// No callback of it begins after this.
    pub(super) fn forget(&self, py: Python<'_>, slot: &Slot) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).remove(&slot.frames().id());
        slot.close(py);
    }

    /// What comes from now on, and what is there, goes to another consumer.
    pub(super) fn swap(&self, py: Python<'_>, slot: &Slot, consumer: Option<Consumer>) {
        slot.swap(py, consumer);
        self.nudge();
    }

    /// A taker becomes the slot's consumer; its number.
    pub(super) fn begin_taking(&self, py: Python<'_>, slot: &Slot) -> u64 {
        let number = slot.begin_taking(py);
        self.nudge();
        number
    }

    /// A ring may have been given back with something in it.
    pub(super) fn nudge(&self) {
        self.runtime.tell_delivery();
    }

    /// Starts one more thread; `false`: there are enough, or none can be had.
    fn start(self: &Arc<Self>) -> bool {
        let Some(seat) = self.seats.iter().position(|seat| !seat.taken.swap(true, SeqCst)) else { return false };
        let delivery = self.clone();
        let started = thread::Builder::new().name("clutchcall-delivery".into()).spawn(move || delivery.run(seat));
        if started.is_err() {
            self.seats[seat].taken.store(false, SeqCst);
        }
        started.is_ok()
    }

    fn run(&self, seat: usize) {
        Runtime::begin_turns();
        // Refused when the interpreter is ending.
        let _ = Python::try_attach(|py| {
            let limit = (seat > 0).then_some(SPARE_IDLE);
            loop {
                self.deliver(py, seat);
                // After the look, which takes the signal: who sets this signals then.
                if self.stopping.load(SeqCst) || py.detach(|| self.runtime.delivery().wait(limit)) == Wait::TimedOut {
                    break;
                }
            }
        });
        self.seats[seat].taken.store(false, SeqCst);
        let _guard = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.1.notify_all();
    }

    /// Everything that is ready.
    fn deliver(&self, py: Python<'_>, seat: usize) {
        let mut turn = Turn::new(self, &self.seats[seat]);
        while let Some(id) = self.runtime.delivery().take() {
            let slot = self.slots.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
            let Some(slot) = slot else { continue };
            turn.drain(py, &slot);
            if self.stopping.load(SeqCst) {
                break;
            }
        }
        let now = turn.end(py);
        self.runtime.flush();
        self.look_at_levels(py, now);
    }

    /// Programs change the levels of their loggers without telling anybody.
    fn look_at_levels(&self, py: Python<'_>, now: Instant) {
        let (now_us, looked_us) = (self.us(now), self.looked_us.load(Relaxed));
        if now_us - looked_us.min(now_us) > LEVELS_PAUSE.as_micros() as u64 {
            self.looked_us.store(now_us, Relaxed);
            if let Err(error) = logs::look(py) {
                error.write_unraisable(py, None);
            }
        }
    }

    /// Hands what was said to `logging`, unless another thread is at it: a handler may block as any callback, and holds a lock of its
    /// own meanwhile, on which every further thread would be stuck.
    fn carry(&self, py: Python<'_>, seat: &Seat) {
        if logs::is_empty() || self.carrying.swap(true, SeqCst) {
            return;
        }
        seat.ring.store(HANDLER, Relaxed);
        seat.entered_us.store(self.us(Instant::now()), Relaxed);
        logs::carry(py);
        seat.entered_us.store(0, Relaxed);
        self.stalls.end(self.us(Instant::now()));
        self.carrying.store(false, SeqCst);
        // Whoever came by meanwhile left it to this thread.
        if !logs::is_empty() {
            self.runtime.nudge_delivery();
        }
    }

    /// Records wait, and no thread is at them.
    fn is_said(&self) -> bool {
        !logs::is_empty() && !self.carrying.load(SeqCst)
    }

    /// Something waits: is everybody stuck? When to look again, if so.
    fn relieve(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        if self.stopping.load(Relaxed) {
            return None;
        }
        let now_us = self.us(now);
        let (mut is_free, mut soon_us, mut blocked, mut since_us) = (false, None, 0, 0);
        for seat in self.seats.iter().filter(|seat| seat.taken.load(Relaxed)) {
            let entered_us = seat.entered_us.load(Relaxed);
            match (entered_us + BLOCK.as_micros() as u64).saturating_sub(now_us) {
                // It waits, or it is between two callbacks: it has been signalled.
                _ if entered_us == 0 => is_free = true,
                0 => (blocked, since_us) = (blocked + 1, since_us.max(entered_us)),
                left_us => soon_us = Some(soon_us.map_or(left_us, |soon_us: u64| soon_us.min(left_us))),
            }
        }
        if blocked >= SPARES {
            self.stalls.crowded((since_us, now_us), || self.entered());
        }
        if is_free {
            self.stalls.end(now_us);
            return None;
        }
        if let Some(soon_us) = soon_us {
            return Some(now + Duration::from_micros(soon_us));
        }
        self.runtime.flush();
        if self.start() {
            return None;
        }
        self.stalls.lasts((since_us, now_us), || self.entered());
        // What a blocked callback published must not wait for its end.
        Some(now + BLOCK)
    }

    /// What runs now, for people.
    fn entered(&self) -> String {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let entered = self.seats.iter().filter(|seat| seat.entered_us.load(Relaxed) != 0);
        let label = |seat: &Seat| match seat.ring.load(Relaxed) {
            HANDLER => "a handler of logging".to_owned(),
            // A bridge that is closed in its own callback has no slot any more.
            ring => slots
                .get(&RingId(ring))
                .map_or_else(|| "one that is closed".to_owned(), |slot| slot.purpose.label.clone()),
        };
        entered.map(label).collect::<Vec<_>>().join(", ")
    }

    /// Stalls of the delivery so far, and for how long the one of now lasts.
    pub(super) fn stalls(&self) -> (u64, Duration) {
        let now_us = self.us(Instant::now());
        // Who returned at the moment in which the stall was seen has not seen it.
        let mut taken = self.seats.iter().filter(|seat| seat.taken.load(Relaxed));
        if taken.any(|seat| seat.entered_us.load(Relaxed) == 0) {
            self.stalls.end(now_us);
        }
        self.stalls.figures(now_us)
    }

    fn us(&self, now: Instant) -> u64 {
        // 0 means none, so nothing happens at 0.
        now.saturating_duration_since(self.born).as_micros() as u64 + 1
    }

    /// Ends the threads; `false`: a callback still runs.
    fn stop(&self, deadline: Instant) -> bool {
        self.stopping.store(true, SeqCst);
        let mut guard = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        while self.seats.iter().any(|seat| seat.taken.load(SeqCst)) {
            // One nudge wakes one of several who wait.
            self.runtime.delivery().neighbour().nudge();
            if Instant::now() >= deadline {
                return false;
            }
            let step = Duration::from_millis(10);
            guard = self.ended.1.wait_timeout(guard, step).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Takes every slot out; what it was for comes back.
    fn clear(&self, py: Python<'_>) -> Vec<String> {
        let slots = std::mem::take(&mut *self.slots.write().unwrap_or_else(PoisonError::into_inner));
        let mut forgotten = Vec::new();
        for slot in slots.into_values() {
            if slot.close(py) && slot.purpose.sort == Sort::Bridge {
                forgotten.push(slot.purpose.label.clone());
            }
        }
        forgotten.sort();
        forgotten
    }
}

impl Look for Weak<Delivery> {
    fn look(&self, now: Instant) -> Option<Instant> {
        let delivery = self.upgrade()?;
        if delivery.runtime.delivery().is_ready() { delivery.relieve(now) } else { None }
    }

    fn watch(&self, now: Instant) -> bool {
        let Some(delivery) = self.upgrade().filter(|delivery| !delivery.stopping.load(Relaxed)) else { return false };
        let waits = delivery.runtime.delivery().is_ready() || delivery.is_said();
        if waits {
            delivery.relieve(now);
        }
        waits
    }
}
