//! Each limit of a session and of a token, reached; each with its counter.

use std::time::Duration;

use super::world::{May, World, code, done, named, namespace, subscribe, uplink};
use crate::moqt::message::{Subscribe, TrackProperties, Update};
use crate::moqt::relay::{Limits, constants};
use crate::moqt::session::RequestId;
use crate::moqt::{Event, PublishDoneCode, RequestErrorCode, TrackNamespace};

const LOAD: RequestErrorCode = RequestErrorCode::ExcessiveLoad;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn limited(limits: Limits) -> (World, usize) {
    let mut world = World::new();
    world.publisher();
    let client = world.client_that(May::everything(), limits);
    (world, client)
}

fn held(name: &'static str) -> Subscribe {
    subscribe(named(namespace(&["nobody"]), name), Some(Duration::from_secs(20)))
}

/// The codes of the refusals, `None` for what was not refused.
fn refusals(world: &mut World, client: usize, requests: &[RequestId]) -> Vec<Option<u64>> {
    world.settle();
    requests.iter().map(|request| world.refused(client, *request)).collect()
}

#[test]
fn subscriptions() {
    let (mut world, client) = limited(Limits { subscriptions: 3, ..Limits::default() });
    let live = |name| subscribe(named(uplink(), name), None);
    let requests = NAMES.map(|name| world.session(client).subscribe(live(name)));
    assert_eq!(refusals(&mut world, client, &requests), [None, None, None, code(LOAD), code(LOAD)]);
    let refusal = world.refusal(client, requests[3]).unwrap();
    assert_eq!(refusal.retry_after, Some(constants::RETRY_AFTER));
    world.session(client).cancel(requests[0]);
    world.settle();
    let again = world.session(client).subscribe(live("d"));
    assert_eq!(refusals(&mut world, client, &[again]), [None]);
    assert_eq!(world.core.counters().excessive, 2);
}

#[test]
fn held_subscriptions() {
    let (mut world, client) = limited(Limits { held: 2, ..Limits::default() });
    let requests = NAMES.map(|name| world.session(client).subscribe(held(name)));
    assert_eq!(refusals(&mut world, client, &requests), [None, None, code(LOAD), code(LOAD), code(LOAD)]);
    // What is served at once is not held for long.
    let live = NAMES.map(|name| {
        let request = world.session(client).subscribe(subscribe(named(uplink(), name), None));
        world.settle();
        request
    });
    assert_eq!(refusals(&mut world, client, &live), [code(LOAD); 5]);
    world.run_for(Duration::from_secs(20));
    let live = NAMES.map(|name| {
        let request = world.session(client).subscribe(subscribe(named(uplink(), name), None));
        world.settle();
        request
    });
    assert_eq!(refusals(&mut world, client, &live), [None; 5]);
}

#[test]
fn publications() {
    let (mut world, client) = limited(Limits { publications: 3, ..Limits::default() });
    let session = world.session(client);
    let requests = [
        session.publish_namespace(namespace(&["a"]), Vec::new()),
        session.subscribe_namespace(namespace(&["b"]), Vec::new()),
        session.publish(named(namespace(&["c"]), "x"), TrackProperties::default(), Vec::new()),
        session.publish_namespace(namespace(&["d"]), Vec::new()),
        session.subscribe_namespace(namespace(&["e"]), Vec::new()),
        session.publish(named(namespace(&["f"]), "x"), TrackProperties::default(), Vec::new()),
    ];
    let load = code(LOAD);
    assert_eq!(refusals(&mut world, client, &requests), [None, None, None, load, load, load]);
    for request in &requests[..3] {
        world.session(client).cancel(*request);
        world.settle();
        let again = world.session(client).publish_namespace(namespace(&["g"]), Vec::new());
        assert_eq!(refusals(&mut world, client, &[again]), [None]);
        world.session(client).cancel(again);
        world.settle();
    }
}

