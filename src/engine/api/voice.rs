//! The procedures: what they are called, how they are asked, what they answer.

use std::time::Instant;

use axum::http::Method;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::json;
use url::Url;

use super::Api;
use super::answer::{Code, Failure, data};
use super::input::Input;
use super::keys;
use super::telephony::{self, Alias};
use super::trunks;
use super::verdict::verdict;
use crate::audio::{Codec, Params};
use crate::call::wire::BridgeRole;
use crate::call::{CallRow, Carried, DEFAULT_RING_TIMEOUT_S, Reject, Settled, Status, clamp_ring_timeout};
use crate::engine::calls::{Attach, Originate, TrunkState};
use crate::engine::config::{callback_url, may_be_told};
use crate::engine::store::{Place, Query, Remembered};
use crate::net::shown::shown;
use crate::sip::health::State;

const MAX_DURATION_S: f64 = 86_400.0;
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 500;
const MAX_HOLDER: usize = 128;

#[derive(Clone, Copy)]
pub(super) enum Procedure {
    Originate,
    Get,
    Transfer,
    Hangup,
    Answer,
    Reject,
    SendDtmf,
    List,
    Events,
    AttachAgent,
    ListAgents,
    Token,
    ListTrunks,
    TestTrunk,
    /// Another name for one of the others.
    Alias(Alias),
}

/// Our own, by name.
const NAMES: &[(&str, Procedure)] = &[
    ("voice.calls.originate", Procedure::Originate),
    ("voice.calls.get", Procedure::Get),
    ("voice.calls.transfer", Procedure::Transfer),
    ("voice.calls.hangup", Procedure::Hangup),
    ("voice.calls.answer", Procedure::Answer),
    ("voice.calls.reject", Procedure::Reject),
    ("voice.calls.sendDtmf", Procedure::SendDtmf),
    ("voice.calls.list", Procedure::List),
    ("voice.calls.events", Procedure::Events),
    ("voice.agents.attach", Procedure::AttachAgent),
    ("voice.agents.list", Procedure::ListAgents),
    ("voice.audioBridge.token", Procedure::Token),
    ("voice.trunks.list", Procedure::ListTrunks),
    ("voice.trunks.test", Procedure::TestTrunk),
];

pub(super) fn find(name: &str) -> Option<Procedure> {
    all().find(|(known, _)| *known == name).map(|(_, procedure)| procedure)
}

/// Every procedure under each of its names.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Procedure)> {
    let aliases = telephony::NAMES.iter().map(|(name, alias)| (*name, Procedure::Alias(*alias)));
    NAMES.iter().copied().chain(aliases)
}

impl Procedure {
    /// What a key's scopes call it.
    pub(super) fn scope_of(self, name: &str) -> &str {
        match self {
            Self::Alias(alias) => alias.stands_for(),
            _ => name,
        }
    }

    pub(super) fn method(self) -> Method {
        match self {
            Self::Alias(alias) => alias.method(),
            Self::Get | Self::List | Self::Events | Self::ListAgents | Self::ListTrunks => Method::GET,
            Self::Originate
            | Self::Transfer
            | Self::Hangup
            | Self::Answer
            | Self::Reject
            | Self::AttachAgent
            | Self::Token
            | Self::SendDtmf
            | Self::TestTrunk => Method::POST,
        }
    }

    /// It is answered with events as they come, by `events`.
    pub(super) fn is_stream(self) -> bool {
        matches!(self, Self::Events)
    }
}

/// One request that has passed the gate.
pub(super) struct Asked<'a> {
    pub(super) api: &'a Api,
    pub(super) org: String,
    pub(super) input: Input,
    pub(super) idempotency_key: Option<String>,
}

#[derive(Serialize)]
struct Page {
    calls: Vec<CallRow>,
    cursor: Option<String>,
}

