//! The API over TLS: real handshakes, the SDK's client, and a certificate that changes under open connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clutchcall::client::{Arguments, Client, Options, Originate};
use clutchcall::error::Kind;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::common::{Bench, KEY, ask, wait_for};

const CHAIN: &str = "api.pem";
const PRIVATE: &str = "api.key";

/// Mints a certificate for loopback into a folder.
fn mint(folder: &Path) -> CertificateDer<'static> {
    let minted = rcgen::generate_simple_self_signed(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
    std::fs::write(folder.join(CHAIN), minted.cert.pem()).unwrap();
    std::fs::write(folder.join(PRIVATE), minted.signing_key.serialize_pem()).unwrap();
    minted.cert.der().clone()
}

struct Secret {
    bench: Bench,
    folder: tempfile::TempDir,
    certificate: CertificateDer<'static>,
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Secret {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut clutchcall::engine::config::Limits)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = mint(folder.path());
        let files = (folder.path().join(CHAIN), folder.path().join(PRIVATE));
        let bench = Bench::with(|config| {
            config.api.certificate = Some(files);
            change(&mut config.limits);
        });
        assert!(bench.engine.base_url().starts_with("https://127.0.0.1:"));
        Self { bench, folder, certificate }
    }

    fn connect(&self, trusted: &CertificateDer<'static>) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        StreamOwned::new(tls, self.bench.connect())
    }

    /// What the metrics say of the certificate's reloads; asks for one and waits for it.
    fn reload(&self, result: &str, trusted: &CertificateDer<'static>) {
        let name = format!("clutchcall_api_certificate_reloads_total{{result=\"{result}\"}} ");
        let figure = |text: String| {
            text.lines().find_map(|line| line.strip_prefix(&name)).and_then(|line| line.parse::<u64>().ok()).unwrap()
        };
        let mut tls = self.connect(trusted);
        let mut look = || figure(ask(&mut tls, "/metrics").body);
        let before = look();
        self.bench.engine.reload();
        wait_for(|| (look() > before).then_some(()));
    }
}

fn shown(tls: &Tls) -> CertificateDer<'static> {
    tls.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn the_sdk_calls_over_tls() {
    let secret = Secret::new();
    let arguments = |ca_file: &Path| Arguments {
        base_url: Some(secret.bench.engine.base_url().to_owned()),
        api_key: Some(KEY.to_owned()),
        org_id: Some("org_a".to_owned()),
        ca_file: Some(ca_file.to_str().unwrap().to_owned()),
        ..Arguments::default()
    };
    let call = || Originate {
        to: "+15550009000".to_owned(),
        from: "+15558675309".to_owned(),
        trunk_id: "trunk_main".to_owned(),
        ..Originate::default()
    };
    let client = Client::new(Options::find(arguments(&secret.folder.path().join(CHAIN))).unwrap()).unwrap();
    let row = client.originate(call(), &mut || false).unwrap().claim();
    client.hangup(&row.sid, &mut || false).unwrap();

    let other = tempfile::tempdir().unwrap();
    mint(other.path());
    let stranger = Client::new(Options::find(arguments(&other.path().join(CHAIN))).unwrap()).unwrap();
    let error = stranger.originate(call(), &mut || false).map(drop).unwrap_err();
    assert_eq!(error.kind, Kind::ApiConnection, "{error}");
}

#[test]
fn a_new_certificate_is_shown_and_nobody_is_thrown_out() {
    let secret = Secret::new();
    let old = secret.certificate.clone();
    let mut open = secret.connect(&old);
    assert_eq!(ask(&mut open, "/healthz").status, 200);
    let new = mint(secret.folder.path());
    secret.reload("done", &old);
    let mut fresh = secret.connect(&new);
    assert_eq!(ask(&mut fresh, "/healthz").status, 200);
    assert_eq!((shown(&fresh), shown(&open)), (new.clone(), old));
    assert_eq!(ask(&mut open, "/healthz").status, 200, "on the connection of before");

    // A pair that does not fit changes nothing.
    let right = std::fs::read(secret.folder.path().join(PRIVATE)).unwrap();
    mint(secret.folder.path());
    std::fs::write(secret.folder.path().join(PRIVATE), right).unwrap();
    secret.reload("failed", &new);
    let mut again = secret.connect(&new);
    assert_eq!(ask(&mut again, "/healthz").status, 200);
}

#[test]
fn what_is_no_tls_is_counted_and_closed() {
    let secret = Secret::new();
    let mut plain = secret.bench.connect();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"), "{answer:?}");
    let mut tls = secret.connect(&secret.certificate);
    let metrics = ask(&mut tls, "/metrics").body;
    assert!(metrics.contains("clutchcall_api_tls_failed_total 1\n"), "{metrics}");
}

#[test]
fn a_handshake_that_does_not_come_is_cut_off() {
    let secret = Secret::with(|limits| limits.head = Duration::from_millis(500));
    let mut silent = secret.bench.connect();
    // The beginning of a TLS record, and no more.
    silent.write_all(&[22, 3, 1]).unwrap();
    let mut answer = Vec::new();
    let _ = silent.read_to_end(&mut answer);
    wait_for(|| {
        let metrics = ask(&mut secret.connect(&secret.certificate), "/metrics").body;
        metrics.contains("limit=\"head_ms\"} 1\n").then_some(())
    });
}

#[test]
fn files_that_are_no_certificate_are_an_error_at_the_start() {
    let state = tempfile::tempdir().unwrap();
    let mut config = crate::common::config(state.path());
    config.api.certificate = Some((state.path().join(CHAIN), state.path().join(PRIVATE)));
    let error = clutchcall::engine::Engine::start(config).err().unwrap();
    assert!(error.contains("api.certificate") && error.contains(CHAIN), "{error}");
}
