//! `_core.Client`: the procedures of the control plane, and bridges.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use serde_json::Value;

use super::bridge::{self as face, Bridge};
use super::cancel::asking;
use super::delivery::{self, Consumer, Delivery, Purpose, Slot, Sort};
use super::errors::raise;
use super::frame::Agent;
use super::later::{self, Begun, later};
use super::number::whole;
use super::post::Post;
use super::row::Row;
use super::taker::Taker;
use crate::call::Status;
use crate::client::events::RING_ROWS;
use crate::client::{
    self, Arguments, Client as Native, List, Options, Page, Transfer, Underway, status as named_status,
};
use crate::error::{Error, Result};

mod asked;

pub(super) use asked::{Attaching, Placing};

/// One user of a control plane. A method that ends in `_later` begins the work and returns; what its twin returns becomes the
/// result of `future`, on the loop of `post`.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Client(Native);

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (base_url, api_key, org_id, relay_host, profile, pool, drafts, timeout, connect_timeout, max_retries, ca_file))]
    #[allow(clippy::too_many_arguments)] // One per setting of the public class.
    fn new(
        py: Python<'_>,
        base_url: Option<String>,
        api_key: Option<String>,
        org_id: Option<String>,
        relay_host: Option<String>,
        profile: Option<String>,
        pool: Option<i64>,
        drafts: Vec<String>,
        timeout: f64,
        connect_timeout: f64,
        max_retries: i64,
        ca_file: Option<String>,
    ) -> PyResult<Self> {
        delivery::watch_process(py)?;
        let max_retries = whole("max_retries", max_retries).map_err(|error| raise(py, error))?;
        let pool = pool.map(|pool| whole("pool", pool)).transpose().map_err(|error| raise(py, error))?;
        let arguments = Arguments {
            base_url,
            api_key,
            org_id,
            relay_host,
            profile,
            pool,
            drafts,
            timeout_s: Some(timeout),
            connect_timeout_s: Some(connect_timeout),
            max_retries: Some(max_retries),
            ca_file,
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

    fn originate(&self, py: Python<'_>, placing: &Placing) -> PyResult<Row> {
        asking(py, |cancel| self.0.originate(placing.0.clone(), cancel)).map(|placed| Row::from(placed.claim()))
    }

    fn originate_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        placing: &Placing,
    ) -> PyResult<Begun> {
        later::placed(py, self.0.runtime(), (post, future), |told| self.0.originate(placing.0.clone(), told))
    }

    fn call(&self, py: Python<'_>, sid: &str) -> PyResult<Row> {
        asking(py, |cancel| self.0.call(sid, cancel)).map(Row::from)
    }

    fn call_later(&self, py: Python<'_>, post: Py<Post>, future: Bound<'_, PyAny>, sid: &str) -> PyResult<Begun> {
        later(py, self.0.runtime(), (post, future), |told| self.0.call(sid, told), later::row)
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
        let list = listed(status, limit, cursor).map_err(|error| raise(py, error))?;
        asking(py, |cancel| self.0.list(list, cancel)).map(rows)
    }

    #[pyo3(signature = (post, future, status, limit, cursor))]
    fn list_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        status: Option<&str>,
        limit: i64,
        cursor: Option<String>,
    ) -> PyResult<Begun> {
        let list = listed(status, limit, cursor).map_err(|error| raise(py, error))?;
        let hand = |py: Python<'_>, page: Result<Page>| {
            let page = rows(page.map_err(|error| raise(py, error))?);
            Ok(page.into_pyobject(py)?.into_any().unbind())
        };
        later(py, self.0.runtime(), (post, future), |told| self.0.list(list, told), hand)
    }

    #[pyo3(signature = (sid, to, agent))]
    fn transfer(&self, py: Python<'_>, sid: &str, to: Option<String>, agent: Option<String>) -> PyResult<()> {
        asking(py, |cancel| self.0.transfer(sid, Transfer { to, agent }, cancel))
    }

    #[pyo3(signature = (post, future, sid, to, agent))]
    fn transfer_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        sid: &str,
        to: Option<String>,
        agent: Option<String>,
    ) -> PyResult<Begun> {
        let transfer = Transfer { to, agent };
        later(py, self.0.runtime(), (post, future), |told| self.0.transfer(sid, transfer, told), later::nothing)
    }

    fn hangup(&self, py: Python<'_>, sid: &str) -> PyResult<()> {
        asking(py, |cancel| self.0.hangup(sid, cancel))
    }

    fn hangup_later(&self, py: Python<'_>, post: Py<Post>, future: Bound<'_, PyAny>, sid: &str) -> PyResult<Begun> {
        later(py, self.0.runtime(), (post, future), |told| self.0.hangup(sid, told), later::nothing)
    }

    #[pyo3(signature = (sid, agent))]
    fn answer(&self, py: Python<'_>, sid: &str, agent: Option<String>) -> PyResult<()> {
        asking(py, |cancel| self.0.answer(sid, agent, cancel))
    }

    #[pyo3(signature = (post, future, sid, agent))]
    fn answer_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        sid: &str,
        agent: Option<String>,
    ) -> PyResult<Begun> {
        later(py, self.0.runtime(), (post, future), |told| self.0.answer(sid, agent, told), later::nothing)
    }

    fn reject(&self, py: Python<'_>, sid: &str, reason: &str) -> PyResult<()> {
        asking(py, |cancel| self.0.reject(sid, reason, cancel))
    }

    fn reject_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        sid: &str,
        reason: &str,
    ) -> PyResult<Begun> {
        later(py, self.0.runtime(), (post, future), |told| self.0.reject(sid, reason, told), later::nothing)
    }

    fn send_dtmf(&self, py: Python<'_>, sid: &str, digits: &str, duration_ms: i64) -> PyResult<()> {
        let duration_ms = whole("duration_ms", duration_ms).map_err(|error| raise(py, error))?;
        asking(py, |cancel| self.0.send_dtmf(sid, digits, duration_ms, cancel))
    }

    fn send_dtmf_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        sid: &str,
        digits: &str,
        duration_ms: i64,
    ) -> PyResult<Begun> {
        let duration_ms = whole("duration_ms", duration_ms).map_err(|error| raise(py, error))?;
        let work = |told| self.0.send_dtmf(sid, digits, duration_ms, told);
        later(py, self.0.runtime(), (post, future), work, later::nothing)
    }

    fn attach_agent(&self, py: Python<'_>, sid: &str, agent: &str) -> PyResult<()> {
        asking(py, |cancel| self.0.attach_agent(sid, agent, cancel))
    }

    fn attach_agent_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        sid: &str,
        agent: &str,
    ) -> PyResult<Begun> {
        later(py, self.0.runtime(), (post, future), |told| self.0.attach_agent(sid, agent, told), later::nothing)
    }

    fn agents(&self, py: Python<'_>) -> PyResult<Vec<Agent>> {
        asking(py, |cancel| self.0.agents(cancel)).map(agents)
    }

    fn agents_later(&self, py: Python<'_>, post: Py<Post>, future: Bound<'_, PyAny>) -> PyResult<Begun> {
        let hand = |py: Python<'_>, found: Result<Vec<client::Agent>>| {
            let found = agents(found.map_err(|error| raise(py, error))?);
            Ok(found.into_pyobject(py)?.into_any().unbind())
        };
        later(py, self.0.runtime(), (post, future), |told| self.0.agents(told), hand)
    }

    /// A list as JSON.
    fn trunks(&self, py: Python<'_>) -> PyResult<String> {
        asking(py, |cancel| self.0.trunks(cancel)).map(|found| Value::Array(found).to_string())
    }

    /// An object as JSON.
    fn test_trunk(&self, py: Python<'_>, trunk_id: &str) -> PyResult<String> {
        asking(py, |cancel| self.0.test_trunk(trunk_id, cancel)).map(|found| found.to_string())
    }

    fn test_trunk_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        trunk_id: &str,
    ) -> PyResult<Begun> {
        later(py, self.0.runtime(), (post, future), |told| self.0.test_trunk(trunk_id, told), json)
    }

    fn trunks_later(&self, py: Python<'_>, post: Py<Post>, future: Bound<'_, PyAny>) -> PyResult<Begun> {
        let hand = |py: Python<'_>, found: Result<Vec<Value>>| json(py, found.map(Value::Array));
        later(py, self.0.runtime(), (post, future), |told| self.0.trunks(told), hand)
    }

    /// `None`: the time is over.
    #[pyo3(signature = (sid, statuses, timeout))]
    fn wait(&self, py: Python<'_>, sid: &str, statuses: Vec<String>, timeout: Option<f64>) -> PyResult<Option<Row>> {
        let (until, limit) = awaited(&statuses, timeout).map_err(|error| raise(py, error))?;
        Ok(asking(py, |cancel| self.0.wait(sid, until, limit, cancel))?.map(Row::from))
    }

    #[pyo3(signature = (post, future, sid, statuses, timeout))]
    fn wait_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        sid: &str,
        statuses: Vec<String>,
        timeout: Option<f64>,
    ) -> PyResult<Begun> {
        let (until, limit) = awaited(&statuses, timeout).map_err(|error| raise(py, error))?;
        let hand = |py: Python<'_>, row: Result<Option<crate::call::CallRow>>| match row.transpose() {
            Some(row) => later::row(py, row),
            None => Ok(py.None()),
        };
        later(py, self.0.runtime(), (post, future), |told| self.0.wait(sid, until, limit, told), hand)
    }

    /// Takes the rows of a call whenever its status has changed, that of now first.
    fn events(&self, py: Python<'_>, sid: &str) -> PyResult<Taker> {
        let delivery = Delivery::of(py, self.0.runtime())?;
        let (ring, receiver) = self.0.runtime().delivery().ring(RING_ROWS);
        let slot = delivery.register(receiver, None, Purpose::new(format!("events of call {sid}"), Sort::Frames));
        let underway = self.0.follow(sid, ring).map_err(|error| {
            delivery.forget(py, &slot);
            raise(py, error)
        })?;
        Ok(Taker::new(py, &delivery, &slot, Some(underway)))
    }

    /// `callback` is given these rows; until the call is over, or the watch is closed.
    fn watch(&self, py: Python<'_>, sid: &str, callback: Py<PyAny>) -> PyResult<Watch> {
        let delivery = Delivery::of(py, self.0.runtime())?;
        let (ring, receiver) = self.0.runtime().delivery().ring(RING_ROWS);
        let purpose = Purpose::new(format!("statuses of call {sid}"), Sort::Frames);
        let slot = delivery.register(receiver, Some(Consumer::Each(callback)), purpose);
        match self.0.follow(sid, ring) {
            Ok(underway) => Ok(Watch { underway, slot, delivery }),
            Err(error) => {
                delivery.forget(py, &slot);
                Err(raise(py, error))
            }
        }
    }

    /// `on_frame` absent: somebody takes the frames.
    #[pyo3(signature = (attaching, on_frame, batch))]
    fn attach(
        &self,
        py: Python<'_>,
        attaching: &Attaching,
        on_frame: Option<Py<PyAny>>,
        batch: bool,
    ) -> PyResult<Bridge> {
        Bridge::attach(py, &self.0, attaching.0.clone(), face::consumer(on_frame, batch))
    }

    #[pyo3(signature = (post, future, attaching, on_frame, batch))]
    fn attach_later(
        &self,
        py: Python<'_>,
        post: Py<Post>,
        future: Bound<'_, PyAny>,
        attaching: &Attaching,
        on_frame: Option<Py<PyAny>>,
        batch: bool,
    ) -> PyResult<Begun> {
        Bridge::attach_later(py, &self.0, (post, future), attaching.0.clone(), face::consumer(on_frame, batch))
    }
}

