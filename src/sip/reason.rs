//! The Reason header (RFC 3326, in answers RFC 6432): why a call is ended, as the telephone network says it.
//!
//! What a cause or a final answer means for a call is `call`'s table (RFC 3398 §8.2.6.1); here are only the texts.

/// Longer headers are not read.
const MAX_BYTES: usize = 1024;
/// A text of ours, and the longest that is kept of theirs.
const MAX_TEXT: usize = 128;

/// What a header says of one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Q.850, 1..=127.
    pub cause: u8,
    pub text: Option<String>,
}

/// The first Q.850 value of these headers. Cause 0 says nothing: some peers send it beside every CANCEL.
pub fn q850<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Reason> {
    let mut found = of_protocol(headers, "Q.850");
    found
        .find_map(|(cause, text)| Some(Reason { cause: u8::try_from(cause).ok().filter(|cause| *cause <= 127)?, text }))
}

/// The first SIP value of these headers: a final answer, 200..=699, that was given elsewhere.
pub fn sip_code<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<u16> {
    of_protocol(headers, "SIP").map(|(cause, _)| cause).find(|code| (200..700).contains(code))
}

/// Cause, above 0, and text of each value of this protocol.
fn of_protocol<'a>(
    headers: impl IntoIterator<Item = &'a str>,
    protocol: &str,
) -> impl Iterator<Item = (u16, Option<String>)> {
    headers.into_iter().filter(|header| header.len() <= MAX_BYTES).flat_map(values).filter_map(move |value| {
        let mut parts = parts(value, ';');
        if !parts.next()?.trim().eq_ignore_ascii_case(protocol) {
            return None;
        }
        let (mut cause, mut text) = (None, None);
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            match name.trim().to_ascii_lowercase().as_str() {
                "cause" => cause = value.trim().parse().ok().filter(|cause| *cause > 0),
                "text" => text = Some(unquoted(value.trim())),
                _ => {}
            }
        }
        Some((cause?, text.filter(|text| !text.is_empty())))
    })
}

/// A header of ours.
pub fn header(cause: u8, text: &str) -> String {
    let plain = text.chars().filter(|letter| !letter.is_control() && !matches!(letter, '"' | '\\'));
    let plain: String = plain.take(MAX_TEXT).collect();
    if plain.is_empty() { format!("Q.850;cause={cause}") } else { format!("Q.850;cause={cause};text=\"{plain}\"") }
}

/// Several values may share a header, parted by commas.
fn values(header: &str) -> impl Iterator<Item = &str> {
    parts(header, ',')
}

/// What stands between separators that are in no quoted text.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |letter: char| {
        if escaped {
            escaped = false;
            return false;
        }
        match letter {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return letter == separator && !quoted,
        }
        false
    })
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.chars().take(MAX_TEXT).collect();
    };
    let (mut plain, mut escaped) = (String::new(), false);
    for letter in inner.chars().take(MAX_TEXT) {
        escaped = letter == '\\' && !escaped;
        if !escaped && !letter.is_control() {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cause(header: &str) -> Option<u8> {
        q850([header]).map(|reason| reason.cause)
    }

    #[test]
    fn what_headers_say() {
        for (header, expected) in [
            ("Q.850;cause=16;text=\"Normal call clearing\"", Some(16)),
            ("q.850 ; CAUSE = 19", Some(19)),
            ("SIP;cause=200;text=\"Call completed elsewhere\"", None),
            ("SIP;cause=486, Q.850;cause=17", Some(17)),
            ("SIP;text=\"a, Q.850;cause=1\", Q.850;cause=34", Some(34)),
            ("Q.850;text=\"a \\\" ;cause=1\";cause=31", Some(31)),
            ("Q.850;cause=0", None),
            ("Q.850;cause=128", None),
            ("Q.850;cause=-1", None),
            ("Q.850", None),
            ("", None),
        ] {
            assert_eq!(cause(header), expected, "{header}");
        }
        assert_eq!(cause(&format!("Q.850;cause=16;text=\"{}\"", "x".repeat(2000))), None);
        assert_eq!(q850(["Q.850;cause=0", "Q.850;cause=17"]).map(|reason| reason.cause), Some(17));
    }

    #[test]
    fn what_answers_elsewhere_headers_name() {
        for (header, expected) in [
            ("SIP;cause=200;text=\"Call completed elsewhere\"", Some(200)),
            ("sip ; CAUSE = 600 ;text=\"Busy Everywhere\"", Some(600)),
            ("Q.850;cause=26, SIP;cause=200", Some(200)),
            ("Q.850;cause=200", None),
            ("SIP;cause=100, SIP;cause=700", None),
            ("SIP;cause=70000", None),
            ("SIP", None),
        ] {
            assert_eq!(sip_code([header]), expected, "{header}");
        }
    }

    #[test]
    fn what_we_write_we_read() {
        let reason = q850([header(16, "Normal \"call\"\r\nX: clearing").as_str()]).unwrap();
        assert_eq!((reason.cause, reason.text.as_deref()), (16, Some("Normal callX: clearing")));
        assert_eq!(header(102, ""), "Q.850;cause=102");
    }

    proptest! {
        #[test]
        fn no_header_panics(header in "(Q\\.850|SIP|[;,=\"\\\\ a-z0-9]){0,60}") {
            if let Some(reason) = q850([header.as_str()]) {
                prop_assert!((1..=127).contains(&reason.cause));
            }
            prop_assert!(sip_code([header.as_str()]).is_none_or(|code| (200..700).contains(&code)));
        }
    }
}
