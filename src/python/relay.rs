//! `Relay`: a relay by itself; and the keys and certificates that one prepares for engines and relays.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use super::errors::raise;
use super::logs::carried;
use crate::call::stamp::iso8601;
use crate::engine;
use crate::engine::config::{Alone, keyfile};
use crate::error::Error;
use crate::net::tls::{self, Identity};
use crate::relay::Server;

/// A MoQT relay with a UDP port of its own. It runs until `shutdown`.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Relay {
    server: Mutex<Option<Server>>,
    facts: Facts,
}

/// What stays readable after the end.
struct Facts {
    addresses: Vec<SocketAddr>,
    metrics: Option<SocketAddr>,
    identity: Identity,
}

#[pymethods]
impl Relay {
    /// `toml`: what `clutchcall.relay.Relay` was told. `state`: folder for the QUIC keys and a self-minted certificate; relative
    /// paths start there.
    #[new]
    #[pyo3(signature = (toml, state))]
    fn new(py: Python<'_>, toml: &str, state: PathBuf) -> PyResult<Self> {
        carried(py)?;
        let told = Alone::from_toml(toml, &state).map_err(|text| raise(py, Error::value(text)))?;
        let start = || {
            let identity = match &told.certificate {
                Some((chain, key)) => Identity::from_pem(chain, key, &state)?,
                None => Identity::loopback(&state)?,
            };
            let config = told.into_config(identity.clone())?;
            Ok((Server::start(config)?, identity))
        };
        let started: Result<_, String> = py.detach(start);
        let (server, identity) = started.map_err(|text| raise(py, Error::config(text)))?;
        let facts = Facts { addresses: server.addresses(), metrics: server.metrics_address(), identity };
        Ok(Self { server: Mutex::new(Some(server)), facts })
    }

    /// Host address and port that it is bound to.
    #[getter]
    fn address(&self) -> String {
        self.facts.addresses.first().map(SocketAddr::to_string).unwrap_or_default()
    }

    /// Those of all shards.
    #[getter]
    fn addresses(&self) -> Vec<String> {
        self.facts.addresses.iter().map(SocketAddr::to_string).collect()
    }

    /// Where `/healthz` and `/metrics` are answered.
    #[getter]
    fn metrics_address(&self) -> Option<String> {
        self.facts.metrics.map(|address| address.to_string())
    }

    /// SHA-256 of the certificate that is shown now, hexadecimal.
    #[getter]
    fn certificate_hash(&self) -> String {
        self.facts.identity.certificate_hash().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Name and value of every counter.
    fn counters(&self, py: Python<'_>) -> Vec<(&'static str, u64)> {
        let figures = py.detach(|| self.server.lock().ok().and_then(|server| server.as_ref().map(Server::figures)));
        let Some(figures) = figures else { return Vec::new() };
        figures.rows().into_iter().map(|row| (row.name, row.value)).collect()
    }

    /// Sends every session away; it has so many seconds to go. Returns at once.
    fn drain(&self, py: Python<'_>, seconds: f64, to: &str) {
        let timeout = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        py.detach(|| {
            if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                server.drain_to(to, timeout);
            }
        });
    }

    /// Reads the files of keys, revocations and the certificate again.
    fn reload(&self, py: Python<'_>) {
        py.detach(|| {
            if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                server.reload();
            }
        });
    }

    /// Closes every session and ends the threads. Twice is once.
    fn shutdown(&self, py: Python<'_>) {
        py.detach(|| {
            let server = self.server.lock().ok().and_then(|mut server| server.take());
            drop(server);
        });
    }
}

/// The public half of the key that an engine with this state folder signs its tokens with; made if there is none.
#[pyfunction]
pub(super) fn public_key(py: Python<'_>, state: PathBuf) -> PyResult<String> {
    let key = py.detach(|| engine::public_key(&state));
    key.map(|key| key.to_string()).map_err(|text| raise(py, Error::config(text)))
}

/// A fresh API key of this organisation: its text, which is shown once, and the hash that a configuration file keeps.
#[pyfunction]
pub(super) fn mint_key(org: &str) -> (String, String) {
    let (key, text) = engine::config::mint(org, &["voice:*"]);
    (text, key.hash())
}

/// What `list_keys` tells of a key.
type KeyEntry = (String, String, Vec<String>, Option<String>, Option<String>);

/// Adds an API key to a key file: its id, and its text, which is shown once. No scopes: all of them.
#[pyfunction]
#[pyo3(signature = (file, org, scopes, name, now_ms))]
pub(super) fn create_key(
    py: Python<'_>,
    file: PathBuf,
    org: String,
    scopes: Vec<String>,
    name: Option<String>,
    now_ms: u64,
) -> PyResult<(String, String)> {
    let wanted = keyfile::Wanted { org, scopes, name, created: iso8601(now_ms) };
    let made = py.detach(|| keyfile::create(&file, wanted)).map_err(|text| raise(py, Error::config(text)))?;
    Ok((made.0.key.id(), made.1))
}

/// The keys of a key file: id, organisation, scopes, name, when it was made. No file: none.
#[pyfunction]
pub(super) fn list_keys(py: Python<'_>, file: PathBuf) -> PyResult<Vec<KeyEntry>> {
    let read = py.detach(|| keyfile::read(&file)).map_err(|text| raise(py, Error::config(text)))?;
    let shown = |entry: keyfile::Entry| {
        let id = entry.key.id();
        (id, entry.key.org, entry.key.scopes, entry.name, entry.created)
    };
    Ok(read.unwrap_or_default().into_iter().map(shown).collect())
}

/// Takes a key out of a key file by its id; whose it was.
#[pyfunction]
pub(super) fn revoke_key(py: Python<'_>, file: PathBuf, id: &str) -> PyResult<String> {
    let revoked = py.detach(|| keyfile::revoke(&file, id)).map_err(|text| raise(py, Error::config(text)))?;
    Ok(revoked.key.org)
}

/// Whole days until the leaf of this PEM chain runs out; negative: since.
#[pyfunction]
pub(super) fn certificate_days(py: Python<'_>, chain: PathBuf) -> PyResult<i64> {
    py.detach(|| tls::days_left(&chain)).map_err(|text| raise(py, Error::config(text)))
}
