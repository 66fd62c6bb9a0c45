//! A subscription of ours that asks for its past (drafts 20 and later), between two sessions.

use bytes::{Bytes, BytesMut};

use super::lone::Lone;
use super::pair::{Conditions, Pair, config};
use super::smoke::subscribe;
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{Filter, Location, SubscribeOk};
use crate::moqt::session::{Config, Dir, Fill, RequestId, Role};
use crate::moqt::{CloseCode, Draft, Event, Object, ResetCode, Transmit};

const NEWER: [Draft; 2] = [Draft::D20, Draft::D22];

fn item(group: u64, id: u64) -> Fetched {
    let object = Object { group, id, priority: Some(7), payload: Bytes::from(vec![9; 300]), ..Object::default() };
    Fetched::Object { object, datagram: false }
}

/// A subscription that was accepted behind (4, 2), and the fill that its publisher was told of.
fn asked(draft: Draft, seed: u64) -> (Pair, RequestId, Option<Fill>) {
    let [client, server] = [Role::Client, Role::Server].map(|role| Config { draft, ..config(role) });
    let now = std::time::Instant::now();
    let mut pair = Pair::with(Conditions { draft, ..Conditions::rough(seed) }, client, server, now);
    pair.settle();
    let request = pair.client.subscribe_filled(subscribe("audio"), Filter::NewestGroups(2));
    pair.settle();
    pair.server_events.clear();
    let largest = Some(Location { group: 4, object: 2 });
    pair.server.accept_subscribe(request, SubscribeOk { largest, ..SubscribeOk::default() });
    pair.settle();
    let fill =
        pair.server_events.iter().find_map(|event| if let Event::Fill(fill) = event { Some(*fill) } else { None });
    (pair, request, fill)
}

fn brought(pair: &Pair) -> Vec<Event> {
    let of_fill = |event: &&Event| matches!(event, Event::Fetched { .. } | Event::FetchEnd { .. });
    pair.client_events.iter().filter(of_fill).cloned().collect()
}

#[test]
fn what_was_before_a_subscription_comes_with_it_on_rough_links() {
    for seed in 0..10 {
        for draft in NEWER {
            let (mut pair, request, fill) = asked(draft, seed);
            let fill = fill.expect("it was asked for");
            let (start, end) = (Location { group: 3, object: 0 }, Location { group: 4, object: 2 });
            assert_eq!(fill.range, (start, end));
            let items = [item(3, 0), item(3, 1), item(4, 2)];
            pair.server.fill(fill, items.clone());
            pair.settle();
            let fetched = items.into_iter().map(|fetched| Event::Fetched { request, fetched });
            let expected: Vec<_> = fetched.chain([Event::FetchEnd { request, reset: None }]).collect();
            assert_eq!((brought(&pair), &pair.closed), (expected, &None));
        }
    }
}

#[test]
fn a_fill_that_fails_ends_and_the_subscription_goes_on() {
    for draft in NEWER {
        let (mut pair, request, fill) = asked(draft, 0);
        pair.server.fail_fill(fill.expect("it was asked for"));
        pair.settle();
        // A reset may overtake the header; then nobody can tell whose the stream was.
        let reset = Some(ResetCode::InternalError as u64);
        assert!(brought(&pair).iter().all(|event| *event == Event::FetchEnd { request, reset }), "{draft:?}");
        assert!(pair.closed.is_none() && !pair.client.is_idle());
    }
}

/// There a FETCH joins.
#[test]
fn older_drafts_subscribe_without() {
    for draft in [Draft::D16, Draft::D18] {
        let (pair, request, fill) = asked(draft, 0);
        assert_eq!(fill, None);
        let ok = |event: &Event| matches!(event, Event::SubscribeOk { request: of, .. } if *of == request);
        assert!(pair.client_events.iter().any(ok) && pair.closed.is_none());
    }
}

/// A publisher's fetch streams, each with the header of request 0, and no more on them.
fn filled(lone: &mut Lone) -> crate::moqt::StreamId {
    let stream = lone.session.accept_stream(Dir::Uni);
    let header: BytesMut = [0x05, 0x00][..].into();
    lone.data(stream, header.freeze(), false);
    stream
}

#[test]
fn a_subscription_has_one_fill_and_takes_it_along() {
    let mut lone = Lone::of(Draft::D22, Role::Client);
    let request = lone.session.subscribe_filled(subscribe("audio"), Filter::NewestGroups(1));
    let stream = filled(&mut lone);
    lone.session.cancel(request);
    lone.drain();
    assert!(lone.sent.contains(&Transmit::Stop { stream, code: ResetCode::Cancelled as u64 }));
    let mut lone = Lone::of(Draft::D22, Role::Client);
    lone.session.subscribe_filled(subscribe("audio"), Filter::NewestGroups(1));
    filled(&mut lone);
    assert!(!lone.session.is_closed());
    filled(&mut lone);
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}

#[test]
fn who_asked_for_no_fill_takes_none() {
    let mut lone = Lone::of(Draft::D22, Role::Client);
    lone.session.subscribe(subscribe("audio"));
    let stream = filled(&mut lone);
    assert!(lone.sent.contains(&Transmit::Stop { stream, code: ResetCode::Cancelled as u64 }));
    assert!(!lone.session.is_closed());
}
