//! Peers that are not ours: quinn and web-transport-quinn, as client and as server. They speak transport; what goes through it
//! comes from a session of ours, byte by byte.

use std::future::Future;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use web_transport_quinn::proto::{ConnectRequest, ConnectResponse};
use web_transport_quinn::{SessionError, WebTransportError};

use super::node::{Node, PATIENCE, limits, pattern, subscription};
use crate::moqt::message::{Setup, SubscribeOk};
use crate::moqt::session::{Config, Role};
use crate::moqt::{Draft, Event, Object, Session, SubgroupHeader, Transmit};
use crate::net::tls::Identity;
use crate::net::{Down, LinkId, Trust, Wire, verify};

type Foreign = web_transport_quinn::Session;

/// The foreign peer's tasks run on a thread of their own: this one waits for nodes in between.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || runtime.block_on(ended));
    let value = handle.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("in time") });
    drop(end);
    let _ = thread.join();
    value
}

fn session(role: Role) -> Session {
    let config = Config { role, draft: Draft::D18, setup: Setup::default(), limits: limits() };
    Session::new(config, Instant::now())
}

/// What the session wants to send on one stream.
fn words(session: &mut Session) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    while let Some(transmit) = session.poll_transmit() {
        if let Transmit::Data { data, .. } = transmit {
            bytes.extend_from_slice(&data);
        }
    }
    bytes.to_vec()
}

fn client_endpoint(alpn: &str) -> quinn::Endpoint {
    let crypto = verify::client(&Trust::Anything, &[alpn]).expect("TLS");
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("loopback");
    endpoint.set_default_client_config(quinn::ClientConfig::new(crypto));
    endpoint
}

fn server_endpoint(identity: &Identity, alpn: &str) -> quinn::Endpoint {
    let config = quinn::ServerConfig::with_crypto(identity.crypto(&[alpn]).expect("TLS"));
    quinn::Endpoint::server(config, "127.0.0.1:0".parse().expect("an address")).expect("loopback")
}

async fn foreign_client(endpoint: &quinn::Endpoint, to: &Node, wire: Wire) -> Foreign {
    let connection = endpoint.connect(to.address, "localhost").expect("dials").await.expect("connects");
    match wire {
        Wire::WebTransport => {
            let url = url::Url::parse("https://localhost/live?x=1").expect("a URL");
            let request = ConnectRequest::new(url).with_protocol("moqt-99").with_protocol("moqt-18");
            let session = Foreign::connect(connection, request).await.expect("a session");
            assert_eq!(session.protocol(), Some("moqt-18"));
            session
        }
        _ => Foreign::raw(connection),
    }
}

async fn foreign_server(endpoint: &quinn::Endpoint, wire: Wire) -> Foreign {
    let connection = endpoint.accept().await.expect("a knock").await.expect("connects");
    match wire {
        Wire::WebTransport => {
            let request = web_transport_quinn::Request::accept(connection).await.expect("a CONNECT");
            assert_eq!((request.url.path(), request.url.query()), ("/live", Some("x=1")));
            assert_eq!(request.protocols, Draft::ADVERTISED.map(Draft::alpn));
            request.respond(ConnectResponse::OK.with_protocol("moqt-18")).await.expect("a session")
        }
        _ => Foreign::raw(connection),
    }
}

/// Streams of both directions, datagrams, a reset and a close, between `node` and a foreign peer.
async fn converse(node: Node, link: LinkId, foreign: Foreign, role: Role) {
    let mut brain = session(role);
    let mut control = foreign.open_uni().await.expect("a stream");
    control.write_all(&words(&mut brain)).await.expect("written");
    let mut theirs = foreign.accept_uni().await.expect("their control stream");
    let setup = theirs.read_chunk(1 << 16, true).await.expect("read").expect("SETUP").bytes;
    assert!(setup.starts_with(&[0xaf, 0x00]), "{setup:?}");
    node.setup();

    brain.subscribe(subscription("audio"));
    let (mut ask, mut answer) = foreign.open_bi().await.expect("a request stream");
    ask.write_all(&words(&mut brain)).await.expect("written");
    let request = node.moqt("SUBSCRIBE", |event| match event {
        Event::Subscribe { request, .. } => Some(*request),
        _ => None,
    });
    node.with(move |links, _| {
        let session = links.session(link).expect("live");
        session.accept_subscribe(request, SubscribeOk::default());
        let header = SubgroupHeader { group: 1, first_object: true, ..SubgroupHeader::default() };
        let subgroup = session.open_subgroup(request, &header).expect("forwarding");
        let object = |payload| Object { group: 1, payload, ..Object::default() };
        session.send_object(subgroup, &object(pattern(200_000)));
        session.finish_subgroup(subgroup);
        session.send_datagram(request, &object(Bytes::from_static(b"datagram"))).expect("fits");
    });
    let ok = answer.read_chunk(1 << 16, true).await.expect("read").expect("SUBSCRIBE_OK").bytes;
    assert_eq!(ok.first(), Some(&0x04));
    let bulk = foreign.accept_uni().await.expect("a subgroup").read_to_end(1 << 20).await.expect("read");
    assert!(bulk.ends_with(&pattern(200_000)), "{} bytes", bulk.len());
    assert!(foreign.read_datagram().await.expect("a datagram").ends_with(b"datagram"));

    ask.reset(7).expect("open");
    answer.stop(9).expect("open");
    node.moqt("the cancel", |event| matches!(event, Event::Cancelled { .. }).then_some(()));
    foreign.close(0x10, b"enough");
    foreign.closed().await;
    assert_eq!(node.down(link), Down::Peer { code: 0x10, reason: "enough".into() });
}

