//! FETCH, TRACK_STATUS and SUBSCRIBE_TRACKS, asked and answered.

use bytes::{Bytes, BytesMut};

use super::lone::Lone;
use super::pair::{Conditions, Pair};
use super::requests::subscribe_message;
use super::smoke::{object, subscribed, track};
use crate::moqt::fetched::{Fetched, Gap, Item, encode_header};
use crate::moqt::message::{
    Fetch, FetchOk, FetchRequest, GroupOrder, Location, Message, Parameters, Publish, PublishBlocked, RequestError,
    SubscribeOk, TrackProperties,
};
use crate::moqt::session::{Dir, Event, RequestId, Role, StreamId, SubgroupId, Transmit};
use crate::moqt::{CloseCode, Object, RequestErrorCode, ResetCode, TrackNamespace};

const END: Location = Location { group: 9, object: 0 };

fn ask() -> FetchRequest {
    let start = Location { group: 5, object: 0 };
    FetchRequest::new(Fetch::Standalone { track: track("audio"), start, end: END })
}

fn ok() -> FetchOk {
    FetchOk { end_of_track: false, end: END, parameters: Parameters::default(), properties: TrackProperties::default() }
}

/// The client fetches and the server has let it.
fn accepted(pair: &mut Pair, ask: FetchRequest) -> (RequestId, SubgroupId) {
    let request = pair.client.fetch(ask);
    pair.settle();
    let fetch = |event: &Event| match event {
        Event::Fetch { request, fetch } => Some((*request, fetch.clone())),
        _ => None,
    };
    let (asked, fetch) = pair.find(Role::Server, fetch).expect("the server was asked");
    assert_eq!(asked, request);
    (request, pair.server.accept_fetch(request, &fetch, ok()).expect("it is open"))
}

fn fetched(pair: &mut Pair) -> Vec<Object> {
    let objects = pair.client_events.iter().filter_map(|event| match event {
        Event::Fetched { item: Item::Object(object), .. } => Some(object.clone()),
        _ => None,
    });
    objects.collect()
}

fn some_objects() -> Vec<Object> {
    let with = |object: Object, subgroup, priority| Object { subgroup, priority: Some(priority), ..object };
    vec![
        with(object(5, 0, "a"), 0, 128),
        with(object(5, 1, ""), 0, 128),
        with(object(5, 7, "c"), 3, 128),
        with(Object { properties: Bytes::from_static(&[0x10, 1]), ..object(6, 2, "d") }, 3, 7),
        with(object(6, 3, "e"), 4, 7),
        with(object(8, 0, "f"), 0, 7),
    ]
}

#[test]
fn a_range_is_fetched_over_any_path() {
    for (seed, order) in (0..40).zip([GroupOrder::Ascending, GroupOrder::Descending].into_iter().cycle()) {
        let mut pair = Pair::new(Conditions::rough(seed));
        let (request, stream) = accepted(&mut pair, FetchRequest { group_order: order, ..ask() });
        let mut objects = some_objects();
        if order == GroupOrder::Descending {
            objects.sort_by_key(|object| (std::cmp::Reverse(object.group), object.id));
        }
        for object in &objects {
            pair.server.send_object(stream, object);
        }
        pair.server.finish_subgroup(stream);
        pair.settle();
        assert_eq!(fetched(&mut pair), objects, "seed {seed}");
        let ok_at =
            pair.client_events.iter().position(|event| *event == Event::FetchOk { request, ok: Box::new(ok()) });
        let end_at = pair.client_events.iter().position(|event| *event == Event::FetchEnd { request, reset: None });
        assert!(ok_at.is_some() && end_at.is_some(), "seed {seed}");
        assert!(pair.client.is_idle() && pair.server.is_idle(), "seed {seed}");
    }
}

