//! What an update of the peer changes in streams that are open, and how many of ours are on their way.

use std::time::Duration;

use super::lone::{Lone, none};
use super::pair::{self, Conditions, Pair};
use super::smoke::track;
use crate::moqt::SubgroupHeader;
use crate::moqt::message::{
    Fetch, FetchOk, Filter, Location, Message, Parameters, PublishDone, PublishOk, RangeFilter, RequestError,
    RequestOk, Setup, Subscribe, SubscribeOk, Token, TrackProperties, Update, UpdateOk,
};
use crate::moqt::properties::{Writer, kind};
use crate::moqt::session::{Config, Event, RequestId, Role, StreamId, Transmit, constants, priority};
use crate::moqt::version::Draft;
use crate::moqt::{CloseCode, FullTrackName, PublishDoneCode, RequestErrorCode, ResetCode, TrackNamespace};

#[test]
fn a_new_subscriber_priority_moves_open_streams() {
    let (mut lone, request) = (Lone::new(Role::Server), RequestId(0));
    let stream = lone.request(&Message::Subscribe { id: 0, track: track("audio"), parameters: none() });
    lone.session.accept_subscribe(request, SubscribeOk::default());
    let urgent = SubgroupHeader { priority: Some(3), ..SubgroupHeader::default() };
    let one = lone.session.open_subgroup(request, &urgent).unwrap();
    let two = lone.session.open_subgroup(request, &SubgroupHeader { group: 1, ..SubgroupHeader::default() }).unwrap();
    let parameters = Parameters { priority: Some(9), ..none() };
    lone.say(stream, &Message::RequestUpdate { id: 2, parameters });
    lone.session.accept_update(request, UpdateOk::default());
    // The second is of the group behind.
    for (subgroup, publisher, behind) in [(one, 3, 0), (two, 128, 1)] {
        let stream = StreamId(subgroup.0);
        let priority = priority::in_order(9, publisher, behind);
        assert!(lone.was_sent(&Transmit::Priority { stream, priority }));
    }
    assert!(matches!(lone.events.last(), Some(Event::Updated { .. })), "{:?}", lone.events);
}

/// The FORWARDs that we asked for by updates, in order.
fn said(lone: &mut Lone, stream: StreamId) -> Vec<Option<bool>> {
    let updates = lone.said(stream).into_iter().filter_map(|message| match message {
        Message::RequestUpdate { parameters, .. } => Some(parameters.forward),
        _ => None,
    });
    updates.collect()
}

#[test]
fn forward_0_waits_for_answers_and_forward_1_for_nothing_but_the_peers_bound() {
    const AT_ONCE: [Option<bool>; 2] = [Some(false), Some(true)];
    for (bound, at_once) in [(0, &AT_ONCE[..]), (2, &AT_ONCE), (1, &AT_ONCE[..1])] {
        let mut lone = Lone::early(Config { draft: Draft::D20, ..pair::config(Role::Client) });
        lone.say(lone.control, &Message::Setup(Setup { max_request_updates: bound, ..Setup::default() }));
        let request = lone.session.subscribe(Subscribe::new(track("audio")));
        let stream = lone.opened();
        lone.say(stream, &Message::SubscribeOk { alias: 0, parameters: none(), properties: Default::default() });
        for forward in [false, true, false, true, false, false] {
            lone.session.update_forward(request, forward);
        }
        assert_eq!(said(&mut lone, stream), at_once, "bound {bound}");
        for _ in at_once {
            lone.say(stream, &Message::RequestOk(RequestOk::default()));
        }
        // The last word is said when everything before it is answered, unless it was said already.
        let last: &[_] = if at_once.len() == 2 { &[Some(false)] } else { &[] };
        assert_eq!(said(&mut lone, stream), [at_once, last].concat(), "bound {bound}");
        lone.session.update_forward(request, true);
        assert_eq!(said(&mut lone, stream).last(), Some(&Some(true)), "bound {bound}");
    }
}

