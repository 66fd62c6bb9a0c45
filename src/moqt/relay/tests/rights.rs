//! Who may do what, and what a refusal gives away: nothing.

use std::time::Duration;

use super::world::{May, World, audio, code, named, namespace, subscribe, token, uplink};
use crate::moqt::message::{Fetch, Location, RequestError, SubscribeOk, TrackProperties};
use crate::moqt::relay::Limits;
use crate::moqt::{FullTrackName, RequestErrorCode};

fn fetch(track: FullTrackName) -> Fetch {
    Fetch::Standalone { track, start: Location::default(), end: Fetch::TO_LARGEST }
}

fn nobody() -> May {
    May { subscribe: vec![namespace(&["other"])], publish: vec![namespace(&["other"])], ..May::default() }
}

#[test]
fn what_no_token_allows_is_unauthorized() {
    let mut world = World::new();
    let client = world.client_that(nobody(), Limits::default());
    let session = world.session(client);
    let requests = [
        session.subscribe(subscribe(audio(), Some(Duration::from_secs(5)))),
        session.publish_namespace(uplink(), Vec::new()),
        session.publish(audio(), TrackProperties::default(), Vec::new()),
    ];
    world.settle();
    for request in requests {
        assert_eq!(world.refused(client, request), code(RequestErrorCode::Unauthorized));
    }
    assert_eq!(world.core.counters().unauthorized, 3);
    assert_eq!((world.core.counters().tracks, world.core.counters().namespaces), (0, 0));
}

#[test]
fn a_refusal_has_the_same_bytes_whether_the_track_exists_or_not() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    world.whole(publisher, 1);
    let stranger = world.client_that(nobody(), Limits::default());
    let exists = world.session(stranger).subscribe(subscribe(audio(), None));
    let unknown =
        world.session(stranger).subscribe(subscribe(named(namespace(&["voice", "CA9", "uplink"]), "x"), None));
    world.settle();
    let bytes = |error: RequestError| format!("{error:?}");
    assert_eq!(world.refusal(stranger, exists).map(bytes), world.refusal(stranger, unknown).map(bytes));
    assert_eq!(world.refused(stranger, exists), code(RequestErrorCode::Unauthorized));
}

#[test]
fn a_token_of_the_request_is_enough() {
    let listen = May { subscribe: vec![uplink()], ..May::default() };
    let mut world = World::with_tokens([("listen", listen)]);
    let publisher = world.publisher();
    let client = world.client_that(nobody(), Limits::default());
    let mut with_token = subscribe(audio(), None);
    with_token.tokens = vec![token("listen")];
    let request = world.session(client).subscribe(with_token);
    world.settle();
    assert!(world.is_answered(client, request));
    // It allows no more than it says.
    let publish = world.session(client).publish_namespace(uplink(), vec![token("listen")]);
    world.settle();
    assert_eq!(world.refused(client, publish), code(RequestErrorCode::Unauthorized));
    assert_eq!(world.clients[publisher].asked.len(), 1);
}

#[test]
fn unreadable_and_too_many_tokens_are_malformed() {
    let mut world = World::with_tokens([("good", May::everything())]);
    let client = world.client();
    let unreadable = world.session(client).publish_namespace(uplink(), vec![token("junk")]);
    let many = world.session(client).publish_namespace(uplink(), vec![token("good"); 5]);
    let some = world.session(client).publish_namespace(uplink(), vec![token("good"); 4]);
    world.settle();
    assert_eq!(world.refused(client, unreadable), code(RequestErrorCode::MalformedAuthToken));
    assert_eq!(world.refused(client, many), code(RequestErrorCode::MalformedAuthToken));
    assert!(world.is_answered(client, some));
}

#[test]
fn a_listing_shows_only_what_its_holder_may_hear() {
    let mut world = World::new();
    let publisher = world.client();
    world.announce(publisher, uplink());
    world.announce(publisher, namespace(&["voice", "CA2", "uplink"]));
    let some = world.client_that(May { subscribe: vec![uplink()], ..May::default() }, Limits::default());
    let request = world.session(some).subscribe_namespace(namespace(&["voice"]), Vec::new());
    world.settle();
    world.announce(publisher, namespace(&["voice", "CA1", "uplink", "more"]));
    let shown = |event: &crate::moqt::Event| match event {
        crate::moqt::Event::Namespace { request: of, suffix } if *of == request => Some(suffix.clone()),
        _ => None,
    };
    let shown: Vec<_> = world.clients[some].heard.iter().filter_map(shown).collect();
    assert_eq!(shown, [namespace(&["CA1", "uplink"]), namespace(&["CA1", "uplink", "more"])]);
    assert_eq!(SubscribeOk::default().largest, None);
}

#[test]
fn every_kind_of_request_is_refused_in_the_same_words_wherever_it_points() {
    let mut world = World::new();
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    world.whole(publisher, 1);
    let stranger = world.client_that(nobody(), Limits::default());
    let mut refused = |sid: &'static str| {
        let place = namespace(&["voice", sid, "uplink"]);
        let session = world.session(stranger);
        let requests = [
            session.track_status(subscribe(named(place.clone(), "audio"), None)),
            session.fetch(fetch(named(place.clone(), "audio")), None, Vec::new()),
            session.publish_namespace(place.clone(), Vec::new()),
            session.publish(named(place.clone(), "audio"), TrackProperties::default(), Vec::new()),
        ];
        // Shown nothing, wherever it points; refused would say no more.
        let shown =
            [session.subscribe_namespace(place.clone(), Vec::new()), session.subscribe_tracks(place, true, Vec::new())];
        world.settle();
        assert!(shown.iter().all(|request| world.is_answered(stranger, *request)));
        assert!(
            !world.clients[stranger].heard.iter().any(|event| matches!(event, crate::moqt::Event::Namespace { .. }))
        );
        assert!(world.clients[stranger].offered.is_empty());
        requests.map(|request| world.refusal(stranger, request).expect("it may do none of this"))
    };
    assert_eq!(refused("CA1"), refused("CA9"));
}
