//! What a request says, field by field. Absent, null and "" mean the same; everything else that does not fit is a 400 that
//! names the field.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use hyper::body::Body as _;
use serde_json::{Map, Value};

use super::answer::{Code, Failure};
use crate::call::Carried;
use crate::call::carried::{check_caller_name, check_headers};
use crate::call::record::{Metadata, check_metadata};

/// What an input may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes: usize,
    /// Of a body.
    pub(super) time: Duration,
}

/// Longest text of one field.
const MAX_TEXT: usize = 512;
const MAX_KEY: usize = 255;

#[derive(Debug)]
pub(super) struct Input(Map<String, Value>);

impl Input {
    /// `input=` of a query string, with `+` for a space. None at all is an empty object.
    pub(super) fn from_query(query: Option<&str>, bounds: Bounds) -> Result<Self, Failure> {
        let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        match pairs.find(|(name, _)| name == "input") {
            Some((_, text)) if text.len() > bounds.bytes => Err(too_large(bounds)),
            Some((_, text)) => Self::parse(text.as_bytes()),
            None => Ok(Self(Map::new())),
        }
    }

    pub(super) async fn from_body(body: Body, bounds: Bounds) -> Result<Self, Failure> {
        let late = || Failure::new(Code::RequestTimeout, format!("no body within {} ms", bounds.time.as_millis()));
        if body.size_hint().lower() > bounds.bytes as u64 {
            return Err(too_large(bounds));
        }
        let read = tokio::time::timeout(bounds.time, axum::body::to_bytes(body, bounds.bytes));
        let bytes = read.await.map_err(|_| late())?.map_err(|_| too_large(bounds))?;
        Self::parse(&bytes)
    }

    fn parse(text: &[u8]) -> Result<Self, Failure> {
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(text) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(Value::Null) => Ok(Self(Map::new())),
            Ok(_) => Err(Failure::bad("the input is no JSON object: send {\"orgId\":…}")),
            Err(e) => Err(Failure::new(Code::ParseError, format!("the input is no JSON: {e}"))),
        }
    }

    /// The same under other names.
    pub(super) fn renamed(&self, names: &[(&str, &str)]) -> Self {
        let name =
            |old: &String| names.iter().find(|(from, _)| from == old).map_or(old.as_str(), |(_, to)| to).to_owned();
        Self(self.0.iter().map(|(field, value)| (name(field), value.clone())).collect())
    }

    pub(super) fn with(mut self, field: &str, value: Value) -> Self {
        self.0.insert(field.to_owned(), value);
        self
    }

    fn value(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&str>, Failure> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(text)),
            Some(Value::String(text)) => {
                Err(Failure::bad(format!("{field} is {} bytes long: at most {MAX_TEXT}", text.len())))
            }
            Some(other) => Err(Failure::bad(format!("{field} is {}: send a text", kind(other)))),
        }
    }

    pub(super) fn required(&self, field: &str) -> Result<&str, Failure> {
        self.text(field)?.ok_or_else(|| Failure::bad(format!("{field} is missing")))
    }

    /// A telephone number in E.164: `+`, then 2 to 15 digits that don't begin with 0.
    pub(super) fn number(&self, field: &str) -> Result<Option<&str>, Failure> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        let digits = text.strip_prefix('+').unwrap_or_default();
        let fits = (2..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if fits && !digits.starts_with('0') {
            return Ok(Some(text));
        }
        Err(Failure::bad(format!("{field} is {text:?}: send an E.164 number such as +15551234567")))
    }

    pub(super) fn required_number(&self, field: &str) -> Result<&str, Failure> {
        self.number(field)?
            .ok_or_else(|| Failure::bad(format!("{field} is missing: send an E.164 number such as +15551234567")))
    }

    pub(super) fn seconds(&self, field: &str) -> Result<Option<f64>, Failure> {
        match self.value(field) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|seconds| seconds.is_finite()) {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(Failure::bad(format!("{field} is {}: send a finite number of seconds", kind(value)))),
            },
        }
    }

    /// An object of texts; none at all is an empty one.
    fn texts(&self, field: &str) -> Result<BTreeMap<String, String>, Failure> {
        let pairs = match self.value(field) {
            None => return Ok(BTreeMap::new()),
            Some(Value::Object(pairs)) => pairs,
            Some(other) => return Err(Failure::bad(format!("{field} is {}: send an object of texts", kind(other)))),
        };
        let pair = |(name, value): (&String, &Value)| match value {
            Value::String(text) => Ok((name.clone(), text.clone())),
            other => Err(Failure::bad(format!("{field} {name:?} is {}: send a text", kind(other)))),
        };
        pairs.iter().map(pair).collect()
    }

    pub(super) fn metadata(&self) -> Result<Metadata, Failure> {
        let metadata = self.texts("metadata")?;
        check_metadata(&metadata).map_err(Failure::bad)?;
        Ok(metadata)
    }

    /// `headers` and `callerName` of an originate.
    pub(super) fn carried(&self) -> Result<Carried, Failure> {
        let headers = self.texts("headers")?;
        check_headers(&headers).map_err(Failure::bad)?;
        let caller_name = self.text("callerName")?.map(str::to_owned);
        caller_name.iter().try_for_each(|name| check_caller_name("callerName", name)).map_err(Failure::bad)?;
        Ok(Carried { headers, caller_name })
    }

    pub(super) fn whole(&self, field: &str) -> Result<Option<u32>, Failure> {
        match self.value(field) {
            None => Ok(None),
            Some(value) => match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(number) => Ok(Some(number)),
                None => Err(Failure::bad(format!("{field} is {}: send a whole number", kind(value)))),
            },
        }
    }

    pub(super) fn flag(&self, field: &str) -> Result<bool, Failure> {
        match self.value(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Failure::bad(format!("{field} is {}: send true or false", kind(other)))),
        }
    }
}

/// What a client calls its request.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(header) = headers.get("idempotency-key") else { return Ok(None) };
    match header.to_str().map(str::trim) {
        Ok("") => Ok(None),
        Ok(key) if key.len() <= MAX_KEY => Ok(Some(key.to_owned())),
        _ => Err(Failure::bad(format!("Idempotency-Key is no text of at most {MAX_KEY} visible ASCII characters"))),
    }
}

fn too_large(bounds: Bounds) -> Failure {
    Failure::new(Code::PayloadTooLarge, format!("the input is larger than {} bytes", bounds.bytes))
}

/// Short enough for a message.
fn kind(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.chars().take(64).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    }
}
