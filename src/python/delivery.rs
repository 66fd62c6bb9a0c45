//! The delivery thread: what arrived becomes calls of Python callbacks.
//!
//! One thread attaches to the interpreter once for its life and lets go of it while it waits; each wake-up delivers all
//! that is ready, of every bridge. At most one thread is inside one bridge's callback at a time. When a callback blocks, a
//! spare thread (at most [`SPARES`]) takes over the other bridges: the media worker notices it at the end of a turn, so no
//! frame pays for it. An exception goes to `sys.unraisablehook` and is counted; delivery goes on.
//!
//! The registry ([`Delivery::register`]) holds every callback until its bridge is closed or its call is over: a collected
//! handle stays audible. Python's exit ends the threads within [`EXIT_LIMIT`]; a forked child has none and makes its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use pyo3::exceptions::{PyResourceWarning, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::client::{Clock, Delivered, Link, Runtime, process, runtime};
use crate::moqt::ids::IdMap;
use crate::ring::{RingId, RingReceiver, Source, Wait};

/// Threads beside the first one, while callbacks block.
const SPARES: usize = 3;
/// A callback that has run this long is blocking: others must not wait more than a frame.
const BLOCK: Duration = Duration::from_millis(10);
/// A callback that took longer is told of, at most this often, whoever it was.
const SLOW: Duration = Duration::from_millis(20);
const SLOW_PAUSE: Duration = Duration::from_secs(10);
/// A spare without work ends.
const SPARE_IDLE: Duration = Duration::from_secs(2);
/// What a callback publishes reaches the media worker after this time at the latest, and at the end of the turn.
const FLUSH: Duration = Duration::from_millis(1);
/// Exit waits no longer for callbacks.
const EXIT_LIMIT: Duration = Duration::from_secs(1);

static DELIVERY: ArcSwapOption<Delivery> = ArcSwapOption::const_empty();
static WATCHED: PyOnceLock<()> = PyOnceLock::new();

/// The threads and the registry of one process.
pub(super) struct Delivery {
    runtime: Arc<Runtime>,
    slots: RwLock<IdMap<RingId, Arc<Slot>>>,
    seats: [Seat; SPARES + 1],
    born: Instant,
    stopping: AtomicBool,
    /// When the last slow callback was told of, in microseconds since birth.
    told_us: AtomicU64,
    /// Signalled whenever a thread ends.
    ended: (Mutex<()>, Condvar),
}

/// One thread's place.
#[derive(Default)]
struct Seat {
    taken: AtomicBool,
    /// When the callback that runs now was entered, in microseconds since the delivery's birth; 0: none runs.
    entered_us: AtomicU64,
}

/// What a ring's items are called on.
pub(super) struct Slot {
    frames: RingReceiver<Delivered>,
    callback: Mutex<Option<Py<PyAny>>>,
    label: String,
    sort: Sort,
    errors: AtomicU64,
    slow: AtomicU64,
}

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Whoever leaves it open at exit has forgotten it.
    Bridge,
    /// Changes of state: the callback is told of the last one too.
    States,
    /// A subscription of frames, which just ends.
    Frames,
}

impl Delivery {
    /// The one of this process, started if it isn't.
    pub(super) fn of(py: Python<'_>, runtime: &Arc<Runtime>) -> PyResult<Arc<Self>> {
        watch_process(py)?;
        let found = DELIVERY.load_full();
        if let Some(delivery) = found.filter(|delivery| Arc::ptr_eq(&delivery.runtime, runtime)) {
            return Ok(delivery);
        }
        // Attached, so nobody else is here at the same time.
        let delivery = Arc::new(Self {
            runtime: runtime.clone(),
            slots: RwLock::default(),
            seats: Default::default(),
            born: Instant::now(),
            stopping: AtomicBool::new(false),
            told_us: AtomicU64::new(0),
            ended: Default::default(),
        });
        if !delivery.start() {
            return Err(PyRuntimeError::new_err(
                "the delivery thread can't start: look at the limits of processes and memory",
            ));
        }
        let watching = Arc::downgrade(&delivery);
        runtime.set_turn_hook(move |now| watching.upgrade()?.look(now));
        DELIVERY.store(Some(delivery.clone()));
        Ok(delivery)
    }

