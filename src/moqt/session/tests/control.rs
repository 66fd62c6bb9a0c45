//! SETUP, GOAWAY, Request IDs, timers, and what closes a session.

use std::time::Duration;

use bytes::Bytes;

use super::lone::{Lone, bytes, none};
use super::pair::{self, Conditions, Pair};
use super::smoke::track;
use crate::moqt::error::CloseCode;
use crate::moqt::message::{GoAway, Message, Setup};
use crate::moqt::session::{Config, Dir, Event, Role, StreamId, Transmit, constants, priority};
use crate::moqt::{RequestErrorCode, TrackNamespace};

pub(super) fn code(code: CloseCode) -> Option<u64> {
    Some(code as u64)
}

fn goaway(uri: &str, request: Option<u64>) -> Message {
    Message::GoAway { goaway: GoAway { uri: uri.into(), timeout: None }, request }
}

fn announce(id: u64) -> Message {
    Message::PublishNamespace { id, namespace: TrackNamespace::new(["voice"]).unwrap(), parameters: none() }
}

#[test]
fn both_sides_hear_the_others_setup() {
    let setup = Setup { implementation: Some("x/1".into()), ..Setup::default() };
    let client = Config { setup: setup.clone(), ..pair::config(Role::Client) };
    let now = std::time::Instant::now();
    let mut pair = Pair::with(Conditions::rough(1), client, pair::config(Role::Server), now);
    pair.settle();
    assert_eq!(pair.server_events, [Event::Setup(setup)]);
    assert_eq!(pair.client_events, [Event::Setup(Setup::default())]);
    assert_eq!((pair.client.poll_timeout(), pair.server.poll_timeout()), (None, None));
}

#[test]
fn the_control_stream_comes_first_and_before_requests_before_data() {
    let mut session = crate::moqt::Session::new(pair::config(Role::Client), std::time::Instant::now());
    let first = session.poll_transmit();
    assert_eq!(first, Some(Transmit::Open { stream: StreamId(0), dir: Dir::Uni, priority: priority::CONTROL }));
    session.publish_namespace(TrackNamespace::default(), Vec::new());
    let opens = std::iter::from_fn(|| session.poll_transmit()).find_map(|transmit| match transmit {
        Transmit::Open { priority, .. } => Some(priority),
        _ => None,
    });
    assert_eq!(opens, Some(priority::REQUEST));
    assert!(priority::CONTROL > priority::REQUEST && priority::REQUEST > priority::data(0, 0));
    assert!(priority::data(0, 255) > priority::data(1, 0) && priority::data(128, 64) > priority::data(128, 65));
}

#[test]
fn no_setup_in_time_closes() {
    let mut lone = Lone::early(pair::config(Role::Server));
    let until = lone.session.poll_timeout().unwrap();
    lone.pass(until - lone.now - Duration::from_millis(1));
    assert_eq!(lone.closed(), None);
    lone.pass(Duration::from_millis(1));
    assert_eq!(lone.closed(), code(CloseCode::ControlMessageTimeout));
    assert_eq!(lone.session.poll_timeout(), None);
}

#[test]
fn what_does_not_belong_on_a_control_stream_closes() {
    let violations = |say: &dyn Fn(&mut Lone)| {
        let mut lone = Lone::new(Role::Server);
        say(&mut lone);
        lone.closed()
    };
    let protocol = code(CloseCode::ProtocolViolation);
    assert_eq!(violations(&|lone| lone.set_up()), protocol);
    assert_eq!(violations(&|lone| lone.say(lone.control, &announce(0))), protocol);
    assert_eq!(violations(&|lone| lone.data(lone.control, Bytes::new(), true)), protocol);
    assert_eq!(violations(&|lone| lone.session.handle_reset(lone.control, 0, lone.now)), protocol);
    assert_eq!(violations(&|lone| lone.session.handle_stopped(StreamId(0), 0, lone.now)), protocol);
    let second = bytes(&Message::Setup(Setup::default()));
    assert_eq!(violations(&|lone| _ = lone.uni(second.clone(), false)), protocol);
    assert_eq!(violations(&|lone| lone.data(lone.control, Bytes::from_static(&[0x40, 0, 0]), false)), protocol);
}

#[test]
fn a_server_names_no_path_or_authority() {
    let path = Setup { path: Some("/".into()), ..Setup::default() };
    let authority = Setup { authority: Some("x".into()), ..Setup::default() };
    for (setup, expected) in [(path, CloseCode::InvalidPath), (authority, CloseCode::InvalidAuthority)] {
        let mut client = Lone::early(pair::config(Role::Client));
        client.say(client.control, &Message::Setup(setup.clone()));
        assert_eq!(client.closed(), code(expected));
        let mut server = Lone::early(pair::config(Role::Server));
        server.say(server.control, &Message::Setup(setup.clone()));
        assert_eq!(server.events, [Event::Setup(setup)]);
    }
}

