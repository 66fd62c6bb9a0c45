//! Who a server is, and what it keeps so that it is the same after a restart.
//!
//! An [`Identity`] is a certificate chain with its key (PEM), or a self-minted one for loopback (P-256, at most 13 days, so that
//! browsers can pin its hash), and the QUIC keys for tokens and stateless resets. All of it lives in a state folder (0700, files
//! 0600): a restarted relay resets the connections of its former life at once.

use std::path::Path;

/// Certificate and QUIC keys of one server.
#[derive(Clone)]
pub struct Identity {
    _private: (),
}

#[allow(unused_variables, clippy::todo)]
impl Identity {
    /// From PEM files; QUIC keys from `state`. The error names the file and the remedy.
    pub fn from_pem(chain: &Path, key: &Path, state: &Path) -> Result<Self, String> {
        todo!()
    }

    /// Self-minted for `localhost`, 127.0.0.1 and ::1, kept in `state` and renewed when less than 3 days of it are left.
    pub fn loopback(state: &Path) -> Result<Self, String> {
        todo!()
    }

    /// The same without a folder: for tests, gone with the process.
    pub fn ephemeral() -> Self {
        todo!()
    }

    /// SHA-256 of the leaf certificate, for [`Trust::Hashes`](super::Trust::Hashes).
    pub fn certificate_hash(&self) -> [u8; 32] {
        todo!()
    }

    pub fn is_self_signed(&self) -> bool {
        todo!()
    }
}
