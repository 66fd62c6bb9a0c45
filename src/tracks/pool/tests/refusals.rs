//! Refused requests: which are repeated, which want other tokens, which are told.

use std::time::Duration;

use super::world::{World, name, publication, tokens};
use crate::moqt::message::{PublishDone, RequestError, SubscribeOk, Token};
use crate::moqt::session::{RequestId, Role};
use crate::moqt::{Event as Moqt, PublishDoneCode, RequestErrorCode as Code};
use crate::tracks::{Delivery, Event};

pub(super) fn error(code: Code, retry_after_ms: Option<u64>) -> RequestError {
    RequestError { retry_after: retry_after_ms.map(Duration::from_millis), ..RequestError::new(code, "no") }
}

/// The next SUBSCRIBE or PUBLISH_NAMESPACE that came, with its tokens.
fn asked(world: &mut World) -> Option<(RequestId, Vec<Token>)> {
    if world.lines.all.is_empty() {
        return None;
    }
    world.only().find(Role::Server, |event| match event {
        Moqt::Subscribe { request, subscribe } => Some((*request, subscribe.tokens.clone())),
        Moqt::PublishNamespace { request, tokens, .. } => Some((*request, tokens.clone())),
        _ => None,
    })
}

/// Waits for the next request; how long that took, to 10 ms.
fn next(world: &mut World) -> (RequestId, u64) {
    for ms in (0..60_000).step_by(10) {
        if let Some((request, _)) = asked(world) {
            return (request, ms);
        }
        world.run_ms(10);
    }
    panic!("nothing was asked again");
}

#[test]
fn a_track_that_is_not_there_is_asked_for_as_long_as_the_lease_lives() {
    let mut world = World::new(1, None);
    let lease = world.lease(0);
    let heard = world.subscribe(0, lease, "audio");
    let mut waits = Vec::new();
    for _ in 0..20 {
        let (request, ms) = next(&mut world);
        waits.push(ms);
        world.only().server.reject(request, error(Code::DoesNotExist, None));
    }
    assert!(
        waits[1..4].iter().all(|ms| *ms < 800) && waits[10..].iter().all(|ms| (1900..4000).contains(ms)),
        "{waits:?}"
    );
    assert_eq!(world.pools[0].counters().resubscribes, 19);
    // Whoever knows whether there will ever be one is asked each time.
    assert_eq!(world.count(0, |e| matches!(e, Event::Lost { track, .. } if *track == heard)), 19);
    let (request, _) = next(&mut world);
    world.only().server.accept_subscribe(request, SubscribeOk::default());
    world.run_ms(100);
    assert_eq!(world.told(0).last(), Some(&&Event::Live { track: heard }));
    assert_eq!(world.count(0, |e| matches!(e, Event::Refused { .. })), 0);

    // The publisher goes without an end; the lease goes; nobody asks any more.
    let done = PublishDone { code: PublishDoneCode::TrackEnded as u64, streams: 0, reason: String::new() };
    world.only().server.end_publication(request, done);
    world.run_ms(50);
    world.release(0, lease);
    world.run_ms(20_000);
    assert!(world.lines.all.is_empty());
    assert_eq!(world.pools[0].poll_timeout(), None);
}

#[test]
fn a_busy_peer_gets_the_time_that_it_names() {
    for (code, named, least, most) in [
        (Code::ExcessiveLoad, Some(3000), 3000, 4700),
        (Code::ExcessiveLoad, None, 1000, 1700),
        (Code::Timeout, None, 0, 200),
        (Code::NotSupported, Some(500), 500, 950),
    ] {
        let mut world = World::new(1, None);
        let lease = world.lease(0);
        world.subscribe(0, lease, "audio");
        let (request, _) = next(&mut world);
        world.only().server.reject(request, error(code, named));
        let (_, ms) = next(&mut world);
        assert!((least..=most).contains(&ms), "{code:?}: {ms}");
    }
}

