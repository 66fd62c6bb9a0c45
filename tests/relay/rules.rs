//! The relay's rules, over every kind of link, with one shard and with two.

use std::time::Duration;

use clutchcall::moqt::message::{Setup, Token};
use clutchcall::moqt::{CloseCode, Event, PublishDoneCode, RequestErrorCode, Status};
use clutchcall::net::Down;
use clutchcall::relay::Admission;
use clutchcall::token::Claims;

use super::raw::Raw;
use super::rig::{Answer, Client, KINDS, Kind, LIMIT, Relay, kinds, object, sharded, unix};

const UPLINK: &str = "voice/CA1/uplink";

/// Runs on each kind of link, publisher and subscriber alike, and on one of each.
pub fn over_all(test: impl Fn(Kind, Kind)) {
    for shards in [1, 2] {
        sharded(shards);
        KINDS.into_iter().for_each(|kind| test(kind, kind));
        test(Kind::Port, Kind::RawQuic);
        test(Kind::WebTransport, Kind::Port);
    }
}

/// A refusal's code.
fn code(answer: &Answer) -> Option<u64> {
    match answer {
        Answer::Ok => None,
        Answer::Error { code, .. } => Some(*code),
    }
}

#[test]
fn what_is_published_is_heard_byte_for_byte() {
    over_all(|speaks, hears| {
        let (relay, client, other) = (Relay::start(), Client::start(), Client::start());
        let publisher = client.connect(&relay, speaks, vec![relay.token(&[UPLINK], &[])]);
        let subscriber = other.connect(&relay, hears, vec![relay.token(&[], &[UPLINK])]);
        assert_eq!(publisher.announce(UPLINK, vec![]), Answer::Ok);
        let request = subscriber.ask(UPLINK, None, vec![]);
        let publication = publisher.serve(UPLINK);
        assert_eq!(subscriber.answered(request), Answer::Ok);
        for group in 0..3 {
            let subgroup = publisher.open(publication, group);
            let sent: Vec<_> = (0..50).map(|id| object(group, id, vec![id as u8; 80])).collect();
            for object in &sent {
                publisher.send(subgroup, object.clone());
            }
            publisher.session(move |session| session.finish_subgroup(subgroup));
            let heard: Vec<_> = (0..50).map(|_| subscriber.object(request)).collect();
            assert_eq!(heard, sent, "{speaks:?} to {hears:?}");
        }
        // What crosses from one shard to the other is counted at both.
        relay.wait("objects are counted", |c| c.objects_in == c.objects_out && [150, 300].contains(&c.objects_in));
        relay.wait("sessions are counted", |counters| counters.sessions == 2);
    });
}

#[test]
fn a_subscriber_may_come_first_and_end_of_track_is_an_object() {
    over_all(|speaks, hears| {
        let (relay, client) = (Relay::start(), Client::start());
        let subscriber = client.connect(&relay, hears, vec![relay.token(&[], &["voice/CA1/*"])]);
        let request = subscriber.ask(UPLINK, Some(LIMIT), vec![]);
        let publisher = client.connect(&relay, speaks, vec![relay.token(&["voice/CA1/*"], &[])]);
        assert_eq!(publisher.announce(UPLINK, vec![]), Answer::Ok);
        let publication = publisher.serve(UPLINK);
        assert_eq!(subscriber.answered(request), Answer::Ok);
        let subgroup = publisher.open(publication, 7);
        let end = clutchcall::moqt::Object { group: 7, id: 3, status: Status::EndOfTrack, ..Default::default() };
        publisher.send(subgroup, end.clone());
        assert_eq!(subscriber.object(request), end);
        let without = subscriber.ask("voice/CA1/downlink", None, vec![]);
        assert_eq!(code(&subscriber.answered(without)), Some(RequestErrorCode::DoesNotExist as u64));
    });
}

#[test]
fn a_foreign_call_is_refused_with_the_same_bytes_whether_it_exists_or_not() {
    for kind in kinds() {
        let (relay, client) = (Relay::start(), Client::start());
        let publisher = client.connect(&relay, kind, vec![relay.token(&[UPLINK], &[])]);
        publisher.announce(UPLINK, vec![]);
        let stranger = client.connect(&relay, kind, vec![relay.token(&["voice/CA2/*"], &["voice/CA2/*"])]);
        let exists = stranger.subscribe(UPLINK).1;
        let nowhere = stranger.subscribe("voice/CA9/uplink").1;
        assert_eq!(code(&exists), Some(RequestErrorCode::Unauthorized as u64));
        assert_eq!(exists, nowhere);
        assert_eq!(code(&stranger.announce(UPLINK, vec![])), Some(RequestErrorCode::Unauthorized as u64));
        let nobody = client.connect(&relay, kind, vec![]);
        assert_eq!(nobody.subscribe(UPLINK).1, exists, "no token has no rights, and the session lives");
        let own = relay.token(&[], &[UPLINK]);
        let request = nobody.ask(UPLINK, None, vec![own]);
        publisher.serve(UPLINK);
        assert_eq!(nobody.answered(request), Answer::Ok, "a request may bring its own token");
        relay.wait("refusals are counted", |counters| counters.unauthorized == 4);
    }
}