#[test]
fn request_ids_have_the_senders_parity_and_are_used_once() {
    for (role, ids, expected) in [
        (Role::Server, vec![0, 2, 4], None),
        (Role::Server, vec![4, 0, 2], None),
        (Role::Server, vec![1], code(CloseCode::InvalidRequestId)),
        (Role::Server, vec![0, 0], code(CloseCode::InvalidRequestId)),
        (Role::Client, vec![1, 3], None),
        (Role::Client, vec![0], code(CloseCode::InvalidRequestId)),
    ] {
        let mut lone = Lone::new(role);
        for id in ids {
            lone.request(&announce(id));
        }
        assert_eq!(lone.closed(), expected);
    }
}

#[test]
fn our_request_ids_grow_by_two() {
    for (role, first) in [(Role::Client, 0), (Role::Server, 1)] {
        let mut lone = Lone::new(role);
        let mut next = || lone.session.publish_namespace(TrackNamespace::default(), Vec::new()).0;
        assert_eq!([next(), next(), next()], [first, first + 2, first + 4]);
    }
}

#[test]
fn an_unknown_parameter_closes() {
    let mut lone = Lone::new(Role::Server);
    let stream = lone.session.accept_stream(Dir::Bi);
    // PUBLISH_NAMESPACE, id 0, namespace (a), one parameter of type 0x7e.
    lone.data(stream, Bytes::from_static(&[0x06, 0, 7, 0, 1, 1, b'a', 1, 0x7e, 0]), false);
    assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation));
}

#[test]
fn a_request_stream_begins_with_a_request() {
    let first = [
        Message::RequestOk(Default::default()),
        Message::NamespaceDone(TrackNamespace::default()),
        Message::Setup(Setup::default()),
        goaway("", None),
        Message::RequestUpdate { id: 0, parameters: none() },
    ];
    for message in first {
        let mut lone = Lone::new(Role::Server);
        lone.request(&message);
        assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation), "{message:?}");
    }
}

#[test]
fn goaway_is_told_once() {
    let mut lone = Lone::new(Role::Client);
    lone.say(lone.control, &goaway("moqt://other.example", Some(0)));
    let expected = GoAway { uri: "moqt://other.example".into(), timeout: None };
    assert_eq!(lone.events, [Event::GoAway(expected)]);
    lone.say(lone.control, &goaway("", Some(0)));
    assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation));
}

#[test]
fn a_wrong_goaway_closes() {
    for (role, message, expected) in [
        (Role::Server, goaway("moqt://x", Some(1)), CloseCode::ProtocolViolation),
        (Role::Server, goaway("", Some(0)), CloseCode::InvalidRequestId),
        (Role::Client, goaway("", Some(1)), CloseCode::InvalidRequestId),
        (Role::Client, goaway("", None), CloseCode::ProtocolViolation),
    ] {
        let mut lone = Lone::new(role);
        lone.say(lone.control, &message);
        assert_eq!(lone.closed(), code(expected), "{message:?}");
    }
}

#[test]
fn after_our_goaway_new_requests_are_refused() {
    let mut pair = Pair::new(Conditions::default());
    pair.client.publish_namespace(TrackNamespace::default(), Vec::new());
    pair.settle();
    pair.server.goaway(GoAway { uri: "moqt://b".into(), timeout: Some(Duration::from_secs(9)) });
    pair.server.goaway(GoAway { uri: "moqt://c".into(), timeout: None });
    pair.settle();
    let heard = |event: &Event| matches!(event, Event::GoAway(goaway) if goaway.uri == "moqt://b").then_some(());
    assert_eq!(pair.find(Role::Client, heard), Some(()));
    let request = pair.client.publish_namespace(TrackNamespace::default(), Vec::new());
    pair.settle();
    let refused = |event: &Event| match event {
        Event::RequestError { request, error } => Some((*request, error.code)),
        _ => None,
    };
    assert_eq!(pair.find(Role::Client, refused), Some((request, RequestErrorCode::GoingAway as u64)));
}

