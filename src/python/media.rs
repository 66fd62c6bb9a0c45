//! `_core.OpusEncoder`, `_core.OpusDecoder` and G.711: the codecs alone.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::buffer;
use super::errors::raise;
use super::number::{int, whole};
use crate::audio::opus::{Decoder, Encoder, version};
use crate::audio::{CodecError, Params, g711, pcm};
use crate::client::bridge::params;
use crate::error::Error;

/// 16-bit PCM to Opus packets.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct OpusEncoder {
    encoder: Mutex<Encoder>,
    params: Params,
}

/// Opus packets to 16-bit PCM.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct OpusDecoder {
    decoder: Mutex<Decoder>,
    params: Params,
}

/// The one place that knows which rates and channels Opus has.
fn opus_params(py: Python<'_>, sample_rate: i64, channels: i64) -> PyResult<Params> {
    let checked = || params("opus", Some(whole("sample_rate", sample_rate)?), whole("channels", channels)?, 20);
    checked().map_err(|error| raise(py, error))
}

fn codec_error(py: Python<'_>, error: &CodecError) -> PyErr {
    raise(py, Error::value(error.to_string()))
}

#[pymethods]
impl OpusEncoder {
    #[new]
    fn new(py: Python<'_>, sample_rate: i64, channels: i64) -> PyResult<Self> {
        let params = opus_params(py, sample_rate, channels)?;
        let encoder = Encoder::new(params.sample_rate, params.channels).map_err(|error| codec_error(py, &error))?;
        Ok(Self { encoder: Mutex::new(encoder), params })
    }

    /// Samples per channel that decoded audio lags behind.
    #[getter]
    fn lookahead(&self) -> usize {
        self.encoder.lock().unwrap_or_else(PoisonError::into_inner).lookahead()
    }

    fn encode<'py>(&self, py: Python<'py>, samples: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let samples = buffer::samples(samples, "pcm")?;
        let per_10_ms = self.params.sample_rate as usize / 100 * usize::from(self.params.channels);
        let frames = samples.len() / per_10_ms;
        if !samples.len().is_multiple_of(per_10_ms) || ![1, 2, 4, 6].contains(&frames) {
            let length = samples.len();
            return Err(raise(
                py,
                Error::value(format!(
                    "pcm holds {length} samples: one packet takes 10, 20, 40 or 60 ms, which is {} samples per 10 ms",
                    per_10_ms
                )),
            ));
        }
        // Some 100 µs of work: others may run meanwhile.
        let packet = py.detach(|| {
            let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
            encoder.encode(&samples).map(<[u8]>::to_vec)
        });
        packet.map(|packet| PyBytes::new(py, &packet)).map_err(|error| codec_error(py, &error))
    }
}

#[pymethods]
impl OpusDecoder {
    #[new]
    fn new(py: Python<'_>, sample_rate: i64, channels: i64) -> PyResult<Self> {
        let params = opus_params(py, sample_rate, channels)?;
        let decoder = Decoder::new(params.sample_rate, params.channels).map_err(|error| codec_error(py, &error))?;
        Ok(Self { decoder: Mutex::new(decoder), params })
    }

    /// `None` for a packet that was lost: `lost_ms` of what may have stood in it.
    #[pyo3(signature = (packet, lost_ms))]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        packet: Option<&Bound<'py, PyAny>>,
        lost_ms: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let packet = packet.map(|packet| buffer::bytes(packet, "packet")).transpose()?;
        let lost_ms = whole("lost_ms", int("lost_ms", lost_ms)?).map_err(|error| raise(py, error))? as usize;
        if packet.is_none() && (lost_ms == 0 || lost_ms > 120 || !lost_ms.is_multiple_of(10)) {
            return Err(raise(py, Error::value(format!("lost_ms is {lost_ms}: choose 10 to 120 in steps of 10"))));
        }
        let decoded = py.detach(|| {
            let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
            let mut samples = Vec::new();
            match &packet {
                Some(packet) => decoder.decode(packet, &mut samples)?,
                None => decoder.conceal(lost_ms, &mut samples)?,
            }
            let mut bytes = Vec::with_capacity(samples.len() * 2);
            pcm::to_bytes(&samples, &mut bytes);
            Ok(bytes)
        });
        decoded.map(|bytes| PyBytes::new(py, &bytes)).map_err(|error: CodecError| codec_error(py, &error))
    }

    #[getter]
    fn sample_rate(&self) -> u32 {
        self.params.sample_rate
    }
}

/// The version of libopus in this wheel.
#[pyfunction]
pub(super) fn opus_version() -> &'static str {
    version()
}

#[pyfunction]
pub(super) fn encode_ulaw<'py>(py: Python<'py>, pcm: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    encode(py, pcm, g711::ulaw_encode)
}

#[pyfunction]
pub(super) fn encode_alaw<'py>(py: Python<'py>, pcm: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    encode(py, pcm, g711::alaw_encode)
}

#[pyfunction]
pub(super) fn decode_ulaw<'py>(py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    decode(py, data, g711::ulaw_decode)
}

#[pyfunction]
pub(super) fn decode_alaw<'py>(py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    decode(py, data, g711::alaw_decode)
}

fn encode<'py>(py: Python<'py>, pcm: &Bound<'py, PyAny>, code: fn(i16) -> u8) -> PyResult<Bound<'py, PyBytes>> {
    let samples = buffer::samples(pcm, "pcm")?;
    let bytes: Vec<u8> = py.detach(|| samples.into_iter().map(code).collect());
    Ok(PyBytes::new(py, &bytes))
}

fn decode<'py>(py: Python<'py>, data: &Bound<'py, PyAny>, sample: fn(u8) -> i16) -> PyResult<Bound<'py, PyBytes>> {
    let codes = buffer::bytes(data, "data")?;
    let bytes: Vec<u8> = py.detach(|| codes.iter().flat_map(|code| sample(*code).to_le_bytes()).collect());
    Ok(PyBytes::new(py, &bytes))
}
