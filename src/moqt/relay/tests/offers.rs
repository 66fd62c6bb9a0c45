//! SUBSCRIBE_TRACKS: what is offered to whom, what becomes of it, and what bounds it.

use std::time::Duration;

use bytes::Bytes;

use super::world::{May, World, audio, code, done, header, named, namespace, object, subscribe, token, uplink};
use crate::moqt::message::{
    Filter, GoAway, Location, Publish, PublishBlocked, PublishOk, RequestError, TrackProperties, Update, Wishes,
};
use crate::moqt::relay::{Limits, constants};
use crate::moqt::session::RequestId;
use crate::moqt::version::Draft;
use crate::moqt::{Event, FullTrackName, PublishDoneCode, RequestErrorCode, TrackNamespace};

/// In draft 16 it is a SUBSCRIBE_NAMESPACE that asks for PUBLISH.
const DRAFTS: [Draft; 4] = [Draft::D16, Draft::D18, Draft::D20, Draft::D22];
const OK: PublishOk = PublishOk { forward: true, priority: 128, filter: None, expires: None };

fn call() -> TrackNamespace {
    namespace(&["voice", "CA1"])
}

impl World {
    fn of(draft: Draft) -> Self {
        let mut world = Self::new();
        world.conditions.draft = draft;
        world
    }

    fn interest(&mut self, key: usize, prefix: TrackNamespace, forward: bool) -> RequestId {
        let request = self.session(key).subscribe_tracks(prefix, forward, Vec::new());
        self.settle();
        request
    }

    /// A client that takes whatever is offered under the call.
    fn recorder(&mut self) -> usize {
        let key = self.client();
        self.clients[key].takes = true;
        self.interest(key, call(), true);
        key
    }

    fn push(&mut self, key: usize, track: FullTrackName) -> RequestId {
        let request = self.session(key).publish(track, TrackProperties::default(), Vec::new());
        self.settle();
        request
    }

    fn utter(&mut self, key: usize, publication: RequestId, group: u64) {
        if let Some(subgroup) = self.session(key).open_subgroup(publication, &header(group)) {
            self.session(key).send_object(subgroup, &object(group, 0));
            self.session(key).finish_subgroup(subgroup);
        }
        self.settle();
    }

    fn offered(&self, key: usize) -> Vec<FullTrackName> {
        self.clients[key].offered.iter().map(|(_, publish)| publish.track.clone()).collect()
    }

    fn blocked(&self, key: usize) -> Vec<PublishBlocked> {
        let heard = self.clients[key].heard.iter();
        let blocked = heard.filter_map(|event| match event {
            Event::PublishBlocked { blocked, .. } => Some(blocked.clone()),
            _ => None,
        });
        blocked.collect()
    }
}

#[test]
fn what_is_published_is_offered_before_and_after() {
    for draft in DRAFTS {
        let mut world = World::of(draft);
        let publisher = world.client();
        let properties = TrackProperties(crate::moqt::properties::timescale(1_000_000));
        let largest = Some(Location { group: 7, object: 2 });
        let offer = Publish { track: audio(), forward: true, largest, expires: None, tokens: Vec::new(), properties };
        let first = world.session(publisher).offer(offer.clone());
        world.settle();
        let recorder = world.recorder();
        assert_eq!(world.clients[recorder].offered[0].1, offer, "{draft:?}: as it was said");
        let other = named(namespace(&["voice", "CA1", "downlink"]), "audio");
        let second = world.push(publisher, other.clone());
        world.push(publisher, named(namespace(&["voice", "CA2"]), "audio"));
        assert_eq!(world.offered(recorder), [audio(), other], "{draft:?}: and nothing of another call");
        world.utter(publisher, first, 8);
        world.utter(publisher, second, 9);
        assert_eq!(world.objects(recorder), [(8, 0), (9, 0)], "{draft:?}");
        let counters = world.core.counters();
        assert_eq!((counters.offers, counters.subscriptions, counters.offers_blocked), (2, 2, 0), "{draft:?}");
        world.kill(publisher);
        assert_eq!(world.done(recorder), done(PublishDoneCode::InternalError), "{draft:?}");
        assert_eq!(world.core.counters().tracks, 0, "{draft:?}");
    }
}

