//! `_core.Client`: the procedures of the control plane, and bridges.

use std::time::Duration;

use pyo3::prelude::*;

use super::bridge::Bridge;
use super::cancel::waiting;
use super::delivery;
use super::errors::raise;
use super::row::Row;
use crate::call::wire::BridgeRole;
use crate::client::{
    Arguments, BridgeSpec, Client as Native, List, Options, Originate, Transfer, bridge, status as named_status,
};
use crate::error::{Error, Result};

/// One user of a control plane.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Client(Native);

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (base_url, api_key, org_id, relay_host, pool, drafts, timeout, connect_timeout, max_retries))]
    #[allow(clippy::too_many_arguments)] // One per setting of the public class.
    fn new(
        py: Python<'_>,
        base_url: Option<String>,
        api_key: Option<String>,
        org_id: Option<String>,
        relay_host: Option<String>,
        pool: Option<i64>,
        drafts: Vec<String>,
        timeout: f64,
        connect_timeout: f64,
        max_retries: i64,
    ) -> PyResult<Self> {
        delivery::watch_process(py)?;
        let max_retries = whole("max_retries", max_retries).map_err(|error| raise(py, error))?;
        let pool = pool.map(|pool| whole("pool", pool)).transpose().map_err(|error| raise(py, error))?;
        let arguments = Arguments {
            base_url,
            api_key,
            org_id,
            relay_host,
            pool,
            drafts,
            timeout_s: Some(timeout),
            connect_timeout_s: Some(connect_timeout),
            max_retries: Some(max_retries),
        };
        let made = py.detach(|| Native::new(Options::find(arguments)?));
        made.map(Self).map_err(|error| raise(py, error))
    }

    #[getter]
    fn base_url(&self) -> &str {
        self.0.options().base_url.as_str().trim_end_matches('/')
    }

    #[getter]
    fn org_id(&self) -> &str {
        &self.0.options().org_id
    }

    #[getter]
    fn relay_host(&self) -> Option<&str> {
        self.0.options().relay_host.as_deref()
    }

    #[pyo3(signature = (to, from_, trunk_id, agent, ring_timeout_sec, idempotency_key))]
    #[allow(clippy::too_many_arguments)] // One per argument of the public method.
    fn originate(
        &self,
        py: Python<'_>,
        to: String,
        from_: String,
        trunk_id: String,
        agent: Option<String>,
        ring_timeout_sec: Option<f64>,
        idempotency_key: Option<String>,
    ) -> PyResult<Row> {
        let call = Originate { to, from: from_, trunk_id, agent, ring_timeout_s: ring_timeout_sec, idempotency_key };
        waiting(py, |cancel| self.0.originate(call, cancel)).map(Row::from)
    }

    fn call(&self, py: Python<'_>, sid: &str) -> PyResult<Row> {
        waiting(py, |cancel| self.0.call(sid, cancel)).map(Row::from)
    }

    /// One page of calls, newest first, and the cursor of the next.
    #[pyo3(signature = (status, limit, cursor))]
    fn list(
        &self,
        py: Python<'_>,
        status: Option<&str>,
        limit: i64,
        cursor: Option<String>,
    ) -> PyResult<(Vec<Row>, Option<String>)> {
        let list = || -> Result<List> {
            let status = status.map(named_status).transpose()?;
            Ok(List { org_id: String::new(), status, limit: whole("limit", limit)?, cursor })
        };
        let list = list().map_err(|error| raise(py, error))?;
        let page = waiting(py, |cancel| self.0.list(list, cancel))?;
        Ok((page.calls.into_iter().map(Row::from).collect(), page.cursor))
    }

    #[pyo3(signature = (sid, to, agent))]
    fn transfer(&self, py: Python<'_>, sid: &str, to: Option<String>, agent: Option<String>) -> PyResult<()> {
        waiting(py, |cancel| self.0.transfer(sid, Transfer { to, agent }, cancel))
    }

    fn hangup(&self, py: Python<'_>, sid: &str) -> PyResult<()> {
        waiting(py, |cancel| self.0.hangup(sid, cancel))
    }

    fn attach_agent(&self, py: Python<'_>, sid: &str, agent: &str) -> PyResult<()> {
        waiting(py, |cancel| self.0.attach_agent(sid, agent, cancel))
    }

    /// `None`: the time is over.
    #[pyo3(signature = (sid, statuses, timeout))]
    fn wait(&self, py: Python<'_>, sid: &str, statuses: Vec<String>, timeout: Option<f64>) -> PyResult<Option<Row>> {
        let limit = timeout.map(|timeout| seconds("timeout", timeout)).transpose().map_err(|error| raise(py, error))?;
        let until: Result<Vec<_>> = statuses.iter().map(|name| named_status(name)).collect();
        let until = until.map_err(|error| raise(py, error))?;
        Ok(waiting(py, |cancel| self.0.wait(sid, until, limit, cancel))?.map(Row::from))
    }

    /// `role` is "server" or "caller"; `sample_rate` absent: the codec's usual one.
    #[pyo3(signature = (sid, role, on_frame, codec, sample_rate, channels, frame_ms, delivery))]
    #[allow(clippy::too_many_arguments)] // One per argument of the public method.
    fn attach(
        &self,
        py: Python<'_>,
        sid: &str,
        role: &str,
        on_frame: Py<PyAny>,
        codec: &str,
        sample_rate: Option<i64>,
        channels: i64,
        frame_ms: i64,
        delivery: &str,
    ) -> PyResult<Bridge> {
        let spec = || -> Result<BridgeSpec> {
            let sample_rate = sample_rate.map(|rate| whole("sample_rate", rate)).transpose()?;
            let (channels, frame_ms) = (whole("channels", channels)?, whole("frame_ms", frame_ms)?);
            Ok(BridgeSpec {
                sid: sid.to_owned(),
                role: if role == "caller" { BridgeRole::Caller } else { BridgeRole::Server },
                params: bridge::params(codec, sample_rate, channels, frame_ms)?,
                delivery: bridge::delivery(delivery)?,
                clock: crate::client::Clock::process(),
            })
        };
        let mut spec = spec().map_err(|error| raise(py, error))?;
        spec.clock = delivery::clock(py)?;
        Bridge::attach(py, &self.0, spec, on_frame)
    }
}

/// Python's whole numbers have no end, ours have: what does not fit is no choice of any field.
pub(super) fn whole(field: &str, value: i64) -> Result<u32> {
    u32::try_from(value)
        .map_err(|_| Error::value(format!("{field} is {value}: give a whole number that is not negative")))
}

fn seconds(field: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| Error::value(format!("{field} is {value}: give seconds, 0 or more, or None for no limit")))
}