/// Somebody is told of a call.
#[pyclass(frozen, module = "clutchcall._core")]
pub(super) struct Watch {
    underway: Underway,
    slot: Arc<Slot>,
    delivery: Arc<Delivery>,
}

#[pymethods]
impl Watch {
    /// He is told no more. Twice is once.
    fn close(&self, py: Python<'_>) {
        self.underway.abandon();
        self.delivery.forget(py, &self.slot);
    }
}

fn listed(status: Option<&str>, limit: i64, cursor: Option<String>) -> Result<List> {
    let status = status.map(named_status).transpose()?;
    Ok(List { org_id: String::new(), status, limit: whole("limit", limit)?, cursor })
}

fn agents(found: Vec<client::Agent>) -> Vec<Agent> {
    found.into_iter().map(|client::Agent { id, kind }| Agent { id, kind }).collect()
}

fn json(py: Python<'_>, found: Result<Value>) -> PyResult<Py<PyAny>> {
    let found = found.map_err(|error| raise(py, error))?.to_string();
    Ok(found.into_pyobject(py)?.into_any().unbind())
}

fn rows(page: Page) -> (Vec<Row>, Option<String>) {
    (page.calls.into_iter().map(Row::from).collect(), page.cursor)
}

fn awaited(statuses: &[String], timeout: Option<f64>) -> Result<(Vec<Status>, Option<Duration>)> {
    let until: Result<Vec<_>> = statuses.iter().map(|name| named_status(name)).collect();
    Ok((until?, timeout.map(|timeout| seconds("timeout", timeout)).transpose()?))
}

fn seconds(field: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| Error::value(format!("{field} is {value}: give seconds, 0 or more, or None for no limit")))
}
