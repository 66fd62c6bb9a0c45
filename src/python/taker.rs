//! `_core.Taker`: a consumer that comes by itself, from a thread or from an event loop.

use std::sync::Arc;

use pyo3::prelude::*;

use super::cancel::waiting;
use super::delivery::{Delivery, Slot, Taken};
use super::errors::raise;
use super::post::Post;
use super::row::Row;
use crate::client::runtime::CANCEL_STEP;
use crate::client::{Delivered, Underway};
use crate::error::{Error, Kind};

/// Takes what comes through one ring, until it ends, or another consumer takes its place.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Taker {
    slot: Arc<Slot>,
    delivery: Arc<Delivery>,
    number: u64,
    /// What fills the ring for nobody else.
    source: Option<Underway>,
}

impl Taker {
    pub(super) fn new(py: Python<'_>, delivery: &Arc<Delivery>, slot: &Arc<Slot>, source: Option<Underway>) -> Self {
        let number = delivery.begin_taking(py, slot);
        Self { slot: slot.clone(), delivery: delivery.clone(), number, source }
    }

    /// `Some(None)`: it is over.
    fn look(&self, py: Python<'_>) -> PyResult<Option<Option<Py<PyAny>>>> {
        let (item, lost_before) = match self.slot.find(self.number) {
            Taken::Item(taken) => taken,
            Taken::Nothing => return Ok(None),
            Taken::Over => return Ok(Some(None)),
        };
        match item {
            Delivered::Frame { timestamp_us, payload, sequence } => {
                let frame = self.slot.frame(py, &payload, (timestamp_us, sequence, lost_before))?;
                Ok(Some(Some(frame.into_any())))
            }
            Delivered::Row(Ok(row)) => Ok(Some(Some(Py::new(py, Row::from(*row))?.into_any()))),
            Delivered::Row(Err(error)) => Err(raise(py, *error)),
            Delivered::State(_) | Delivered::Token(_) | Delivered::Dtmf(_) => Ok(None),
            Delivered::Closed => {
                self.delivery.forget(py, &self.slot);
                Ok(Some(None))
            }
        }
    }
}

#[pymethods]
impl Taker {
    /// What is there, or `None`.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.look(py).map(Option::flatten)
    }

    /// What comes next; waits for it. `None`: it is over.
    fn wait(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            if let Some(found) = self.look(py)? {
                return Ok(found);
            }
            waiting(py, |cancel| {
                self.slot.wait(self.number, CANCEL_STEP);
                if cancel() { Err(Error::new(Kind::Interrupted, "interrupted")) } else { Ok(()) }
            })?;
        }
    }

    /// Nothing comes any more.
    #[getter]
    fn over(&self) -> bool {
        self.slot.is_over(self.number)
    }

    /// `future` is done as soon as `take` may find something. On the loop of `post`.
    fn ready(&self, post: Py<Post>, future: Bound<'_, PyAny>) -> PyResult<()> {
        let told = self.slot.wait_on(self.number, post, future);
        self.delivery.nudge();
        told
    }

    /// Nobody takes any more. Twice is once.
    fn close(&self, py: Python<'_>) {
        if let Some(source) = &self.source {
            source.abandon();
            self.delivery.forget(py, &self.slot);
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        if self.source.is_some() {
            // Refused when the interpreter is ending, and with it the registry.
            let _ = Python::try_attach(|py| self.close(py));
        }
    }
}
