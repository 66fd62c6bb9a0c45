//! HTTP: the procedures of the control plane, their answers and their refusals.
//!
//! The wire is tRPC's without a transformer: `GET …/api/trpc/{procedure}?input=<JSON>` asks, `POST …/api/trpc/{procedure}` does, and the
//! same under `/trpc/`. Beside it `/healthz`, `/readyz`, `/metrics` and `/openapi.json`, which need no key.
//!
//! | File | Holds |
//! |---|---|
//! | `server` | connections: how many, how they end |
//! | `wire` | one connection: how slow it may be |
//! | `taking` | whether its far end takes what it is sent |
//! | `framing` | whether its bytes say twice where a body ends |
//! | `files` | key file and certificate, read again when they change |
//! | `gate` | keys, scopes, organisations, requests per second |
//! | `input` | what a request says, field by field |
//! | `answer` | the envelope of success and failure |
//! | `keys` | keys that are to be pressed |
//! | `voice` | the procedures |
//! | `trunks`, `verdict` | trunks as they are shown; what came of a test, and what to do about it |
//! | `telephony` | the same under the names of the vendor's command line |
//! | `events` | the one procedure that answers with a stream |
//!
//! What the vendor's clients can bear decides every answer: a success has no `error` key and always `data`, an object; a failure has an
//! integer `code`, its name in `data.code`, its `message` first; nothing is ever redirected. A request is known by its key before
//! its body is read, and answered within [`ANSWER_LIMIT`]. The room owns no call: it asks the [`Desk`].

mod answer;
mod events;
mod files;
mod framing;
mod gate;
mod input;
mod keys;
mod server;
mod taking;
mod telephony;
#[cfg(test)]
mod tests;
mod trunks;
mod verdict;
mod voice;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

use super::calls::Desk;
use super::config::{Agent, ApiKey, Config, Trunk};
use super::media;
use super::metrics::{Bound, Metrics, typed};
use super::sip::{Past, Transactions};
use crate::relay::{Gauges, figures};
use answer::{Code, Failure, RequestId};
use events::Streams;
use gate::Gate;
use input::Input;

pub use files::Files;
pub use server::{Door, serve};

/// Every answer comes within this time: the vendor's clients give up at 30 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(24);
/// A relay that was not reached for so long has not just been restarted.
const REACH_LIMIT: Duration = Duration::from_secs(5);

/// All of it for machines; a test holds it to what the handlers do.
const OPENAPI: &str = include_str!("openapi.json");

/// Every procedure under each of its names, and the method that it is asked with.
pub fn procedures() -> impl Iterator<Item = (&'static str, Method)> {
    voice::all().map(|(name, procedure)| (name, procedure.method()))
}

/// What every request sees.
pub struct Api {
    gate: Gate,
    desk: Desk,
    trunks: BTreeMap<String, Trunk>,
    agents: BTreeMap<String, Agent>,
    /// `webhooks.hosts`.
    callback_hosts: Vec<String>,
    metrics: Arc<Metrics>,
    streams: Streams,
    bounds: input::Bounds,
    /// [`ANSWER_LIMIT`].
    limit: Duration,
    beside: Beside,
}

/// Figures of the engine's other rooms.
pub struct Beside {
    pub media: Arc<media::Gauges>,
    /// Of its own relay.
    pub relay: Option<Gauges>,
    /// Of each SIP address, the phone's too.
    pub(in crate::engine) sip: Vec<Past>,
}

impl Api {
    /// `of_file`: the keys of the key file.
    pub fn new(config: &Config, of_file: Vec<ApiKey>, desk: Desk, metrics: Arc<Metrics>, beside: Beside) -> Self {
        let gate = Gate::new(&config.keys, &config.limits);
        gate.replace(of_file);
        let streams = Streams::new(config.limits.connections, Arc::clone(&metrics));
        let (trunks, agents) = (config.trunks.clone(), config.agents.clone());
        let bounds = input::Bounds { bytes: config.limits.body_bytes, time: config.limits.body };
        let callback_hosts = config.webhooks.hosts.clone();
        Self { gate, desk, trunks, agents, callback_hosts, metrics, streams, bounds, limit: ANSWER_LIMIT, beside }
    }

    fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/api/trpc/{*procedure}", any(procedure))
            .route("/trpc/{*procedure}", any(procedure))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/openapi.json", get(openapi))
            .fallback(no_such_path)
            .with_state(self)
    }

    async fn answer(&self, id: &RequestId, name: &str, request: Request) -> Result<Response, Failure> {
        self.metrics.request();
        let key = self.gate.admit(request.headers()).inspect_err(|failure| match failure.code() {
            Code::TooManyRequests => self.metrics.rate_limited(),
            _ => self.metrics.unauthorized(),
        })?;
        let procedure = voice::find(name)
            .ok_or_else(|| Failure::new(Code::NotFound, format!("{name:?} is no procedure of this engine")))?;
        if request.method() != procedure.method() {
            let message = format!("{name} is asked with {}", procedure.method());
            return Err(Failure::new(Code::MethodNotSupported, message));
        }
        key.check_scope(procedure.scope_of(name))?;
        let idempotency_key = input::idempotency_key(request.headers())?;
        let seen = events::seen(request.headers());
        let input = self.input(request).await?;
        let org = key.check_org(input.text("orgId")?)?.to_owned();
        tracing::debug!(request = %id, procedure = name, org, key = key.id(), "request");
        if procedure.is_stream() {
            let (sid, place) = (input.text("sid")?, self.streams.enter()?);
            let watch = self.desk.watch(&org, sid, seen).await?;
            return Ok(events::response(id, events::Stream::new(watch, sid.is_some(), place, key.gone())));
        }
        let asked = voice::Asked { api: self, org, input, idempotency_key };
        Ok(answer::response(id, Ok(asked.run(procedure).await?)))
    }

    /// Why new calls should go elsewhere: they would be refused, or nobody would hear them.
    fn unready(&self, now: Instant) -> Option<String> {
        if let Some(cause) = self.desk.store().health().failing {
            return Some(format!("the record store fails: {cause}"));
        }
        let missing = self.beside.media.missing()?;
        let time = now.saturating_duration_since(missing.since);
        let reason = &missing.reason;
        (time >= REACH_LIMIT).then(|| format!("no link to the relay for {} s: {reason}", time.as_secs()))
    }

    async fn input(&self, request: Request) -> Result<Input, Failure> {
        let input = match *request.method() {
            Method::GET => Input::from_query(request.uri().query(), self.bounds),
            _ => Input::from_body(request.into_body(), self.bounds).await,
        };
        input.inspect_err(|failure| match failure.code() {
            Code::PayloadTooLarge => self.metrics.reached(Bound::BodyBytes),
            Code::RequestTimeout => self.metrics.reached(Bound::Body),
            _ => {}
        })
    }
}

async fn procedure(State(api): State<Arc<Api>>, Path(name): Path<String>, request: Request) -> Response {
    let id = RequestId::new();
    let answer = tokio::time::timeout(api.limit, api.answer(&id, &name, request)).await;
    let late = || Failure::new(Code::Timeout, format!("no answer within {} s: ask again", api.limit.as_secs_f64()));
    answer.unwrap_or_else(|_| Err(late())).unwrap_or_else(|failure| {
        refused(&id, &name, &failure);
        answer::response(&id, Err(failure))
    })
}

/// What a request said is nobody's business but its sender's: a refusal's words are logged where they are the engine's own.
fn refused(id: &RequestId, name: &str, failure: &Failure) {
    let procedure = voice::find(name).map_or("?", |_| name);
    let (code, status) = (failure.code().name(), failure.code().status());
    if status < 500 {
        return tracing::debug!(request = %id, procedure, code, status, "refused");
    }
    tracing::warn!(request = %id, procedure, code, status, reason = failure.message(), "failed");
}

async fn no_such_path(request: Request) -> Response {
    let message = format!("{} is no path of this engine: procedures are under /api/trpc/", request.uri().path());
    answer::response(&RequestId::new(), Err(Failure::new(Code::NotFound, message)))
}

/// The process lives.
async fn healthz() -> Response {
    let body = concat!("{\"ok\":true,\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}");
    json(StatusCode::OK, body.to_owned())
}

/// New calls are welcome.
async fn readyz(State(api): State<Arc<Api>>) -> Response {
    match api.unready(Instant::now()) {
        None => json(StatusCode::OK, "{\"ok\":true}".to_owned()),
        Some(cause) => {
            let reason = serde_json::Value::from(cause);
            json(StatusCode::SERVICE_UNAVAILABLE, format!("{{\"ok\":false,\"reason\":{reason}}}"))
        }
    }
}

async fn openapi() -> Response {
    json(StatusCode::OK, OPENAPI.to_owned())
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let mut text = api.metrics.render(&api.desk.store().health());
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    text.push_str(&format!("clutchcall_tasks {tasks}\nclutchcall_api_keys {}\n", api.gate.len()));
    let media = &api.beside.media;
    text.push_str(&format!(
        "clutchcall_media_links_down {}\nclutchcall_media_dials_total {}\nclutchcall_media_farewells_cut_total {}\n",
        media.links_down(),
        media.dials(),
        media.farewells_cut()
    ));
    let sip = api.beside.sip.iter().map(Past::transactions).fold(Transactions::default(), std::ops::Add::add);
    for (state, count) in [("running", sip.running), ("remembered", sip.remembered)] {
        text.push_str(&format!("clutchcall_sip_transactions{{state=\"{state}\"}} {count}\n"));
    }
    let mut text = typed(&text);
    if let Some(relay) = &api.beside.relay {
        text.push_str(&figures::render(&relay.figures()));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}
