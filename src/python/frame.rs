//! What is handed out as it is: `Frame`, what arrived, with all that is known of it, `Dtmf`, and `Agent`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use crate::call::control;

/// One encoded frame of a bridge.
#[pyclass(frozen, get_all, module = "clutchcall.voice")]
pub(super) struct Frame {
    /// The encoded frame: one Opus packet, or the samples of one frame.
    pub(super) data: Py<PyBytes>,
    /// Its stamp in microseconds, on the monotonic clock of whoever published it.
    pub(super) timestamp_us: u64,
    /// `opus`, `pcm16`, `g711_ulaw` or `g711_alaw`.
    pub(super) codec: &'static str,
    /// Its place among all frames of the track: it grows by one per frame, those that are missing included.
    pub(super) sequence: u64,
    /// Frames that are missing between the one that was delivered before and this one, wherever they were lost.
    pub(super) lost_before: u64,
}

/// A key that the far end has pressed and let go.
#[pyclass(frozen, get_all, module = "clutchcall.voice")]
pub(super) struct Dtmf {
    /// `0` to `9`, `*`, `#`, or `A` to `D`.
    digit: char,
    /// How long it was held, in milliseconds; 0 where nobody says.
    duration_ms: u32,
    /// When it was pressed, in microseconds on the clock of the stamps of the frames.
    timestamp_us: u64,
    /// How it came: `rfc4733` between the packets of the audio, `info` signalled; a newer engine may have further ones.
    source: String,
}

impl From<control::Dtmf> for Dtmf {
    fn from(key: control::Dtmf) -> Self {
        let control::Dtmf { digit, duration_ms, at_us: timestamp_us, source } = key;
        Self { digit, duration_ms, timestamp_us, source }
    }
}

#[pymethods]
impl Dtmf {
    fn __repr__(&self) -> String {
        let Self { digit, duration_ms, timestamp_us, source } = self;
        format!("Dtmf(digit='{digit}', duration_ms={duration_ms}, timestamp_us={timestamp_us}, source={source:?})")
    }
}

/// An agent that the engine has.
#[pyclass(frozen, get_all, module = "clutchcall.voice")]
pub(super) struct Agent {
    /// What `originate` and `Agents.attach` take.
    pub(super) id: String,
    /// What it is, such as `echo`.
    pub(super) kind: String,
}

#[pymethods]
impl Agent {
    fn __repr__(&self) -> String {
        let Self { id, kind } = self;
        format!("Agent(id='{id}', kind='{kind}')")
    }
}

#[pymethods]
impl Frame {
    /// The 16-bit samples of a `pcm16` frame, without a copy: a memory view of format `h`, interleaved. Any other codec is a
    /// `ValueError`: decode `data` with `clutchcall.media` first.
    #[getter]
    fn pcm<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        if self.codec != "pcm16" {
            return Err(PyValueError::new_err(format!(
                "this frame is {}: decode its data with clutchcall.media, or attach with codec=\"pcm16\"",
                self.codec
            )));
        }
        let view = PyMemoryView::from(self.data.bind(py).as_any())?.call_method1("cast", ("h",))?;
        Ok(view.cast_into::<PyMemoryView>()?)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let Self { timestamp_us, codec, sequence, lost_before, .. } = self;
        let bytes = self.data.bind(py).as_bytes().len();
        Ok(format!("<Frame {sequence} of {bytes} bytes {codec} at {timestamp_us} us, {lost_before} lost before it>"))
    }
}
