//! All that can happen to links, at random, to a speaker and a listener: no frame twice, every frame accounted for, and audio
//! again when the weather clears.

use std::collections::HashSet;
use std::time::Duration;

use super::world::{World, publication, relay};
use crate::moqt::message::GoAway;
use crate::moqt::session::tests::pair::{Conditions, Rng};
use crate::net::{Down, LinkEvent};
use crate::tracks::{Delivery, Event, LeaseId, TrackId, Written};

/// The first lease of a pool with one route.
const SPEAKER: LeaseId = LeaseId(2);
const LISTENER: LeaseId = LeaseId(2);

/// Something happens to some link, or to the relay.
fn happen(world: &mut World, rng: &mut Rng) {
    let standing: Vec<_> = world.lines.all.keys().copied().collect();
    let Some(link) = standing.get(rng.below(standing.len() as u64) as usize).copied() else {
        world.lines.reachable = true;
        return;
    };
    match rng.below(6) {
        0 => world.cut(link, Down::Reset),
        1 => world.event(link, LinkEvent::Quiet),
        2 => world.event(link, LinkEvent::Alive),
        3 => {
            let timeout = Some(Duration::from_millis(500 + rng.below(3000)));
            let line = world.lines.all.get_mut(&link).expect("it stands");
            line.pair.server.goaway(GoAway { uri: String::new(), timeout });
        }
        4 => {
            world.lines.reachable = false;
            world.crash();
        }
        _ => world.lines.reachable = true,
    }
}

/// Frames are distinct, places are distinct, and frames and known losses fill the places.
fn check(world: &World, heard: TrackId, seed: u64) {
    let frames = world.heard(1, heard);
    let distinct: HashSet<_> = frames.iter().map(|(n, ..)| n).collect();
    let places: HashSet<_> = frames.iter().map(|(.., sequence)| sequence).collect();
    assert_eq!((distinct.len(), places.len()), (frames.len(), frames.len()), "seed {seed}: no frame twice");
    assert!(frames.iter().all(|(n, stamp, _)| *stamp == Some(n * 20_000)), "seed {seed}: stamps are exact");
    let counters = world.pools[1].counters();
    let last = frames.iter().map(|(.., sequence)| sequence + 1).max().unwrap_or_default();
    assert_eq!(frames.len() as u64 + counters.missing, last, "seed {seed}");
    assert_eq!(counters.frames_in, frames.len() as u64);
}

/// How often links were replaced, and objects came twice.
fn live_through(seed: u64) -> (u64, u64) {
    let mut rng = Rng(seed);
    let mut world = World::new(2, relay());
    let jitter = Duration::from_millis(rng.below(15));
    let loss = if seed.is_multiple_of(3) { 5 } else { 0 };
    let chunk = [0, 64, 7][(seed % 3) as usize];
    world.lines.conditions = Conditions { jitter, loss, chunk, ..Conditions::default() };
    let (speaker, listener) = (world.lease(0), world.lease(1));
    assert_eq!((speaker, listener), (SPEAKER, LISTENER));
    let delivery = if seed.is_multiple_of(2) { Delivery::Stream } else { Delivery::Datagram };
    let spoken = world.publish(0, speaker, publication("audio", delivery));
    let heard = world.subscribe(1, listener, "audio");
    let mut written = Vec::new();
    for n in 0..600 {
        if rng.below(25) == 0 {
            happen(&mut world, &mut rng);
        }
        written.extend(world.speak(0, spoken, n..n + 1));
    }
    check(&world, heard, seed);

    world.lines.reachable = true;
    world.lines.conditions.loss = 0;
    world.lines.all.values_mut().for_each(|line| line.pair.now = world.now);
    world.crash();
    world.run_ms(3000);
    written.extend(world.speak(0, spoken, 600..700));
    world.run_ms(500);
    check(&world, heard, seed);
    let tail = world.heard(1, heard).into_iter().filter(|(n, ..)| *n >= 600).count();
    assert_eq!(tail, 100, "seed {seed}: all is well again");

    let counters = world.pools[0].counters();
    let each = [Written::Sent, Written::Unheard, Written::Offline, Written::Behind];
    let counts = each.map(|kind| written.iter().filter(|w| **w == kind).count() as u64);
    assert_eq!(counts, [counters.frames_out, counters.unheard, counters.offline, counters.behind], "seed {seed}");
    goes_quietly(&mut world, (spoken, heard), seed);
    let counters = [0, 1].map(|pool| world.pools[pool].counters());
    (counters[0].reconnects + counters[1].reconnects, counters[1].stale)
}

/// The end is heard, and nothing stays.
fn goes_quietly(world: &mut World, (spoken, heard): (TrackId, TrackId), seed: u64) {
    world.end(0, spoken);
    world.run_ms(3000);
    assert_eq!(world.told(1).last(), Some(&&Event::Ended { track: heard }), "seed {seed}");
    for (pool, lease) in [(0, SPEAKER), (1, LISTENER)] {
        world.release(pool, lease);
    }
    world.run_ms(5000);
    assert!(world.lines.all.is_empty(), "seed {seed}: nothing is left standing");
    assert!(world.pools.iter().all(|pool| pool.poll_timeout().is_none()), "seed {seed}: nor to do");
}

#[test]
fn in_all_weathers() {
    let lives: Vec<_> = (0..60).map(live_through).collect();
    let (replaced, twice) = lives.iter().fold((0, 0), |sum, life| (sum.0 + life.0, sum.1 + life.1));
    assert!(replaced > 300 && twice > 50, "there was weather: {replaced} links replaced, {twice} objects came twice");
}
