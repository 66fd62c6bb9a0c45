//! A QUIC client of another make (quinn) that says whatever bytes a test wants, and writes down what it is told.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::rustls;
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::rig::{LIMIT, Relay};
use super::words;

/// One connection. Everything is done on the caller's thread, while it waits.
pub struct Raw {
    runtime: tokio::runtime::Runtime,
    pub connection: quinn::Connection,
    /// Held open: a control stream must not end (§3.3).
    control: Option<quinn::SendStream>,
    /// Streams that neither end nor are read.
    kept: RefCell<Vec<Box<dyn Any>>>,
    _endpoint: quinn::Endpoint,
}

/// An answer's type and body; `None` when the stream ended without one, or the connection did.
pub type Answer = Option<(u64, Vec<u8>)>;

pub const REQUEST_ERROR: u64 = 0x05;
pub const REQUEST_OK: u64 = 0x07;
pub const SUBSCRIBE_OK: u64 = 0x04;

impl Raw {
    /// A connection with our ALPN on which nothing was said.
    pub fn connect(relay: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (endpoint, connection) = runtime.block_on(async {
            let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a loopback socket");
            let connecting = endpoint.connect_with(config(), relay, "localhost").expect("a good name");
            let connected = tokio::time::timeout(LIMIT, connecting).await.expect("a handshake in time");
            (endpoint, connected.expect("the handshake is done"))
        });
        Self { runtime, connection, control: None, kept: RefCell::default(), _endpoint: endpoint }
    }

    /// A handshake that begins and goes no further than the first flight.
    pub fn knock(relay: SocketAddr) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a loopback socket");
            let mut connecting = endpoint.connect_with(config(), relay, "localhost").expect("a good name");
            // The relay's answer tells that it has come; it is not looked at any further.
            let _ = connecting.handshake_data().await;
        });
    }

    /// A session: our SETUP with that token (none: empty) is said.
    pub fn session(relay: &Relay, jwt: &[u8]) -> Self {
        let mut raw = Self::connect(relay.server.address());
        raw.control = Some(raw.uni(&words::setup(jwt)));
        raw
    }

    /// Our control stream, to say more on it, or to end it.
    pub fn take_control(&mut self) -> quinn::SendStream {
        self.control.take().expect("a session, and taken once")
    }

    /// Leaves a stream as it is: dropping it would end it.
    pub fn keep(&self, stream: impl Any) {
        self.kept.borrow_mut().push(Box::new(stream));
    }

    /// Waits for what the connection does, not longer than a test may take.
    pub fn run<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let done = self.runtime.block_on(async { tokio::time::timeout(LIMIT, work).await });
        done.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    /// A new stream of ours, on which `bytes` are said; it stays open.
    pub fn uni(&self, bytes: &[u8]) -> quinn::SendStream {
        self.try_uni(bytes).expect("the session lives")
    }

    /// The same; `None` when the session is over.
    pub fn try_uni(&self, bytes: &[u8]) -> Option<quinn::SendStream> {
        self.run("a stream", async {
            let mut stream = self.connection.open_uni().await.ok()?;
            // A peer that closes meanwhile is what some tests wait for.
            let _ = stream.write_all(bytes).await;
            Some(stream)
        })
    }

    /// A new request stream, on which `bytes` are said.
    pub async fn open_request(&self, bytes: &[u8]) -> Option<(quinn::SendStream, quinn::RecvStream)> {
        let (mut send, receive) = self.connection.open_bi().await.ok()?;
        send.write_all(bytes).await.ok()?;
        Some((send, receive))
    }

    /// Says a request, and gives back the first message that answers it; the request is withdrawn then.
    pub fn ask(&self, bytes: &[u8]) -> Answer {
        self.run("an answer", async {
            let (mut send, mut receive) = self.open_request(bytes).await?;
            let answer = read_message(&mut receive).await;
            let _ = send.reset(1_u8.into());
            let _ = receive.stop(1_u8.into());
            answer
        })
    }

    /// The same, and the request goes on.
    pub fn ask_and_keep(&self, bytes: &[u8]) -> Answer {
        self.run("an answer", async {
            let (send, mut receive) = self.open_request(bytes).await?;
            let answer = read_message(&mut receive).await;
            self.keep((send, receive));
            answer
        })
    }

    /// Waits for the other side to close, because of `what`: its code and reason.
    pub fn closed(&self, what: &str) -> (u64, String) {
        match self.run(&format!("the end after {what}"), self.connection.closed()) {
            quinn::ConnectionError::ApplicationClosed(close) => {
                (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => panic!("{other}"),
        }
    }
}

/// The first message on a stream.
pub async fn read_message(receive: &mut quinn::RecvStream) -> Answer {
    let mut heard = Vec::new();
    loop {
        if let Some((kind, body)) = words::first_message(&heard) {
            return Some((kind, body.to_vec()));
        }
        heard.extend_from_slice(&receive.read_chunk(64 * 1024, true).await.ok()??.bytes);
    }
}

fn config() -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider.clone());
    let tls = tls.with_safe_default_protocol_versions().expect("TLS 1.3");
    let tls = tls.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let mut tls = tls.with_no_client_auth();
    tls.alpn_protocols = vec![b"moqt-18".to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3");
    quinn::ClientConfig::new(Arc::new(tls))
}

/// Who the relay is does not matter here.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