/// Every request of a client that can be updated, accepted by a server, and the PUBLISH of the server beside them.
struct Accepted {
    pair: Pair,
    subscription: RequestId,
    publication: RequestId,
    announcement: RequestId,
    listing: RequestId,
    tracks: RequestId,
    pushed: RequestId,
}

fn nothing() -> FetchOk {
    let (end, properties) = (Location::default(), TrackProperties::default());
    FetchOk { end_of_track: false, end, parameters: none(), properties }
}

fn place() -> TrackNamespace {
    track("audio").namespace
}

impl Accepted {
    fn new(draft: Draft, seed: u64) -> Self {
        let mut pair = Pair::new(Conditions { draft, ..Conditions::rough(seed) });
        let dynamic = TrackProperties(Writer::default().number(kind::DYNAMIC_GROUPS, 1).finish());
        let subscription = pair.client.subscribe(Subscribe::new(track("audio")));
        let publication = pair.client.publish(track("mine"), TrackProperties::default(), Vec::new());
        let announcement = pair.client.publish_namespace(place(), Vec::new());
        let listing = pair.client.subscribe_namespace(place(), Vec::new());
        let tracks = pair.client.subscribe_tracks(place(), true, Vec::new());
        let pushed = pair.server.publish(track("pushed"), TrackProperties::default(), Vec::new());
        pair.settle();
        pair.server.accept_subscribe(subscription, SubscribeOk { properties: dynamic, ..SubscribeOk::default() });
        pair.server
            .accept_publish(publication, PublishOk { forward: true, priority: 128, filter: None, expires: None });
        [announcement, listing, tracks].into_iter().for_each(|request| pair.server.accept(request));
        pair.client.accept_publish(pushed, PublishOk { forward: true, priority: 128, filter: None, expires: None });
        pair.settle();
        pair.client_events.clear();
        pair.server_events.clear();
        Self { pair, subscription, publication, announcement, listing, tracks, pushed }
    }

    fn told(&mut self) -> Option<(RequestId, Update)> {
        self.pair.settle();
        self.pair.find(Role::Server, |event| match event {
            Event::Update { request, update } => Some((*request, (**update).clone())),
            _ => None,
        })
    }
}

fn everything() -> Update {
    Update {
        tokens: vec![Token { kind: 0, value: "fresh".into() }],
        forward: Some(false),
        filter: Some(Filter::AbsoluteStart(Location { group: 9, object: 0 })),
        priority: Some(7),
        object_delivery_timeout: Some(Duration::from_millis(90)),
        subgroup_delivery_timeout: Some(Duration::from_millis(70)),
        new_group_request: Some(10),
        prefix: Some(TrackNamespace::new(["other"]).unwrap()),
    }
}

/// The drafts with a stream for each request.
const STREAMED: [Draft; 3] = [Draft::D18, Draft::D20, Draft::D22];

#[test]
fn each_kind_of_request_takes_what_belongs_to_it_and_nothing_else() {
    let Update { tokens, forward, priority, prefix, .. } = everything();
    let tokens = || tokens.clone();
    for (draft, seed) in STREAMED.into_iter().zip(1..) {
        let mut all = Accepted::new(draft, seed);
        let of_subscription = Update { prefix: None, ..everything() };
        let expected = [
            (all.subscription, of_subscription.clone()),
            // Its track does not begin groups on request.
            (all.pushed, Update { new_group_request: None, ..of_subscription }),
            (all.publication, Update::renewal(tokens())),
            (all.announcement, Update::renewal(tokens())),
            (all.listing, Update { tokens: tokens(), prefix: prefix.clone(), ..Update::default() }),
            (all.tracks, Update { tokens: tokens(), prefix: prefix.clone(), forward, ..Update::default() }),
        ];
        for (request, update) in expected {
            all.pair.client.update(request, everything());
            assert_eq!(all.told(), Some((request, update)), "{draft:?}");
            let ok = UpdateOk { largest: Some(Location { group: 5, object: 6 }), expires: None };
            all.pair.server.accept_update(request, ok);
            all.pair.settle();
            assert_eq!(all.pair.client_events.pop_back(), Some(Event::UpdateOk { request, ok }), "{draft:?}");
        }
        assert_eq!((all.pair.closed.clone(), priority), (None, Some(7)));
    }
}

