//! One taxonomy of errors for the client side, with every number kept across every border.
//!
//! A wire code (HTTP status, relay close code, SIP code) becomes a [`Kind`], and a [`Kind`] becomes one Python class;
//! the number itself stays readable on the [`Error`]. The tables below are the only place where that mapping is written,
//! and a test pins them.
//!
//! A message says what happened and what to do next, and names the setting. It never holds a key or a token.

use std::fmt;
use std::time::Duration;

use crate::moqt::CloseCode;

pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as a user would sort it. Each kind is one Python class ([`Kind::class`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A setting is missing or contradicts another.
    Config,
    /// The control plane can't be reached.
    ApiConnection,
    /// The control plane did not answer in time.
    ApiTimeout,
    /// An HTTP status without a class of its own.
    ApiStatus,
    BadRequest,
    Authentication,
    PermissionDenied,
    NotFound,
    Conflict,
    RateLimit,
    Server,
    /// A call ended in a way the caller did not ask for; `end_reason`, `sip_code`, `q850` say how.
    Call,
    /// The data plane, without a class of its own.
    Bridge,
    /// The bridge was closed, here or by the end of the call.
    BridgeClosed,
    /// The relay refused a token as expired, and a fresh one could not be had.
    TokenExpired,
    /// No connection to the relay.
    RelayUnreachable,
    /// An argument of the wrong value; raised before any I/O.
    Value,
    /// An argument of the wrong type; raised before any I/O.
    Type,
    /// The caller's cancel check ended the wait (Ctrl-C in Python); the check holds the exception to raise.
    Interrupted,
}

/// Kind, Python class, its parent class. `Value`, `Type` and `Interrupted` are the interpreter's own.
const CLASSES: &[(Kind, &str, &str)] = &[
    (Kind::Config, "ConfigError", "VoiceError"),
    (Kind::ApiConnection, "APIConnectionError", "VoiceError"),
    (Kind::ApiTimeout, "APITimeoutError", "APIConnectionError"),
    (Kind::ApiStatus, "APIStatusError", "VoiceError"),
    (Kind::BadRequest, "BadRequestError", "APIStatusError"),
    (Kind::Authentication, "AuthenticationError", "APIStatusError"),
    (Kind::PermissionDenied, "PermissionDeniedError", "APIStatusError"),
    (Kind::NotFound, "NotFoundError", "APIStatusError"),
    (Kind::Conflict, "ConflictError", "APIStatusError"),
    (Kind::RateLimit, "RateLimitError", "APIStatusError"),
    (Kind::Server, "ServerError", "APIStatusError"),
    (Kind::Call, "CallError", "VoiceError"),
    (Kind::Bridge, "BridgeError", "VoiceError"),
    (Kind::BridgeClosed, "BridgeClosed", "BridgeError"),
    (Kind::TokenExpired, "TokenExpired", "BridgeError"),
    (Kind::RelayUnreachable, "RelayUnreachable", "BridgeError"),
    (Kind::Value, "ValueError", "Exception"),
    (Kind::Type, "TypeError", "Exception"),
    (Kind::Interrupted, "KeyboardInterrupt", "BaseException"),
];

impl Kind {
    /// Every kind, in the order of the table.
    pub fn all() -> impl Iterator<Item = Kind> {
        CLASSES.iter().map(|(kind, ..)| *kind)
    }

    /// The Python class that carries this kind.
    pub fn class(self) -> &'static str {
        self.row().1
    }

    /// The class above [`Kind::class`]; `VoiceError` and `ClutchCallError` stand above them all.
    pub fn parent_class(self) -> &'static str {
        self.row().2
    }

    /// The kind of an HTTP status that is not a success.
    pub fn from_status(status: u16) -> Kind {
        match status {
            400 | 413 | 422 => Kind::BadRequest,
            401 => Kind::Authentication,
            403 => Kind::PermissionDenied,
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            429 => Kind::RateLimit,
            500..=599 => Kind::Server,
            _ => Kind::ApiStatus,
        }
    }

    /// The kind of a relay's session close code (draft-18 §3.5), which the error keeps as `relay_code`.
    pub fn from_close_code(code: u64) -> Kind {
        match code {
            code if code == CloseCode::NoError as u64 => Kind::BridgeClosed,
            code if code == CloseCode::ExpiredAuthToken as u64 => Kind::TokenExpired,
            _ => Kind::Bridge,
        }
    }

    fn row(self) -> &'static (Kind, &'static str, &'static str) {
        CLASSES.iter().find(|(kind, ..)| *kind == self).expect("every kind has its row; a test counts them")
    }
}

