//! `_core.Bridge`: one audio bridge.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use super::buffer;
use super::cancel::asking;
use super::client::{int, whole};
use super::delivery::{Consumer, Delivery, Slot, Sort};
use super::errors::raise;
use super::later::{Awaits, Begun, later};
use super::post::Post;
use super::taker::Taker;
use crate::client::bridge::RING_KEYS;
use crate::client::{Bridge as Native, BridgeSpec, Client, Delivered, Stats, Told};
use crate::error::{Error, Result};
use crate::ring::RingSender;

/// Changes of a link that wait for a callback.
const RING_STATES: usize = 16;

/// The native half of `AudioBridge`. Its audio goes on when it is collected: the delivery registry and the media worker hold
/// what moves, until `close`.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Bridge {
    native: Arc<Native>,
    slot: Arc<Slot>,
    delivery: Arc<Delivery>,
    /// Who is told of the link.
    states: Mutex<Option<Arc<Slot>>>,
    keys: Keys,
}

/// Who is told of keys, and how many of them were dropped for those who were told before.
#[derive(Default)]
struct Keys {
    slot: Mutex<Option<Arc<Slot>>>,
    dropped_before: AtomicU64,
}

impl Keys {
    /// Called detached: whoever holds it may wait for the interpreter.
    fn slot(&self) -> MutexGuard<'_, Option<Arc<Slot>>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, py: Python<'_>) -> Option<Arc<Slot>> {
        let slot = py.detach(|| self.slot().take())?;
        self.dropped_before.fetch_add(slot.dropped(), Relaxed);
        Some(slot)
    }

    fn dropped(&self, py: Python<'_>) -> u64 {
        let now = py.detach(|| self.slot().as_ref().map_or(0, |slot| slot.dropped()));
        self.dropped_before.load(Relaxed) + now
    }
}

/// The consumer of a bridge that is being attached: forgotten again if nothing comes of it.
struct Listening {
    delivery: Arc<Delivery>,
    slot: Option<Arc<Slot>>,
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
    /// Frames that came again over another link, or from before the time it joined; they are not delivered.
    duplicates: u64,
    /// Keys that the far end pressed, while somebody was told of them.
    keys: u64,
    /// Keys that made room for newer ones, because 64 waited for the callback.
    keys_dropped: u64,
    /// Frames sent to at least one listener.
    frames_out: u64,
    /// Frames sent while nobody listened.
    unheard: u64,
    /// Frames whose time came while no link was up.
    offline: u64,
    /// Frames dropped because the link was too far behind.
    behind: u64,
    /// Of `frames_out`, those dropped because they waited 100 ms for room on the path (`delivery="datagram"`).
    too_old: u64,
    /// Published audio that has not left yet, in milliseconds.
    queued_ms: u64,
    /// Links that came back after a loss.
    reconnects: u64,
    /// Links that took the place of one that stood, without a loss: the relay asked for it, or the path was quiet.
    migrations: u64,
    /// Attempts to have a link.
    dials: u64,
    /// Bridges that share the link now, this one included; 0 when there is none.
    shared_by: u64,
    /// Round trip of the link's path now, in milliseconds; 0 when there is none.
    rtt_ms: f64,
    /// Packets that the link sent, and those of them that were lost.
    link_packets: u64,
    link_lost: u64,
    /// How many bytes of the link may be on their way.
    link_window: u64,
    /// Exceptions that left the callback.
    callback_errors: u64,
    /// Callbacks that took longer than 20 ms.
    slow_callbacks: u64,
    /// Of the whole process: how often nothing was delivered to anybody, because four callbacks blocked at the same time.
    delivery_stalls: u64,
    /// For how long that has been so now, in milliseconds; 0: it is not.
    delivery_stalled_ms: u64,
    /// `connecting`, `connected`, `reconnecting`, `closed` or `failed`.
    state: &'static str,
}