    /// From now on `callback` is called with what comes through `frames`, which must be empty yet: a queue whose slot a
    /// thread has looked for in vain is never given out again. Attached or not: no Python code runs under the lock.
    pub(super) fn register(
        &self,
        frames: RingReceiver<Delivered>,
        callback: Py<PyAny>,
        label: String,
        sort: Sort,
    ) -> Arc<Slot> {
        let (errors, slow) = Default::default();
        let slot = Arc::new(Slot { frames, callback: Mutex::new(Some(callback)), label, sort, errors, slow });
        self.slots.write().unwrap_or_else(PoisonError::into_inner).insert(slot.frames.id(), slot.clone());
        slot
    }

    /// No callback of it begins after this.
    pub(super) fn forget(&self, py: Python<'_>, slot: &Slot) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).remove(&slot.frames.id());
        drop(slot.take(py));
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
            while !self.stopping.load(SeqCst) {
                self.deliver(py, seat);
                if py.detach(|| self.runtime.delivery().wait(limit)) == Wait::TimedOut {
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
        let mut turn = Turn { delivery: self, seat: &self.seats[seat], now: Instant::now(), flushed: Instant::now() };
        while let Some(id) = self.runtime.delivery().take() {
            let slot = self.slots.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
            let Some(slot) = slot else { continue };
            turn.drain(py, &slot);
            slot.frames.settle();
            if self.stopping.load(SeqCst) {
                break;
            }
        }
        self.runtime.flush();
    }

    /// At the end of the media worker's turn: is everybody stuck while something is ready?
    fn look(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        if !self.runtime.delivery().is_ready() || self.stopping.load(Relaxed) {
            return None;
        }
        let now_us = self.us(now);
        let mut next = None;
        for seat in self.seats.iter().filter(|seat| seat.taken.load(Relaxed)) {
            let entered_us = seat.entered_us.load(Relaxed);
            if entered_us == 0 {
                // It waits, or it is between two callbacks: it has been signalled.
                return None;
            }
            let left_us = (entered_us + BLOCK.as_micros() as u64).saturating_sub(now_us);
            if left_us > 0 {
                return Some(now + Duration::from_micros(left_us));
            }
            // What the blocked callback published must not wait for its end.
            next = Some(now + BLOCK);
        }
        self.runtime.flush();
        if self.start() { None } else { next }
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
            if slot.sort == Sort::Bridge && slot.take(py).is_some() {
                forgotten.push(slot.label.clone());
            }
        }
        forgotten.sort();
        forgotten
    }
}

/// One wake-up of one thread.
struct Turn<'a> {
    delivery: &'a Delivery,
    seat: &'a Seat,
    now: Instant,
    flushed: Instant,
}

impl Turn<'_> {
    fn drain(&mut self, py: Python<'_>, slot: &Slot) {
        while let Some(item) = slot.frames.pop() {
            // Asked for every item: the consumer may be swapped or closed by the one before.
            let Some(callback) = slot.clone_callback(py) else { return };
            let callback = callback.bind(py);
            self.seat.entered_us.store(self.delivery.us(self.now), Relaxed);
            let called = match item {
                Delivered::Frame { timestamp_us, payload } => {
                    callback.call1((PyBytes::new(py, &payload), timestamp_us)).map(drop)
                }
                Delivered::State(link) => callback.call1((link.as_str(),)).map(drop),
                Delivered::Token(asked) => {
                    let told = callback.call0().and_then(|token| token.extract::<String>());
                    asked.answer(told.as_ref().map(String::clone).map_err(|error| format!("no token: {error}")));
                    told.map(drop)
                }
                Delivered::Closed => {
                    let last_word = (slot.sort == Sort::States).then(|| callback.call1((Link::Closed.as_str(),)));
                    self.delivery.forget(py, slot);
                    last_word.transpose().map(drop)
                }
            };
            self.seat.entered_us.store(0, Relaxed);
            if let Err(error) = called {
                slot.errors.fetch_add(1, Relaxed);
                error.write_unraisable(py, Some(callback));
            }
            self.after(py, slot);
        }
    }

    /// Looks at the clock once per callback.
    fn after(&mut self, py: Python<'_>, slot: &Slot) {
        let began = std::mem::replace(&mut self.now, Instant::now());
        if self.now - began > SLOW {
            slot.slow.fetch_add(1, Relaxed);
            let now_us = self.delivery.us(self.now);
            let told_us = self.delivery.told_us.load(Relaxed);
            if told_us == 0 || now_us - told_us > SLOW_PAUSE.as_micros() as u64 {
                self.delivery.told_us.store(now_us, Relaxed);
                warn_slow(py, slot, self.now - began);
            }
        }
        if self.now - self.flushed > FLUSH {
            self.flushed = self.now;
            self.delivery.runtime.flush();
        }
    }
}

