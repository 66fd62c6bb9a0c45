//! FETCH, TRACK_STATUS, SUBSCRIBE_TRACKS and updates of our own, between two sessions.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::lone::Lone;
use super::pair::{Conditions, Pair};
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{
    Fetch, FetchOk, GroupOrder, Location, Message, Parameters, Publish, PublishBlocked, RequestError, Subscribe,
    SubscribeOk, TrackProperties, Update, UpdateOk, Wishes,
};
use crate::moqt::session::{RequestId, Role};
use crate::moqt::stream::FETCH_HEADER;
use crate::moqt::{CloseCode, Draft, Event, FullTrackName, Object, RequestErrorCode, TrackNamespace, Transmit, varint};

fn track() -> FullTrackName {
    FullTrackName::new(TrackNamespace::new(["voice", "CA1"]).unwrap(), "audio").unwrap()
}

fn at(group: u64, object: u64) -> Location {
    Location { group, object }
}

fn standalone() -> Fetch {
    Fetch::Standalone { track: track(), start: at(1, 0), end: at(2, 0) }
}

fn item(group: u64, id: u64) -> Fetched {
    let object = Object { group, id, priority: Some(7), payload: Bytes::from(vec![9; 300]), ..Object::default() };
    Fetched::Object { object, datagram: false }
}

fn ok() -> FetchOk {
    FetchOk {
        end_of_track: false,
        end: at(2, 0),
        parameters: Parameters::default(),
        properties: TrackProperties(crate::moqt::properties::timescale(1_000_000)),
    }
}

/// A client that asked for a range, and what the server heard.
fn asked(conditions: Conditions, order: Option<GroupOrder>) -> (Pair, RequestId) {
    let mut pair = Pair::new(conditions);
    pair.settle();
    let request = pair.client.fetch(standalone(), order, Vec::new());
    pair.settle();
    let order = order.unwrap_or(GroupOrder::Ascending);
    let expected = Event::Fetch { request, fetch: standalone(), order, fill_timeout: None, tokens: Vec::new() };
    assert_eq!(pair.server_events.back(), Some(&expected));
    (pair, request)
}

fn drop_setup(pair: &Pair) -> Vec<Event> {
    pair.client_events.iter().filter(|event| !matches!(event, Event::Setup(_))).cloned().collect()
}

#[test]
fn a_fetched_range_arrives_whole_on_rough_links() {
    for seed in 0..20 {
        let order = [None, Some(GroupOrder::Descending)][seed as usize % 2];
        let (mut pair, request) = asked(Conditions::rough(seed), order);
        let mut items = vec![item(1, 0), item(1, 1), Fetched::Unknown(at(1, 4)), item(1, 5), item(2, 0)];
        if order.is_some() {
            items.rotate_right(1);
        }
        pair.server.answer_fetch(request, ok(), items.clone());
        pair.settle();
        let heard = drop_setup(&pair);
        let fetched = items.into_iter().map(|fetched| Event::Fetched { request, fetched });
        let expected: Vec<_> = fetched.chain([Event::FetchEnd { request, reset: None }]).collect();
        assert!(heard.contains(&Event::FetchOk { request, ok: Box::new(ok()) }));
        let objects: Vec<_> = heard.into_iter().filter(|event| !matches!(event, Event::FetchOk { .. })).collect();
        assert_eq!(objects, expected, "seed {seed}");
        assert!(pair.client.is_idle() && pair.server.is_idle(), "seed {seed}");
        assert_eq!(pair.server.unwritten(), 0);
    }
}

