//! Keys in the bodies of INFO requests (RFC 6086 calls them legacy): `application/dtmf-relay`, lines of `Signal=` and `Duration=`, and
//! `application/dtmf`, the key alone. No RFC describes either; what is taken here is what gateways and phones send.

/// A longer body is none of these.
const MOST_BYTES: usize = 256;
/// Where nobody says how long the key was pressed.
const USUAL_MS: u32 = 160;
/// A longer press is none.
const MOST_MS: u32 = 60_000;

/// What an INFO is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Info {
    Key {
        key: char,
        duration_ms: u32,
    },
    /// Well formed, and no key: a hook flash, or nothing at all.
    Nothing,
    /// Of a type that we read, and not as such.
    Spoiled,
    /// Of another type.
    Foreign,
}

/// The type that we write.
pub const RELAY: &str = "application/dtmf-relay";

/// The body of a key of ours.
pub fn relay(key: char, duration_ms: u32) -> String {
    format!("Signal={key}\r\nDuration={duration_ms}\r\n")
}

/// The types that we read.
pub const ACCEPT: &str = "application/dtmf-relay, application/dtmf";

/// Reads an INFO by its Content-Type, which may have parameters.
pub fn read(content_type: Option<&str>, body: &[u8]) -> Info {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Info::Nothing;
    }
    let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is = |wanted: &str| kind.eq_ignore_ascii_case(wanted);
    let is_relay = is("application/dtmf-relay");
    if !is_relay && !is("application/dtmf") {
        return Info::Foreign;
    }
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= MOST_BYTES);
    let Some(text) = text else { return Info::Spoiled };
    let field = |name: &str| {
        let values = text.lines().filter_map(|line| line.split_once('='));
        let mut values = values.filter(|(found, _)| found.trim().eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim())
    };
    // Some write the lines of the one under the name of the other.
    let signal = field("signal").or_else(|| (!is_relay).then_some(text.trim()));
    let duration_ms = match field("duration").map(str::parse::<u32>) {
        None => USUAL_MS,
        Some(Ok(ms)) => ms.min(MOST_MS),
        Some(Err(_)) => return Info::Spoiled,
    };
    match signal.map(key) {
        Some(Signal::Key(key)) => Info::Key { key, duration_ms },
        Some(Signal::Flash) => Info::Nothing,
        Some(Signal::Wrong) | None => Info::Spoiled,
    }
}

enum Signal {
    Key(char),
    Flash,
    Wrong,
}

/// A key by its letter, or by its event code (RFC 4733 §3.2).
fn key(signal: &str) -> Signal {
    match signal {
        "10" => Signal::Key('*'),
        "11" => Signal::Key('#'),
        "12" => Signal::Key('A'),
        "13" => Signal::Key('B'),
        "14" => Signal::Key('C'),
        "15" => Signal::Key('D'),
        "16" | "!" => Signal::Flash,
        _ => match signal.as_bytes() {
            [letter @ (b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D' | b'a'..=b'd')] => {
                Signal::Key(char::from(letter.to_ascii_uppercase()))
            }
            _ => Signal::Wrong,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(body: &str) -> Info {
        read(Some("application/dtmf-relay"), body.as_bytes())
    }

    #[test]
    fn what_gateways_and_phones_send() {
        let five = Info::Key { key: '5', duration_ms: 250 };
        for body in [
            "Signal=5\r\nDuration=250\r\n",
            "Signal= 5\nDuration= 250",
            "duration=250\r\nsignal=5\r\n",
            "Signal=5\r\nDuration=250\r\nVolume=10",
        ] {
            assert_eq!(relay(body), five, "{body:?}");
        }
        assert_eq!(read(Some("Application/DTMF-Relay;charset=utf-8"), b"Signal=5\r\nDuration=250"), five);
        assert_eq!(read(Some("application/dtmf"), b"Signal=5\r\nDuration=250"), five);
        assert_eq!(read(Some("application/dtmf"), b" # \r\n"), Info::Key { key: '#', duration_ms: USUAL_MS });
        for (signal, key) in [("10", '*'), ("11", '#'), ("*", '*'), ("d", 'D'), ("15", 'D'), ("0", '0')] {
            assert_eq!(relay(&format!("Signal={signal}")), Info::Key { key, duration_ms: USUAL_MS });
        }
        assert_eq!(relay("Signal=1\r\nDuration=4000000000"), Info::Key { key: '1', duration_ms: MOST_MS });
    }

    #[test]
    fn what_we_write_we_read() {
        for key in "0123456789*#ABCD".chars() {
            assert_eq!(read(Some(RELAY), super::relay(key, 40).as_bytes()), Info::Key { key, duration_ms: 40 });
        }
    }

    #[test]
    fn what_is_no_key() {
        assert_eq!(
            (relay("Signal=16"), relay(" \r\n"), read(None, b"")),
            (Info::Nothing, Info::Nothing, Info::Nothing)
        );
        for body in
            ["5", "Signal=", "Signal=55", "Signal=x", "Duration=100", "Signal=5\r\nDuration=long", "Signal=\u{e9}"]
        {
            assert_eq!(relay(body), Info::Spoiled, "{body:?}");
        }
        assert_eq!(read(Some("application/dtmf-relay"), &[0xff; 8]), Info::Spoiled);
        assert_eq!(relay(&format!("Signal=5\r\nX={}", "y".repeat(300))), Info::Spoiled);
        assert_eq!(read(Some("application/media_control+xml"), b"<x/>"), Info::Foreign);
        assert_eq!(read(None, b"Signal=5"), Info::Foreign);
    }
}