/// An Established subscription upstream is what makes a track known, not who asked for it first.
#[test]
fn what_somebody_else_subscribed_to_is_offered_while_it_flows() {
    let mut world = World::new();
    let publisher = world.publisher();
    let (recorder, shy) = (world.recorder(), world.client());
    world.interest(shy, call(), true);
    assert!(world.offered(recorder).is_empty(), "nobody asks on behalf of an interest");
    let listener = world.client();
    let request = world.subscribe(listener, None);
    assert_eq!((world.offered(recorder), world.offered(shy)), (vec![audio()], vec![audio()]));
    world.session(listener).cancel(request);
    world.settle();
    world.whole(publisher, 1);
    assert_eq!(world.objects(recorder).len(), 3, "its acceptance is a subscription like others");
    // The one that has not answered does not keep it alive.
    world.kill(recorder);
    assert_eq!(world.done(shy), done(PublishDoneCode::InternalError));
    assert_eq!((world.core.counters().tracks, world.core.counters().offers), (0, 2));
    let (offer, _) = world.clients[shy].offered[0].clone();
    world.session(shy).accept_publish(offer, OK);
    world.settle();
    assert_eq!(world.core.counters().subscriptions, 0);
}

#[test]
fn prefixes_of_one_session_overlap_those_of_tracks_only() {
    let mut world = World::new();
    let client = world.client();
    let first = world.interest(client, call(), true);
    let listing = world.session(client).subscribe_namespace(call(), Vec::new());
    world.settle();
    assert!(world.is_answered(client, first) && world.is_answered(client, listing));
    for prefix in [namespace(&["voice"]), call(), uplink(), TrackNamespace::default()] {
        let request = world.interest(client, prefix, true);
        assert_eq!(world.refused(client, request), code(RequestErrorCode::PrefixOverlap));
    }
    let beside = world.interest(client, namespace(&["voice", "CA2"]), true);
    let other = world.client();
    let same = world.interest(other, call(), true);
    assert!(world.is_answered(client, beside) && world.is_answered(other, same));
    world.session(client).cancel(first);
    world.settle();
    let again = world.interest(client, uplink(), true);
    assert!(world.is_answered(client, again));
}

/// Draft 16 holds no SUBSCRIBE.
#[test]
fn nobody_is_offered_what_it_publishes_has_or_waits_for() {
    for draft in DRAFTS.into_iter().skip(1) {
        let mut world = World::of(draft);
        let publisher = world.client();
        world.interest(publisher, call(), true);
        let waiting = world.client();
        let held = world.subscribe(waiting, Some(Duration::from_secs(5)));
        world.interest(waiting, call(), true);
        let publication = world.push(publisher, audio());
        assert!(world.is_answered(waiting, held), "{draft:?}");
        // A second publisher is no news to who has the track.
        let second = world.client();
        world.push(second, audio());
        assert!(world.offered(publisher).is_empty() && world.offered(waiting).is_empty(), "{draft:?}");
        world.utter(publisher, publication, 1);
        assert_eq!(world.objects(waiting), [(1, 0)], "{draft:?}");
        // Who subscribes to what it is just offered has it twice (§5.1).
        let hasty = world.client();
        world.interest(hasty, call(), true);
        assert_eq!(world.offered(hasty), [audio()], "{draft:?}");
        let request = world.subscribe(hasty, None);
        let twice = code(RequestErrorCode::DuplicateSubscription).filter(|_| draft.subscribes_once());
        assert_eq!(world.refused(hasty, request), twice, "{draft:?}");
    }
}