#[pymethods]
impl BridgeStats {
    fn __repr__(&self) -> String {
        let Self { state, frames_in, dropped, gaps, missing, stale, duplicates, keys, keys_dropped, .. } = self;
        let Self { frames_out, unheard, offline, behind, too_old, queued_ms, .. } = self;
        let Self { reconnects, migrations, dials, shared_by, rtt_ms, link_packets, link_lost, link_window, .. } = self;
        let Self { callback_errors, slow_callbacks, delivery_stalls, delivery_stalled_ms, .. } = self;
        let heard = format!(
            "frames_in={frames_in}, dropped={dropped}, gaps={gaps}, missing={missing}, stale={stale}, duplicates={duplicates}, keys={keys}, keys_dropped={keys_dropped}"
        );
        let said = format!(
            "frames_out={frames_out}, unheard={unheard}, offline={offline}, behind={behind}, too_old={too_old}, queued_ms={queued_ms}"
        );
        let link = format!(
            "reconnects={reconnects}, migrations={migrations}, dials={dials}, shared_by={shared_by}, rtt_ms={rtt_ms:.1}, link_packets={link_packets}, link_lost={link_lost}, link_window={link_window}"
        );
        let callback = format!(
            "callback_errors={callback_errors}, slow_callbacks={slow_callbacks}, delivery_stalls={delivery_stalls}, delivery_stalled_ms={delivery_stalled_ms}"
        );
        format!("BridgeStats(state='{state}', {heard}, {said}, {link}, {callback})")
    }
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
        let slot = delivery.register(receiver, consumer, label, (Sort::Bridge, spec.params.codec.as_str()));
        Ok((Self { delivery, slot: Some(slot) }, ring))
    }

    fn hold(mut self, native: Native) -> Bridge {
        let slot = self.slot.take().expect("it is held once");
        let (delivery, native) = (self.delivery.clone(), Arc::new(native));
        Bridge { native, slot, delivery, states: Mutex::default(), keys: Keys::default() }
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

    fn told_of(&self, py: Python<'_>, stats: Stats) -> PyResult<Py<BridgeStats>> {
        Py::new(py, self.figures(py, stats))
    }

    /// No callback of this bridge begins after this.
    fn forget(&self, py: Python<'_>) {
        self.delivery.forget(py, &self.slot);
        if let Some(keys) = self.keys.take(py) {
            self.delivery.forget(py, &keys);
        }
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
    fn on_frame(&self, py: Python<'_>, callback: Option<Py<PyAny>>, batch: bool) {
        self.delivery.swap(py, &self.slot, consumer(callback, batch));
    }

    /// Whoever takes the frames from now on.
    fn taker(&self, py: Python<'_>) -> Taker {
        Taker::new(py, &self.delivery, &self.slot, None)
    }

    /// Told of the link from now on, of its state now first, in place of whoever was told before.
    #[pyo3(signature = (callback))]
    fn on_state(&self, py: Python<'_>, callback: Option<Py<PyAny>>) {
        let (mut slot, mut ring) = (None, None);
        if let Some(callback) = callback {
            let (states, receiver) = self.native.runtime().delivery().ring(RING_STATES);
            let (label, sort) = (format!("states of call {}", self.native.sid()), (Sort::States, ""));
            slot = Some(self.delivery.register(receiver, Some(Consumer::Each(callback)), label, sort));
            ring = Some(states);
        }
        // Under the lock, so that of two who come at once the one who is told is the one who is kept; detached, so that neither keeps
        // the other from it.
        let before = py.detach(|| {
            let mut kept = self.states.lock().unwrap_or_else(PoisonError::into_inner);
            ring.into_iter().for_each(|states| self.native.watch(states));
            std::mem::replace(&mut *kept, slot)
        });
        if let Some(before) = before {
            self.delivery.forget(py, &before);
        }
    }

    /// Told of the keys of the far end from now on, in place of whoever was told before; no key is lost or told twice. The first one
    /// subscribes to them.
    #[pyo3(signature = (callback))]
    fn on_dtmf(&self, py: Python<'_>, callback: Option<Py<PyAny>>) -> PyResult<()> {
        let Some(callback) = callback else {
            if let Some(before) = self.keys.take(py) {
                py.detach(|| self.native.ignore_keys(before.id()));
                self.delivery.forget(py, &before);
            }
            return Ok(());
        };
        let (ring, receiver) = self.native.runtime().delivery().ring(RING_KEYS);
        let (label, sort) = (format!("keys of call {}", self.native.sid()), (Sort::Frames, ""));
        let first = Consumer::Each(callback.clone_ref(py));
        let slot = self.delivery.register(receiver, Some(first), label, sort);
        let before = py.detach(|| {
            let mut kept = self.keys.slot();
            if let Some(before) = &*kept {
                return Ok(Some(before.clone()));
            }
            self.native.hear_keys(ring)?;
            *kept = Some(slot.clone());
            Ok(None)
        });
        match before {
            Ok(None) => Ok(()),
            Ok(Some(before)) => {
                self.delivery.forget(py, &slot);
                self.delivery.swap(py, &before, Some(Consumer::Each(callback)));
                Ok(())
            }
            Err(error) => {
                self.delivery.forget(py, &slot);
                Err(raise(py, error))
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
        self.told_of(py, stats)
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
                Ok(this.get().told_of(py, stats)?.into_any())
            },
        )
    }
}

impl Bridge {
    fn figures(&self, py: Python<'_>, stats: Stats) -> BridgeStats {
        let (delivery_stalls, stalled) = self.delivery.stalls();
        BridgeStats {
            frames_in: stats.frames_in,
            dropped: self.slot.dropped(),
            gaps: stats.gaps,
            missing: stats.missing,
            stale: stats.stale,
            duplicates: stats.duplicates,
            keys: stats.keys,
            keys_dropped: self.keys.dropped(py),
            frames_out: stats.frames_out,
            unheard: stats.unheard,
            offline: stats.offline,
            behind: stats.behind,
            too_old: stats.too_old,
            queued_ms: stats.queued_us / 1000,
            reconnects: stats.reconnects,
            migrations: stats.migrations,
            dials: stats.dials,
            shared_by: stats.shared_by,
            rtt_ms: stats.path.rtt.as_secs_f64() * 1_000.0,
            link_packets: stats.path.packets_out,
            link_lost: stats.path.packets_lost,
            link_window: stats.path.window_bytes,
            callback_errors: self.slot.errors(),
            slow_callbacks: self.slot.slow(),
            delivery_stalls,
            delivery_stalled_ms: stalled.as_millis() as u64,
            state: self.state(),
        }
    }
}
