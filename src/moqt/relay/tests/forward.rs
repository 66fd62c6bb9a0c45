//! Objects on their way through.

use std::time::Duration;

use bytes::Bytes;

use super::world::{World, audio, end_of_track, object, subscribe};
use crate::moqt::message::{Filter, Location};
use crate::moqt::session::tests::pair::Conditions;
use crate::moqt::{Event, Object, SubgroupHeader};

#[test]
fn every_subscriber_gets_every_object_on_rough_links() {
    for seed in 0..10 {
        let mut world = World::new();
        world.conditions = Conditions::rough(seed);
        let publisher = world.publisher();
        let listeners = [world.client(), world.client(), world.client()];
        listeners.iter().for_each(|listener| _ = world.subscribe(*listener, None));
        let sent: Vec<(u64, u64)> = (1..5).flat_map(|group| (0..3).map(move |id| (group, id))).collect();
        (1..5).for_each(|group| world.whole(publisher, group));
        for listener in listeners {
            assert_eq!(world.objects(listener), sent, "seed {seed}");
        }
        assert_eq!((world.core.counters().objects_in, world.core.counters().objects_out), (12, 36));
    }
}

#[test]
fn an_object_passes_unchanged_with_its_header() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    let sent_header = SubgroupHeader {
        group: 9,
        subgroup: 4,
        priority: Some(3),
        properties: true,
        end_of_group: true,
        first_object: true,
    };
    let sent = Object {
        group: 9,
        subgroup: 4,
        id: 7,
        priority: Some(3),
        properties: crate::moqt::properties::timestamp(20_000),
        payload: Bytes::from_static(b"opus"),
        ..Object::default()
    };
    let upstream = world.clients[publisher].asked[0].0;
    let subgroup = world.session(publisher).open_subgroup(upstream, &sent_header).unwrap();
    world.session(publisher).send_object(subgroup, &sent);
    world.session(publisher).finish_subgroup(subgroup);
    world.settle();
    let heard = &world.clients[listener].heard;
    assert!(heard.iter().any(|event| matches!(event, Event::Subgroup { header, .. } if *header == sent_header)));
    assert!(heard.iter().any(|event| matches!(event, Event::Object { object, .. } if *object == sent)));
    assert!(heard.iter().any(|event| matches!(event, Event::SubgroupEnd { reset: None, .. })));
}

#[test]
fn objects_pass_before_their_group_is_whole() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    let subgroup = world.group(publisher, 1);
    world.session(publisher).send_object(subgroup, &object(1, 0));
    // Two hops of 5 ms.
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.objects(listener), [(1, 0)]);
}

#[test]
fn datagrams_stay_datagrams() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listeners = [world.client(), world.client()];
    listeners.iter().for_each(|listener| _ = world.subscribe(*listener, None));
    let upstream = world.clients[publisher].asked[0].0;
    for group in 0..5 {
        let datagram = Object { end_of_group: true, ..object(group, 0) };
        world.session(publisher).send_datagram(upstream, &datagram).unwrap();
        world.settle();
    }
    for listener in listeners {
        let datagrams = world.clients[listener].heard.iter().filter(|event| match event {
            Event::Object { stream: None, object, .. } => object.end_of_group,
            _ => false,
        });
        assert_eq!(datagrams.count(), 5);
    }
}

#[test]
fn a_datagram_too_large_for_one_path_passes_on_the_others() {
    let mut world = World::new();
    let publisher = world.publisher();
    let (wide, narrow) = (world.client(), world.client());
    world.subscribe(wide, None);
    world.subscribe(narrow, None);
    world.clients[narrow].pair.server.set_max_datagram(Some(50));
    let upstream = world.clients[publisher].asked[0].0;
    let datagram = Object { payload: Bytes::from(vec![1; 100]), ..object(1, 0) };
    world.session(publisher).send_datagram(upstream, &datagram).unwrap();
    world.settle();
    assert_eq!((world.objects(wide).len(), world.objects(narrow).len()), (1, 0));
    assert_eq!(world.core.counters().datagrams_too_large, 1);
}

