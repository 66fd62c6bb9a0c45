//! Requests from asking to their end, both ways.

use std::time::Duration;

use bytes::Bytes;

use super::control::code;
use super::lone::{Lone, none};
use super::pair::{self, Conditions, Pair};
use super::smoke::{subscribe, subscribed, track};
use crate::moqt::error::{CloseCode, ResetCode};
use crate::moqt::message::{
    Fetch, Filter, GoAway, Location, Message, Parameters, PublishDone, PublishOk, Redirect, RequestError, RequestOk,
    SubscribeOk, Token, TrackProperties, Update, UpdateOk,
};
use crate::moqt::properties::Writer;
use crate::moqt::session::{Dir, Event, RequestId, Role, StreamId, Transmit, constants};
use crate::moqt::{Draft, RequestErrorCode, SubgroupHeader, TrackNamespace};

fn namespace(fields: &[&'static str]) -> TrackNamespace {
    TrackNamespace::new(fields.iter().copied()).unwrap()
}

pub(super) fn subscribe_message(id: u64) -> Message {
    Message::Subscribe { id, track: track("audio"), parameters: none() }
}

pub(super) fn subscribe_ok(alias: u64) -> Message {
    Message::SubscribeOk { alias, parameters: none(), properties: TrackProperties::default() }
}

fn refused() -> RequestError {
    RequestError { code: 0x10, retry_after: Some(Duration::from_secs(1)), reason: "no".into() }
}

/// A SUBSCRIBE of ours with the stream it travels on.
pub(super) fn asked(lone: &mut Lone) -> (RequestId, StreamId) {
    let request = lone.session.subscribe(subscribe("audio"));
    (request, lone.opened())
}

#[test]
fn every_word_of_a_subscribe_arrives() {
    let mut pair = Pair::new(Conditions::rough(3));
    let mut asked = subscribe("audio");
    asked.filter = Some(Filter::AbsoluteRange { start: Location { group: 3, object: 1 }, end_group: 9 });
    asked.priority = 7;
    asked.rendezvous_timeout = Some(Duration::from_secs(5));
    asked.object_delivery_timeout = Some(Duration::from_millis(300));
    asked.tokens = vec![Token { kind: 0, value: Bytes::from_static(b"jwt") }];
    let request = pair.client.subscribe(asked.clone());
    pair.settle();
    assert_eq!(pair.server_events.back(), Some(&Event::Subscribe { request, subscribe: asked }));
    let properties = TrackProperties(crate::moqt::properties::timescale(1_000_000));
    let largest = Some(Location { group: 100, object: 3 });
    let ok = SubscribeOk { expires: Some(Duration::from_secs(60)), largest, group_order: None, properties };
    pair.server.accept_subscribe(request, ok.clone());
    pair.settle();
    assert_eq!(pair.client_events.back(), Some(&Event::SubscribeOk { request, ok }));
}

#[test]
fn a_refusal_arrives_and_leaves_nothing() {
    for seed in 0..10 {
        let mut pair = Pair::new(Conditions::rough(seed));
        let requests = [
            pair.client.subscribe(subscribe("audio")),
            pair.client.publish(track("audio"), TrackProperties::default(), Vec::new()),
            pair.client.publish_namespace(namespace(&["voice"]), Vec::new()),
            pair.client.subscribe_namespace(namespace(&["voice"]), Vec::new()),
        ];
        pair.settle();
        for request in requests {
            pair.server.reject(request, refused());
            pair.server.reject(request, refused());
        }
        pair.settle();
        for request in requests {
            assert!(pair.client_events.contains(&Event::RequestError { request, error: refused() }));
        }
        assert_eq!((pair.client_events.len(), pair.closed.clone()), (5, None));
        assert!(pair.client.is_idle() && pair.server.is_idle());
    }
}

#[test]
fn cancelled_requests_are_told_and_leave_nothing() {
    for seed in 0..20 {
        let mut pair = Pair::new(Conditions::rough(seed));
        let requests = [
            pair.client.subscribe(subscribe("audio")),
            pair.client.publish(track("audio"), TrackProperties::default(), Vec::new()),
            pair.client.publish_namespace(namespace(&["voice"]), Vec::new()),
            pair.client.subscribe_namespace(namespace(&["voice"]), Vec::new()),
        ];
        pair.settle();
        pair.server.accept_subscribe(requests[0], SubscribeOk::default());
        pair.server
            .accept_publish(requests[1], PublishOk { forward: true, priority: 128, filter: None, expires: None });
        pair.server.accept(requests[2]);
        pair.server.accept(requests[3]);
        pair.settle();
        requests.iter().for_each(|request| pair.client.cancel(*request));
        requests.iter().for_each(|request| pair.client.cancel(*request));
        pair.settle();
        for request in requests {
            let cancelled = pair.server_events.iter().filter(|event| match event {
                Event::Cancelled { request: cancelled } => *cancelled == request,
                // In draft 16 a publisher takes its PUBLISH back by PUBLISH_DONE only.
                Event::PublishDone { request: done, .. } => *done == request && pair.server.draft() == Draft::D16,
                _ => false,
            });
            assert_eq!(cancelled.count(), 1, "{request:?}");
        }
        pair.run_for(2 * constants::LATE_STREAMS);
        assert_eq!(pair.closed, None);
        assert!(pair.client.is_idle() && pair.server.is_idle());
    }
}

#[test]
fn a_request_that_the_peer_drops_is_over() {
    for accepted in [false, true] {
        let mut lone = Lone::new(Role::Client);
        let (subscription, stream) = asked(&mut lone);
        if accepted {
            lone.say(stream, &subscribe_ok(1));
        }
        lone.session.handle_reset(stream, 0, lone.now);
        lone.drain();
        let last = lone.events.last().unwrap();
        match accepted {
            false => assert!(matches!(last, Event::RequestError { request, error }
                if *request == subscription && error.code == 0 && error.reason.is_empty())),
            true => assert!(matches!(last, Event::PublishDone { request, done }
                if *request == subscription && done.code == 0 && done.reason.is_empty())),
        }
        assert!(lone.was_sent(&Transmit::Reset { stream, code: ResetCode::Cancelled as u64 }));
    }
}

#[test]
fn a_fin_in_place_of_an_answer_is_a_refusal() {
    let mut lone = Lone::new(Role::Client);
    let request = lone.session.publish_namespace(namespace(&["voice"]), Vec::new());
    let stream = lone.opened();
    lone.data(stream, Bytes::new(), true);
    assert!(matches!(lone.events[..], [Event::RequestError { request: over, .. }] if over == request));
    assert!(lone.was_sent(&Transmit::Finish { stream }));
    assert!(lone.session.is_idle());
}

#[test]
fn a_listing_that_ends_takes_its_namespaces_with_it() {
    let mut lone = Lone::new(Role::Client);
    let request = lone.session.subscribe_namespace(namespace(&["voice"]), Vec::new());
    let stream = lone.opened();
    lone.say(stream, &Message::RequestOk(RequestOk::default()));
    lone.say(stream, &Message::Namespace(namespace(&["CA1"])));
    lone.session.handle_reset(stream, 0, lone.now);
    lone.drain();
    let suffix = namespace(&["CA1"]);
    assert_eq!(lone.events[1], Event::Namespace { request, suffix: suffix.clone() });
    assert_eq!(lone.events[2], Event::NamespaceDone { request, suffix });
    assert!(matches!(lone.events[3], Event::RequestError { .. }));
}

#[test]
fn namespaces_come_and_go() {
    let mut pair = Pair::new(Conditions::rough(4));
    let request = pair.client.subscribe_namespace(namespace(&["voice"]), Vec::new());
    pair.settle();
    pair.server.namespace(request, &namespace(&["too early"]));
    pair.server.accept(request);
    let suffix = namespace(&["CA1", "uplink"]);
    pair.server.namespace(request, &suffix);
    pair.server.namespace_done(request, &suffix);
    pair.settle();
    let expected = [
        Event::RequestOk { request },
        Event::Namespace { request, suffix: suffix.clone() },
        Event::NamespaceDone { request, suffix },
    ];
    assert_eq!(pair.client_events.make_contiguous()[1..], expected);
}

#[test]
fn what_is_not_served_is_not_supported() {
    let fetch = Fetch::RelativeJoining { request: 0, groups: 1 };
    for message in [
        Message::Fetch { id: 1, fetch, parameters: none() },
        Message::TrackStatus { id: 1, track: track("audio"), parameters: none() },
        Message::SubscribeTracks { id: 1, prefix: namespace(&["voice"]), parameters: none() },
    ] {
        let mut lone = Lone::new(Role::Client);
        let stream = lone.request(&message);
        assert_eq!(lone.refusal(stream), Some(RequestErrorCode::NotSupported as u64));
        lone.data(stream, Bytes::new(), true);
        assert_eq!((lone.events.len(), lone.closed()), (0, None));
        assert!(lone.session.is_idle());
    }
}

#[test]
fn an_update_is_answered_and_told() {
    let mut lone = Lone::new(Role::Server);
    let stream = lone.request(&subscribe_message(0));
    let request = RequestId(0);
    lone.session.accept_subscribe(request, SubscribeOk::default());
    let subgroup = lone.session.open_subgroup(request, &SubgroupHeader::default()).unwrap();
    lone.drain();
    lone.sent.clear();
    let parameters = Parameters { forward: Some(false), filter: Some(Filter::LargestObject), ..none() };
    lone.say(stream, &Message::RequestUpdate { id: 2, parameters });
    let filter = Some(Filter::LargestObject);
    let update = Update { forward: Some(false), filter, ..Update::default() };
    assert_eq!(lone.events.last(), Some(&Event::Update { request, update: Box::new(update) }));
    // Nothing changes before it is accepted.
    assert!(lone.said(stream).is_empty() && lone.sent.is_empty());
    let (largest, expires) = (Some(Location { group: 4, object: 1 }), Some(Duration::from_secs(60)));
    lone.session.accept_update(request, UpdateOk { largest, expires });
    let parameters = Parameters { largest, expires, ..none() };
    assert_eq!(lone.said(stream), [Message::RequestOk(RequestOk { parameters, ..RequestOk::default() })]);
    assert_eq!(lone.events.last(), Some(&Event::Updated { request, forward: false, filter }));
    // Objects are left out from here on: the stream can't end by FIN.
    assert!(lone.was_sent(&Transmit::Reset { stream: StreamId(subgroup.0), code: ResetCode::Cancelled as u64 }));
    assert_eq!(lone.session.open_subgroup(request, &SubgroupHeader::default()), None);
    lone.say(stream, &Message::RequestUpdate { id: 4, parameters: Parameters { forward: Some(true), ..none() } });
    lone.session.accept_update(request, UpdateOk::default());
    lone.drain();
    assert_eq!(lone.events.last(), Some(&Event::Updated { request, forward: true, filter: None }));
    assert!(lone.session.open_subgroup(request, &SubgroupHeader::default()).is_some());
    lone.say(stream, &Message::RequestUpdate { id: 4, parameters: none() });
    assert_eq!(lone.closed(), code(CloseCode::InvalidRequestId));
}

#[test]
fn an_update_before_the_answer_is_answered_behind_it() {
    let mut lone = Lone::new(Role::Server);
    let stream = lone.request(&subscribe_message(0));
    let request = RequestId(0);
    let tokens = vec![Token { kind: 0, value: "fresh".into() }];
    let parameters = Parameters { forward: Some(false), tokens: tokens.clone(), ..none() };
    lone.say(stream, &Message::RequestUpdate { id: 2, parameters });
    let told = matches!(lone.events.last(), Some(Event::Update { update, .. }) if update.tokens == tokens);
    assert!(told, "{:?}", lone.events);
    lone.session.accept_update(request, UpdateOk::default());
    assert!(lone.said(stream).is_empty());
    let largest = Some(Location { group: 7, object: 0 });
    lone.session.accept_subscribe(request, SubscribeOk { largest, ..SubscribeOk::default() });
    let said = lone.said(stream);
    let [Message::SubscribeOk { .. }, Message::RequestOk(ok)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(ok.parameters.largest, largest);
    assert_eq!(lone.events.last(), Some(&Event::Updated { request, forward: false, filter: None }));
}

#[test]
fn a_new_prefix_is_judged_and_what_is_told_behind_it_is_told_anew() {
    let mut lone = Lone::new(Role::Server);
    let prefix = namespace(&["voice"]);
    let stream = lone.request(&Message::SubscribeNamespace { id: 0, prefix: prefix.clone(), parameters: none() });
    lone.session.accept(RequestId(0));
    let request = RequestId(0);
    let suffix = namespace(&["a"]);
    lone.session.namespace(request, &suffix);
    lone.session.namespace(request, &suffix);
    lone.session.namespace_done(request, &namespace(&["b"]));
    let parameters = Parameters { namespace_prefix: Some(namespace(&["other"])), ..none() };
    lone.say(stream, &Message::RequestUpdate { id: 2, parameters: parameters.clone() });
    lone.session.accept_update(request, UpdateOk::default());
    lone.session.namespace_done(request, &suffix);
    lone.session.namespace(request, &suffix);
    let (ok, told) = (Message::RequestOk(RequestOk::default()), Message::Namespace(suffix));
    assert_eq!(lone.said(stream), [ok.clone(), told.clone(), ok, told]);
    lone.say(stream, &Message::RequestUpdate { id: 4, parameters });
    lone.session.reject_update(request, refused());
    assert_eq!(lone.said(stream).last(), Some(&Message::RequestError(refused())));
    assert!(lone.was_sent(&Transmit::Finish { stream }));
    lone.data(stream, Bytes::new(), true);
    assert!(lone.session.is_idle());
}

#[test]
fn messages_out_of_place_close() {
    let done = PublishDone { code: 2, streams: 0, reason: String::new() };
    let update = Message::RequestUpdate { id: 1, parameters: none() };
    let of_namespace = Message::Namespace(TrackNamespace::default());
    for messages in [
        vec![subscribe_ok(1), subscribe_ok(1)],
        vec![subscribe_ok(1), Message::RequestError(refused())],
        vec![Message::RequestOk(RequestOk::default())],
        vec![Message::PublishDone(done.clone())],
        vec![subscribe_ok(1), Message::PublishDone(done.clone()), Message::PublishDone(done)],
        vec![update],
        vec![of_namespace],
        vec![subscribe_message(1)],
    ] {
        let mut lone = Lone::new(Role::Client);
        let (_, stream) = asked(&mut lone);
        messages.iter().for_each(|message| lone.say(stream, message));
        assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation), "{messages:?}");
    }
}

