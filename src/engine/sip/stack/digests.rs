//! Challenges and the proofs that answer them, as texts in headers: in the RFC's words for the wire, in the crate's for the crate.
//!
//! The crate knows `SHA256` where RFC 7616 §3.3 says `SHA-256`, no list of `qop`, one challenge only, and quotes the `qop` of its answer (RFC 3261
//! §25.1 does not). One challenge that we can answer is left of several, in its words, and its answer is written in ours. One that nobody can
//! answer is taken out: the crate then reports the code.

use rsipstack::sip::{Header, Response, StatusCode};

use super::proofs::Party;
use crate::sip::digest::parameters;

/// Leaves the first challenge that we can answer (RFC 8760 §2.4: the far side's order is its preference).
pub(super) fn choose(response: &mut Response) {
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

pub(super) fn call_it_stale(response: &mut Response) {
    let stale = |value: &str| match value.rsplit_once(", stale=") {
        Some((before, word)) if !word.contains(',') => format!("{before}, stale=true"),
        _ => format!("{value}, stale=true"),
    };
    for header in &mut response.headers.0 {
        match header {
            Header::WwwAuthenticate(value) => *value = stale(value.value()).into(),
            Header::ProxyAuthenticate(value) => *value = stale(value.value()).into(),
            _ => {}
        }
    }
}

pub(super) fn proof_of(header: &Header) -> Option<(Party, String)> {
    let (is_proxy, value) = match header {
        Header::Authorization(value) => (false, value.value()),
        Header::ProxyAuthorization(value) => (true, value.value()),
        _ => return None,
    };
    Some((Party::of(is_proxy, value)?, value.to_owned()))
}

/// Who asks, and whether its answer was only too old.
pub(super) fn asks(header: &Header) -> Option<(Party, bool)> {
    let (is_proxy, value) = match header {
        Header::WwwAuthenticate(value) => (false, value.value()),
        Header::ProxyAuthenticate(value) => (true, value.value()),
        _ => return None,
    };
    let stale = parameters(value).into_iter().find(|(name, _)| name.eq_ignore_ascii_case("stale"));
    Some((Party::of(is_proxy, value)?, stale.is_some_and(|(_, word)| unquoted(word).eq_ignore_ascii_case("true"))))
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
pub(super) fn answer(value: &str) -> String {
    let Some(at) = value.rfind("response=\"") else { return value.to_owned() };
    let (before, after) = value.split_at(at);
    let after = after.replace("algorithm=SHA256", "algorithm=SHA-256").replace("qop=\"auth\"", "qop=auth");
    format!("{before}{after}")
}

/// For `crate::fuzz`.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(challenge) = challenge(text) {
        assert!(challenge.starts_with("Digest realm=") && challenge.contains(", nonce="));
        assert!(text.contains(['\r', '\n']) || !challenge.contains(['\r', '\n']), "one line stays one");
    }
    assert_eq!(answer(&answer(text)), answer(text));
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
