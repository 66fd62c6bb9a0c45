//! REQUEST_UPDATE of every kind of request: its tokens renew what it is about or end it, and it counts as a request.

use std::time::Duration;

use super::world::{May, World, audio, code, done, named, namespace, subscribe, token, uplink};
use crate::moqt::message::{Filter, Location, SubscribeOk, TrackProperties, Update};
use crate::moqt::relay::{Lease, Limits, constants};
use crate::moqt::session::RequestId;
use crate::moqt::version::Draft;
use crate::moqt::{Event, PublishDoneCode, RequestErrorCode};

const MINUTE: Duration = Duration::from_secs(60);

/// Tokens that allow everything, something else, and nothing any more.
fn world(draft: Draft) -> World {
    let other = May { subscribe: vec![namespace(&["x"])], publish: vec![namespace(&["x"])], ..May::default() };
    let mut world = World::with_tokens([("fresh", May::everything()), ("other", other)]);
    world.conditions.draft = draft;
    world
}

/// A client whose rights end in a minute.
fn passing(world: &mut World) -> usize {
    let may = May { until: Some(world.now + MINUTE), ..May::everything() };
    world.client_that(may, Limits::default())
}

fn renew(world: &mut World, key: usize, request: RequestId, value: &'static str) {
    world.session(key).update(request, Update::renewal(vec![token(value)]));
    world.settle();
}

fn refused(world: &World, key: usize, request: RequestId) -> Option<u64> {
    world.clients[key].heard.iter().find_map(|event| match event {
        Event::UpdateError { request: of, error } | Event::RequestError { request: of, error } if *of == request => {
            Some(error.code)
        }
        _ => None,
    })
}

/// SUBSCRIBE, PUBLISH, PUBLISH_NAMESPACE and SUBSCRIBE_NAMESPACE of one client, accepted.
fn requests(world: &mut World, key: usize) -> [RequestId; 4] {
    world.clients[key].serves = Some(SubscribeOk::default());
    let session = world.session(key);
    let requests = [
        session.subscribe(subscribe(audio(), None)),
        session.publish(named(namespace(&["voice", "CA7"]), "audio"), TrackProperties::default(), Vec::new()),
        session.publish_namespace(namespace(&["voice", "CA8"]), Vec::new()),
        session.subscribe_namespace(namespace(&["voice"]), Vec::new()),
    ];
    world.settle();
    requests.iter().for_each(|request| assert!(world.is_answered(key, *request)));
    requests
}

#[test]
fn a_token_in_an_update_carries_on_every_kind_of_request() {
    for draft in Draft::ALL {
        let mut world = world(draft);
        let publisher = world.publisher();
        let client = passing(&mut world);
        for request in requests(&mut world, client) {
            renew(&mut world, client, request, "fresh");
            assert_eq!(refused(&world, client, request), None, "{draft:?}");
        }
        world.run_for(MINUTE + constants::EXPIRY_GRACE + MINUTE);
        world.whole(publisher, 1);
        assert_eq!((world.done(client), world.objects(client).len()), (None, 3), "{draft:?}");
        let counters = world.core.counters();
        assert_eq!((counters.expired, counters.namespaces, counters.tracks), (0, 2, 2), "{draft:?}");
        // The listing hears of what begins after the old token.
        world.announce(publisher, namespace(&["voice", "CA9"]));
        let told = |event: &Event| matches!(event, Event::Namespace { suffix, .. } if *suffix == namespace(&["CA9"]));
        assert!(world.clients[client].heard.iter().any(told), "{draft:?}");
    }
}

#[test]
fn a_token_that_does_not_allow_it_ends_the_request_it_came_for_and_no_other() {
    for draft in Draft::ALL {
        for (at, value, why) in [
            (0, "other", RequestErrorCode::Unauthorized),
            (1, "other", RequestErrorCode::Unauthorized),
            (2, "junk", RequestErrorCode::MalformedAuthToken),
            (3, "junk", RequestErrorCode::MalformedAuthToken),
        ] {
            let mut world = world(draft);
            let publisher = world.publisher();
            let client = world.client();
            let all = requests(&mut world, client);
            let before = world.core.counters();
            renew(&mut world, client, all[at], value);
            // In draft 16 the end of a listing's stream may overtake the reason.
            let silent = draft == Draft::D16 && at == 3;
            let heard = refused(&world, client, all[at]);
            assert!(heard == code(why) || silent && heard.is_some(), "{draft:?} {at}: {heard:?}");
            let counters = world.core.counters();
            let gone = |what: usize| usize::from(at == what);
            assert_eq!(counters.subscriptions, before.subscriptions - gone(0), "{draft:?}");
            assert_eq!(counters.tracks, before.tracks - gone(0) - gone(1), "{draft:?}");
            assert_eq!(counters.namespaces, before.namespaces - gone(2), "{draft:?}");
            assert_eq!(counters.unauthorized, before.unauthorized + 1, "{draft:?}");
            assert_eq!(world.done(client), done(PublishDoneCode::UpdateFailed).filter(|_| at == 0), "{draft:?}");
            world.announce(publisher, namespace(&["voice", "CA9"]));
            let told =
                |event: &Event| matches!(event, Event::Namespace { suffix, .. } if *suffix == namespace(&["CA9"]));
            assert_eq!(world.clients[client].heard.iter().any(told), at != 3, "{draft:?}");
            // What it had can be asked for again.
            let again = requests_again(&mut world, client, at);
            assert!(again.is_none_or(|request| world.is_answered(client, request)), "{draft:?} {at}");
        }
    }
}

