//! `_core.Engine`: the server side inside a Python process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use super::errors::raise;
use super::logs::carried;
use super::number::whole;
use crate::engine::config::EXAMPLE;
use crate::engine::{Config, Engine as Native};
use crate::error::{Error, Result};

/// A running engine, until it is closed or collected.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Engine {
    native: Mutex<Option<Native>>,
    facts: Facts,
}

/// What stays readable after the end.
struct Facts {
    base_url: String,
    relay_url: String,
    api_key: Option<String>,
    org_id: Option<String>,
    record: Option<PathBuf>,
    state: PathBuf,
}

/// Changes of the development configuration.
struct Dev {
    state: PathBuf,
    /// Of the API (TCP) and the relay (UDP); 0 takes a free one.
    ports: (u16, u16),
    clip: Option<PathBuf>,
    record: Option<PathBuf>,
    ring_ms: Option<i64>,
}

#[pymethods]
impl Engine {
    /// `path` of a file, or `toml` text whose relative paths start in `state`, or neither: the development engine in `state`.
    #[new]
    #[pyo3(signature = (path, toml, state, ports, clip, record, ring_ms))]
    #[allow(clippy::too_many_arguments)] // One per argument of the public class.
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        toml: Option<&str>,
        state: PathBuf,
        ports: (i64, i64),
        clip: Option<PathBuf>,
        record: Option<PathBuf>,
        ring_ms: Option<i64>,
    ) -> PyResult<Self> {
        carried(py)?;
        let ports = port("port", ports.0).and_then(|api| Ok((api, port("relay_port", ports.1)?)));
        let ports = ports.map_err(|error| raise(py, error))?;
        let dev = Dev { state, ports, clip, record, ring_ms };
        py.detach(|| Self::start(path.as_deref(), toml, dev)).map_err(|error| raise(py, error))
    }

    /// Reads the files of keys, revocations and the certificate of its own relay again.
    fn reload(&self, py: Python<'_>) {
        py.detach(|| {
            if let Some(engine) = self.native.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                engine.reload();
            }
        });
    }

    #[getter]
    fn base_url(&self) -> &str {
        &self.facts.base_url
    }

    #[getter]
    fn relay_url(&self) -> &str {
        &self.facts.relay_url
    }

    #[getter]
    fn api_key(&self) -> Option<&str> {
        self.facts.api_key.as_deref()
    }

    #[getter]
    fn org_id(&self) -> Option<&str> {
        self.facts.org_id.as_deref()
    }

    /// Where the simulated phone puts what it hears.
    #[getter]
    fn phone_record_dir(&self) -> Option<&Path> {
        self.facts.record.as_deref()
    }

    #[getter]
    fn state(&self) -> &Path {
        &self.facts.state
    }

    #[getter]
    fn closed(&self) -> bool {
        self.native.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Ends every call and everything that was started. Twice is once.
    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            let native = self.native.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(native);
        });
    }
}

impl Engine {
    fn start(path: Option<&Path>, toml: Option<&str>, dev: Dev) -> Result<Self> {
        let config = match (path, toml) {
            (Some(path), _) => Config::load(path).map_err(Error::config)?,
            (None, Some(text)) => Config::from_toml(text, &dev.state, std::env::vars()).map_err(Error::config)?,
            (None, None) => dev.config()?,
        };
        let native = Native::start(config).map_err(Error::config)?;
        let facts = Facts {
            base_url: native.base_url().to_owned(),
            relay_url: native.relay_url().to_owned(),
            api_key: native.api_key().map(str::to_owned),
            org_id: native.org_id().map(str::to_owned),
            record: native.phone_record_dir().map(Path::to_owned),
            state: native.state().to_owned(),
        };
        Ok(Self { native: Mutex::new(Some(native)), facts })
    }
}

impl Dev {
    fn config(self) -> Result<Config> {
        let mut config = Config::dev(self.state);
        config.api.listen.set_port(self.ports.0);
        config.relay.listen.set_port(self.ports.1);
        config.phone.clip = self.clip;
        config.phone.record = self.record;
        if let Some(ring_ms) = self.ring_ms {
            config.phone.ring = Some(Duration::from_millis(whole("ring_ms", ring_ms)?.into()));
        }
        Ok(config)
    }
}

fn port(field: &str, value: i64) -> Result<u16> {
    u16::try_from(value).map_err(|_| Error::value(format!("{field} is {value}: choose 0 to 65535")))
}

/// A `clutchcall.toml` with every key.
#[pyfunction]
pub(super) fn example_config() -> &'static str {
    EXAMPLE
}