#[test]
fn bytes_of_names() {
    let (mut world, client) = limited(Limits { name_bytes: 100, ..Limits::default() });
    let long = |byte: u8| TrackNamespace::new([vec![byte; 40]]).unwrap();
    let session = world.session(client);
    let requests = [
        session.publish_namespace(long(b'a'), Vec::new()),
        session.subscribe_namespace(long(b'b'), Vec::new()),
        session.publish_namespace(long(b'c'), Vec::new()),
        session.subscribe(subscribe(named(long(b'd'), "x"), Some(Duration::from_secs(5)))),
        session.publish_namespace(namespace(&["small"]), Vec::new()),
    ];
    assert_eq!(refusals(&mut world, client, &requests), [None, None, code(LOAD), code(LOAD), None]);
    world.session(client).cancel(requests[0]);
    world.settle();
    let again = world.session(client).publish_namespace(long(b'c'), Vec::new());
    assert_eq!(refusals(&mut world, client, &[again]), [None]);
}

#[test]
fn requests_per_second() {
    let (mut world, client) = limited(Limits { requests_per_s: 10, requests_burst: 5, ..Limits::default() });
    let ask = |world: &mut World| {
        let requests: Vec<_> = (0..10).map(|_| world.session(client).publish_namespace(uplink(), Vec::new())).collect();
        let refused = refusals(world, client, &requests);
        requests.iter().for_each(|request| world.session(client).cancel(*request));
        refused.iter().filter(|refused| **refused == code(LOAD)).count()
    };
    assert_eq!(ask(&mut world), 5);
    world.run_for(Duration::from_secs(10));
    assert_eq!(ask(&mut world), 5);
}

/// A relay with so many namespaces.
fn announced(count: u32) -> World {
    let mut world = World::new();
    let limits = Limits { publications: 10_000, requests_burst: 10_000, ..Limits::default() };
    let publisher = world.client_that(May::everything(), limits);
    for i in 0..count {
        world.session(publisher).publish_namespace(numbered(i), Vec::new());
    }
    world.settle();
    world
}

fn numbered(i: u32) -> TrackNamespace {
    TrackNamespace::new([Vec::from(if i < 4 { b"few" } else { b"all" }), i.to_be_bytes().to_vec()]).unwrap()
}

#[test]
fn namespaces_in_one_listing() {
    let mut world = announced(20);
    let listener = world.client_that(May::everything(), Limits { listed: 4, ..Limits::default() });
    let few = world.session(listener).subscribe_namespace(namespace(&["few"]), Vec::new());
    let all = world.session(listener).subscribe_namespace(namespace(&["all"]), Vec::new());
    assert_eq!(refusals(&mut world, listener, &[few, all]), [None, code(RequestErrorCode::NamespaceTooLarge)]);
    assert_eq!(world.core.counters().over_listed, 1);
    // Nor does it move there.
    let update = Update { prefix: Some(namespace(&["all"])), ..Update::default() };
    world.session(listener).update(few, update);
    world.settle();
    assert_eq!(world.core.counters().over_listed, 2);
    let other = world.client();
    let all = world.session(other).subscribe_namespace(namespace(&["all"]), Vec::new());
    assert_eq!(refusals(&mut world, other, &[all]), [None]);
    assert_eq!(Limits::default().listed, 4096);
}

/// What is listed at once costs requests, as often as it is asked for: each 64 namespaces one.
#[test]
fn asking_again_and_again_for_many_namespaces_meets_the_rate_of_requests() {
    let mut world = announced(4 + 3 * constants::NAMESPACES_PER_REQUEST as u32);
    let limits = Limits { requests_per_s: 1, requests_burst: 10, ..Limits::default() };
    let listener = world.client_that(May::everything(), limits);
    let asked = [(); 3].map(|()| {
        let request = world.session(listener).subscribe_namespace(namespace(&["all"]), Vec::new());
        world.run_for(Duration::from_millis(100));
        world.session(listener).cancel(request);
        request
    });
    assert_eq!(refusals(&mut world, listener, &asked), [None, None, code(LOAD)]);
    assert_eq!(world.core.counters().over_requests, 1);
}

