//! What an event loop awaits: work of the control thread whose outcome comes as the result of a future.
//!
//! The outcome is left in a cell and announced through a ring of its own, which ends: so it comes to the loop on the delivery
//! thread, together with all that is ready in the same turn. The control thread never attaches to the interpreter.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::delivery::{Consumer, Delivery, Slot, Sort};
use super::errors::raise;
use super::post::{Deed, Post};
use super::row::Row;
use crate::call::CallRow;
use crate::client::{Delivered, Runtime, Told, Underway};
use crate::error::Result;

/// Work that somebody awaits.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Begun {
    underway: Underway,
    slot: Arc<Slot>,
    delivery: Arc<Delivery>,
}

#[pymethods]
impl Begun {
    /// Nobody awaits it any more: the work ends where it stands, and nothing of it stays.
    fn abandon(&self, py: Python<'_>) {
        self.underway.abandon();
        self.delivery.forget(py, &self.slot);
    }
}

/// Who is told, and of what: a loop, and the future on it.
pub(super) type Awaits<'py> = (Py<Post>, Bound<'py, PyAny>);

/// The sink that the work is given.
pub(super) type Sink<T> = Told<Box<dyn FnOnce(Result<T>) + Send>>;

/// Begins `work`; the future becomes what `hand` makes of its outcome, on the loop's own thread.
pub(super) fn later<T: Send + 'static>(
    py: Python<'_>,
    runtime: &Arc<Runtime>,
    (post, future): Awaits<'_>,
    work: impl FnOnce(Sink<T>) -> Result<Underway>,
    hand: impl FnOnce(Python<'_>, Result<T>) -> PyResult<Py<PyAny>> + Send + 'static,
) -> PyResult<Begun> {
    let delivery = Delivery::of(py, runtime)?;
    let cell = Arc::new(Mutex::new(None));
    let (ring, receiver) = runtime.delivery().ring(1);
    let outcome = cell.clone();
    let deed = Deed::wake(future.unbind()).with(Box::new(move |py| {
        let result: Option<Result<T>> = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        match result {
            Some(result) => hand(py, result),
            None => Err(PyRuntimeError::new_err("the work ended without an outcome: the process is ending")),
        }
    }));
    let slot = delivery.register(receiver, Consumer::Answer(post, deed), String::new(), (Sort::Frames, ""));
    let neighbour = runtime.delivery().neighbour();
    let told = move |result| {
        *cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        ring.push(Delivered::Closed);
        neighbour.flush();
    };
    match work(Told(Box::new(told))) {
        Ok(underway) => Ok(Begun { underway, slot, delivery }),
        Err(error) => {
            delivery.forget(py, &slot);
            Err(raise(py, error))
        }
    }
}

/// What comes of work without an outcome.
pub(super) fn nothing(py: Python<'_>, result: Result<()>) -> PyResult<Py<PyAny>> {
    result.map(|()| py.None()).map_err(|error| raise(py, error))
}

/// What comes of work whose outcome is a call.
pub(super) fn row(py: Python<'_>, result: Result<CallRow>) -> PyResult<Py<PyAny>> {
    let row = result.map_err(|error| raise(py, error))?;
    Ok(Py::new(py, Row::from(row))?.into_any())
}
