//! How links fail to begin, and how they end.

use std::net::UdpSocket;

use super::node::{Node, limits};
use crate::net::tls::Identity;
use crate::net::{Down, LinkEvent, Trust, Worker, WorkerConfig};

fn unreachable(down: Down) -> String {
    match down {
        Down::Unreachable(text) => text,
        other => panic!("{other:?} is not Unreachable"),
    }
}

#[test]
fn a_certificate_that_is_not_pinned_is_refused_with_a_remedy() {
    let identity = Identity::ephemeral();
    let (client, server) = (Node::client(), Node::server(&identity));
    let link = client.dial("moqt", server.address, Trust::Hashes(vec![[7; 32]]));
    let text = unreachable(client.down(link));
    let hash: String = identity.certificate_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(text.contains(&hash) && text.contains("pin"), "{text}");
    let link = client.dial("moqt", server.address, Trust::Roots(Vec::new()));
    let text = unreachable(client.down(link));
    assert!(text.contains("root"), "{text}");
    let link = client.dial("moqt", server.address, Trust::Anything);
    assert_eq!(client.up().0, link);
}

#[test]
fn what_is_no_address_is_refused_at_once() {
    let client = Node::client();
    for (url, word) in [("ftp://localhost", "moqt://"), ("moqt:nowhere", "host")] {
        let link = client.dial_url(url, "127.0.0.1:9".parse().expect("an address"), Trust::Anything);
        let text = unreachable(client.down(link));
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_taken_port_is_named() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let bind = socket.local_addr().expect("bound");
    let error = Worker::new(WorkerConfig { bind, listen: None, limits: limits() }).err().expect("taken");
    assert!(error.contains(&bind.to_string()) && error.contains("taken"), "{error}");
}

#[test]
fn a_server_restarted_with_its_state_resets_old_connections() {
    let state = tempfile::tempdir().expect("a folder");
    let identity = Identity::loopback(state.path()).expect("minted");
    let victim = Node::server(&identity);
    let address = victim.address;
    let client = Node::client();
    let links: Vec<_> = (0..8).map(|_| client.dial("moqt", address, Trust::Anything)).collect();
    links.iter().for_each(|_| drop(client.setup()));
    // Killed: no goodbye. A restarted one has the same keys and no memory.
    victim.kill();
    let _reborn = Node::server_at(address, &Identity::loopback(state.path()).expect("read"));
    let asking = links.clone();
    client.with(move |all, _| {
        for link in asking {
            // A late acknowledgement may have been answered by a reset already.
            if let Some(session) = all.session(link) {
                session.subscribe(super::node::subscription("audio"));
            }
        }
    });
    for link in links {
        let down = client.expect("Down", |_, event| match event {
            LinkEvent::Down(down) => Some(down.clone()),
            _ => None,
        });
        assert_eq!(down, Down::Reset, "{link:?}");
    }
}

#[test]
fn garbage_never_kills_a_worker() {
    let identity = Identity::ephemeral();
    let (client, server) = (Node::client(), Node::server(&identity));
    let garbage = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let mut random = 1u64;
    for length in 0..1_500usize {
        let mut bytes = vec![0; length];
        for byte in &mut bytes {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (random >> 56) as u8;
        }
        if let Some(first) = bytes.first_mut().filter(|_| length % 3 == 0) {
            *first = 0xc0;
        }
        if length % 6 == 0 && length > 5 {
            bytes[1..5].copy_from_slice(&1u32.to_be_bytes());
        }
        garbage.send_to(&bytes, server.address).expect("loopback sends");
    }
    client.dial("moqt", server.address, Trust::Anything);
    client.up();
    server.up();
}

#[test]
fn one_worker_carries_200_links() {
    let identity = Identity::ephemeral();
    let (client, server) = (Node::client(), Node::server(&identity));
    let address = server.address;
    for _ in 0..200 {
        client.dial("moqt", address, Trust::Anything);
    }
    for _ in 0..200 {
        client.setup();
        server.setup();
    }
    assert_eq!(client.with(|links, _| links.counters().links), 200);
    assert_eq!(server.with(|links, _| links.counters().links), 200);
}