#[test]
fn what_can_not_be_had_resets_the_stream_and_ends_the_request() {
    let mut pair = Pair::new(Conditions::default());
    let (request, stream) = accepted(&mut pair, ask());
    pair.settle();
    let code = ResetCode::UnknownObjectStatus as u64;
    pair.server.reset_subgroup(stream, code);
    pair.settle();
    let end = |event: &Event| (*event == Event::FetchEnd { request, reset: Some(code) }).then_some(());
    assert_eq!(pair.find(Role::Client, end), Some(()));
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn a_cancelled_fetch_sends_nothing_more() {
    let mut pair = Pair::new(Conditions::default());
    let (request, stream) = accepted(&mut pair, ask());
    pair.server.send_object(stream, &some_objects()[0]);
    pair.settle();
    pair.client.cancel(request);
    pair.settle();
    let cancelled = |event: &Event| (*event == Event::Cancelled { request }).then_some(());
    assert_eq!(pair.find(Role::Server, cancelled), Some(()));
    assert_eq!(pair.server.unwritten(), 0);
    pair.server.send_object(stream, &some_objects()[1]);
    pair.settle();
    assert_eq!(fetched(&mut pair).len(), 1);
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn a_joining_fetch_needs_a_subscription_that_forwards() {
    let join = |request| FetchRequest::new(Fetch::RelativeJoining { request, groups: 2 });
    let mut pair = Pair::new(Conditions::default());
    let subscription = subscribed(&mut pair, "audio");
    let refused = |event: &Event| match event {
        Event::RequestError { request, error: RequestError { code, .. } } => Some((*request, *code)),
        _ => None,
    };
    let wrong = pair.client.fetch(join(4242));
    pair.settle();
    let code = RequestErrorCode::InvalidJoiningRequestId as u64;
    assert_eq!(pair.find(Role::Client, refused), Some((wrong, code)));
    accepted(&mut pair, join(subscription.0));

    let mut lone = Lone::new(Role::Server);
    let parameters = Parameters { forward: Some(false), ..Parameters::default() };
    lone.request(&Message::Subscribe { id: 0, track: track("audio"), parameters });
    let fetch = Fetch::AbsoluteJoining { request: 0, group: 1 };
    let stream = lone.request(&Message::Fetch { id: 2, fetch, parameters: Parameters::default() });
    assert_eq!(lone.refusal(stream), Some(RequestErrorCode::InvalidRange as u64));
}

#[test]
fn objects_of_a_fetch_that_nobody_made_close_the_session() {
    for id in [0, 1, 8] {
        let mut lone = Lone::new(Role::Client);
        let mut header = BytesMut::new();
        encode_header(id, &mut header);
        let stream = lone.session.accept_stream(Dir::Uni);
        lone.data(stream, header.freeze(), false);
        assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64), "request {id}");
    }
}

#[test]
fn a_second_stream_for_one_fetch_closes_the_session() {
    let mut lone = Lone::new(Role::Client);
    let request = lone.session.fetch(ask());
    let mut header = BytesMut::new();
    encode_header(request.0, &mut header);
    let header = header.freeze();
    for _ in 0..2 {
        let stream = lone.session.accept_stream(Dir::Uni);
        lone.data(stream, header.clone(), false);
    }
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}

#[test]
fn a_first_object_that_refers_to_none_before_closes_the_session() {
    // Flags with the group, the object or the priority left out; the subgroup of the one before; bits that do not exist.
    for item in [&[0x14_u8, 0, 128, 0][..], &[0x18, 0, 128, 0], &[0x0c, 0, 0, 0], &[0x1d, 0, 0, 128, 0], &[0x80, 0x80]]
    {
        let mut lone = Lone::new(Role::Client);
        let request = lone.session.fetch(ask());
        let mut data = BytesMut::new();
        encode_header(request.0, &mut data);
        data.extend_from_slice(item);
        let stream = lone.session.accept_stream(Dir::Uni);
        lone.data(stream, data.freeze(), false);
        assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64), "{item:x?}");
    }
}

#[test]
fn a_gap_is_told_and_counts_as_the_one_before() {
    let mut lone = Lone::new(Role::Client);
    let request = lone.session.fetch(ask());
    let (mut data, mut writer) = (BytesMut::new(), Fetched::new(GroupOrder::Ascending));
    encode_header(request.0, &mut data);
    let objects = some_objects();
    writer.encode(&objects[0], &mut data).unwrap();
    writer.encode_gap(Location { group: 6, object: 1 }, Gap::Unknown, &mut data);
    writer.encode(&objects[3], &mut data).unwrap();
    let stream = lone.session.accept_stream(Dir::Uni);
    for byte in data.freeze() {
        lone.data(stream, Bytes::copy_from_slice(&[byte]), false);
    }
    lone.data(stream, Bytes::new(), true);
    let gap = Item::Gap { to: Location { group: 6, object: 1 }, gap: Gap::Unknown };
    let items = [Item::Object(objects[0].clone()), gap, Item::Object(objects[3].clone())];
    let told: Vec<Event> = items.into_iter().map(|item| Event::Fetched { request, item }).collect();
    assert_eq!(lone.events[..3], told);
    assert_eq!(lone.events[3], Event::FetchEnd { request, reset: None });
}

#[test]
fn a_stream_that_ends_inside_an_object_closes_the_session() {
    let mut lone = Lone::new(Role::Client);
    let request = lone.session.fetch(ask());
    let (mut data, mut writer) = (BytesMut::new(), Fetched::new(GroupOrder::Ascending));
    encode_header(request.0, &mut data);
    writer.encode(&some_objects()[0], &mut data).unwrap();
    data.truncate(data.len() - 1);
    let stream = lone.session.accept_stream(Dir::Uni);
    lone.data(stream, data.freeze(), true);
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}