#[test]
fn a_wrong_token_in_setup_closes_with_a_reason() {
    for kind in kinds() {
        let (relay, client) = (Relay::start(), Client::start());
        let mut old = relay.claims(&[UPLINK], &[]);
        old.exp = 1_000_000;
        let stranger = Relay::start();
        let tokens = [
            (relay.sign(&old), CloseCode::ExpiredAuthToken, "expired"),
            (Token { kind: 0, value: "no token".into() }, CloseCode::MalformedAuthToken, "not a signed JWT"),
            (stranger.token(&[UPLINK], &[]), CloseCode::Unauthorized, "kid"),
        ];
        for (token, expected, text) in tokens {
            let link = client.dial(&relay, kind, Setup { tokens: vec![token], ..Setup::default() });
            match link.down() {
                Down::Peer { code, reason } => {
                    assert_eq!(code, expected as u64, "{kind:?} {reason}");
                    assert!(reason.contains(text), "{reason}");
                }
                other => panic!("{kind:?} {text}: {other:?}"),
            }
        }
        relay.wait("sessions are gone", |counters| counters.sessions == 0 && counters.unauthorized == 3);
    }
}

/// Whoever slept through the end of a group and the beginning of the next hears them in that order.
#[test]
fn a_stall_swaps_no_groups() {
    for kind in kinds() {
        let (relay, client, sleeper) = (Relay::start(), Client::start(), Client::start());
        let token = relay.token(&[UPLINK], &[UPLINK]);
        let publisher = client.connect(&relay, kind, vec![token.clone()]);
        let subscriber = sleeper.connect(&relay, kind, vec![token]);
        publisher.announce(UPLINK, vec![]);
        let request = subscriber.ask(UPLINK, None, vec![]);
        let publication = publisher.serve(UPLINK);
        assert_eq!(subscriber.answered(request), Answer::Ok);
        let first = publisher.open(publication, 1);
        publisher.send(first, object(1, 0, vec![1_u8; 80]));
        assert_eq!(subscriber.object(request).id, 0);
        let (release, held) = crossbeam_channel::bounded::<()>(1);
        sleeper.send(move |_| {
            let _ = held.recv_timeout(LIMIT);
        });
        for id in 1..4 {
            publisher.send(first, object(1, id, vec![1_u8; 80]));
        }
        publisher.session(move |session| session.finish_subgroup(first));
        let second = publisher.open(publication, 2);
        for id in 0..4 {
            publisher.send(second, object(2, id, vec![2_u8; 80]));
        }
        relay.wait("all are handed on", |counters| [8, 16].contains(&counters.objects_out));
        release.send(()).expect("it waits");
        let heard: Vec<(u64, u64)> = (0..7).map(|_| subscriber.object(request)).map(|o| (o.group, o.id)).collect();
        assert_eq!(heard, [(1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)], "{kind:?}");
    }
}

#[test]
fn a_slow_subscriber_is_ended_and_nobody_else_notices() {
    for kind in kinds() {
        let (relay, client, stuck) = (Relay::start(), Client::start(), Client::start());
        let token = relay.token(&[UPLINK], &[UPLINK]);
        let publisher = client.connect(&relay, kind, vec![token.clone()]);
        let lively = client.connect(&relay, kind, vec![token.clone()]);
        let slow = stuck.connect(&relay, kind, vec![token]);
        publisher.announce(UPLINK, vec![]);
        let first = lively.ask(UPLINK, None, vec![]);
        let publication = publisher.serve(UPLINK);
        assert_eq!(lively.answered(first), Answer::Ok);
        let (second, answer) = slow.subscribe(UPLINK);
        assert_eq!(answer, Answer::Ok);
        let (release, held) = crossbeam_channel::bounded::<()>(1);
        stuck.send(move |_| {
            let _ = held.recv_timeout(LIMIT);
        });
        let subgroup = publisher.open(publication, 1);
        let mut sent = 0;
        while relay.server.counters().too_far_behind == 0 {
            publisher.send(subgroup, object(1, sent, vec![7_u8; 32 * 1024]));
            assert_eq!(lively.object(first).id, sent, "{kind:?}");
            sent += 1;
            assert!(sent < 10_000, "{kind:?}: the slow subscriber is never ended");
        }
        release.send(()).expect("it waits");
        assert_eq!(slow.done(second), PublishDoneCode::TooFarBehind as u64);
        publisher.send(subgroup, object(1, sent, vec![1_u8; 80]));
        assert_eq!(lively.object(first).id, sent);
    }
}

