//! Many links in one turn: what they cost the kernel.

use std::net::SocketAddr;

use super::node::{Node, pattern, subscription};
use crate::moqt::message::SubscribeOk;
use crate::moqt::{Event, Object};
use crate::net::tls::Identity;
use crate::net::{Counters, LinkEvent, Trust};

const LINKS: usize = 100;

/// One frame on each of `LINKS` links, all in one turn of the server; what that cost it.
fn frames_of_one_turn(bind: &str) -> (Counters, Counters) {
    let bind: SocketAddr = bind.parse().expect("an address");
    let (client, server) = (Node::client(), Node::server_at(bind, &Identity::ephemeral()));
    let to = SocketAddr::new("127.0.0.1".parse().expect("an address"), server.address.port());
    let links: Vec<_> = (0..LINKS).map(|_| client.dial("moqt", to, Trust::Anything)).collect();
    links.iter().for_each(|_| drop(client.setup()));
    client.with(move |all, _| {
        for link in links {
            all.session(link).expect("live").subscribe(subscription("audio"));
        }
    });
    let asked: Vec<_> = (0..LINKS)
        .map(|_| {
            server.expect("SUBSCRIBE", |link, event| match event {
                LinkEvent::Moqt(Event::Subscribe { request, .. }) => Some((link, *request)),
                _ => None,
            })
        })
        .collect();
    let accepting = asked.clone();
    server.with(move |all, _| {
        for (link, request) in accepting {
            all.session(link).expect("live").accept_subscribe(request, SubscribeOk::default());
        }
    });
    let ok = |event: &Event| matches!(event, Event::SubscribeOk { .. }).then_some(());
    (0..LINKS).for_each(|_| client.moqt("SUBSCRIBE_OK", ok));
    let before = server.with(move |all, _| {
        let before = all.counters();
        for (link, request) in asked {
            let object = Object { payload: pattern(160), ..Object::default() };
            all.session(link).expect("live").send_datagram(request, &object).expect("fits");
        }
        before
    });
    for _ in 0..LINKS {
        client.moqt("an object", |event| matches!(event, Event::Object { .. }).then_some(()));
    }
    (before, server.with(|all, _| all.counters()))
}

#[test]
fn the_frames_of_a_turn_leave_in_a_few_calls() {
    let (before, after) = frames_of_one_turn("127.0.0.1:0");
    assert_eq!(after.datagrams_out - before.datagrams_out, LINKS as u64);
    let (packets, calls) = (after.packets_out - before.packets_out, after.send_calls - before.send_calls);
    assert!(packets >= LINKS as u64 && calls * 4 <= packets, "{packets} packets in {calls} calls");
}

/// There each message names the address it is sent from.
#[test]
fn so_they_do_from_a_socket_of_all_addresses() {
    for bind in ["0.0.0.0:0", "[::]:0"] {
        let (before, after) = frames_of_one_turn(bind);
        let (packets, calls) = (after.packets_out - before.packets_out, after.send_calls - before.send_calls);
        assert!(packets >= LINKS as u64 && calls * 4 <= packets, "{packets} packets in {calls} calls");
    }
}
