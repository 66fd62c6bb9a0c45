//! Several publishers of one track: duplicates, successors, leases, PUBLISH.

use super::world::{May, World, audio, code, named, namespace, object, subscribe, uplink};
use crate::moqt::message::{SubscribeOk, TrackProperties};
use crate::moqt::relay::Limits;
use crate::moqt::session::RequestId;
use crate::moqt::{Event, RequestErrorCode};

/// A client with a lease that announced the uplink.
fn holder(world: &mut World, track: &'static str, holder: &str, epoch: u64) -> (usize, RequestId) {
    let key = world.client_that(May::lease(track, holder, epoch), Limits::default());
    world.clients[key].serves = Some(SubscribeOk::default());
    let request = world.announce(key, uplink());
    (key, request)
}

#[test]
fn all_publishers_are_asked_and_each_object_passes_once() {
    let mut world = World::new();
    let publishers = [world.publisher(), world.publisher()];
    let listener = world.client();
    world.subscribe(listener, None);
    for group in 1..4 {
        let subgroups = publishers.map(|key| world.group(key, group));
        for id in 0..3 {
            for (key, subgroup) in publishers.into_iter().zip(subgroups) {
                world.session(key).send_object(subgroup, &object(group, id));
                world.settle();
            }
        }
        for (key, subgroup) in publishers.into_iter().zip(subgroups) {
            world.session(key).finish_subgroup(subgroup);
        }
        world.settle();
    }
    let all: Vec<_> = (1..4).flat_map(|group| (0..3).map(move |id| (group, id))).collect();
    assert_eq!(world.objects(listener), all);
    assert_eq!(world.core.counters().duplicates, 9);
}

#[test]
fn datagrams_of_two_publishers_pass_once() {
    let mut world = World::new();
    let publishers = [world.publisher(), world.publisher()];
    let listener = world.client();
    world.subscribe(listener, None);
    for group in 0..5 {
        for key in publishers {
            let upstream = world.clients[key].asked[0].0;
            world.session(key).send_datagram(upstream, &object(group, 0)).unwrap();
            world.settle();
        }
    }
    assert_eq!((world.objects(listener).len(), world.core.counters().duplicates), (5, 5));
}

#[test]
fn the_other_publisher_goes_on_where_one_dies() {
    let mut world = World::new();
    let (first, second) = (world.publisher(), world.publisher());
    let listener = world.client();
    world.subscribe(listener, None);
    let (a, b) = (world.group(first, 1), world.group(second, 1));
    for id in 0..3 {
        world.send(first, a, 1, id..id + 1);
        world.send(second, b, 1, id..id + 1);
    }
    world.kill(first);
    assert_eq!(world.done(listener), None);
    world.send(second, b, 1, 3..6);
    assert_eq!(world.objects(listener), [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]);
}

#[test]
fn a_publisher_that_comes_later_is_asked_too() {
    let mut world = World::new();
    let first = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    let second = world.publisher();
    assert_eq!((world.clients[first].asked.len(), world.clients[second].asked.len()), (1, 1));
    // Announcing once more asks nothing more.
    world.announce(second, namespace(&["voice", "CA1"]));
    assert_eq!(world.clients[second].asked.len(), 1);
    world.whole(second, 5);
    assert_eq!(world.objects(listener).len(), 3);
}

#[test]
fn a_leased_publisher_is_asked_for_its_track_only() {
    let mut world = World::new();
    let (key, _) = holder(&mut world, "audio", "agent", 1);
    let listener = world.client();
    let other = world.session(listener).subscribe(subscribe(named(uplink(), "pcm16"), None));
    let own = world.session(listener).subscribe(subscribe(audio(), None));
    world.settle();
    assert_eq!(world.refused(listener, other), code(RequestErrorCode::DoesNotExist));
    assert!(world.is_answered(listener, own));
    assert_eq!(world.clients[key].asked.len(), 1);
    // Nor may it PUBLISH another.
    let publish = world.session(key).publish(named(uplink(), "pcm16"), TrackProperties::default(), Vec::new());
    world.settle();
    assert_eq!(world.refused(key, publish), code(RequestErrorCode::Unauthorized));
}

#[test]
fn a_newer_epoch_replaces_the_older_of_its_holder() {
    let mut world = World::new();
    let (old, _) = holder(&mut world, "audio", "agent", 1);
    let listener = world.client();
    world.subscribe(listener, None);
    world.whole(old, 1);
    let (new, _) = holder(&mut world, "audio", "agent", 2);
    // The old one is cancelled, the subscriber stays.
    let upstream = world.clients[old].asked[0].0;
    assert!(world.clients[old].heard.contains(&Event::Cancelled { request: upstream }));
    assert_eq!((world.done(listener), world.core.counters().superseded), (None, 1));
    world.whole(new, 2);
    assert_eq!(world.objects(listener).len(), 6);
    // A later subscriber is not taken to the old one.
    let late = world.client();
    world.subscribe(late, None);
    assert_eq!((world.clients[old].asked.len(), world.clients[new].asked.len()), (1, 1));
}