#[test]
fn goaway_timeout_closes_only_while_requests_are_open() {
    for open in [true, false] {
        let mut lone = Lone::new(Role::Server);
        let stream = lone.request(&announce(0));
        lone.session.goaway(GoAway { uri: String::new(), timeout: Some(Duration::from_secs(3)) });
        // The time is counted from the next call of the link, which is asked for at once.
        assert_eq!(lone.session.poll_timeout(), Some(lone.now));
        lone.pass(Duration::from_millis(1));
        assert_eq!(lone.said(StreamId(0)), [goaway_with(Duration::from_secs(3), 2)]);
        if !open {
            lone.data(stream, Bytes::new(), true);
        }
        lone.pass(Duration::from_secs(3));
        assert_eq!(lone.closed(), code(CloseCode::GoAwayTimeout).filter(|_| open));
    }
}

fn goaway_with(timeout: Duration, request: u64) -> Message {
    Message::GoAway { goaway: GoAway { uri: String::new(), timeout: Some(timeout) }, request: Some(request) }
}

#[test]
fn a_client_sends_nobody_elsewhere() {
    let mut lone = Lone::new(Role::Client);
    lone.session.goaway(GoAway { uri: "moqt://x".into(), timeout: None });
    assert_eq!(lone.said(StreamId(0)), [goaway("", Some(1))]);
}

#[test]
fn nothing_follows_a_close() {
    let mut lone = Lone::new(Role::Server);
    let request = lone.request(&announce(0));
    lone.session.close(0, "bye");
    assert_eq!(lone.closed(), Some(0));
    let (sent, events) = (lone.sent.len(), lone.events.len());
    lone.data(request, Bytes::new(), true);
    lone.request(&announce(2));
    lone.session.close(1, "again");
    lone.session.goaway(GoAway { uri: String::new(), timeout: None });
    let late = lone.session.subscribe(super::smoke::subscribe("audio"));
    lone.session.cancel(late);
    lone.session.handle_datagram(Bytes::from_static(&[0xff]), lone.now);
    lone.pass(Duration::from_secs(60));
    assert_eq!((lone.sent.len(), lone.events.len()), (sent, events));
}

#[test]
fn open_requests_of_a_peer_are_bounded() {
    let mut config = pair::config(Role::Server);
    config.limits.requests = 3;
    let mut lone = Lone::early(config);
    lone.set_up();
    let streams: Vec<StreamId> = (0..4).map(|i| lone.request(&announce(2 * i))).collect();
    assert_eq!(lone.refusal(streams[3]), Some(RequestErrorCode::ExcessiveLoad as u64));
    assert_eq!(lone.session.counters().refused, 1);
    // One less: there is room again.
    lone.data(streams[0], Bytes::new(), true);
    let stream = lone.request(&announce(8));
    assert_eq!(lone.refusal(stream), None);
    assert_eq!(lone.events.len(), 1 + 3 + 1 + 1);
}

#[test]
fn early_requests_are_held_for_setup_in_their_order() {
    let mut lone = Lone::early(pair::config(Role::Server));
    for id in [0, 2, 4] {
        lone.request(&announce(id));
    }
    assert!(lone.events.is_empty() && lone.sent.is_empty());
    lone.set_up();
    let ids: Vec<u64> = lone
        .events
        .iter()
        .filter_map(|event| match event {
            Event::PublishNamespace { request, .. } => Some(request.0),
            _ => None,
        })
        .collect();
    assert!(matches!(lone.events[0], Event::Setup(_)));
    assert_eq!(ids, [0, 2, 4]);
}

#[test]
fn early_requests_are_held_within_a_bound() {
    let mut lone = Lone::early(pair::config(Role::Server));
    let name = vec![b'n'; 4000];
    let namespace = TrackNamespace::new([name]).unwrap();
    for id in 0..200 {
        lone.request(&Message::PublishNamespace { id: 2 * id, namespace: namespace.clone(), parameters: none() });
    }
    let refused = lone.session.counters().refused as usize;
    lone.set_up();
    let asked = lone.events.iter().filter(|event| matches!(event, Event::PublishNamespace { .. })).count();
    assert_eq!(asked + refused, 200);
    assert!(asked * 4000 <= constants::EARLY_BYTES && asked > 60, "{asked}");
}

#[test]
fn an_early_answer_waits_for_setup_too() {
    let mut lone = Lone::early(pair::config(Role::Client));
    let request = lone.session.subscribe(super::smoke::subscribe("audio"));
    let stream = lone.opened();
    let ok = Message::SubscribeOk { alias: 5, parameters: none(), properties: Default::default() };
    lone.say(stream, &ok);
    assert!(lone.events.is_empty());
    lone.set_up();
    assert!(matches!(lone.events[..], [Event::Setup(_), Event::SubscribeOk { request: ok, .. }] if ok == request));
    assert_eq!(track("audio"), super::smoke::subscribe("audio").track);
}
