//! Ed25519 keys and their text form: the 32 bytes in base64url. A key's id (`kid`) is the first 8 hexadecimal digits of
//! its SHA-256, so nobody hands out names.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a public key is the base64url text of 32 bytes, 43 characters without padding")]
    Public,
    #[error("the signing key is not an Ed25519 key in PKCS#8 form")]
    Signing,
    #[error("the system gave no randomness")]
    Random,
}

/// Checks signatures of one [`SigningKey`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn kid(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.0);
        digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl std::str::FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('=')).map_err(|_| KeyError::Public)?;
        Ok(Self(bytes.try_into().map_err(|_| KeyError::Public)?))
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Signs tokens. Its `Debug` shows the public half only.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// A fresh key, with the PKCS#8 document to keep it by.
    pub fn generate(random: &dyn SecureRandom) -> Result<(Self, Vec<u8>), KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(random).map_err(|_| KeyError::Random)?;
        Ok((Self::from_pkcs8(document.as_ref())?, document.as_ref().to_vec()))
    }

    /// PKCS#8 v1 (as OpenSSL writes it) or v2, DER.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document).map_err(|_| KeyError::Signing)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Signing)?;
        Ok(Self { pair, public: PublicKey(public) })
    }

    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair.sign(message).as_ref().try_into().expect("an Ed25519 signature has 64 bytes (RFC 8032 §5.1.6)")
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey(kid {})", self.public.kid())
    }
}

/// The keys whose tokens count, found by `kid`. Several, so that keys can be rolled over.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<(String, PublicKey)>);

impl KeySet {
    /// One key a line, `KEY` or `KID KEY`; empty lines and what follows a `#` are left out. The error names the line.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let key = match (words.next(), words.next(), words.next()) {
                (None, ..) => continue,
                (Some(key), None, _) => key.parse().map(|key: PublicKey| (key.kid(), key)),
                (Some(kid), Some(key), None) => key.parse().map(|key| (kid.to_owned(), key)),
                _ => return Err(format!("line {}: write one key a line, KEY or KID KEY", at + 1)),
            };
            keys.push(key.map_err(|error| format!("line {}: {error}", at + 1))?);
        }
        Ok(Self(keys))
    }

    /// Those of two sets.
    pub fn plus(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub fn contains(&self, key: &PublicKey) -> bool {
        self.0.iter().any(|(_, other)| other == key)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that may have signed a token with this `kid`; all of them when it names none.
    pub(super) fn candidates<'a>(&'a self, kid: Option<&'a str>) -> impl Iterator<Item = &'a PublicKey> + Clone {
        self.0.iter().filter(move |(id, _)| kid.is_none_or(|kid| kid == id)).map(|(_, key)| key)
    }
}

impl FromIterator<PublicKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.kid(), key)).collect())
    }
}
