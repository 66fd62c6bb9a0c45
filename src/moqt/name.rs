//! Track namespaces and full track names (§2.4.1): tuples of byte strings, compared byte by byte.

use bytes::Bytes;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameError;

#[allow(unused_variables, clippy::todo)]
impl TrackNamespace {
    pub fn new<I, F>(fields: I) -> Result<Self, NameError>
    where
        I: IntoIterator<Item = F>,
        F: Into<Bytes>,
    {
        Ok(Self(fields.into_iter().map(Into::into).collect()))
    }
    pub fn fields(&self) -> &[Bytes] {
        &self.0
    }
    pub fn starts_with(&self, prefix: &TrackNamespace) -> bool {
        self.0.len() >= prefix.0.len() && self.0.iter().zip(&prefix.0).all(|(a, b)| a == b)
    }
    /// What follows `prefix`; `None` when this namespace does not start with it.
    pub fn strip_prefix(&self, prefix: &TrackNamespace) -> Option<TrackNamespace> {
        todo!()
    }
    pub fn join(&self, suffix: &TrackNamespace) -> Result<TrackNamespace, NameError> {
        todo!()
    }
}
