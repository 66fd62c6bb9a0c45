//! Far sides that connect to us over TLS: a client of our own, OpenSSL's, and a telephone of other people's making.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::config::{self, Inbound};
use clutchcall::engine::sip::Transport;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::called::{notify, rule};
use crate::rig::{Caller, LIMIT, case, free_port, towards};

const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));
const SDP: &str = "v=0\r\no=far 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

/// A certificate in files, which is its own root.
struct Shown(tempfile::TempDir);

impl Shown {
    fn new() -> Self {
        let shown = Self(tempfile::tempdir().unwrap());
        shown.renew();
        shown
    }

    /// Another one in the same files, and the key before it: for a moment they don't fit.
    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(self.chain(), made.cert.pem()).unwrap();
    }

    fn chain(&self) -> PathBuf {
        self.0.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }

    /// Of a far side that shows the same.
    fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::from_pem_file(self.chain()).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.key()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![chain], key).unwrap()))
    }

    /// A trunk whose far side is at 127.0.0.1.
    async fn called(&self) -> Caller {
        let settings = config::SipTrunk {
            tls_roots: Some(self.chain()),
            tls_certificate: Some((self.chain(), self.key())),
            ..towards(Transport::Tls, 9)
        };
        let mut callee = Caller::idle(settings).await;
        callee.trunk.receive_as("carrier", &Inbound { rules: vec![rule("*", notify())], ..Inbound::default() });
        callee
    }
}