#[test]
fn a_newer_epoch_of_a_holder_replaces_its_ghost() {
    for kind in kinds() {
        let (relay, client) = (Relay::start(), Client::start());
        let downlink = "voice/CA1/downlink";
        let lease = |holder: &str, epoch| vec![relay.lease(downlink, "audio", holder, epoch)];
        let subscriber = client.connect(&relay, kind, vec![relay.token(&[], &[downlink])]);
        let ghost = client.connect(&relay, kind, lease("bridge", 1));
        assert_eq!(ghost.announce(downlink, vec![]), Answer::Ok);
        let request = subscriber.ask(downlink, Some(LIMIT), vec![]);
        let old = ghost.serve(downlink);
        assert_eq!(subscriber.answered(request), Answer::Ok);
        let speaker = client.connect(&relay, kind, lease("bridge", 2));
        assert_eq!(speaker.announce(downlink, vec![]), Answer::Ok);
        let new = speaker.serve(downlink);
        ghost.on("the ghost's publication is cancelled", |event| match event {
            Event::Cancelled { request } if *request == old => Some(()),
            _ => None,
        });
        let subgroup = speaker.open(new, 5);
        speaker.send(subgroup, object(5, 0, &b"new"[..]));
        assert_eq!(&subscriber.object(request).payload[..], b"new");
        let older = client.connect(&relay, kind, lease("bridge", 1));
        assert_eq!(code(&older.announce(downlink, vec![])), Some(RequestErrorCode::Unauthorized as u64));
        relay.wait("the ghost is counted", |counters| counters.superseded == 1);
    }
}

#[test]
fn a_publisher_that_dies_is_a_loss_and_its_successor_is_heard() {
    over_all(|speaks, hears| {
        let (relay, client, other) = (Relay::start(), Client::start(), Client::start());
        let token = relay.token(&[UPLINK], &[UPLINK]);
        let publisher = client.connect(&relay, speaks, vec![token.clone()]);
        let subscriber = other.connect(&relay, hears, vec![token.clone()]);
        publisher.announce(UPLINK, vec![]);
        let request = subscriber.ask(UPLINK, None, vec![]);
        let publication = publisher.serve(UPLINK);
        assert_eq!(subscriber.answered(request), Answer::Ok);
        let subgroup = publisher.open(publication, 1);
        publisher.send(subgroup, object(1, 0, &b"last words"[..]));
        subscriber.object(request);
        publisher.close();
        assert_eq!(subscriber.done(request), PublishDoneCode::InternalError as u64);
        let again = subscriber.ask(UPLINK, Some(LIMIT), vec![]);
        let successor = client.connect(&relay, speaks, vec![token]);
        successor.announce(UPLINK, vec![]);
        let publication = successor.serve(UPLINK);
        assert_eq!(subscriber.answered(again), Answer::Ok);
        let subgroup = successor.open(publication, 2);
        successor.send(subgroup, object(2, 0, &b"back"[..]));
        assert_eq!(&subscriber.object(again).payload[..], b"back");
    });
}

