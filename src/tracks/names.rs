//! Names of a call's tracks: namespace `("voice", sid, "uplink" | "downlink")`, track `audio` or a rendition of it; and beside them
//! `("voice", sid, "control")`, track `events`.

use bytes::Bytes;

use crate::moqt::name::NameError;
use crate::moqt::{FullTrackName, TrackNamespace};

/// The first field of every call's namespaces.
pub const VOICE: &str = "voice";
/// The call's own rendition: Opus, 48 kHz mono, 20 ms.
pub const AUDIO: &str = "audio";

/// The last field of a call's third namespace, and the track in it: what the call tells beside audio (`call::control`).
pub const CONTROL: &str = "control";
pub const EVENTS: &str = "events";

/// Which way audio flows, seen from the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Caller to cloud.
    Uplink,
    /// Cloud to caller.
    Downlink,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Uplink => "uplink",
            Side::Downlink => "downlink",
        }
    }
}

/// The namespace of one side of a call.
pub fn namespace(sid: &str, side: Side) -> Result<TrackNamespace, NameError> {
    TrackNamespace::new([VOICE, sid, side.as_str()].map(|field| Bytes::copy_from_slice(field.as_bytes())))
}

/// The full name of a rendition of one side of a call; `rendition` is [`AUDIO`] or `audio::Params::rendition`.
pub fn track(sid: &str, side: Side, rendition: &str) -> Result<FullTrackName, NameError> {
    if rendition.is_empty() {
        return Err(NameError);
    }
    Ok(FullTrackName { namespace: namespace(sid, side)?, name: Bytes::copy_from_slice(rendition.as_bytes()) })
}

/// The full name of a call's control track.
pub fn control(sid: &str) -> Result<FullTrackName, NameError> {
    let fields = [VOICE, sid, CONTROL].map(|field| Bytes::copy_from_slice(field.as_bytes()));
    Ok(FullTrackName { namespace: TrackNamespace::new(fields)?, name: Bytes::from_static(EVENTS.as_bytes()) })
}

/// Reads a name back: sid, side and rendition, or `None` when it is not a call's track.
pub fn parse(track: &FullTrackName) -> Option<(&str, Side, &str)> {
    let [voice, sid, side] = track.namespace.fields() else { return None };
    let side = match &side[..] {
        b"uplink" => Side::Uplink,
        b"downlink" => Side::Downlink,
        _ => return None,
    };
    let rendition = std::str::from_utf8(&track.name).ok()?;
    (&voice[..] == VOICE.as_bytes()).then_some(())?;
    Some((std::str::from_utf8(sid).ok()?, side, rendition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calls_track_reads_back() {
        let name = track("CA1", Side::Downlink, "audio.pcm16.16000").unwrap();
        assert_eq!(parse(&name), Some(("CA1", Side::Downlink, "audio.pcm16.16000")));
        assert!(track("CA1", Side::Uplink, "").is_err());
    }

    #[test]
    fn a_control_track_carries_no_audio() {
        let name = control("CA1").unwrap();
        assert_eq!((name.namespace.fields().len(), &name.name[..]), (3, &b"events"[..]));
        assert_eq!(parse(&name), None);
    }

    #[test]
    fn foreign_names_are_no_calls_tracks() {
        for fields in [&["voice", "CA1"][..], &["video", "CA1", "uplink"], &["voice", "CA1", "sideways"]] {
            let namespace = TrackNamespace::new(fields.iter().map(|f| Bytes::from(f.to_string()))).unwrap();
            assert_eq!(parse(&FullTrackName { namespace, name: Bytes::from_static(b"audio") }), None);
        }
    }
}