#[test]
fn a_fetch_takes_tokens_and_a_priority_until_its_last_byte_is_gone() {
    let mut pair = Pair::new(Conditions::default());
    let range = Fetch::Standalone { track: track("old"), start: Location::default(), end: Location::default() };
    let request = pair.client.fetch(range, None, Vec::new());
    pair.settle();
    pair.client.update(request, everything());
    pair.stall(Role::Server, true);
    pair.server.answer_fetch(request, nothing(), []);
    pair.stall(Role::Server, false);
    pair.settle();
    // It was whole before the update came: that is nobody's any more.
    assert!(!pair.server_events.iter().any(|event| matches!(event, Event::Update { .. })));
    assert!(pair.closed.is_none() && pair.client.is_idle() && pair.server.is_idle());

    let mut lone = Lone::new(Role::Server);
    let range = Fetch::Standalone { track: track("old"), start: Location::default(), end: Location::default() };
    let stream = lone.request(&Message::Fetch { id: 0, fetch: range, parameters: none() });
    lone.session.answer_fetch(RequestId(0), nothing(), []);
    lone.say(stream, &Message::RequestUpdate { id: 2, parameters: Parameters { priority: Some(3), ..none() } });
    lone.session.accept_update(RequestId(0), UpdateOk::default());
    lone.drain();
    let data = StreamId(2);
    assert!(lone.was_sent(&Transmit::Priority { stream: data, priority: priority::data(3, 128) }));
    assert!(matches!(lone.said(stream)[..], [Message::FetchOk(_), Message::RequestOk(_)]));
    assert!(!lone.was_sent(&Transmit::Finish { stream }), "an answer may be due");
    lone.say(stream, &Message::RequestUpdate { id: 4, parameters: none() });
    lone.session.reject_update(RequestId(0), RequestError::new(RequestErrorCode::Unauthorized, "no"));
    assert!(lone.was_sent(&Transmit::Reset { stream: data, code: ResetCode::Cancelled as u64 }));
    assert!(lone.was_sent(&Transmit::Finish { stream }));
}

#[test]
fn a_refused_update_ends_its_request_and_no_other() {
    for draft in Draft::ALL {
        for at in 0..6 {
            let mut all = Accepted::new(draft, at);
            let requests = [all.subscription, all.pushed, all.publication, all.announcement, all.listing, all.tracks];
            let request = requests[at as usize];
            let header = SubgroupHeader::default();
            let open = all.pair.server.open_subgroup(all.subscription, &header).unwrap();
            all.pair.client.update(request, Update::renewal(everything().tokens));
            assert_eq!(all.told().map(|(of, _)| of), Some(request), "{draft:?} {at}");
            let error = RequestError::new(RequestErrorCode::ExpiredAuthToken, "too old");
            all.pair.server.reject_update(request, error.clone());
            all.pair.settle();
            let heard: Vec<_> = all.pair.client_events.drain(..).collect();
            let done = |event: &Event| matches!(event, Event::PublishDone { request: of, done } if *of == request && done.code == PublishDoneCode::UpdateFailed as u64);
            let update = Event::UpdateError { request, error: error.clone() };
            let refused = Event::RequestError { request, error };
            let expected = match at {
                0 | 1 => (true, false),
                _ => (false, true),
            };
            // In draft 16 the end of a listing's stream may overtake the answer on the control stream.
            let over = |event: &Event| matches!(event, Event::RequestError { request: of, .. } if *of == request);
            let refused = heard.contains(&refused) || draft == Draft::D16 && at >= 4 && heard.iter().any(over);
            assert_eq!((heard.contains(&update), refused), expected, "{draft:?} {at}: {heard:?}");
            assert_eq!(heard.iter().any(done), at < 2, "{draft:?} {at}: {heard:?}");
            all.pair.server.send_object(open, &super::smoke::object(0, 0, "x"));
            all.pair.settle();
            // Draft 16 has no code for it.
            let code = if draft == Draft::D16 { ResetCode::Cancelled } else { ResetCode::ExpiredAuthToken } as u64;
            let began = heard.iter().any(|event| matches!(event, Event::Subgroup { .. }));
            let reset = |event: &Event| matches!(event, Event::SubgroupEnd { reset: Some(of), .. } if *of == code);
            assert_eq!(heard.iter().any(reset), began && at == 0, "{draft:?} {at}: {heard:?}");
            // The others go on.
            for other in requests.into_iter().filter(|other| *other != request) {
                all.pair.client.update(other, Update::renewal(everything().tokens));
                assert_eq!(all.told().map(|(of, _)| of), Some(other), "{draft:?} {at}");
                all.pair.server.accept_update(other, UpdateOk::default());
            }
            assert_eq!(all.pair.closed, None, "{draft:?} {at}");
        }
    }
}

