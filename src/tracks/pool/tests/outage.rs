//! Links that fall, go quiet, or ask to be left; and how they are dialled.

use std::time::Duration;

use super::world::{World, publication, relay, tokens};
use crate::moqt::CloseCode;
use crate::moqt::message::{GoAway, Setup};
use crate::net::{Down, LinkEvent, LinkId};
use crate::tracks::{Delivery, Event, LeaseId, PublishTrack, State, TrackId, Written};

/// A speaker and a listener that know each other, ten frames heard.
fn talk(delivery: Delivery) -> (World, TrackId, TrackId) {
    let mut world = World::new(2, relay());
    let (speaker, listener) = (world.lease(0), world.lease(1));
    let spoken = world.publish(0, speaker, publication("audio", delivery));
    let heard = world.subscribe(1, listener, "audio");
    world.run_ms(200);
    world.speak(0, spoken, 0..10);
    assert_eq!(world.heard(1, heard).len(), 10);
    (world, spoken, heard)
}

fn numbers(world: &World, heard: TrackId) -> Vec<u64> {
    world.heard(1, heard).into_iter().map(|(n, ..)| n).collect()
}

#[test]
fn a_crashed_relay_is_found_again_and_nothing_of_the_outage_is_said() {
    for delivery in [Delivery::Stream, Delivery::Datagram] {
        let (mut world, spoken, heard) = talk(delivery);
        world.lines.reachable = false;
        world.crash();
        let during = world.speak(0, spoken, 10..110);
        assert!(during.iter().all(|w| *w == Written::Offline));
        world.lines.reachable = true;
        let back = world.speak(0, spoken, 110..200);
        world.run_ms(200);
        let first = back.iter().position(|w| *w == Written::Sent).unwrap();
        assert!(first < 25, "heard again within half a second: {first}");
        let mut expected: Vec<_> = (0..10).collect();
        expected.extend(110 + first as u64..200);
        assert_eq!(numbers(&world, heard), expected);
        let stamps: Vec<_> = world.heard(1, heard).into_iter().map(|(_, stamp, _)| stamp.unwrap()).collect();
        assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]));
        let sequences: Vec<_> = world.heard(1, heard).into_iter().map(|(.., sequence)| sequence).collect();
        assert_eq!(sequences, (0..expected.len() as u64).collect::<Vec<_>>(), "an outage is no loss of objects");
        let counters = [0, 1].map(|pool| world.pools[pool].counters());
        assert_eq!((counters[0].reconnects, counters[1].reconnects), (1, 1));
        assert_eq!(counters[0].offline, 100 + back.iter().filter(|w| **w == Written::Offline).count() as u64);
        assert_eq!((counters[1].stale, counters[1].missing), (0, 0));
        let kinds: Vec<_> = world.told(1).into_iter().filter(|e| !matches!(e, Event::State { .. })).collect();
        assert!(matches!(kinds[..], [Event::Live { .. }, Event::Lost { .. }, Event::Live { .. }]));
    }
}

#[test]
fn attempts_follow_each_other_closely_and_few_are_under_way() {
    let (mut world, ..) = talk(Delivery::Stream);
    world.lines.reachable = false;
    world.crash();
    let (from, dialled) = (world.now, world.lines.dialled.len());
    world.run_ms(20_000);
    let mine: Vec<_> = world.lines.dialled[dialled..].iter().map(|(_, at)| *at - from).collect();
    // Two pools: each at least every quarter of a second.
    assert!(mine.len() >= 2 * 80 && mine.len() <= 2 * 162, "{}", mine.len());
    assert!(world.lines.all.len() <= 8, "{} under way", world.lines.all.len());
    assert_eq!(world.pools[0].counters().dials + world.pools[1].counters().dials, 2 + mine.len() as u64);
    world.lines.reachable = true;
    world.run_ms(1000);
    assert_eq!(world.lines.all.len(), 2, "the first that is up wins, the others are closed");
}

#[test]
fn a_first_link_that_takes_its_time_is_not_dialled_over() {
    let mut world = World::new(1, relay());
    world.lines.reachable = false;
    world.lease(0);
    world.run_ms(900);
    assert_eq!(world.lines.dialled.len(), 1);
    world.run_ms(5000);
    let first = world.lines.dialled[0].0;
    assert!(world.lines.dialled.len() > 3);
    assert!(world.lines.closed.iter().all(|(link, ..)| *link != first) || world.lines.dialled.len() > 4);
}

