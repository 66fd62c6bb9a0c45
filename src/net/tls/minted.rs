//! Self-minted certificates for loopback: P-256, short-lived enough that a browser can pin their hash.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Life of a self-minted certificate; browsers pin hashes of at most 14 days.
pub(super) const LIFE: Duration = Duration::from_secs(13 * 24 * 3600);
/// Clocks of peers may be behind ours by this much.
const SKEW: Duration = Duration::from_secs(3600);

pub(super) struct Minted {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
}

impl Minted {
    pub(super) fn new(now: Duration) -> Result<Self, String> {
        let failed = |error: rcgen::Error| format!("can't mint a certificate: {error}");
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let mut params = rcgen::CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now.saturating_sub(SKEW);
        params.not_after = params.not_before + LIFE;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let key_pem = key.serialize_pem();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| format!("a minted key: {error}"))?;
        Ok(Self { certificate: certificate.der().clone(), key, certificate_pem: certificate.pem(), key_pem })
    }
}

impl From<Minted> for super::files::Pem {
    fn from(minted: Minted) -> Self {
        (vec![minted.certificate], minted.key)
    }
}