/// A session that dies gives everything back.
#[test]
fn nothing_is_left_of_a_session() {
    let mut world = World::new();
    let client = world.client();
    NAMES.iter().for_each(|name| _ = world.session(client).subscribe(held(name)));
    world.session(client).publish_namespace(uplink(), Vec::new());
    world.session(client).subscribe_namespace(uplink(), Vec::new());
    world.session(client).publish(named(uplink(), "x"), TrackProperties::default(), Vec::new());
    world.settle();
    assert_eq!(world.core.counters().tracks, 6);
    world.kill(client);
    let counters = world.core.counters();
    assert_eq!((counters.tracks, counters.namespaces, counters.sessions), (0, 0, 0));
    assert_eq!(world.core.poll_timeout(), None);
}

/// A world with two sessions of one token and one of another.
fn two_sessions_of_one_token(limits: Limits) -> (World, [usize; 2], usize) {
    let mut world = World::new();
    world.publisher();
    let may = |identity| May { identity: Some(identity), ..May::everything() };
    let sessions = [world.client_that(may("acme"), limits), world.client_that(may("acme"), limits)];
    let other = world.client_that(may("other"), limits);
    (world, sessions, other)
}

#[test]
fn a_token_has_no_more_subscriptions_in_two_sessions_than_in_one() {
    let (mut world, sessions, other) = two_sessions_of_one_token(Limits { subscriptions: 3, ..Limits::default() });
    let ask = |world: &mut World, key: usize, names: &[&'static str]| {
        let live = |name: &&'static str| subscribe(named(uplink(), name), None);
        let requests: Vec<_> = names.iter().map(|name| world.session(key).subscribe(live(name))).collect();
        (refusals(world, key, &requests), requests)
    };
    let (refused, requests) = ask(&mut world, sessions[0], &["a", "b"]);
    assert_eq!(refused, [None, None]);
    assert_eq!(ask(&mut world, sessions[1], &["a", "b"]).0, [None, code(LOAD)]);
    assert_eq!(ask(&mut world, other, &["a", "b", "c", "d"]).0, [None, None, None, code(LOAD)]);
    let counters = world.core.counters();
    assert_eq!((counters.over_subscriptions, counters.over_token, counters.excessive, counters.tokens), (2, 1, 2, 2));
    // What one session gives back, the other may have; and what a dead one had.
    world.session(sessions[0]).cancel(requests[0]);
    world.settle();
    assert_eq!(ask(&mut world, sessions[1], &["c", "d"]).0, [None, code(LOAD)]);
    world.kill(sessions[0]);
    assert_eq!(ask(&mut world, sessions[1], &["d", "e"]).0, [None, code(LOAD)]);
}

#[test]
fn a_token_has_no_more_names_held_requests_or_bytes_in_two_sessions() {
    let limits = Limits { publications: 2, held: 2, name_bytes: 40, ..Limits::default() };
    let (mut world, sessions, _) = two_sessions_of_one_token(limits);
    let announce = |world: &mut World, key: usize, name: &'static str| {
        let request = world.session(key).publish_namespace(namespace(&[name]), Vec::new());
        refusals(world, key, &[request])[0]
    };
    assert_eq!(announce(&mut world, sessions[0], "a"), None);
    assert_eq!(announce(&mut world, sessions[1], "b"), None);
    assert_eq!(announce(&mut world, sessions[0], "c"), code(LOAD));
    assert_eq!((world.core.counters().over_publications, world.core.counters().over_token), (1, 1));
    let hold = |world: &mut World, key: usize, name: &'static str| {
        let request = world.session(key).subscribe(held(name));
        refusals(world, key, &[request])[0]
    };
    // Nine bytes of names each.
    assert_eq!([hold(&mut world, sessions[0], "1a"), hold(&mut world, sessions[1], "2b")], [None, None]);
    assert_eq!(hold(&mut world, sessions[1], "3c"), code(LOAD));
    assert_eq!(world.core.counters().over_held, 1);
    world.run_for(Duration::from_secs(21));
    assert_eq!(hold(&mut world, sessions[1], "a name of more bytes than are left"), code(LOAD));
    assert_eq!((world.core.counters().over_name_bytes, world.core.counters().held), (1, 0));
}