fn requests_again(world: &mut World, key: usize, at: usize) -> Option<RequestId> {
    let session = world.session(key);
    let request = match at {
        0 => return None,
        1 => session.publish(named(namespace(&["voice", "CA7"]), "audio"), TrackProperties::default(), Vec::new()),
        2 => session.publish_namespace(namespace(&["voice", "CA8"]), Vec::new()),
        _ => session.subscribe_namespace(namespace(&["voice"]), Vec::new()),
    };
    world.settle();
    Some(request)
}

/// Every kind counts, and one too many ends what it is about.
#[test]
fn updates_of_every_kind_are_counted_as_requests() {
    for at in 0..4 {
        let mut world = World::new();
        world.publisher();
        let limits = Limits { requests_per_s: 1, requests_burst: 8, ..Limits::default() };
        let client = world.client_that(May::everything(), limits);
        let all = requests(&mut world, client);
        // Four of eight are left, and the time that passes here brings some.
        for _ in 0..20 {
            world.session(client).update(all[at], Update::default());
            world.run_for(Duration::from_millis(20));
        }
        world.settle();
        assert_eq!(refused(&world, client, all[at]), code(RequestErrorCode::ExcessiveLoad), "{at}");
        let counters = world.core.counters();
        assert_eq!((counters.over_requests, counters.excessive), (1, 1), "{at}");
    }
}

/// A lease says which track its holder may publish: a token for another track does not prolong it.
#[test]
fn a_leased_announcement_is_carried_on_by_the_same_lease_only() {
    for (value, expected) in [("same", None), ("different", code(RequestErrorCode::Unauthorized))] {
        let lease = |track: &'static str, until| May { until, ..May::lease(track, "bridge", 1) };
        let mut world = World::with_tokens([("same", lease("audio", None)), ("different", lease("video", None))]);
        let until = Some(world.now + MINUTE);
        let publisher = world.client_that(lease("audio", until), Limits::default());
        let announced = world.announce(publisher, uplink());
        renew(&mut world, publisher, announced, value);
        assert_eq!(refused(&world, publisher, announced), expected, "{value}");
        world.run_for(3 * MINUTE);
        assert_eq!(world.core.counters().namespaces, usize::from(expected.is_none()), "{value}");
    }
    assert_eq!(May::lease("audio", "bridge", 1).lease.map(|lease: Lease| lease.epoch), Some(1));
}

#[test]
fn a_held_subscription_is_renewed_and_refused_too() {
    for (value, expected) in [("fresh", None), ("other", code(RequestErrorCode::Unauthorized))] {
        let mut world = world(Draft::D18);
        let listener = world.client();
        let request = world.subscribe(listener, Some(Duration::from_secs(20)));
        // Our own session waits with its updates for the answer; another's may not.
        world.clients[listener].pair.client.say_update(request, &Update::renewal(vec![token(value)]));
        world.settle();
        assert_eq!(world.refused(listener, request), expected, "{value}");
        assert_eq!(world.core.counters().held, usize::from(expected.is_none()), "{value}");
    }
}

#[test]
fn the_answer_says_where_the_track_is() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    let request = world.subscribe(listener, None);
    world.whole(publisher, 7);
    let filter = Some(Filter::AbsoluteStart(Location { group: 9, object: 0 }));
    world.session(listener).update(request, Update { filter, ..Update::default() });
    world.settle();
    let largest = world.clients[listener].heard.iter().find_map(|event| match event {
        Event::UpdateOk { ok, .. } => Some(ok.largest),
        _ => None,
    });
    assert_eq!(largest, Some(Some(Location { group: 7, object: 2 })));
    world.whole(publisher, 8);
    world.whole(publisher, 9);
    assert_eq!(world.objects(listener), [(7, 0), (7, 1), (7, 2), (9, 0), (9, 1), (9, 2)]);
}

fn told(world: &World, key: usize) -> Vec<Event> {
    let namespaces = world.clients[key].heard.iter().filter(|event| {
        matches!(event, Event::Namespace { .. } | Event::NamespaceDone { .. } | Event::RequestError { .. })
    });
    namespaces.cloned().collect()
}

