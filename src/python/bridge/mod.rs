//! `_core.Bridge`: one audio bridge.

use std::sync::Arc;

use pyo3::prelude::*;

use super::buffer;
use super::cancel::asking;
use super::delivery::{Consumer, Delivery, Purpose, Slot, Sort};
use super::errors::raise;
use super::later::{Awaits, Begun, later};
use super::number::{int, whole};
use super::post::Post;
use super::taker::Taker;
use crate::client::{Bridge as Native, BridgeSpec, Client, Delivered, Told};
use crate::error::{Error, Result};
use crate::ring::RingSender;

mod beside;
mod stats;

use beside::Beside;
pub(super) use stats::BridgeStats;

/// The native half of `AudioBridge`. Its audio goes on when it is collected: the delivery registry and the media worker hold
/// what moves, until `close`.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Bridge {
    native: Arc<Native>,
    slot: Arc<Slot>,
    delivery: Arc<Delivery>,
    beside: Beside,
}

/// The consumer of a bridge that is being attached: forgotten again if nothing comes of it.
struct Listening {
    delivery: Arc<Delivery>,
    slot: Option<Arc<Slot>>,
}

impl Listening {
    fn begin(
        py: Python<'_>,
        client: &Client,
        spec: &BridgeSpec,
        consumer: Option<Consumer>,
    ) -> PyResult<(Self, RingSender<Delivered>)> {
        let delivery = Delivery::of(py, client.runtime())?;
        let (ring, receiver) = client.runtime().delivery().ring(crate::client::bridge::RING_FRAMES);
        let label = format!("bridge of call {}", spec.sid);
        let purpose = Purpose::new(label, Sort::Bridge).of_codec(spec.params.codec.as_str());
        let slot = delivery.register(receiver, consumer, purpose);
        Ok((Self { delivery, slot: Some(slot) }, ring))
    }

    fn hold(mut self, native: Native) -> Bridge {
        let slot = self.slot.take().expect("it is held once");
        let (delivery, native) = (self.delivery.clone(), Arc::new(native));
        Bridge { native, slot, delivery, beside: Beside::default() }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            // Refused when the interpreter is ending, and with it the registry.
            let _ = Python::try_attach(|py| self.delivery.forget(py, &slot));
        }
    }
}

/// Who is given the frames: a callback, with one or with all that are there; without one, a taker that is still to come.
pub(super) fn consumer(callback: Option<Py<PyAny>>, batch: bool) -> Option<Consumer> {
    callback.map(if batch { Consumer::Batch } else { Consumer::Each })
}

impl Bridge {
    pub(super) fn attach(
        py: Python<'_>,
        client: &Client,
        spec: BridgeSpec,
        consumer: Option<Consumer>,
    ) -> PyResult<Self> {
        let (listening, ring) = Listening::begin(py, client, &spec, consumer)?;
        let native = asking(py, |cancel| client.attach(spec, ring, cancel))?;
        Ok(listening.hold(native.claim()))
    }

    pub(super) fn attach_later(
        py: Python<'_>,
        client: &Client,
        awaits: Awaits<'_>,
        spec: BridgeSpec,
        consumer: Option<Consumer>,
    ) -> PyResult<Begun> {
        let (listening, ring) = Listening::begin(py, client, &spec, consumer)?;
        later(
            py,
            client.runtime(),
            awaits,
            |told| client.attach(spec, ring, told),
            move |py, native| {
                let native = native.map_err(|error| raise(py, error))?;
                Ok(Py::new(py, listening.hold(native.claim()))?.into_any())
            },
        )
    }

    /// Whoever wants to be told of what does not come any more learns that now.
    fn check_hears(&self, py: Python<'_>, what: &str) -> PyResult<()> {
        self.native.check_open(what).map_err(|error| raise(py, error))
    }

