//! Each limit of a session, reached.

use std::time::Duration;

use super::world::{May, World, code, named, namespace, subscribe, uplink};
use crate::moqt::message::{Subscribe, TrackProperties};
use crate::moqt::relay::{Limits, constants};
use crate::moqt::session::RequestId;
use crate::moqt::{RequestErrorCode, TrackNamespace};

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

#[test]
fn namespaces_in_one_listing() {
    let mut world = World::new();
    let limits = Limits { publications: 10_000, requests_burst: 10_000, ..Limits::default() };
    let publishers = [world.client_that(May::everything(), limits), world.client_that(May::everything(), limits)];
    for i in 0..=constants::LISTED as u32 {
        let name = TrackNamespace::new([i.to_be_bytes().to_vec()]).unwrap();
        world.session(publishers[i as usize % 2]).publish_namespace(name, Vec::new());
        if i % 500 == 0 {
            world.settle();
        }
    }
    world.settle();
    let listener = world.client();
    let request = world.session(listener).subscribe_namespace(TrackNamespace::default(), Vec::new());
    assert_eq!(refusals(&mut world, listener, &[request]), [code(RequestErrorCode::NamespaceTooLarge)]);
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