#[test]
fn refused_tokens_are_asked_for_afresh_twice_and_then_told() {
    for code in [Code::Unauthorized, Code::MalformedAuthToken, Code::ExpiredAuthToken] {
        let mut world = World::new(1, None);
        let lease = world.lease(0);
        let heard = world.subscribe(0, lease, "audio");
        for renewal in ["second", "third"] {
            let (request, _) = next(&mut world);
            world.only().server.reject(request, error(code, None));
            world.run_ms(1000);
            assert_eq!(world.told(0).last(), Some(&&Event::WantTokens { lease }));
            assert_eq!(asked(&mut world), None, "not with the old ones");
            world.pools[0].renew(lease, tokens(renewal));
            world.run_ms(100);
            let (request, sent) = asked(&mut world).unwrap();
            assert_eq!(sent, tokens(renewal));
            world.only().server_events.push_back(Moqt::Subscribe { request, subscribe: subscribe() });
        }
        let (request, _) = next(&mut world);
        world.only().server.reject(request, error(code, None));
        world.run_ms(60_000);
        let told = Event::Refused { track: heard, code: code as u64, reason: "no".to_owned() };
        assert_eq!(world.told(0).last(), Some(&&told));
        assert_eq!(world.count(0, |e| matches!(e, Event::WantTokens { .. })), 2);
        // Tokens that come later are tried all the same.
        world.pools[0].renew(lease, tokens("fourth"));
        let (request, _) = next(&mut world);
        world.only().server.accept_subscribe(request, SubscribeOk::default());
        world.run_ms(100);
        assert_eq!(world.told(0).last(), Some(&&Event::Live { track: heard }));
    }
}

fn subscribe() -> crate::moqt::message::Subscribe {
    crate::moqt::message::Subscribe::new(name("audio"))
}

#[test]
fn tokens_that_never_come_end_in_a_refusal() {
    let mut world = World::new(1, None);
    let lease = world.lease(0);
    let spoken = world.publish(0, lease, publication("audio", Delivery::Stream));
    let (request, _) = next(&mut world);
    world.only().server.reject(request, error(Code::ExpiredAuthToken, None));
    world.run_ms(9_000);
    assert_eq!(world.told(0).last(), Some(&&Event::WantTokens { lease }));
    world.run_ms(2_000);
    assert!(matches!(world.told(0).last(), Some(Event::Refused { track, .. }) if *track == spoken));
    world.pools[0].renew(lease, tokens("late"));
    let (request, _) = next(&mut world);
    world.only().server.accept(request);
    world.run_ms(100);
    assert_eq!(world.count(0, |e| matches!(e, Event::Refused { .. })), 1);
}

#[test]
fn what_repeating_cannot_mend_is_told_once() {
    for code in [Code::NotSupported, Code::MalformedTrack, Code::Uninterested] {
        let mut world = World::new(1, None);
        let lease = world.lease(0);
        let spoken = world.publish(0, lease, publication("audio", Delivery::Stream));
        let other = world.publish(0, lease, publication("other", Delivery::Stream));
        let (request, _) = next(&mut world);
        world.only().server.reject(request, error(code, None));
        world.run_ms(30_000);
        let told = |track| Event::Refused { track, code: code as u64, reason: "no".to_owned() };
        assert_eq!(world.count(0, |e| *e == told(spoken) || *e == told(other)), 2);
        assert_eq!(asked(&mut world), None);
    }
}

#[test]
fn an_announcement_that_the_peer_drops_is_made_again() {
    let mut world = World::new(1, None);
    let lease = world.lease(0);
    world.publish(0, lease, publication("audio", Delivery::Stream));
    let (request, _) = next(&mut world);
    world.only().server.reject(request, error(Code::ExcessiveLoad, Some(200)));
    let (request, ms) = next(&mut world);
    assert!((200..600).contains(&ms));
    world.only().server.accept(request);
    world.run_ms(60_000);
    assert_eq!(asked(&mut world), None);
}
