//! Numbers and URIs: a trunk's templates for request URIs and `Refer-To`, what is behind a URI of the far end, and where a
//! redirect may lead.
//!
//! A [`Template`] is a URI with `{to}`, `{digits}` and `{trunk_host}` in it. What is put in is escaped as a user part (RFC 3261
//! §25.1), so that no number grows a host, a parameter or a header of its own.

use std::fmt::Write as _;
use std::str::FromStr;

/// Longer URIs are not read, longer templates not taken.
const MAX_BYTES: usize = 1024;
const MAX_TEMPLATE: usize = 256;
/// A user part that is a number or a name.
const MAX_USER: usize = 64;
/// How often a call follows a 3xx.
const MAX_REDIRECTS: u32 = 2;

/// A URI with gaps, from the config of a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `{to}`: the number as it was given, such as `+15551234567`.
    To,
    /// `{digits}`: the same without the plus.
    Digits,
    /// `{trunk_host}`: the trunk's domain.
    TrunkHost,
}

impl Template {
    /// Of request URIs, and of `Refer-To`, where the trunk says nothing else.
    pub fn sip() -> Self {
        Self::from_str("sip:{to}@{trunk_host}").expect("it is the first that the tests read")
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URI of this number at a trunk of this domain.
    pub fn fill(&self, to: &str, trunk_host: &str) -> String {
        let mut uri = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => uri.push_str(text),
                Part::To => escape_user(&mut uri, to),
                Part::Digits => escape_user(&mut uri, to.strip_prefix('+').unwrap_or(to)),
                Part::TrunkHost => uri.push_str(trunk_host),
            }
        }
        uri
    }
}

/// The error says what to write instead.
impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEMPLATE
            || !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"\\^`|".contains(&byte))
        {
            return Err(format!("it is no URI: at most {MAX_TEMPLATE} characters of those that URIs have"));
        }
        let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Some("sip" | "sips" | "tel")) {
            return Err("it begins with none of sip:, sips: and tel:".to_owned());
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or("a { has no }")?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "to" => Part::To,
                "digits" => Part::Digits,
                "trunk_host" => Part::TrunkHost,
                other => {
                    return Err(format!("{{{other}}} is unknown: there are {{to}}, {{digits}} and {{trunk_host}}"));
                }
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        if !parts.iter().any(|part| matches!(part, Part::To | Part::Digits)) {
            return Err("the number has no place in it: write {to} or {digits}".to_owned());
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

/// `unreserved` and `user-unreserved` as they are but for `;` and `?`, which some read as an end; everything else as `%XX`.
fn escape_user(uri: &mut String, user: &str) {
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
}

/// The URI of a number at a host, as `From` and `Contact` show it.
pub fn at(number: &str, host: &str) -> String {
    let mut uri = "sip:".to_owned();
    escape_user(&mut uri, number);
    uri.push('@');
    uri.push_str(host);
    uri
}

/// Who is meant by a URI of the far end: the user of `sip:` and `sips:`, the number of `tel:`. Parameters and a password are left
/// out, escapes undone, a number's separators taken away (RFC 3966 §5.1.1). `None`: nobody, or no plain name.
pub fn user_of(uri: &str) -> Option<String> {
    let (scheme, rest) = parted(uri)?;
    let is_tel = scheme.eq_ignore_ascii_case("tel");
    let user = if is_tel { rest } else { rest.split_once('@')?.0 };
    let user = user.split([';', ':']).next()?;
    let mut plain = unescaped(user)?;
    if is_tel || plain.starts_with('+') {
        plain.retain(|letter| !matches!(letter, '-' | '.' | '(' | ')'));
    }
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "+-_.*#".contains(letter);
    ((1..=MAX_USER).contains(&plain.len()) && plain.chars().all(fits)).then_some(plain)
}

/// The host of a `sip:` or `sips:` URI, in lower case, without its port.
pub fn host_of(uri: &str) -> Option<String> {
    let (_, rest) = parted(uri).filter(|(scheme, _)| !scheme.eq_ignore_ascii_case("tel"))?;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let rest = rest.split([';', '?', '>']).next()?;
    let host = match rest.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => rest.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// The port that a `sip:` or `sips:` URI names, or its scheme's own (RFC 3261 §19.1.2).
pub fn port_of(uri: &str) -> Option<u16> {
    let (scheme, rest) = parted(uri).filter(|(scheme, _)| !scheme.eq_ignore_ascii_case("tel"))?;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let rest = rest.split([';', '?', '>']).next()?;
    let behind = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
    match behind.rsplit_once(':') {
        Some((_, port)) => port.parse().ok(),
        None => Some(if scheme.eq_ignore_ascii_case("sips") { 5061 } else { 5060 }),
    }
}

/// Whether both lead to the same user at the same host and port.
pub fn is_same_place(one: &str, other: &str) -> bool {
    let place = |uri: &str| Some((host_of(uri)?, port_of(uri)?, user_of(uri)));
    place(one).is_some_and(|one| place(other) == Some(one))
}

/// Where a call that was redirected so often already goes on to, if it may follow this `Contact`: within its trunk's own hosts, and
/// not for ever. A far end must not lead our credentials and bills to somebody else (RFC 3261 §26.1), so nothing but user, host and port
/// is left of its URI.
pub fn redirected(contact: &str, trunk_hosts: &[String], followed: u32) -> Option<String> {
    let (scheme, rest) = parted(contact).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("sip"))?;
    let host = host_of(contact).filter(|_| followed < MAX_REDIRECTS)?;
    trunk_hosts.iter().any(|own| own.eq_ignore_ascii_case(&host)).then_some(())?;
    let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
    let place = place.split([';', '?', '>']).next()?;
    let brackets = if place.starts_with('[') { 2 } else { 0 };
    let port = place.get(host.len() + brackets..)?;
    // What stands where a port should is the far end's own text.
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok();
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_number)).then_some(())?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;/%:".contains(&byte);
    match user {
        Some(user) if user.bytes().all(fits) => Some(format!("{}:{user}@{place}", scheme.to_ascii_lowercase())),
        Some(_) => None,
        None => Some(format!("{}:{place}", scheme.to_ascii_lowercase())),
    }
}