/// Whoever counts running fetches hears of each end once: all of it left, it was cancelled, or its data alone was stopped.
#[test]
fn the_end_of_an_answered_fetch_is_told_once() {
    for way in ["written", "cancelled", "stopped"] {
        let (mut pair, request) = asked(Conditions::default(), None);
        pair.server_events.clear();
        pair.stall(Role::Server, way == "cancelled");
        pair.server.answer_fetch(request, ok(), [item(1, 0), item(1, 1)]);
        match way {
            "cancelled" => pair.client.cancel(request),
            "stopped" => {
                let data = std::iter::from_fn(|| pair.server.poll_transmit()).filter_map(|transmit| match transmit {
                    Transmit::Open { stream, .. } => Some(stream),
                    _ => None,
                });
                let data = data.last().unwrap();
                let now = pair.now;
                pair.server.handle_stopped(data, 0, now);
            }
            _ => {}
        }
        pair.settle();
        let told = match way {
            "written" => Event::Fulfilled { request },
            _ => Event::Cancelled { request },
        };
        assert_eq!(pair.server_events, [told], "{way}");
        // Who stopped the data has not heard our answer here, and ends his half with it.
        assert!(pair.server.unwritten() == 0 && (pair.server.is_idle() || way == "stopped"), "{way}");
    }
}

#[test]
fn an_answered_fetch_is_taken_back() {
    for header_first in [true, false] {
        let (mut pair, request) = asked(Conditions::default(), None);
        pair.stall(Role::Server, !header_first);
        pair.server.answer_fetch(request, ok(), [item(1, 0), item(1, 1)]);
        if header_first {
            // The link takes a part.
            let sent: Vec<Transmit> = std::iter::from_fn(|| pair.server.poll_transmit()).collect();
            assert!(matches!(sent[..], [.., Transmit::Data { .. }, Transmit::Finish { .. }]));
        }
        pair.server.reset_fetch(request, crate::moqt::ResetCode::MalformedTrack);
        pair.settle();
        assert!(pair.server.is_idle() && pair.server.unwritten() == 0);
        if !header_first {
            pair.stall(Role::Server, false);
            pair.settle();
            let refused = |event: &Event| matches!(event, Event::RequestError { request: of, .. } if *of == request);
            assert!(drop_setup(&pair).iter().any(refused) && pair.client.is_idle());
        }
        // A second time, and of what is unknown, nothing happens.
        pair.server.reset_fetch(request, crate::moqt::ResetCode::MalformedTrack);
        assert_eq!(pair.server.poll_transmit(), None);
    }
}

