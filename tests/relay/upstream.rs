//! Our relay as an edge of another: two servers, a session between them, users at both.

use std::net::SocketAddr;

use clutchcall::moqt::{Event, PublishDoneCode};
use clutchcall::net::Trust;
use clutchcall::relay::{UpstreamConfig, UpstreamToken};

use super::rig::{Answer, Client, Kind, LIMIT, Relay, kinds, object, sharded};

const UPLINK: &str = "voice/CA1/uplink";

/// A relay whose upstream is the one at this address.
fn edge_of(origin: &Relay, address: SocketAddr) -> Relay {
    let claims = origin.claims(&["voice/**"], &["voice/**"]);
    let token = claims.encode(&origin.key);
    let hash = origin.hash;
    let edge = Relay::with(|config| {
        config.upstream = Some(UpstreamConfig {
            url: format!("moqt://{address}").parse().expect("a URL"),
            trust: Trust::Hashes(vec![hash]),
            token: Some(UpstreamToken::Text(token)),
        });
    });
    stands(&edge);
    edge
}

fn stands(edge: &Relay) {
    edge.wait("the upstream relay is reached", |counters| {
        let shards = edge.server.addresses().len() as u64;
        counters.sessions == 0 && edge.server.figures().entrance.upstream_up == shards
    });
}

#[test]
fn what_is_published_at_either_relay_is_heard_at_the_other() {
    for kind in kinds() {
        for from_edge in [true, false] {
            let origin = Relay::start();
            let edge = edge_of(&origin, origin.server.address());
            let (client, other) = (Client::start(), Client::start());
            let (speaks, hears) = if from_edge { (&edge, &origin) } else { (&origin, &edge) };
            let publisher = client.connect(speaks, kind, vec![speaks.token(&[UPLINK], &[])]);
            let subscriber = other.connect(hears, kind, vec![hears.token(&[], &[UPLINK])]);
            let stranger = other.connect(hears, kind, vec![hears.token(&[], &["voice/CA2/uplink"])]);
            let request = subscriber.ask(UPLINK, Some(LIMIT), vec![]);
            let refused = stranger.ask(UPLINK, Some(LIMIT), vec![]);
            assert_eq!(publisher.announce(UPLINK, vec![]), Answer::Ok);
            let publication = publisher.serve(UPLINK);
            assert_eq!(subscriber.answered(request), Answer::Ok, "{kind:?}, from edge {from_edge}");
            assert!(matches!(stranger.answered(refused), Answer::Error { code: 1, .. }), "each relay checks its own");
            let subgroup = publisher.open(publication, 1);
            let sent: Vec<_> = (0..20).map(|id| object(1, id, vec![id as u8; 80])).collect();
            for object in &sent {
                publisher.send(subgroup, object.clone());
            }
            let heard: Vec<_> = (0..20).map(|_| subscriber.object(request)).collect();
            assert_eq!(heard, sent, "{kind:?}, from edge {from_edge}");
            publisher.close();
            assert_eq!(subscriber.done(request), PublishDoneCode::InternalError as u64);
        }
    }
}

#[test]
fn an_origin_that_comes_back_is_dialled_again_and_told_everything() {
    for kind in [Kind::RawQuic, Kind::Port] {
        let mut origin = Relay::start();
        let edge = edge_of(&origin, origin.server.address());
        let (client, other) = (Client::start(), Client::start());
        let publisher = client.connect(&edge, kind, vec![edge.token(&[UPLINK], &[])]);
        assert_eq!(publisher.announce(UPLINK, vec![]), Answer::Ok);
        origin.restart();
        edge.wait("the loss is noticed", |_| edge.server.figures().entrance.upstream_lost == 1);
        let subscriber = other.connect(&origin, kind, vec![origin.token(&[], &[UPLINK])]);
        let request = subscriber.ask(UPLINK, Some(LIMIT), vec![]);
        let publication = publisher.serve(UPLINK);
        assert_eq!(subscriber.answered(request), Answer::Ok);
        let subgroup = publisher.open(publication, 9);
        publisher.send(subgroup, object(9, 0, &b"back"[..]));
        assert_eq!(&subscriber.object(request).payload[..], b"back");
        subscriber.close();
        publisher.on("nobody at the origin listens any more", |event| {
            matches!(event, Event::Cancelled { .. }).then_some(())
        });
    }
}

