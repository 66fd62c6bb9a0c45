//! SIP over TLS, against a far side of our own: SIPp has no TLS that could be had everywhere. It is rustls and a few answers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::config::{self, Host};
use clutchcall::engine::sip::Transport;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::rig::{Caller, LIMIT, case, towards};

const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));
const UNREACHABLE: (Status, EndReason, Option<u16>, Option<u8>) =
    (Status::Failed, EndReason::NetworkError, None, Some(38));

/// What a far side does beyond answering.
#[derive(Clone, Copy, Default)]
struct Ways {
    /// As soon as its answer is acknowledged.
    hangs_up: bool,
    /// It closes its connection then, and goes on to listen.
    leaves: bool,
    /// It stands in the way of the call's requests, over this transport.
    routes: Option<&'static str>,
    /// It sends calls on to this user of its own first.
    moves: Option<&'static str>,
}

struct Far {
    address: SocketAddr,
    /// Its own certificate, which is its root too.
    roots: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
    /// Connections.
    accepted: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

impl Far {
    async fn start(named: &str, ways: Ways) -> Self {
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
        let accepted = Arc::<AtomicUsize>::default();
        let (told, counted) = (Arc::clone(&heard), Arc::clone(&accepted));
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Relaxed);
                // A handshake that the other side breaks off is what some tests are about.
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(talk(stream, address, ways, Arc::clone(&told)));
                }
            }
        });
        Self { address, roots, heard, accepted, _folder: folder }
    }

    fn settings(&self) -> config::SipTrunk {
        config::SipTrunk {
            transport: config::Transport::Tls,
            tls_roots: Some(self.roots.clone()),
            source_pbx_port: 5061,
            ..towards(Transport::Tls, self.address.port())
        }
    }

    /// Under this name, which stands in its certificate.
    fn named(&self, name: &str) -> config::SipTrunk {
        let host = Host { name: name.to_owned(), port: Some(self.address.port()) };
        config::SipTrunk { sbc_ip: Some(host), ..self.settings() }
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

fn answer(request: &str, line: &str, us: SocketAddr, more: &str, body: &str) -> String {
    let to = header(request, "To");
    let to = if to.contains(";tag=") { to.to_owned() } else { format!("{to};tag=far") };
    let same = ["Via", "From", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", header(request, name))).concat();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {line}\r\n{same}To: {to}\r\nContact: <sip:far@{us};transport=tls>\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn talk(
    mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    us: SocketAddr,
    ways: Ways,
    heard: Arc<Mutex<Vec<String>>>,
) {
    let route = ways.routes.map(|transport| format!("Record-Route: <sip:{us};transport={transport};lr>\r\n"));
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
                "INVITE" if ways.moves.is_some_and(|user| !message.starts_with(&format!("INVITE sip:{user}@"))) => {
                    let host = header(&message, "To").split(['@', '>']).nth(1).unwrap();
                    let user = ways.moves.unwrap();
                    // No Contact of its own: the place to go on to.
                    answer(&message, "302 Moved Temporarily", us, "", "")
                        .replace(&format!("<sip:far@{us};transport=tls>"), &format!("<sip:{user}@{host}>"))
                }
                "INVITE" => {
                    invite = message.clone();
                    let route = route.as_deref().unwrap_or_default();
                    answer(&message, "180 Ringing", us, route, "") + &answer(&message, "200 OK", us, route, sdp)
                }
                "ACK" if ways.hangs_up => format!(
                    "BYE {} SIP/2.0\r\nVia: SIP/2.0/TLS {us};branch=z9hG4bKfar\r\nFrom: {};tag=far\r\nTo: {}\r\n\
                     Call-ID: {}\r\nCSeq: 1 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
                    header(&invite, "Contact").trim_matches(['<', '>']),
                    header(&invite, "To"),
                    header(&invite, "From"),
                    header(&invite, "Call-ID")
                ),
                "BYE" => answer(&message, "200 OK", us, "", ""),
                _ => String::new(),
            };
            let is_over = ways.leaves && !invite.is_empty() && message.starts_with("ACK ");
            heard.lock().unwrap().push(message);
            if is_over {
                stream.shutdown().await.unwrap();
                while stream.read(&mut piece).await.is_ok_and(|length| length > 0) {}
                return heard.lock().unwrap().push("closed".to_owned());
            }
            if stream.write_all(said.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_call_over_tls() {
    case(async || {
        let far = Far::start("127.0.0.1", Ways::default()).await;
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
        let far = Far::start("127.0.0.1", Ways { hangs_up: true, ..Ways::default() }).await;
        let mut caller = Caller::idle(far.settings()).await;
        caller.place(20);
        caller.settled().await;
        assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Remote)));
        until_heard(&far, "SIP/2.0 200").await;
    });
}

async fn until_heard(far: &Far, what: &str) {
    let begun = Instant::now();
    while far.heard(what).is_empty() {
        assert!(begun.elapsed() < LIMIT, "{what} is not heard");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// A call whose far side has closed its connection once it was up: it ends as others do.
async fn hang_up_behind_its_connection(far: &Far) {
    let mut caller = Caller::idle(far.named("localhost")).await;
    caller.place(20);
    caller.until(Status::InProgress).await;
    until_heard(far, "closed").await;
    caller.hangup();
    caller.settled().await;
    assert_eq!(caller.ending(), NORMAL);
}

/// Contact and Route name its address, its certificate the trunk's host: it is known by that.
#[test]
fn a_call_outlives_its_connection() {
    for routes in [None, Some("tls")] {
        case(async || {
            let far = Far::start("localhost", Ways { leaves: true, routes, ..Ways::default() }).await;
            hang_up_behind_its_connection(&far).await;
            assert_eq!(far.heard("BYE").len(), 1, "{routes:?}");
        });
    }
}

#[test]
fn a_call_that_was_sent_on_outlives_its_connection_too() {
    case(async || {
        let ways = Ways { leaves: true, routes: Some("tls"), moves: Some("moved"), ..Ways::default() };
        let far = Far::start("localhost", ways).await;
        hang_up_behind_its_connection(&far).await;
        assert_eq!((far.heard("INVITE").len(), far.heard("BYE").len()), (2, 1));
    });
}

#[test]
fn a_route_that_leads_away_from_tls_is_told_nothing() {
    case(async || {
        let far = Far::start("localhost", Ways { leaves: true, routes: Some("tcp"), ..Ways::default() }).await;
        hang_up_behind_its_connection(&far).await;
        assert_eq!((far.heard("BYE").len(), far.accepted.load(Relaxed)), (0, 1));
    });
}

#[test]
fn a_far_side_that_nobody_vouches_for_is_told_nothing() {
    case(async || {
        let (far, other) =
            (Far::start("127.0.0.1", Ways::default()).await, Far::start("127.0.0.1", Ways::default()).await);
        let settings = config::SipTrunk { tls_roots: Some(other.roots.clone()), ..far.settings() };
        let mut caller = Caller::idle(settings).await;
        caller.place(20);
        caller.settled().await;
        assert_eq!(caller.ending(), UNREACHABLE);
        let why = caller.record().sip_phrase.as_deref().unwrap();
        assert!(why.contains("certificate"), "{why}");
        assert!(far.heard("").is_empty());
    });
}

#[test]
fn a_far_side_of_another_name_is_told_nothing() {
    case(async || {
        let far = Far::start("sip.example.com", Ways::default()).await;
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
        let far = Far::start("127.0.0.1", Ways::default()).await;
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