#[test]
fn a_refused_fetch_is_over() {
    let (mut pair, request) = asked(Conditions::default(), None);
    let error = RequestError::new(RequestErrorCode::InvalidRange, "nothing is there");
    pair.server.reject(request, error.clone());
    pair.settle();
    assert_eq!(drop_setup(&pair), [Event::RequestError { request, error }]);
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn a_cancelled_fetch_resets_its_stream() {
    let (mut pair, request) = asked(Conditions::default(), None);
    pair.stall(Role::Server, true);
    pair.server.answer_fetch(request, ok(), [item(1, 0), item(1, 1)]);
    pair.settle();
    assert!(pair.server.unwritten() > 600);
    pair.client.cancel(request);
    pair.settle();
    assert_eq!(pair.server_events.back(), Some(&Event::Cancelled { request }));
    assert_eq!(pair.server.unwritten(), 0);
    pair.stall(Role::Server, false);
    pair.settle();
    assert!(drop_setup(&pair).is_empty());
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn a_status_is_answered_once_and_over() {
    let mut pair = Pair::new(Conditions::default());
    let (yes, no) =
        (pair.client.track_status(Subscribe::new(track())), pair.client.track_status(Subscribe::new(track())));
    pair.settle();
    let subscribe = Subscribe::new(track());
    assert_eq!(pair.server_events.back(), Some(&Event::TrackStatus { request: no, subscribe }));
    let status = SubscribeOk { largest: Some(at(3, 4)), ..SubscribeOk::default() };
    pair.server.answer_track_status(yes, status.clone());
    pair.server.reject(no, RequestError::new(RequestErrorCode::DoesNotExist, ""));
    pair.settle();
    assert!(pair.client_events.contains(&Event::TrackStatusOk { request: yes, ok: status }));
    assert!(
        pair.client_events.iter().any(|event| matches!(event, Event::RequestError { request, .. } if *request == no))
    );
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn tracks_are_offered_under_a_prefix_or_said_to_be_blocked() {
    let mut pair = Pair::new(Conditions::default());
    let prefix = TrackNamespace::new(["voice"]).unwrap();
    let request = pair.client.subscribe_tracks(prefix.clone(), false, Vec::new());
    pair.settle();
    let wishes = Wishes { forward: false, ..Wishes::default() };
    let expected = Event::SubscribeTracks { request, prefix, wishes, tokens: Vec::new() };
    assert_eq!(pair.server_events.back(), Some(&expected));
    pair.server.accept(request);
    let blocked = PublishBlocked { suffix: TrackNamespace::new(["CA2"]).unwrap(), name: Bytes::from_static(b"x") };
    pair.server.publish_blocked(request, blocked.clone());
    let publish = Publish {
        track: track(),
        forward: false,
        largest: Some(at(3, 4)),
        expires: Some(Duration::from_secs(90)),
        tokens: Vec::new(),
        properties: Default::default(),
    };
    pair.server.offer(publish.clone());
    pair.settle();
    let heard = drop_setup(&pair);
    assert!(
        heard.contains(&Event::RequestOk { request }) && heard.contains(&Event::PublishBlocked { request, blocked })
    );
    assert!(heard.iter().any(|event| matches!(event, Event::Publish { publish: offered, .. } if *offered == publish)));
}

#[test]
fn an_update_of_ours_is_answered_without_a_word_to_the_application() {
    let mut pair = Pair::new(Conditions::default());
    let request = pair.client.subscribe(Subscribe::new(track()));
    pair.settle();
    pair.server.accept_subscribe(request, SubscribeOk::default());
    pair.settle();
    pair.client_events.clear();
    for forward in [false, true] {
        pair.client.update_forward(request, forward);
        pair.settle();
        let asked = Update { forward: Some(forward), ..Update::default() };
        assert_eq!(pair.server_events.back(), Some(&Event::Update { request, update: Box::new(asked) }));
        let ok = UpdateOk { largest: Some(at(3, 1)), expires: None };
        pair.server.accept_update(request, ok);
        pair.settle();
        assert_eq!(pair.server_events.back(), Some(&Event::Updated { request, forward, filter: None }));
        assert_eq!(pair.client_events.pop_front(), Some(Event::UpdateOk { request, ok }));
    }
    assert!(pair.client_events.is_empty() && pair.closed.is_none());
}

/// A client is asked for none of it: it says so by itself.
#[test]
fn a_client_refuses_what_it_does_not_serve() {
    let mut pair = Pair::new(Conditions::default());
    let requests = [
        pair.server.fetch(standalone(), None, Vec::new()),
        pair.server.track_status(Subscribe::new(track())),
        pair.server.subscribe_tracks(TrackNamespace::default(), true, Vec::new()),
    ];
    pair.settle();
    for request in requests {
        let refused = |event: &Event| {
            matches!(event, Event::RequestError { request: of, error }
            if *of == request && error.code == RequestErrorCode::NotSupported as u64)
        };
        assert!(pair.server_events.iter().any(refused));
    }
    assert!(pair.client_events.iter().all(|event| matches!(event, Event::Setup(_))));
}

/// The drafts with a stream per request.
const DRAFTS: [Draft; 3] = [Draft::D18, Draft::D20, Draft::D22];

#[test]
fn a_request_that_says_all_with_one_message_is_not_withdrawn_by_its_fin() {
    let status = Message::TrackStatus { id: 0, track: track(), parameters: Parameters::default() };
    let fetch = Message::Fetch { id: 0, fetch: standalone(), parameters: Parameters::default() };
    for (draft, message) in DRAFTS.into_iter().flat_map(|draft| [(draft, &status), (draft, &fetch)]) {
        let mut lone = Lone::of(draft, Role::Server);
        let stream = lone.request(message);
        lone.data(stream, Bytes::new(), true);
        assert!(!lone.events.contains(&Event::Cancelled { request: RequestId(0) }), "{draft:?}");
        lone.session.reject(RequestId(0), RequestError::new(RequestErrorCode::DoesNotExist, "none"));
        assert_eq!(lone.refusal(stream), Some(RequestErrorCode::DoesNotExist as u64), "{draft:?}");
        assert!(lone.session.is_idle());
    }
}

#[test]
fn a_request_of_ours_that_is_never_answered_fails_with_the_end_of_its_stream() {
    for draft in DRAFTS {
        for fetches in [true, false] {
            let mut lone = Lone::of(draft, Role::Client);
            let request = match fetches {
                true => lone.session.fetch(standalone(), None, Vec::new()),
                false => lone.session.track_status(Subscribe::new(track())),
            };
            let stream = lone.opened();
            lone.data(stream, Bytes::new(), true);
            let failed = |event: &Event| matches!(event, Event::RequestError { request: of, .. } if *of == request);
            assert!(lone.events.iter().any(failed), "{draft:?}");
            assert!(lone.session.is_idle());
        }
    }
}

/// The header of the fetch stream of a request, and these bytes.
fn stream_of(request: u64, rest: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    varint::put(&mut out, FETCH_HEADER);
    varint::put(&mut out, request);
    out.put_slice(rest);
    out.freeze()
}

#[test]
fn a_second_stream_for_one_fetch_closes_the_session() {
    let mut lone = Lone::new(Role::Client);
    let request = lone.session.fetch(standalone(), None, Vec::new());
    lone.uni(stream_of(request.0, &[]), false);
    assert_eq!(lone.closed(), None);
    lone.uni(stream_of(request.0, &[]), false);
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}

#[test]
fn a_first_object_that_refers_to_none_before_it_closes_the_session() {
    // The group, the object or the priority left out; the subgroup of the one before; flags that do not exist.
    for rest in [&[0x14_u8, 0, 128, 0][..], &[0x18, 0, 128, 0], &[0x0c, 0, 0, 0], &[0x1d, 0, 0, 128, 0], &[0x80, 0x80]]
    {
        let mut lone = Lone::new(Role::Client);
        let request = lone.session.fetch(standalone(), None, Vec::new());
        lone.uni(stream_of(request.0, rest), false);
        assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64), "{rest:x?}");
    }
}

#[test]
fn a_fetch_stream_is_read_byte_by_byte_and_may_not_end_inside_an_object() {
    let mut pair = asked(Conditions::default(), None).0;
    let items = [item(1, 0), Fetched::Unknown(at(1, 4)), item(1, 7)];
    pair.server.answer_fetch(RequestId(0), ok(), items.clone());
    let mut written = BytesMut::new();
    let mut stream = None;
    while let Some(transmit) = pair.server.poll_transmit() {
        match transmit {
            Transmit::Open { stream: opened, .. } => stream = Some(opened),
            Transmit::Data { stream: on, data } if Some(on) == stream => written.extend_from_slice(&data),
            _ => {}
        }
    }
    let written = written.freeze();
    let mut lone = Lone::new(Role::Client);
    let request = lone.session.fetch(standalone(), None, Vec::new());
    let stream = lone.uni(written.slice(..1), false);
    for at in 1..written.len() {
        lone.data(stream, written.slice(at..at + 1), false);
    }
    lone.data(stream, Bytes::new(), true);
    let told: Vec<_> = items.into_iter().map(|fetched| Event::Fetched { request, fetched }).collect();
    assert_eq!(lone.events[..3], told);
    assert_eq!(lone.events[3], Event::FetchEnd { request, reset: None });

    let mut lone = Lone::new(Role::Client);
    lone.session.fetch(standalone(), None, Vec::new());
    lone.uni(written.slice(..written.len() - 1), true);
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}

#[test]
fn an_answer_belongs_to_its_request() {
    // REQUEST_OK to a FETCH, FETCH_OK to a SUBSCRIBE: neither exists.
    let mut lone = Lone::new(Role::Client);
    lone.session.fetch(standalone(), None, Vec::new());
    let stream = lone.opened();
    lone.say(stream, &Message::RequestOk(Default::default()));
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
    let mut lone = Lone::new(Role::Client);
    lone.session.subscribe(Subscribe::new(track()));
    let stream = lone.opened();
    lone.say(stream, &Message::FetchOk(ok()));
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}
