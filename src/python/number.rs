//! Whole numbers of Python's, which have no end.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::buffer::type_name;
use crate::error::{Error, Result};

/// What does not fit is no choice of any field.
pub(super) fn whole(field: &str, value: i64) -> Result<u32> {
    u32::try_from(value)
        .map_err(|_| Error::value(format!("{field} is {value}: give a whole number that is not negative")))
}

/// The same from whatever was passed, where no face has looked at it: it may be no number, or one of more than 64 bits.
pub(super) fn int(field: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    value.extract().map_err(|error: PyErr| {
        let py = value.py();
        if error.is_instance_of::<PyOverflowError>(py) {
            PyValueError::new_err(format!("{field} is a number of more than 64 bits: none is so large"))
        } else if error.is_instance_of::<PyTypeError>(py) {
            PyTypeError::new_err(format!("{field} is {}: give a whole number", type_name(value)))
        } else {
            error
        }
    })
}
