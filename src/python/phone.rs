//! `_core.Phone`: a simulated phone without an engine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use super::errors::raise;
use super::logs::carried;
use super::number::whole;
use crate::engine::phone::{Alone, PhoneConfig};
use crate::error::Error;

/// A SIP endpoint that takes every call, until it is closed or collected.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Phone {
    native: Mutex<Option<Alone>>,
    address: SocketAddr,
}

#[pymethods]
impl Phone {
    /// `listen`: an address of this machine with a port, of UDP and TCP; 0 takes a free one.
    #[new]
    #[pyo3(signature = (listen, clip, record, ring_ms))]
    fn new(
        py: Python<'_>,
        listen: &str,
        clip: Option<PathBuf>,
        record: Option<PathBuf>,
        ring_ms: Option<i64>,
    ) -> PyResult<Self> {
        carried(py)?;
        let wrong =
            |_| Error::value(format!("listen is {listen:?}: write an address with a port, such as 127.0.0.1:5060"));
        let listen: SocketAddr = listen.parse().map_err(wrong).map_err(|error| raise(py, error))?;
        let mut config = PhoneConfig { clip, record, ..PhoneConfig::default() };
        if let Some(ring_ms) = ring_ms {
            let ring_ms = whole("ring_ms", ring_ms).map_err(|error| raise(py, error))?;
            config.ring = Duration::from_millis(ring_ms.into());
        }
        let started = py.detach(|| Alone::start(config, listen));
        let native = started.map_err(|text| raise(py, Error::config(text)))?;
        Ok(Self { address: native.address(), native: Mutex::new(Some(native)) })
    }

    /// Host address and port that it is bound to.
    #[getter]
    fn address(&self) -> String {
        self.address.to_string()
    }

    /// Hangs up everywhere. Twice is once.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.native.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }
}
