//! Contact headers (RFC 3261 §20.10): where a registration is bound, and where a redirect leads.
//!
//! Several contacts may share a header, and a display name may hold every letter that parts them. Texts in, texts out; what is longer
//! than a carrier writes is not read.

use std::time::Duration;

/// Longer headers are not read, nor more contacts of one message.
const MAX_BYTES: usize = 4096;
const MAX_CONTACTS: usize = 32;

/// One contact as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact<'a> {
    pub uri: &'a str,
    /// Behind the URI, each after a semicolon.
    parameters: &'a str,
}

impl<'a> Contact<'a> {
    /// Without the quotes that some write around a value.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.split(';').find_map(|parameter| {
            let (found, value) = parameter.split_once('=')?;
            found.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
        })
    }

    pub fn expires(&self) -> Option<Duration> {
        self.parameter("expires")?.parse().ok().map(Duration::from_secs)
    }

    /// In thousandths, as the RFC has it; 1000 without one.
    fn q(&self) -> u32 {
        let q = self.parameter("q").and_then(|q| q.parse::<f64>().ok()).filter(|q| (0.0..=1.0).contains(q));
        q.map_or(1000, |q| (q * 1000.0) as u32)
    }
}

/// All contacts of these headers, as they stand.
pub fn contacts<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Contact<'a>> {
    let headers = headers.into_iter().filter(|header| header.len() <= MAX_BYTES);
    headers.flat_map(apart).filter_map(contact).take(MAX_CONTACTS).collect()
}

/// The best first; equals as they stand.
pub fn by_preference<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Contact<'a>> {
    let mut contacts = contacts(headers);
    contacts.sort_by_key(|contact| std::cmp::Reverse(contact.q()));
    contacts
}

/// At commas that are neither in quotes nor in angle brackets.
fn apart(header: &str) -> Vec<&str> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped, mut is_in_uri) = (false, false, false);
    for (at, letter) in header.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' if !is_in_uri => is_quoted = !is_quoted,
            '<' if !is_quoted => is_in_uri = true,
            '>' if !is_quoted => is_in_uri = false,
            ',' if !is_quoted && !is_in_uri => {
                parts.push(&header[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&header[begin..]);
    parts
}

fn contact(text: &str) -> Option<Contact<'_>> {
    let text = text.trim();
    // A quoted name may hold brackets of its own.
    let behind_name = if text.starts_with('"') { name_end(text)? } else { 0 };
    let (uri, parameters) = match text[behind_name..].split_once('<') {
        Some((_, rest)) => rest.split_once('>')?,
        // Without brackets every parameter is the contact's.
        None => text.split_once(';').unwrap_or((text, "")),
    };
    (!uri.trim().is_empty()).then(|| Contact { uri: uri.trim(), parameters })
}

/// Behind the closing quote.
fn name_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().skip(1).find_map(|(at, letter)| {
        let ends = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        ends.then_some(at + 1)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn contacts_that_share_a_header() {
        let header =
            "\"Ann, <the \\\"first\\\">\" <sip:a@h;x=1,2>;expires=60 ;q=0.5, sip:b@h;expires=\"7\", <sip:c@h>;Q=0.7";
        let read = contacts([header]);
        let uris: Vec<&str> = read.iter().map(|contact| contact.uri).collect();
        assert_eq!(uris, ["sip:a@h;x=1,2", "sip:b@h", "sip:c@h"]);
        let expires: Vec<_> = read.iter().map(|contact| contact.expires().map(|expires| expires.as_secs())).collect();
        assert_eq!(expires, [Some(60), Some(7), None]);
        let best: Vec<&str> = by_preference([header]).iter().map(|contact| contact.uri).collect();
        assert_eq!(best, ["sip:b@h", "sip:c@h", "sip:a@h;x=1,2"]);
    }

    #[test]
    fn what_is_no_contact() {
        for header in ["", " , ,", "*x <", "\"open <sip:a@h>", "<>"] {
            assert!(contacts([header]).iter().all(|contact| !contact.uri.contains("sip:")), "{header}");
        }
        assert_eq!(contacts(["*"])[0].uri, "*");
        assert_eq!(contacts([&*format!("<sip:a@{}>", "h".repeat(5000))]), []);
        assert_eq!(contacts([&*"<sip:a@h>,".repeat(100)]).len(), MAX_CONTACTS);
        assert_eq!(contacts(["<sip:a@h>;q=9;expires=-1"])[0].q(), 1000);
    }

    proptest! {
        #[test]
        fn no_header_panics(header in "([<>\",;=\\\\ ]|sip:|é|q|[0-9.]){0,60}") {
            for contact in by_preference([&*header]) {
                prop_assert!(header.contains(contact.uri));
            }
        }
    }
}
