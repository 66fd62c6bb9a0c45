//! [`Error`] → Python exception. The classes are Python's (`clutchcall/errors.py`); the table [`Kind::class`] names them.

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::error::{Error, Kind};

static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Every (class, parent class) that this module can raise; a test compares it with `clutchcall.errors`.
#[pyfunction]
#[pyo3(name = "_error_classes")]
pub(super) fn error_classes() -> Vec<(&'static str, &'static str)> {
    Kind::all().map(|kind| (kind.class(), kind.parent_class())).collect()
}

/// Raises what the class `name` looks like with every field filled in, so that a test can follow each field across the border.
#[pyfunction]
#[pyo3(name = "_raise_sample")]
pub(super) fn raise_sample(py: Python<'_>, name: &str) -> PyResult<()> {
    let kind = Kind::all().find(|kind| kind.class() == name).ok_or_else(|| PyValueError::new_err("unknown class"))?;
    Err(raise(
        py,
        Error::new(kind, "sample").with(|detail| {
            detail.status = Some(418);
            detail.code = Some("TEAPOT".into());
            detail.request_id = Some("req_1".into());
            detail.retry_after = Some(std::time::Duration::from_millis(1500));
            detail.body = Some("{}".into());
            detail.relay_code = Some(0x18);
            detail.end_reason = Some("busy".into());
            detail.sip_code = Some(486);
            detail.q850 = Some(17);
        }),
    ))
}

/// The exception to raise for `error`, with every number it carries as an attribute.
pub(super) fn raise(py: Python<'_>, error: Error) -> PyErr {
    // A cancel check that found a signal has left the exception set aside for its own caller; this is only its shadow.
    match error.kind() {
        Kind::Interrupted => return PyKeyboardInterrupt::new_err(()),
        Kind::Value => return PyValueError::new_err(error.to_string()),
        Kind::Type => return PyTypeError::new_err(error.to_string()),
        _ => {}
    }
    build(py, &error).unwrap_or_else(|failed| {
        let shadow = PyRuntimeError::new_err(error.to_string());
        shadow.set_cause(py, Some(failed));
        shadow
    })
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let module = MODULE.get_or_try_init(py, || py.import("clutchcall.errors").map(Bound::unbind))?;
    let fields = PyDict::new(py);
    fields.set_item("status", error.status)?;
    fields.set_item("code", error.code.as_deref())?;
    fields.set_item("request_id", error.request_id.as_deref())?;
    fields.set_item("retryable", error.retryable)?;
    fields.set_item("retry_after", error.retry_after.map(|wait| wait.as_secs_f64()))?;
    fields.set_item("body", error.body.as_deref())?;
    fields.set_item("relay_code", error.relay_code)?;
    fields.set_item("end_reason", error.end_reason.as_deref())?;
    fields.set_item("sip_code", error.sip_code)?;
    fields.set_item("q850", error.q850)?;
    let raised = module.bind(py).getattr("_from_core")?.call1((error.kind().class(), error.to_string(), fields))?;
    Ok(PyErr::from_value(raised))
}
