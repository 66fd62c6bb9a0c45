//! What an event loop awaits: work of the control thread whose outcome comes as the result of a future.
//!
//! The outcome is left in a cell and announced through a ring of its own, which ends: so it comes to the loop on the delivery
//! thread, together with all that is ready in the same turn. The control thread never attaches to the interpreter.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::delivery::{Consumer, Delivery, Purpose, Slot, Sort};
use super::errors::raise;
use super::logs;
use super::post::{Deed, Post};
use super::row::Row;
use crate::call::CallRow;
use crate::client::{Delivered, Lost, Placed, Runtime, Told, Underway};
use crate::error::Result;

/// Work that somebody awaits.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Begun {
    underway: Underway,
    slot: Arc<Slot>,
    delivery: Arc<Delivery>,
    /// A call whose row was given to the future.
    lost: Held,
}

type Held = Arc<Mutex<Option<Lost>>>;

#[pymethods]
impl Begun {
    /// Nobody awaits it any more: the work ends where it stands, nothing of it stays, a call that it placed is hung up.
    fn abandon(&self, py: Python<'_>) {
        self.underway.abandon();
        self.delivery.forget(py, &self.slot);
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| lost.into_iter().for_each(Lost::hang_up));
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
    logs::look(py)?;
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
    let slot =
        delivery.register(receiver, Some(Consumer::Answer(post, deed)), Purpose::new(String::new(), Sort::Frames));
    let teller = runtime.clone();
    let told = move |result| {
        *cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        ring.push(Delivered::Closed);
        teller.tell_delivery();
    };
    match work(Told(Box::new(told))) {
        Ok(underway) => Ok(Begun { underway, slot, delivery, lost: Held::default() }),
        Err(error) => {
            delivery.forget(py, &slot);
            Err(raise(py, error))
        }
    }
}

/// The same for a call that is placed: whoever abandons it in the moment in which its row has come does not leave it ringing.
pub(super) fn placed(
    py: Python<'_>,
    runtime: &Arc<Runtime>,
    awaits: Awaits<'_>,
    work: impl FnOnce(Sink<Placed>) -> Result<Underway>,
) -> PyResult<Begun> {
    let lost = Held::default();
    let held = lost.clone();
    let hand = move |py: Python<'_>, placed: Result<Placed>| {
        let claimed = placed.map(Placed::claim_unless_lost);
        row(
            py,
            claimed.map(|(row, lost)| {
                *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(lost);
                row
            }),
        )
    };
    Ok(Begun { lost, ..later(py, runtime, awaits, work, hand)? })
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