/// Who trusts the certificate of that file, and nothing else.
async fn connect(roots: &Path, to: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let mut store = rustls::RootCertStore::empty();
    store.add(CertificateDer::from_pem_file(roots).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    Ok(TlsStream::Client(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

fn request(method: &str, us: SocketAddr, to: SocketAddr, more: &str) -> String {
    let number = if method == "ACK" { "1 ACK".to_owned() } else { format!("1 {method}") };
    let body = if method == "INVITE" { SDP } else { "" };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:100@{to};transport=tls SIP/2.0\r\nVia: SIP/2.0/TLS {us};branch=z9hG4bK{method}\r\n\
         From: <sip:caller@{us}>;tag=1\r\nTo: <sip:100@{to}>{more}\r\nCall-ID: over-tls\r\nCSeq: {number}\r\n\
         Contact: <sip:caller@{us}>\r\nMax-Forwards: 70\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ok_of(request: &str) -> String {
    let same = ["Via", "From", "To", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", header(request, name)));
    format!("SIP/2.0 200 OK\r\n{}Content-Length: 0\r\n\r\n", same.concat())
}

/// Until this has been heard; all of it.
async fn heard(stream: &mut TlsStream<TcpStream>, end: &str) -> String {
    let mut all = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some(at) = text.find(end)
            && text[at..].contains("\r\n\r\n")
        {
            return text;
        }
        let read = tokio::time::timeout(LIMIT, stream.read_buf(&mut all)).await.unwrap_or_else(|_| panic!("{text}"));
        assert!(read.unwrap() > 0, "it was closed behind {text}");
    }
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.split_once(": "));
    let last = lines.rfind(|(found, _)| found.eq_ignore_ascii_case(name));
    last.unwrap_or_else(|| panic!("no {name}: {text}")).1
}

#[test]
fn a_call_comes_in_over_tls() {
    case(async || {
        let shown = Shown::new();
        let mut callee = shown.called().await;
        let mut stream = connect(&shown.chain(), callee.address).await.unwrap();
        let us = stream.get_ref().0.local_addr().unwrap();
        stream.write_all(request("INVITE", us, callee.address, "").as_bytes()).await.unwrap();
        callee.is_called().await;
        heard(&mut stream, "SIP/2.0 180").await;
        callee.pick_up();
        let ok = heard(&mut stream, "SIP/2.0 200").await;
        let contact = header(&ok, "Contact").to_lowercase();
        assert_eq!(contact, format!("<sip:{};transport=tls>", callee.address));
        let tag = header(&ok, "To").split_once(";tag=").unwrap().1;
        let ack = request("ACK", us, callee.address, &format!(";tag={tag}"));
        stream.write_all(ack.as_bytes()).await.unwrap();
        callee.until(Status::InProgress).await;
        callee.hangup();
        // Over the caller's own connection, to where she says that she is.
        let bye = heard(&mut stream, "BYE ").await;
        let bye = &bye[bye.find("BYE ").unwrap()..];
        assert!(bye.starts_with(&format!("BYE sip:caller@{us} SIP/2.0\r\n")), "{bye}");
        assert!(header(bye, "Via").starts_with(&format!("SIP/2.0/TLS {};", callee.address)), "{bye}");
        stream.write_all(ok_of(bye).as_bytes()).await.unwrap();
        callee.settled().await;
        assert_eq!((callee.ending(), callee.record().ended_by), (NORMAL, Some(EndedBy::Local)));
    });
}

/// The caller's proxy stays in the way (Record-Route); her connection does not last as long as the call.
#[test]
fn a_call_that_came_in_outlives_its_connection() {
    case(async || {
        let shown = Shown::new();
        let mut callee = shown.called().await;
        let (proxy, acceptor) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), shown.acceptor());
        let route = format!("<sip:{};transport=tls;lr>", proxy.local_addr().unwrap());
        let mut stream = connect(&shown.chain(), callee.address).await.unwrap();
        let us = stream.get_ref().0.local_addr().unwrap();
        let routed = format!("Max-Forwards: 70\r\nRecord-Route: {route}\r\n");
        let invite = request("INVITE", us, callee.address, "").replace("Max-Forwards: 70\r\n", &routed);
        stream.write_all(invite.as_bytes()).await.unwrap();
        callee.is_called().await;
        callee.pick_up();
        let ok = heard(&mut stream, "SIP/2.0 200").await;
        let tag = header(&ok, "To").split_once(";tag=").unwrap().1;
        let ack = request("ACK", us, callee.address, &format!(";tag={tag}"));
        stream.write_all(ack.as_bytes()).await.unwrap();
        callee.until(Status::InProgress).await;
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        callee.hangup();
        let (anew, _) = tokio::time::timeout(LIMIT, proxy.accept()).await.expect("nobody connects").unwrap();
        let mut anew = TlsStream::Server(acceptor.accept(anew).await.unwrap());
        let bye = heard(&mut anew, "BYE ").await;
        assert!(bye.starts_with(&format!("BYE sip:caller@{us} SIP/2.0\r\n")), "{bye}");
        assert_eq!(header(&bye, "Route"), route);
        anew.write_all(ok_of(&bye).as_bytes()).await.unwrap();
        callee.settled().await;
        assert_eq!((callee.ending(), callee.record().ended_by), (NORMAL, Some(EndedBy::Local)));
    });
}

#[test]
fn a_caller_whose_tls_connection_breaks_has_given_up() {
    case(async || {
        let shown = Shown::new();
        let mut callee = shown.called().await;
        let mut stream = connect(&shown.chain(), callee.address).await.unwrap();
        let us = stream.get_ref().0.local_addr().unwrap();
        stream.write_all(request("INVITE", us, callee.address, "").as_bytes()).await.unwrap();
        callee.is_called().await;
        heard(&mut stream, "SIP/2.0 180").await;
        drop(stream);
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::NoAnswer, EndReason::Canceled, None, Some(31)));
    });
}

#[test]
fn a_certificate_that_changes_is_shown_to_new_connections() {
    case(async || {
        let shown = Shown::new();
        let callee = shown.called().await;
        let mut old = connect(&shown.chain(), callee.address).await.unwrap();
        shown.renew();
        let begun = Instant::now();
        while connect(&shown.chain(), callee.address).await.is_err() {
            assert!(begun.elapsed() < LIMIT, "the old certificate is shown");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The one that was open goes on.
        let us = old.get_ref().0.local_addr().unwrap();
        old.write_all(request("OPTIONS", us, callee.address, "").as_bytes()).await.unwrap();
        heard(&mut old, "SIP/2.0 200").await;
    });
}

#[test]
fn who_speaks_no_tls_or_is_a_stranger_is_closed_and_counted() {
    case(async || {
        let shown = Shown::new();
        let callee = shown.called().await;
        let mut plain = TcpStream::connect(callee.address).await.unwrap();
        let us = plain.local_addr().unwrap();
        plain.write_all(request("OPTIONS", us, callee.address, "").as_bytes()).await.unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let stranger = socket.connect(callee.address).await.unwrap();
        for mut stream in [plain, stranger] {
            let mut said = Vec::new();
            // Closed in order or not.
            let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut said)).await.unwrap();
            assert!(!String::from_utf8_lossy(&said).contains("SIP/2.0"), "he was told something");
        }
        assert_eq!(callee.counts.connections.load(Relaxed), 2);
    });
}

