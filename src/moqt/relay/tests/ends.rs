//! How tracks end: said, or not.

use std::time::Duration;

use super::world::{World, done, uplink};
use crate::moqt::message::PublishDone;
use crate::moqt::relay::constants;
use crate::moqt::session::Role;
use crate::moqt::{Event, PublishDoneCode};

fn ended(code: PublishDoneCode) -> PublishDone {
    PublishDone { code: code as u64, streams: 0, reason: "over".into() }
}

#[test]
fn a_publishers_end_is_passed_on_behind_its_streams() {
    for seed in 0..10 {
        let mut world = World::new();
        world.conditions = crate::moqt::session::tests::pair::Conditions::rough(seed);
        let publisher = world.publisher();
        let listener = world.client();
        world.subscribe(listener, None);
        let upstream = world.clients[publisher].asked[0].0;
        for group in 0..5 {
            let subgroup = world.group(publisher, group);
            for id in 0..3 {
                world.session(publisher).send_object(subgroup, &super::world::object(group, id));
            }
        }
        world.session(publisher).end_publication(upstream, ended(PublishDoneCode::TrackEnded));
        world.settle();
        assert_eq!(world.objects(listener).len(), 15, "seed {seed}");
        assert_eq!(world.done(listener), done(PublishDoneCode::TrackEnded));
        assert_eq!((world.core.counters().tracks, world.core.poll_timeout()), (0, None));
    }
}

#[test]
fn streams_that_never_come_are_waited_for_within_a_bound() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    let upstream = world.clients[publisher].asked[0].0;
    // Counted, and reset before its header leaves.
    world.clients[publisher].pair.stall(Role::Client, true);
    let subgroup = world.session(publisher).open_subgroup(upstream, &super::world::header(1)).unwrap();
    world.session(publisher).reset_subgroup(subgroup, 1);
    world.clients[publisher].pair.stall(Role::Client, false);
    world.session(publisher).end_publication(upstream, ended(PublishDoneCode::TrackEnded));
    world.settle();
    assert_eq!(world.done(listener), None);
    world.run_for(constants::LATE_STREAMS);
    assert_eq!(world.done(listener), done(PublishDoneCode::TrackEnded));
}

#[test]
fn codes_about_the_publisher_and_us_stay_with_us() {
    for (code, expected) in [
        (PublishDoneCode::TrackEnded, PublishDoneCode::TrackEnded),
        (PublishDoneCode::GoingAway, PublishDoneCode::GoingAway),
        (PublishDoneCode::TooFarBehind, PublishDoneCode::InternalError),
        (PublishDoneCode::Unauthorized, PublishDoneCode::InternalError),
    ] {
        let mut world = World::new();
        let publisher = world.publisher();
        let listener = world.client();
        world.subscribe(listener, None);
        let upstream = world.clients[publisher].asked[0].0;
        world.session(publisher).end_publication(upstream, ended(code));
        world.settle();
        assert_eq!(world.done(listener), done(expected));
    }
}

#[test]
fn a_session_that_dies_reads_internal_error() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    let subgroup = world.group(publisher, 1);
    world.send(publisher, subgroup, 1, 0..2);
    world.kill(publisher);
    assert_eq!(world.done(listener), done(PublishDoneCode::InternalError));
    // The stream that was open is reset, never finished.
    let ends: Vec<_> = world.clients[listener]
        .heard
        .iter()
        .filter_map(|event| match event {
            Event::SubgroupEnd { reset, .. } => Some(*reset),
            _ => None,
        })
        .collect();
    assert!(matches!(ends[..], [] | [Some(_)]), "{ends:?}");
    let counters = world.core.counters();
    assert_eq!((counters.tracks, counters.namespaces, counters.subscriptions, counters.sessions), (0, 0, 0, 1));
}

#[test]
fn a_publisher_that_drops_its_request_reads_internal_error() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    let upstream = world.clients[publisher].asked[0].0;
    world.session(publisher).cancel(upstream);
    world.settle();
    assert_eq!(world.done(listener), done(PublishDoneCode::InternalError));
}

#[test]
fn a_publisher_that_comes_back_is_heard_again() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    world.whole(publisher, 7);
    world.kill(publisher);
    let again = world.subscribe(listener, Some(Duration::from_secs(30)));
    assert!(!world.is_answered(listener, again));
    let back = world.publisher();
    assert!(world.is_answered(listener, again));
    // It may number as before.
    world.whole(back, 7);
    assert_eq!(world.objects(listener).len(), 6);
}

#[test]
fn a_subscribers_death_is_nobody_elses_affair() {
    let mut world = World::new();
    let publisher = world.publisher();
    let (dies, stays) = (world.client(), world.client());
    world.subscribe(dies, None);
    world.subscribe(stays, None);
    let subgroup = world.group(publisher, 1);
    world.send(publisher, subgroup, 1, 0..2);
    world.kill(dies);
    world.send(publisher, subgroup, 1, 2..4);
    assert_eq!((world.objects(stays).len(), world.core.counters().subscriptions), (4, 1));
}

#[test]
fn withdrawing_a_namespace_ends_no_subscription() {
    let mut world = World::new();
    let publisher = world.client();
    world.clients[publisher].serves = Some(Default::default());
    let announced = world.announce(publisher, uplink());
    let listener = world.client();
    world.subscribe(listener, None);
    world.session(publisher).cancel(announced);
    world.settle();
    world.whole(publisher, 1);
    assert_eq!((world.done(listener), world.objects(listener).len()), (None, 3));
    assert_eq!(world.core.counters().namespaces, 0);
}
