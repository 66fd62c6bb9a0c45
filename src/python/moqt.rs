//! `_core.MoqtClient` and its tracks.

use std::sync::Arc;

use pyo3::prelude::*;

use super::buffer;
use super::delivery::{Consumer, Delivery, Purpose, Slot, Sort};
use super::errors::raise;
use super::number::{int, whole};
use crate::client::moqt::{
    Ask, AudioPublication as NativePublication, AudioSubscription as NativeSubscription, Connect, MoqtClient as Native,
    TrackSpec, track_name,
};
use crate::client::{Runtime, bridge, origin};
use crate::error::{Error, Result};

/// A link to a relay of the user's choice.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct MoqtClient {
    native: Native,
    delivery: Arc<Delivery>,
    url: String,
    /// Whom it asks for tokens.
    asked: Option<Arc<Slot>>,
}

/// A published track.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct AudioPublication(NativePublication);

/// A subscribed track.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct AudioSubscription {
    native: NativeSubscription,
    slot: Arc<Slot>,
    delivery: Arc<Delivery>,
}

#[pymethods]
impl MoqtClient {
    #[new]
    #[pyo3(signature = (url, token, ask_token, on_state, certificate_hashes, insecure, drafts))]
    #[allow(clippy::too_many_arguments)] // One per argument of the public method.
    fn new(
        py: Python<'_>,
        url: String,
        token: Option<String>,
        ask_token: Option<Py<PyAny>>,
        on_state: Option<Py<PyAny>>,
        certificate_hashes: Vec<String>,
        insecure: bool,
        drafts: Vec<String>,
    ) -> PyResult<Self> {
        let delivery = Delivery::of(py, &Runtime::shared())?;
        let connect = Connect { url: url.clone(), token, certificate_hashes, insecure, drafts };
        // Labels are logged.
        let origin = origin(&url);
        let listen = |ring| {
            if let Some(callback) = on_state {
                let purpose = Purpose::new(format!("states of {origin}"), Sort::States);
                delivery.register(ring, Some(Consumer::Each(callback)), purpose);
            }
        };
        let mut asked = None;
        let (asks, purpose) = (&mut asked, Purpose::new(format!("token for {origin}"), Sort::Frames));
        let ask = ask_token.map(|callback| {
            let ask = |ring| *asks = Some(delivery.register(ring, Some(Consumer::Each(callback)), purpose));
            Box::new(ask) as Ask<'_>
        });
        let native = py.detach(|| Native::connect(connect, listen, ask)).map_err(|error| raise(py, error))?;
        Ok(Self { native, delivery, url, asked })
    }

    #[getter]
    fn url(&self) -> &str {
        &self.url
    }

    // What may be shown of the URL.
    #[getter]
    fn origin(&self) -> String {
        origin(&self.url)
    }

    #[getter]
    fn state(&self) -> &'static str {
        self.native.link().as_str()
    }

    #[getter]
    fn reason(&self) -> Option<String> {
        self.native.reason()
    }

    #[getter]
    fn reconnects(&self) -> u64 {
        self.native.reconnects()
    }

    fn publish_audio(
        &self,
        py: Python<'_>,
        namespace: Vec<Vec<u8>>,
        name: &str,
        frame_ms: i64,
        delivery: &str,
    ) -> PyResult<AudioPublication> {
        let spec = || -> Result<TrackSpec> {
            let frame_ms = whole("frame_ms", frame_ms)?;
            if !(1..=1000).contains(&frame_ms) {
                return Err(Error::value(format!("frame_ms is {frame_ms}: choose 1 to 1000")));
            }
            let (track, delivery) = (track_name(namespace, name)?, bridge::delivery(delivery)?);
            Ok(TrackSpec { track, frame_us: frame_ms * 1000, delivery })
        };
        let publication = spec().and_then(|spec| py.detach(|| self.native.publish(spec)));
        publication.map(AudioPublication).map_err(|error| raise(py, error))
    }

    fn subscribe_audio(
        &self,
        py: Python<'_>,
        namespace: Vec<Vec<u8>>,
        name: &str,
        on_frame: Py<PyAny>,
    ) -> PyResult<AudioSubscription> {
        let track = track_name(namespace, name).map_err(|error| raise(py, error))?;
        let purpose = Purpose::new(format!("subscription of {track}"), Sort::Frames);
        let mut slot = None;
        let listen = |ring| slot = Some(self.delivery.register(ring, Some(Consumer::Each(on_frame)), purpose));
        let native = py.detach(|| self.native.subscribe(track, listen)).map_err(|error| raise(py, error))?;
        let slot = slot.expect("a subscription has been listened to");
        Ok(AudioSubscription { native, slot, delivery: self.delivery.clone() })
    }

    fn subscriber_count(&self) -> u64 {
        self.native.subscriber_count()
    }

    fn close(&self, py: Python<'_>) {
        if let Some(asked) = &self.asked {
            self.delivery.forget(py, asked);
        }
        py.detach(|| self.native.close());
    }
}

#[pymethods]
impl AudioPublication {
    /// Neither lets go of the interpreter nor takes a lock.
    fn write(&self, timestamp_us: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, timestamp_us) = (data.py(), int("timestamp_us", timestamp_us)?);
        let at = u64::try_from(timestamp_us)
            .map_err(|_| Error::value(format!("timestamp_us is {timestamp_us}: give microseconds, 0 or more")))
            .map_err(|error| raise(py, error))?;
        let payload = buffer::bytes(data, "data")?;
        self.0.write(at, payload).map_err(|error| raise(py, error))
    }

    fn subscriber_count(&self) -> u64 {
        self.0.subscriber_count()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

#[pymethods]
impl AudioSubscription {
    #[getter]
    fn frames(&self) -> u64 {
        self.native.frames()
    }

    #[getter]
    fn missing(&self) -> u64 {
        self.native.missing()
    }

    #[getter]
    fn dropped(&self) -> u64 {
        self.slot.dropped()
    }

    fn close(&self, py: Python<'_>) {
        self.delivery.forget(py, &self.slot);
        py.detach(|| self.native.close());
    }
}