#[test]
fn objects_out_of_order_are_not_written() {
    let mut writer = Fetched::new(GroupOrder::Ascending);
    let mut out = BytesMut::new();
    writer.encode(&object(6, 3, "x"), &mut out).unwrap();
    let written = out.len();
    for (group, id) in [(6, 3), (6, 2), (5, 9)] {
        assert!(writer.encode(&object(group, id, "x"), &mut out).is_err());
    }
    assert_eq!(out.len(), written);
}

#[test]
fn a_track_status_is_asked_and_told() {
    let mut pair = Pair::new(Conditions::default());
    let request = pair.client.track_status(track("audio"), Vec::new());
    pair.settle();
    let asked = |event: &Event| match event {
        Event::TrackStatus { request, track, .. } => Some((*request, track.clone())),
        _ => None,
    };
    assert_eq!(pair.find(Role::Server, asked), Some((request, track("audio"))));
    let ok = SubscribeOk { largest: Some(Location { group: 3, object: 4 }), ..SubscribeOk::default() };
    pair.server.answer_track_status(request, &ok);
    pair.settle();
    let told = |event: &Event| match event {
        Event::TrackStatusOk { request, ok } => Some((*request, ok.clone())),
        _ => None,
    };
    assert_eq!(pair.find(Role::Client, told), Some((request, ok)));
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn a_request_that_says_all_at_once_may_finish_its_half() {
    let status = Message::TrackStatus { id: 0, track: track("audio"), parameters: Parameters::default() };
    let fetch = Message::Fetch { id: 0, fetch: ask().fetch, parameters: Parameters::default() };
    for message in [status, fetch] {
        let mut lone = Lone::new(Role::Server);
        let stream = lone.request(&message);
        lone.data(stream, Bytes::new(), true);
        assert!(!lone.events.contains(&Event::Cancelled { request: RequestId(0) }));
        lone.session.reject(RequestId(0), RequestError::new(RequestErrorCode::DoesNotExist, "none"));
        lone.drain();
        assert_eq!(lone.refusal(stream), Some(RequestErrorCode::DoesNotExist as u64));
        assert!(lone.was_sent(&Transmit::Finish { stream }) && lone.session.is_idle());
    }
}

#[test]
fn all_tracks_under_a_prefix_are_offered_or_said_to_be_blocked() {
    let mut pair = Pair::new(Conditions::default());
    let prefix = TrackNamespace::new(["voice"]).unwrap();
    let request = pair.client.subscribe_tracks(prefix.clone(), false, Vec::new());
    pair.settle();
    let asked = |event: &Event| match event {
        Event::SubscribeTracks { request, prefix, forward, .. } => Some((*request, prefix.clone(), *forward)),
        _ => None,
    };
    assert_eq!(pair.find(Role::Server, asked), Some((request, prefix, false)));
    let blocked = PublishBlocked { suffix: TrackNamespace::new(["CA1"]).unwrap(), name: Bytes::from_static(b"audio") };
    pair.server.publish_blocked(request, blocked.clone());
    pair.server.accept(request);
    let publish = Publish {
        track: track("audio"),
        forward: false,
        largest: Some(Location { group: 1, object: 2 }),
        tokens: Vec::new(),
        properties: TrackProperties::default(),
    };
    pair.server.offer(publish.clone());
    pair.server.publish_blocked(request, blocked.clone());
    pair.settle();
    let offered = |event: &Event| match event {
        Event::Publish { publish, .. } => Some(publish.clone()),
        _ => None,
    };
    assert_eq!(pair.find(Role::Client, offered), Some(publish));
    // What was said before the answer was not said at all.
    let count = pair.client_events.iter().filter(|event| matches!(event, Event::PublishBlocked { .. })).count();
    assert_eq!(count, 1);
    assert!(pair.client_events.contains(&Event::PublishBlocked { request, blocked }));
    assert_eq!(pair.closed, None);
}

#[test]
fn the_answer_belongs_to_its_request() {
    // REQUEST_OK to a FETCH, FETCH_OK to a SUBSCRIBE: neither exists.
    let mut lone = Lone::new(Role::Client);
    lone.session.fetch(ask());
    let stream = first_opened(&mut lone);
    lone.say(stream, &Message::RequestOk(Default::default()));
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
    let mut lone = Lone::new(Role::Server);
    let stream = lone.request(&subscribe_message(0));
    lone.say(stream, &Message::FetchOk(ok()));
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}

fn first_opened(lone: &mut Lone) -> StreamId {
    lone.drain();
    let opened = lone.sent.iter().find_map(|transmit| match transmit {
        Transmit::Open { stream, dir: Dir::Bi, .. } => Some(*stream),
        _ => None,
    });
    opened.expect("a request stream")
}
