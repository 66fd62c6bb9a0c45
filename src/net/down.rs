//! Why a link is gone, in words that say what to do.

use std::fmt;
use std::net::SocketAddr;

use quinn_proto::{ConnectionError, TransportErrorCode};

use super::Down;
use crate::moqt::CloseCode;

/// Whom a link wanted to reach, for messages.
pub(super) struct Target<'a> {
    pub(super) url: Option<&'a url::Url>,
    pub(super) address: SocketAddr,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url {
            Some(url) => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "{}://{}{port} ({})", url.scheme(), url.host_str().unwrap_or_default(), self.address)
            }
            None => write!(f, "{}", self.address),
        }
    }
}

pub(super) fn no_answer(target: &Target<'_>) -> String {
    format!("no answer from {target}: check that the server runs and that UDP to this port is not blocked")
}

/// What the end of a connection means for its link. `up`: the session had begun; `code`: from the carrier's codes to MoQT's.
pub(super) fn lost(error: &ConnectionError, up: bool, target: &Target<'_>, code: impl Fn(u64) -> u64) -> Down {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            match up {
                true => Down::Peer { code: code(close.error_code.into_inner()), reason },
                false => Down::Unreachable(format!("{target} closed during the handshake: {reason}")),
            }
        }
        _ if !up => Down::Unreachable(unreachable(error, target)),
        ConnectionError::TimedOut => Down::TimedOut,
        ConnectionError::Reset => Down::Reset,
        ConnectionError::ConnectionClosed(close) => {
            Down::Peer { code: CloseCode::InternalError as u64, reason: format!("transport: {close}") }
        }
        ConnectionError::LocallyClosed => Down::Local { code: CloseCode::NoError as u64, reason: String::new() },
        other => Down::Local { code: CloseCode::ProtocolViolation as u64, reason: format!("transport: {other}") },
    }
}

fn unreachable(error: &ConnectionError, target: &Target<'_>) -> String {
    match error {
        ConnectionError::TimedOut => no_answer(target),
        ConnectionError::Reset => format!("{target} reset the handshake: it has just restarted, try again"),
        ConnectionError::VersionMismatch => format!("{target} does not speak QUIC version 1: is it a QUIC server?"),
        ConnectionError::ConnectionClosed(close) => {
            format!("{target} refused the connection ({close}): {}", remedy(close.error_code, ""))
        }
        ConnectionError::TransportError(error) => {
            format!("the handshake with {target} failed ({error}): {}", remedy(error.code, &error.reason))
        }
        other => format!("the handshake with {target} failed: {other}"),
    }
}

/// TLS alerts (RFC 8446 §6) travel as QUIC error 0x100 + alert (RFC 9001 §4.8).
fn remedy(code: TransportErrorCode, reason: &str) -> &'static str {
    const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
    match u64::from(code) {
        _ if reason.contains("NotPinned") => {
            "the server's certificate has changed or another server answers: fetch its hash anew and pin that"
        }
        _ if reason.contains("UnknownIssuer") => {
            "no trusted root signed its certificate: give that root, or pin the certificate by its SHA-256"
        }
        _ if reason.contains("NotValidForName") => {
            "its certificate is for another name: dial by a name that it holds, or pin it by its SHA-256"
        }
        _ if reason.contains("Expired") || reason.contains("NotValidYet") => {
            "its certificate is not valid now: renew it, and check both clocks"
        }
        NO_APPLICATION_PROTOCOL => {
            "it speaks none of our protocols: check that it is a MoQT draft-18 relay on this port"
        }
        0x02 => "it takes no more connections now: try again later",
        0x100..=0x1ff => "TLS failed: check its certificate and what this side trusts",
        _ => "check that it is a MoQT server",
    }
}
