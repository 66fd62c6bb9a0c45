//! The QUIC keys of a server: one secret, from which everything is derived that a restarted server needs to recognise its former packets.

use std::io;
use std::path::Path;

use ring::{digest, hkdf, hmac};

use super::files::write_private;
use crate::files;

/// What makes a restarted server recognise packets of its former life.
#[derive(Clone)]
pub(in crate::net) struct QuicKeys([u8; 64]);

impl QuicKeys {
    pub(in crate::net) fn random() -> Result<Self, String> {
        let mut secret = [0; 64];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut secret)
            .map_err(|_| "the system gives no random numbers")?;
        Ok(Self(secret))
    }

    pub(super) fn load(file: &Path) -> Result<Self, String> {
        match files::read(file, files::SETTINGS) {
            Ok(secret) => secret
                .try_into()
                .map(Self)
                .map_err(|_| format!("{} is not 64 bytes long: delete it, a new one will be made", file.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keys = Self::random()?;
                write_private(file, &keys.0)?;
                Ok(keys)
            }
            Err(error) => Err(format!("can't read {}: {error}; check its owner and mode", file.display())),
        }
    }

    pub(in crate::net) fn reset_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.derive(b"stateless reset"))
    }

    pub(in crate::net) fn token_key(&self) -> hkdf::Prk {
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"clutchcall address token").extract(&self.0)
    }

    /// Connection ids carry a checksum under this key; only packets with our own former ids are answered by a reset.
    pub(in crate::net) fn connection_id_key(&self) -> u64 {
        let bytes = self.derive(b"connection id");
        u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    }

    fn derive(&self, label: &[u8]) -> [u8; digest::SHA256_OUTPUT_LEN] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), label);
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }
}