impl Slot {
    pub(super) fn swap(&self, _attached: Python<'_>, callback: Py<PyAny>) {
        let mut place = self.callback.lock().unwrap_or_else(PoisonError::into_inner);
        // A closed slot stays closed.
        let before = if place.is_some() { place.replace(callback) } else { Some(callback) };
        drop(place);
        drop(before);
    }

    /// Something is in its ring.
    pub(super) fn waits(&self) -> bool {
        !self.frames.is_empty()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.frames.dropped()
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    pub(super) fn slow(&self) -> u64 {
        self.slow.load(Relaxed)
    }

    // The lock is held by attached threads only and never while Python code runs, so nobody waits for it detached.
    fn clone_callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let place = self.callback.lock().unwrap_or_else(PoisonError::into_inner);
        place.as_ref().map(|callback| callback.clone_ref(py))
    }

    fn take(&self, _attached: Python<'_>) -> Option<Py<PyAny>> {
        self.callback.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn warn_slow(py: Python<'_>, slot: &Slot, took: Duration) {
    let message = format!(
        "a callback took {} ms ({}): frames wait while it runs, and more than 10 of them are dropped; hand long work to a thread of yours",
        took.as_millis(),
        slot.label
    );
    let told = || -> PyResult<()> {
        let logger = py.import("logging")?.call_method1("getLogger", ("clutchcall",))?;
        logger.call_method1("warning", (message,)).map(drop)
    };
    if let Err(error) = told() {
        error.write_unraisable(py, None);
    }
}

/// Python's own monotonic clock, read now: stamps of `time.monotonic_ns() // 1000` are on it.
pub(super) fn clock(py: Python<'_>) -> PyResult<Clock> {
    let ns: u64 = py.import("time")?.call_method0("monotonic_ns")?.extract()?;
    Ok(Clock { at: Instant::now(), us: ns / 1000 })
}

/// Once per process: be told of exit and of forks.
pub(super) fn watch_process(py: Python<'_>) -> PyResult<()> {
    WATCHED.get_or_try_init(py, || {
        let core = py.import("clutchcall._core")?;
        py.import("atexit")?.call_method1("register", (core.getattr("_shutdown")?,))?;
        let hooks = [("after_in_child", core.getattr("_after_fork")?)];
        let keywords = pyo3::types::IntoPyDict::into_py_dict(hooks, py)?;
        py.import("os")?.getattr("register_at_fork")?.call((), Some(&keywords)).map(drop)
    })?;
    Ok(())
}

/// Ends all threads of the SDK within a second. Registered with `atexit`.
#[pyfunction]
#[pyo3(name = "_shutdown")]
pub(super) fn shutdown(py: Python<'_>) -> PyResult<()> {
    let delivery = DELIVERY.swap(None);
    let forgotten = delivery.as_ref().map_or_else(Vec::new, |delivery| delivery.clear(py));
    py.detach(|| {
        let deadline = Instant::now() + EXIT_LIMIT;
        if let Some(delivery) = &delivery {
            delivery.stop(deadline);
        }
        runtime::shutdown(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100)));
    });
    for label in forgotten {
        let text = std::ffi::CString::new(format!("unclosed {label}: call close(), or use it in a with statement"))?;
        PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &text, 1)?;
    }
    Ok(())
}

/// The child of a fork has none of the parent's threads.
#[pyfunction]
#[pyo3(name = "_after_fork")]
pub(super) fn after_fork() {
    process::after_fork();
    // Its locks may be shut for ever, and its callbacks are the parent's.
    std::mem::forget(DELIVERY.swap(None));
}