#[test]
fn a_late_joiner_begins_where_the_stream_stands() {
    let mut world = World::new();
    let publisher = world.publisher();
    let early = world.client();
    world.subscribe(early, None);
    let subgroup = world.group(publisher, 1);
    world.send(publisher, subgroup, 1, 0..5);
    let late = world.client();
    let request = world.subscribe(late, None);
    world.send(publisher, subgroup, 1, 5..8);
    assert_eq!(world.objects(early).len(), 8);
    assert_eq!(world.objects(late), [(1, 5), (1, 6), (1, 7)]);
    let heard = &world.clients[late].heard;
    let largest = Some(Location { group: 1, object: 4 });
    assert!(heard.iter().any(|event| matches!(event, Event::SubscribeOk { request: of, ok }
        if *of == request && ok.largest == largest)));
    // Its stream does not begin with the subgroup's first object, and says so.
    assert!(heard.iter().any(|event| matches!(event, Event::Subgroup { header, .. } if !header.first_object)));
    assert!(
        world.clients[early].heard.iter().any(|e| matches!(e, Event::Subgroup { header, .. } if header.first_object))
    );
}

#[test]
fn filters_are_counted_from_what_has_passed() {
    let start = Location { group: 2, object: 1 };
    let cases = [
        (None, vec![(1, 2), (2, 0), (2, 1), (3, 0)]),
        (Some(Filter::LargestObject), vec![(1, 2), (2, 0), (2, 1), (3, 0)]),
        (Some(Filter::NextGroupStart), vec![(2, 0), (2, 1), (3, 0)]),
        (Some(Filter::AbsoluteStart(start)), vec![(2, 1), (3, 0)]),
        (Some(Filter::AbsoluteRange { start, end_group: 2 }), vec![(2, 1)]),
    ];
    for (filter, expected) in cases {
        let mut world = World::new();
        let publisher = world.publisher();
        let first = world.client();
        world.subscribe(first, None);
        let one = world.group(publisher, 1);
        world.send(publisher, one, 1, 0..2);
        let listener = world.client();
        let mut asked = subscribe(audio(), None);
        asked.filter = filter;
        world.session(listener).subscribe(asked);
        world.settle();
        world.send(publisher, one, 1, 2..3);
        let two = world.group(publisher, 2);
        world.send(publisher, two, 2, 0..2);
        let three = world.group(publisher, 3);
        world.send(publisher, three, 3, 0..1);
        assert_eq!(world.objects(listener), expected, "{filter:?}");
    }
}

#[test]
fn a_subscriber_that_does_not_forward_gets_nothing() {
    let mut world = World::new();
    let publisher = world.publisher();
    let (listener, other) = (world.client(), world.client());
    let mut asked = subscribe(audio(), None);
    asked.forward = false;
    let request = world.session(listener).subscribe(asked);
    world.settle();
    assert!(world.is_answered(listener, request));
    world.subscribe(other, None);
    world.whole(publisher, 1);
    assert_eq!((world.objects(listener).len(), world.objects(other).len()), (0, 3));
}

#[test]
fn a_reset_passes_with_its_code_and_a_fin_as_a_fin() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    let (fin, reset) = (world.group(publisher, 1), world.group(publisher, 2));
    world.send(publisher, fin, 1, 0..1);
    world.send(publisher, reset, 2, 0..1);
    world.session(publisher).reset_subgroup(reset, 2);
    world.session(publisher).finish_subgroup(fin);
    world.settle();
    let ends = world.clients[listener].heard.iter().filter_map(|event| match event {
        Event::SubgroupEnd { reset, .. } => Some(*reset),
        _ => None,
    });
    let mut ends: Vec<_> = ends.collect();
    ends.sort();
    assert_eq!(ends, [None, Some(2)]);
}

#[test]
fn end_of_track_passes_like_any_object() {
    for datagram in [false, true] {
        let mut world = World::new();
        let publisher = world.publisher();
        let listener = world.client();
        world.subscribe(listener, None);
        let subgroup = world.group(publisher, 1);
        world.send(publisher, subgroup, 1, 0..2);
        let upstream = world.clients[publisher].asked[0].0;
        match datagram {
            true => world.session(publisher).send_datagram(upstream, &end_of_track(2, 0)).unwrap(),
            false => world.session(publisher).send_object(subgroup, &end_of_track(1, 2)),
        }
        world.settle();
        let expected = if datagram { end_of_track(2, 0) } else { end_of_track(1, 2) };
        let last = world.clients[listener].heard.last();
        assert!(
            matches!(last, Some(Event::Object { object, stream, .. }) if *object == expected && stream.is_none() == datagram)
        );
    }
}
