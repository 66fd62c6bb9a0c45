//! What is put right in messages between the wire and the crate, which reads and writes some of them otherwise than the RFCs.
//!
//! - Digest: it knows `SHA256` where RFC 7616 §3.3 says `SHA-256`, no list of `qop`, one challenge only, and quotes the `qop`
//!   of its answer (RFC 3261 §25.1 does not). One challenge that we can answer is left of several, in its words, and its answer is
//!   written in ours. One that nobody can answer is taken out: the crate then reports the code.
//! - It takes the first `<` of From and To for the begin of their URI, inside of a display name too: such names are left out.
//! - A 2xx to an INVITE counts as an answer only if it is a 200 with a Contact.
//! - Its refusals name a Contact, which in a 3xx is a place to go on to (RFC 3261 §8.1.3.4): ours name none.
//! - Answers that it makes itself, for a timer or a broken connection, look like the far side's: they are marked.

use rsipstack::sip::{
    HasHeaders as _, Header, HeadersExt as _, Method, Response, SipMessage, StatusCode, StatusCodeKind,
};
use rsipstack::transaction::endpoint::MessageInspector;
use rsipstack::transport::SipAddr;

use crate::sip::digest::parameters;
use crate::sip::uri::plainly_named;

/// Stands in answers that no far side sent.
const MARK: &str = "X-No-Answer";

pub(super) struct Mend;

impl MessageInspector for Mend {
    fn before_send(&self, message: SipMessage, _: Option<&SipAddr>) -> SipMessage {
        let mut request = match message {
            SipMessage::Request(request) => request,
            SipMessage::Response(mut response) => {
                if response.status_code.code() >= 300 {
                    response.headers.retain(|header| !matches!(header, Header::Contact(_)));
                }
                return SipMessage::Response(response);
            }
        };
        for header in request.headers_mut().iter_mut() {
            match header {
                Header::Authorization(value) => *value = answer(value.value()).into(),
                Header::ProxyAuthorization(value) => *value = answer(value.value()).into(),
                _ => {}
            }
        }
        SipMessage::Request(request)
    }

    fn after_received(&self, message: SipMessage, from: Option<&SipAddr>) -> SipMessage {
        let SipMessage::Response(mut response) = message else { return message };
        response.headers.retain(|header| !matches!(header, Header::Other(name, _) if name.eq_ignore_ascii_case(MARK)));
        match from {
            None => response.headers.push(Header::Other(MARK.to_owned(), "1".to_owned())),
            Some(from) => mend(&mut response, from),
        }
        SipMessage::Response(response)
    }
}

/// Leaves out display names that would mislead; others stay as they are. Before the crate looks for the transaction, which has the tag in
/// its name.
pub(super) fn name_plainly(message: &mut SipMessage) {
    let SipMessage::Request(request) = message else { return };
    for header in &mut request.headers.0 {
        match header {
            Header::From(value) => *value = plainly_named(value.value()).to_owned().into(),
            Header::To(value) => *value = plainly_named(value.value()).to_owned().into(),
            _ => {}
        }
    }
}

/// Nobody but the crate said this.
pub(super) fn is_made_up(response: &Response) -> bool {
    response.headers.iter().any(|header| matches!(header, Header::Other(name, _) if name == MARK))
}

fn mend(response: &mut Response, from: &SipAddr) {
    if matches!(response.status_code, StatusCode::Unauthorized | StatusCode::ProxyAuthenticationRequired) {
        return choose(response);
    }
    let is_of_invite =
        response.cseq_header().and_then(|cseq| cseq.method()).is_ok_and(|method| method == Method::Invite);
    if !is_of_invite || response.status_code.kind() != StatusCodeKind::Successful {
        return;
    }
    response.status_code = StatusCode::OK;
    if !response.typed_contact_headers().is_ok_and(|contacts| !contacts.is_empty()) {
        response.headers.retain(|header| !matches!(header, Header::Contact(_)));
        response.headers.push(Header::Contact(format!("<sip:{}>", from.addr).into()));
    }
}

