//! The life of a token: what ends with it, what another one carries on, and what a revocation ends.

use std::time::Duration;

use super::world::{May, World, audio, code, done, named, namespace, object, subscribe, token, uplink};
use crate::moqt::message::{SubscribeOk, TrackProperties, Update};
use crate::moqt::relay::{Limits, constants};
use crate::moqt::{CloseCode, Draft, Event, PublishDoneCode, RequestErrorCode, ResetCode};

const MINUTE: Duration = Duration::from_secs(60);

/// Rights that end a minute after the world began.
fn a_minute(world: &World) -> May {
    May { until: Some(world.now + MINUTE), ..May::everything() }
}

fn ends(world: &World, key: usize) -> Vec<Option<u64>> {
    let ends = world.clients[key].heard.iter().filter_map(|event| match event {
        Event::SubgroupEnd { reset, .. } => Some(*reset),
        _ => None,
    });
    ends.collect()
}

#[test]
fn a_subscription_ends_with_its_token_after_a_grace() {
    let mut world = World::new();
    let publisher = world.publisher();
    let may = a_minute(&world);
    let listener = world.client_that(may, Limits::default());
    let stays = world.client();
    world.subscribe(listener, None);
    world.subscribe(stays, None);
    world.run_for(MINUTE);
    world.whole(publisher, 1);
    // New requests fail at once, what was accepted has its grace.
    let late = world.session(listener).subscribe(subscribe(named(uplink(), "pcm16"), None));
    world.settle();
    assert_eq!(world.refused(listener, late), code(RequestErrorCode::ExpiredAuthToken));
    assert_eq!((world.objects(listener).len(), world.done(listener)), (3, None));
    let subgroup = world.group(publisher, 2);
    world.send(publisher, subgroup, 2, 0..2);
    world.run_for(constants::EXPIRY_GRACE);
    assert_eq!(world.done(listener), done(PublishDoneCode::Expired));
    assert_eq!(ends(&world, listener).last(), Some(&Some(ResetCode::ExpiredAuthToken as u64)));
    world.send(publisher, subgroup, 2, 2..4);
    assert_eq!((world.objects(listener).len(), world.objects(stays).len()), (5, 7));
    let counters = world.core.counters();
    assert_eq!((counters.expired, counters.subscriptions), (1, 1));
}

/// EXPIRES of the answers to a subscription and to its update.
fn told(world: &World, key: usize) -> Vec<Option<Duration>> {
    let told = world.clients[key].heard.iter().filter_map(|event| match event {
        Event::SubscribeOk { ok, .. } => Some(ok.expires),
        Event::UpdateOk { ok, .. } => Some(ok.expires),
        _ => None,
    });
    told.collect()
}

/// To the second: the way to the relay takes its time.
fn seconds(told: Vec<Option<Duration>>) -> Vec<Option<u64>> {
    told.into_iter().map(|expires| expires.map(|expires| expires.as_millis().div_ceil(1000) as u64)).collect()
}

#[test]
fn a_subscription_is_told_when_its_token_ends_it_in_every_draft() {
    for draft in Draft::ALL {
        let until = World::new().now + 2 * MINUTE;
        let longer = May { until: Some(until + MINUTE), ..May::everything() };
        let mut world = World::with_tokens([("longer", longer)]);
        world.conditions.draft = draft;
        world.publisher();
        let may = May { until: Some(until), ..May::everything() };
        let listener = world.client_that(may.clone(), Limits::default());
        let endless = world.client();
        let outlives = world.client_that(may, Limits { expiry_grace: None, ..Limits::default() });
        world.run_for(MINUTE / 2);
        let request = world.subscribe(listener, None);
        world.session(listener).update(request, Update::renewal(vec![token("longer")]));
        world.settle();
        let began = world.now;
        // 90 s to the token's end, and a minute of grace; then a minute more.
        let expected = [150, 210].map(Some);
        assert!(began < until);
        let heard = seconds(told(&world, listener));
        let near = heard.iter().zip(expected).all(|(heard, expected)| {
            heard.zip(expected).is_some_and(|(heard, expected): (u64, u64)| (expected - 5..=expected).contains(&heard))
        });
        assert!(near && heard.len() == 2, "{draft:?}: {heard:?}");
        for key in [endless, outlives] {
            world.subscribe(key, None);
            assert_eq!(told(&world, key), [None], "{draft:?}");
        }
    }
}

