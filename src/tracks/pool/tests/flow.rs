//! A track from its publisher to its subscribers and to its end.

use super::world::{World, name, payload, publication, relay, tokens};
use crate::moqt::message::{Setup, Subscribe};
use crate::moqt::session::tests::pair::Conditions;
use crate::moqt::session::{RequestId, Role};
use crate::moqt::{Event as Moqt, PublishDoneCode, RequestErrorCode};
use crate::tracks::{Delivery, Event, State, Written};

fn subscribe(track: &'static str) -> Subscribe {
    Subscribe::live(name(track))
}

#[test]
fn frames_arrive_once_in_order_with_their_stamps() {
    for (seed, delivery) in [(1, Delivery::Stream), (2, Delivery::Datagram), (3, Delivery::Stream)] {
        let mut world = World::new(2, relay());
        world.lines.conditions = Conditions { seed, chunk: if seed == 3 { 7 } else { 0 }, ..Conditions::default() };
        let (speaker, listener) = (world.lease(0), world.lease(1));
        let spoken = world.publish(0, speaker, publication("audio", delivery));
        let heard = world.subscribe(1, listener, "audio");
        world.run_ms(200);
        assert_eq!(world.count(0, |e| *e == Event::Subscribers { track: spoken, count: 1 }), 1);
        assert_eq!(world.count(1, |e| *e == Event::Live { track: heard }), 1);

        let written = world.speak(0, spoken, 0..200);
        assert!(written.iter().all(|w| *w == Written::Sent));
        world.run_ms(500);
        let expected: Vec<_> = (0..200).map(|n| (n, Some(n * 20_000), n)).collect();
        assert_eq!(world.heard(1, heard), expected);
        world.end(0, spoken);
        world.run_ms(5000);
        assert_eq!(world.told(1).last(), Some(&&Event::Ended { track: heard }));
        assert_eq!(world.count(1, |e| matches!(e, Event::Lost { .. })), 0);
        let (out, inn) = (world.pools[0].counters(), world.pools[1].counters());
        assert_eq!((out.frames_out, out.dials, inn.frames_in, inn.stale, inn.missing), (200, 1, 200, 0, 0));
    }
}

#[test]
fn a_subscriber_before_its_publisher_waits_without_end() {
    let mut world = World::new(2, relay());
    let listener = world.lease(1);
    let heard = world.subscribe(1, listener, "audio");
    world.run_ms(95_000);
    assert_eq!(world.pools[1].counters().resubscribes, 3, "the relay holds each for 30 s");
    let speaker = world.lease(0);
    let spoken = world.publish(0, speaker, publication("audio", Delivery::Stream));
    world.run_ms(300);
    world.speak(0, spoken, 0..10);
    world.run_ms(100);
    assert_eq!(world.heard(1, heard).len(), 10);
}

#[test]
fn several_tracks_of_a_namespace_announce_it_once_and_only_they_are_served() {
    let mut world = World::new(1, None);
    let lease = world.lease(0);
    let audio = world.publish(0, lease, publication("audio", Delivery::Stream));
    let other = world.publish(0, lease, publication("audio.pcm16.16000", Delivery::Stream));
    world.run_ms(100);
    let pair = world.only();
    let mut announced = Vec::new();
    while let Some(found) = pair.find(Role::Server, |event| match event {
        Moqt::PublishNamespace { namespace, request, .. } => Some((*request, namespace.clone())),
        _ => None,
    }) {
        pair.server.accept(found.0);
        announced.push(found.1);
    }
    assert_eq!(announced, [name("audio").namespace]);

    let requests = ["audio", "audio.pcm16.16000", "video"].map(|track| pair.server.subscribe(subscribe(track)));
    world.run_ms(100);
    let pair = world.only();
    let ok = |request| {
        move |event: &Moqt| match event {
            Moqt::SubscribeOk { request: of, .. } if *of == request => Some(Ok(())),
            Moqt::RequestError { request: of, error } if *of == request => Some(Err(error.code)),
            _ => None,
        }
    };
    let answers = requests.map(|request| pair.find(Role::Server, ok(request)).unwrap());
    assert_eq!(answers, [Ok(()), Ok(()), Err(RequestErrorCode::DoesNotExist as u64)]);

    // The namespace goes with the last of its tracks.
    world.pools[0].close(&mut world.lines, audio);
    world.run_ms(100);
    let cancelled = |event: &Moqt| matches!(event, Moqt::Cancelled { .. }).then_some(());
    assert_eq!(world.only().find(Role::Server, cancelled), None);
    world.pools[0].close(&mut world.lines, other);
    world.run_ms(100);
    assert_eq!(world.only().find(Role::Server, cancelled), Some(()));
}

