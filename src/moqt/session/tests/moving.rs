//! GOAWAY for one request: said once, told to the other side, and what becomes of a peer that stays.

use std::time::Duration;

use super::lone::Lone;
use super::pair::{Conditions, Pair};
use super::requests::{subscribe_message, subscribe_ok};
use super::smoke::{object, subscribe, track};
use crate::moqt::message::{GoAway, Message, SubscribeOk};
use crate::moqt::session::{Event, RequestId, Role, StreamId, Transmit};
use crate::moqt::{CloseCode, Draft, ResetCode, SubgroupHeader};

const TIME: Duration = Duration::from_secs(2);

fn away(uri: &str, timeout: Option<Duration>) -> GoAway {
    GoAway { uri: uri.to_owned(), timeout }
}

#[test]
fn one_request_is_sent_away_and_the_others_stay() {
    for (seed, draft) in (1..).zip([Draft::D18, Draft::D20, Draft::D22]) {
        let mut pair = Pair::new(Conditions { draft, ..Conditions::rough(seed) });
        let (moved, stays) = (pair.client.subscribe(subscribe("a")), pair.client.subscribe(subscribe("b")));
        pair.settle();
        [moved, stays].into_iter().for_each(|request| pair.server.accept_subscribe(request, SubscribeOk::default()));
        let elsewhere = away("moqt://elsewhere:443", Some(TIME));
        assert!(pair.server.goaway_request(moved, elsewhere.clone()));
        assert!(!pair.server.goaway_request(moved, elsewhere.clone()), "once");
        assert!(!pair.server.goaway_request(RequestId(90), elsewhere.clone()), "nobody's");
        pair.settle();
        assert!(pair.client_events.contains(&Event::RequestGoAway { request: moved, goaway: elsewhere }), "{draft:?}");
        // New requests are welcome meanwhile.
        let again = pair.client.subscribe(subscribe("c"));
        pair.settle();
        pair.server.accept_subscribe(again, SubscribeOk::default());
        pair.client.cancel(moved);
        pair.run_for(3 * TIME);
        assert!(pair.server_events.contains(&Event::Cancelled { request: moved }));
        for request in [stays, again] {
            assert!(pair.server.open_subgroup(request, &SubgroupHeader::default()).is_some(), "{draft:?}");
        }
        assert_eq!(pair.closed, None);
    }
}

#[test]
fn who_does_not_move_in_time_is_reset() {
    let mut lone = Lone::new(Role::Server);
    let request = RequestId(0);
    let stream = lone.request(&subscribe_message(0));
    assert!(!lone.session.goaway_request(request, away("", None)), "its answer comes first");
    lone.session.accept_subscribe(request, SubscribeOk::default());
    let open = lone.session.open_subgroup(request, &SubgroupHeader::default()).unwrap();
    lone.session.send_object(open, &object(0, 0, "x"));
    assert!(lone.session.goaway_request(request, away("", Some(TIME))));
    lone.pass(Duration::ZERO);
    lone.pass(TIME - Duration::from_millis(1));
    let code = ResetCode::GoingAway as u64;
    assert!(!lone.was_sent(&Transmit::Reset { stream, code }));
    lone.pass(Duration::from_millis(1));
    for stream in [stream, StreamId(open.0)] {
        assert!(lone.was_sent(&Transmit::Reset { stream, code }));
    }
    assert_eq!(lone.events.last(), Some(&Event::Cancelled { request }));
    assert_eq!((lone.session.poll_timeout(), lone.closed()), (None, None));
    assert!(lone.session.is_idle());
}

#[test]
fn without_a_time_nothing_is_taken_back() {
    let mut lone = Lone::new(Role::Client);
    let stream = lone.request(&Message::PublishNamespace {
        id: 1,
        namespace: track("a").namespace,
        parameters: Default::default(),
    });
    lone.session.accept(RequestId(1));
    assert!(lone.session.goaway_request(RequestId(1), away("moqt://not-by-a-client", None)));
    lone.pass(10 * TIME);
    let said = lone.said(stream);
    let [Message::RequestOk(_), Message::GoAway { goaway, request: None }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(
        (goaway.uri.as_str(), lone.events.last().is_some_and(|e| matches!(e, Event::Cancelled { .. }))),
        ("", false)
    );
}

#[test]
fn draft_16_moves_sessions_only() {
    let mut pair = Pair::new(Conditions { draft: Draft::D16, ..Conditions::default() });
    let request = pair.client.subscribe(subscribe("a"));
    pair.settle();
    pair.server.accept_subscribe(request, SubscribeOk::default());
    assert!(!pair.server.goaway_request(request, away("", Some(TIME))));
    pair.run_for(3 * TIME);
    assert!(pair.server.open_subgroup(request, &SubgroupHeader::default()).is_some());
}

#[test]
fn a_request_is_sent_away_once_and_by_a_server_only_elsewhere() {
    for (role, uri, times) in [(Role::Client, "moqt://b", 2), (Role::Server, "moqt://b", 1)] {
        let mut lone = Lone::new(role);
        lone.session.subscribe(subscribe("audio"));
        let stream = lone.opened();
        lone.say(stream, &subscribe_ok(1));
        for n in 0..times {
            assert_eq!(lone.closed(), None, "{n}");
            lone.say(stream, &Message::GoAway { goaway: away(uri, None), request: None });
        }
        assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
    }
}