#[test]
fn a_certificate_that_is_none_is_said_at_the_start() {
    case(async || {
        let shown = Shown::new();
        std::fs::write(shown.key(), "no key").unwrap();
        let settings = config::SipTrunk {
            tls_roots: Some(shown.chain()),
            tls_certificate: Some((shown.chain(), shown.key())),
            ..towards(Transport::Tls, 9)
        };
        let local = clutchcall::engine::sip::local(&settings, &Default::default()).await.unwrap();
        let refused = clutchcall::engine::sip::Endpoints::default().at(&local).await.err().unwrap();
        assert!(refused.contains("tls_certificate") && refused.contains("key.pem"), "{refused}");
    });
}

/// A program that is ended with the test.
struct Foreign(Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        // It has ended by itself, or nobody waits for it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What OpenSSL's client hears for what it is told; it verifies us.
fn by_openssl(mut stdin: ChildStdin, mut child: Foreign, text: &str) -> String {
    stdin.write_all(text.as_bytes()).unwrap();
    let (mut said, mut stdout) = (Vec::new(), child.0.stdout.take().unwrap());
    let mut piece = [0; 1024];
    while !String::from_utf8_lossy(&said).contains("\r\n\r\n") {
        match stdout.read(&mut piece).unwrap() {
            0 => break,
            read => said.extend_from_slice(&piece[..read]),
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn openssl_asks_whether_we_are_there() {
    case(async || {
        let shown = Shown::new();
        let callee = shown.called().await;
        let mut client = Command::new("openssl");
        client.args(["s_client", "-quiet", "-verify_return_error", "-verify_ip", "127.0.0.1"]);
        client.arg("-CAfile").arg(shown.chain()).args(["-connect", &callee.address.to_string()]);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Foreign(client.spawn().unwrap());
        let stdin = child.0.stdin.take().unwrap();
        let text = request("OPTIONS", SocketAddr::from(([127, 0, 0, 1], 9)), callee.address, "");
        let said = tokio::task::spawn_blocking(move || by_openssl(stdin, child, &text)).await.unwrap();
        assert!(said.starts_with("SIP/2.0 200 OK\r\n"), "{said}");
    });
}

/// Calls this address over TLS as soon as it has begun.
fn baresip(folder: &Path, roots: &Path, to: SocketAddr) -> Foreign {
    let rtp = free_port() & !1;
    std::fs::write(
        folder.join("accounts"),
        "<sip:15558675309@127.0.0.1;transport=tls>;regint=0;audio_codecs=PCMU/8000/1\n",
    )
    .unwrap();
    let config = format!(
        "sip_listen 127.0.0.1:{}\nsip_cafile {}\nnet_interface 127.0.0.1\nrtp_ports {rtp}-{}\naudio_source ausine,440\n\
         audio_player aubridge,nil\naudio_alert aubridge,nil\nmodule_path /usr/lib/baresip/modules\nmodule g711.so\n\
         module ausine.so\nmodule aubridge.so\nmodule_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\n",
        free_port(),
        roots.display(),
        rtp + 20
    );
    std::fs::write(folder.join("config"), config).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut phone = Command::new("baresip");
    phone.arg("-f").arg(folder).args(["-v", "-s", "-e", &format!("/dial sip:100@{to};transport=tls")]);
    phone.stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
    Foreign(phone.spawn().unwrap())
}

#[test]
fn a_foreign_telephone_calls_over_tls() {
    case(async || {
        let (shown, folder) = (Shown::new(), tempfile::tempdir().unwrap());
        let mut callee = shown.called().await;
        let _phone = baresip(folder.path(), &shown.chain(), callee.address);
        callee.is_called().await;
        callee.pick_up();
        callee.until(Status::InProgress).await;
        callee.hangup();
        callee.settled().await;
        assert_eq!((callee.ending(), callee.record().ended_by), (NORMAL, Some(EndedBy::Local)));
    });
}