#[test]
fn a_relay_that_never_answers_is_told_of_once_and_dialled_on() {
    let mut world = World::new(1, relay());
    world.lines.reachable = false;
    let route = world.route(0, 2);
    let lease = world.pools[0].lease(route, tokens("ok"), world.now);
    let states = |world: &World| {
        let state = |event: &Event| match event {
            Event::State { lease, state, reason } => Some((*lease, *state, reason.clone())),
            _ => None,
        };
        world.events[0].iter().filter_map(state).collect::<Vec<_>>()
    };
    world.run_ms(2900);
    assert_eq!(states(&world), [(lease, State::Connecting, None)], "it may only be busy");
    world.run_ms(300_000);
    let told = states(&world);
    assert_eq!(told.len(), 2, "{told:?}");
    let reason = told[1].2.clone();
    assert!(
        (told[1].0, told[1].1) == (lease, State::Connecting) && reason.as_ref().unwrap().contains("UDP"),
        "{told:?}"
    );
    assert!(world.pools[0].counters().dials > 60);
    // Who comes now is told at once.
    let late = world.pools[0].lease(route, tokens("ok"), world.now);
    world.run_ms(0);
    assert_eq!(states(&world).last(), Some(&(late, State::Connecting, reason)));
    world.lines.reachable = true;
    world.run_ms(20_000);
    let connected = [lease, late].map(|lease| (lease, State::Connected, None));
    assert_eq!(states(&world)[3..], connected);
}

#[test]
fn a_quiet_path_gets_a_second_link_beside_it_and_the_old_one_goes() {
    let (mut world, spoken, heard) = talk(Delivery::Stream);
    let links: Vec<_> = world.lines.all.keys().copied().collect();
    for link in &links {
        world.event(*link, LinkEvent::Quiet);
    }
    let written = world.speak(0, spoken, 10..200);
    let left_out = written.iter().take_while(|w| **w == Written::Behind).count();
    assert!(
        left_out < 25 && written[left_out..].iter().all(|w| *w == Written::Sent),
        "{left_out} before a new link stands"
    );
    let expected: Vec<_> = (0..10).chain(10 + left_out as u64..200).collect();
    assert_eq!(numbers(&world, heard), expected, "nothing is held up, no gap and no frame twice");
    assert_eq!(world.lines.all.len(), 2);
    assert!(links.iter().all(|link| !world.lines.all.contains_key(link)), "the old ones are closed");
    assert_eq!(world.count(1, |e| matches!(e, Event::Lost { .. })), 0);
    let ended = world.speak(0, spoken, 200..201);
    assert_eq!(ended, [Written::Sent]);
}

#[test]
fn a_path_that_speaks_again_keeps_its_link() {
    let (mut world, spoken, heard) = talk(Delivery::Stream);
    world.lines.reachable = false;
    let links: Vec<_> = world.lines.all.keys().copied().collect();
    links.iter().for_each(|link| world.event(*link, LinkEvent::Quiet));
    assert!(world.speak(0, spoken, 10..30).iter().all(|w| *w == Written::Behind), "they would only be held up");
    assert!(world.lines.all.len() > 2, "attempts are under way");
    links.iter().for_each(|link| world.event(*link, LinkEvent::Alive));
    world.lines.reachable = true;
    assert!(world.speak(0, spoken, 30..100).iter().all(|w| *w == Written::Sent));
    assert_eq!(world.lines.all.keys().copied().collect::<Vec<_>>(), links);
    assert_eq!(numbers(&world, heard), (0..10).chain(30..100).collect::<Vec<_>>());
    assert_eq!(world.pools[0].counters().reconnects, 0);
}

