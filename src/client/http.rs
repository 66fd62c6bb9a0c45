//! One procedure of the control plane: a request, its retries, its error.
//!
//! The wire is tRPC's without a transformer: a query is `GET …/api/trpc/{procedure}?input=<JSON>`, a mutation
//! `POST …/api/trpc/{procedure}` with the JSON itself. Only what can't act twice is repeated: queries, and mutations that
//! carry an `Idempotency-Key`; `retry` says when. Connections are kept alive and shared. An engine that is not on this machine is reached
//! through the proxy that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name. Its certificate is checked against
//! `ca_file`, or the machine's roots (`SSL_CERT_FILE`). Runs on the control thread; knows no procedure by name.

use std::time::{Duration, SystemTime};

use ::ring::rand::{SecureRandom, SystemRandom};
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::options::Options;
use super::retry::{self, Pace};
use crate::error::{Error, Kind, Result};
use crate::net::check_cert_file;
use crate::net::shown::shown;

/// An answer larger than this is not one of ours: the largest is a page of 500 calls, whose notes JSON may write six times as long.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// What an error keeps of an answer.
const MAX_BODY_BYTES: usize = 4 << 10;
const REQUEST_ID: &str = "x-request-id";
/// A longer one is nobody's to quote.
const MAX_REQUEST_ID: usize = 128;
/// What a message quotes of an answer that is not JSON.
const MAX_QUOTE_CHARS: usize = 200;
/// Kept-alive connections close before a usual server's own limit.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that are kept for the next request; more of them at the same time are closed after theirs.
const MAX_IDLE: usize = 32;

/// How a procedure is asked.
pub(super) enum Ask {
    Query,
    /// Sent once.
    Mutation,
    /// Sent again after a failure: the key makes it act once.
    Keyed(String),
}

/// The control plane as one client asks it.
pub(super) struct Http {
    client: reqwest::Client,
    base: String,
    timeout: Duration,
    connect_timeout: Duration,
    max_retries: u32,
    pace: Pace,
}

