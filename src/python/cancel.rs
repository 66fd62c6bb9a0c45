//! Waits that let go of the interpreter and end at Ctrl-C.

use pyo3::prelude::*;

use super::errors::raise;
use super::logs;
use crate::client::Cancel;
use crate::error::Result;

/// A question to the engine: `logging`'s levels of now count for it, and what was said meanwhile is carried there.
pub(super) fn asking<T: Send>(py: Python<'_>, work: impl FnOnce(Cancel<'_>) -> Result<T> + Send) -> PyResult<T> {
    logs::look(py)?;
    let answered = waiting(py, work);
    logs::carry(py);
    answered
}

/// Does `work` detached. Signals are looked at whenever it asks; the exception that a handler raised is the result then.
pub(super) fn waiting<T: Send>(py: Python<'_>, work: impl FnOnce(Cancel<'_>) -> Result<T> + Send) -> PyResult<T> {
    let mut raised = None;
    let result = py.detach(|| {
        work(&mut || {
            // Nobody to ask: the interpreter is ending, and so is this wait.
            let Some(found) = Python::try_attach(|py| py.check_signals().err()) else { return true };
            raised = found;
            raised.is_some()
        })
    });
    match raised {
        Some(error) => Err(error),
        None => result.map_err(|error| raise(py, error)),
    }
}
