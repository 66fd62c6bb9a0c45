//! A SUBSCRIBE from asking to its answer: publishers before and after it, held, refused, withdrawn.

use std::time::Duration;

use super::world::{World, audio, code, named, namespace, subscribe, uplink};
use crate::moqt::message::{Filter, Location, RequestError, SubscribeOk, TrackProperties};
use crate::moqt::relay::constants;
use crate::moqt::{Event, RequestErrorCode};

const HOLD: Option<Duration> = Some(Duration::from_secs(5));

#[test]
fn a_publisher_is_asked_once_for_all_subscribers() {
    let mut world = World::new();
    let publisher = world.publisher();
    for _ in 0..3 {
        let listener = world.client();
        let request = world.subscribe(listener, None);
        assert!(world.is_answered(listener, request));
    }
    assert_eq!(world.clients[publisher].asked.iter().map(|(_, track)| track).collect::<Vec<_>>(), [&audio()]);
}

#[test]
fn what_the_publisher_says_of_the_track_is_passed_on() {
    let mut world = World::new();
    let publisher = world.publisher();
    let properties = TrackProperties(crate::moqt::properties::timescale(1_000_000));
    let largest = Some(Location { group: 100, object: 3 });
    let ok = SubscribeOk { largest, properties, ..SubscribeOk::default() };
    world.clients[publisher].serves = Some(ok.clone());
    let listener = world.client();
    let request = world.subscribe(listener, None);
    assert!(world.clients[listener].heard.contains(&Event::SubscribeOk { request, ok }));
}

#[test]
fn without_a_publisher_it_does_not_exist() {
    let mut world = World::new();
    let listener = world.client();
    let request = world.subscribe(listener, None);
    assert_eq!(world.refused(listener, request), code(RequestErrorCode::DoesNotExist));
    assert_eq!(world.core.counters().tracks, 0);
}

#[test]
fn a_held_subscription_is_answered_when_the_publisher_comes() {
    let mut world = World::new();
    let listener = world.client();
    let request = world.subscribe(listener, HOLD);
    world.run_for(Duration::from_secs(4));
    assert!(!world.is_answered(listener, request) && world.refused(listener, request).is_none());
    let publisher = world.publisher();
    assert!(world.is_answered(listener, request));
    world.run_for(Duration::from_secs(10));
    world.whole(publisher, 1);
    assert_eq!(world.objects(listener).len(), 3);
}

#[test]
fn a_publisher_that_has_the_track_later_is_asked_again_for_whom_is_held() {
    let mut world = World::new();
    let publisher = world.client();
    world.announce(publisher, uplink());
    let refuse = |world: &mut World| {
        let request = world.clients[publisher].asked.last().unwrap().0;
        let error = RequestError::new(RequestErrorCode::DoesNotExist, "not yet");
        world.session(publisher).reject(request, error);
        world.settle();
    };
    let listener = world.client();
    let request = world.subscribe(listener, Some(constants::RENDEZVOUS_MAX));
    refuse(&mut world);
    for (ms, asked) in [(90, 1), (20, 2)] {
        world.run_for(Duration::from_millis(ms));
        assert_eq!(world.clients[publisher].asked.len(), asked);
    }
    refuse(&mut world);
    for (ms, asked) in [(580, 2), (30, 3)] {
        world.run_for(Duration::from_millis(ms));
        assert_eq!(world.clients[publisher].asked.len(), asked, "each time after twice as long");
    }
    world.clients[publisher].serves = Some(SubscribeOk::default());
    refuse(&mut world);
    world.run_for(Duration::from_millis(1700));
    assert!(world.is_answered(listener, request), "without another announcement");
    world.whole(publisher, 1);
    assert_eq!(world.objects(listener).len(), 3);
    world.run_for(Duration::from_secs(60));
    assert_eq!((world.clients[publisher].asked.len(), world.core.poll_timeout()), (4, None));
}

#[test]
fn nobody_is_asked_again_for_who_is_not_held_or_by_who_may_never() {
    for (hold, error) in [(None, RequestErrorCode::DoesNotExist), (HOLD, RequestErrorCode::Unauthorized)] {
        let mut world = World::new();
        let publisher = world.client();
        world.announce(publisher, uplink());
        let listener = world.client();
        let request = world.subscribe(listener, hold);
        let (asked, _) = world.clients[publisher].asked[0].clone();
        world.session(publisher).reject(asked, RequestError::new(error, "no"));
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.clients[publisher].asked.len(), 1);
        assert!(world.refused(listener, request).is_some());
    }
}

#[test]
fn a_publisher_of_a_prefix_is_asked_too() {
    for prefix in [&["voice", "CA1"][..], &["voice"], &[]] {
        let mut world = World::new();
        let publisher = world.client();
        world.clients[publisher].serves = Some(SubscribeOk::default());
        world.announce(publisher, namespace(prefix));
        let listener = world.client();
        let request = world.subscribe(listener, None);
        assert!(world.is_answered(listener, request), "{prefix:?}");
    }
}