/// The subscription that is offered is bounded like one that is asked for (§10.10, §10.2.10).
#[test]
fn an_offer_tells_when_its_token_ends_it_in_every_draft() {
    for draft in Draft::ALL {
        let mut world = World::new();
        world.conditions.draft = draft;
        let publisher = world.client();
        world.session(publisher).publish(audio(), TrackProperties::default(), Vec::new());
        world.settle();
        let may = a_minute(&world);
        let wants = world.client_that(may.clone(), Limits::default());
        let endless = world.client();
        let outlives = world.client_that(may, Limits { expiry_grace: None, ..Limits::default() });
        for key in [wants, endless, outlives] {
            world.session(key).subscribe_tracks(namespace(&["voice"]), true, Vec::new());
            world.settle();
        }
        let offered =
            |key: usize| world.clients[key].offered.iter().map(|(_, publish)| publish.expires).collect::<Vec<_>>();
        let heard = seconds(offered(wants));
        assert!(heard.len() == 1 && heard[0].is_some_and(|s| (115..=120).contains(&s)), "{draft:?}: {heard:?}");
        assert_eq!((offered(endless), offered(outlives)), (vec![None], vec![None]), "{draft:?}");
    }
}

#[test]
fn a_held_subscription_is_refused_when_its_token_ends() {
    let mut world = World::new();
    let may = May { until: Some(world.now + Duration::from_secs(5)), ..May::everything() };
    let limits = Limits { expiry_grace: Some(Duration::ZERO), ..Limits::default() };
    let listener = world.client_that(may, limits);
    let request = world.subscribe(listener, Some(Duration::from_secs(30)));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.refused(listener, request), code(RequestErrorCode::ExpiredAuthToken));
    assert_eq!((world.core.counters().tracks, world.core.counters().held, world.core.poll_timeout()), (0, 0, None));
}

#[test]
fn what_a_publisher_said_ends_with_its_token() {
    let mut world = World::new();
    let may = a_minute(&world);
    let publisher = world.client_that(may, Limits::default());
    world.clients[publisher].serves = Some(SubscribeOk::default());
    let announced = world.announce(publisher, uplink());
    let pushed = world.session(publisher).publish(named(uplink(), "pushed"), TrackProperties::default(), Vec::new());
    let listener = world.client();
    world.subscribe(listener, None);
    world.session(listener).subscribe(subscribe(named(uplink(), "pushed"), None));
    world.settle();
    let upstream = world.clients[publisher].asked[0].0;
    world.run_for(MINUTE + constants::EXPIRY_GRACE);
    let ended = |event: &Event| match event {
        Event::RequestError { request, .. } | Event::Cancelled { request } => Some(*request),
        _ => None,
    };
    let mut ended: Vec<_> = world.clients[publisher].heard.iter().filter_map(ended).collect();
    ended.sort();
    let mut expected = vec![announced, pushed, upstream];
    expected.sort();
    assert_eq!(ended, expected);
    let counters = world.core.counters();
    assert_eq!((counters.namespaces, counters.tracks, counters.subscriptions), (0, 0, 0));
    assert_eq!(world.done(listener), done(PublishDoneCode::InternalError));
}

