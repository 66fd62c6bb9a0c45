//! Messages of a call's control track: what a bridge is to learn of its call beside audio. `docs/tracks.md` describes them.
//!
//! One message is one object: a JSON object with `v`, the version of the format, and `type`. Whoever reads ignores types and fields
//! that he does not know, and messages of a later version; so types and fields may be added, and `v` grows only when something
//! that is there changes its meaning. The engine writes and the SDK reads by this file alone.

use serde::{Deserialize, Serialize};

/// The version that is written, and the latest that is read.
pub const VERSION: u32 = 1;
/// A longer object is no message of ours.
pub const MAX_BYTES: usize = 4096;
/// No press is longer; what says so is clamped.
const MAX_DURATION_MS: u32 = 3_600_000;

/// How a key came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// As telephone events between the packets of the audio.
    Rfc4733,
    /// Signalled, by SIP INFO.
    Info,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rfc4733 => "rfc4733",
            Self::Info => "info",
        }
    }
}

/// A key that the far end has pressed, told when it was let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dtmf {
    /// `0`–`9`, `*`, `#`, `A`–`D`.
    pub digit: char,
    /// How long it was held.
    #[serde(default)]
    pub duration_ms: u32,
    /// When it was pressed, on the clock of the call's audio stamps.
    #[serde(default)]
    pub at_us: u64,
    /// Text, so that an SDK reads the words of a newer engine.
    #[serde(default)]
    pub source: String,
}

impl Dtmf {
    pub fn new(digit: char, duration_ms: u32, at_us: u64, source: Source) -> Self {
        let duration_ms = duration_ms.min(MAX_DURATION_MS);
        Self { digit, duration_ms, at_us, source: source.as_str().to_owned() }
    }
}

/// Everything that is said so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    Dtmf(Dtmf),
}

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    #[serde(flatten)]
    message: &'a Message,
}

#[derive(Deserialize)]
struct Head {
    v: u32,
    r#type: String,
}

/// What came of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Message(Message),
    /// Of a later version, or of a type that this one does not know.
    Unknown,
    /// No message at all.
    Spoiled,
}

impl Message {
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(&Written { v: VERSION, message: self }).expect("plain structures with text keys")
    }
}

/// Reads one object of the track.
pub fn read(object: &[u8]) -> Read {
    if object.len() > MAX_BYTES {
        return Read::Spoiled;
    }
    let Ok(head) = serde_json::from_slice::<Head>(object) else { return Read::Spoiled };
    if head.v > VERSION || head.r#type != "dtmf" {
        return Read::Unknown;
    }
    match serde_json::from_slice(object) {
        Ok(message @ Message::Dtmf(Dtmf { digit: '0'..='9' | '*' | '#' | 'A'..='D', .. })) => Read::Message(message),
        _ => Read::Spoiled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn five() -> Message {
        Message::Dtmf(Dtmf::new('5', 160, 123_456, Source::Rfc4733))
    }

    /// What is on the wire: another engine or SDK is held to these bytes.
    #[test]
    fn a_message_reads_as_docs_tracks_says() {
        let text = r##"{"v":1,"type":"dtmf","digit":"5","duration_ms":160,"at_us":123456,"source":"rfc4733"}"##;
        assert_eq!(String::from_utf8(five().write()).unwrap(), text);
        assert_eq!(read(text.as_bytes()), Read::Message(five()));
        let hash = Message::Dtmf(Dtmf::new('#', u32::MAX, u64::MAX, Source::Info));
        assert_eq!(read(&hash.write()), Read::Message(hash));
        let Message::Dtmf(longest) = Message::Dtmf(Dtmf::new('#', u32::MAX, 0, Source::Info));
        assert_eq!(longest.duration_ms, MAX_DURATION_MS);
    }

    #[test]
    fn what_a_later_engine_says_is_passed_over_or_understood() {
        let later = [
            r#"{"v":2,"type":"dtmf","digit":5}"#,
            r#"{"v":1,"type":"mark","name":"x"}"#,
            r#"{"type":"cleared","v":1,"played_ms":[]}"#,
        ];
        assert!(later.iter().all(|text| read(text.as_bytes()) == Read::Unknown));
        let more =
            r#"{"v":1,"type":"dtmf","digit":"5","duration_ms":160,"at_us":123456,"source":"rfc4733","level":{"a":1}}"#;
        assert_eq!(read(more.as_bytes()), Read::Message(five()));
        let word = r#"{"v":1,"type":"dtmf","digit":"5","source":"in_band"}"#;
        let Read::Message(Message::Dtmf(dtmf)) = read(word.as_bytes()) else { panic!("{word}") };
        assert_eq!((dtmf.source.as_str(), dtmf.duration_ms, dtmf.at_us), ("in_band", 0, 0));
    }

    #[test]
    fn what_is_no_message_is_none() {
        let long = format!(r#"{{"v":1,"type":"dtmf","digit":"5","x":"{}"}}"#, "y".repeat(MAX_BYTES));
        let texts = [
            "",
            "[]",
            "{}",
            "5",
            "\u{0}",
            r#"{"v":1}"#,
            r#"{"type":"dtmf","digit":"5"}"#,
            r#"{"v":-1,"type":"dtmf","digit":"5"}"#,
            r#"{"v":1,"type":"dtmf","digit":"55"}"#,
            r#"{"v":1,"type":"dtmf","digit":"x"}"#,
            r#"{"v":1,"type":"dtmf","digit":5}"#,
            r#"{"v":1,"type":"dtmf","digit":"5","duration_ms":-1}"#,
            &long,
        ];
        for text in texts {
            assert_eq!(read(text.as_bytes()), Read::Spoiled, "{text}");
        }
    }
}
