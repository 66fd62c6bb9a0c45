//! One procedure of the control plane: a request, its retries, its error.
//!
//! The wire is tRPC's without a transformer: a query is `GET …/api/trpc/{procedure}?input=<JSON>`, a mutation
//! `POST …/api/trpc/{procedure}` with the JSON itself. Only what can't act twice is repeated: queries, and mutations that
//! carry an `Idempotency-Key`. Connections are kept alive. Runs on the control thread; knows no procedure by name.

use std::time::Duration;

use ::ring::rand::{SecureRandom, SystemRandom};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::options::Options;
use crate::error::{Error, Kind, Result};

/// Wait before the first retry; it doubles up to [`RETRY_CAP`], each with jitter.
const RETRY_STEP: Duration = Duration::from_millis(500);
const RETRY_CAP: Duration = Duration::from_secs(8);
/// An answer larger than this is not one of ours.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// What an error keeps of an answer.
const MAX_BODY_BYTES: usize = 4 << 10;
/// What a message quotes of an answer that is not JSON.
const MAX_QUOTE_CHARS: usize = 200;
/// Kept-alive connections close before a usual server's own limit.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

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
    max_retries: u32,
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
            // A redirected request would lose its key or show it to somebody else.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(options) {
            builder = builder.no_proxy();
        }
        let client =
            builder.build().map_err(|error| Error::config(format!("TLS can't be set up: {}", causes(&error))))?;
        let base = options.base_url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, base, timeout: options.timeout, max_retries: options.max_retries })
    }

    /// The procedure's answer. All attempts together take at most the timeout.
    pub(super) async fn ask<I: Serialize, O: DeserializeOwned>(
        &self,
        ask: Ask,
        procedure: &str,
        input: &I,
    ) -> Result<O> {
        let input = serde_json::to_string(input).expect("inputs are plain structures with text keys");
        let attempts = self.attempts(&ask, procedure, &input);
        let data = tokio::time::timeout(self.timeout, attempts).await.map_err(|_| self.timed_out())??;
        serde_json::from_value(data).map_err(|error| self.foreign(format!("{procedure} answered {error}")))
    }

    async fn attempts(&self, ask: &Ask, procedure: &str, input: &str) -> Result<Value> {
        let retries = if matches!(ask, Ask::Mutation) { 0 } else { self.max_retries };
        let mut attempt = 0;
        loop {
            let error = match self.once(ask, procedure, input).await {
                Ok(data) => return Ok(data),
                Err(error) => error,
            };
            if attempt == retries || !error.retryable {
                return Err(error);
            }
            let pause = error.retry_after.unwrap_or_else(|| backoff(attempt));
            if pause >= self.timeout {
                return Err(error);
            }
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
        let said = data.and_then(|data| data.get("httpStatus")).and_then(Value::as_u64);
        // An error inside a 200 counts as what it says it is.
        let status = if status.is_success() { said.map_or(500, |said| said as u16) } else { status.as_u16() };
        let message = text(error.get("message")).unwrap_or_else(|| format!("the control plane answered {status}"));
        Error::from_status(status, message + remedy(status)).with(|detail| {
            detail.code = text(data.and_then(|data| data.get("code")));
            detail.request_id = text(data.and_then(|data| data.get("requestId")));
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
                format!("{} redirects to {to}: set base_url (CLUTCHCALL_BASE_URL) to where it leads", self.base)
            }
            _ => {
                let quote: String = String::from_utf8_lossy(body).trim().chars().take(MAX_QUOTE_CHARS).collect();
                format!("{} answered {status}: {quote}{}", self.base, remedy(status.as_u16()))
            }
        };
        Error::from_status(status.as_u16(), message).with(|detail| {
            detail.retry_after = retry_after(headers);
            detail.body = Some(head(body));
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        if error.is_timeout() {
            return self.timed_out();
        }
        let (base, why) = (&self.base, causes(error));
        Error::new(
            Kind::ApiConnection,
            format!(
                "no connection to the control plane at {base} ({why}): is the engine running (`clutchcall dev`), and base_url (CLUTCHCALL_BASE_URL) right?"
            ),
        )
    }

    fn timed_out(&self) -> Error {
        let (base, limit) = (&self.base, self.timeout.as_secs_f64());
        Error::new(
            Kind::ApiTimeout,
            format!(
                "the control plane at {base} gave no answer in time (timeout {limit} s): try again, or give Voice a longer timeout"
            ),
        )
    }

    fn foreign(&self, what: String) -> Error {
        Error::new(
            Kind::ApiStatus,
            format!("{what}: is base_url (CLUTCHCALL_BASE_URL) {} really a ClutchCall engine?", self.base),
        )
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

/// Between half of the step and all of it.
fn backoff(attempt: u32) -> Duration {
    let step = (RETRY_STEP * 2u32.saturating_pow(attempt)).min(RETRY_CAP);
    step / 2 + (step / 2).mul_f64(f64::from(u32::from_le_bytes(random())) / f64::from(u32::MAX))
}

/// Delay seconds (RFC 9110 §10.2.3); the other form, a date, is nobody's here.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.into()))
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
