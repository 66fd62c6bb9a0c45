//! Tokens that count no longer before their time: named one by one, by whose they are, or by their bytes.

use std::collections::HashSet;

use super::Claims;

/// A list of revoked tokens, as its file says it: one a line, `jti NAME`, `sub NAME` or `sha256 HEX` of the token's text; empty
/// lines and lines that begin with `#` are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    jti: HashSet<String>,
    sub: HashSet<String>,
    hashes: HashSet<[u8; 32]>,
}

impl Revoked {
    /// The error names the line.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut revoked = Self::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fits = match line.split_once(char::is_whitespace).map(|(kind, name)| (kind, name.trim())) {
                Some(("jti", name)) => {
                    revoked.jti.insert(name.to_owned());
                    true
                }
                Some(("sub", name)) => {
                    revoked.sub.insert(name.to_owned());
                    true
                }
                Some(("sha256", hex)) => unhex(hex).map(|hash| revoked.hashes.insert(hash)).is_some(),
                _ => false,
            };
            if !fits {
                return Err(format!("line {}: write jti NAME, sub NAME or sha256 and 64 hexadecimal digits", at + 1));
            }
        }
        Ok(revoked)
    }

    /// `hash`: SHA-256 of the token's text.
    pub fn names(&self, claims: &Claims, hash: &[u8; 32]) -> bool {
        claims.jti.as_ref().is_some_and(|jti| self.jti.contains(jti))
            || self.sub.contains(&claims.sub)
            || self.hashes.contains(hash)
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}
