//! The procedures of the control plane, and one [`Client`] that asks them.
//!
//! Every argument is checked before anything is sent. Numbers that the server clamps are sent as they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::{Ask, Http, random_id};
use super::options::Options;
use super::runtime::Runtime;
use super::waits::Waits;
use crate::call::record::{Metadata, check_metadata};
use crate::call::wire::{TokenAnswer, TokenRequest};
use crate::call::{CallRow, DEFAULT_RING_TIMEOUT_S, Status};
use crate::error::{Error, Kind, Result};

/// Longest text of an argument.
const MAX_TEXT: usize = 512;
/// Longest `Idempotency-Key`.
const MAX_KEY: usize = 255;
/// Calls of one page.
const MAX_PAGE: u32 = 500;
/// [`Client::wait`] asks at this pace first, and at [`POLL_CAP`] after a while.
const POLL_STEP: Duration = Duration::from_millis(50);
const POLL_CAP: Duration = Duration::from_millis(500);

/// One user of a control plane. Cheap to clone; clones share connections and threads.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(super) struct Inner {
    pub(super) options: Options,
    pub(super) http: Http,
    pub(super) runtime: Arc<Runtime>,
}

/// Arguments of [`Client::originate`].
#[derive(Clone, Debug, Default)]
pub struct Originate {
    pub to: String,
    pub from: String,
    pub trunk_id: String,
    pub agent: Option<String>,
    /// Seconds; the server clamps to 5..=120.
    pub ring_timeout_s: Option<f64>,
    pub metadata: Metadata,
    /// Absent: one is drawn, so that a retry never dials twice.
    pub idempotency_key: Option<String>,
}

/// Where a call goes: exactly one of both.
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    pub to: Option<String>,
    pub agent: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OriginateInput<'a> {
    org_id: &'a str,
    to: &'a str,
    from: &'a str,
    trunk_id: &'a str,
    agent: Option<&'a str>,
    ring_timeout_sec: Value,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: &'a Metadata,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SidInput<'a> {
    org_id: &'a str,
    sid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
}

/// Which calls [`Client::list`] is asked for, newest first.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    pub org_id: String,
    pub status: Option<Status>,
    pub limit: u32,
    /// [`Page::cursor`] of the page before.
    pub cursor: Option<String>,
}

/// A part of an organisation's calls.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    pub calls: Vec<CallRow>,
    /// For the next page; absent at the end.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Client {
    /// Starts nothing yet.
    pub fn new(options: Options) -> Result<Self> {
        let http = Http::new(&options)?;
        Ok(Self(Arc::new(Inner { options, http, runtime: Runtime::shared() })))
    }

    pub fn options(&self) -> &Options {
        &self.0.options
    }

    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.0.runtime
    }

    /// Places a call; returns once it is `dialing`.
    pub fn originate<W: Waits<CallRow>>(&self, call: Originate, waits: W) -> Result<W::Outcome> {
        for (field, value) in [("to", &call.to), ("from_", &call.from), ("trunk_id", &call.trunk_id)] {
            text(field, value)?;
        }
        if let Some(agent) = &call.agent {
            text("agent", agent)?;
        }
        let key = call.idempotency_key.clone().unwrap_or_else(random_id);
        text("idempotency_key", &key)?;
        if key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::value(format!("idempotency_key: use 1 to {MAX_KEY} visible ASCII characters")));
        }
        check_metadata(&call.metadata).map_err(Error::value)?;
        let ring_timeout_sec = call.ring_timeout_s.unwrap_or(f64::from(DEFAULT_RING_TIMEOUT_S));
        if !ring_timeout_sec.is_finite() {
            return Err(Error::value(format!(
                "ring_timeout_sec is {ring_timeout_sec}: give seconds (the server clamps them to 5..120)"
            )));
        }
        self.run(waits, |inner| async move {
            let input = OriginateInput {
                org_id: &inner.options.org_id,
                to: &call.to,
                from: &call.from,
                trunk_id: &call.trunk_id,
                agent: call.agent.as_deref(),
                ring_timeout_sec: number(ring_timeout_sec),
                metadata: &call.metadata,
            };
            inner.http.ask(Ask::Keyed(key), "voice.calls.originate", &input).await
        })
    }

    /// The call's state now.
    pub fn call<W: Waits<CallRow>>(&self, sid: &str, waits: W) -> Result<W::Outcome> {
        let sid = checked_sid(sid)?;
        self.run(waits, |inner| async move { inner.call(&sid).await })
    }

    pub fn list<W: Waits<Page>>(&self, list: List, waits: W) -> Result<W::Outcome> {
        if !(1..=MAX_PAGE).contains(&list.limit) {
            return Err(Error::value(format!("limit is {}: choose 1 to {MAX_PAGE}", list.limit)));
        }
        if let Some(cursor) = &list.cursor {
            text("cursor", cursor)?;
        }
        self.run(waits, |inner| async move {
            let list = List { org_id: inner.options.org_id.clone(), ..list };
            inner.http.ask(Ask::Query, "voice.calls.list", &list).await
        })
    }

    pub fn transfer<W: Waits<()>>(&self, sid: &str, transfer: Transfer, waits: W) -> Result<W::Outcome> {
        match (&transfer.to, &transfer.agent) {
            (Some(to), None) => text("to", to)?,
            (None, Some(agent)) => text("agent", agent)?,
            _ => return Err(Error::value("transfer takes exactly one of to and agent")),
        }
        self.mutate(Ask::Mutation, "voice.calls.transfer", sid, transfer, waits)
    }

    /// Ends the call. A call that is over already is a success, so it may be sent twice: a call that goes on costs money.
    pub fn hangup<W: Waits<()>>(&self, sid: &str, waits: W) -> Result<W::Outcome> {
        self.mutate(Ask::Keyed(random_id()), "voice.calls.hangup", sid, Transfer::default(), waits)
    }

    /// Binds an agent of the engine to a live call.
    pub fn attach_agent<W: Waits<()>>(&self, sid: &str, agent: &str, waits: W) -> Result<W::Outcome> {
        text("agent", agent)?;
        let agent = Transfer { to: None, agent: Some(agent.to_owned()) };
        self.mutate(Ask::Mutation, "voice.agents.attach", sid, agent, waits)
    }

    /// Asks until the call has one of these states. `None`: the time is over. A call that ended in another state will never
    /// come to them: that is a [`Kind::Call`] with its end reason.
    pub fn wait<W: Waits<Option<CallRow>>>(
        &self,
        sid: &str,
        until: Vec<Status>,
        limit: Option<Duration>,
        waits: W,
    ) -> Result<W::Outcome> {
        let sid = checked_sid(sid)?;
        if until.is_empty() {
            return Err(Error::value("status is empty: name at least one"));
        }
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        self.run(waits, |inner| async move {
            let mut pause = POLL_STEP;
            loop {
                let row = inner.call(&sid).await?;
                if until.contains(&row.status) {
                    return Ok(Some(row));
                }
                if row.status.is_terminal() {
                    return Err(ended_otherwise(&row, &until));
                }
                if deadline.is_some_and(|deadline| Instant::now() + pause > deadline) {
                    return Ok(None);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(POLL_CAP);
            }
        })
    }

    /// Runs a request on the control thread; `waits` says how its outcome is had.
    pub(super) fn run<T, W, F>(&self, waits: W, work: impl FnOnce(Arc<Inner>) -> F) -> Result<W::Outcome>
    where
        W: Waits<T>,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        waits.carry(self.0.runtime.control()?, work(self.0.clone()))
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    fn mutate<W: Waits<()>>(
        &self,
        ask: Ask,
        procedure: &'static str,
        sid: &str,
        to: Transfer,
        waits: W,
    ) -> Result<W::Outcome> {
        let sid = checked_sid(sid)?;
        self.run(waits, |inner| async move {
            let input =
                SidInput { org_id: &inner.options.org_id, sid: &sid, to: to.to.as_deref(), agent: to.agent.as_deref() };
            let _: Value = inner.http.ask(ask, procedure, &input).await?;
            Ok(())
        })
    }
}