#[test]
fn nothing_is_offered_that_may_not_be_heard() {
    let mut world = World::new();
    let publisher = world.client();
    world.push(publisher, audio());
    world.push(publisher, named(namespace(&["voice", "CA2"]), "audio"));
    let may = May { subscribe: vec![namespace(&["voice", "CA2"])], ..May::default() };
    let client = world.client_that(may, Limits::default());
    world.interest(client, namespace(&["voice"]), true);
    world.push(publisher, named(call(), "later"));
    world.push(publisher, named(namespace(&["voice", "CA2"]), "later"));
    let offered: Vec<_> = world.offered(client).into_iter().map(|track| track.namespace).collect();
    assert_eq!(offered, [namespace(&["voice", "CA2"]), namespace(&["voice", "CA2"])]);
    let stranger = world.client_that(May::default(), Limits::default());
    world.interest(stranger, TrackNamespace::default(), true);
    assert!(world.offered(stranger).is_empty() && world.blocked(stranger).is_empty());
}

#[test]
fn an_offer_forwards_as_the_interest_says_and_its_taker_wants() {
    for draft in DRAFTS {
        let mut world = World::of(draft);
        let publisher = world.client();
        let publication = world.push(publisher, audio());
        let client = world.client();
        world.interest(client, call(), false);
        let (offer, publish) = world.clients[client].offered[0].clone();
        assert!(!publish.forward, "{draft:?}");
        world.session(client).accept_publish(offer, PublishOk { forward: false, ..OK });
        world.settle();
        world.utter(publisher, publication, 1);
        world.session(client).update_forward(offer, true);
        world.settle();
        world.utter(publisher, publication, 2);
        assert_eq!(world.objects(client), [(2, 0)], "{draft:?}");
        // An eager one says so with its answer.
        let eager = world.client();
        world.clients[eager].takes = true;
        world.interest(eager, call(), false);
        world.utter(publisher, publication, 3);
        assert_eq!((world.objects(client).len(), world.objects(eager)), (2, vec![(3, 0)]), "{draft:?}");
    }
}

/// Draft 20 §"Parameters on SUBSCRIBE_TRACKS".
#[test]
fn an_offer_begins_as_the_interest_wants_it() {
    for draft in [Draft::D20, Draft::D22] {
        let mut world = World::of(draft);
        let publisher = world.client();
        let publication = world.push(publisher, audio());
        let listener = world.client();
        world.subscribe(listener, None);
        world.utter(publisher, publication, 4);
        let client = world.client();
        let wishes = Wishes {
            filter: Some(Filter::AbsoluteStart(Location { group: 6, object: 0 })),
            priority: Some(3),
            object_delivery_timeout: Some(Duration::from_millis(300)),
            ..Wishes::default()
        };
        world.clients[client].takes = true;
        world.session(client).subscribe_tracks_with(call(), &wishes, Vec::new());
        world.settle();
        assert_eq!(world.offered(client), [audio()], "{draft:?}");
        (5..8).for_each(|group| world.utter(publisher, publication, group));
        assert_eq!(world.objects(client), [(6, 0), (7, 0)], "{draft:?}: what it filters");
        assert_eq!(world.objects(listener).len(), 4, "{draft:?}");
        // The other parameters are its session's.
        let request = world.clients[client].offered[0].0;
        let session = &world.clients[client].pair.server;
        assert_eq!(session.begins_with(request), Some((3, Some(Duration::from_millis(300)))), "{draft:?}");
    }
}

/// An update is for what is offered later.
#[test]
fn an_interest_may_change_how_later_offers_begin() {
    for draft in [Draft::D20, Draft::D22] {
        let mut world = World::of(draft);
        let publisher = world.client();
        let first = world.push(publisher, audio());
        let client = world.client();
        world.clients[client].takes = true;
        let interest = world.interest(client, call(), true);
        world.session(client).update(interest, Update { forward: Some(false), ..Update::default() });
        world.settle();
        let second = world.push(publisher, named(call(), "later"));
        let forwards: Vec<_> = world.clients[client].offered.iter().map(|(_, publish)| publish.forward).collect();
        assert_eq!(forwards, [true, false], "{draft:?}");
        world.utter(publisher, first, 1);
        assert_eq!(world.objects(client), [(1, 0)], "{draft:?}: what was taken goes on");
        // Its answer asked for the second one all the same.
        world.utter(publisher, second, 2);
        assert_eq!(world.objects(client), [(1, 0), (2, 0)], "{draft:?}");
    }
}

