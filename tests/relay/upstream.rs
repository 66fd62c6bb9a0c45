//! Our relay as an edge of another: two servers, a session between them, users at both.

use std::net::SocketAddr;

use clutchcall::moqt::{Event, PublishDoneCode};
use clutchcall::net::Trust;
use clutchcall::relay::{UpstreamConfig, UpstreamToken};

use super::rig::{Answer, Client, Kind, LIMIT, Relay, kinds, object};

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