#[test]
fn words_that_may_come_late_wait_for_a_path_that_stalls() {
    let mut world = World::new(2, relay());
    let (speaker, listener) = (world.lease(0), world.lease(1));
    let words = PublishTrack { waits: true, ..publication("audio", Delivery::Stream) };
    let spoken = world.publish(0, speaker, words);
    let heard = world.subscribe(1, listener, "audio");
    world.run_ms(200);
    world.speak(0, spoken, 0..10);
    world.lines.reachable = false;
    let links: Vec<_> = world.lines.all.keys().copied().collect();
    links.iter().for_each(|link| world.event(*link, LinkEvent::Quiet));
    assert!(world.speak(0, spoken, 10..30).iter().all(|w| *w == Written::Sent));
    links.iter().for_each(|link| world.event(*link, LinkEvent::Alive));
    world.speak(0, spoken, 30..40);
    assert_eq!(numbers(&world, heard), (0..40).collect::<Vec<_>>());
    // With another link beside it none comes twice.
    world.lines.reachable = true;
    world.run_ms(5000);
    let links: Vec<_> = world.lines.all.keys().copied().collect();
    links.iter().for_each(|link| world.event(*link, LinkEvent::Quiet));
    assert!(world.speak(0, spoken, 40..200).iter().all(|w| *w == Written::Sent));
    assert!(links.iter().all(|link| !world.lines.all.contains_key(link)), "the old ones are closed");
    assert_eq!(numbers(&world, heard), (0..200).collect::<Vec<_>>());
}

#[test]
fn a_path_that_stays_quiet_is_told_as_lost_and_found() {
    let (mut world, spoken, heard) = talk(Delivery::Stream);
    world.lines.reachable = false;
    let links: Vec<_> = world.lines.all.keys().copied().collect();
    let told =
        |world: &World, state: State| world.count(1, |e| matches!(e, Event::State { state: s, .. } if *s == state));
    let connected = told(&world, State::Connected);
    links.iter().for_each(|link| world.event(*link, LinkEvent::Quiet));
    world.run_ms(900);
    assert_eq!(told(&world, State::Reconnecting), 0, "it may only have stumbled");
    world.run_ms(5000);
    assert_eq!(told(&world, State::Reconnecting), 1);
    links.iter().for_each(|link| world.event(*link, LinkEvent::Alive));
    world.lines.reachable = true;
    world.speak(0, spoken, 10..30);
    assert_eq!((told(&world, State::Connected), told(&world, State::Reconnecting)), (connected + 1, 1));
    assert_eq!(numbers(&world, heard), (0..30).collect::<Vec<_>>());
}

#[test]
fn goaway_moves_both_sides_without_a_gap() {
    for delivery in [Delivery::Stream, Delivery::Datagram] {
        let (mut world, spoken, heard) = talk(delivery);
        let old: Vec<_> = world.lines.all.keys().copied().collect();
        for link in &old {
            let goaway = GoAway { uri: String::new(), timeout: Some(Duration::from_secs(5)) };
            world.lines.all.get_mut(link).unwrap().pair.server.goaway(goaway);
        }
        let written = world.speak(0, spoken, 10..200);
        assert!(written.iter().all(|w| *w == Written::Sent));
        world.run_ms(100);
        assert_eq!(numbers(&world, heard), (0..200).collect::<Vec<_>>());
        assert!(old.iter().all(|link| !world.lines.all.contains_key(link)));
        let closed = world.lines.closed.iter().filter(|(link, ..)| old.contains(&link.0));
        assert!(closed.into_iter().all(|(_, code, _)| *code == CloseCode::NoError as u64));
        assert_eq!(world.count(1, |e| matches!(e, Event::Lost { .. } | Event::Ended { .. })), 0);
        assert_eq!(world.count(0, |e| matches!(e, Event::State { state: State::Reconnecting, .. })), 0);
    }
}

#[test]
fn leases_share_links_up_to_the_cap() {
    let mut world = World::new(1, relay());
    let route = world.route(0, 3);
    let leases: Vec<_> = (0..7).map(|_| world.pools[0].lease(route, tokens("ok"), world.now)).collect();
    world.run_ms(500);
    assert_eq!(world.lines.all.len(), 3);
    world.release(0, leases[0]);
    world.run_ms(100);
    assert_eq!(world.lines.all.len(), 3, "two others lease it still");
    let again = world.pools[0].lease(route, tokens("ok"), world.now);
    world.run_ms(500);
    assert_eq!(world.lines.all.len(), 3, "the free place is taken");
    let connected = |lease: LeaseId| Event::State { lease, state: State::Connected, reason: None };
    assert_eq!(world.count(0, |e| *e == connected(again)), 1);
    let other = world.route(0, 3);
    world.pools[0].lease(other, tokens("ok"), world.now);
    world.run_ms(500);
    assert_eq!(world.lines.all.len(), 4, "routes share nothing");
}