impl Asked<'_> {
    /// The answer's data as JSON text.
    pub(super) async fn run(self, procedure: Procedure) -> Result<String, Failure> {
        match procedure {
            Procedure::Originate => data(&self.api.desk.originate(self.originate()?).await?),
            Procedure::Get => data(&self.api.desk.call(&self.org, self.input.required("sid")?).await?),
            Procedure::Transfer => self.transfer().await,
            Procedure::Hangup => self.hangup().await,
            Procedure::Answer => {
                let (sid, agent) = (self.input.required("sid")?, self.input.text("agent")?.map(str::to_owned));
                self.api.desk.answer(&self.org, sid, agent).await?;
                ok()
            }
            Procedure::Reject => {
                let reason = self.input.text("reason")?.map_or(Ok(Reject::Declined), reject)?;
                self.api.desk.reject(&self.org, self.input.required("sid")?, reason).await?;
                ok()
            }
            Procedure::SendDtmf => {
                let (sid, keys) = (self.input.required("sid")?, keys::pressed(&self.input)?);
                self.api.desk.press(&self.org, sid, keys).await?;
                ok()
            }
            Procedure::List => self.list().await,
            Procedure::Events => Err(Failure::new(Code::Internal, "events are a stream")),
            Procedure::AttachAgent => {
                let (sid, agent) = (self.input.required("sid")?, self.input.required("agent")?);
                self.api.desk.attach_agent(&self.org, sid, agent.to_owned()).await?;
                ok()
            }
            Procedure::ListAgents => {
                let rows = self.api.agents.iter().map(|(id, agent)| json!({ "id": id, "kind": agent.kind.as_str() }));
                data(&json!({ "agents": rows.collect::<Vec<_>>() }))
            }
            Procedure::Token => self.token().await,
            Procedure::ListTrunks => self.trunks().await,
            Procedure::TestTrunk => {
                let trunk_id = self.input.required("trunkId")?;
                let probe = self.api.desk.probe(&self.org, trunk_id).await?;
                let states = self.api.desk.trunks().await?;
                let health = states.iter().find(|state| state.id == trunk_id).map_or(State::Down, |state| state.health);
                data(&verdict(trunk_id, health, probe.as_ref(), Instant::now()))
            }
            Procedure::Alias(alias) => Box::pin(telephony::run(self, alias)).await,
        }
    }

    fn originate(&self) -> Result<Originate, Failure> {
        let input = &self.input;
        let ring_timeout = input.seconds("ringTimeoutSec")?.unwrap_or(f64::from(DEFAULT_RING_TIMEOUT_S));
        let max_duration_s = match input.seconds("maxDurationSec")? {
            Some(seconds) if !(1.0..=MAX_DURATION_S).contains(&seconds) => {
                return Err(Failure::bad(format!("maxDurationSec is {seconds}: send 1 to {MAX_DURATION_S}")));
            }
            seconds => seconds.map(|seconds| seconds as u32),
        };
        let mut asked = Originate {
            org: self.org.clone(),
            to: input.required_number("to")?.to_owned(),
            from: input.required_number("from")?.to_owned(),
            trunk_id: input.required("trunkId")?.to_owned(),
            agent: input.text("agent")?.map(str::to_owned),
            ring_timeout_s: clamp_ring_timeout(ring_timeout),
            max_duration_s,
            metadata: input.metadata()?,
            send_digits: keys::after_answer(input)?,
            carried: input.carried()?,
            status_callback: self.status_callback()?,
            remembered: None,
        };
        if let Some(key) = &self.idempotency_key {
            asked.remembered = Some(Remembered { org: self.org.clone(), key: key.clone(), hash: hash(&asked) });
        }
        Ok(asked)
    }

    fn status_callback(&self) -> Result<Option<Url>, Failure> {
        let Some(text) = self.input.text("statusCallback")? else { return Ok(None) };
        let wrong = |why: &str| Failure::bad(format!("statusCallback is {:?}: {why}", shown(text)));
        let url = callback_url(text).map_err(|why| wrong(&why))?;
        if !may_be_told(&url, &self.api.callback_hosts) {
            return Err(wrong("this engine tells nothing there (webhooks.hosts; never a link-local address)"));
        }
        Ok(Some(url))
    }

    /// By its sid, or by the key of the request that placed it, for whoever never got an answer to that.
    async fn hangup(&self) -> Result<String, Failure> {
        match (self.input.text("sid")?, self.input.text("idempotencyKey")?) {
            (None, Some(key)) => self.api.desk.take_back(&self.org, key).await?,
            (Some(_), Some(_)) => return Err(Failure::bad("sid or idempotencyKey: send exactly one of both")),
            _ => self.api.desk.hangup(&self.org, self.input.required("sid")?).await?,
        }
        ok()
    }

    async fn transfer(&self) -> Result<String, Failure> {
        let sid = self.input.required("sid")?;
        let (to, agent) = match (self.input.number("to")?, self.input.text("agent")?) {
            (Some(to), None) => (to, None),
            (None, Some(agent)) => ("", Some(agent)),
            _ => return Err(Failure::bad("to or agent: send exactly one of both")),
        };
        if let Some(agent) = agent {
            self.api.desk.attach_agent(&self.org, sid, agent.to_owned()).await?;
            return ok();
        }
        match self.api.desk.transfer(&self.org, sid, to.to_owned()).await? {
            Settled::Accepted => data(&json!({ "ok": true, "state": "accepted" })),
            Settled::Undecided => data(&json!({ "ok": true, "state": "pending" })),
            Settled::Refused { code } => {
                let message = format!("the far end refused the transfer with SIP {code}: the call goes on");
                Err(Failure::new(Code::Conflict, message).with_sip_code(code))
            }
            Settled::Over => Err(Failure::new(Code::Conflict, "the call ended before the transfer was decided")),
        }
    }

    async fn list(&self) -> Result<String, Failure> {
        let limit = self.input.whole("limit")?.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Failure::bad(format!("limit is {limit}: send 1 to {MAX_PAGE}")));
        }
        let status = self.input.text("status")?.map(status).transpose()?;
        let after = self.input.text("cursor")?.map(place).transpose()?;
        let query = Query { org: self.org.clone(), status, limit: limit as usize, after };
        let page = self.api.desk.list(query).await?;
        let cursor = page.next.map(|place| format!("{}.{}", place.created_ms, place.sid));
        data(&Page { calls: page.calls, cursor })
    }

    async fn token(&self) -> Result<String, Failure> {
        let attach = self.attach()?;
        if self.input.flag("release")? {
            self.api.desk.release(attach).await?;
            return ok();
        }
        data(&self.api.desk.attach(attach).await?)
    }

    fn attach(&self) -> Result<Attach, Failure> {
        let input = &self.input;
        let role = match input.text("role")? {
            None | Some("server") => BridgeRole::Server,
            Some("caller") => BridgeRole::Caller,
            Some(other) => return Err(Failure::bad(format!("role is {other:?}: send server or caller"))),
        };
        let codec: Codec = input.text("codec")?.unwrap_or("opus").parse().map_err(|e| Failure::bad(format!("{e}")))?;
        let (channels, frame_ms) = (input.whole("channels")?.unwrap_or(1), input.whole("frameMs")?.unwrap_or(20));
        let params = Params::new(codec, input.whole("sampleRate")?, channels, frame_ms);
        let holder = input.required("holder")?;
        if holder.len() > MAX_HOLDER {
            return Err(Failure::bad(format!("holder is {} bytes long: at most {MAX_HOLDER}", holder.len())));
        }
        Ok(Attach {
            org: self.org.clone(),
            sid: input.required("sid")?.to_owned(),
            role,
            params: params.map_err(|e| Failure::bad(e.0))?,
            holder: holder.to_owned(),
        })
    }

    async fn trunks(&self) -> Result<String, Failure> {
        let states = self.api.desk.trunks().await?;
        let row = |state: &TrunkState| {
            let trunk = self.api.trunks.get(&state.id)?;
            let may_use = trunk.org.as_ref().is_none_or(|owner| *owner == self.org);
            may_use.then(|| json!(trunks::row(state, trunk)))
        };
        let rows: Vec<_> = states.iter().filter_map(row).collect();
        data(&json!({ "trunks": rows }))
    }
}