#[test]
fn namespace_done_needs_its_namespace() {
    let mut lone = Lone::new(Role::Client);
    lone.session.subscribe_namespace(namespace(&["voice"]), Vec::new());
    let stream = lone.opened();
    lone.say(stream, &Message::RequestOk(RequestOk::default()));
    lone.say(stream, &Message::NamespaceDone(namespace(&["CA1"])));
    assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation));
}

#[test]
fn a_parameter_that_the_answer_may_not_carry_closes() {
    let mut lone = Lone::new(Role::Client);
    lone.session.publish_namespace(namespace(&["voice"]), Vec::new());
    let stream = lone.opened();
    let parameters = Parameters { forward: Some(true), ..none() };
    lone.say(stream, &Message::RequestOk(RequestOk { parameters, properties: TrackProperties::default() }));
    assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation));
}

#[test]
fn a_redirect_is_a_refusal_and_no_client_may_name_a_place() {
    for role in [Role::Client, Role::Server] {
        let mut lone = Lone::new(role);
        let (request, stream) = asked(&mut lone);
        let error = RequestError { code: RequestErrorCode::Redirect as u64, ..refused() };
        let redirect = Redirect { uri: "moqt://x".into(), track: track("audio") };
        lone.say(stream, &Message::Redirected { error: error.clone(), redirect });
        match role {
            Role::Client => assert_eq!(lone.events, [Event::RequestError { request, error }]),
            Role::Server => assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation)),
        }
    }
}