#[test]
fn each_subscription_has_a_stream_of_its_own_and_joins_at_the_next_frame() {
    let mut world = World::new(3, relay());
    let leases = [0, 1, 2].map(|pool| world.lease(pool));
    let spoken = world.publish(0, leases[0], publication("audio", Delivery::Stream));
    let first = world.subscribe(1, leases[1], "audio");
    world.run_ms(200);
    world.speak(0, spoken, 0..30);
    let second = world.subscribe(2, leases[2], "audio");
    world.run_ms(100);
    world.speak(0, spoken, 30..130);
    world.run_ms(100);
    let numbers = |heard: Vec<(u64, Option<u64>, u64)>| heard.into_iter().map(|(n, ..)| n).collect::<Vec<_>>();
    assert_eq!(numbers(world.heard(1, first)), (0..130).collect::<Vec<_>>());
    assert_eq!(numbers(world.heard(2, second)), (30..130).collect::<Vec<_>>());
    assert_eq!(world.pools[2].counters().missing, 0, "what was said before is no loss");
}

#[test]
fn groups_are_seconds_and_end_whole() {
    let mut world = World::new(1, None);
    let lease = world.lease(0);
    let spoken = world.publish(0, lease, publication("audio", Delivery::Stream));
    world.run_ms(100);
    let request = world.only().server.subscribe(subscribe("audio"));
    world.run_ms(100);
    world.speak(0, spoken, 0..120);
    world.end(0, spoken);
    world.run_ms(100);
    let events: Vec<_> = world.only().server_events.drain(..).collect();
    let headers: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Moqt::Subgroup { header, .. } => Some(*header),
            _ => None,
        })
        .collect();
    let groups: Vec<_> = headers.iter().map(|header| header.group - headers[0].group).collect();
    assert_eq!((groups, headers[0].group), (vec![0, 1, 2], 1_700_000_000));
    assert!(headers.iter().all(|h| h.first_object && h.end_of_group && h.properties && h.priority == Some(64)));
    let ends = events.iter().filter(|event| matches!(event, Moqt::SubgroupEnd { reset: None, .. })).count();
    assert_eq!(ends, 3);
    let objects: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Moqt::Object { object, .. } => Some((object.group - 1_700_000_000, object.id, object.payload.is_empty())),
            _ => None,
        })
        .collect();
    assert_eq!(objects.last(), Some(&(2, 20, true)), "the end is the next object of the open group");
    assert_eq!(objects.len(), 121);
    let done = events.iter().find_map(|event| match event {
        Moqt::PublishDone { request: of, done } if *of == request => Some((done.code, done.streams)),
        _ => None,
    });
    assert_eq!(done, Some((PublishDoneCode::TrackEnded as u64, 3)));
}

#[test]
fn a_frame_too_large_for_a_datagram_travels_on_a_stream_of_its_own() {
    let mut world = World::new(2, relay());
    let (speaker, listener) = (world.lease(0), world.lease(1));
    let spoken = world.publish(0, speaker, publication("audio", Delivery::Datagram));
    let heard = world.subscribe(1, listener, "audio");
    world.run_ms(200);
    for n in 0..20 {
        let mut frame = payload(n).to_vec();
        frame.resize(if n % 4 == 0 { 1920 } else { 80 }, b'x');
        world.pools[0].write(&mut world.lines, spoken, n * 20_000, frame.into(), world.now);
        world.run_ms(20);
    }
    world.run_ms(200);
    let numbers: Vec<_> = world.heard(1, heard).into_iter().map(|(n, ..)| n).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert_eq!(world.pools[1].counters().missing, 0);
}

#[test]
fn lost_datagrams_are_counted_exactly() {
    let mut world = World::new(2, relay());
    world.lines.conditions.loss = 10;
    let (speaker, listener) = (world.lease(0), world.lease(1));
    let spoken = world.publish(0, speaker, publication("audio", Delivery::Datagram));
    let heard = world.subscribe(1, listener, "audio");
    world.run_ms(200);
    world.speak(0, spoken, 0..1000);
    world.run_ms(200);
    let heard = world.heard(1, heard);
    let (first, last) = (heard[0].0, heard[heard.len() - 1].0);
    let missing = world.pools[1].counters().missing;
    assert!(missing > 100 && heard.len() as u64 + missing == last - first + 1);
    assert!(heard.iter().all(|(n, _, sequence)| n - first == *sequence), "a place is left for each that is missing");
}