#[test]
fn a_refused_offer_is_forgotten_and_made_again_for_another_publication() {
    let mut world = World::new();
    let publisher = world.client();
    let publication = world.push(publisher, audio());
    let client = world.client();
    world.interest(client, call(), true);
    let (offer, _) = world.clients[client].offered[0].clone();
    world.session(client).reject(offer, RequestError::new(RequestErrorCode::Uninterested, "not mine"));
    world.settle();
    assert_eq!((world.core.counters().subscriptions, world.offered(client).len()), (0, 1));
    // By itself it may still subscribe.
    let request = world.subscribe(client, None);
    assert!(world.is_answered(client, request));
    world.session(client).cancel(request);
    world.session(publisher).cancel(publication);
    world.settle();
    world.push(publisher, audio());
    assert_eq!(world.offered(client).len(), 2);
}

#[test]
fn what_is_withdrawn_is_offered_no_more_and_what_was_taken_goes_on() {
    let mut world = World::new();
    let publisher = world.client();
    let first = world.push(publisher, audio());
    let client = world.client();
    world.clients[client].takes = true;
    let interest = world.interest(client, call(), true);
    world.session(client).cancel(interest);
    world.settle();
    world.push(publisher, named(call(), "later"));
    world.utter(publisher, first, 1);
    assert_eq!((world.offered(client).len(), world.objects(client)), (1, vec![(1, 0)]));
}

#[test]
fn who_leaves_or_is_sent_away_is_offered_nothing() {
    let mut world = World::new();
    let publisher = world.client();
    let leaving = world.recorder();
    world.session(leaving).goaway(GoAway { uri: String::new(), timeout: None });
    world.settle();
    world.push(publisher, audio());
    assert!(world.offered(leaving).is_empty());
}

/// Offers count as subscriptions; beyond the limit PUBLISH_BLOCKED is the last word on a track.
#[test]
fn offers_beyond_the_limit_are_blocked_for_good() {
    let mut world = World::new();
    let publisher = world.client();
    for name in ["a", "b", "c"] {
        world.push(publisher, named(uplink(), name));
    }
    let client = world.client_that(May::everything(), Limits { subscriptions: 2, ..Limits::default() });
    world.clients[client].takes = true;
    world.interest(client, call(), true);
    let blocked = PublishBlocked { suffix: namespace(&["uplink"]), name: Bytes::from_static(b"c") };
    assert_eq!((world.offered(client).len(), world.blocked(client)), (2, vec![blocked]));
    let counters = world.core.counters();
    assert_eq!((counters.offers, counters.offers_blocked, counters.over_subscriptions), (2, 1, 1));
    // There is room again: the track is not offered, another is, and it can be subscribed to.
    let (offer, _) = world.clients[client].offered[0].clone();
    world.session(client).cancel(offer);
    world.settle();
    let again = world.client();
    world.push(again, named(uplink(), "c"));
    assert_eq!(world.offered(client).len(), 2);
    let request = world.session(client).subscribe(subscribe(named(uplink(), "c"), None));
    world.settle();
    assert!(world.is_answered(client, request));
}

#[test]
fn interests_are_publications_to_the_limits() {
    let mut world = World::new();
    let client = world.client_that(May::everything(), Limits { publications: 1, ..Limits::default() });
    world.interest(client, namespace(&["voice", "CA1"]), true);
    let second = world.interest(client, namespace(&["voice", "CA2"]), true);
    assert_eq!(world.refused(client, second), code(RequestErrorCode::ExcessiveLoad));
    assert_eq!(world.core.counters().over_publications, 1);
}