#[test]
fn a_goaway_on_a_request_comes_once() {
    let mut lone = Lone::new(Role::Client);
    let (_, stream) = asked(&mut lone);
    let goaway = Message::GoAway { goaway: GoAway { uri: "moqt://x".into(), timeout: None }, request: None };
    lone.say(stream, &goaway);
    lone.say(stream, &subscribe_ok(3));
    assert_eq!(lone.closed(), None);
    lone.say(stream, &goaway);
    assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation));
}

#[test]
fn tracks_with_unknown_mandatory_properties_are_not_processed() {
    let properties = TrackProperties(Writer::default().number(0x4000, 1).finish());
    let mut lone = Lone::new(Role::Client);
    let (request, stream) = asked(&mut lone);
    lone.say(stream, &Message::SubscribeOk { alias: 1, parameters: none(), properties: properties.clone() });
    let code = RequestErrorCode::UnsupportedExtension as u64;
    assert!(matches!(&lone.events[..], [Event::RequestError { request: over, error }]
        if *over == request && error.code == code));
    assert!(lone.was_sent(&Transmit::Stop { stream, code: ResetCode::Cancelled as u64 }));
    let publish = Message::Publish { id: 1, track: track("a"), alias: 2, parameters: none(), properties };
    let stream = lone.request(&publish);
    assert_eq!(lone.refusal(stream), Some(code));
}