#[test]
fn nobody_is_asked_for_what_it_did_not_announce() {
    let mut world = World::new();
    let publisher = world.client();
    world.announce(publisher, namespace(&["voice", "CA1", "uplin"]));
    world.announce(publisher, namespace(&["voice", "CA1", "uplink", "audio"]));
    let listener = world.client();
    let request = world.subscribe(listener, None);
    assert_eq!(world.refused(listener, request), code(RequestErrorCode::DoesNotExist));
    assert!(world.clients[publisher].asked.is_empty());
}

#[test]
fn a_held_subscription_times_out() {
    let mut world = World::new();
    let listener = world.client();
    let request = world.session(listener).subscribe(subscribe(audio(), HOLD));
    world.run_for(Duration::from_millis(4900));
    assert_eq!(world.refused(listener, request), None);
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.refused(listener, request), code(RequestErrorCode::Timeout));
    assert_eq!((world.core.counters().unanswered, world.core.counters().tracks), (1, 0));
    assert_eq!(world.core.poll_timeout(), None);
}

#[test]
fn nobody_is_held_for_longer_than_the_maximum() {
    let mut world = World::new();
    let listener = world.client();
    let request = world.subscribe(listener, Some(Duration::from_secs(3600)));
    world.run_for(constants::RENDEZVOUS_MAX);
    assert_eq!(world.refused(listener, request), code(RequestErrorCode::Timeout));
}

#[test]
fn a_withdrawn_subscription_is_forgotten() {
    let mut world = World::new();
    let listener = world.client();
    let request = world.subscribe(listener, HOLD);
    world.session(listener).cancel(request);
    world.settle();
    assert_eq!((world.core.counters().tracks, world.core.poll_timeout()), (0, None));
    let publisher = world.publisher();
    assert!(world.clients[publisher].asked.is_empty());
}

#[test]
fn the_upstream_subscription_ends_with_the_last_subscriber() {
    let mut world = World::new();
    let publisher = world.publisher();
    let (first, second) = (world.client(), world.client());
    let (a, b) = (world.subscribe(first, None), world.subscribe(second, None));
    let upstream = world.clients[publisher].asked[0].0;
    world.session(first).cancel(a);
    world.settle();
    assert!(!world.clients[publisher].heard.contains(&Event::Cancelled { request: upstream }));
    world.session(second).cancel(b);
    world.settle();
    assert!(world.clients[publisher].heard.contains(&Event::Cancelled { request: upstream }));
    assert_eq!((world.core.counters().tracks, world.core.counters().subscriptions), (0, 0));
    // It is asked again for the next one.
    world.subscribe(first, None);
    assert_eq!(world.clients[publisher].asked.len(), 2);
}

#[test]
fn a_publisher_that_does_not_answer_is_given_up() {
    let mut world = World::new();
    let publisher = world.publisher();
    world.clients[publisher].serves = None;
    let listener = world.client();
    let request = world.subscribe(listener, None);
    world.run_for(constants::ANSWER_TIMEOUT);
    assert_eq!(world.refused(listener, request), code(RequestErrorCode::Timeout));
    let upstream = world.clients[publisher].asked[0].0;
    assert!(world.clients[publisher].heard.contains(&Event::Cancelled { request: upstream }));
    assert_eq!(world.core.counters().tracks, 0);
}

#[test]
fn a_publishers_refusal_is_passed_on_unless_the_subscriber_waits() {
    for (hold, expected) in [(None, code(RequestErrorCode::ExcessiveLoad)), (HOLD, None)] {
        let mut world = World::new();
        let publisher = world.publisher();
        world.clients[publisher].serves = None;
        let listener = world.client();
        let request = world.subscribe(listener, hold);
        let upstream = world.clients[publisher].asked[0].0;
        let error = RequestError { code: 9, retry_after: None, reason: "secret".into() };
        world.session(publisher).reject(upstream, error);
        world.settle();
        assert_eq!(world.refused(listener, request), expected);
        // The publisher's words stay with it, and it is not asked again and again.
        assert!(world.refusal(listener, request).is_none_or(|error| error.reason != "secret"));
        assert_eq!(world.clients[publisher].asked.len(), 1);
    }
}

#[test]
fn another_publisher_answers_when_one_refuses() {
    let mut world = World::new();
    let (refuses, serves) = (world.publisher(), world.publisher());
    world.clients[refuses].serves = None;
    world.clients[serves].serves = None;
    let listener = world.client();
    let request = world.subscribe(listener, None);
    let (first, second) = (world.clients[refuses].asked[0].0, world.clients[serves].asked[0].0);
    world.session(refuses).reject(first, RequestError::new(RequestErrorCode::DoesNotExist, ""));
    world.settle();
    world.session(serves).accept_subscribe(second, SubscribeOk::default());
    world.settle();
    assert!(world.is_answered(listener, request));
}

