//! Patterns of namespaces, matched field by field and byte by byte: `voice/CA1/*` is no prefix of a joined string, so it
//! never lets `("voice", "CA12", …)` through.

use serde::{Deserialize, Serialize};

/// Fields between slashes: `*` is exactly one field, a last `**` any rest (also none), everything else itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a namespace pattern has an empty field: write fields between single slashes, such as voice/*/uplink")]
    EmptyField,
    #[error("`**` stands for any rest and can only be the last field of a namespace pattern")]
    RestNotLast,
    #[error("a namespace pattern has at most 32 fields")]
    TooManyFields,
}

/// Fields of a track namespace (draft-18 §2.4.1).
const MAX_FIELDS: usize = 32;

impl Pattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches<F: AsRef<[u8]>>(&self, namespace: &[F]) -> bool {
        let mut fields = namespace.iter().map(AsRef::as_ref);
        for want in self.0.split('/') {
            if want == "**" {
                return true;
            }
            match fields.next() {
                Some(field) if want == "*" || want.as_bytes() == field => {}
                _ => return false,
            }
        }
        fields.next().is_none()
    }
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        let count = text.split('/').count();
        if count > MAX_FIELDS {
            return Err(PatternError::TooManyFields);
        }
        for (i, field) in text.split('/').enumerate() {
            if field.is_empty() {
                return Err(PatternError::EmptyField);
            }
            if field == "**" && i + 1 < count {
                return Err(PatternError::RestNotLast);
            }
        }
        Ok(Self(text))
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
