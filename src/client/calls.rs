//! The procedures of the control plane, and one [`Client`] that asks them.
//!
//! Every argument is checked before anything is sent. Numbers that the server clamps are sent as they are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::{Ask, Http, random_id};
use super::options::Options;
use super::runtime::Runtime;
use super::trunks::Trunks;
use super::waits::Waits;
use super::watch::Watch;
use crate::call::wire::{TokenAnswer, TokenRequest, TrunkTestRow};
use crate::call::{CallRow, Reject, Status};
use crate::error::{Error, Result};

/// Longest text of an argument.
const MAX_TEXT: usize = 512;
/// Calls of one page.
const MAX_PAGE: u32 = 500;

/// One user of a control plane. Cheap to clone; clones share connections and threads.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(super) struct Inner {
    pub(super) options: Options,
    pub(super) http: Http,
    pub(super) runtime: Arc<Runtime>,
    pub(super) watch: Watch,
}

/// An agent that the engine has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Agent {
    pub id: String,
    pub kind: String,
}

#[derive(Deserialize)]
struct Agents {
    agents: Vec<Agent>,
}

/// Where a call goes: exactly one of both.
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    pub to: Option<String>,
    pub agent: Option<String>,
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

/// What becomes of a call that came in.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionInput<'a> {
    org_id: &'a str,
    sid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrgInput<'a> {
    org_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrunkInput<'a> {
    org_id: &'a str,
    trunk_id: &'a str,
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
        let (runtime, watch) = (Runtime::shared(), Watch::default());
        Ok(Self(Arc::new(Inner { options, http, runtime, watch })))
    }

    pub fn options(&self) -> &Options {
        &self.0.options
    }

    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.0.runtime
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

    /// Answers a call that came in and rings; `agent` speaks on it from then on.
    pub fn answer<W: Waits<()>>(&self, sid: &str, agent: Option<String>, waits: W) -> Result<W::Outcome> {
        if let Some(agent) = &agent {
            text("agent", agent)?;
        }
        self.decide("voice.calls.answer", sid, (agent, None), waits)
    }

    /// Refuses a call that came in and rings.
    pub fn reject<W: Waits<()>>(&self, sid: &str, reason: &str, waits: W) -> Result<W::Outcome> {
        let names = Reject::ALL.map(Reject::as_str);
        if !names.contains(&reason) {
            return Err(Error::value(format!("reason is {reason:?}: choose one of {}", names.join(", "))));
        }
        self.decide("voice.calls.reject", sid, (None, Some(reason.to_owned())), waits)
    }

    fn decide<W: Waits<()>>(
        &self,
        procedure: &'static str,
        sid: &str,
        (agent, reason): (Option<String>, Option<String>),
        waits: W,
    ) -> Result<W::Outcome> {
        let sid = checked_sid(sid)?;
        self.run(waits, |inner| async move {
            let org_id = inner.options.org_id.as_str();
            let input = DecisionInput { org_id, sid: &sid, agent: agent.as_deref(), reason: reason.as_deref() };
            let _: Value = inner.http.ask(Ask::Mutation, procedure, &input).await?;
            Ok(())
        })
    }

    /// Binds an agent of the engine to a live call.
    pub fn attach_agent<W: Waits<()>>(&self, sid: &str, agent: &str, waits: W) -> Result<W::Outcome> {
        text("agent", agent)?;
        let agent = Transfer { to: None, agent: Some(agent.to_owned()) };
        self.mutate(Ask::Mutation, "voice.agents.attach", sid, agent, waits)
    }

    /// The agents of the engine, by their ids.
    pub fn agents<W: Waits<Vec<Agent>>>(&self, waits: W) -> Result<W::Outcome> {
        self.run(waits, |inner| async move {
            let input = OrgInput { org_id: &inner.options.org_id, sid: None };
            let answer: Agents = inner.http.ask(Ask::Query, "voice.agents.list", &input).await?;
            Ok(answer.agents)
        })
    }

    /// The trunks that the organisation may use, each as the engine describes it.
    pub fn trunks<W: Waits<Vec<Value>>>(&self, waits: W) -> Result<W::Outcome> {
        self.run(waits, |inner| async move {
            let input = OrgInput { org_id: &inner.options.org_id, sid: None };
            let answer: Trunks = inner.http.ask(Ask::Query, "voice.trunks.list", &input).await?;
            answer.values().map_err(|error| inner.http.foreign(error.to_string()))
        })
    }

    /// Has the engine ask a trunk's far side whether it is there; what came of it, as the engine describes it.
    pub fn test_trunk<W: Waits<Value>>(&self, trunk_id: &str, waits: W) -> Result<W::Outcome> {
        text("trunk_id", trunk_id)?;
        let trunk_id = trunk_id.to_owned();
        self.run(waits, |inner| async move {
            let input = TrunkInput { org_id: &inner.options.org_id, trunk_id: &trunk_id };
            let answer: TrunkTestRow = inner.http.ask(Ask::Mutation, "voice.trunks.test", &input).await?;
            serde_json::to_value(answer).map_err(|error| inner.http.foreign(error.to_string()))
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
        let row: CallRow = self.http.ask(Ask::Query, "voice.calls.get", &input).await?;
        // Else the next question about it would be about another call.
        if row.sid == sid { Ok(row) } else { Err(self.http.foreign("the answer is about another call".into())) }
    }

    /// The stream of what becomes of a call, or of all calls, from behind the event of this number.
    pub(super) async fn events(&self, sid: Option<&str>, after: Option<&str>) -> Result<reqwest::Response> {
        let input = OrgInput { org_id: &self.options.org_id, sid };
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

pub(super) fn checked_sid(sid: &str) -> Result<String> {
    text("sid", sid)?;
    Ok(sid.to_owned())
}

/// Text that a request can carry: not empty, not endless, no control characters.
pub(super) fn text(field: &str, value: &str) -> Result<()> {
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
