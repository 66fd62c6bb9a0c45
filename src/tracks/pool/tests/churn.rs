//! Leases come and go, thousands of them: nothing stays behind, in the pool, on its links, at the relay.

use super::world::{World, name, publication, relay, tokens};
use crate::tracks::{Delivery, LeaseId, PublishTrack, RouteId, RouteKind};

const CYCLES: usize = 1_000;

/// A bridge attaches, hears and speaks, and is closed.
fn cycle(world: &mut World, route: RouteId, n: usize) {
    let lease: LeaseId = world.pools[1].lease(route, tokens("ok"), world.now);
    let down = PublishTrack { track: name("down"), ..publication("down", Delivery::Stream) };
    let down = world.publish(1, lease, down);
    world.subscribe(1, lease, "audio");
    world.run_ms(40);
    world.write(1, down, n as u64);
    world.run_ms(20);
    if n.is_multiple_of(3) {
        world.end(1, down);
    }
    world.release(1, lease);
    world.run_ms(60);
}

/// Everything that anybody remembers.
fn remembered(world: &mut World) -> Vec<usize> {
    world.run_ms(10_000);
    let mut sizes: Vec<usize> = world.pools.iter().flat_map(|pool| pool.sizes()).collect();
    let sessions = world.lines.all.values().flat_map(|line| [line.pair.client.size(), line.pair.server.size()]);
    sizes.extend(sessions);
    let counters = world.core.as_ref().unwrap().counters();
    sizes.extend([counters.sessions, counters.tracks, counters.subscriptions, counters.namespaces]);
    world.events.iter_mut().for_each(Vec::clear);
    sizes
}

#[test]
fn attaching_and_closing_leaves_nothing_behind() {
    // Links of their own, then one that another lease keeps up.
    for cap in [1, 32] {
        let mut world = World::new(2, relay());
        let engine = world.lease(0);
        let spoken = world.publish(0, engine, publication("audio", Delivery::Stream));
        world.subscribe(0, engine, "down");
        let route = world.pools[1].route(RouteKind { cap });
        let stays = (cap > 1).then(|| world.pools[1].lease(route, tokens("ok"), world.now));
        for n in 0..10 {
            cycle(&mut world, route, n);
            world.write(0, spoken, n as u64);
        }
        let before = remembered(&mut world);
        for n in 0..CYCLES {
            cycle(&mut world, route, n);
            world.write(0, spoken, n as u64);
        }
        assert_eq!(remembered(&mut world), before, "cap {cap}");
        assert_eq!(world.pools[1].forget_route(route), stays.is_none());
    }
}

#[test]
fn ended_tracks_of_a_lease_that_lives_are_forgotten_in_the_end() {
    let mut world = World::new(1, relay());
    let lease = world.lease(0);
    world.run_ms(100);
    for _ in 0..CYCLES {
        let track = world.publish(0, lease, publication("audio", Delivery::Stream));
        world.end(0, track);
    }
    world.run_ms(100);
    let many = world.pools[0].sizes();
    assert!(many.iter().all(|size| *size <= 64), "{many:?}");
}
