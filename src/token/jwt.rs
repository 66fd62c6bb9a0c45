//! JWS compact serialization with EdDSA and nothing else: the header chooses a key, never an algorithm or a key source
//! (RFC 8725 §3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Claims, KeySet, MAX_TOKEN_BYTES, PublicKey, SigningKey, TokenError};

#[derive(Serialize)]
struct OurHeader<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// RFC 7515 §4.1.11: a token with extensions that we don't know is refused; we know none.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

pub(super) fn encode(claims: &Claims, key: &SigningKey, kid: Option<&str>) -> String {
    let own = key.public().kid();
    let header = OurHeader { alg: "EdDSA", typ: "JWT", kid: kid.unwrap_or(&own) };
    let mut text = part(&header);
    text.push('.');
    text.push_str(&part(claims));
    let signature = key.sign(text.as_bytes());
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(signature));
    text
}

fn part(value: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).expect("plain structs of strings and numbers serialize"))
}

/// Header and claims of a token as they stand there, nothing verified: for people, never for a decision.
pub fn peek(token: &str) -> Result<(serde_json::Value, serde_json::Value), TokenError> {
    let three = TokenError::Malformed("it has not three parts");
    let (signed, _) = token.rsplit_once('.').ok_or(three)?;
    let (header, claims) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.')).ok_or(three)?;
    let read = |part: &str| {
        serde_json::from_slice::<serde_json::Value>(&decode_part(part)?)
            .ok()
            .filter(serde_json::Value::is_object)
            .ok_or(TokenError::Malformed("a part is not a JSON object"))
    };
    Ok((read(header)?, read(claims)?))
}

/// Form and signature; time is the caller's.
pub(super) fn verify(token: &[u8], keys: &KeySet) -> Result<(Claims, PublicKey), TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed("it is too long"));
    }
    let text = std::str::from_utf8(token).map_err(|_| TokenError::Malformed("it is not text"))?;
    let three = TokenError::Malformed("it has not three parts");
    let (signed, signature) = text.rsplit_once('.').ok_or(three)?;
    let (header, claims) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.')).ok_or(three)?;
    let key = check_signature(header, signed, signature, keys)?;
    let claims = serde_json::from_slice(&decode_part(claims)?)
        .map_err(|_| TokenError::Malformed("its claims are not a relay token's"))?;
    Ok((claims, key))
}

fn check_signature(header: &str, signed: &str, signature: &str, keys: &KeySet) -> Result<PublicKey, TokenError> {
    let header: Header =
        serde_json::from_slice(&decode_part(header)?).map_err(|_| TokenError::Malformed("its header is not JSON"))?;
    // "Ed25519" is RFC 9864's name for the same signature.
    if header.alg != "EdDSA" && header.alg != "Ed25519" {
        return Err(TokenError::Algorithm);
    }
    if header.crit.is_some() {
        return Err(TokenError::Malformed("it has critical extensions"));
    }
    let signature = decode_part(signature)?;
    let mut candidates = keys.candidates(header.kid.as_deref()).peekable();
    if candidates.peek().is_none() {
        return Err(TokenError::UnknownKey);
    }
    candidates.find(|key| key.verify(signed.as_bytes(), &signature)).copied().ok_or(TokenError::Signature)
}

fn decode_part(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed("a part is not base64url"))
}

/// NumericDate (RFC 7519 §2): seconds, whole or with a fraction, which is dropped.
pub(super) fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = number.as_u64();
    let fraction = number.as_f64().filter(|f| *f >= 0.0 && *f < 9_007_199_254_740_992.0).map(|f| f as u64);
    whole.or(fraction).ok_or_else(|| serde::de::Error::custom("not a NumericDate"))
}

pub(super) fn optional_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    date(deserializer).map(Some)
}
