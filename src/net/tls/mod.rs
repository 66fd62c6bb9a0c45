//! Who a server is, and what it keeps so that it is the same after a restart.
//!
//! An [`Identity`] is a certificate chain with its key (PEM), or a self-minted one for loopback (P-256, at most 13 days, so that
//! browsers can pin its hash), and the QUIC keys for tokens and stateless resets. All of it lives in a state folder (0700, files
//! 0600): a restarted relay resets the connections of its former life at once.
//!
//! A certificate ends before its server does: [`Identity::renew`] takes what stands in the PEM files now, or mints anew. Whoever
//! serves calls it now and then; new handshakes show the new certificate, live connections go on.
//!
//! Files of a state folder: `certificate.pem` and `key.pem` (self-minted only), `quic.key` (one secret, from which the keys for
//! stateless resets, address tokens and connection ids are derived).

mod files;
mod keys;
mod minted;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use quinn_proto::crypto::rustls::QuicServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::certificate;
use files::{Pem, create_folder, read_pem, write_private};
pub(super) use keys::QuicKeys;
use minted::Minted;

/// A self-minted certificate with less than this left is replaced.
const RENEW: Duration = Duration::from_secs(3 * 24 * 3600);

/// Whoever makes TLS connections without naming a provider uses this one; saying it twice does it once.
pub fn install_provider() {
    // Fails when the process has one already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Certificate and QUIC keys of one server.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    source: Source,
    current: Arc<Current>,
    quic: QuicKeys,
}

/// Where the next certificate comes from.
enum Source {
    Pem { chain: PathBuf, key: PathBuf },
    Loopback(PathBuf),
    Memory,
}

/// What new handshakes show.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Identity {
    /// From PEM files; QUIC keys from `state`. The error names the file and the remedy.
    pub fn from_pem(chain: &Path, key: &Path, state: &Path) -> Result<Self, String> {
        let pem = read_pem(chain, key)?;
        create_folder(state)?;
        let source = Source::Pem { chain: chain.to_owned(), key: key.to_owned() };
        Self::new(source, pem, QuicKeys::load(&state.join("quic.key"))?)
    }

    /// The same for a server without QUIC.
    pub fn of_files(chain: &Path, key: &Path) -> Result<Self, String> {
        let source = Source::Pem { chain: chain.to_owned(), key: key.to_owned() };
        Self::new(source, read_pem(chain, key)?, QuicKeys::random()?)
    }

    /// Self-minted for `localhost`, 127.0.0.1 and ::1, kept in `state` and renewed when less than 3 days of it are left.
    pub fn loopback(state: &Path) -> Result<Self, String> {
        create_folder(state)?;
        let quic = QuicKeys::load(&state.join("quic.key"))?;
        let source = || Source::Loopback(state.to_owned());
        if state.join(CERTIFICATE).exists()
            && let Ok(kept) = read_pem(&state.join(CERTIFICATE), &state.join(KEY))
            && is_fresh(&kept.0, now())
            && let Ok(identity) = Self::new(source(), kept, quic.clone())
        {
            return Ok(identity);
        }
        Self::new(source(), mint_into(state)?, quic)
    }

    /// The same without a folder: for tests, gone with the process.
    pub fn ephemeral() -> Self {
        // Neither the system's random source nor a fixed set of names fails on a machine that can run TLS at all.
        let minted = Minted::new(now()).expect("a certificate for fixed names can be minted");
        let quic = QuicKeys::random().expect("the system's random source works");
        Self::new(Source::Memory, minted.into(), quic).expect("a minted certificate fits its key")
    }

    fn new(source: Source, pem: Pem, quic: QuicKeys) -> Result<Self, String> {
        let current = Arc::new(Current(ArcSwap::new(certified(pem)?)));
        Ok(Self(Arc::new(Inner { source, current, quic })))
    }

    /// `true`: new handshakes show another certificate from now on. After an error they go on with the one that they had. Reads files.
    pub fn renew(&self) -> Result<bool, String> {
        let shown = self.0.current.0.load();
        let pem = match &self.0.source {
            Source::Pem { chain, key } => read_pem(chain, key)?,
            Source::Loopback(_) | Source::Memory if is_fresh(&shown.cert, now()) => return Ok(false),
            Source::Loopback(state) => mint_into(state)?,
            Source::Memory => Minted::new(now())?.into(),
        };
        let changed = pem.0 != shown.cert;
        if changed {
            self.0.current.0.store(certified(pem)?);
        }
        Ok(changed)
    }

    /// Whether [`Identity::renew`] may ever find another certificate: one that came from a file or a folder.
    pub fn may_change(&self) -> bool {
        !matches!(self.0.source, Source::Memory)
    }

    /// SHA-256 of the leaf certificate, for [`Trust::Hashes`](super::Trust::Hashes).
    pub fn certificate_hash(&self) -> [u8; 32] {
        // There is a leaf: `certified` asks for one.
        certificate::sha256(&self.0.current.0.load().cert[0])
    }

    pub fn is_self_signed(&self) -> bool {
        certificate::Facts::of(&self.0.current.0.load().cert[0]).is_some_and(|facts| facts.self_signed)
    }

    /// TLS 1.3 only; no early data: a replayed request must not act.
    pub(super) fn crypto(&self, alpn: &[&str]) -> Result<Arc<QuicServerConfig>, String> {
        let mut tls = rustls::ServerConfig::builder_with_provider(super::verify::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| format!("TLS 1.3 is missing: {error}"))?
            .with_no_client_auth()
            .with_cert_resolver(self.0.current.clone());
        tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let quic = QuicServerConfig::try_from(tls).map_err(|error| format!("no cipher suite for QUIC: {error}"))?;
        Ok(Arc::new(quic))
    }

    /// Over TCP: TLS 1.2 and 1.3; each handshake shows the certificate of then. No ALPN: whatever the client would speak.
    pub fn over_tcp(&self, alpn: &[&str]) -> Result<Arc<rustls::ServerConfig>, String> {
        let mut tls = rustls::ServerConfig::builder_with_provider(super::verify::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS can't be set up: {error}"))?
            .with_no_client_auth()
            .with_cert_resolver(self.0.current.clone());
        tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(tls))
    }

    pub(super) fn quic_keys(&self) -> &QuicKeys {
        &self.0.quic
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("self_signed", &self.is_self_signed()).finish_non_exhaustive()
    }
}

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

