//! What a peer does wrong stays with it (§"Malformed Tracks", §"Publisher Interactions").

use super::world::{World, audio, done, end_of_track, named, object, subscribe, uplink};
use crate::moqt::{Event, Object, PublishDoneCode, ResetCode, Status};

/// A publisher, a subscriber of its track, and one of another track of it.
fn world() -> (World, usize, usize, usize) {
    let mut world = World::new();
    let publisher = world.publisher();
    let (listener, other) = (world.client(), world.client());
    world.session(other).subscribe(subscribe(named(uplink(), "other"), None));
    world.settle();
    world.subscribe(listener, None);
    (world, publisher, listener, other)
}

#[test]
fn an_object_behind_the_end_of_its_group_or_track_ends_the_track_and_goes_nowhere() {
    let end_of_group = Object { payload: bytes::Bytes::new(), status: Status::EndOfGroup, ..object(1, 2) };
    for (last, beyond) in [(end_of_group, object(1, 3)), (end_of_track(1, 2), object(1, 3))] {
        let (mut world, publisher, listener, other) = world();
        let subgroup = world.group(publisher, 1);
        world.send(publisher, subgroup, 1, 0..2);
        world.session(publisher).send_object(subgroup, &last);
        world.settle();
        world.session(publisher).send_object(subgroup, &beyond);
        world.settle();
        assert_eq!(world.objects(listener), [(1, 0), (1, 1), (1, 2)]);
        assert_eq!(world.done(listener), done(PublishDoneCode::MalformedTrack));
        let reset = |event: &Event| matches!(event, Event::SubgroupEnd { reset: Some(code), .. } if *code == ResetCode::MalformedTrack as u64);
        assert!(world.clients[listener].heard.iter().any(reset));
        let upstream = world.clients[publisher].asked.iter().find(|(_, track)| *track == audio()).unwrap().0;
        assert!(world.clients[publisher].heard.contains(&Event::Cancelled { request: upstream }));
        // The session and its other tracks go on.
        assert_eq!((world.done(other), world.core.counters().malformed_tracks), (None, 1));
        assert_eq!(world.core.counters().tracks, 1);
    }
}

#[test]
fn the_end_that_one_publisher_names_does_not_bind_its_successor() {
    let (mut world, publisher, listener, _) = world();
    let subgroup = world.group(publisher, 1);
    world.session(publisher).send_object(subgroup, &end_of_track(1, 0));
    world.settle();
    let second = world.publisher();
    let asked = world.clients[second].asked.iter().find(|(_, track)| *track == audio()).unwrap().0;
    world.session(second).send_datagram(asked, &object(2, 0)).unwrap();
    world.settle();
    assert_eq!(world.objects(listener), [(1, 0), (2, 0)]);
}

/// Bytes that close the publisher's session: its subscribers hear of a lost publisher, never of the bytes.
#[test]
fn what_closes_one_session_closes_no_other() {
    let (mut world, publisher, listener, other) = world();
    let subgroup = world.group(publisher, 1);
    world.send(publisher, subgroup, 1, 0..2);
    let server = &mut world.clients[publisher].pair.server;
    // A request stream that begins with no request, and a unidirectional stream of no known type.
    let stream = server.accept_stream(crate::moqt::Dir::Bi);
    let now = world.now;
    server.handle_data(stream, bytes::Bytes::from_static(&[0x07, 0x00, 0x00]), false, now);
    assert!(server.is_closed());
    world.settle();
    world.kill(publisher);
    for key in [listener, other] {
        assert_eq!(world.done(key), done(PublishDoneCode::InternalError));
        assert!(!world.clients[key].pair.server.is_closed());
        assert!(!world.clients[key].heard.iter().any(|event| matches!(event, Event::Closed { .. })));
    }
    assert_eq!(world.objects(listener).len(), 2);
}