/// Of our own PUBLISH the publisher is we.
#[test]
fn a_publisher_whose_update_is_refused_says_that_it_ends() {
    let mut lone = Lone::new(Role::Client);
    let request = lone.session.publish(track("mine"), TrackProperties::default(), Vec::new());
    let stream = lone.opened();
    lone.say(stream, &Message::RequestOk(RequestOk::default()));
    lone.session.update(request, everything());
    lone.say(stream, &Message::RequestError(RequestError::new(RequestErrorCode::Unauthorized, "no")));
    let said = lone.said(stream);
    let Some(Message::PublishDone(PublishDone { code, .. })) = said.last() else { panic!("{said:?}") };
    assert_eq!(*code, PublishDoneCode::UpdateFailed as u64);
    assert!(lone.was_sent(&Transmit::Finish { stream }));
    assert!(matches!(lone.events.last(), Some(Event::RequestError { request: over, .. }) if *over == request));
}

#[test]
fn an_update_of_ours_waits_for_the_answer_and_for_the_bound_and_becomes_one() {
    let mut lone = Lone::early(Config { draft: Draft::D22, ..pair::config(Role::Client) });
    lone.say(lone.control, &Message::Setup(Setup { max_request_updates: 1, ..Setup::default() }));
    let request = lone.session.subscribe(Subscribe::new(track("audio")));
    let stream = lone.opened();
    let priority = |value| Update { priority: Some(value), ..Update::default() };
    lone.session.update(request, priority(1));
    lone.session.update(request, Update::renewal(everything().tokens));
    let updates = |lone: &mut Lone| {
        let said = lone.said(stream).into_iter().filter_map(|message| match message {
            Message::RequestUpdate { parameters, .. } => Some(Update::from_parameters(parameters)),
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    assert!(updates(&mut lone).is_empty());
    lone.say(stream, &Message::SubscribeOk { alias: 0, parameters: none(), properties: Default::default() });
    let first = Update { tokens: everything().tokens, ..priority(1) };
    assert_eq!(updates(&mut lone), std::slice::from_ref(&first));
    lone.session.update(request, priority(2));
    lone.session.update(request, Update { forward: Some(false), ..priority(3) });
    assert_eq!(updates(&mut lone), std::slice::from_ref(&first));
    lone.say(stream, &Message::RequestOk(RequestOk::default()));
    assert_eq!(updates(&mut lone), [first, Update { forward: Some(false), ..priority(3) }]);
    let heard = lone.events.iter().filter(|event| matches!(event, Event::UpdateOk { .. })).count();
    assert_eq!((heard, lone.closed()), (1, None));
}

/// Who announces no bound is still not sent more than a few.
#[test]
fn updates_that_nobody_answers_do_not_pile_up() {
    let mut lone = Lone::new(Role::Client);
    let request = lone.session.subscribe(Subscribe::new(track("audio")));
    let stream = lone.opened();
    lone.say(stream, &Message::SubscribeOk { alias: 0, parameters: none(), properties: Default::default() });
    for value in 0..200 {
        lone.session.update(request, Update { priority: Some(value), ..Update::default() });
    }
    assert_eq!(lone.said(stream).len() as u64, 1 + constants::SENT_UPDATES);
}

#[test]
fn an_answer_to_an_update_that_says_what_it_may_not_is_a_violation() {
    let mut lone = Lone::new(Role::Client);
    let request = lone.session.subscribe(Subscribe::new(track("audio")));
    let stream = lone.opened();
    lone.say(stream, &Message::SubscribeOk { alias: 0, parameters: none(), properties: Default::default() });
    lone.session.update(request, Update::default());
    let parameters = Parameters { priority: Some(1), ..none() };
    lone.say(stream, &Message::RequestOk(RequestOk { parameters, ..RequestOk::default() }));
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}

#[test]
fn a_filter_by_range_in_an_update_ends_the_subscription() {
    for draft in [Draft::D20, Draft::D22] {
        let mut lone = Lone::of(draft, Role::Server);
        let stream = lone.request(&Message::Subscribe { id: 0, track: track("audio"), parameters: none() });
        lone.session.accept_subscribe(RequestId(0), SubscribeOk::default());
        let range_filters = vec![RangeFilter { code: 0x25, value: vec![0, 1].into() }];
        lone.say(stream, &Message::RequestUpdate { id: 2, parameters: Parameters { range_filters, ..none() } });
        let said = lone.said(stream);
        let [_, Message::RequestError(error), Message::PublishDone(done)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(error.code, RequestErrorCode::InvalidFilter as u64);
        assert_eq!(done.code, PublishDoneCode::UpdateFailed as u64);
        assert_eq!(lone.events.last(), Some(&Event::Cancelled { request: RequestId(0) }));
    }
}

#[test]
fn an_update_behind_the_last_word_is_out_of_place() {
    let mut lone = Lone::new(Role::Client);
    let parameters = none();
    let publish = Message::Publish { id: 1, track: named(), alias: 1, parameters, properties: Default::default() };
    let stream = lone.request(&publish);
    lone.session.accept_publish(RequestId(1), PublishOk { forward: true, priority: 128, filter: None, expires: None });
    lone.say(stream, &Message::PublishDone(PublishDone { code: 2, streams: 0, reason: String::new() }));
    assert_eq!(lone.closed(), None);
    lone.say(stream, &Message::RequestUpdate { id: 3, parameters: none() });
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}

fn named() -> FullTrackName {
    track("pushed")
}

#[test]
fn moving_a_listing_forgets_what_was_told_under_the_old_prefix() {
    let mut all = Accepted::new(Draft::D18, 3);
    let (listing, suffix) = (all.listing, TrackNamespace::new(["a"]).unwrap());
    all.pair.server.namespace(listing, &suffix);
    all.pair.client.update(listing, Update { prefix: Some(TrackNamespace::default()), ..Update::default() });
    assert_eq!(all.told().map(|(of, _)| of), Some(listing));
    all.pair.server.accept_update(listing, UpdateOk::default());
    let moved = TrackNamespace::new(["b"]).unwrap();
    all.pair.server.namespace(listing, &moved);
    all.pair.settle();
    let expected = [
        Event::Namespace { request: listing, suffix: suffix.clone() },
        Event::NamespaceDone { request: listing, suffix },
        Event::UpdateOk { request: listing, ok: UpdateOk::default() },
        Event::Namespace { request: listing, suffix: moved },
    ];
    assert_eq!(all.pair.client_events.make_contiguous(), expected);
}