fn mint_into(state: &Path) -> Result<Pem, String> {
    let minted = Minted::new(now())?;
    write_private(&state.join(KEY), minted.key_pem.as_bytes())?;
    write_private(&state.join(CERTIFICATE), minted.certificate_pem.as_bytes())?;
    Ok(minted.into())
}

fn certified((chain, key): Pem) -> Result<Arc<CertifiedKey>, String> {
    if chain.is_empty() {
        return Err("the certificate file holds no certificate: put the chain there, leaf first".to_owned());
    }
    let certified = CertifiedKey::from_der(chain, key, &super::verify::provider());
    let misfit = |error| format!("certificate and key don't fit together ({error}): give the key of the leaf");
    certified.map(Arc::new).map_err(misfit)
}

/// Whole days until the leaf of this PEM chain runs out; negative: since.
pub fn days_left(chain: &Path) -> Result<i64, String> {
    let unreadable = |error: rustls_pki_types::pem::Error| format!("{}: no PEM certificate ({error})", chain.display());
    let pem = crate::files::read(chain, crate::files::SETTINGS)
        .map_err(|error| unreadable(rustls_pki_types::pem::Error::Io(error)))?;
    let leaf = CertificateDer::pem_slice_iter(&pem).next();
    let leaf = leaf.ok_or_else(|| format!("{} holds no certificate", chain.display()))?.map_err(unreadable)?;
    let facts = certificate::Facts::of(&leaf).ok_or_else(|| format!("{}: no X.509 certificate", chain.display()))?;
    let seconds = facts.not_after.as_secs() as i64 - now().as_secs() as i64;
    Ok(seconds.div_euclid(24 * 3600))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn is_fresh(chain: &[CertificateDer<'_>], now: Duration) -> bool {
    let facts = chain.first().and_then(|leaf| certificate::Facts::of(leaf));
    facts.is_some_and(|facts| facts.not_after > now + RENEW)
}
