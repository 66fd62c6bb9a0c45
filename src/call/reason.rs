//! Why a call ended: final answers (RFC 3261 §21) and Q.850 causes into a status, an end reason and a cause.

use serde::{Deserialize, Serialize};

use super::record::Status;

/// The end reason of a record. The text is part of the API: a name never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Somebody hung up after the answer.
    Normal,
    /// The far end was told to call somebody else, and agreed.
    Transferred,
    /// The call reached its own limit.
    MaxDuration,
    /// The engine was shut down in an orderly way.
    ServerShutdown,
    /// The engine died; its next start found the call open.
    NodeLost,
    /// Hung up before the answer: by us, or by the caller of a call that came in.
    Canceled,
    /// The caller of a call that came in gave it up because another phone took it.
    AnsweredElsewhere,
    /// Our ring timer.
    RingTimeout,
    /// The far side's own ring timer.
    RemoteTimeout,
    /// Nothing came back at all.
    NoResponse,
    /// The first hop can't be reached.
    NetworkError,
    Unavailable,
    Busy,
    Declined,
    AuthFailed,
    Forbidden,
    NotFound,
    InvalidNumber,
    CodecMismatch,
    Redirected,
    CarrierLimit,
    CarrierError,
    /// Answered, and then no packet came for longer than allowed.
    MediaTimeout,
    /// Answered, and then the session was not refreshed (RFC 4028).
    SessionExpired,
    /// It came in, we answered, and the caller never acknowledged it.
    NoAck,
}

/// Whose doing the end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// A user of the API.
    Local,
    /// The far end, or a carrier on the way to it.
    Remote,
    /// A timer or the end of the engine.
    System,
}

impl EndedBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::System => "system",
        }
    }
}

/// Everything that a record says about its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub status: Status,
    pub reason: EndReason,
    pub by: EndedBy,
    /// Q.850 cause, 1..=127.
    pub q850: Option<u8>,
}

impl Ending {
    pub(super) fn new(status: Status, reason: EndReason, by: EndedBy, q850: u8) -> Self {
        Self { status, reason, by, q850: Some(q850) }
    }

    /// The table of final answers. `rang`: an 18x came before; `cause`: the answer's own Q.850 cause (RFC 3326), which
    /// wins over the code's.
    pub fn from_answer(code: u16, phrase: &str, cause: Option<u8>, rang: bool) -> Self {
        let timed_out = matches!(cause, Some(18 | 19)) || (rang && matches!(code, 408 | 480 | 487));
        let (status, reason) = if timed_out {
            (Status::NoAnswer, EndReason::RemoteTimeout)
        } else {
            (Status::Failed, reason_of(code, phrase))
        };
        let fallback = if timed_out { Some(18) } else { cause_of(code, reason) };
        Self { status, reason, by: EndedBy::Remote, q850: cause.or(fallback) }
    }
}

fn reason_of(code: u16, phrase: &str) -> EndReason {
    match code {
        300..=399 => EndReason::Redirected,
        401 | 407 => EndReason::AuthFailed,
        402 | 403 => EndReason::Forbidden,
        404 | 410 | 485 | 604 => EndReason::NotFound,
        484 => EndReason::InvalidNumber,
        408 | 480 | 487 => EndReason::Unavailable,
        415 | 488 | 606 => EndReason::CodecMismatch,
        486 | 600 => EndReason::Busy,
        601..=699 => EndReason::Declined,
        500..=599 if names_a_limit(phrase) => EndReason::CarrierLimit,
        _ => EndReason::CarrierError,
    }
}

/// Carriers say in prose that a call came too many.
fn names_a_limit(phrase: &str) -> bool {
    let phrase = phrase.to_ascii_lowercase();
    phrase.contains("limit exceeded") && (phrase.contains("cps") || phrase.contains("concurrent"))
}

/// Another phone took the call. RFC 3326 §3.1 has the 200 of that phone for it, Q.850 a cause: non-selected user clearing.
pub(super) const ELSEWHERE: u8 = 26;

/// The cause of a CANCEL that follows an answer given elsewhere.
pub(super) fn cause_of_cancel(code: u16) -> Option<u8> {
    match code {
        200..=299 => Some(ELSEWHERE),
        code => cause_of(code, EndReason::CarrierError),
    }
}

/// The cause of an answer that we give ourselves.
pub(super) fn cause_of_code(code: u16) -> u8 {
    cause_of(code, EndReason::CarrierError).unwrap_or(31)
}

/// RFC 3398 §8.2.6.1, and where it is silent the cause that the end reason stands for.
fn cause_of(code: u16, reason: EndReason) -> Option<u8> {
    Some(match code {
        300..=399 => return None,
        401 | 402 | 403 | 407 | 603 => 21,
        404 | 485 | 604 => 1,
        405 => 63,
        406 | 415 | 488 | 501 | 606 => 79,
        408 | 504 => 102,
        410 => 22,
        413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => 127,
        480 => 18,
        482 | 483 => 25,
        484 => 28,
        486 | 600 => 17,
        487 => 31,
        502 => 38,
        503 if reason == EndReason::CarrierLimit => 34,
        601..=699 => 21,
        _ => 41,
    })
}

impl EndReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Transferred => "transferred",
            Self::MaxDuration => "max_duration",
            Self::ServerShutdown => "server_shutdown",
            Self::NodeLost => "node_lost",
            Self::Canceled => "canceled",
            Self::AnsweredElsewhere => "answered_elsewhere",
            Self::RingTimeout => "ring_timeout",
            Self::RemoteTimeout => "remote_timeout",
            Self::NoResponse => "no_response",
            Self::NetworkError => "network_error",
            Self::Unavailable => "unavailable",
            Self::Busy => "busy",
            Self::Declined => "declined",
            Self::AuthFailed => "auth_failed",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::InvalidNumber => "invalid_number",
            Self::CodecMismatch => "codec_mismatch",
            Self::Redirected => "redirected",
            Self::CarrierLimit => "carrier_limit",
            Self::CarrierError => "carrier_error",
            Self::MediaTimeout => "media_timeout",
            Self::SessionExpired => "session_expired",
            Self::NoAck => "no_ack",
        }
    }
}