#[test]
fn a_new_token_in_the_session_carries_on_what_the_old_one_allowed() {
    let mut world = World::with_tokens([("fresh", May { subscribe: vec![uplink()], ..May::default() })]);
    let publisher = world.publisher();
    let may = a_minute(&world);
    let listener = world.client_that(may, Limits::default());
    world.subscribe(listener, None);
    // Any request may bring it, if it allows this one too.
    let mut renewed = subscribe(named(uplink(), "pcm16"), None);
    renewed.tokens = vec![token("fresh")];
    let request = world.session(listener).subscribe(renewed);
    world.settle();
    assert!(world.is_answered(listener, request));
    world.run_for(10 * MINUTE);
    let upstream = world.clients[publisher].asked[0].0;
    world.session(publisher).send_datagram(upstream, &object(1, 0)).unwrap();
    world.settle();
    assert_eq!((world.done(listener), world.objects(listener).len()), (None, 1));
    assert_eq!(world.core.counters().expired, 0);
}

#[test]
fn a_token_for_something_else_carries_nothing_on() {
    let other = May { subscribe: vec![namespace(&["voice", "CA2"])], ..May::default() };
    let mut world = World::with_tokens([("other", other)]);
    world.publisher();
    let may = a_minute(&world);
    let listener = world.client_that(may, Limits::default());
    world.subscribe(listener, None);
    let mut elsewhere = subscribe(named(namespace(&["voice", "CA2"]), "x"), Some(MINUTE));
    elsewhere.tokens = vec![token("other")];
    world.session(listener).subscribe(elsewhere);
    world.run_for(MINUTE + constants::EXPIRY_GRACE);
    assert_eq!(world.done(listener), done(PublishDoneCode::Expired));
}

#[test]
fn an_engines_calls_outlive_its_token() {
    let mut world = World::new();
    let may = a_minute(&world);
    let engine = world.client_that(may, Limits::engine());
    world.clients[engine].serves = Some(SubscribeOk::default());
    world.announce(engine, uplink());
    let listener = world.client();
    world.subscribe(listener, None);
    world.run_for(60 * MINUTE);
    world.whole(engine, 1);
    assert_eq!(world.objects(listener).len(), 3);
    let late = world.announce(engine, namespace(&["voice", "CA2"]));
    assert_eq!(world.refused(engine, late), code(RequestErrorCode::ExpiredAuthToken));
}

#[test]
fn a_revoked_token_ends_at_once_in_all_its_sessions_and_in_no_other() {
    let may = |identity| May { identity: Some(identity), ..May::everything() };
    let mut world = World::with_tokens([("acme", may("acme"))]);
    let publisher = world.publisher();
    let by_setup = world.client_that(may("acme"), Limits::default());
    let by_request = world.client_that(May::default(), Limits::default());
    let other = world.client_that(may("other"), Limits::default());
    world.subscribe(by_setup, None);
    world.subscribe(other, None);
    let mut asked = subscribe(audio(), None);
    asked.tokens = vec![token("acme")];
    world.session(by_request).subscribe(asked);
    let listing = world.session(by_request).subscribe_namespace(namespace(&["voice"]), vec![token("acme")]);
    world.settle();
    world.revoke("acme");
    world.announce(publisher, namespace(&["voice", "CA2"]));
    world.whole(publisher, 1);
    assert_eq!(world.done(by_request), done(PublishDoneCode::Unauthorized));
    let told = |event: &Event| matches!(event, Event::Namespace { request, suffix } if *request == listing && *suffix == namespace(&["CA2"]));
    assert!(!world.clients[by_request].heard.iter().any(told), "a listing shows nothing new");
    let closed = |event: &Event| matches!(event, Event::Closed { code, .. } if *code == CloseCode::Unauthorized as u64);
    assert!(world.clients[by_setup].pair.server.is_closed());
    assert!(!world.clients[by_request].heard.iter().any(closed));
    assert_eq!([by_setup, by_request, other].map(|key| world.objects(key).len()), [0, 0, 3]);
    assert_eq!(world.core.counters().revoked, 2);
}