#[test]
fn too_many_sessions_of_one_address_are_closed_with_a_reason_and_ports_are_not_counted() {
    let admission = Admission { sessions_per_address: 2, ..Admission::default() };
    let (relay, client) = (Relay::with(|config| config.admission = admission), Client::start());
    let first = client.connect(&relay, Kind::RawQuic, vec![]);
    client.connect(&relay, Kind::WebTransport, vec![]);
    let beyond = client.dial(&relay, Kind::RawQuic, Setup::default());
    match beyond.down() {
        Down::Peer { code, reason } => {
            assert_eq!(code, CloseCode::InternalError as u64);
            assert!(reason.contains("too many sessions"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    client.connect(&relay, Kind::Port, vec![]);
    relay.wait("the one beyond is counted", |counters| counters.excessive == 1);
    first.close();
    first.down();
    relay.wait("one left", |counters| counters.sessions == 2);
    client.connect(&relay, Kind::RawQuic, vec![]);
}

/// Counted over all shards, exactly.
#[test]
fn a_token_has_so_many_sessions_wherever_they_come_in() {
    for shards in [1, 2] {
        sharded(shards);
        let admission = Admission { sessions_per_token: 2, ..Admission::default() };
        let (relay, client) = (Relay::with(|config| config.admission = admission), Client::start());
        let claims = relay.claims(&[], &[UPLINK]);
        // Two tokens of one subject are one, and one of another is not counted with them.
        let [one, same, other] = [("acme", 60), ("acme", 61), ("other", 60)].map(|(sub, life_s)| {
            relay.sign(&Claims { sub: sub.into(), exp: unix().as_secs() + life_s, ..claims.clone() })
        });
        let first = client.connect(&relay, Kind::RawQuic, vec![one.clone()]);
        client.connect(&relay, Kind::WebTransport, vec![same.clone(), one.clone()]);
        for kind in [Kind::RawQuic, Kind::WebTransport] {
            let setup = Setup { tokens: vec![same.clone(), other.clone()], ..Setup::default() };
            match client.dial(&relay, kind, setup).down() {
                Down::Peer { code, reason } => {
                    assert_eq!(code, CloseCode::InternalError as u64);
                    assert!(reason.contains("this token has too many sessions"), "{reason}");
                }
                down => panic!("{down:?}"),
            }
        }
        client.connect(&relay, Kind::RawQuic, vec![other.clone()]);
        client.connect(&relay, Kind::RawQuic, vec![other]);
        client.connect(&relay, Kind::RawQuic, vec![]);
        // An engine's token, and a port's session, are as many as they are.
        let engine = relay.token(&["voice/**"], &["voice/**"]);
        for _ in 0..4 {
            client.connect(&relay, Kind::RawQuic, vec![engine.clone()]);
        }
        relay.wait("those beyond are counted", |counters| counters.excessive == 2);
        assert_eq!(relay.server.figures().entrance.beyond_token, 2);
        first.close();
        first.down();
        relay.wait("its place is free", |counters| counters.sessions == 8);
        client.connect(&relay, Kind::RawQuic, vec![one]);
    }
}

#[test]
fn a_peer_that_says_no_setup_is_closed() {
    let setup_timeout = Duration::from_millis(100);
    let relay = Relay::with(|config| config.admission = Admission { setup_timeout, ..Admission::default() });
    let (code, _) = Raw::connect(relay.server.address()).closed("no SETUP");
    assert_eq!(code, CloseCode::ControlMessageTimeout as u64);
}

#[test]
fn a_token_may_stand_in_the_path() {
    let (relay, client) = (Relay::start(), Client::start());
    let token = relay.token(&[], &[UPLINK]);
    let text = String::from_utf8(token.value.to_vec()).expect("a JWT is ASCII");
    let publisher = client.connect(&relay, Kind::Port, vec![relay.token(&[UPLINK], &[])]);
    publisher.announce(UPLINK, vec![]);
    for (kind, place) in [(Kind::RawQuic, "moq?jwt="), (Kind::WebTransport, "?token="), (Kind::WebTransport, "")] {
        let mut dial = relay.dial(kind, Setup::default());
        dial.url = format!("{}{place}{text}", dial.url).parse().expect("a URL");
        let link = client.link(dial);
        link.up();
        let request = link.ask(UPLINK, Some(Duration::from_secs(10)), vec![]);
        publisher.serve(UPLINK);
        assert_eq!(link.answered(request), Answer::Ok, "{kind:?} {place}");
        link.close();
        link.down();
        publisher.on("the relay's subscription ends with its last", |event| {
            matches!(event, Event::Cancelled { .. }).then_some(())
        });
    }
}

#[test]
fn a_port_outlives_no_relay() {
    let (relay, client) = (Relay::start(), Client::start());
    let port = client.connect(&relay, Kind::Port, vec![]);
    let wire = client.connect(&relay, Kind::RawQuic, vec![]);
    let ports = relay.server.ports();
    relay.server.shutdown();
    port.down();
    wire.down();
    let setup = Setup::default();
    let late = client.run(move |hands| {
        let role = clutchcall::moqt::session::Role::Client;
        hands.links.attach(ports.open(), role, setup, hands.now)
    });
    client.down(late);
}

#[test]
fn handshakes_beyond_the_set_numbers_prove_their_address_or_are_refused() {
    let with = |retry_from, refuse_from| {
        Relay::with(|config| config.admission = Admission { retry_from, refuse_from, ..Admission::default() })
    };
    let client = Client::start();
    for kind in [Kind::RawQuic, Kind::WebTransport] {
        let relay = with(0, 1024);
        client.connect(&relay, kind, vec![]);
        relay.wait("a Retry is counted", |_| relay.server.figures().net.retried == 1);
        let relay = with(0, 0);
        let refused = client.dial(&relay, kind, Setup::default());
        assert!(matches!(refused.down(), Down::Unreachable(_)), "{kind:?}");
        relay.wait("the refusal is counted", |_| relay.server.figures().net.refused == 1);
    }
}
