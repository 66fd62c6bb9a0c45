//! Relay tokens by hand: minted with a key of one's own, and shown.

use std::path::PathBuf;

use pyo3::prelude::*;

use super::errors::raise;
use crate::engine;
use crate::error::Error;
use crate::token::{self, Claims};

/// A token of these claims (a JSON object), signed with the key in this file (PKCS#8, DER or PEM). `kid`: the name of the key
/// where it is not the one that its bytes give it.
#[pyfunction]
#[pyo3(signature = (key, claims, kid))]
pub(super) fn mint_token(py: Python<'_>, key: PathBuf, claims: &str, kid: Option<&str>) -> PyResult<String> {
    let claims: Claims =
        serde_json::from_str(claims).map_err(|error| raise(py, Error::value(format!("claims: {error}"))))?;
    let key = py.detach(|| engine::signing_key_of(&key)).map_err(|text| raise(py, Error::config(text)))?;
    Ok(claims.encode_as(&key, kid))
}

/// Header and claims of a token as JSON texts. Nothing is verified.
#[pyfunction]
pub(super) fn read_token(py: Python<'_>, token: &str) -> PyResult<(String, String)> {
    let (header, claims) = token::peek(token.trim()).map_err(|error| raise(py, Error::value(error.to_string())))?;
    Ok((header.to_string(), claims.to_string()))
}

/// What a relay with these public keys says to a token at this Unix time: nothing, or why it is refused.
#[pyfunction]
pub(super) fn check_token(
    py: Python<'_>,
    token: &str,
    public_keys: Vec<String>,
    now_s: u64,
) -> PyResult<Option<String>> {
    let keys = token::KeySet::read(&public_keys.join("\n")).map_err(|text| raise(py, Error::value(text)))?;
    let checked = Claims::decode(token.trim().as_bytes(), &keys, now_s, token::LEEWAY_S);
    Ok(checked.err().map(|error| error.to_string()))
}
