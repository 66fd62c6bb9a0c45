//! GOAWAY both ways: a relay that drains, and a peer that leaves.

use std::time::Duration;

use super::world::{World, code, done, named, object, subscribe, uplink};
use crate::moqt::message::GoAway;
use crate::moqt::{CloseCode, Event, PublishDoneCode, RequestErrorCode};

const TIME: Duration = Duration::from_secs(10);
const ELSEWHERE: &str = "moqt://other.example:4443";

fn goaways(world: &World, key: usize) -> Vec<GoAway> {
    let goaways = world.clients[key].heard.iter().filter_map(|event| match event {
        Event::GoAway(goaway) => Some(goaway.clone()),
        _ => None,
    });
    goaways.collect()
}

#[test]
fn a_relay_that_drains_says_so_to_everybody_and_serves_on() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    world.drain(ELSEWHERE, TIME);
    world.drain("moqt://a.second.call", TIME);
    let expected = [GoAway { uri: ELSEWHERE.into(), timeout: Some(TIME) }];
    assert_eq!([publisher, listener].map(|key| goaways(&world, key)), [expected.to_vec(), expected.to_vec()]);
    world.whole(publisher, 1);
    assert_eq!((world.objects(listener).len(), world.done(listener)), (3, None));
    assert!(world.core.is_draining());
}

#[test]
fn new_requests_are_refused_while_it_drains_also_of_newcomers() {
    let mut world = World::new();
    let listener = world.client();
    world.drain("", TIME);
    let refused = world.session(listener).subscribe(subscribe(named(uplink(), "audio"), Some(TIME)));
    let newcomer = world.client();
    let announced = world.session(newcomer).publish_namespace(uplink(), Vec::new());
    world.settle();
    assert_eq!(world.refused(listener, refused), code(RequestErrorCode::GoingAway));
    assert_eq!(world.refused(newcomer, announced), code(RequestErrorCode::GoingAway));
    assert_eq!((goaways(&world, newcomer).len(), world.core.counters().namespaces), (1, 0));
}

#[test]
fn whoever_does_not_move_is_closed_with_goaway_timeout() {
    let mut world = World::new();
    world.publisher();
    let (stays, moves) = (world.client(), world.client());
    world.subscribe(stays, None);
    let request = world.subscribe(moves, None);
    world.drain(ELSEWHERE, TIME);
    world.session(moves).cancel(request);
    world.run_for(TIME);
    let closed = |key: usize| world.clients[key].pair.server.is_closed();
    assert_eq!([closed(stays), closed(moves)], [true, false]);
    let code = world.clients[stays].pair.closed.as_ref().map(|(_, code, _)| *code);
    assert_eq!(code, Some(CloseCode::GoAwayTimeout as u64));
}

#[test]
fn a_publisher_that_moves_away_while_it_drains_reads_going_away() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    world.drain(ELSEWHERE, TIME);
    world.kill(publisher);
    assert_eq!(world.done(listener), done(PublishDoneCode::GoingAway));
}

/// §"Graceful Publisher Relay Switchover": the publisher says GOAWAY, another session of it begins, and the old one ends. The
/// subscriber sees each object once and no end.
#[test]
fn a_publisher_that_leaves_is_replaced_without_a_gap_or_a_duplicate() {
    let mut world = World::new();
    let old = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    let a = world.group(old, 1);
    world.send(old, a, 1, 0..3);
    world.session(old).goaway(GoAway { uri: String::new(), timeout: Some(TIME) });
    world.settle();
    // It is asked for nothing new, and what it publishes goes on.
    let refused = world.session(listener).subscribe(subscribe(named(uplink(), "pcm16"), None));
    world.send(old, a, 1, 3..5);
    assert_eq!(
        (world.refused(listener, refused), world.clients[old].asked.len()),
        (code(RequestErrorCode::DoesNotExist), 1)
    );
    let new = world.publisher();
    assert_eq!(world.clients[new].asked.len(), 1);
    let b = world.group(new, 1);
    // Both for a while, then the new one alone.
    for id in 5..8 {
        world.session(old).send_object(a, &object(1, id));
        world.session(new).send_object(b, &object(1, id));
        world.settle();
    }
    world.send(new, b, 1, 8..10);
    world.kill(old);
    world.send(new, b, 1, 10..12);
    world.session(new).finish_subgroup(b);
    world.settle();
    let objects: Vec<_> = (0..12).map(|id| (1, id)).collect();
    assert_eq!((world.objects(listener), world.done(listener)), (objects, None));
    let heard = &world.clients[listener].heard;
    assert_eq!(heard.iter().filter(|event| matches!(event, Event::Subgroup { .. })).count(), 1);
}
