//! Who a server is, and what it keeps so that it is the same after a restart.
//!
//! An [`Identity`] is a certificate chain with its key (PEM), or a self-minted one for loopback (P-256, at most 13 days, so that
//! browsers can pin its hash), and the QUIC keys for tokens and stateless resets. All of it lives in a state folder (0700, files
//! 0600): a restarted relay resets the connections of its former life at once.
//!
//! Files of a state folder: `certificate.pem` and `key.pem` (self-minted only), `quic.key` (one secret, from which the keys for
//! stateless resets, address tokens and connection ids are derived).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quinn_proto::crypto::rustls::QuicServerConfig;
use ring::{digest, hkdf, hmac};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate;

/// Life of a self-minted certificate; browsers pin hashes of at most 14 days.
const LIFE: Duration = Duration::from_secs(13 * 24 * 3600);
/// A self-minted certificate with less than this left is replaced.
const RENEW: Duration = Duration::from_secs(3 * 24 * 3600);
/// Clocks of peers may be behind ours by this much.
const SKEW: Duration = Duration::from_secs(3600);

/// Certificate and QUIC keys of one server.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    self_signed: bool,
    quic: QuicKeys,
}

impl Identity {
    /// From PEM files; QUIC keys from `state`. The error names the file and the remedy.
    pub fn from_pem(chain: &Path, key: &Path, state: &Path) -> Result<Self, String> {
        let (chain, key) = read_pem(chain, key)?;
        create_folder(state)?;
        Self::new(chain, key, QuicKeys::load(&state.join("quic.key"))?)
    }

    /// Self-minted for `localhost`, 127.0.0.1 and ::1, kept in `state` and renewed when less than 3 days of it are left.
    pub fn loopback(state: &Path) -> Result<Self, String> {
        create_folder(state)?;
        let quic = QuicKeys::load(&state.join("quic.key"))?;
        let (certificate_file, key_file) = (state.join("certificate.pem"), state.join("key.pem"));
        if certificate_file.exists()
            && let Ok((chain, key)) = read_pem(&certificate_file, &key_file)
            && is_fresh(&chain, now())
            && let Ok(identity) = Self::new(chain, key, quic.clone())
        {
            return Ok(identity);
        }
        let minted = Minted::new(now())?;
        write_private(&key_file, minted.key_pem.as_bytes())?;
        write_private(&certificate_file, minted.certificate_pem.as_bytes())?;
        Self::new(vec![minted.certificate], minted.key, quic)
    }

    /// The same without a folder: for tests, gone with the process.
    pub fn ephemeral() -> Self {
        // Neither the system's random source nor a fixed set of names fails on a machine that can run TLS at all.
        let minted = Minted::new(now()).expect("a certificate for fixed names can be minted");
        let quic = QuicKeys::random().expect("the system's random source works");
        Self::new(vec![minted.certificate], minted.key, quic).expect("a minted certificate fits its key")
    }

    /// SHA-256 of the leaf certificate, for [`Trust::Hashes`](super::Trust::Hashes).
    pub fn certificate_hash(&self) -> [u8; 32] {
        certificate::sha256(&self.0.chain[0])
    }

    pub fn is_self_signed(&self) -> bool {
        self.0.self_signed
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>, quic: QuicKeys) -> Result<Self, String> {
        let leaf = chain.first().ok_or("the certificate file holds no certificate: put the chain there, leaf first")?;
        let self_signed = certificate::Facts::of(leaf).is_some_and(|facts| facts.self_signed);
        let identity = Self(Arc::new(Inner { chain, key, self_signed, quic }));
        identity.crypto(&[])?;
        Ok(identity)
    }

    /// TLS 1.3 only; no early data: a replayed request must not act.
    pub(super) fn crypto(&self, alpn: &[&str]) -> Result<Arc<QuicServerConfig>, String> {
        let mut tls = rustls::ServerConfig::builder_with_provider(super::verify::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| format!("TLS 1.3 is missing: {error}"))?
            .with_no_client_auth()
            .with_single_cert(self.0.chain.clone(), self.0.key.clone_key())
            .map_err(|error| format!("certificate and key don't fit together ({error}): give the key of the leaf"))?;
        tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let quic = QuicServerConfig::try_from(tls).map_err(|error| format!("no cipher suite for QUIC: {error}"))?;
        Ok(Arc::new(quic))
    }

    pub(super) fn quic_keys(&self) -> &QuicKeys {
        &self.0.quic
    }
}

