//! The way to an event loop: what is to be done there, and one call of `call_soon_threadsafe` for all of it.
//!
//! One [`Post`] per loop. The delivery thread adds what became ready in a turn and flushes once at its end; the loop does all of it
//! in one callback. A loop that is closed or collected loses what was meant for it: nobody waits there any more.

use pyo3::prelude::*;

use crate::ring::Errands;

/// Leads to one event loop.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Post {
    /// A `weakref.ref`: whoever keeps the post by its loop must not keep the loop by it.
    event_loop: Py<PyAny>,
    /// At most one for each future that somebody waits for.
    deeds: Errands<Deed>,
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
        Self { event_loop, deeds: Errands::default() }
    }

    /// On the loop: does what there is to do.
    fn _run(&self, py: Python<'_>) -> PyResult<()> {
        for deed in self.deeds.look() {
            deed.perform(py)?;
        }
        Ok(())
    }
}

impl Post {
    pub(super) fn add(&self, deed: Deed) {
        self.deeds.add(deed);
    }

    /// Tells the loop, unless it has been told and has not looked yet. What nobody waits for any more, because it is closed, is dropped
    /// here, where no lock is held.
    pub(super) fn flush(this: &Py<Self>, py: Python<'_>) {
        drop(this.get().deeds.flush(|| Self::tell(this, py).is_ok()));
    }

    fn tell(this: &Py<Self>, py: Python<'_>) -> PyResult<()> {
        let run = this.bind(py).getattr("_run")?;
        // `None` when it was collected, which has no such method.
        this.get().event_loop.bind(py).call0()?.call_method1("call_soon_threadsafe", (run,)).map(drop)
    }
}