impl Inner {
    pub(super) async fn call(&self, sid: &str) -> Result<CallRow> {
        let input = SidInput { org_id: &self.options.org_id, sid, to: None, agent: None };
        self.http.ask(Ask::Query, "voice.calls.get", &input).await
    }

    /// The stream of what becomes of a call, from behind the event of this number.
    pub(super) async fn events(&self, sid: &str, after: Option<&str>) -> Result<reqwest::Response> {
        let input = SidInput { org_id: &self.options.org_id, sid, to: None, agent: None };
        self.http.open("voice.calls.events", &input, after).await
    }

    /// Where the tracks of a call are, and the right to use them. A holder's repeated request replaces its earlier one, so
    /// it may be sent twice.
    pub(super) async fn token(&self, request: &TokenRequest) -> Result<TokenAnswer> {
        self.http.ask(Ask::Keyed(random_id()), "voice.audioBridge.token", request).await
    }

    pub(super) async fn release(&self, request: &TokenRequest) -> Result<()> {
        let _: Value = self.http.ask(Ask::Keyed(random_id()), "voice.audioBridge.token", request).await?;
        Ok(())
    }
}

/// A status by its name; the error lists the names.
pub fn status(name: &str) -> Result<Status> {
    use Status::*;
    let all = [Dialing, Ringing, InProgress, Completed, Failed, NoAnswer];
    all.into_iter().find(|status| status.as_str() == name).ok_or_else(|| {
        let names = all.map(Status::as_str).join(", ");
        Error::value(format!("status is {name:?}: choose one of {names}"))
    })
}

/// The statuses that nothing follows.
pub const TERMINAL: [Status; 3] = [Status::Completed, Status::Failed, Status::NoAnswer];

/// What a call that ended says to somebody who expected something else of it.
fn ended_otherwise(row: &CallRow, until: &[Status]) -> Error {
    let wanted: Vec<_> = until.iter().map(|status| status.as_str()).collect();
    let reason = row.end_reason.as_deref().unwrap_or("for no stated reason");
    let message =
        format!("call {} is {} ({reason}) and will not be {}", row.sid, row.status.as_str(), wanted.join(" or "));
    Error::new(Kind::Call, message).with(|detail| {
        detail.end_reason = row.end_reason.clone();
        detail.sip_code = row.sip_code;
        detail.q850 = row.q850;
    })
}

/// Whole seconds travel as an integer, as every other client sends them.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9e15;
    if value.fract() == 0.0 && value.abs() < EXACT { Value::from(value as i64) } else { Value::from(value) }
}

pub(super) fn checked_sid(sid: &str) -> Result<String> {
    text("sid", sid)?;
    Ok(sid.to_owned())
}

/// Text that a request can carry: not empty, not endless, no control characters.
fn text(field: &str, value: &str) -> Result<()> {
    if value.trim().is_empty() {
        return Err(Error::value(format!("{field} is empty")));
    }
    if value.len() > MAX_TEXT {
        return Err(Error::value(format!("{field} is {} bytes long: at most {MAX_TEXT}", value.len())));
    }
    if value.chars().any(char::is_control) {
        return Err(Error::value(format!("{field} holds a control character")));
    }
    Ok(())
}
