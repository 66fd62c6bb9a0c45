//! Relays that drain: where to go, what is still asked of them, and that nobody on a shared link hears it.

use std::time::Duration;

use super::shared::{SIDS, Shared, publication_of};
use super::world::{World, name_of, relay, tokens};
use crate::moqt::CloseCode;
use crate::moqt::message::{GoAway, Setup};
use crate::net::Down;
use crate::tracks::{Event, State, Written};

fn drain(world: &mut World, link: u64, uri: &str, timeout: Option<Duration>) {
    let line = world.lines.all.get_mut(&link).expect("it stands");
    line.pair.server.goaway(GoAway { uri: uri.to_owned(), timeout });
}

#[test]
fn the_relay_says_where_to_go_and_is_asked_here_again_when_nobody_is_there() {
    let mut world = World::new(1, relay());
    world.lease(0);
    world.run_ms(100);
    world.supplies = false;
    drain(&mut world, 1, "moqt://other.example:1", None);
    let mut asked = 0;
    while asked < 12 {
        world.run_ms(100);
        for (pool, id, _) in std::mem::take(&mut world.wants) {
            asked += 1;
            world.supply(pool, id, Err("nobody is there"));
        }
    }
    // The first two, then every other one of eight.
    assert_eq!(world.uris.len(), 5, "{:?}", world.uris);
    assert!(world.uris.iter().all(|uri| uri == "moqt://other.example:1"));
    // A link that stands is the end of it.
    drain_again_without_uri(&mut world);
}

fn drain_again_without_uri(world: &mut World) {
    world.supplies = true;
    world.run_ms(2_000);
    world.supplies = false;
    let before = world.uris.len();
    let link = *world.lines.all.keys().last().expect("a link");
    drain(world, link, "", None);
    world.run_ms(3_000);
    assert!(!world.wants.is_empty());
    assert_eq!(world.uris.len(), before, "the same address again");
}

#[test]
fn nothing_new_is_asked_of_a_relay_that_drains_and_everything_of_the_next() {
    let mut shared = Shared::new();
    shared.world.supplies = false;
    drain(&mut shared.world, 2, "", None);
    shared.world.run_ms(10);
    let lease = shared.leases[0];
    let late = shared.hear(lease, "CA1");
    let before = shared.world.core.as_ref().unwrap().counters();
    shared.world.publish(1, lease, publication_of(name_of("CA1", "other")));
    shared.world.run_ms(100);
    let after = shared.world.core.as_ref().unwrap().counters();
    assert_eq!((before.namespaces, before.subscriptions), (after.namespaces, after.subscriptions));
    assert_eq!(shared.world.count(1, |e| matches!(e, Event::Refused { .. })), 0);
    shared.world.supplies = true;
    for (pool, id, _) in std::mem::take(&mut shared.world.wants) {
        shared.world.supply(pool, id, Ok(Setup::default()));
    }
    shared.world.run_ms(1_000);
    shared.speak(0..10);
    assert_eq!(shared.world.heard(1, late).len(), 10);
    assert_eq!(shared.counts(), [10; 4]);
}

#[test]
fn a_shared_link_moves_without_a_gap_in_either_direction() {
    let mut shared = Shared::new();
    // Each bridge speaks too, and the engine hears it.
    let engine = shared.engine;
    let pairs: Vec<_> = SIDS
        .into_iter()
        .zip(shared.leases.clone())
        .map(|(sid, lease)| {
            let spoken = shared.world.publish(1, lease, publication_of(name_of(sid, "down")));
            let World { pools, lines, now, .. } = &mut shared.world;
            (spoken, pools[0].subscribe(lines, engine, name_of(sid, "down"), *now))
        })
        .collect();
    shared.world.run_ms(300);
    let mut down = 0;
    let mut say = |shared: &mut Shared, range: std::ops::Range<u64>| {
        for n in range {
            for (spoken, _) in &pairs {
                assert_eq!(shared.world.write(1, *spoken, n), Written::Sent, "{n}");
            }
            shared.speak(n..n + 1);
            down += 1;
        }
    };
    say(&mut shared, 0..20);
    drain(&mut shared.world, 2, "", Some(Duration::from_secs(5)));
    say(&mut shared, 20..200);
    assert_eq!(shared.counts(), [200; 4]);
    for (_, heard) in &pairs {
        assert_eq!(shared.world.heard(0, *heard).len(), 200);
    }
    let closed: Vec<_> = shared.world.lines.closed.iter().map(|(link, code, _)| (link.0, *code)).collect();
    assert_eq!(closed, [(2, CloseCode::NoError as u64)]);
    let lost = |e: &Event| matches!(e, Event::Lost { .. } | Event::State { state: State::Reconnecting, .. });
    assert_eq!((shared.world.count(0, lost), shared.world.count(1, lost)), (0, 0));
    let standing = shared.world.pools[1].standing(shared.leases[3]).unwrap();
    assert_eq!((standing.migrations, standing.leases), (1, 4));
}