fn a_foreign_client_is_served(wire: Wire, alpn: &str) {
    let node = Node::server(&Identity::ephemeral());
    wait(async {
        let endpoint = client_endpoint(alpn);
        let foreign = foreign_client(&endpoint, &node, wire).await;
        let (link, peer) = node.up();
        assert_eq!((peer.wire, peer.accepted), (wire, true));
        assert_eq!(peer.address.map(|at| at.port()), endpoint.local_addr().ok().map(|at| at.port()));
        converse(node, link, foreign, Role::Client).await;
    });
}

fn a_foreign_server_is_dialled(wire: Wire, alpn: &str, scheme: &str) {
    let node = Node::client();
    wait(async {
        let identity = Identity::ephemeral();
        let endpoint = server_endpoint(&identity, alpn);
        let address = endpoint.local_addr().expect("bound");
        let link = node.dial(scheme, address, Trust::Hashes(vec![identity.certificate_hash()]));
        let foreign = foreign_server(&endpoint, wire).await;
        assert_eq!(node.up().1.wire, wire);
        converse(node, link, foreign, Role::Server).await;
    });
}

#[test]
fn quinn_is_served() {
    a_foreign_client_is_served(Wire::RawQuic, "moqt-18");
}

#[test]
fn quinn_is_dialled() {
    a_foreign_server_is_dialled(Wire::RawQuic, "moqt-18", "quic");
}

#[test]
fn web_transport_quinn_is_served() {
    a_foreign_client_is_served(Wire::WebTransport, "h3");
}

#[test]
fn web_transport_quinn_is_dialled() {
    a_foreign_server_is_dialled(Wire::WebTransport, "h3", "https");
}

#[test]
fn a_closing_node_tells_web_transport_its_code() {
    let node = Node::server(&Identity::ephemeral());
    wait(async {
        let endpoint = client_endpoint("h3");
        let foreign = foreign_client(&endpoint, &node, Wire::WebTransport).await;
        let (link, _) = node.up();
        node.with(move |links, _| links.close(link, 0x12, "too slow"));
        let error = foreign.closed().await;
        let SessionError::WebTransportError(WebTransportError::Closed(0x12, reason)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(reason, "too slow");
    });
}

#[test]
fn a_client_without_a_list_gets_draft_18_and_a_strange_list_is_refused() {
    let node = Node::server(&Identity::ephemeral());
    wait(async {
        let endpoint = client_endpoint("h3");
        let url = url::Url::parse("https://localhost/").expect("a URL");
        let connection = endpoint.connect(node.address, "localhost").expect("dials").await.expect("connects");
        let session = Foreign::connect(connection, ConnectRequest::new(url.clone())).await.expect("a session");
        assert_eq!(session.protocol(), None);
        let (link, peer) = node.up();
        assert_eq!(peer.wire, Wire::WebTransport);
        let draft = node.with(move |links, _| links.session(link).expect("live").draft());
        assert_eq!(draft, Draft::D18);
        let connection = endpoint.connect(node.address, "localhost").expect("dials").await.expect("connects");
        let request = ConnectRequest::new(url).with_protocol("moqt-99");
        assert!(Foreign::connect(connection, request).await.is_err());
    });
}

#[test]
fn a_strange_alpn_is_refused_with_its_alert() {
    let node = Node::server(&Identity::ephemeral());
    wait(async {
        let endpoint = client_endpoint("hq-29");
        let error = endpoint.connect(node.address, "localhost").expect("dials").await.expect_err("refused");
        let quinn::ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
        assert_eq!(u64::from(close.error_code), 0x100 + 120);
        let identity = Identity::ephemeral();
        let strange = server_endpoint(&identity, "hq-29");
        let client = Node::client();
        let link = client.dial("moqt", strange.local_addr().expect("bound"), Trust::Anything);
        let _ = strange.accept().await.expect("a knock").await;
        let Down::Unreachable(text) = client.down(link) else { panic!("it can't come up") };
        assert!(text.contains("protocol"), "{text}");
    });
}

/// HTTP/3 that is no WebTransport, streams of no session, damaged settings: nothing of it may hurt the worker.
#[test]
fn strange_http3_is_survived() {
    let node = Node::server(&Identity::ephemeral());
    wait(async {
        let endpoint = client_endpoint("h3");
        let starts: [&[u8]; 6] = [
            &[0x00, 0x04, 0x02, 0x40, 0x40],
            &[0x00, 0x04, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x40, 0x54, 0x40],
            &[0x40, 0x54, 0x04, 1, 2, 3],
            &[0x01, 0x05, 1, 2, 3, 4, 5],
            &[],
        ];
        for start in starts {
            let connection = endpoint.connect(node.address, "localhost").expect("dials").await.expect("connects");
            let mut uni = connection.open_uni().await.expect("a stream");
            let _ = uni.write_all(start).await;
            let _ = uni.finish();
            let (mut bi, _answer) = connection.open_bi().await.expect("a stream");
            let _ = bi.write_all(start).await;
            let _ = bi.finish();
            let _ = connection.send_datagram(Bytes::copy_from_slice(start));
        }
        foreign_client(&endpoint, &node, Wire::WebTransport).await;
        node.up();
    });
}
