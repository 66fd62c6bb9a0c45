//! What a call is placed with and a bridge attached with, and numbers of Python's. One list of arguments for both faces.

use std::collections::BTreeMap;

use pyo3::prelude::*;

use super::super::delivery;
use super::super::errors::raise;
use super::super::number::whole;
use crate::call::Carried;
use crate::call::wire::BridgeRole;
use crate::client::{BridgeSpec, Originate, bridge};
use crate::error::Result;

/// What a call is placed with. It is looked at when it is placed.
#[pyclass(frozen, module = "clutchcall._core")]
pub(in crate::python) struct Placing(pub(super) Originate);

#[pymethods]
impl Placing {
    #[new]
    #[pyo3(signature = (*, to, from_, trunk_id, agent, ring_timeout_sec, idempotency_key, metadata, max_duration_sec, send_digits, headers, caller_name, status_callback))]
    #[allow(clippy::too_many_arguments)] // One per argument of the public method.
    fn new(
        to: String,
        from_: String,
        trunk_id: String,
        agent: Option<String>,
        ring_timeout_sec: Option<f64>,
        idempotency_key: Option<String>,
        metadata: BTreeMap<String, String>,
        max_duration_sec: Option<f64>,
        send_digits: Option<String>,
        headers: BTreeMap<String, String>,
        caller_name: Option<String>,
        status_callback: Option<String>,
    ) -> Self {
        let (from, ring_timeout_s, max_duration_s) = (from_, ring_timeout_sec, max_duration_sec);
        let carried = Carried { headers, caller_name };
        Self(Originate {
            to,
            from,
            trunk_id,
            agent,
            ring_timeout_s,
            max_duration_s,
            metadata,
            send_digits,
            carried,
            status_callback,
            idempotency_key,
        })
    }
}

/// What a bridge is attached to, and as what.
#[pyclass(frozen, module = "clutchcall._core")]
pub(in crate::python) struct Attaching(pub(super) BridgeSpec);

#[pymethods]
impl Attaching {
    /// `role` is "server" or "caller"; `sample_rate` absent: the codec's usual one.
    #[new]
    #[pyo3(signature = (*, call_sid, role, codec, sample_rate, channels, frame_ms, delivery))]
    #[allow(clippy::too_many_arguments)] // One per argument of the public method.
    fn new(
        py: Python<'_>,
        call_sid: String,
        role: &str,
        codec: &str,
        sample_rate: Option<i64>,
        channels: i64,
        frame_ms: i64,
        delivery: &str,
    ) -> PyResult<Self> {
        let clock = delivery::clock(py)?;
        let spec = || -> Result<BridgeSpec> {
            let sample_rate = sample_rate.map(|rate| whole("sample_rate", rate)).transpose()?;
            let (channels, frame_ms) = (whole("channels", channels)?, whole("frame_ms", frame_ms)?);
            Ok(BridgeSpec {
                sid: call_sid,
                role: if role == "caller" { BridgeRole::Caller } else { BridgeRole::Server },
                params: bridge::params(codec, sample_rate, channels, frame_ms)?,
                delivery: bridge::delivery(delivery)?,
                clock,
            })
        };
        spec().map(Self).map_err(|error| raise(py, error))
    }
}