fn ok() -> Result<String, Failure> {
    Ok("{\"ok\":true}".to_owned())
}

fn status(name: &str) -> Result<Status, Failure> {
    use Status::*;
    let all = [Dialing, Ringing, InProgress, Completed, Failed, NoAnswer];
    all.into_iter()
        .find(|status| status.as_str() == name)
        .ok_or_else(|| Failure::bad(format!("status is {name:?}: send one of {}", all.map(Status::as_str).join(", "))))
}

fn reject(name: &str) -> Result<Reject, Failure> {
    let names = Reject::ALL.map(Reject::as_str).join(", ");
    let found = Reject::ALL.into_iter().find(|reject| reject.as_str() == name);
    found.ok_or_else(|| Failure::bad(format!("reason is {name:?}: send one of {names}")))
}

fn place(cursor: &str) -> Result<Place, Failure> {
    let parsed = cursor.split_once('.').and_then(|(ms, sid)| Some((ms.parse().ok()?, sid.to_owned())));
    let (created_ms, sid) = parsed
        .ok_or_else(|| Failure::bad(format!("cursor is {cursor:?}: send the cursor of the page before, or none")))?;
    Ok(Place { created_ms, sid })
}

/// What the request asks for, however it was spelled.
fn hash(asked: &Originate) -> [u8; 32] {
    let Originate { to, from, trunk_id, agent, ring_timeout_s, max_duration_s, .. } = asked;
    let Originate { metadata, send_digits, carried, status_callback, .. } = asked;
    let mut text = json!([to, from, trunk_id, agent, ring_timeout_s, max_duration_s]).to_string();
    if !metadata.is_empty() {
        text += &json!(metadata).to_string();
    }
    if let Some(keys) = send_digits {
        text += &format!("{:?}", keys.strokes);
    }
    if *carried != Carried::default() {
        text += &json!([carried.headers, carried.caller_name]).to_string();
    }
    if let Some(url) = status_callback {
        text += url.as_str();
    }
    digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::config::SCOPES;

    #[test]
    fn each_procedure_has_a_scope() {
        let named: BTreeSet<String> = NAMES.iter().map(|(name, _)| name.replacen('.', ":", 1)).collect();
        assert_eq!(named, SCOPES.iter().map(|scope| (*scope).to_owned()).collect());
    }
}