#[test]
fn frames_are_unheard_without_a_subscriber_and_offline_without_a_link() {
    let mut world = World::new(1, relay());
    let lease = world.lease(0);
    let spoken = world.publish(0, lease, publication("audio", Delivery::Stream));
    assert_eq!(world.write(0, spoken, 0), Written::Offline);
    world.run_ms(100);
    assert_eq!(world.write(0, spoken, 1), Written::Unheard);
    world.end(0, spoken);
    assert_eq!(world.write(0, spoken, 2), Written::Offline, "it has ended");
    let counters = world.pools[0].counters();
    assert_eq!((counters.offline, counters.unheard, counters.frames_out), (1, 1, 0));
}

#[test]
fn a_link_that_does_not_take_the_frames_loses_them_and_goes_on_with_a_new_group() {
    let mut world = World::new(1, None);
    let lease = world.lease(0);
    let spoken = world.publish(0, lease, publication("audio", Delivery::Stream));
    world.run_ms(100);
    world.only().server.subscribe(subscribe("audio"));
    world.run_ms(100);
    world.speak(0, spoken, 0..10);
    world.only().stall(Role::Client, true);
    let written = world.speak(0, spoken, 10..400);
    let first = written.iter().position(|w| *w == Written::Behind).unwrap();
    assert!((80..=140).contains(&first), "about two seconds of frames: {first}");
    world.only().stall(Role::Client, false);
    world.run_ms(100);
    let last = world.speak(0, spoken, 400..410);
    assert!(last.iter().all(|w| *w == Written::Sent));
    world.run_ms(100);
    let object = |event: &Moqt| match event {
        Moqt::Object { object, .. } => Some((object.payload.slice(6..12), object.group, object.id)),
        _ => None,
    };
    let objects: Vec<_> = world.only().server_events.drain(..).filter_map(|event| object(&event)).collect();
    let (_, group, _) = objects[objects.len() - 1].clone();
    let fresh: Vec<_> = objects.iter().filter(|(_, of, _)| *of == group).collect();
    let dropped = written.iter().rposition(|w| *w == Written::Behind).unwrap() as u64 + 10;
    for (i, (number, _, id)) in fresh.iter().enumerate() {
        let expected = (dropped + 1 + i as u64, i as u64);
        assert_eq!((std::str::from_utf8(number).unwrap().parse(), *id), (Ok(expected.0), expected.1));
    }
    assert_eq!(fresh.len() as u64, 410 - dropped - 1, "what comes after a drop is one group, whole");
    let counters = world.pools[0].counters();
    let behind = written.iter().filter(|w| **w == Written::Behind).count() as u64;
    assert_eq!((counters.behind, counters.frames_out), (behind, 410 - behind));
}

#[test]
fn whoever_subscribes_to_an_ended_track_hears_the_end() {
    let mut world = World::new(2, relay());
    let speaker = world.lease(0);
    let spoken = world.publish(0, speaker, publication("audio", Delivery::Stream));
    world.run_ms(100);
    world.end(0, spoken);
    let listener = world.lease(1);
    let heard = world.subscribe(1, listener, "audio");
    world.run_ms(1000);
    assert_eq!(world.told(1).last(), Some(&&Event::Ended { track: heard }));
}

#[test]
fn one_of_two_publishers_ends_the_track_for_all() {
    let mut world = World::new(3, relay());
    let leases = [0, 1, 2].map(|pool| world.lease(pool));
    let engine = world.publish(0, leases[0], publication("audio", Delivery::Stream));
    let bridge = world.publish(1, leases[1], publication("audio", Delivery::Stream));
    let heard = world.subscribe(2, leases[2], "audio");
    world.run_ms(200);
    world.speak(1, bridge, 0..75);
    assert_eq!(world.heard(2, heard).len(), 75);
    world.end(0, engine);
    world.run_ms(200);
    assert_eq!(world.told(2).last(), Some(&&Event::Ended { track: heard }));
    world.speak(1, bridge, 75..80);
    assert_eq!(world.heard(2, heard).len(), 75, "nothing follows");
}

