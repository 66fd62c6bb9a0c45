//! Requests that their peer sends away, one by one: nobody hears it.

use std::time::Duration;

use super::shared::{SIDS, Shared};
use super::world::{World, publication, relay};
use crate::moqt::message::{GoAway, Setup};
use crate::moqt::session::RequestId;
use crate::moqt::session::tests::pair::Conditions;
use crate::moqt::{Draft, RequestErrorCode};
use crate::tracks::{Delivery, Event, Written};

/// The peer's word to the `nth` request of the client of a link.
fn send_away(world: &mut World, link: u64, request: u64, uri: &str) {
    let line = world.lines.all.get_mut(&link).expect("it stands");
    let goaway = GoAway { uri: uri.to_owned(), timeout: Some(Duration::from_secs(5)) };
    assert!(line.pair.server.goaway_request(RequestId(request), goaway), "request {request} stands");
}

fn in_draft(world: &mut World, draft: Draft) {
    world.lines.conditions = Conditions { draft, ..Conditions::default() };
}

/// A speaker on link 1 whose namespace is request 0, a listener on link 2 whose subscription is request 0.
fn talking(draft: Draft) -> (World, crate::tracks::TrackId, crate::tracks::TrackId) {
    let mut world = World::new(2, relay());
    in_draft(&mut world, draft);
    let (speaker, listener) = (world.lease(0), world.lease(1));
    let spoken = world.publish(0, speaker, publication("audio", Delivery::Stream));
    world.run_ms(100);
    let heard = world.subscribe(1, listener, "audio");
    world.run_ms(200);
    world.speak(0, spoken, 0..20);
    (world, spoken, heard)
}

fn subscriptions(world: &World) -> usize {
    world.core.as_ref().expect("a relay").counters().subscriptions
}

#[test]
fn a_subscription_is_made_again_beside_the_old_one_without_a_gap_or_a_duplicate() {
    for draft in [Draft::D20, Draft::D22] {
        let (mut world, spoken, heard) = talking(draft);
        send_away(&mut world, 2, 0, "");
        world.speak(0, spoken, 20..30);
        assert_eq!(subscriptions(&world), 2, "both stand for a while");
        world.speak(0, spoken, 30..100);
        world.run_ms(200);
        let expected: Vec<_> = (0..100).map(|n| (n, Some(n * 20_000), n)).collect();
        assert_eq!(world.heard(1, heard), expected, "{draft:?}");
        assert_eq!((subscriptions(&world), world.pools[1].counters().resubscribes), (1, 1));
        assert_eq!(world.count(1, |e| matches!(e, Event::Lost { .. })), 0);
        assert_eq!(world.lines.dialled.len(), 2, "on the same session");
        // The old one is gone: the peer's time for it ends nothing.
        world.speak(0, spoken, 100..500);
        assert_eq!((world.heard(1, heard).len(), subscriptions(&world)), (500, 1));
    }
}

/// Until draft 18 a session has one subscription to a track.
#[test]
fn a_relay_that_takes_no_second_subscription_is_asked_again_when_the_first_is_withdrawn() {
    let (mut world, spoken, heard) = talking(Draft::D18);
    send_away(&mut world, 2, 0, "");
    world.speak(0, spoken, 20..300);
    let frames: Vec<_> = world.heard(1, heard).into_iter().map(|(n, ..)| n).collect();
    assert!(frames.windows(2).all(|pair| pair[0] < pair[1]), "none twice");
    let missed = 300 - frames.len();
    assert!(missed < 30, "{missed} frames are a blink");
    assert_eq!((frames.last(), subscriptions(&world)), (Some(&299), 1));
    let refused = RequestErrorCode::DuplicateSubscription as u64;
    assert_eq!(world.count(1, |e| matches!(e, Event::Refused { code, .. } if *code == refused)), 0);
}

#[test]
fn a_request_that_is_sent_elsewhere_takes_its_link_along_without_a_gap() {
    let (mut world, spoken, heard) = talking(Draft::D18);
    world.supplies = false;
    send_away(&mut world, 2, 0, "moqt://other.example:1");
    world.speak(0, spoken, 20..25);
    assert_eq!(world.uris, ["moqt://other.example:1"]);
    for (pool, id, _) in std::mem::take(&mut world.wants) {
        world.supply(pool, id, Ok(Setup::default()));
    }
    world.supplies = true;
    world.speak(0, spoken, 25..200);
    let expected: Vec<_> = (0..200).map(|n| (n, Some(n * 20_000), n)).collect();
    assert_eq!(world.heard(1, heard), expected);
    assert!(!world.lines.all.contains_key(&2), "the old link is gone");
    assert_eq!(world.count(1, |e| matches!(e, Event::Lost { .. })), 0);
}

#[test]
fn a_namespace_is_announced_again_and_its_subscribers_hear_nothing_of_it() {
    let (mut world, spoken, heard) = talking(Draft::D18);
    send_away(&mut world, 1, 0, "");
    let written = world.speak(0, spoken, 20..400);
    assert!(written.iter().all(|written| *written == Written::Sent));
    assert_eq!(world.heard(1, heard).len(), 400);
    assert_eq!(world.core.as_ref().unwrap().counters().namespaces, 1);
    // Who comes later finds it, and the peer's time for the old one is over.
    let lease = world.lease(1);
    let late = world.subscribe(1, lease, "audio");
    world.run_ms(200);
    world.speak(0, spoken, 400..410);
    assert_eq!(world.heard(1, late).len(), 10);
}

#[test]
fn who_is_sent_away_again_and_again_is_not_driven_around() {
    let (mut world, spoken, heard) = talking(Draft::D22);
    let mut sent = 0;
    for n in 20..520 {
        world.speak(0, spoken, n..n + 1);
        let server = &mut world.lines.all.get_mut(&2).expect("it stands").pair.server;
        let goaway = GoAway { uri: String::new(), timeout: None };
        sent += (0..200).filter(|id| server.goaway_request(RequestId(id * 2), goaway.clone())).count();
    }
    assert!(sent >= 2, "{sent}");
    assert!(world.pools[1].counters().resubscribes <= 2, "{}", world.pools[1].counters().resubscribes);
    assert_eq!(world.heard(1, heard).len(), 520);
}

/// Leases of one link that want the same track share its request, and move with it.
#[test]
fn all_that_share_a_subscription_move_with_it() {
    let mut shared = Shared::new();
    let again = shared.hear(shared.leases[0], SIDS[0]);
    shared.world.run_ms(200);
    shared.speak(0..10);
    let before = shared.world.heard(1, again).len();
    // Every request of the listeners' link that stands.
    let server = &mut shared.world.lines.all.get_mut(&2).expect("it stands").pair.server;
    let goaway = GoAway { uri: String::new(), timeout: Some(Duration::from_secs(5)) };
    let sent = (0..20).filter(|id| server.goaway_request(RequestId(id * 2), goaway.clone())).count();
    assert_eq!(sent, SIDS.len());
    shared.speak(10..300);
    assert_eq!(before, 10);
    assert!(shared.counts().iter().all(|count| *count > 270), "{:?}", shared.counts());
    assert!(shared.world.heard(1, again).len() > 270);
    let counters = shared.world.core.as_ref().unwrap().counters();
    assert_eq!(counters.subscriptions, SIDS.len());
}
