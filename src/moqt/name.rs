//! Track namespaces and full track names (§2.4.1): tuples of byte strings, compared byte by byte.
//!
//! A [`TrackNamespace`] holds the draft's bounds from birth on; a [`FullTrackName`] made by [`FullTrackName::new`] or read from
//! the wire does so too. Their `Display` is the draft's safe rendering (§1.4.5), fit for logs and file names.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::codec::{Read, Reader, put_prefixed};
use super::error::Violation;
use super::varint;

/// Fields of a namespace.
pub const MAX_FIELDS: usize = 32;
/// Bytes of all fields and the track name together.
pub const MAX_NAME_BYTES: usize = 4096;

const TOO_LONG: &str = "a track name longer than 4096 bytes";

/// An ordered tuple of 0 to 32 non-empty fields; together with the track name at most 4096 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackNamespace(Vec<Bytes>);

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FullTrackName {
    pub namespace: TrackNamespace,
    pub name: Bytes,
}

/// A name outside the draft's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a track namespace has at most 32 fields of at least one byte, and 4096 bytes with the track's name")]
pub struct NameError;

impl TrackNamespace {
    pub fn new<I, F>(fields: I) -> Result<Self, NameError>
    where
        I: IntoIterator<Item = F>,
        F: Into<Bytes>,
    {
        // One more than allowed is enough to know; the rest of an endless iterator is never asked for.
        let fields: Vec<Bytes> = fields.into_iter().take(MAX_FIELDS + 1).map(Into::into).collect();
        let namespace = Self(fields);
        let sound = namespace.0.len() <= MAX_FIELDS && namespace.0.iter().all(|field| !field.is_empty());
        if sound && namespace.bytes() <= MAX_NAME_BYTES { Ok(namespace) } else { Err(NameError) }
    }

    pub fn fields(&self) -> &[Bytes] {
        &self.0
    }

    pub fn starts_with(&self, prefix: &TrackNamespace) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// What follows `prefix`; `None` when this namespace does not start with it.
    pub fn strip_prefix(&self, prefix: &TrackNamespace) -> Option<TrackNamespace> {
        self.0.strip_prefix(&prefix.0[..]).map(|rest| Self(rest.to_vec()))
    }

    pub fn join(&self, suffix: &TrackNamespace) -> Result<TrackNamespace, NameError> {
        Self::new(self.0.iter().chain(&suffix.0).cloned())
    }

    /// Sum of the fields' lengths, as §2.4.1 counts it.
    fn bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Read<Self> {
        let count = reader.varint()?;
        if count > MAX_FIELDS as u64 {
            return Err(Violation::protocol("a namespace of more than 32 fields").into());
        }
        let mut fields = Vec::with_capacity(count as usize);
        let mut left = MAX_NAME_BYTES;
        for _ in 0..count {
            let field = reader.prefixed(left, TOO_LONG)?;
            if field.is_empty() {
                return Err(Violation::protocol("an empty namespace field").into());
            }
            left -= field.len();
            fields.push(field);
        }
        Ok(Self(fields))
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        varint::put(out, self.0.len() as u64);
        self.0.iter().for_each(|field| put_prefixed(out, field));
    }
}

impl FullTrackName {
    pub fn new(namespace: TrackNamespace, name: impl Into<Bytes>) -> Result<Self, NameError> {
        let name = name.into();
        let fits = namespace.bytes() + name.len() <= MAX_NAME_BYTES;
        if fits { Ok(Self { namespace, name }) } else { Err(NameError) }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Read<Self> {
        let namespace = TrackNamespace::decode(reader)?;
        let name = reader.prefixed(MAX_NAME_BYTES - namespace.bytes(), TOO_LONG)?;
        Ok(Self { namespace, name })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        self.namespace.encode(out);
        put_prefixed(out, &self.name);
    }
}

/// Letters, digits and `_` as they are, every other byte as `.` and two hex digits (§1.4.5).
fn render(f: &mut fmt::Formatter<'_>, field: &[u8]) -> fmt::Result {
    field.iter().try_for_each(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => write!(f, "{}", *byte as char),
        _ => write!(f, ".{byte:02x}"),
    })
}

impl fmt::Display for TrackNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, field)| {
            f.write_str(if i == 0 { "" } else { "-" })?;
            render(f, field)
        })
    }
}

impl fmt::Display for FullTrackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}--", self.namespace)?;
        render(f, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(fields: &[&'static str]) -> TrackNamespace {
        TrackNamespace::new(fields.iter().copied()).unwrap()
    }

    #[test]
    fn bounds_hold_from_birth_on() {
        assert_eq!(TrackNamespace::new(["a", ""]), Err(NameError));
        assert_eq!(TrackNamespace::new(vec!["f"; 33]), Err(NameError));
        assert!(TrackNamespace::new(vec!["f"; 32]).is_ok());
        let full = TrackNamespace::new([vec![b'x'; 4000], vec![b'y'; 96]]).unwrap();
        assert_eq!(FullTrackName::new(full.clone(), "n"), Err(NameError));
        assert!(FullTrackName::new(full.clone(), "").is_ok());
        assert_eq!(full.join(&namespace(&["z"])), Err(NameError));
    }

    #[test]
    fn a_prefix_is_whole_fields() {
        let call = namespace(&["voice", "CA1", "uplink"]);
        assert!(call.starts_with(&namespace(&["voice"])) && call.starts_with(&TrackNamespace::default()));
        assert!(!call.starts_with(&namespace(&["voic"])));
        assert_eq!(call.strip_prefix(&namespace(&["voice", "CA1"])), Some(namespace(&["uplink"])));
        assert_eq!(call.strip_prefix(&namespace(&["CA1"])), None);
        assert_eq!(namespace(&["voice"]).join(&namespace(&["CA1", "uplink"])), Ok(call));
    }

    /// The draft's example (§1.4.5).
    #[test]
    fn renders_safely() {
        let track = FullTrackName::new(namespace(&["example.net", "team2", "project_x"]), "report").unwrap();
        assert_eq!(track.to_string(), "example.2enet-team2-project_x--report");
        assert_eq!(namespace(&["\r\n"]).to_string(), ".0d.0a");
    }
}
