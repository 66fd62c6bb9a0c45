//! Audio from Python: any contiguous buffer, one copy, no `unsafe`.

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

const CHOICES: &str = "give bytes, bytearray, memoryview, or a contiguous buffer of bytes or 16-bit integers";
/// Of the `struct` module: bytes and native 16-bit integers.
const FORMATS: [&str; 5] = ["B", "b", "c", "h", "H"];
/// Before a format: little-endian.
const LITTLE: char = '<';

/// The bytes of `object`, copied once.
pub(super) fn bytes(object: &Bound<'_, PyAny>, field: &str) -> PyResult<Bytes> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    if let Ok(bytes) = object.cast_exact::<PyByteArray>() {
        return Ok(bytes.to_vec().into());
    }
    let wrong = || PyTypeError::new_err(format!("{field} is {}: {CHOICES}", type_name(object)));
    let view = PyMemoryView::from(object).map_err(|_| wrong())?;
    let format: String = view.getattr("format")?.extract()?;
    // Arrays of `ctypes` say the order of bytes too; this way they are copied twice.
    let said = format.strip_prefix(LITTLE).filter(|_| cfg!(target_endian = "little"));
    if !FORMATS.contains(&said.unwrap_or(&format)) || !view.getattr("c_contiguous")?.extract::<bool>()? {
        return Err(wrong());
    }
    // Several dimensions of which one is 0 can't be cast.
    if view.getattr("nbytes")?.extract::<usize>()? == 0 {
        return Ok(Bytes::new());
    }
    let plain = match said {
        None => view.call_method1("cast", ("B",))?,
        Some(_) => view.call_method0("tobytes")?,
    };
    let buffer = PyBuffer::<u8>::get(&plain)?;
    Ok(buffer.to_vec(object.py())?.into())
}

/// 16-bit samples, from a buffer of them or of their little-endian bytes.
pub(super) fn samples(object: &Bound<'_, PyAny>, field: &str) -> PyResult<Vec<i16>> {
    let bytes = bytes(object, field)?;
    if bytes.len() % 2 != 0 {
        let length = bytes.len();
        return Err(pyo3::exceptions::PyValueError::new_err(format!(
            "{field} is {length} bytes long: 16-bit samples have an even number"
        )));
    }
    let mut samples = Vec::with_capacity(bytes.len() / 2);
    crate::audio::pcm::from_bytes(&bytes, &mut samples);
    Ok(samples)
}

pub(super) fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "an object".into(), |name| format!("a {name}"))
}
