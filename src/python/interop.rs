//! `_core.interop`: one case of the interop client against anybody's relay.

use pyo3::prelude::*;

use super::cancel::waiting;
use crate::client::interop::{Connect, End, names, run};
use crate::moqt::Draft;
use crate::net::shown::shown;

/// How a case went.
#[pyclass(frozen, get_all, module = "clutchcall._core")]
pub(super) struct InteropReport {
    /// `passed`, `failed`, `skipped` or `unreachable`.
    verdict: &'static str,
    /// What was heard, or why there was nobody.
    message: String,
    expected: Option<String>,
    received: Option<String>,
    duration_ms: u64,
    /// Role, transport, version and connection ID of each session.
    sessions: Vec<(&'static str, &'static str, &'static str, String)>,
}

/// The names of the cases, in the order in which they are run.
#[pyfunction]
pub(super) fn interop_cases() -> Vec<&'static str> {
    names().collect()
}

/// Numbers of the drafts that are advertised, the preferred one first.
#[pyfunction]
pub(super) fn drafts() -> Vec<&'static str> {
    Draft::ADVERTISED.iter().map(|draft| draft.alpn().trim_start_matches("moqt-")).collect()
}

/// A URL as messages may show it: without user, password and query.
#[pyfunction]
pub(super) fn shown_url(url: &str) -> String {
    shown(url)
}

/// Plays one case on the calling thread.
#[pyfunction]
pub(super) fn interop(
    py: Python<'_>,
    name: String,
    url: String,
    token: Option<String>,
    prefix: Vec<Vec<u8>>,
    insecure: bool,
    drafts: Vec<String>,
) -> PyResult<InteropReport> {
    let connect = Connect { url, token, prefix, drafts, insecure };
    let report = waiting(py, |cancel| run(&name, &connect, cancel))?;
    let (verdict, message, expected, received) = match report.end {
        End::Passed(message) => ("passed", message, None, None),
        End::Skipped(message) => ("skipped", message, None, None),
        End::Unreachable(message) => ("unreachable", message, None, None),
        End::Failed { expected, received } => {
            ("failed", format!("expected {expected}; received {received}"), Some(expected), Some(received))
        }
    };
    let sessions =
        report.met.into_iter().map(|met| (met.role, met.transport, met.version, met.connection_id)).collect();
    let duration_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
    Ok(InteropReport { verdict, message, expected, received, duration_ms, sessions })
}
