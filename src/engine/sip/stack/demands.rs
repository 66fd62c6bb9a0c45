//! What a request demands, and what of that is not here.

use rsipstack::sip::{HeadersExt as _, Method, Request};

use super::{Refusal, Terms};
use crate::sip::{reliable, session_timer};

/// What its Require headers name, all of them.
fn required(request: &Request) -> impl Iterator<Item = &str> {
    let headers = request.headers.iter().filter(|header| header.name().eq_ignore_ascii_case("Require"));
    headers.flat_map(|header| header.value().split(',')).map(str::trim)
}

pub(super) fn demands(request: &Request, option: &str) -> bool {
    required(request).any(|tag| tag.eq_ignore_ascii_case(option))
}

/// Extensions that a request needs and that are not here (RFC 3261 §8.2.2.3).
pub(super) fn demanded(request: &Request) -> Option<Refusal> {
    // Nothing but an INVITE has provisional answers that could have to arrive (RFC 3262 §3).
    let known = ["timer", reliable::OPTION];
    let known = if request.method == Method::Invite { &known[..] } else { &known[..1] };
    let is_known = |tag: &str| known.iter().any(|known| tag.eq_ignore_ascii_case(known));
    let unknown: Vec<&str> = required(request).filter(|tag| !tag.is_empty() && !is_known(tag)).collect();
    let unsupported = || vec![("Unsupported".to_owned(), unknown.join(", "))];
    (!unknown.is_empty()).then(|| Refusal { code: 420, headers: unsupported() })
}

/// What an INVITE demands that is not here (RFC 3261 §8.2.2.3, §8.2.3).
pub(super) fn unfit(invite: &Request) -> Option<Refusal> {
    if let Some(refusal) = demanded(invite) {
        return Some(refusal);
    }
    if let Some(refusal) = Terms::of(invite).refused_below(session_timer::LEAST_S) {
        return Some(refusal);
    }
    let kind = invite.header_value("Content-Type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !invite.body.is_empty() && !matches!(kind.as_str(), "" | "application/sdp") {
        return Some(Refusal { code: 415, headers: vec![("Accept".to_owned(), "application/sdp".to_owned())] });
    }
    None
}
