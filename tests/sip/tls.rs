//! SIP over TLS, against a far side of our own: SIPp has no TLS that could be had everywhere. It is rustls and a few answers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::config;
use clutchcall::engine::sip::Transport;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::rig::{Caller, LIMIT, case, towards};

const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));
const UNREACHABLE: (Status, EndReason, Option<u16>, Option<u8>) =
    (Status::Failed, EndReason::NetworkError, None, Some(38));

/// A far side that answers, and hangs up if it is to.
struct Far {
    address: SocketAddr,
    /// Its own certificate, which is its root too.
    roots: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

impl Far {
    async fn start(named: &str, hangs_up: bool) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![named.to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let told = Arc::clone(&heard);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                // A handshake that the other side breaks off is what some tests are about.
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(talk(stream, address, hangs_up, Arc::clone(&told)));
                }
            }
        });
        Self { address, roots, heard, _folder: folder }
    }

    fn settings(&self) -> config::SipTrunk {
        config::SipTrunk {
            transport: config::Transport::Tls,
            tls_roots: Some(self.roots.clone()),
            source_pbx_port: 5061,
            ..towards(Transport::Tls, self.address.port())
        }
    }

    fn heard(&self, method: &str) -> Vec<String> {
        self.heard.lock().unwrap().iter().filter(|text| text.starts_with(method)).cloned().collect()
    }
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let line =
        text.lines().find_map(|line| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).1
}

fn answer(request: &str, line: &str, us: SocketAddr, body: &str) -> String {
    let to = header(request, "To");
    let to = if to.contains(";tag=") { to.to_owned() } else { format!("{to};tag=far") };
    let same = ["Via", "From", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", header(request, name))).concat();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {line}\r\n{same}To: {to}\r\nContact: <sip:far@{us};transport=tls>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn talk(
    mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    us: SocketAddr,
    hangs_up: bool,
    heard: Arc<Mutex<Vec<String>>>,
) {
    let sdp = "v=0\r\no=far 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    let (mut text, mut piece, mut invite) = (String::new(), [0; 4096], String::new());
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        text.push_str(&String::from_utf8_lossy(&piece[..length]));
        while let Some(end) = text.find("\r\n\r\n").map(|end| end + 4) {
            let body: usize = header(&text[..end], "Content-Length").parse().unwrap();
            if text.len() < end + body {
                break;
            }
            let message: String = text.drain(..end + body).collect();
            let said = match message.split(' ').next().unwrap() {
                "INVITE" => {
                    invite = message.clone();
                    answer(&message, "180 Ringing", us, "") + &answer(&message, "200 OK", us, sdp)
                }
                "ACK" if hangs_up => format!(
                    "BYE {} SIP/2.0\r\nVia: SIP/2.0/TLS {us};branch=z9hG4bKfar\r\nFrom: {};tag=far\r\nTo: {}\r\n\
                     Call-ID: {}\r\nCSeq: 1 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
                    header(&invite, "Contact").trim_matches(['<', '>']),
                    header(&invite, "To"),
                    header(&invite, "From"),
                    header(&invite, "Call-ID")
                ),
                "BYE" => answer(&message, "200 OK", us, ""),
                _ => String::new(),
            };
            heard.lock().unwrap().push(message);
            if stream.write_all(said.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_call_over_tls() {
    case(async || {
        let far = Far::start("127.0.0.1", false).await;
        let mut caller = Caller::idle(far.settings()).await;
        caller.place(20);
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        let invites = far.heard("INVITE");
        assert_eq!((invites.len(), far.heard("BYE").len()), (1, 1));
        assert!(header(&invites[0], "Via").starts_with("SIP/2.0/TLS 127.0.0.1:5061;"), "{}", invites[0]);
        let contact = header(&invites[0], "Contact").to_lowercase();
        assert!(contact.ends_with("@127.0.0.1:5061;transport=tls>"), "{contact}");
    });
}

#[test]
fn the_far_end_speaks_over_our_connection() {
    case(async || {
        let far = Far::start("127.0.0.1", true).await;
        let mut caller = Caller::idle(far.settings()).await;
        caller.place(20);
        caller.settled().await;
        assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Remote)));
        let begun = Instant::now();
        while far.heard("SIP/2.0 200").is_empty() {
            assert!(begun.elapsed() < LIMIT, "its BYE is not answered");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_far_side_that_nobody_vouches_for_is_told_nothing() {
    case(async || {
        let (far, other) = (Far::start("127.0.0.1", false).await, Far::start("127.0.0.1", false).await);
        let settings = config::SipTrunk { tls_roots: Some(other.roots.clone()), ..far.settings() };
        let mut caller = Caller::idle(settings).await;
        caller.place(20);
        caller.settled().await;
        assert_eq!(caller.ending(), UNREACHABLE);
        assert!(far.heard("").is_empty());
    });
}

#[test]
fn a_far_side_of_another_name_is_told_nothing() {
    case(async || {
        let far = Far::start("sip.example.com", false).await;
        let mut caller = Caller::idle(far.settings()).await;
        caller.place(20);
        caller.settled().await;
        assert_eq!(caller.ending(), UNREACHABLE);
        assert!(far.heard("").is_empty());
    });
}

#[test]
fn roots_that_are_none_are_said_at_the_start() {
    case(async || {
        let far = Far::start("127.0.0.1", false).await;
        for (text, says) in [(Some("no certificate"), "no certificate in PEM"), (None, "roots.pem")] {
            match text {
                Some(text) => std::fs::write(&far.roots, text).unwrap(),
                None => std::fs::remove_file(&far.roots).unwrap(),
            }
            let local = clutchcall::engine::sip::local(&far.settings(), &Default::default()).await.unwrap();
            let refused = clutchcall::engine::sip::Endpoints::default().at(&local).await.err().unwrap();
            assert!(refused.contains("tls_roots") && refused.contains(says), "{refused}");
        }
    });
}
