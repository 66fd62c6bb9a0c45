//! How tracks end: said, or not.

use std::time::Duration;

use super::world::{World, audio, done, subscribe, uplink};
use crate::moqt::message::{Filter, Location, PublishDone, Subscribe, Update};
use crate::moqt::relay::constants;
use crate::moqt::session::Role;
use crate::moqt::session::tests::pair::Conditions;
use crate::moqt::{Draft, Event, PublishDoneCode, ResetCode};

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

/// A filter with a last group: until draft 18 the subscription ends behind it, since then its subscriber may widen it.
#[test]
fn a_subscription_ends_with_the_range_of_its_filter() {
    for (seed, draft) in (1..).zip(Draft::ALL) {
        let mut world = World::new();
        let publisher = world.publisher();
        let stays = world.client();
        world.subscribe(stays, None);
        world.conditions = Conditions { draft, ..Conditions::rough(seed) };
        let listener = world.client();
        let filter = Some(Filter::AbsoluteRange { start: Location { group: 1, object: 1 }, end_group: 2 });
        let request = world.session(listener).subscribe(Subscribe { filter, ..subscribe(audio(), None) });
        world.settle();
        assert!(world.is_answered(listener, request));
        world.whole(publisher, 1);
        // The next group may come while the last one is still on its way.
        let last = world.group(publisher, 2);
        world.send(publisher, last, 2, 0..2);
        let behind = world.group(publisher, 3);
        world.send(publisher, behind, 3, 0..1);
        assert_eq!(world.done(listener), None, "{draft:?}");
        world.send(publisher, last, 2, 2..3);
        world.session(publisher).finish_subgroup(last);
        world.settle();
        assert_eq!(world.objects(listener), [(1, 1), (1, 2), (2, 0), (2, 1), (2, 2)], "{draft:?}");
        let over = done(PublishDoneCode::SubscriptionEnded).filter(|_| draft.ends_subscriptions());
        assert_eq!((world.done(listener), world.done(stays)), (over, None), "{draft:?}");
        let left = 1 + usize::from(over.is_none());
        assert_eq!(world.core.counters().subscriptions, left, "{draft:?}");
    }
}

/// What a session was in the middle of when it died is reset behind it.
#[test]
fn what_a_dead_publisher_left_open_is_reset_with_its_reason() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    let subgroup = world.group(publisher, 1);
    world.send(publisher, subgroup, 1, 0..2);
    world.kill(publisher);
    let end = world.clients[listener].heard.iter().find_map(|event| match event {
        Event::SubgroupEnd { reset, .. } => Some(*reset),
        _ => None,
    });
    assert_eq!(end, Some(Some(ResetCode::SessionClosed as u64)));
    assert_eq!(world.done(listener), done(PublishDoneCode::InternalError));
}

/// A range that an update narrows ends too, also of datagrams.
#[test]
fn a_range_that_an_update_narrows_ends() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    let request = world.subscribe(listener, None);
    let upstream = world.clients[publisher].asked[0].0;
    let filter = Some(Filter::AbsoluteRange { start: Location::default(), end_group: 1 });
    world.session(listener).update(request, Update { filter, ..Update::default() });
    world.settle();
    for group in 1..3 {
        assert_eq!(world.done(listener), None);
        world.session(publisher).send_datagram(upstream, &super::world::object(group, 0)).unwrap();
        world.settle();
    }
    assert_eq!(
        (world.objects(listener), world.done(listener)),
        (vec![(1, 0)], done(PublishDoneCode::SubscriptionEnded))
    );
    assert_eq!(world.core.counters().tracks, 0, "nobody wants it any more");
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
