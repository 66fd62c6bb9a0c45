//! API keys: 256 bits of randomness behind `tqs_live_`, shown once, kept as a salted hash.
//!
//! A key has too much entropy to be guessed, so one keyed hash is enough and a check costs a microsecond.

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

const PREFIX: &str = "tqs_live_";
/// No key is longer. Who shows more has none, and is not to cost its hash once for each key that there is.
pub const MOST_KEY_BYTES: usize = 256;
/// First field of a hash's text: how it was made.
const SCHEME: &str = "hmac-sha256";
/// Of the hash, in a key's id: two of a thousand keys have the same once in two million files.
const ID_BYTES: usize = 5;

/// What a scope can name: each procedure, `voice.calls.get` as `voice:calls.get`.
pub const SCOPES: &[&str] = &[
    "voice:calls.originate",
    "voice:calls.get",
    "voice:calls.list",
    "voice:calls.events",
    "voice:calls.transfer",
    "voice:calls.hangup",
    "voice:calls.answer",
    "voice:calls.reject",
    "voice:calls.sendDtmf",
    "voice:agents.attach",
    "voice:agents.list",
    "voice:trunks.list",
    "voice:trunks.test",
    "voice:audioBridge.token",
];

/// Whose a key is and what it may do.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub org: String,
    /// `voice:*`, or one procedure such as `voice:calls.get`; a last `*` stands for any rest.
    pub scopes: Vec<String>,
    salt: [u8; 16],
    tag: [u8; 32],
}

/// A fresh key and its text.
pub fn mint(org: &str, scopes: &[&str]) -> (ApiKey, String) {
    let text = format!("{PREFIX}{}", hex(&random::<32>()));
    (ApiKey::from_text(org, scopes.iter().map(|scope| (*scope).to_owned()).collect(), &text), text)
}

impl ApiKey {
    pub fn from_text(org: &str, scopes: Vec<String>, text: &str) -> Self {
        let salt = random();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salt), text.as_bytes());
        let tag = tag.as_ref().try_into().expect("a SHA-256 has 32 bytes");
        Self { org: org.to_owned(), scopes, salt, tag }
    }

    /// `hmac-sha256$<salt>$<tag>`, both hexadecimal.
    pub fn from_hash(org: &str, scopes: Vec<String>, hash: &str) -> Option<Self> {
        let mut fields = hash.split('$');
        let (scheme, salt, tag) = (fields.next()?, fields.next()?, fields.next()?);
        if scheme != SCHEME || fields.next().is_some() {
            return None;
        }
        Some(Self { org: org.to_owned(), scopes, salt: unhex(salt)?, tag: unhex(tag)? })
    }

    /// What a config file keeps of this key.
    pub fn hash(&self) -> String {
        format!("{SCHEME}${}${}", hex(&self.salt), hex(&self.tag))
    }

    /// How people speak of it: made of its hash, so it never changes and tells nothing of the key.
    pub fn id(&self) -> String {
        format!("key_{}", hex(&self.tag[..ID_BYTES]))
    }

    /// In constant time.
    pub fn is(&self, text: &str) -> bool {
        #[cfg(test)]
        COMPARED.set(COMPARED.get() + 1);
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &self.salt), text.as_bytes(), &self.tag).is_ok()
    }

    /// `scope`: such as `voice:calls.originate`.
    pub fn allows(&self, scope: &str) -> bool {
        self.scopes.iter().any(|have| covers(have, scope))
    }
}

#[cfg(test)]
thread_local! {
    static COMPARED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// How often this thread has compared a key.
#[cfg(test)]
pub(in crate::engine) fn compared() -> u64 {
    COMPARED.get()
}

fn covers(have: &str, scope: &str) -> bool {
    match have.strip_suffix('*') {
        Some(start) => scope.starts_with(start),
        None => have == scope,
    }
}

/// A scope that opens nothing is a slip of the pen.
pub(super) fn check_scope(scope: &str) -> Result<(), String> {
    if SCOPES.iter().any(|known| covers(scope, known)) {
        return Ok(());
    }
    let remedy = match super::table::nearest(scope, SCOPES.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("write voice:*, or one of {}", SCOPES.join(", ")),
    };
    Err(format!("scope {scope:?} opens nothing: {remedy}"))
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey(org {}, scopes {:?})", self.org, self.scopes)
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness; without it no key is safe");
    bytes
}

pub(in crate::engine) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}
