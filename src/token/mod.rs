//! Relay tokens: who may publish and subscribe what, for how long, signed.
//!
//! A token is a JWT (RFC 7519) in compact form (RFC 7515 §3.1), signed with Ed25519 (RFC 8037 §3.1). The engine mints it
//! for one caller, the relay checks it in SETUP and on every request, and neither asks the other.
//!
//! | Claim | Meaning |
//! |---|---|
//! | `iss`, `sub`, `iat`, `nbf`, `exp`, `jti` | RFC 7519 §4.1; `sub` is the organisation, `jti` a name to revoke the token by |
//! | `ns` | patterns of namespaces that may be published and subscribed |
//! | `publish`, `subscribe` | patterns of one right; when present, they alone give that right |
//! | `lease` | the one track that may be published, and the place of its speaker in the row of his sessions |
//!
//! The room owns no key and no clock: a [`SigningKey`] or [`KeySet`] and the Unix time are arguments. It knows nothing of
//! MoQT: a namespace is a slice of byte strings. What a stranger sends never panics, and an error never repeats it.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod jwt;
mod key;
mod pattern;
mod revoked;

pub use jwt::peek;
pub use key::{KeyError, KeySet, PublicKey, SigningKey};
pub use pattern::{Pattern, PatternError};
pub use revoked::Revoked;

use serde::{Deserialize, Serialize};

/// How far the clocks of minter and relay may disagree, in seconds.
pub const LEEWAY_S: u64 = 30;
/// Longer texts are not looked at.
pub const MAX_TOKEN_BYTES: usize = 8192;

/// What a valid token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The organisation that the token was minted for.
    pub sub: String,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "jwt::optional_date")]
    pub iat: Option<u64>,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "jwt::optional_date")]
    pub nbf: Option<u64>,
    /// Unix seconds; a token without an end is refused.
    #[serde(deserialize_with = "jwt::date")]
    pub exp: u64,
    /// Names the one token, so that it can be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ns: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<Pattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Vec<Pattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// The right to be the one speaker of a track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Name of the track; its namespace is what [`Claims::may_publish`] allows.
    pub track: String,
    /// Who speaks: sessions of one holder follow each other.
    pub holder: String,
    /// Grows with every token of the holder: the newest session is the speaker, an older one is its ghost.
    pub epoch: u64,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not a signed JWT: {0}")]
    Malformed(&'static str),
    #[error("the token is not signed with EdDSA")]
    Algorithm,
    #[error("no public key here has the token's kid: hand the relay the key that signs the tokens")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired: fetch a fresh one")]
    Expired,
    #[error("the token is not valid yet: compare the clocks")]
    NotYetValid,
    #[error("the token was revoked: ask for another where it came from")]
    Revoked,
}

impl Claims {
    /// The token's text: header, claims and signature.
    pub fn encode(&self, key: &SigningKey) -> String {
        self.encode_as(key, None)
    }

    /// The same with a `kid` of the caller's: the name under which the relay was handed the key.
    pub fn encode_as(&self, key: &SigningKey, kid: Option<&str>) -> String {
        jwt::encode(self, key, kid)
    }

    /// Checks form, signature and time. `leeway_s` is usually [`LEEWAY_S`].
    pub fn decode(token: &[u8], keys: &KeySet, now_unix: u64, leeway_s: u64) -> Result<Self, TokenError> {
        Self::decode_with_key(token, keys, now_unix, leeway_s).map(|(claims, _)| claims)
    }

    /// The same, with the key that signed it.
    pub fn decode_with_key(
        token: &[u8],
        keys: &KeySet,
        now_unix: u64,
        leeway_s: u64,
    ) -> Result<(Self, PublicKey), TokenError> {
        let (claims, key) = jwt::verify(token, keys)?;
        claims.check_time(now_unix, leeway_s)?;
        Ok((claims, key))
    }

    /// May tracks of this namespace be published?
    pub fn may_publish<F: AsRef<[u8]>>(&self, namespace: &[F]) -> bool {
        any_matches(self.publish.as_ref().unwrap_or(&self.ns), namespace)
    }

    /// May tracks of this namespace be subscribed to, and may its name be told?
    pub fn may_subscribe<F: AsRef<[u8]>>(&self, namespace: &[F]) -> bool {
        any_matches(self.subscribe.as_ref().unwrap_or(&self.ns), namespace)
    }

    /// RFC 7519 §4.1.4 and §4.1.5.
    fn check_time(&self, now_unix: u64, leeway_s: u64) -> Result<(), TokenError> {
        if now_unix >= self.exp.saturating_add(leeway_s) {
            return Err(TokenError::Expired);
        }
        match self.nbf {
            Some(nbf) if now_unix.saturating_add(leeway_s) < nbf => Err(TokenError::NotYetValid),
            _ => Ok(()),
        }
    }
}

fn any_matches<F: AsRef<[u8]>>(patterns: &[Pattern], namespace: &[F]) -> bool {
    patterns.iter().any(|pattern| pattern.matches(namespace))
}

#[cfg(test)]
mod tests;