#[test]
fn a_listing_hears_what_its_new_token_allows_and_nothing_twice() {
    let of = |sid| May { subscribe: vec![namespace(&["voice", sid])], ..May::default() };
    let mut world = World::with_tokens([("one", of("CA1")), ("two", of("CA2"))]);
    let publisher = world.client();
    let announced = world.announce(publisher, namespace(&["voice", "CA1"]));
    world.announce(publisher, namespace(&["voice", "CA2"]));
    let listener = world.client_that(May::default(), Limits::default());
    let request = world.session(listener).subscribe_namespace(namespace(&["voice"]), vec![token("one")]);
    world.settle();
    let event = |sid| Event::Namespace { request, suffix: namespace(&[sid]) };
    assert_eq!(told(&world, listener), [event("CA1")]);
    world.session(listener).update(request, Update::renewal(vec![token("one"), token("two")]));
    world.settle();
    assert_eq!(told(&world, listener), [event("CA1"), event("CA2")]);
    // With a token that shows no more of the first it still hears of its end.
    renew(&mut world, listener, request, "two");
    world.session(publisher).cancel(announced);
    world.settle();
    let done = Event::NamespaceDone { request, suffix: namespace(&["CA1"]) };
    assert_eq!(told(&world, listener), [event("CA1"), event("CA2"), done]);
    world.announce(publisher, namespace(&["voice", "CA1"]));
    assert_eq!(told(&world, listener).len(), 3);
}

#[test]
fn a_listing_moves_to_another_prefix_within_the_rules() {
    for draft in [Draft::D18, Draft::D22] {
        let mut world = world(draft);
        let publisher = world.client();
        world.announce(publisher, namespace(&["voice", "CA1", "uplink"]));
        world.announce(publisher, namespace(&["voice", "CA2", "uplink"]));
        let listener = world.client();
        let list = |world: &mut World, prefix: &[&'static str]| {
            let request = world.session(listener).subscribe_namespace(namespace(prefix), Vec::new());
            world.settle();
            request
        };
        let moved = |world: &mut World, request, prefix: &[&'static str]| {
            let update = Update { prefix: Some(namespace(prefix)), ..Update::default() };
            world.session(listener).update(request, update);
            world.settle();
        };
        let request = list(&mut world, &["voice", "CA1"]);
        let suffix = namespace(&["uplink"]);
        moved(&mut world, request, &["voice", "CA2"]);
        let announce = Event::Namespace { request, suffix: suffix.clone() };
        let expected = [announce.clone(), Event::NamespaceDone { request, suffix }, announce];
        assert_eq!(told(&world, listener), expected, "{draft:?}");
        // Its old place is free, its new one taken.
        let other = list(&mut world, &["voice", "CA1"]);
        assert!(world.is_answered(listener, other), "{draft:?}");
        moved(&mut world, request, &["voice"]);
        assert_eq!(world.refused(listener, request), code(RequestErrorCode::PrefixOverlap), "{draft:?}");
        let third = list(&mut world, &["voice", "CA2"]);
        assert!(world.is_answered(listener, third), "{draft:?}: the moved one is over");
    }
}

/// SUBSCRIBE_TRACKS: a new token or prefix brings offers of what it allows, and takes nothing back.
#[test]
fn an_interest_is_offered_what_its_update_allows() {
    let of = |sid| May { subscribe: vec![namespace(&["voice", sid])], ..May::default() };
    for draft in [Draft::D18, Draft::D20, Draft::D22] {
        let mut world = World::with_tokens([("one", of("CA1")), ("two", of("CA2"))]);
        world.conditions.draft = draft;
        let publisher = world.client();
        let call = |sid| named(namespace(&["voice", sid]), "audio");
        for sid in ["CA1", "CA2"] {
            world.session(publisher).publish(call(sid), TrackProperties::default(), Vec::new());
        }
        world.settle();
        let recorder = world.client_that(May::default(), Limits::default());
        world.clients[recorder].takes = true;
        let request = world.session(recorder).subscribe_tracks(namespace(&["voice", "CA1"]), true, vec![token("one")]);
        world.settle();
        let offered = |world: &World| -> Vec<_> {
            world.clients[recorder].offered.iter().map(|(_, publish)| publish.track.clone()).collect()
        };
        assert_eq!(offered(&world), [call("CA1")], "{draft:?}");
        let prefix = Some(namespace(&["voice"]));
        world.session(recorder).update(request, Update { prefix, ..Update::default() });
        world.settle();
        assert_eq!(offered(&world), [call("CA1")], "{draft:?}: it may not hear the other");
        renew(&mut world, recorder, request, "two");
        assert_eq!(offered(&world), [call("CA1"), call("CA2")], "{draft:?}");
        let counters = world.core.counters();
        assert_eq!((refused(&world, recorder, request), counters.subscriptions), (None, 2), "{draft:?}");
    }
}
