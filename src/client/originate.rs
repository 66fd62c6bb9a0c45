//! Placing a call, and taking back one that nobody waits for any more.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::calls::{Client, Inner, text};
use super::http::{Ask, random_id};
use super::keys::check_digits;
use super::waits::Waits;
use crate::call::carried::{Carried, Headers, check_caller_name, check_headers};
use crate::call::record::{Metadata, check_metadata};
use crate::call::{CallRow, DEFAULT_RING_TIMEOUT_S};
use crate::error::{Error, Result};

/// Longest `Idempotency-Key`.
const MAX_KEY: usize = 255;
/// No call is limited to more: a day is no limit.
const MAX_DURATION_S: f64 = 86_400.0;
/// How long a call is tried to be taken back, all attempts together.
const TAKE_BACK_LIMIT: Duration = Duration::from_secs(10);

/// Arguments of [`Client::originate`].
#[derive(Clone, Debug, Default)]
pub struct Originate {
    pub to: String,
    pub from: String,
    pub trunk_id: String,
    pub agent: Option<String>,
    /// Seconds; the server clamps to 5..=120.
    pub ring_timeout_s: Option<f64>,
    /// Seconds from the answer on, 1 to a day; absent: as long as somebody wants it.
    pub max_duration_s: Option<f64>,
    pub metadata: Metadata,
    /// Pressed for the far end once it has answered.
    pub send_digits: Option<String>,
    pub carried: Carried,
    /// An HTTP server that is told of each new status.
    pub status_callback: Option<String>,
    /// Absent: one is drawn, so that a retry never dials twice.
    pub idempotency_key: Option<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duration_sec: Option<Value>,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: &'a Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_digits: Option<&'a str>,
    #[serde(skip_serializing_if = "Headers::is_empty")]
    headers: &'a Headers,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_callback: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TakeBackInput<'a> {
    org_id: &'a str,
    idempotency_key: &'a str,
}

/// A call that was placed and that nobody has taken yet. If nobody does, because whoever asked for it was interrupted, it is hung up.
#[must_use = "a call that nobody claims is hung up"]
pub struct Placed {
    row: CallRow,
    doubt: Doubt,
}

impl Placed {
    pub fn claim(self) -> CallRow {
        self.claim_unless_lost().0
    }

    /// With what hangs it up again, should it be lost on its last way.
    pub fn claim_unless_lost(mut self) -> (CallRow, Lost) {
        let lost = Lost { inner: self.doubt.inner.take(), key: std::mem::take(&mut self.doubt.key) };
        (self.row, lost)
    }
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Placed").field(&self.row.sid).finish()
    }
}

/// What hangs a call up that was claimed for somebody who had gone by then.
pub struct Lost {
    inner: Option<Arc<Inner>>,
    key: String,
}

impl Lost {
    /// In the background.
    pub fn hang_up(self) {
        drop(Doubt { inner: self.inner, key: self.key });
    }
}

/// Whether the phone rings is not known. Dropped without having been settled, the call is taken back.
struct Doubt {
    /// `None`: settled, or the user's own to settle.
    inner: Option<Arc<Inner>>,
    key: String,
}

impl Doubt {
    fn settle(mut self) {
        self.inner = None;
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let (runtime, key) = (inner.runtime.clone(), std::mem::take(&mut self.key));
        // In the child of a fork nothing can be asked any more, and the parent does it.
        if let Ok(control) = runtime.control() {
            control.spawn_last(async move {
                let said = tokio::time::timeout(TAKE_BACK_LIMIT, inner.take_back(&key)).await;
                let why = match said {
                    Ok(Ok(())) => return tracing::debug!(key, "a call that nobody waits for was taken back"),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("no answer within {} s", TAKE_BACK_LIMIT.as_secs()),
                };
                tracing::warn!(key, why, "an originate was given up, and its call may ring: it could not be hung up");
            });
        }
    }
}

impl Inner {
    async fn take_back(&self, key: &str) -> Result<()> {
        let input = TakeBackInput { org_id: &self.options.org_id, idempotency_key: key };
        let _: Value = self.http.ask(Ask::Keyed(random_id()), "voice.calls.hangup", &input).await?;
        Ok(())
    }
}

impl Client {
    /// Places a call; returns once it is `dialing`.
    ///
    /// Whoever gives up before the answer came, or never gets one, does not know whether the phone rings. Where the key of the request is
    /// drawn here, nobody can ask for that call again, so it is taken back: hung up if it was placed, and refused if it is yet to
    /// come. A key of the user's own is his to ask again with.
    pub fn originate<W: Waits<Placed>>(&self, call: Originate, waits: W) -> Result<W::Outcome> {
        for (field, value) in [("to", &call.to), ("from_", &call.from), ("trunk_id", &call.trunk_id)] {
            text(field, value)?;
        }
        if let Some(agent) = &call.agent {
            text("agent", agent)?;
        }
        if let Some(url) = &call.status_callback {
            check_callback(url)?;
        }
        let is_ours = call.idempotency_key.is_none();
        let key = call.idempotency_key.clone().unwrap_or_else(random_id);
        check_key(&key)?;
        check_metadata(&call.metadata).map_err(Error::value)?;
        call.send_digits.as_deref().map_or(Ok(()), |digits| check_digits("send_digits", digits))?;
        check_carried(&call.carried)?;
        let ring_timeout_sec = call.ring_timeout_s.unwrap_or(f64::from(DEFAULT_RING_TIMEOUT_S));
        if !ring_timeout_sec.is_finite() {
            return Err(Error::value(format!(
                "ring_timeout_sec is {ring_timeout_sec}: give seconds (the server clamps them to 5..120)"
            )));
        }
        if let Some(seconds) = call.max_duration_s
            && !(1.0..=MAX_DURATION_S).contains(&seconds)
        {
            return Err(Error::value(format!(
                "max_duration_sec is {seconds}: give 1 to {MAX_DURATION_S} seconds, or None"
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
                max_duration_sec: call.max_duration_s.map(number),
                metadata: &call.metadata,
                send_digits: call.send_digits.as_deref(),
                headers: &call.carried.headers,
                caller_name: call.carried.caller_name.as_deref(),
                status_callback: call.status_callback.as_deref(),
            };
            let doubt = Doubt { inner: is_ours.then(|| inner.clone()), key: key.clone() };
            match inner.http.ask(Ask::Keyed(key), "voice.calls.originate", &input).await {
                Ok(row) => Ok(Placed { row, doubt }),
                Err(error) => {
                    if !error.in_doubt {
                        doubt.settle();
                    }
                    Err(error)
                }
            }
        })
    }
}

fn check_carried(carried: &Carried) -> Result<()> {
    check_headers(&carried.headers).map_err(Error::value)?;
    let name = carried.caller_name.as_deref();
    name.map_or(Ok(()), |name| check_caller_name("caller_name", name)).map_err(Error::value)
}

/// What the engine would refuse; it knows more of where it may lead.
fn check_callback(url: &str) -> Result<()> {
    text("status_callback", url)?;
    let parsed = url::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if parsed.is_none() {
        let url = crate::net::shown::shown(url);
        return Err(Error::value(format!("status_callback is {url:?}: give a URL of http or https")));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<()> {
    text("idempotency_key", key)?;
    if key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::value(format!("idempotency_key: use 1 to {MAX_KEY} visible ASCII characters")));
    }
    Ok(())
}

/// Whole seconds travel as an integer, as every other client sends them.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9e15;
    if value.fract() == 0.0 && value.abs() < EXACT { Value::from(value as i64) } else { Value::from(value) }
}