/// Asking anew for what is offered all at once is bounded by what it makes the relay say.
#[test]
fn asking_again_and_again_for_many_tracks_meets_the_rate_of_requests() {
    for draft in DRAFTS {
        let mut world = World::of(draft);
        let publisher = world.client();
        for i in 0..constants::OFFERS_PER_REQUEST * 4 {
            world.session(publisher).publish(
                FullTrackName::new(uplink(), i.to_string()).unwrap(),
                TrackProperties::default(),
                Vec::new(),
            );
        }
        world.settle();
        let limits = Limits { requests_per_s: 1, requests_burst: 12, ..Limits::default() };
        let client = world.client_that(May::everything(), limits);
        let mut refused = 0;
        for _ in 0..10 {
            let request = world.session(client).subscribe_tracks(call(), true, Vec::new());
            world.run_for(Duration::from_millis(30));
            refused += usize::from(world.refused(client, request) == code(RequestErrorCode::ExcessiveLoad));
            for (offer, _) in std::mem::take(&mut world.clients[client].offered) {
                let uninterested = RequestError::new(RequestErrorCode::Uninterested, "");
                world.session(client).reject(offer, uninterested);
            }
            world.session(client).cancel(request);
            world.run_for(Duration::from_millis(30));
        }
        // Each costs five of twelve.
        assert_eq!((refused, world.core.counters().offers), (8, 128), "{draft:?}");
        assert!(world.core.counters().over_requests > 0, "{draft:?}");
        // With time it may again.
        world.run_for(Duration::from_secs(12));
        let request = world.interest(client, call(), true);
        assert!(world.is_answered(client, request), "{draft:?}");
    }
}

/// A flood of published tracks costs whoever asked for all of them a bounded memory of those it does not get, then its interest.
#[test]
fn a_flood_of_tracks_ends_the_interest_and_nothing_else() {
    let mut world = World::new();
    let client = world.client_that(May::everything(), Limits { subscriptions: 1, ..Limits::default() });
    world.clients[client].takes = true;
    let interest = world.interest(client, call(), true);
    let flood = world.client_that(May::everything(), Limits::engine());
    for i in 0..constants::BLOCKED + 10 {
        let track = FullTrackName::new(uplink(), i.to_string()).unwrap();
        world.session(flood).publish(track, TrackProperties::default(), Vec::new());
        if i % 256 == 0 {
            world.settle();
        }
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.core.counters().offers_blocked as usize, constants::BLOCKED + 1);
    assert!(world.refused(client, interest).is_some(), "it ended");
    assert_eq!((world.done(client), world.core.counters().subscriptions), (None, 1));
    world.kill(flood);
    assert_eq!(world.core.counters().tracks, 0);
}

fn holder(world: &mut World, value: &'static str) -> (usize, RequestId) {
    let client = world.client_that(May::default(), Limits::default());
    let interest = world.session(client).subscribe_tracks(call(), true, vec![token(value)]);
    world.settle();
    (client, interest)
}

#[test]
fn an_offer_ends_with_the_token_that_allowed_it() {
    let expired = World::new().now + Duration::from_secs(60);
    let may = |identity| May { subscribe: vec![call()], identity: Some(identity), ..May::default() };
    let mut world = World::with_tokens([
        ("short", May { until: Some(expired), ..may("short") }),
        ("revoked", may("revoked")),
        ("stays", may("stays")),
    ]);
    let publisher = world.client();
    world.push(publisher, audio());
    let clients = ["short", "revoked", "stays"].map(|value| holder(&mut world, value).0);
    for client in clients {
        assert_eq!(world.offered(client), [audio()]);
    }
    // One has taken it, the others have not answered.
    let (offer, _) = world.clients[clients[1]].offered[0].clone();
    world.session(clients[1]).accept_publish(offer, OK);
    world.settle();
    world.revoke("revoked");
    assert_eq!(world.done(clients[1]), done(PublishDoneCode::Unauthorized));
    world.run_for(Duration::from_secs(60) + constants::EXPIRY_GRACE);
    assert_eq!(world.done(clients[0]), done(PublishDoneCode::Expired));
    assert_eq!(world.done(clients[2]), None);
    // Nor is anything new offered to either.
    world.push(publisher, named(call(), "later"));
    assert_eq!(clients.map(|client| world.offered(client).len()), [1, 1, 2]);
    assert_eq!((world.core.counters().expired, world.core.counters().revoked), (1, 1));
}