#[test]
fn an_older_epoch_is_refused_while_a_newer_publishes() {
    let mut world = World::new();
    holder(&mut world, "audio", "agent", 2);
    let (old, request) = holder(&mut world, "audio", "agent", 1);
    assert_eq!(world.refused(old, request), code(RequestErrorCode::Unauthorized));
    let publish = world.session(old).publish(audio(), TrackProperties::default(), Vec::new());
    let listener = world.client();
    world.subscribe(listener, None);
    assert!(world.clients[old].asked.is_empty() && publish != request);
}

#[test]
fn holders_and_tracks_are_told_apart() {
    let mut world = World::new();
    let (agent, _) = holder(&mut world, "audio", "agent", 1);
    let (other, _) = holder(&mut world, "audio", "bridge", 1);
    let (pcm, _) = holder(&mut world, "pcm16", "agent", 9);
    assert_eq!(world.core.counters().superseded, 0);
    let listener = world.client();
    world.subscribe(listener, None);
    assert_eq!([agent, other, pcm].map(|key| world.clients[key].asked.len()), [1, 1, 0]);
}

/// On a link that many share, a holder comes back after a loss with the token it has; meanwhile the right may be another's.
#[test]
fn whoever_was_given_the_lease_last_speaks() {
    let mut world = World::new();
    let (lost, _) = holder(&mut world, "audio", "lost", 1);
    let listener = world.client();
    world.subscribe(listener, None);
    let (next, _) = holder(&mut world, "audio", "next", 2);
    let upstream = world.clients[lost].asked[0].0;
    assert!(world.clients[lost].heard.contains(&Event::Cancelled { request: upstream }));
    let (back, request) = holder(&mut world, "audio", "lost", 1);
    assert_eq!(world.refused(back, request), code(RequestErrorCode::Unauthorized));
    world.whole(next, 2);
    assert_eq!((world.objects(listener).len(), world.done(listener)), (3, None));
}

#[test]
fn a_published_track_is_forwarded_without_being_asked_for() {
    let mut world = World::new();
    let publisher = world.client();
    let request = world.session(publisher).publish(audio(), TrackProperties::default(), Vec::new());
    world.settle();
    assert!(world.is_answered(publisher, request));
    let listener = world.client();
    let subscription = world.subscribe(listener, None);
    assert!(world.is_answered(listener, subscription) && world.clients[publisher].asked.is_empty());
    let subgroup = world.session(publisher).open_subgroup(request, &super::world::header(1)).unwrap();
    world.send(publisher, subgroup, 1, 0..3);
    assert_eq!(world.objects(listener).len(), 3);
    // It stays when nobody listens.
    world.session(listener).cancel(subscription);
    world.settle();
    assert_eq!(world.core.counters().tracks, 1);
    world.session(publisher).cancel(request);
    world.settle();
    assert_eq!(world.core.counters().tracks, 0);
}

#[test]
fn a_track_is_published_once_per_session() {
    let mut world = World::new();
    let publisher = world.client();
    let properties = TrackProperties::default();
    let first = world.session(publisher).publish(audio(), properties.clone(), Vec::new());
    let second = world.session(publisher).publish(audio(), properties, Vec::new());
    world.settle();
    assert!(world.is_answered(publisher, first));
    assert_eq!(world.refused(publisher, second), code(RequestErrorCode::DuplicateSubscription));
}

#[test]
fn a_publish_that_crosses_our_subscribe_wins() {
    let mut world = World::new();
    let publisher = world.publisher();
    world.clients[publisher].serves = None;
    let listener = world.client();
    let subscription = world.subscribe(listener, None);
    let upstream = world.clients[publisher].asked[0].0;
    let request = world.session(publisher).publish(audio(), TrackProperties::default(), Vec::new());
    world.settle();
    assert!(world.is_answered(publisher, request) && world.is_answered(listener, subscription));
    assert!(world.clients[publisher].heard.contains(&Event::Cancelled { request: upstream }));
    let subgroup = world.session(publisher).open_subgroup(request, &super::world::header(1)).unwrap();
    world.send(publisher, subgroup, 1, 0..2);
    assert_eq!(world.objects(listener), [(1, 0), (1, 1)]);
}

#[test]
fn namespaces_are_listed_as_they_come_and_go() {
    let mut world = World::new();
    let publisher = world.client();
    let first = world.announce(publisher, uplink());
    let listener = world.client();
    let request = world.session(listener).subscribe_namespace(namespace(&["voice"]), Vec::new());
    world.settle();
    let other = world.client();
    world.announce(other, namespace(&["voice", "CA2", "uplink"]));
    // A second publisher of the same namespace is no news, nor is the end of one of two.
    let again = world.announce(other, uplink());
    world.session(publisher).cancel(first);
    world.settle();
    world.session(other).cancel(again);
    world.settle();
    let suffix = |sid: &'static str| namespace(&[sid, "uplink"]);
    let told: Vec<Event> = world.clients[listener].heard.iter().skip(1).cloned().collect();
    let expected = [
        Event::RequestOk { request },
        Event::Namespace { request, suffix: suffix("CA1") },
        Event::Namespace { request, suffix: suffix("CA2") },
        Event::NamespaceDone { request, suffix: suffix("CA1") },
    ];
    assert_eq!(told, expected);
    let overlap = world.session(listener).subscribe_namespace(uplink(), Vec::new());
    world.settle();
    assert_eq!(world.refused(listener, overlap), code(RequestErrorCode::PrefixOverlap));
}