impl Http {
    pub(super) fn new(options: &Options) -> Result<Self> {
        // Fails when the process has one already, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", options.api_key))
            .map_err(|_| Error::config("api_key is no header value: copy it again"))?;
        bearer.set_sensitive(true);
        let mut builder = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .user_agent(concat!("clutchcall/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            // A redirected request would lose its key or show it to somebody else.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(options) {
            builder = builder.no_proxy();
        }
        if options.roots.is_empty() {
            check_cert_file().map_err(Error::config)?;
        } else {
            builder = builder.tls_certs_only(options.roots.iter().filter_map(|root| Certificate::from_der(root).ok()));
        }
        let client = builder.build().map_err(|error| {
            let why = causes(&error);
            Error::config(format!("TLS can't be set up: {why}; look at SSL_CERT_FILE and ca_file (CLUTCHCALL_CA_FILE)"))
        })?;
        let base = options.base_url.as_str().trim_end_matches('/').to_owned();
        let Options { timeout, connect_timeout, max_retries, pace, .. } = *options;
        Ok(Self { client, base, timeout, connect_timeout, max_retries, pace })
    }

    /// The procedure's answer. All attempts together take at most the timeout.
    pub(super) async fn ask<I: Serialize, O: DeserializeOwned>(
        &self,
        ask: Ask,
        procedure: &str,
        input: &I,
    ) -> Result<O> {
        let input = serde_json::to_string(input).expect("inputs are plain structures with text keys");
        let data = self.attempts(&ask, procedure, &input).await?;
        serde_json::from_value(data).map_err(|error| self.foreign(format!("{procedure} answered {error}")))
    }

    async fn attempts(&self, ask: &Ask, procedure: &str, input: &str) -> Result<Value> {
        let retries = if matches!(ask, Ask::Mutation) { 0 } else { self.max_retries };
        let deadline = Instant::now() + self.timeout;
        let (mut attempt, mut in_doubt) = (0, false);
        loop {
            let once = tokio::time::timeout_at(deadline, self.once(ask, procedure, input));
            let error = match once.await.unwrap_or_else(|_| Err(self.timed_out())) {
                Ok(data) => return Ok(data),
                Err(error) => error,
            };
            // A refusal says nothing about the attempts before it.
            in_doubt |= error.in_doubt;
            let error = error.with(|detail| detail.in_doubt = in_doubt);
            let left = deadline.saturating_duration_since(Instant::now());
            let pause = self.pace.pause(attempt, &error, left, u32::from_le_bytes(random()));
            let Some(pause) = pause.filter(|_| attempt < retries) else { return Err(error) };
            tracing::debug!(procedure, %error, ?pause, "asked again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn once(&self, ask: &Ask, procedure: &str, input: &str) -> Result<Value> {
        let request = self.request(ask, procedure, input);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read(response).await.map_err(|error| self.unreachable(&error))?;
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        let data = answer.as_ref().and_then(|answer| answer.get("result")?.get("data"));
        if let Some(data) = data.filter(|_| status.is_success()) {
            return Ok(data.clone());
        }
        Err(self.refusal(status, &headers, answer.as_ref(), &body))
    }

    /// The answer to a query that goes on: a stream of events, for the asker to read as long as he wants.
    pub(super) async fn open<I: Serialize>(&self, procedure: &str, input: &I, after: Option<&str>) -> Result<Response> {
        let input = serde_json::to_string(input).expect("inputs are plain structures with text keys");
        let mut request = self.request(&Ask::Query, procedure, &input).header("accept", "text/event-stream");
        if let Some(id) = after {
            request = request.header("last-event-id", id);
        }
        let response = tokio::time::timeout(self.timeout, request.send()).await.map_err(|_| self.timed_out())?;
        let response = response.map_err(|error| self.unreachable(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if status.is_success() && kind.starts_with("text/event-stream") {
            return Ok(response);
        }
        let body = read(response).await.map_err(|error| self.unreachable(&error))?;
        Err(self.refusal(status, &headers, serde_json::from_slice(&body).ok().as_ref(), &body))
    }

    fn request(&self, ask: &Ask, procedure: &str, input: &str) -> RequestBuilder {
        let url = format!("{}/api/trpc/{procedure}", self.base);
        if matches!(ask, Ask::Query) {
            let input: String = url::form_urlencoded::byte_serialize(input.as_bytes()).collect();
            return self.client.request(Method::GET, format!("{url}?input={input}"));
        }
        let request = self.client.request(Method::POST, url).header("content-type", "application/json");
        let request = request.body(input.to_owned());
        if let Ask::Keyed(key) = ask { request.header("idempotency-key", key) } else { request }
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, answer: Option<&Value>, body: &[u8]) -> Error {
        let Some(error) = answer.and_then(|answer| answer.get("error")).filter(|error| error.is_object()) else {
            return self.no_envelope(status, headers, body);
        };
        let data = error.get("data");
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        // Other engines than ours name an error in `code` itself, by name or by number.
        let named = text(data.and_then(|data| data.get("code"))).or_else(|| text(error.get("code")));
        let said = data.and_then(|data| data.get("httpStatus")).and_then(Value::as_u64).map(|said| said as u16);
        let said = said.or_else(|| said_by(error.get("code")?.as_i64(), named.as_deref()));
        // An error inside a 200 counts as what it says it is.
        let status = if status.is_success() { said.unwrap_or(500) } else { status.as_u16() };
        let message = text(error.get("message")).unwrap_or_else(|| format!("the control plane answered {status}"));
        Error::from_status(status, message + remedy(status)).with(|detail| {
            detail.code = named;
            detail.in_doubt = matches!(status, 408 | 500 | 504);
            detail.request_id = text(data.and_then(|data| data.get("requestId"))).or_else(|| request_id(headers));
            if let Some(retryable) = data.and_then(|data| data.get("retryable")).and_then(Value::as_bool) {
                detail.retryable = retryable;
            }
            detail.retry_after = retry_after(headers);
            detail.body = Some(head(body));
        })
    }

    /// Something answered that is not this API: a proxy, or another server.
    fn no_envelope(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        if status.is_success() {
            return self.foreign("the answer is no tRPC answer".into()).with(|detail| detail.body = Some(head(body)));
        }
        let message = match headers.get(LOCATION).and_then(|to| to.to_str().ok()) {
            Some(to) if status.is_redirection() => {
                format!(
                    "{} redirects to {}: set base_url (CLUTCHCALL_BASE_URL) to where it leads",
                    self.base,
                    shown(to)
                )
            }
            _ => {
                let quote: String = String::from_utf8_lossy(body).trim().chars().take(MAX_QUOTE_CHARS).collect();
                format!("{} answered {status}: {quote}{}", self.base, remedy(status.as_u16()))
            }
        };
        Error::from_status(status.as_u16(), message).with(|detail| {
            // Whoever stands in front may say so when the engine has taken it already.
            detail.in_doubt = status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT;
            detail.request_id = request_id(headers);
            detail.retry_after = retry_after(headers);
            detail.body = Some(head(body));
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let (base, why) = (&self.base, causes(error));
        // A connection that stood may time out too, with the question on the other side (ETIMEDOUT).
        if error.is_connect() && error.is_timeout() {
            return self.no_connection_in_time();
        }
        if is_certificate(error) {
            let message = format!(
                "the certificate of {base} is not trusted here ({why}): name the file of its authority in ca_file (CLUTCHCALL_CA_FILE) or SSL_CERT_FILE"
            );
            return Error::new(Kind::ApiConnection, message).with(|detail| detail.retryable = false);
        }
        Error::new(
            Kind::ApiConnection,
            format!(
                "no connection to the control plane at {base} ({why}): is the engine running (`clutchcall dev`), and base_url (CLUTCHCALL_BASE_URL) right?"
            ),
        )
        .with(|detail| detail.in_doubt = !error.is_connect())
    }

    /// Requests have no limit of their own: what is late here is the connection.
    fn no_connection_in_time(&self) -> Error {
        let (base, limit) = (&self.base, self.connect_timeout.as_secs_f64());
        let message = format!(
            "no connection to the control plane at {base} within connect_timeout ({limit} s): is base_url (CLUTCHCALL_BASE_URL) right, and is a proxy needed (HTTPS_PROXY)?"
        );
        Error::new(Kind::ApiTimeout, message)
    }

    fn timed_out(&self) -> Error {
        let (base, limit) = (&self.base, self.timeout.as_secs_f64());
        Error::new(
            Kind::ApiTimeout,
            format!(
                "the control plane at {base} gave no answer in time (timeout {limit} s): try again, or give Voice a longer timeout"
            ),
        )
        .with(|detail| detail.in_doubt = true)
    }

    pub(super) fn foreign(&self, what: String) -> Error {
        Error::new(
            Kind::ApiStatus,
            format!("{what}: is base_url (CLUTCHCALL_BASE_URL) {} really a ClutchCall engine?", self.base),
        )
        .with(|detail| detail.in_doubt = true)
    }
}

/// A key that nobody else draws: 128 random bits in hexadecimal.
pub(super) fn random_id() -> String {
    format!("{:032x}", u128::from_le_bytes(random()))
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes once it is up");
    bytes
}

fn remedy(status: u16) -> &'static str {
    match status {
        401 => "; check api_key (CLUTCHCALL_API_KEY)",
        403 => "; check that org_id (CLUTCHCALL_ORG_ID) is the key's org, and the key's scopes",
        _ => "",
    }
}

/// What an answer without our envelope calls its request: an engine's log, or that of whoever stands in front, knows it by this.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?.trim();
    (1..=MAX_REQUEST_ID).contains(&id.len()).then(|| id.to_owned())
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    retry::retry_after(text(RETRY_AFTER)?, text(DATE), SystemTime::now())
}

/// The status behind an error's number or name where nothing else tells it.
fn said_by(number: Option<i64>, name: Option<&str>) -> Option<u16> {
    /// tRPC's (JSON-RPC 2.0 §5.1 with its extensions).
    const NAMES: [(&str, i64, u16); 8] = [
        ("BAD_REQUEST", -32600, 400),
        ("UNAUTHORIZED", -32001, 401),
        ("FORBIDDEN", -32003, 403),
        ("NOT_FOUND", -32004, 404),
        ("TIMEOUT", -32008, 408),
        ("CONFLICT", -32009, 409),
        ("TOO_MANY_REQUESTS", -32029, 429),
        ("INTERNAL_SERVER_ERROR", -32603, 500),
    ];
    let is_it = |row: &&(&str, i64, u16)| Some(row.0) == name || Some(row.1) == number;
    NAMES.iter().find(is_it).map(|row| row.2)
}

/// Refused for what it showed, not for how the line is: trying again mends nothing.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // An I/O error hides what it wraps: its source is the source of that.
    match error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()) {
        Some(inner) => is_certificate(inner),
        None => error.source().is_some_and(is_certificate),
    }
}

async fn read(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(body)
}

fn head(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_BODY_BYTES)]);
    text.trim_end_matches('\u{fffd}').to_owned()
}

/// The innermost cause says what happened; the outer ones only where.
fn causes(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn is_loopback(options: &Options) -> bool {
    match options.base_url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use hyper::body::{Body, Frame};

    use super::super::server_for_tests::arguments;
    use super::*;

    /// The kernel has given up a connection that stood (TCP_USER_TIMEOUT).
    struct GivenUp;

    impl Body for GivenUp {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
        }
    }

    #[test]
    fn an_answer_that_stops_leaves_doubt() {
        let http = Http::new(&Options::find(arguments("http://127.0.0.1:1")).unwrap()).unwrap();
        let response = Response::from(hyper::Response::new(reqwest::Body::wrap(GivenUp)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let broken = runtime.block_on(read(response)).unwrap_err();
        assert!(broken.is_timeout() && !broken.is_connect(), "{broken:?}");
        let error = http.unreachable(&broken);
        assert!(error.in_doubt && error.retryable && !error.message.contains("connect_timeout"), "{error}");
    }
}