#[test]
fn offers_of_one_token_are_counted_over_its_sessions() {
    let may = May { subscribe: vec![call()], identity: Some("one"), ..May::default() };
    let mut world = World::new();
    let limits = Limits { subscriptions: 3, ..Limits::default() };
    let clients = [(); 2].map(|()| world.client_that(may.clone(), limits));
    for client in clients {
        world.interest(client, call(), true);
    }
    let publisher = world.client();
    world.push(publisher, audio());
    world.push(publisher, named(call(), "later"));
    let counters = world.core.counters();
    assert_eq!((counters.offers, counters.offers_blocked, counters.over_token), (3, 1, 1));
}

/// A newer epoch publishes before the older one is cancelled: no subscription ends in between.
#[test]
fn a_lease_that_goes_to_another_ends_no_subscription() {
    let mut world = World::new();
    let (recorder, listener) = (world.recorder(), world.client());
    let push = |world: &mut World, epoch| {
        let key = world.client_that(May::lease("audio", "agent", epoch), Limits::default());
        (key, world.push(key, audio()))
    };
    let (first, old) = push(&mut world, 1);
    world.subscribe(listener, None);
    let (second, new) = push(&mut world, 2);
    assert!(world.clients[first].heard.contains(&Event::Cancelled { request: old }));
    world.utter(second, new, 1);
    for key in [recorder, listener] {
        assert_eq!((world.objects(key), world.done(key)), (vec![(1, 0)], None));
    }
    assert_eq!(world.offered(recorder).len(), 1);
}

#[test]
fn draft_16_asks_for_namespaces_tracks_or_both_in_one_space() {
    let mut world = World::of(Draft::D16);
    let publisher = world.publisher();
    world.push(publisher, audio());
    let (tracks, both) = (world.client(), world.client());
    let interest = world.interest(tracks, call(), true);
    world.clients[both].takes = true;
    let request = world.session(both).subscribe_both(call(), true);
    world.settle();
    assert!(world.is_answered(tracks, interest) && world.is_answered(both, request));
    let told = |world: &World, key: usize| {
        world.clients[key].heard.iter().filter(|event| matches!(event, Event::Namespace { .. })).count()
    };
    assert_eq!((told(&world, tracks), told(&world, both)), (0, 1));
    assert_eq!((world.offered(tracks), world.offered(both)), (vec![audio()], vec![audio()]));
    for key in [tracks, both] {
        let again = world.interest(key, namespace(&["voice"]), true);
        let listing = world.session(key).subscribe_namespace(uplink(), Vec::new());
        world.settle();
        assert_eq!(world.refused(key, again), code(RequestErrorCode::PrefixOverlap));
        assert_eq!(world.refused(key, listing), code(RequestErrorCode::PrefixOverlap));
    }
    // Both end together.
    world.session(both).cancel(request);
    world.settle();
    world.push(publisher, named(call(), "later"));
    world.announce(publisher, namespace(&["voice", "CA1", "downlink"]));
    assert_eq!((told(&world, both), world.offered(both).len(), world.offered(tracks).len()), (1, 1, 2));
    // A limit blocks without a word: this draft has none for it.
    let small = world.client_that(May::everything(), Limits { subscriptions: 1, ..Limits::default() });
    world.interest(small, call(), true);
    assert_eq!((world.offered(small).len(), world.core.counters().offers_blocked), (1, 1));
    assert!(world.blocked(small).is_empty());
}
