//! `_core.Bridge`: one audio bridge.

use std::sync::Arc;

use pyo3::prelude::*;

use super::buffer;
use super::cancel::waiting;
use super::delivery::{Delivery, Slot, Sort};
use super::errors::raise;
use crate::client::{Bridge as Native, BridgeSpec, Client};
use crate::error::Error;

/// The native half of `AudioBridge`. Its audio goes on when it is collected: the delivery registry and the media worker hold
/// what moves, until `close`.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Bridge {
    native: Native,
    slot: Arc<Slot>,
    delivery: Arc<Delivery>,
}

/// A bridge in numbers; frames unless the name says otherwise.
#[pyclass(frozen, get_all, module = "clutchcall._core")]
pub(super) struct BridgeStats {
    /// Frames that arrived.
    frames_in: u64,
    /// Frames that arrived and made room for newer ones, because the callback was too slow.
    dropped: u64,
    /// Holes in what arrived.
    gaps: u64,
    /// Frames that are missing in those holes.
    missing: u64,
    /// Frames that a stall of the path held up for more than 200 ms; they are not delivered.
    stale: u64,
    /// Frames sent to at least one listener.
    frames_out: u64,
    /// Frames sent while nobody listened.
    unheard: u64,
    /// Frames whose time came while no link was up.
    offline: u64,
    /// Frames dropped because the link was too far behind.
    behind: u64,
    /// Published audio that has not left yet, in milliseconds.
    queued_ms: u64,
    /// Links that came back after a loss.
    reconnects: u64,
    /// Exceptions that left the callback.
    callback_errors: u64,
    /// Callbacks that took longer than 20 ms.
    slow_callbacks: u64,
    /// `connecting`, `connected`, `reconnecting`, `closed` or `failed`.
    state: &'static str,
}

#[pymethods]
impl BridgeStats {
    fn __repr__(&self) -> String {
        format!(
            "BridgeStats(state='{}', frames_in={}, dropped={}, gaps={}, missing={}, stale={}, frames_out={}, unheard={}, offline={}, behind={}, queued_ms={}, reconnects={}, callback_errors={}, slow_callbacks={})",
            self.state,
            self.frames_in,
            self.dropped,
            self.gaps,
            self.missing,
            self.stale,
            self.frames_out,
            self.unheard,
            self.offline,
            self.behind,
            self.queued_ms,
            self.reconnects,
            self.callback_errors,
            self.slow_callbacks
        )
    }
}

impl Bridge {
    pub(super) fn attach(py: Python<'_>, client: &Client, spec: BridgeSpec, on_frame: Py<PyAny>) -> PyResult<Self> {
        let delivery = Delivery::of(py, client.runtime())?;
        let label = format!("bridge of call {}", spec.sid);
        let mut slot = None;
        let listen = |frames| slot = Some(delivery.register(frames, on_frame, label, Sort::Bridge));
        let native = waiting(py, |cancel| client.attach(spec, listen, cancel))?;
        let slot = slot.expect("a granted bridge has been listened to");
        Ok(Self { native, slot, delivery })
    }
}

#[pymethods]
impl Bridge {
    #[getter]
    fn sid(&self) -> &str {
        self.native.sid()
    }

    #[getter]
    fn state(&self) -> &'static str {
        self.native.link().as_str()
    }

    /// Why it is not connected, where that is known.
    #[getter]
    fn reason(&self) -> Option<String> {
        self.native.reason()
    }

    #[getter]
    fn queued_ms(&self) -> u64 {
        self.native.queued_us() / 1000
    }

    /// Neither lets go of the interpreter nor takes a lock: it copies once and returns.
    #[pyo3(signature = (frame, timestamp_us))]
    fn publish(&self, frame: &Bound<'_, PyAny>, timestamp_us: Option<i64>) -> PyResult<()> {
        let py = frame.py();
        let negative = |at: i64| Error::value(format!("timestamp_us is {at}: give microseconds of a monotonic clock"));
        let timestamp_us = timestamp_us.map(|at| u64::try_from(at).map_err(|_| negative(at)));
        let timestamp_us = timestamp_us.transpose().map_err(|error| raise(py, error))?;
        let payload = buffer::bytes(frame, "frame")?;
        self.native.publish(payload, timestamp_us).map_err(|error| raise(py, error))
    }

    /// Swaps the consumer.
    fn on_frame(&self, py: Python<'_>, callback: Py<PyAny>) {
        self.slot.swap(py, callback);
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.delivery.forget(py, &self.slot);
        waiting(py, |cancel| self.native.close(cancel))
    }

    fn stats(&self) -> BridgeStats {
        let stats = self.native.stats();
        BridgeStats {
            frames_in: stats.frames_in,
            dropped: self.slot.dropped(),
            gaps: stats.gaps,
            missing: stats.missing,
            stale: stats.stale,
            frames_out: stats.frames_out,
            unheard: stats.unheard,
            offline: stats.offline,
            behind: stats.behind,
            queued_ms: stats.queued_us / 1000,
            reconnects: stats.reconnects,
            callback_errors: self.slot.errors(),
            slow_callbacks: self.slot.slow(),
            state: self.state(),
        }
    }
}