/// Both relays have the track, as after a publisher that moved with its relay's word: each object is heard once, in its order, and nobody
/// behind the edge learns that anything happened.
#[test]
fn an_edge_goes_where_its_upstream_relay_sends_it_and_misses_nothing() {
    for shards in [1, 2] {
        sharded(shards);
        let origin = Relay::start();
        let other = origin.twin();
        let edge = edge_of(&origin, origin.server.address());
        let client = Client::start();
        let publishers = [&origin, &other].map(|relay| {
            let publisher = client.connect(relay, Kind::RawQuic, vec![relay.token(&[UPLINK], &[])]);
            assert_eq!(publisher.announce(UPLINK, vec![]), Answer::Ok);
            publisher
        });
        let subscriber = client.connect(&edge, Kind::RawQuic, vec![edge.token(&[], &[UPLINK])]);
        let request = subscriber.ask(UPLINK, Some(LIMIT), vec![]);
        let first = publishers[0].serve(UPLINK);
        assert_eq!(subscriber.answered(request), Answer::Ok);
        let subgroup = publishers[0].open(first, 1);
        let whole = |id: u64| object(1, id, vec![id as u8; 40]);
        let hear = |ids: std::ops::Range<u64>| ids.for_each(|id| assert_eq!(subscriber.object(request), whole(id)));
        (0..3).for_each(|id| publishers[0].send(subgroup, whole(id)));
        hear(0..3);
        let uri = format!("moqt://{}", other.server.address());
        origin.server.drain_to(&uri, LIMIT);
        // The other relay is asked, while the first still brings what there is.
        let second = publishers[1].serve(UPLINK);
        let moved = publishers[1].open(second, 1);
        (0..3).for_each(|id| publishers[1].send(moved, whole(id)));
        for id in 3..6 {
            publishers[0].send(subgroup, whole(id));
            publishers[1].send(moved, whole(id));
        }
        hear(3..6);
        edge.wait("it has moved", |_| edge.server.figures().entrance.upstream_moved >= 1);
        origin.wait("it has left", |counters| counters.relays == 2 * (shards - 1) * shards && counters.sessions <= 1);
        (6..9).for_each(|id| publishers[1].send(moved, whole(id)));
        hear(6..9);
        assert_eq!(edge.server.figures().entrance.upstream_lost, 0);
        edge.wait("all shards have moved", |_| edge.server.figures().entrance.upstream_up == shards as u64);
    }
}

/// A relay that drains and names no other place is heard to its end; then it is dialled again until it is back.
#[test]
fn an_upstream_relay_that_drains_is_heard_to_its_end_and_found_again() {
    let mut origin = Relay::start();
    let edge = edge_of(&origin, origin.server.address());
    let (client, other) = (Client::start(), Client::start());
    let publisher = client.connect(&origin, Kind::RawQuic, vec![origin.token(&[UPLINK], &[])]);
    assert_eq!(publisher.announce(UPLINK, vec![]), Answer::Ok);
    let subscriber = other.connect(&edge, Kind::RawQuic, vec![edge.token(&[], &[UPLINK])]);
    let request = subscriber.ask(UPLINK, Some(LIMIT), vec![]);
    let publication = publisher.serve(UPLINK);
    assert_eq!(subscriber.answered(request), Answer::Ok);
    let subgroup = publisher.open(publication, 1);
    origin.server.drain(LIMIT);
    // The edge has come again and was sent away again: a session more than there was, and none of them is the edge's new one.
    origin.wait("a second session was sent away", |counters| {
        origin.server.figures().entrance.admitted >= 3 && counters.sessions == 2
    });
    publisher.send(subgroup, object(1, 0, &b"to the end"[..]));
    assert_eq!(&subscriber.object(request).payload[..], b"to the end");
    origin.restart();
    edge.wait("the loss is noticed", |_| edge.server.figures().entrance.upstream_lost == 1);
    let again = client.connect(&origin, Kind::RawQuic, vec![origin.token(&[UPLINK], &[])]);
    assert_eq!(again.announce(UPLINK, vec![]), Answer::Ok);
    subscriber.done(request);
    let request = subscriber.ask(UPLINK, Some(LIMIT), vec![]);
    let publication = again.serve(UPLINK);
    assert_eq!(subscriber.answered(request), Answer::Ok);
    let subgroup = again.open(publication, 2);
    again.send(subgroup, object(2, 0, &b"back"[..]));
    assert_eq!(&subscriber.object(request).payload[..], b"back");
    assert_eq!(edge.server.figures().entrance.upstream_moved, 0);
}