#[test]
fn a_publisher_that_leaves_without_an_end_is_a_loss_and_is_waited_for() {
    let mut world = World::new(2, relay());
    let (speaker, listener) = (world.lease(0), world.lease(1));
    let spoken = world.publish(0, speaker, publication("audio", Delivery::Stream));
    let heard = world.subscribe(1, listener, "audio");
    world.run_ms(200);
    world.speak(0, spoken, 0..10);
    world.release(0, speaker);
    world.run_ms(1000);
    assert!(matches!(world.told(1).last(), Some(Event::Lost { track, .. }) if *track == heard));
    let speaker = world.lease(0);
    let spoken = world.publish(0, speaker, publication("audio", Delivery::Stream));
    world.run_ms(500);
    assert_eq!(world.told(1).last(), Some(&&Event::Live { track: heard }));
    world.speak(0, spoken, 10..20);
    world.run_ms(100);
    let numbers: Vec<_> = world.heard(1, heard).into_iter().map(|(n, ..)| n).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

#[test]
fn states_are_told_in_their_order() {
    let mut world = World::new(1, relay());
    world.supplies = false;
    let lease = world.lease(0);
    world.run_ms(0);
    let (_, dial, _) = world.wants[0];
    world.supply(0, dial, Err("the name does not resolve: check relay_host"));
    world.run_ms(10);
    world.supplies = true;
    world.run_ms(1000);
    world.supply(0, dial, Ok(Setup::default()));
    let states: Vec<_> = world.told(0).into_iter().cloned().collect();
    let reason = Some("the name does not resolve: check relay_host".to_owned());
    assert_eq!(
        states,
        [
            Event::State { lease, state: State::Connecting, reason: None },
            Event::State { lease, state: State::Connecting, reason },
            Event::State { lease, state: State::Connected, reason: None },
        ]
    );
    assert_eq!(world.pools[0].counters().dials, 1, "an answer counts once");
}

#[test]
fn leases_of_one_link_share_the_subscription_to_a_track() {
    let mut world = World::new(2, relay());
    let speaker = world.lease(0);
    let spoken = world.publish(0, speaker, publication("audio", Delivery::Stream));
    let route = world.route(1, 2);
    let leases = [0, 1].map(|_| world.pools[1].lease(route, tokens("ok"), world.now));
    let first = world.subscribe(1, leases[0], "audio");
    world.run_ms(200);
    world.speak(0, spoken, 0..10);
    let second = world.subscribe(1, leases[1], "audio");
    world.run_ms(100);
    assert_eq!(world.count(1, |e| *e == Event::Live { track: second }), 1);
    world.speak(0, spoken, 10..20);
    assert_eq!((world.heard(1, first).len(), world.heard(1, second).len()), (20, 10));
    assert_eq!(world.core.as_ref().unwrap().counters().subscriptions, 1);

    world.crash();
    world.run_ms(1000);
    world.speak(0, spoken, 20..30);
    assert_eq!((world.heard(1, first).len(), world.heard(1, second).len()), (30, 20));
    world.release(1, leases[0]);
    world.speak(0, spoken, 30..40);
    assert_eq!((world.heard(1, first).len(), world.heard(1, second).len()), (30, 30), "the other goes on");
    world.end(0, spoken);
    world.run_ms(200);
    assert_eq!(world.told(1).last(), Some(&&Event::Ended { track: second }));
    assert_eq!(world.core.as_ref().unwrap().counters().subscriptions, 0);
}

#[test]
fn datagrams_that_a_link_dropped_are_counted_with_their_track() {
    let mut world = World::new(2, relay());
    let (speaker, listener) = (world.lease(0), world.lease(1));
    let spoken = world.publish(0, speaker, publication("audio", Delivery::Datagram));
    let heard = world.subscribe(1, listener, "audio");
    world.run_ms(200);
    world.speak(0, spoken, 0..10);
    // The relay's first request: its SUBSCRIBE.
    let session = &mut world.lines.all.get_mut(&1).unwrap().pair.client;
    (0..3).for_each(|_| session.handle_dropped(RequestId(1)));
    world.speak(0, spoken, 10..20);
    let told: Vec<_> = world.told(0).into_iter().filter(|event| matches!(event, Event::TooOld { .. })).collect();
    assert_eq!(told, [&Event::TooOld { track: spoken, count: 3 }]);
    let counters = world.pools[0].counters();
    assert_eq!((counters.too_old, counters.frames_out, world.heard(1, heard).len()), (3, 20, 20));
}