/// A From or To as it stands, without a display name that would mislead whoever looks for its first `<`.
pub fn plainly_named(header: &str) -> &str {
    let Some(behind) = behind_name(header) else { return header };
    let name = &header[..header.len() - behind.len()];
    if name.contains(['<', '>']) { behind.trim_start() } else { header }
}

/// What stands behind a quoted display name, or all where there is none; `None`: the quote has no end.
fn behind_name(text: &str) -> Option<&str> {
    let Some(quoted) = text.trim_start().strip_prefix('"') else { return Some(text) };
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '"' => return Some(&quoted[at + 1..]),
            _ => {}
        }
    }
    None
}

/// Scheme and rest of a URI, also of one in angle brackets behind a display name.
fn parted(uri: &str) -> Option<(&str, &str)> {
    if uri.len() > MAX_BYTES {
        return None;
    }
    let uri = behind_name(uri)?;
    let uri = uri.split_once('<').map_or(uri, |(_, behind)| behind.split('>').next().unwrap_or(""));
    let (scheme, rest) = uri.trim().split_once(':')?;
    ["sip", "sips", "tel"].iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some((scheme, rest))
}

pub(crate) fn unescaped(text: &str) -> Option<String> {
    let (mut plain, mut bytes) = (Vec::new(), text.bytes());
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'%' { (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8 } else { byte });
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, to: &str) -> String {
        Template::from_str(template).unwrap().fill(to, "trunk.example.com")
    }

    #[test]
    fn a_number_becomes_the_trunks_uri() {
        assert_eq!(Template::sip().fill("+15551234567", "h"), "sip:+15551234567@h");
        for (template, uri) in [
            ("sip:{digits}@{trunk_host}", "sip:15551234567@trunk.example.com"),
            ("sip:011{digits}@{trunk_host};user=phone", "sip:01115551234567@trunk.example.com;user=phone"),
            ("tel:{to}", "tel:+15551234567"),
            ("sips:{to}@10.0.0.1:5061;transport=tls", "sips:+15551234567@10.0.0.1:5061;transport=tls"),
        ] {
            assert_eq!(filled(template, "+15551234567"), uri);
        }
    }

    #[test]
    fn what_is_put_in_stays_a_user_part() {
        assert_eq!(filled("sip:{to}@h", "+1@evil;x?y#\r\n%"), "sip:+1%40evil%3Bx%3Fy%23%0D%0A%25@h");
        assert_eq!(at("+1555", "h"), "sip:+1555@h");
        assert_eq!(at("a b:c", "h"), "sip:a%20b%3Ac@h");
    }

    #[test]
    fn a_wrong_template_says_what_to_write() {
        for (template, part) in [
            ("{to}@h", "sip:, sips: and tel:"),
            ("http:{to}", "sip:, sips: and tel:"),
            ("sip:{too}@h", "{trunk_host}"),
            ("sip:{to@h", "no }"),
            ("sip:fixed@h", "write {to} or {digits}"),
            ("sip:{to}@h\r\nX: y", "no URI"),
            ("sip:{to}@h>", "no URI"),
        ] {
            let error = Template::from_str(template).unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
        }
    }

    #[test]
    fn who_is_meant() {
        for (uri, user) in [
            ("sip:+15551234567@host;user=phone", Some("+15551234567")),
            ("\"Bob\" <sip:bob@host>;tag=1", Some("bob")),
            ("\"<sip:eve@evil> \\\" <\" <sip:bob@host>;tag=1", Some("bob")),
            ("\"Bob <sip:bob@host>", None),
            ("sip:+1-555-123.4567;phone-context=x@host", Some("+15551234567")),
            ("tel:+1(555)123-4567;ext=1", Some("+15551234567")),
            ("sip:%2B1555@host", Some("+1555")),
            ("SIP:1:secret@host", Some("1")),
            ("sip:host", None),
            ("sip:a%0d@host", None),
            ("sip:a%+1@host", None),
            ("sip:%2@host", None),
            ("mailto:a@b", None),
            ("", None),
        ] {
            assert_eq!(user_of(uri).as_deref(), user, "{uri}");
        }
        assert_eq!(user_of(&format!("sip:{}@h", "1".repeat(65))), None);
        assert_eq!(user_of(&format!("sip:1@{}", "h".repeat(2000))), None);
    }

    #[test]
    fn a_name_that_misleads_is_left_out() {
        for (header, plain) in [
            ("\"a <b>\" <sip:c@d>;tag=1", "<sip:c@d>;tag=1"),
            ("\"a \\\" >\"<sip:c@d>", "<sip:c@d>"),
            ("\"Bob\" <sip:c@d>;tag=1", "\"Bob\" <sip:c@d>;tag=1"),
            ("Bob <sip:c@d>", "Bob <sip:c@d>"),
            ("\"a <sip:c@d>", "\"a <sip:c@d>"),
            ("", ""),
        ] {
            assert_eq!(plainly_named(header), plain);
        }
    }

    #[test]
    fn a_redirect_stays_within_the_trunk_and_ends() {
        let own = ["trunk.example.com", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let goes = |contact: &str, followed| redirected(contact, &own, followed);
        assert_eq!(
            goes("<sip:1@Trunk.Example.com:5080;transport=tcp?Route=%3Csip:evil%3E>", 0).as_deref(),
            Some("sip:1@Trunk.Example.com:5080")
        );
        assert_eq!(goes("sip:192.0.2.1;maddr=203.0.113.9", 1).as_deref(), Some("sip:192.0.2.1"));
        assert_eq!(goes("sip:1;x=y@[2001:db8::1]:5060", 1).as_deref(), Some("sip:1;x=y@[2001:db8::1]:5060"));
        for (contact, followed) in [
            ("sip:192.0.2.1", 2),
            ("sip:1@192.0.2.2", 0),
            ("sip:trunk.example.com@evil.example", 0),
            ("sip:a b@192.0.2.1", 0),
            ("sip:192.0.2.1:1:5060", 0),
            ("sip:192.0.2.1:\" <sip:203.0.113.9", 0),
            ("sip:192.0.2.1:+5060", 0),
            ("sip:192.0.2.1:65536", 0),
            ("sip:192.0.2.1 x", 0),
            ("sip:[2001:db8::1]x", 0),
            ("sips:1@192.0.2.1", 0),
            ("tel:+1", 0),
            ("", 0),
        ] {
            assert_eq!(goes(contact, followed), None, "{contact}");
        }
    }

    #[test]
    fn places_that_are_the_same_and_places_that_are_not() {
        let ours = "sip:trunk@192.0.2.1:5060";
        for same in ["<sip:trunk@192.0.2.1>", "sip:trunk@192.0.2.1:5060;transport=tcp", "SIP:%74runk@192.0.2.1"] {
            assert!(is_same_place(same, ours), "{same}");
        }
        for other in
            ["sip:trunk@192.0.2.1:50600", "sip:trunk@192.0.2.11", "sip:other@192.0.2.1", "sip:192.0.2.1", "*", ""]
        {
            assert!(!is_same_place(other, ours), "{other}");
        }
        assert!(is_same_place("sip:a@[2001:DB8::1]", "sip:a@[2001:db8::1]:5060"));
        assert_eq!((port_of("sips:h"), port_of("sip:h:99999"), port_of("tel:+1")), (Some(5061), None, None));
    }
}