#[test]
fn a_track_is_subscribed_to_once_per_session() {
    let mut world = World::new();
    world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    let again = world.subscribe(listener, None);
    assert_eq!(world.refused(listener, again), code(RequestErrorCode::DuplicateSubscription));
    let held = world.session(listener).subscribe(subscribe(named(namespace(&["x"]), "y"), HOLD));
    let twice = world.session(listener).subscribe(subscribe(named(namespace(&["x"]), "y"), HOLD));
    world.settle();
    assert_eq!(world.refused(listener, held), None);
    assert_eq!(world.refused(listener, twice), code(RequestErrorCode::DuplicateSubscription));
}

#[test]
fn a_range_that_is_over_is_invalid() {
    let mut world = World::new();
    let publisher = world.publisher();
    let largest = Some(Location { group: 100, object: 3 });
    world.clients[publisher].serves = Some(SubscribeOk { largest, ..SubscribeOk::default() });
    let listener = world.client();
    let start = Location { group: 1, object: 0 };
    for (end_group, expected) in [(99, code(RequestErrorCode::InvalidRange)), (100, None)] {
        let mut asked = subscribe(audio(), None);
        asked.filter = Some(Filter::AbsoluteRange { start, end_group });
        let request = world.session(listener).subscribe(asked);
        world.settle();
        assert_eq!(world.refused(listener, request), expected);
    }
    assert_eq!(world.core.counters().subscriptions, 1);
}

#[test]
fn a_track_with_unknown_mandatory_properties_is_refused_downstream() {
    let mut world = World::new();
    let publisher = world.publisher();
    let properties = TrackProperties(crate::moqt::properties::Writer::default().number(0x4000, 1).finish());
    world.clients[publisher].serves = Some(SubscribeOk { properties, ..SubscribeOk::default() });
    let listener = world.client();
    let request = world.subscribe(listener, None);
    assert_eq!(world.refused(listener, request), code(RequestErrorCode::UnsupportedExtension));
}

/// §5.1: a relay serves a SUBSCRIBE to a track of the subscriber's own, like any other.
#[test]
fn a_session_may_hear_itself_without_a_loop() {
    let mut world = World::new();
    let engine = world.publisher();
    let request = world.subscribe(engine, HOLD);
    assert!(world.is_answered(engine, request));
    world.whole(engine, 1);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.objects(engine), [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(world.clients[engine].asked.len(), 1);
    // A second publisher of the namespace is heard as well, and its end leaves the subscription.
    let bridge = world.publisher();
    world.whole(bridge, 2);
    assert_eq!(world.objects(engine)[3..], [(2, 0), (2, 1), (2, 2)]);
    world.kill(bridge);
    assert_eq!(world.done(engine), None);
    // It ends when the session withdraws it: nothing keeps itself alive.
    world.session(engine).cancel(request);
    world.settle();
    assert_eq!((world.core.counters().tracks, world.core.counters().subscriptions), (0, 0));
    assert_eq!(uplink(), audio().namespace);
}

/// The engine announces a call's namespace but serves nothing of it: its own held SUBSCRIBE waits for somebody else.
#[test]
fn a_session_that_refuses_its_own_subscription_goes_on_waiting() {
    let mut world = World::new();
    let engine = world.publisher();
    world.clients[engine].serves = None;
    let request = world.subscribe(engine, Some(Duration::from_secs(30)));
    let own = world.clients[engine].asked[0].0;
    world.session(engine).reject(own, RequestError::new(RequestErrorCode::DoesNotExist, ""));
    world.run_for(Duration::from_secs(5));
    assert_eq!((world.refused(engine, request), world.clients[engine].asked.len()), (None, 1));
    let bridge = world.publisher();
    assert!(world.is_answered(engine, request));
    world.whole(bridge, 1);
    assert_eq!(world.objects(engine).len(), 3);
}

#[test]
fn a_status_is_answered_from_the_live_track_and_asks_nobody() {
    let mut world = World::new();
    let publisher = world.publisher();
    let (listener, asker) = (world.client(), world.client());
    let ask = |world: &mut World| {
        let request = world.session(asker).track_status(subscribe(audio(), None));
        world.settle();
        request
    };
    let early = ask(&mut world);
    assert_eq!(world.refused(asker, early), code(RequestErrorCode::DoesNotExist));
    assert!(world.clients[publisher].asked.is_empty());
    world.subscribe(listener, None);
    world.whole(publisher, 4);
    let request = ask(&mut world);
    let largest = Some(Location { group: 4, object: 2 });
    let told = |event: &Event| matches!(event, Event::TrackStatusOk { request: of, ok } if *of == request && ok.largest == largest);
    assert!(world.clients[asker].heard.iter().any(told));
    assert_eq!((world.core.counters().subscriptions, world.objects(asker).len()), (1, 0));
}