#[test]
fn a_link_that_nobody_leases_is_closed_once_its_last_words_are_out() {
    let (mut world, spoken, heard) = talk(Delivery::Stream);
    let lease = LeaseId(2);
    let link = world.lines.dialled[0].0;
    world.lines.all.get_mut(&link.0).unwrap().quiet = Duration::from_millis(1);
    world.end(0, spoken);
    world.release(0, lease);
    world.run_ms(1500);
    assert!(world.lines.closed.is_empty(), "something is not acknowledged");
    assert_eq!(world.told(1).last(), Some(&&Event::Ended { track: heard }));
    world.lines.all.get_mut(&link.0).unwrap().quiet = Duration::ZERO;
    world.run_ms(300);
    assert_eq!(world.lines.closed, [(link, CloseCode::NoError as u64, "nobody needs this link".to_owned())]);
    assert_eq!(world.pools[0].poll_timeout(), None, "nothing is left to do");

    // Whoever never spoke goes at once.
    let mut world = World::new(1, relay());
    let lease = world.lease(0);
    world.subscribe(0, lease, "audio");
    world.run_ms(200);
    world.release(0, lease);
    assert_eq!(world.lines.closed.len(), 1);
}

#[test]
fn a_lease_that_goes_while_it_is_dialled_for_leaves_nothing_behind() {
    let mut world = World::new(1, relay());
    world.supplies = false;
    let route = world.route(0, 2);
    let (first, second) =
        (world.pools[0].lease(route, vec![], world.now), world.pools[0].lease(route, vec![], world.now));
    world.run_ms(0);
    assert_eq!(world.wants.iter().map(|(.., lease)| *lease).collect::<Vec<_>>(), [first]);
    world.release(0, first);
    world.run_ms(0);
    let (_, stale, _) = world.wants[0];
    let (_, fresh, lease) = world.wants[1];
    assert_eq!(lease, second, "asked again in the name of who is left");
    world.supply(0, stale, Ok(Setup::default()));
    assert!(world.lines.dialled.is_empty());
    world.supply(0, fresh, Ok(Setup::default()));
    world.release(0, second);
    world.run_ms(5000);
    assert!(world.lines.all.is_empty() && world.pools[0].poll_timeout().is_none());
}

#[test]
fn a_peer_that_refuses_our_tokens_for_good_ends_in_failed_until_they_are_renewed() {
    let mut world = World::new(1, relay());
    let lease = world.lease(0);
    world.run_ms(100);
    let refuse = |world: &mut World| {
        for link in world.lines.all.keys().copied().collect::<Vec<_>>() {
            let code = CloseCode::ExpiredAuthToken as u64;
            world.cut(link, Down::Peer { code, reason: "expired".to_owned() });
        }
    };
    for _ in 0..5 {
        refuse(&mut world);
        world.run_ms(1100);
    }
    let told = world.told(0);
    assert!(matches!(told.last(), Some(Event::State { state: State::Failed, reason: Some(_), .. })), "{told:?}");
    let dials = world.pools[0].counters().dials;
    world.run_ms(60_000);
    assert_eq!(world.pools[0].counters().dials, dials);
    world.pools[0].renew(lease, tokens("ok"));
    world.run_ms(2000);
    assert!(matches!(world.told(0).last(), Some(Event::State { state: State::Connected, .. })));
}

#[test]
fn an_outage_that_ends_while_a_track_is_ended_tells_the_end_to_who_comes_back() {
    let (mut world, spoken, heard) = talk(Delivery::Stream);
    world.lines.reachable = false;
    world.crash();
    world.end(0, spoken);
    world.run_ms(1000);
    world.lines.reachable = true;
    world.run_ms(2000);
    assert_eq!(world.told(1).last(), Some(&&Event::Ended { track: heard }));
}

#[test]
fn shutdown_closes_every_link_and_forgets_them() {
    let (mut world, ..) = talk(Delivery::Stream);
    let World { pools, lines, .. } = &mut world;
    pools.iter_mut().for_each(|pool| pool.shutdown(lines));
    assert_eq!(
        world.lines.closed.iter().map(|(link, code, _)| (*link, *code)).collect::<Vec<_>>(),
        [(LinkId(1), 0), (LinkId(2), 0)]
    );
    assert!(world.pools.iter().all(|pool| pool.poll_timeout().is_none()));
}