/// Leaves the first challenge that we can answer (RFC 8760 §2.4: the far side's order is its preference).
fn choose(response: &mut Response) {
    let is_proxys = response.status_code == StatusCode::ProxyAuthenticationRequired;
    let challenge = response.headers.iter().find_map(|header| match header {
        Header::WwwAuthenticate(value) if !is_proxys => challenge(value.value()),
        Header::ProxyAuthenticate(value) if is_proxys => challenge(value.value()),
        _ => None,
    });
    response.headers.retain(|header| !matches!(header, Header::WwwAuthenticate(_) | Header::ProxyAuthenticate(_)));
    response.headers.0.extend(challenge.map(|text| match is_proxys {
        true => Header::ProxyAuthenticate(text.into()),
        false => Header::WwwAuthenticate(text.into()),
    }));
}

/// A challenge in the crate's words; `None`: it can't be answered.
fn challenge(value: &str) -> Option<String> {
    let (scheme, rest) = value.trim().split_once(char::is_whitespace)?;
    if !scheme.eq_ignore_ascii_case("digest") {
        return None;
    }
    let parameters = parameters(rest);
    let find = |name: &str| parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    let algorithm = match find("algorithm").map(unquoted) {
        None => "MD5",
        Some(name) if name.eq_ignore_ascii_case("MD5") => "MD5",
        Some(name) if name.eq_ignore_ascii_case("SHA-256") => "SHA256",
        Some(_) => return None,
    };
    let mut text = format!("Digest realm={}, nonce={}, algorithm={algorithm}", find("realm")?, find("nonce")?);
    if let Some(qop) = find("qop") {
        unquoted(qop).split(',').find(|word| word.trim().eq_ignore_ascii_case("auth"))?;
        text.push_str(", qop=\"auth\"");
    }
    for name in ["opaque", "stale"] {
        if let Some(value) = find(name) {
            text.push_str(&format!(", {name}={value}"));
        }
    }
    Some(text)
}

fn unquoted(value: &str) -> &str {
    value.trim().trim_matches('"')
}

/// The crate's answer in the RFC's words. A name or realm stands before the response, and is left alone.
fn answer(value: &str) -> String {
    let Some(at) = value.rfind("response=\"") else { return value.to_owned() };
    let (before, after) = value.split_at(at);
    let after = after.replace("algorithm=SHA256", "algorithm=SHA-256").replace("qop=\"auth\"", "qop=auth");
    format!("{before}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_as_the_rfc_writes_it() {
        let plain = r#"Digest realm="a, b", nonce="x=y""#;
        assert_eq!(challenge(plain).unwrap(), r#"Digest realm="a, b", nonce="x=y", algorithm=MD5"#);
        let full = r#"Digest algorithm=SHA-256, qop="auth,auth-int", nonce="n", realm="r", opaque="o", stale=TRUE"#;
        let read = r#"Digest realm="r", nonce="n", algorithm=SHA256, qop="auth", opaque="o", stale=TRUE"#;
        assert_eq!(challenge(full).unwrap(), read);
        let escaped = r#"Digest realm="a\"b,c", nonce="n""#;
        assert_eq!(challenge(escaped).unwrap(), r#"Digest realm="a\"b,c", nonce="n", algorithm=MD5"#);
    }

    #[test]
    fn a_challenge_that_nobody_can_answer_is_left_out() {
        for text in [
            "Basic realm=\"r\"",
            "Digest",
            "",
            r#"Digest realm="r""#,
            r#"Digest realm="r", nonce="n", algorithm=MD5-sess"#,
            r#"Digest realm="r", nonce="n", qop="auth-int""#,
        ] {
            assert_eq!(challenge(text), None, "{text}");
        }
    }

    #[test]
    fn an_answer_is_written_as_the_rfc_wants_it() {
        let theirs =
            r#"Digest username="qop=\"auth\"", response="00", algorithm=SHA256, qop="auth", nc=00000001, cnonce="c""#;
        let ours =
            r#"Digest username="qop=\"auth\"", response="00", algorithm=SHA-256, qop=auth, nc=00000001, cnonce="c""#;
        assert_eq!(answer(theirs), ours);
    }
}
