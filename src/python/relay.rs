//! `Relay`: a relay by itself; and the keys and certificates that one prepares for engines and relays.

use std::path::PathBuf;
use std::sync::Mutex;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::errors::raise;
use crate::engine;
use crate::error::Error;
use crate::net::tls::{self, Identity};
use crate::relay::{Config, Server};
use crate::token::{KeySet, PublicKey};

/// A MoQT relay with a UDP port of its own. It runs until `shutdown`.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Relay {
    server: Mutex<Option<Server>>,
    address: std::net::SocketAddr,
    certificate_hash: String,
}

#[pymethods]
impl Relay {
    /// `listen`: host address and port. `public_keys`: of those who mint tokens. `certificate`: PEM files of chain and key, or
    /// `None` for a self-minted one. `state`: folder for the QUIC keys and a self-minted certificate.
    #[new]
    #[pyo3(signature = (listen, public_keys, certificate, state))]
    fn new(
        py: Python<'_>,
        listen: &str,
        public_keys: Vec<String>,
        certificate: Option<(PathBuf, PathBuf)>,
        state: PathBuf,
    ) -> PyResult<Self> {
        let listen = listen.parse().map_err(|_| {
            PyValueError::new_err(format!("listen is {listen:?}: give an address and a port, such as 127.0.0.1:4433"))
        })?;
        let keys = public_keys.iter().map(|text| text.parse::<PublicKey>()).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|error| PyValueError::new_err(format!("public_keys: {error}")))?;
        let start = || {
            let identity = match certificate {
                Some((chain, key)) => Identity::from_pem(&chain, &key, &state)?,
                None => Identity::loopback(&state)?,
            };
            let hash = identity.certificate_hash().iter().map(|byte| format!("{byte:02x}")).collect();
            Ok((Server::start(Config::new(listen, identity, KeySet::from_iter(keys)))?, hash))
        };
        let started: Result<_, String> = py.detach(start);
        let (server, certificate_hash) = started.map_err(|text| raise(py, Error::config(text)))?;
        let address = server.address();
        Ok(Self { server: Mutex::new(Some(server)), address, certificate_hash })
    }

    /// Host address and port that it is bound to.
    #[getter]
    fn address(&self) -> String {
        self.address.to_string()
    }

    /// SHA-256 of the certificate, hexadecimal.
    #[getter]
    fn certificate_hash(&self) -> &str {
        &self.certificate_hash
    }

    /// Name and value of every counter.
    fn counters(&self, py: Python<'_>) -> Vec<(&'static str, u64)> {
        let counters = py.detach(|| self.server.lock().ok().and_then(|server| server.as_ref().map(Server::counters)));
        let Some(c) = counters else { return Vec::new() };
        vec![
            ("sessions", c.sessions as u64),
            ("tracks", c.tracks as u64),
            ("subscriptions", c.subscriptions as u64),
            ("namespaces", c.namespaces as u64),
            ("objects_in", c.objects_in),
            ("objects_out", c.objects_out),
            ("bytes_out", c.bytes_out),
            ("duplicates", c.duplicates),
            ("unauthorized", c.unauthorized),
            ("excessive", c.excessive),
            ("unanswered", c.unanswered),
            ("too_far_behind", c.too_far_behind),
            ("superseded", c.superseded),
        ]
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

/// Whole days until the leaf of this PEM chain runs out; negative: since.
#[pyfunction]
pub(super) fn certificate_days(py: Python<'_>, chain: PathBuf) -> PyResult<i64> {
    py.detach(|| tls::days_left(&chain)).map_err(|text| raise(py, Error::config(text)))
}