/// A fleet that drains behind one name: whoever comes is sent away again.
#[test]
fn a_storm_of_goaways_is_no_storm_of_dials_and_no_gap() {
    let mut shared = Shared::new();
    let mut drained = 0;
    for n in 0..3_000 {
        shared.speak(n..n + 1);
        let newest = *shared.world.lines.all.keys().last().expect("a link");
        if newest > drained && newest > 1 && n < 2_500 {
            drained = newest;
            drain(&mut shared.world, newest, "", None);
        }
    }
    let dials = shared.world.lines.dialled.len();
    assert!((10..40).contains(&dials), "{dials} dials in 50 s");
    assert_eq!(shared.counts(), [3_000; 4], "nobody hears it");
    assert_eq!(shared.world.lines.all.len(), 2);
}

#[test]
fn a_plain_close_is_a_new_link_at_once() {
    let mut shared = Shared::new();
    shared.speak(0..10);
    shared.world.cut(2, Down::Peer { code: CloseCode::NoError as u64, reason: "drained".to_owned() });
    shared.speak(10..60);
    let counts = shared.counts();
    assert!(counts.iter().all(|count| *count >= 50), "at most 200 ms are lost: {counts:?}");
    assert_eq!(shared.world.pools[1].counters().stale, 0);
}

/// A relay that drains takes whoever comes and sends him away once more; then it ends, and is back.
#[test]
fn who_was_sent_away_often_is_back_as_soon_as_the_relay() {
    let mut shared = Shared::new();
    shared.speak(0..20);
    let mut drained = 0;
    for n in 20..270 {
        shared.speak(n..n + 1);
        let newest = *shared.world.lines.all.keys().last().expect("a link");
        if newest > drained && newest > 1 {
            drained = newest;
            drain(&mut shared.world, newest, "", None);
        }
    }
    let standing: Vec<_> = shared.world.lines.all.keys().copied().filter(|link| *link > 1).collect();
    assert!(shared.world.lines.dialled.len() > 5, "it was sent away often");
    for link in standing {
        shared.world.cut(link, Down::Peer { code: CloseCode::NoError as u64, reason: "drained".to_owned() });
    }
    let before = shared.counts();
    shared.speak(270..320);
    let after = shared.counts();
    let heard: Vec<_> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    assert!(heard.iter().all(|count| *count >= 40), "at most 200 ms of the second are lost: {heard:?}");
}

#[test]
fn a_relay_that_closes_whoever_comes_is_not_hammered() {
    let mut world = World::new(1, relay());
    let route = world.route(0, 32);
    world.pools[0].lease(route, tokens("ok"), world.now);
    for _ in 0..600 {
        world.run_ms(100);
        let newest = world.lines.all.iter().filter(|(_, line)| line.is_in_core()).map(|(link, _)| *link).next_back();
        if let Some(newest) = newest {
            drain(&mut world, newest, "", None);
            world.run_ms(10);
            world.cut(newest, Down::Peer { code: 0, reason: "drained".to_owned() });
        }
    }
    assert!(world.lines.dialled.len() < 80, "{} dials in a minute", world.lines.dialled.len());
}
