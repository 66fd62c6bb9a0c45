//! Which servers a dial believes: [`Trust`] as a TLS client configuration.
//!
//! Whatever is trusted, the handshake's signature is always verified: who shows a certificate must hold its key.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use quinn_proto::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Trust, certificate};
use crate::files;

pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// TLS 1.3 only; the ALPNs in the order of preference.
pub(super) fn client(trust: &Trust, alpn: &[&str]) -> Result<Arc<QuicClientConfig>, String> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| format!("TLS 1.3 is missing: {error}"))?;
    let mut tls = match trust {
        Trust::System => builder.with_root_certificates(system_roots()?).with_no_client_auth(),
        Trust::Roots(roots) => builder.with_root_certificates(given_roots(roots)?).with_no_client_auth(),
        Trust::Hashes(hashes) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { hashes: Some(hashes.clone()) }))
            .with_no_client_auth(),
        Trust::Anything => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { hashes: None }))
            .with_no_client_auth(),
    };
    tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let quic = QuicClientConfig::try_from(tls).map_err(|error| format!("no cipher suite for QUIC: {error}"))?;
    Ok(Arc::new(quic))
}

/// Read once per process: some 150 certificates.
fn system_roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if ROOTS.get().is_none() {
        check_cert_file()?;
    }
    let roots = ROOTS.get_or_init(|| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(store)
    });
    if roots.is_empty() {
        return Err("this machine has no root certificates: install ca-certificates, set SSL_CERT_FILE, or pin \
                    the server's certificate by its hash"
            .into());
    }
    Ok(roots.clone())
}

/// A TLS client over TCP: 1.2 and 1.3, trusting the certificates of this file of PEM, or those of the machine. The error says what to do.
pub fn client_over_tcp(roots: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, String> {
    let roots = match roots {
        Some(file) => Arc::new(roots_of(file).map_err(|error| format!("{}: {error}", file.display()))?),
        None => system_roots()?,
    };
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS can't be set up: {error}"))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn roots_of(file: &Path) -> Result<RootCertStore, String> {
    let text = files::read(file, files::SETTINGS).map_err(|error| error.to_string())?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let mut store = RootCertStore::empty();
    for certificate in certificates.map_err(|error| format!("it is no PEM ({error})"))? {
        store.add(certificate).map_err(|error| format!("it holds what is no certificate of a CA ({error})"))?;
    }
    if store.is_empty() { Err("it holds no certificate in PEM".to_owned()) } else { Ok(store) }
}

/// `SSL_CERT_FILE` names something that a reader of certificates comes back from.
pub fn check_cert_file() -> Result<(), String> {
    let Some(path) = std::env::var_os("SSL_CERT_FILE") else { return Ok(()) };
    let wrong = |error| format!("SSL_CERT_FILE names {}: {error}", Path::new(&path).display());
    files::check(Path::new(&path), files::SETTINGS).map_err(wrong)
}

fn given_roots(roots: &[Vec<u8>]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(CertificateDer::from(root.as_slice()))
            .map_err(|error| format!("a given root certificate is unusable ({error}): give DER of a CA certificate"))?;
    }
    Ok(store)
}

/// Exactly these leaf certificates, or any at all.
#[derive(Debug)]
struct Pinned {
    hashes: Option<Vec<[u8; 32]>>,
}

#[derive(Debug, thiserror::Error)]
#[error("its certificate is not pinned; its SHA-256 is {0}")]
struct NotPinned(String);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hash = certificate::sha256(leaf);
        match &self.hashes {
            Some(hashes) if !hashes.contains(&hash) => {
                let hex = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                Err(CertificateError::Other(OtherError(Arc::new(NotPinned(hex)))).into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC speaks TLS 1.3 only (RFC 9001 §4.2)".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