/// §7 of nothing that we wrote, but HTTP/2's Rapid Reset: what is cancelled at once has cost its request all the same.
#[test]
fn subscribing_and_cancelling_in_turns_is_bounded_also_over_sessions() {
    let limits = Limits { requests_per_s: 10, requests_burst: 20, ..Limits::default() };
    let (mut world, sessions, other) = two_sessions_of_one_token(limits);
    let rapid = |world: &mut World, key: usize| {
        let mut refused = 0;
        for _ in 0..30 {
            let request = world.session(key).subscribe(subscribe(named(uplink(), "audio"), None));
            world.run_for(Duration::from_millis(20));
            refused += usize::from(world.refused(key, request) == code(LOAD));
            world.session(key).cancel(request);
        }
        refused
    };
    let asked = |world: &World| world.clients[0].asked.len();
    // 30 turns of 20 ms bring six more tokens: 26 requests pass.
    let refused = rapid(&mut world, sessions[0]);
    assert!((3..=5).contains(&refused), "{refused}");
    let first = asked(&world);
    assert!(first <= 27, "{first} upstream subscriptions");
    // The token's burst is gone as well: its other session gets what the token's rate brings, not a burst of its own.
    let refused = rapid(&mut world, sessions[1]);
    assert!(refused >= 20, "{refused}");
    assert!(rapid(&mut world, other) <= 5, "another token has its own");
    assert!(world.core.counters().over_requests > 20);
}

#[test]
fn a_flood_of_namespaces_is_bounded_in_names_and_bytes() {
    let (mut world, sessions, _) = two_sessions_of_one_token(Limits::default());
    for i in 0..1000_u32 {
        let long = TrackNamespace::new([vec![b'x'; 4000], i.to_be_bytes().to_vec()]).unwrap();
        world.session(sessions[i as usize % 2]).publish_namespace(long, Vec::new());
        if i % 100 == 0 {
            world.run_for(Duration::from_secs(4));
        }
    }
    world.settle();
    let counters = world.core.counters();
    // One for the publisher of the world.
    assert_eq!(counters.namespaces - 1, 256 * 1024 / 4004);
    assert_eq!(counters.over_name_bytes, 1000 - 256 * 1024 / 4004);
    world.kill(sessions[0]);
    world.kill(sessions[1]);
    assert_eq!(world.core.counters().namespaces, 1);
}

#[test]
fn a_relay_may_hold_for_less_than_asked() {
    let (mut world, client) = limited(Limits { rendezvous: Duration::from_secs(3), ..Limits::default() });
    let request = world.session(client).subscribe(held("a"));
    world.run_for(Duration::from_millis(2900));
    assert_eq!((world.refused(client, request), world.core.counters().held), (None, 1));
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.refused(client, request), code(RequestErrorCode::Timeout));
}

#[test]
fn an_update_is_a_request_too_and_one_too_many_ends_its_subscription() {
    let (mut world, client) = limited(Limits { requests_per_s: 1, requests_burst: 4, ..Limits::default() });
    let request = world.subscribe(client, None);
    let other = world.client();
    world.subscribe(other, None);
    let update = |world: &mut World, forward| {
        world.session(client).update_forward(request, forward);
        world.run_for(Duration::from_millis(10));
    };
    for forward in [false, true, false] {
        update(&mut world, forward);
    }
    assert_eq!((world.done(client), world.core.counters().over_requests), (None, 0));
    // The subscription took one of four, and the time since brings less than one: the next update is too many at once.
    update(&mut world, true);
    update(&mut world, false);
    assert_eq!(world.done(client), done(PublishDoneCode::UpdateFailed));
    let why = world.clients[client].heard.iter().find_map(|event| match event {
        Event::UpdateError { error, .. } => Some((error.code, error.retry_after.is_some())),
        _ => None,
    });
    assert_eq!(why, Some((RequestErrorCode::ExcessiveLoad as u64, true)));
    let counters = world.core.counters();
    assert_eq!((counters.over_requests, counters.excessive, counters.subscriptions), (1, 1, 1));
    world.whole(0, 1);
    assert_eq!((world.objects(client).len(), world.objects(other).len()), (0, 3), "nobody else notices");
}