    /// No callback of this bridge begins after this, but the one that is told that it is closed.
    fn forget(&self, py: Python<'_>) {
        self.delivery.forget(py, &self.slot);
        self.forget_keys(py);
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
    fn publish(&self, frame: &Bound<'_, PyAny>, timestamp_us: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = frame.py();
        let negative = |at: i64| Error::value(format!("timestamp_us is {at}: give microseconds of a monotonic clock"));
        let timestamp_us = timestamp_us.map(|at| int("timestamp_us", at)).transpose()?;
        let timestamp_us = timestamp_us.map(|at| u64::try_from(at).map_err(|_| negative(at)));
        let timestamp_us = timestamp_us.transpose().map_err(|error| raise(py, error))?;
        let payload = buffer::bytes(frame, "frame")?;
        self.native.publish(payload, timestamp_us).map_err(|error| raise(py, error))
    }

    /// Swaps the consumer; `None` for one that comes by itself.
    #[pyo3(signature = (callback, batch))]
    fn on_frame(&self, py: Python<'_>, callback: Option<Py<PyAny>>, batch: bool) -> PyResult<()> {
        self.check_hears(py, "nothing is heard")?;
        self.delivery.swap(py, &self.slot, consumer(callback, batch));
        Ok(())
    }

    /// Whoever takes the frames from now on.
    fn taker(&self, py: Python<'_>) -> Taker {
        Taker::new(py, &self.delivery, &self.slot, None)
    }

    /// Told of the link from now on, of its state now first, in place of whoever was told before.
    #[pyo3(signature = (callback))]
    fn on_state(&self, py: Python<'_>, callback: Option<Py<PyAny>>) {
        self.tell_states(py, callback);
    }

    /// Told of the keys of the far end from now on, in place of whoever was told before; no key is lost or told twice. The first one
    /// subscribes to them.
    #[pyo3(signature = (callback))]
    fn on_dtmf(&self, py: Python<'_>, callback: Option<Py<PyAny>>) -> PyResult<()> {
        match callback {
            Some(callback) => self.tell_keys(py, callback),
            None => {
                self.tell_no_keys(py);
                Ok(())
            }
        }
    }

    fn send_dtmf(&self, py: Python<'_>, digits: &str, duration_ms: i64) -> PyResult<()> {
        let duration_ms = whole("duration_ms", duration_ms).map_err(|error| raise(py, error))?;
        asking(py, |cancel| self.native.send_dtmf(digits, duration_ms, cancel))
    }

    fn send_dtmf_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        digits: &str,
        duration_ms: i64,
    ) -> PyResult<Begun> {
        let duration_ms = whole("duration_ms", duration_ms).map_err(|error| raise(py, error))?;
        let work = |told| self.native.send_dtmf(digits, duration_ms, told);
        later(py, self.native.runtime(), (post, future), work, super::later::nothing)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.forget(py);
        asking(py, |cancel| self.native.close(cancel))
    }

    fn close_later(&self, py: Python<'_>, post: Py<Post>, future: Bound<'_, PyAny>) -> PyResult<Begun> {
        self.forget(py);
        let native = self.native.clone();
        let runtime = native.runtime().clone();
        later(py, &runtime, (post, future), move |told| native.close(told), super::later::nothing)
    }

    /// Closes it and waits for nobody.
    fn leave(&self, py: Python<'_>) {
        self.forget(py);
        let _ = py.detach(|| self.native.close(Told(|_: Result<()>| ())));
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Py<BridgeStats>> {
        let stats = py.detach(|| self.native.stats());
        Py::new(py, self.figures(py, stats))
    }

    fn stats_later(this: Py<Self>, py: Python<'_>, post: Py<Post>, future: Bound<'_, PyAny>) -> PyResult<Begun> {
        let native = this.get().native.clone();
        let runtime = native.runtime().clone();
        later(
            py,
            &runtime,
            (post, future),
            move |told| native.stats_then(told),
            move |py, stats| {
                let stats = stats.map_err(|error| raise(py, error))?;
                Ok(Py::new(py, this.get().figures(py, stats))?.into_any())
            },
        )
    }
}
