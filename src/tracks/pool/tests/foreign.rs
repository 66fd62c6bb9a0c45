//! Peers that are not our relay: what they ask, push and echo.

use super::world::{World, name, publication};
use crate::moqt::message::{Filter, Location, PublishDone, Subscribe, SubscribeOk, TrackProperties};
use crate::moqt::session::{RequestId, Role};
use crate::moqt::{
    Event as Moqt, Object, PublishDoneCode, RequestErrorCode, SubgroupHeader, TrackNamespace, properties,
};
use crate::tracks::{Delivery, Event, TrackId, Written};

fn namespace(fields: &[&'static str]) -> TrackNamespace {
    TrackNamespace::new(fields.iter().copied()).unwrap()
}

/// A pool that listens to `audio`, and the peer's name of its SUBSCRIBE.
fn listening() -> (World, TrackId, RequestId) {
    let mut world = World::new(1, None);
    let lease = world.lease(0);
    let heard = world.subscribe(0, lease, "audio");
    world.run_ms(100);
    let request = asked(&mut world).unwrap().0;
    (world, heard, request)
}

fn asked(world: &mut World) -> Option<(RequestId, Subscribe)> {
    world.only().find(Role::Server, |event| match event {
        Moqt::Subscribe { request, subscribe } => Some((*request, subscribe.clone())),
        _ => None,
    })
}

fn answer(world: &mut World, request: RequestId) -> Result<(), u64> {
    world.run_ms(100);
    let found = world.only().find(Role::Server, |event| match event {
        Moqt::RequestOk { request: of } if *of == request => Some(Ok(())),
        Moqt::RequestError { request: of, error } if *of == request => Some(Err(error.code)),
        _ => None,
    });
    found.expect("every request is answered")
}

fn say(world: &mut World, request: RequestId, (group, id): (u64, u64), stamp: u64) {
    let header = SubgroupHeader { group, properties: true, first_object: id == 0, ..SubgroupHeader::default() };
    let properties = properties::timestamp(stamp);
    let payload = super::world::payload(id);
    let object = Object { group, id, properties, payload, ..Object::default() };
    let session = &mut world.only().server;
    let stream = session.open_subgroup(request, &header).unwrap();
    session.send_object(stream, &object);
    session.finish_subgroup(stream);
}

#[test]
fn our_subscribe_says_what_it_must() {
    let mut world = World::new(1, None);
    let lease = world.lease(0);
    world.subscribe(0, lease, "audio");
    world.run_ms(100);
    let (_, subscribe) = asked(&mut world).unwrap();
    assert_eq!((subscribe.track, subscribe.filter), (name("audio"), Some(Filter::LargestObject)));
    assert_eq!(subscribe.rendezvous_timeout, Some(std::time::Duration::from_secs(30)));
    assert_eq!((subscribe.forward, subscribe.tokens.len()), (true, 1), "the lease's rights go with it");
}

#[test]
fn a_relay_that_lists_our_namespaces_is_told_of_them_and_of_their_end() {
    let mut world = World::new(1, None);
    let lease = world.lease(0);
    let spoken = world.publish(0, lease, publication("audio", Delivery::Stream));
    world.run_ms(100);
    let listing = world.only().server.subscribe_namespace(TrackNamespace::default(), vec![]);
    assert_eq!(answer(&mut world, listing), Ok(()));
    let suffix = |event: &Moqt| match event {
        Moqt::Namespace { suffix, .. } => Some((true, suffix.clone())),
        Moqt::NamespaceDone { suffix, .. } => Some((false, suffix.clone())),
        _ => None,
    };
    let ours = name("audio").namespace;
    assert_eq!(world.only().find(Role::Server, suffix), Some((true, ours.clone())));
    world.pools[0].close(&mut world.lines, spoken);
    world.run_ms(50);
    assert_eq!(world.only().find(Role::Server, suffix), Some((false, ours)));
}

#[test]
fn an_echo_of_our_namespace_comes_to_nothing() {
    let mut world = World::new(1, None);
    let lease = world.lease(0);
    world.publish(0, lease, publication("audio", Delivery::Stream));
    world.run_ms(100);
    let echo = world.only().server.publish_namespace(name("audio").namespace, vec![]);
    assert_eq!(answer(&mut world, echo), Err(RequestErrorCode::Uninterested as u64));
}

#[test]
fn a_namespace_we_listen_in_is_welcome_and_ends_the_wait() {
    let (mut world, _, request) = listening();
    let error = super::refusals::error(RequestErrorCode::DoesNotExist, Some(20_000));
    world.only().server.reject(request, error);
    world.run_ms(1000);
    assert_eq!(asked(&mut world), None, "it waits as long as it was told to");
    let news = world.only().server.publish_namespace(namespace(&["voice", "CA1"]), vec![]);
    assert_eq!(answer(&mut world, news), Ok(()));
    assert!(asked(&mut world).is_some());
}

#[test]
fn a_pushed_track_is_taken_when_it_is_wanted() {
    let (mut world, heard, held) = listening();
    let server = &mut world.only().server;
    let scale = TrackProperties(properties::timescale(48_000));
    let unwanted = server.publish(name("video"), TrackProperties::default(), vec![]);
    let wanted = server.publish(name("audio"), scale, vec![]);
    assert_eq!(answer(&mut world, unwanted), Err(RequestErrorCode::Uninterested as u64));
    assert_eq!(answer(&mut world, wanted), Ok(()));
    let cancelled = |event: &Moqt| matches!(event, Moqt::Cancelled { request } if *request == held).then_some(());
    assert!(world.only().find(Role::Server, cancelled).is_some(), "in place of the SUBSCRIBE");
    say(&mut world, wanted, (7, 0), 960);
    world.run_ms(100);
    assert_eq!(world.heard(0, heard), [(0, Some(20_000), 0)]);
    assert_eq!(world.count(0, |e| *e == Event::Live { track: heard }), 1);

    let again = world.only().server.publish(name("audio"), TrackProperties::default(), vec![]);
    assert_eq!(answer(&mut world, again), Err(RequestErrorCode::DuplicateSubscription as u64));
    let done = PublishDone { code: PublishDoneCode::GoingAway as u64, streams: 0, reason: "bye".to_owned() };
    world.only().server.end_publication(wanted, done);
    world.run_ms(500);
    assert_eq!(world.told(0).last(), Some(&&Event::Lost { track: heard, reason: "bye".to_owned() }));
    assert!(asked(&mut world).is_some(), "and asked for again");
}

#[test]
fn what_a_relay_replays_from_its_cache_is_not_heard() {
    let (mut world, heard, request) = listening();
    let ok = SubscribeOk { largest: Some(Location { group: 9, object: 5 }), ..SubscribeOk::default() };
    world.only().server.accept_subscribe(request, ok);
    for at in [(8, 0), (9, 5), (9, 6), (10, 0), (9, 6)] {
        say(&mut world, request, at, 1);
        world.run_ms(20);
    }
    let ids: Vec<_> = world.heard(0, heard).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids, [6, 0]);
    assert_eq!(world.pools[0].counters().stale, 3);
}

