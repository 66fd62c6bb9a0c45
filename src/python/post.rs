//! The way to an event loop: what is to be done there, and one call of `call_soon_threadsafe` for all of it.
//!
//! One [`Post`] per loop. The delivery thread adds what became ready in a turn and flushes once at its end; the loop does all of it
//! in one callback. A loop that is closed or collected loses what was meant for it: nobody waits there any more.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

/// Leads to one event loop.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Post {
    /// A `weakref.ref`: whoever keeps the post by its loop must not keep the loop by it.
    event_loop: Py<PyAny>,
    /// At most one for each future that somebody waits for.
    deeds: Mutex<Vec<Deed>>,
    /// The loop has been told, and has not looked since.
    told: AtomicBool,
}

/// What a future is given.
pub(super) type Outcome = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// A future, and what it is given; one that is done already is left alone.
pub(super) struct Deed {
    future: Py<PyAny>,
    outcome: Option<Outcome>,
}

impl Deed {
    /// The future becomes `None`.
    pub(super) fn wake(future: Py<PyAny>) -> Self {
        Self { future, outcome: None }
    }

    pub(super) fn with(self, outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..self }
    }

    fn perform(self, py: Python<'_>) -> PyResult<()> {
        let future = self.future.bind(py);
        if future.call_method0("done")?.is_truthy()? {
            return Ok(());
        }
        match self.outcome.map_or_else(|| Ok(py.None()), |outcome| outcome(py)) {
            Ok(value) => future.call_method1("set_result", (value,)),
            Err(error) => future.call_method1("set_exception", (error.into_value(py),)),
        }
        .map(drop)
    }
}

#[pymethods]
impl Post {
    /// `event_loop`: a weak reference to it.
    #[new]
    fn new(event_loop: Py<PyAny>) -> Self {
        Self { event_loop, deeds: Mutex::default(), told: AtomicBool::new(false) }
    }

    /// On the loop: does what there is to do.
    fn _run(&self, py: Python<'_>) -> PyResult<()> {
        // Before looking: what is added after the look must tell the loop again.
        self.told.store(false, SeqCst);
        for deed in self.take() {
            deed.perform(py)?;
        }
        Ok(())
    }
}

impl Post {
    pub(super) fn add(&self, deed: Deed) {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).push(deed);
    }

    fn take(&self) -> Vec<Deed> {
        mem::take(&mut *self.deeds.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the loop, unless it has been told and has not looked yet.
    pub(super) fn flush(this: &Py<Self>, py: Python<'_>) {
        let post = this.get();
        if !post.told.swap(true, SeqCst) && Self::tell(this, py).is_err() {
            // It is closed. What nobody waits for any more is dropped here, where no lock is held.
            post.told.store(false, SeqCst);
            drop(post.take());
        }
    }

    fn tell(this: &Py<Self>, py: Python<'_>) -> PyResult<()> {
        let run = this.bind(py).getattr("_run")?;
        // `None` when it was collected, which has no such method.
        this.get().event_loop.bind(py).call0()?.call_method1("call_soon_threadsafe", (run,)).map(drop)
    }
}
