//! A subscriber whose link does not take what comes.

use std::time::Duration;

use bytes::Bytes;

use super::world::{May, World, done, named, object, subscribe, uplink};
use crate::moqt::relay::{Limits, constants};
use crate::moqt::session::Role;
use crate::moqt::{Event, Object, PublishDoneCode};

/// A publisher, a listener whose link is stalled from now on, and one whose link is not.
fn world(limits: Limits) -> (World, usize, usize, usize) {
    let mut world = World::new();
    let publisher = world.publisher();
    let slow = world.client_that(May::everything(), limits);
    let quick = world.client();
    world.subscribe(slow, None);
    world.subscribe(quick, None);
    world.clients[slow].pair.stall(Role::Server, true);
    (world, publisher, slow, quick)
}

#[test]
fn too_many_bytes_end_the_subscription_and_nobody_else_notices() {
    let limits = Limits { backlog_bytes: 10_000, ..Limits::default() };
    let (mut world, publisher, slow, quick) = world(limits);
    let subgroup = world.group(publisher, 1);
    for id in 0..20 {
        let payload = Bytes::from(vec![7; 1000]);
        world.session(publisher).send_object(subgroup, &Object { payload, ..object(1, id) });
    }
    world.run_for(Duration::from_millis(100));
    assert_eq!((world.core.counters().too_far_behind, world.core.counters().behind_bytes), (1, 1));
    assert_eq!(world.objects(quick).len(), 20);
    assert_eq!(world.core.counters().subscriptions, 1);
    world.clients[slow].pair.stall(Role::Server, false);
    world.settle();
    assert_eq!(world.done(slow), done(PublishDoneCode::TooFarBehind));
    // What was on its way is reset, not finished.
    assert!(!world.clients[slow].heard.iter().any(|event| matches!(event, Event::SubgroupEnd { reset: None, .. })));
    world.send(publisher, subgroup, 1, 20..25);
    assert_eq!(world.objects(quick).len(), 25);
    // It may come back.
    let again = world.subscribe(slow, None);
    assert!(world.is_answered(slow, again));
    world.whole(publisher, 2);
    assert!(world.objects(slow).ends_with(&[(2, 0), (2, 1), (2, 2)]));
}

#[test]
fn too_old_a_byte_ends_the_subscription_though_it_is_a_thin_track() {
    let (mut world, publisher, slow, quick) = world(Limits::default());
    let subgroup = world.group(publisher, 1);
    let begin = world.now;
    let mut id = 0;
    while world.core.counters().too_far_behind == 0 {
        world.session(publisher).send_object(subgroup, &object(1, id));
        world.run_for(Duration::from_millis(20));
        id += 1;
        assert!(id < 1000);
    }
    let age = world.now - begin;
    assert!(age > constants::BACKLOG_AGE && age < constants::BACKLOG_AGE + Duration::from_millis(300), "{age:?}");
    world.clients[slow].pair.stall(Role::Server, false);
    world.settle();
    assert_eq!(world.done(slow), done(PublishDoneCode::TooFarBehind));
    assert_eq!((world.objects(quick).len() as u64, world.core.counters().behind_age), (id, 1));
}

#[test]
fn a_link_that_stops_for_a_second_is_forgiven() {
    let (mut world, publisher, slow, _) = world(Limits::default());
    let subgroup = world.group(publisher, 1);
    for id in 0..200 {
        if id == 50 {
            world.clients[slow].pair.stall(Role::Server, false);
        }
        world.session(publisher).send_object(subgroup, &object(1, id));
        world.run_for(Duration::from_millis(20));
    }
    world.settle();
    assert_eq!((world.core.counters().too_far_behind, world.objects(slow).len()), (0, 200));
}

#[test]
fn the_last_subscriber_that_falls_behind_ends_the_upstream_subscription() {
    let mut world = World::new();
    let publisher = world.publisher();
    let slow = world.client_that(May::everything(), Limits { backlog_bytes: 100, ..Limits::default() });
    world.subscribe(slow, None);
    world.clients[slow].pair.stall(Role::Server, true);
    let upstream = world.clients[publisher].asked[0].0;
    let subgroup = world.group(publisher, 1);
    for id in 0..100 {
        world.session(publisher).send_object(subgroup, &object(1, id));
    }
    world.settle();
    assert!(world.clients[publisher].heard.contains(&Event::Cancelled { request: upstream }));
    assert_eq!(world.core.counters().tracks, 0);
}

#[test]
fn silence_is_not_age() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    for group in 0..3 {
        world.whole(publisher, group);
        world.run_for(Duration::from_secs(60));
    }
    assert_eq!((world.core.counters().too_far_behind, world.objects(listener).len()), (0, 9));
}

/// Many subscriptions, each within its bound: together they hold what the session may hold, and the widest makes room.
#[test]
fn a_sessions_bytes_are_bounded_over_all_its_subscriptions() {
    let mut world = World::new();
    let publisher = world.publisher();
    let limits = Limits { session_backlog_bytes: 20_000, ..Limits::default() };
    let slow = world.client_that(May::everything(), limits);
    let names = ["thin", "wide", "thin too"];
    for name in names {
        world.session(slow).subscribe(subscribe(named(uplink(), name), None));
        world.settle();
    }
    world.clients[slow].pair.stall(Role::Server, true);
    let upstream: Vec<_> = world.clients[publisher].asked.iter().map(|(request, _)| *request).collect();
    let open = |world: &mut World, at: usize| {
        world.session(publisher).open_subgroup(upstream[at], &super::world::header(1)).unwrap()
    };
    let subgroups: Vec<_> = (0..3).map(|at| open(&mut world, at)).collect();
    for id in 0..12 {
        for (at, bytes) in [(0, 100), (1, 1800), (2, 100)] {
            let payload = Bytes::from(vec![7; bytes]);
            world.session(publisher).send_object(subgroups[at], &Object { payload, ..object(1, id) });
        }
        world.run_for(Duration::from_millis(20));
    }
    let counters = world.core.counters();
    assert_eq!((counters.behind_session, counters.too_far_behind, counters.subscriptions), (1, 1, 2));
    assert!(world.clients[slow].pair.server.unwritten() < 20_000);
    // The thin ones lost nothing.
    world.clients[slow].pair.stall(Role::Server, false);
    world.settle();
    assert_eq!(world.done(slow), done(PublishDoneCode::TooFarBehind));
    assert!(world.clients[slow].heard.iter().filter(|event| matches!(event, Event::Object { .. })).count() >= 24);
}