/// An error of the client side. Cheap to move; the fields are those of [`Detail`].
#[derive(Clone, Debug)]
pub struct Error(Box<Detail>);

/// What an [`Error`] knows. Absent means: this border has no such number.
#[derive(Clone, Debug)]
pub struct Detail {
    pub kind: Kind,
    pub message: String,
    /// HTTP status.
    pub status: Option<u16>,
    /// The API's name of the error, such as `NOT_FOUND`.
    pub code: Option<String>,
    pub request_id: Option<String>,
    /// The same request may succeed later.
    pub retryable: bool,
    /// The request may have been carried out all the same: no answer says that it was not.
    pub in_doubt: bool,
    /// The server's `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The answer's body, at most 4 KiB of it.
    pub body: Option<String>,
    /// The relay's close code or REQUEST_ERROR code, as it stood on the wire.
    pub relay_code: Option<u64>,
    pub end_reason: Option<String>,
    pub sip_code: Option<u16>,
    pub q850: Option<u8>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let retryable = matches!(kind, Kind::ApiConnection | Kind::ApiTimeout | Kind::RelayUnreachable);
        Self(Box::new(Detail {
            kind,
            message: message.into(),
            status: None,
            code: None,
            request_id: None,
            retryable,
            in_doubt: false,
            retry_after: None,
            body: None,
            relay_code: None,
            end_reason: None,
            sip_code: None,
            q850: None,
        }))
    }

    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// An argument of the wrong value: name the field and the choices.
    pub fn value(message: impl Into<String>) -> Self {
        Self::new(Kind::Value, message)
    }

    pub fn closed(message: impl Into<String>) -> Self {
        Self::new(Kind::BridgeClosed, message)
    }

    /// An HTTP answer that is not a success.
    pub fn from_status(status: u16, message: impl Into<String>) -> Self {
        let kind = Kind::from_status(status);
        let mut error = Self::new(kind, message);
        error.0.status = Some(status);
        error.0.retryable = matches!(kind, Kind::RateLimit) || matches!(status, 408 | 500 | 502 | 503 | 504);
        error
    }

    /// A session that the relay closed.
    pub fn from_close_code(code: u64, reason: &str) -> Self {
        let mut error =
            Self::new(Kind::from_close_code(code), format!("the relay closed the session: {reason} ({code:#x})"));
        error.0.relay_code = Some(code);
        error
    }

    /// Fills in what else is known.
    pub fn with(mut self, fill: impl FnOnce(&mut Detail)) -> Self {
        fill(&mut self.0);
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }
}

impl std::ops::Deref for Error {
    type Target = Detail;
    fn deref(&self) -> &Detail {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_keep_their_number_and_find_their_class() {
        let table = [
            (400, "BadRequestError", false),
            (401, "AuthenticationError", false),
            (403, "PermissionDeniedError", false),
            (404, "NotFoundError", false),
            (409, "ConflictError", false),
            (418, "APIStatusError", false),
            (429, "RateLimitError", true),
            (500, "ServerError", true),
            (501, "ServerError", false),
            (503, "ServerError", true),
        ];
        for (status, class, retryable) in table {
            let error = Error::from_status(status, "x");
            assert_eq!((error.status, error.kind().class(), error.retryable), (Some(status), class, retryable));
        }
    }

    #[test]
    fn relay_codes_keep_their_number() {
        for (code, class) in
            [(0x0, "BridgeClosed"), (0x2, "BridgeError"), (0x18, "TokenExpired"), (0x7777, "BridgeError")]
        {
            let error = Error::from_close_code(code, "why");
            assert_eq!((error.relay_code, error.kind().class()), (Some(code), class));
            assert!(error.to_string().contains("why"));
        }
    }

    #[test]
    fn each_class_stands_once_under_a_parent_that_exists() {
        let classes: Vec<_> = Kind::all().map(Kind::class).collect();
        let distinct: std::collections::HashSet<_> = classes.iter().collect();
        assert_eq!(distinct.len(), classes.len());
        for kind in Kind::all() {
            let parent = kind.parent_class();
            let known = ["VoiceError", "Exception", "BaseException"].contains(&parent) || classes.contains(&parent);
            assert!(known, "{parent}");
        }
    }
}
