//! The envelope: `{"result":{"data":…}}`, or `{"error":{"message","code","data":{…}}}` under the matching HTTP status.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;

use crate::engine::calls::{Refused, Why};

/// Seconds after which a client that came too often or too early may come again.
const RETRY_AFTER_S: u32 = 1;

/// The name of one request, in its answer and in the log.
pub(super) struct RequestId(String);

impl RequestId {
    pub(super) fn new() -> Self {
        let mut bytes = [0u8; 12];
        // Without randomness an id says nothing, and nothing else depends on it.
        let _ = SystemRandom::new().fill(&mut bytes);
        Self(bytes.iter().fold("req_".to_owned(), |id, byte| format!("{id}{byte:02x}")))
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// tRPC's names of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    ParseError,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotSupported,
    /// The request did not come in time.
    RequestTimeout,
    /// The answer did not.
    Timeout,
    Conflict,
    PayloadTooLarge,
    TooManyRequests,
    Internal,
    NotImplemented,
    Unavailable,
}

impl Code {
    /// Name, number (JSON-RPC 2.0 §5.1, extended as tRPC does), HTTP status.
    fn row(self) -> (&'static str, i32, u16) {
        match self {
            Self::ParseError => ("PARSE_ERROR", -32700, 400),
            Self::BadRequest => ("BAD_REQUEST", -32600, 400),
            Self::Unauthorized => ("UNAUTHORIZED", -32001, 401),
            Self::Forbidden => ("FORBIDDEN", -32003, 403),
            Self::NotFound => ("NOT_FOUND", -32004, 404),
            Self::MethodNotSupported => ("METHOD_NOT_SUPPORTED", -32005, 405),
            Self::RequestTimeout => ("TIMEOUT", -32008, 408),
            Self::Timeout => ("GATEWAY_TIMEOUT", -32504, 504),
            Self::Conflict => ("CONFLICT", -32009, 409),
            Self::PayloadTooLarge => ("PAYLOAD_TOO_LARGE", -32013, 413),
            Self::TooManyRequests => ("TOO_MANY_REQUESTS", -32029, 429),
            Self::Internal => ("INTERNAL_SERVER_ERROR", -32603, 500),
            Self::NotImplemented => ("NOT_IMPLEMENTED", -32603, 501),
            Self::Unavailable => ("SERVICE_UNAVAILABLE", -32603, 503),
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.row().0
    }

    pub(super) fn status(self) -> u16 {
        self.row().2
    }

    fn is_retryable(self) -> bool {
        matches!(self, Self::RequestTimeout | Self::Timeout | Self::TooManyRequests | Self::Unavailable)
    }
}

/// Why a request is answered with an error.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    message: String,
    sip_code: Option<u16>,
    end_reason: Option<String>,
    /// When asking again is worth it; without one [`RETRY_AFTER_S`].
    retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), sip_code: None, end_reason: None, retry_after: None }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub(super) fn with_sip_code(self, code: u16) -> Self {
        Self { sip_code: Some(code), ..self }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let code = match refused.why {
            Why::BadRequest => Code::BadRequest,
            Why::NotFound => Code::NotFound,
            Why::Conflict => Code::Conflict,
            Why::TooMany => Code::TooManyRequests,
            Why::Unavailable => Code::Unavailable,
        };
        let Refused { message, sip_code, end_reason, retry_after, .. } = refused;
        Self { code, message, sip_code, end_reason, retry_after }
    }
}

/// The order of the fields is part of the wire: clients that show the first bytes of a body show the message.
#[derive(Serialize)]
struct ErrorBody<'a> {
    message: &'a str,
    code: i32,
    data: ErrorData<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorData<'a> {
    http_status: u16,
    code: &'static str,
    request_id: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sip_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<&'a str>,
}

/// The data of a success as JSON text.
pub(super) fn data(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::new(Code::Internal, format!("the answer is no JSON: {e}")))
}

pub(super) fn response(id: &RequestId, outcome: Result<String, Failure>) -> Response {
    let (status, body, failed) = match outcome {
        Ok(data) => (200, format!("{{\"result\":{{\"data\":{data}}}}}"), None),
        Err(failure) => {
            let (status, body) = failed(id, &failure);
            let retry_after_s = failure.retry_after.map_or(RETRY_AFTER_S, |after| after.as_secs_f64().ceil() as u32);
            (status, body, Some((failure.code, retry_after_s.max(RETRY_AFTER_S))))
        }
    };
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&id.0) {
        headers.insert("x-request-id", id);
    }
    match failed {
        Some((Code::Unauthorized, _)) => {
            drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
        }
        Some((Code::TooManyRequests | Code::Unavailable, retry_after_s)) => {
            drop(headers.insert(header::RETRY_AFTER, retry_after_s.into()));
        }
        _ => {}
    }
    response
}

fn failed(id: &RequestId, failure: &Failure) -> (u16, String) {
    let (name, number, status) = failure.code.row();
    let data = ErrorData {
        http_status: status,
        code: name,
        request_id: &id.0,
        retryable: failure.code.is_retryable(),
        sip_code: failure.sip_code,
        end_reason: failure.end_reason.as_deref(),
    };
    let error = ErrorBody { message: &failure.message, code: number, data };
    let error = serde_json::to_string(&error).expect("texts and numbers only");
    (status, format!("{{\"error\":{error}}}"))
}