/// Whole days until the leaf of this PEM chain runs out; negative: since.
pub fn days_left(chain: &Path) -> Result<i64, String> {
    let unreadable = |error: rustls_pki_types::pem::Error| format!("{}: no PEM certificate ({error})", chain.display());
    let leaf = CertificateDer::pem_file_iter(chain).map_err(unreadable)?.next();
    let leaf = leaf.ok_or_else(|| format!("{} holds no certificate", chain.display()))?.map_err(unreadable)?;
    let facts = certificate::Facts::of(&leaf).ok_or_else(|| format!("{}: no X.509 certificate", chain.display()))?;
    let seconds = facts.not_after.as_secs() as i64 - now().as_secs() as i64;
    Ok(seconds.div_euclid(24 * 3600))
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("self_signed", &self.0.self_signed).finish_non_exhaustive()
    }
}

/// What makes a restarted server recognise packets of its former life.
#[derive(Clone)]
pub(super) struct QuicKeys([u8; 64]);

impl QuicKeys {
    pub(super) fn random() -> Result<Self, String> {
        let mut secret = [0; 64];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut secret)
            .map_err(|_| "the system gives no random numbers")?;
        Ok(Self(secret))
    }

    fn load(file: &Path) -> Result<Self, String> {
        match fs::read(file) {
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

    pub(super) fn reset_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.derive(b"stateless reset"))
    }

    pub(super) fn token_key(&self) -> hkdf::Prk {
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"clutchcall address token").extract(&self.0)
    }

    /// Connection ids carry a checksum under this key; only packets with our own former ids are answered by a reset.
    pub(super) fn connection_id_key(&self) -> u64 {
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

struct Minted {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

impl Minted {
    fn new(now: Duration) -> Result<Self, String> {
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

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn is_fresh(chain: &[CertificateDer<'_>], now: Duration) -> bool {
    let facts = chain.first().and_then(|leaf| certificate::Facts::of(leaf));
    facts.is_some_and(|facts| facts.not_after > now + RENEW)
}

type Pem = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_pem(chain_file: &Path, key_file: &Path) -> Result<Pem, String> {
    let chain = CertificateDer::pem_file_iter(chain_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("can't read certificates from {}: {error}; it must be PEM", chain_file.display()))?;
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| format!("can't read a private key from {}: {error}; it must be PEM", key_file.display()))?;
    Ok((chain, key))
}

fn create_folder(folder: &Path) -> Result<(), String> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        format!("can't make the state folder {}: {error}; give a folder that this user may write", folder.display())
    })
}

/// Whole or not at all, readable by the owner only.
fn write_private(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let draft = file.with_extension(format!("{}.new", std::process::id()));
    let write = || -> io::Result<()> {
        let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&draft, file)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&draft);
        format!("can't write {}: {error}; give a state folder that this user may write", file.display())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_loopback_identity_is_the_same_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let first = Identity::loopback(&state).expect("minted");
        let second = Identity::loopback(&state).expect("read");
        assert!(first.is_self_signed());
        assert_eq!(first.certificate_hash(), second.certificate_hash());
        assert_eq!(first.quic_keys().connection_id_key(), second.quic_keys().connection_id_key());
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&state), 0o700);
        for file in ["certificate.pem", "key.pem", "quic.key"] {
            assert_eq!(mode(&state.join(file)), 0o600);
        }
        let from_pem = Identity::from_pem(&state.join("certificate.pem"), &state.join("key.pem"), &state);
        assert_eq!(from_pem.expect("the same files").certificate_hash(), first.certificate_hash());
    }

    #[test]
    fn a_certificate_near_its_end_is_replaced_and_the_quic_keys_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Identity::loopback(folder.path()).expect("minted");
        let old = Minted::new(now() - (LIFE - RENEW)).expect("minted in the past");
        fs::write(folder.path().join("certificate.pem"), &old.certificate_pem).expect("written");
        fs::write(folder.path().join("key.pem"), &old.key_pem).expect("written");
        let renewed = Identity::loopback(folder.path()).expect("minted again");
        assert_ne!(renewed.certificate_hash(), certificate::sha256(&old.certificate));
        assert_eq!(first.quic_keys().connection_id_key(), renewed.quic_keys().connection_id_key());
        let facts = certificate::Facts::of(&renewed.0.chain[0]).expect("a certificate");
        assert!(facts.not_after - facts.not_before <= LIFE);
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = folder.path().join("chain.pem");
        let error = Identity::from_pem(&missing, &missing, folder.path()).expect_err("there is no file");
        assert!(error.contains("chain.pem") && error.contains("PEM"), "{error}");
        fs::write(folder.path().join("quic.key"), b"short").expect("written");
        let error = Identity::loopback(folder.path()).expect_err("a damaged key file");
        assert!(error.contains("quic.key") && error.contains("delete"), "{error}");
    }
}