#[test]
fn a_request_that_can_not_be_said_is_refused_here() {
    let mut lone = Lone::new(Role::Client);
    let mut long = subscribe("audio");
    long.tokens = vec![Token { kind: 0, value: vec![b'x'; 70_000].into() }];
    let request = lone.session.subscribe(long);
    lone.drain();
    assert!(matches!(lone.events[..], [Event::RequestError { request: over, .. }] if over == request));
    assert!(lone.sent.iter().all(|transmit| !matches!(transmit, Transmit::Open { dir: Dir::Bi, .. })));
    assert_eq!(lone.session.subscribe(subscribe("audio")), RequestId(0));
}

#[test]
fn an_answer_that_can_not_be_said_is_a_refusal() {
    let mut lone = Lone::new(Role::Server);
    let stream = lone.request(&subscribe_message(0));
    let properties = (0..2).fold(Writer::default(), |writer, _| writer.bytes(0x77, &[0; 40_000])).finish();
    let ok = SubscribeOk { properties: TrackProperties(properties), ..SubscribeOk::default() };
    lone.session.accept_subscribe(RequestId(0), ok);
    assert_eq!(lone.refusal(stream), Some(RequestErrorCode::InternalError as u64));
}

#[test]
fn publish_is_answered_updated_and_unsubscribed() {
    let mut pair = Pair::new(Conditions::rough(2));
    let request = pair.client.publish(track("audio"), TrackProperties::default(), Vec::new());
    assert_eq!(pair.client.open_subgroup(request, &SubgroupHeader::default()), None);
    pair.settle();
    pair.server.accept_publish(request, PublishOk { forward: false, priority: 3, filter: None, expires: None });
    pair.settle();
    let expected = [Event::RequestOk { request }, Event::Updated { request, forward: false, filter: None }];
    assert_eq!(pair.client_events.make_contiguous()[1..], expected);
    // The subscriber of a PUBLISH leaves by cancelling it.
    pair.server.cancel(request);
    pair.settle();
    assert_eq!(pair.client_events.back(), Some(&Event::Cancelled { request }));
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn a_subscriber_that_only_stops_has_left() {
    let mut lone = Lone::new(Role::Server);
    let stream = lone.request(&subscribe_message(0));
    lone.session.accept_subscribe(RequestId(0), SubscribeOk::default());
    let subgroup = lone.session.open_subgroup(RequestId(0), &SubgroupHeader::default()).unwrap();
    lone.session.handle_stopped(stream, 9, lone.now);
    assert!(lone.was_sent(&Transmit::Reset { stream, code: 9 }));
    assert!(lone.was_sent(&Transmit::Reset { stream: StreamId(subgroup.0), code: ResetCode::Cancelled as u64 }));
    lone.session.handle_reset(stream, 9, lone.now);
    lone.drain();
    assert_eq!(lone.events.iter().filter(|event| matches!(event, Event::Cancelled { .. })).count(), 1);
    assert!(lone.session.is_idle());
}

#[test]
fn a_stop_may_overtake_the_refusal_it_belongs_to() {
    let mut lone = Lone::new(Role::Client);
    let (request, stream) = asked(&mut lone);
    lone.session.handle_stopped(stream, 1, lone.now);
    lone.say(stream, &Message::RequestError(refused()));
    lone.data(stream, Bytes::new(), true);
    assert_eq!(lone.events, [Event::RequestError { request, error: refused() }]);
    // A half that was reset is not finished as well.
    assert!(lone.was_sent(&Transmit::Reset { stream, code: 1 }) && !lone.was_sent(&Transmit::Finish { stream }));
    assert!(lone.session.is_idle());
}

#[test]
fn sessions_of_the_pair_are_idle_after_setup() {
    let mut pair = Pair::with(
        Conditions::default(),
        pair::config(Role::Client),
        pair::config(Role::Server),
        std::time::Instant::now(),
    );
    pair.settle();
    assert!(pair.client.is_idle() && pair.server.is_idle());
    subscribed(&mut pair, "audio");
    assert!(!pair.client.is_idle() && !pair.server.is_idle());
}

#[test]
fn a_peer_that_takes_no_answers_is_dropped() {
    // An answer has 4 bytes.
    for (written, most) in [(false, constants::REQUEST_BACKLOG as u64 / 4), (true, 10_000)] {
        let mut lone = Lone::new(Role::Server);
        let stream = lone.request(&subscribe_message(0));
        lone.session.accept_subscribe(RequestId(0), SubscribeOk::default());
        let mut updates = 0_u64;
        while updates < most + 1 && lone.session.counters().stopped == 0 {
            updates += 1;
            let update = Message::RequestUpdate { id: 2 * updates, parameters: none() };
            lone.session.handle_data(stream, super::lone::bytes(&update), false, lone.now);
            lone.session.accept_update(RequestId(0), UpdateOk::default());
            while let Some(transmit) = lone.session.poll_transmit() {
                if let Transmit::Data { stream, data } = transmit
                    && written
                {
                    lone.session.handle_written(stream, data.len());
                }
            }
            lone.events.clear();
        }
        assert_eq!(lone.session.counters().stopped == 0, written, "{updates}");
        assert_eq!(lone.session.is_idle(), !written);
    }
}