#[test]
fn an_end_that_publish_done_overtakes_is_an_end() {
    let (mut world, heard, request) = listening();
    world.only().server.accept_subscribe(request, SubscribeOk::default());
    world.lines.conditions.jitter = std::time::Duration::ZERO;
    world.run_ms(100);
    // A stream more than comes: the last words are waited for, and not for ever.
    let header = SubgroupHeader { group: 1, first_object: true, ..SubgroupHeader::default() };
    let server = &mut world.only().server;
    let lost = server.open_subgroup(request, &header).unwrap();
    server.reset_subgroup(lost, 0);
    let done = PublishDone { code: PublishDoneCode::TrackEnded as u64, streams: 0, reason: String::new() };
    server.end_publication(request, done);
    world.run_ms(1000);
    assert_eq!(world.count(0, |e| matches!(e, Event::Lost { .. })), 0);
    world.run_ms(2000);
    assert_eq!(world.count(0, |e| matches!(e, Event::Lost { track, .. } if *track == heard)), 1);
    assert!(asked(&mut world).is_some());
}

#[test]
fn a_property_that_must_be_understood_ends_the_request() {
    let (mut world, heard, request) = listening();
    let properties = TrackProperties(properties::Writer::default().number(0x4000, 1).finish());
    world.only().server.accept_subscribe(request, SubscribeOk { properties, ..SubscribeOk::default() });
    world.run_ms(1000);
    let code = RequestErrorCode::UnsupportedExtension as u64;
    assert!(
        matches!(world.told(0).last(), Some(Event::Refused { track, code: c, .. }) if (*track, *c) == (heard, code))
    );
    assert_eq!(asked(&mut world), None);
}

/// FORWARD 0 and 1 of a relay: what is spoken from the moment on that it wants objects again reaches it whole, mid-group as well, and
/// nothing that was spoken before.
#[test]
fn a_relay_that_pauses_a_track_hears_every_frame_from_its_resumption_on() {
    for (delivery, resumes) in [Delivery::Stream, Delivery::Datagram].into_iter().flat_map(|d| [(d, 60), (d, 73)]) {
        let mut world = World::new(1, None);
        let lease = world.lease(0);
        let spoken = world.publish(0, lease, publication("audio", delivery));
        world.run_ms(100);
        let request = world.only().server.subscribe(Subscribe::live(name("audio")));
        world.run_ms(100);
        let mut heard = Vec::new();
        let mut listen = |world: &mut World| {
            while let Some(object) = world.only().find(Role::Server, |event| match event {
                Moqt::Object { object, .. } => Some(object.clone()),
                _ => None,
            }) {
                heard.push(object);
            }
            heard.len()
        };
        world.speak(0, spoken, 0..10);
        world.run_ms(100);
        assert_eq!(listen(&mut world), 10, "{delivery:?}");
        world.only().server.update_forward(request, false);
        world.run_ms(50);
        let paused = world.speak(0, spoken, 10..resumes);
        assert!(paused.iter().all(|written| *written == Written::Unheard), "{delivery:?}");
        world.run_ms(100);
        assert_eq!(listen(&mut world), 10, "{delivery:?}");
        world.only().server.update_forward(request, true);
        world.run_ms(50);
        let resumed = world.speak(0, spoken, resumes..resumes + 100);
        assert!(resumed.iter().all(|written| *written == Written::Sent), "{delivery:?}");
        world.run_ms(200);
        assert_eq!(listen(&mut world), 110, "{delivery:?}");
        let payloads: Vec<_> = heard.iter().map(|object| object.payload.clone()).collect();
        let expected: Vec<_> = (0..10).chain(resumes..resumes + 100).map(super::world::payload).collect();
        assert_eq!(payloads, expected, "{delivery:?}");
        let places: Vec<_> = heard.iter().map(|object| (object.group, object.id)).collect();
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{delivery:?}: {places:?}");
    }
}
