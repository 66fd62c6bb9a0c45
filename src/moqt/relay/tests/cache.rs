//! FETCH from the relay's cache: what comes, what is said of what does not, and what it may cost.

use std::time::Duration;

use bytes::Bytes;

use super::world::{May, World, audio, code, end_of_track, header, named, namespace, object, uplink};
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{Fetch, FetchOk, GroupOrder, Location, SubscribeOk, TrackProperties};
use crate::moqt::properties::{self, kind};
use crate::moqt::relay::{CacheLimits, Limits};
use crate::moqt::session::tests::pair::Conditions;
use crate::moqt::session::{RequestId, Role};
use crate::moqt::{Draft, Event, Object, RequestErrorCode, Status, SubgroupHeader};

const DESCENDING: Option<GroupOrder> = Some(GroupOrder::Descending);

pub(super) const fn at(group: u64, object: u64) -> Location {
    Location { group, object }
}

/// Groups `first` to `last` of the track, whole.
fn groups(first: u64, last: u64) -> Fetch {
    Fetch::Standalone { track: audio(), start: at(first, 0), end: at(last, 0) }
}

/// A thing of an answer in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Object(u64, u64),
    Absent(u64, u64),
    /// Object `u64::MAX` is the rest of its group.
    Unknown(u64, u64),
}

pub(super) fn short(fetched: &Fetched) -> Told {
    match fetched {
        Fetched::Object { object, .. } => Told::Object(object.group, object.id),
        Fetched::Absent(end) => Told::Absent(end.group, end.object),
        Fetched::Unknown(end) => Told::Unknown(end.group, end.object),
    }
}

use Told::{Object as Here, Unknown};

impl World {
    /// A publisher of the track with a listener that keeps it alive, and somebody who has not heard it.
    pub(super) fn live() -> (Self, usize, usize) {
        let mut world = Self::new();
        let publisher = world.publisher();
        let listener = world.client();
        world.subscribe(listener, None);
        let fetcher = world.client();
        (world, publisher, fetcher)
    }

    pub(super) fn fetch(&mut self, key: usize, fetch: Fetch, order: Option<GroupOrder>) -> RequestId {
        let request = self.session(key).fetch(fetch, order, Vec::new());
        self.settle();
        request
    }

    pub(super) fn fetched(&self, key: usize, request: RequestId) -> Vec<Fetched> {
        let fetched = self.clients[key].heard.iter().filter_map(|event| match event {
            Event::Fetched { request: of, fetched } if *of == request => Some(fetched.clone()),
            _ => None,
        });
        fetched.collect()
    }

    pub(super) fn told(&self, key: usize, request: RequestId) -> Vec<Told> {
        self.fetched(key, request).iter().map(short).collect()
    }

    pub(super) fn fetch_ok(&self, key: usize, request: RequestId) -> Option<FetchOk> {
        self.clients[key].heard.iter().find_map(|event| match event {
            Event::FetchOk { request: of, ok } if *of == request => Some((**ok).clone()),
            _ => None,
        })
    }

    /// How the fetch's stream ended.
    fn fetch_end(&self, key: usize, request: RequestId) -> Option<Option<u64>> {
        self.clients[key].heard.iter().find_map(|event| match event {
            Event::FetchEnd { request: of, reset } if *of == request => Some(*reset),
            _ => None,
        })
    }
}

#[test]
fn what_has_passed_is_fetched_in_both_orders_on_rough_links() {
    for seed in 0..10 {
        let mut world = World::new();
        let draft = [Draft::D18, Draft::D16][seed as usize % 2];
        world.conditions = Conditions { draft, ..Conditions::rough(seed) };
        let publisher = world.publisher();
        let listener = world.client();
        world.subscribe(listener, None);
        for group in 1..4 {
            world.whole(publisher, group);
        }
        let fetcher = world.client();
        let up = world.fetch(fetcher, groups(1, 2), None);
        let down = world.fetch(fetcher, groups(2, 9), DESCENDING);
        let rest = u64::MAX;
        assert_eq!(
            world.told(fetcher, up),
            [
                Here(1, 0),
                Here(1, 1),
                Here(1, 2),
                Unknown(1, rest),
                Here(2, 0),
                Here(2, 1),
                Here(2, 2),
                Unknown(2, rest)
            ]
        );
        assert_eq!(
            world.told(fetcher, down),
            [Here(3, 0), Here(3, 1), Here(3, 2), Here(2, 0), Here(2, 1), Here(2, 2), Unknown(2, rest)]
        );
        // Beyond the largest object nothing is promised.
        assert_eq!(world.fetch_ok(fetcher, up).unwrap().end, at(2, 0));
        assert_eq!(world.fetch_ok(fetcher, down).unwrap().end, at(3, 3));
        let payloads = world.fetched(fetcher, up).into_iter().filter_map(|fetched| match fetched {
            Fetched::Object { object, .. } => Some(object.payload),
            _ => None,
        });
        assert!(payloads.eq((1..3).flat_map(|group| (0..3).map(move |id| object(group, id).payload))));
        assert_eq!(world.fetch_end(fetcher, up), Some(None));
        assert_eq!((world.core.counters().fetches, world.core.counters().objects_fetched), (2, 12));
    }
}

#[test]
fn every_field_of_an_object_is_kept() {
    let (mut world, publisher, fetcher) = World::live();
    let (upstream, _) = world.clients[publisher].asked[0].clone();
    let properties = properties::timestamp(20_000);
    let header = SubgroupHeader { subgroup: 4, priority: Some(3), properties: true, ..header(1) };
    let subgroup = world.session(publisher).open_subgroup(upstream, &header).unwrap();
    let first = Object { properties, subgroup: 4, priority: Some(3), ..object(1, 0) };
    world.session(publisher).send_object(subgroup, &first);
    let second = Object { priority: None, ..object(1, 1) };
    world.session(publisher).send_datagram(upstream, &second).unwrap();
    world.settle();
    let request = world.fetch(fetcher, groups(1, 1), None);
    // What has no priority of its own has the track's.
    let second = Object { priority: Some(128), ..second };
    let expected =
        [Fetched::Object { object: first, datagram: false }, Fetched::Object { object: second, datagram: true }];
    assert_eq!(world.fetched(fetcher, request), expected);
}

#[test]
fn an_object_without_a_priority_has_the_tracks_and_the_answer_has_its_properties() {
    let mut world = World::new();
    let publisher = world.publisher();
    let properties = properties::Writer::default().number(kind::DEFAULT_PUBLISHER_PRIORITY, 9).finish();
    let ok = SubscribeOk { properties: TrackProperties(properties), ..SubscribeOk::default() };
    world.clients[publisher].serves = Some(ok.clone());
    let listener = world.client();
    world.subscribe(listener, None);
    world.whole(publisher, 1);
    let request = world.fetch(listener, groups(1, 1), None);
    let Fetched::Object { object, .. } = &world.fetched(listener, request)[0] else { panic!("an object is first") };
    assert_eq!(object.priority, Some(9));
    assert_eq!(world.fetch_ok(listener, request).unwrap().properties, ok.properties);
}

/// A group's end is known by a status, by the bit of a datagram, or by the FIN of a subgroup that said so; not by a reset.
#[test]
fn only_a_proven_end_closes_a_gap() {
    for (way, proven) in [("status", true), ("datagram", true), ("fin", true), ("reset", false), ("plain fin", false)] {
        let (mut world, publisher, fetcher) = World::live();
        let (upstream, _) = world.clients[publisher].asked[0].clone();
        let header = SubgroupHeader { end_of_group: matches!(way, "fin" | "reset"), ..header(1) };
        let subgroup = world.session(publisher).open_subgroup(upstream, &header).unwrap();
        world.send(publisher, subgroup, 1, 0..2);
        let session = world.session(publisher);
        match way {
            "status" => {
                let end = Object { status: Status::EndOfGroup, payload: Bytes::new(), ..object(1, 2) };
                session.send_object(subgroup, &end);
            }
            "datagram" => session.send_datagram(upstream, &Object { end_of_group: true, ..object(1, 2) }).unwrap(),
            "reset" => session.reset_subgroup(subgroup, 0),
            _ => session.finish_subgroup(subgroup),
        }
        world.settle();
        world.whole(publisher, 2);
        let request = world.fetch(fetcher, groups(1, 2), None);
        let mut expected = vec![Here(1, 0), Here(1, 1)];
        expected.extend((way == "datagram").then_some(Here(1, 2)));
        expected.extend((!proven).then_some(Unknown(1, u64::MAX)));
        expected.extend((0..3).map(|id| Here(2, id)));
        assert_eq!(world.told(fetcher, request), expected, "{way}");
        let down = world.fetch(fetcher, groups(1, 2), DESCENDING);
        // The newest group first, and what is not known of the other behind its objects.
        expected.retain(|told| !matches!(told, Unknown(..)));
        expected.rotate_right(3);
        expected.extend((!proven).then_some(Unknown(1, u64::MAX)));
        assert_eq!(world.told(fetcher, down), expected, "{way}");
    }
}

#[test]
fn the_end_of_the_track_is_told() {
    let (mut world, publisher, fetcher) = World::live();
    let subgroup = world.group(publisher, 1);
    world.send(publisher, subgroup, 1, 0..2);
    let before = world.fetch(fetcher, groups(0, 5), None);
    assert!(!world.fetch_ok(fetcher, before).unwrap().end_of_track);
    world.session(publisher).send_object(subgroup, &end_of_track(1, 2));
    world.settle();
    let after = world.fetch(fetcher, groups(0, 5), None);
    let ok = world.fetch_ok(fetcher, after).unwrap();
    assert_eq!((ok.end_of_track, ok.end), (true, at(1, 3)));
    assert_eq!(world.told(fetcher, after), [Unknown(0, u64::MAX), Here(1, 0), Here(1, 1)]);
    let part = Fetch::Standalone { track: audio(), start: at(1, 0), end: at(1, 1) };
    let part = world.fetch(fetcher, part, None);
    let ok = world.fetch_ok(fetcher, part).unwrap();
    assert_eq!((ok.end_of_track, ok.end), (false, at(1, 1)));
}

#[test]
fn a_range_without_anything_in_it_is_refused() {
    let (mut world, publisher, fetcher) = World::live();
    let range = |start, end| Fetch::Standalone { track: audio(), start, end };
    let ask = |world: &mut World, fetch| {
        let request = world.fetch(fetcher, fetch, None);
        world.refused(fetcher, request)
    };
    // A live track of which nothing has been published.
    assert_eq!(ask(&mut world, groups(0, 9)), code(RequestErrorCode::InvalidRange));
    world.whole(publisher, 5);
    for (start, end) in [(at(5, 3), at(9, 0)), (at(6, 0), at(6, 0)), (at(5, 2), at(5, 1)), (at(5, 0), at(4, 0))] {
        assert_eq!(ask(&mut world, range(start, end)), code(RequestErrorCode::InvalidRange), "{start:?} {end:?}");
    }
    assert_eq!(ask(&mut world, range(at(5, 2), at(5, 3))), None);
    let nowhere = Fetch::Standalone { track: named(uplink(), "other"), start: at(0, 0), end: at(9, 0) };
    assert_eq!(ask(&mut world, nowhere), code(RequestErrorCode::DoesNotExist));
    assert_eq!(world.core.counters().fetching, 0);
}

#[test]
fn what_the_publisher_had_before_is_unknown_and_not_absent() {
    let mut world = World::new();
    let publisher = world.publisher();
    world.clients[publisher].serves = Some(SubscribeOk { largest: Some(at(7, 3)), ..SubscribeOk::default() });
    let listener = world.client();
    world.subscribe(listener, None);
    let request = world.fetch(listener, groups(2, 9), None);
    assert_eq!(world.told(listener, request), [Unknown(7, 3)]);
    assert_eq!(world.fetch_ok(listener, request).unwrap().end, at(7, 4));
}

#[test]
fn an_object_is_served_for_its_time() {
    let age = CacheLimits::default().age;
    for most_ms in [None, Some(2000), Some(60_000)] {
        let mut world = World::new();
        let publisher = world.publisher();
        if let Some(ms) = most_ms {
            let properties = properties::Writer::default().number(kind::MAX_CACHE_DURATION, ms).finish();
            let ok = SubscribeOk { properties: TrackProperties(properties), ..SubscribeOk::default() };
            world.clients[publisher].serves = Some(ok);
        }
        let listener = world.client();
        world.subscribe(listener, None);
        world.whole(publisher, 1);
        let age = most_ms.map_or(age, |ms| age.min(Duration::from_millis(ms)));
        world.run_for(age - Duration::from_secs(1));
        let young = world.fetch(listener, groups(1, 1), None);
        assert_eq!(world.told(listener, young), [Here(1, 0), Here(1, 1), Here(1, 2)], "{most_ms:?}");
        world.run_for(Duration::from_secs(1));
        let old = world.fetch(listener, groups(1, 1), None);
        assert_eq!(world.told(listener, old), [Unknown(1, 2)], "{most_ms:?}");
    }
}

#[test]
fn a_track_keeps_its_latest_within_its_bytes_and_none_when_told_so() {
    for (track_bytes, some) in [(8192, true), (0, false)] {
        let (mut world, publisher, fetcher) = World::live();
        world.core.set_cache(CacheLimits { track_bytes, ..CacheLimits::default() });
        let subgroup = world.group(publisher, 1);
        for id in 0..30 {
            let payload = Bytes::from(vec![id as u8; 1000]);
            world.session(publisher).send_object(subgroup, &Object { payload, ..object(1, id) });
        }
        world.settle();
        let request = world.fetch(fetcher, groups(1, 1), None);
        let told = world.told(fetcher, request);
        let Unknown(1, last) = told[0] else { panic!("{told:?}") };
        let kept: Vec<Told> = (last + 1..30).map(|id| Here(1, id)).collect();
        assert_eq!(told[1..], kept);
        assert_eq!(!kept.is_empty(), some);
        let counters = world.core.counters();
        assert!(kept.len() <= 8 && counters.cache_bytes <= track_bytes && (counters.cache_track_full > 0) == some);
    }
}

#[test]
fn what_the_last_publisher_left_is_gone_with_it() {
    let (mut world, publisher, fetcher) = World::live();
    world.whole(publisher, 1);
    assert!(world.core.counters().cache_bytes > 0);
    world.kill(publisher);
    let request = world.fetch(fetcher, groups(1, 1), None);
    assert_eq!(world.refused(fetcher, request), code(RequestErrorCode::DoesNotExist));
    assert_eq!(world.core.counters().cache_bytes, 0);
    // Who comes after it may number as it likes.
    let (second, listener) = (world.publisher(), world.client());
    world.subscribe(listener, None);
    world.whole(second, 1);
    let request = world.fetch(fetcher, groups(1, 1), None);
    assert_eq!(world.told(fetcher, request), [Here(1, 0), Here(1, 1), Here(1, 2)]);
}

#[test]
fn what_two_publishers_bring_is_kept_once() {
    let mut world = World::new();
    let publishers = [world.publisher(), world.publisher()];
    let listener = world.client();
    world.subscribe(listener, None);
    let subgroups = publishers.map(|key| world.group(key, 1));
    for id in 0..5 {
        for (key, subgroup) in publishers.into_iter().zip(subgroups) {
            world.send(key, subgroup, 1, id..id + 1);
        }
    }
    let request = world.fetch(listener, groups(1, 1), None);
    assert_eq!(world.told(listener, request), (0..5).map(|id| Here(1, id)).collect::<Vec<_>>());
}

#[test]
fn a_running_fetch_is_a_subscription_until_its_last_byte_left() {
    let (mut world, publisher, _) = World::live();
    world.whole(publisher, 1);
    let limited = world.client_that(May::everything(), Limits { subscriptions: 2, ..Limits::default() });
    world.clients[limited].pair.stall(Role::Server, true);
    let requests: Vec<_> = (0..3).map(|_| world.fetch(limited, groups(1, 1), None)).collect();
    assert_eq!(world.core.counters().over_subscriptions, 1);
    assert!(world.core.counters().fetching > 0);
    world.clients[limited].pair.stall(Role::Server, false);
    world.settle();
    assert_eq!(world.refused(limited, requests[2]), code(RequestErrorCode::ExcessiveLoad));
    assert_eq!(world.core.counters().fetching, 0);
    // Each of the ways in which one ends gives its place back.
    for way in 0..6 {
        world.clients[limited].pair.stall(Role::Server, true);
        let runs = [world.fetch(limited, groups(1, 1), None), world.fetch(limited, groups(1, 1), None)];
        assert_eq!(world.core.counters().over_subscriptions, 1, "{way}");
        for request in runs.into_iter().filter(|_| way % 2 == 0) {
            world.session(limited).cancel(request);
        }
        world.settle();
        world.clients[limited].pair.stall(Role::Server, false);
        world.settle();
        assert_eq!(world.core.counters().fetching, 0, "{way}");
    }
    assert!(world.clients[limited].pair.server.is_idle());
}

#[test]
fn who_takes_nothing_of_his_fetches_gets_no_more_of_them() {
    let (mut world, publisher, _) = World::live();
    let subgroup = world.group(publisher, 1);
    for id in 0..50 {
        let payload = Bytes::from(vec![id as u8; 1000]);
        world.session(publisher).send_object(subgroup, &Object { payload, ..object(1, id) });
    }
    world.settle();
    let limits = Limits { backlog_bytes: 100_000, ..Limits::default() };
    let slow = world.client_that(May::everything(), limits);
    let heard = world.subscribe(slow, None);
    world.clients[slow].pair.stall(Role::Server, true);
    for _ in 0..20 {
        world.fetch(slow, groups(1, 1), None);
        assert!(world.core.counters().fetching <= 100_000);
        assert!(world.clients[slow].pair.server.unwritten() <= 110_000);
    }
    assert_eq!((world.core.counters().fetches, world.core.counters().over_fetching), (1, 19));
    // Its subscription does not pay for it.
    world.clients[slow].pair.stall(Role::Server, false);
    world.send(publisher, subgroup, 1, 50..51);
    assert!(world.is_answered(slow, heard) && world.objects(slow).ends_with(&[(1, 50)]));
    assert_eq!((world.done(slow), world.core.counters().too_far_behind), (None, 0));
    let again = world.fetch(slow, groups(1, 1), None);
    assert!(world.told(slow, again).len() > 40);
}

#[test]
fn a_malformed_track_takes_its_fetches_back() {
    let (mut world, publisher, fetcher) = World::live();
    let subgroup = world.group(publisher, 1);
    world.send(publisher, subgroup, 1, 0..2);
    world.clients[fetcher].pair.stall(Role::Server, true);
    let request = world.fetch(fetcher, groups(1, 1), None);
    assert!(world.core.counters().fetching > 0);
    world.session(publisher).send_object(subgroup, &end_of_track(1, 2));
    world.session(publisher).send_object(subgroup, &object(1, 3));
    world.settle();
    world.clients[fetcher].pair.stall(Role::Server, false);
    world.settle();
    assert_eq!(world.core.counters().malformed_tracks, 1);
    // Its stream did not get as far as its header, so the request's own is reset too.
    assert_eq!(world.refused(fetcher, request), code(RequestErrorCode::InternalError));
    assert!(world.fetched(fetcher, request).is_empty());
    assert_eq!(world.core.counters().fetching, 0);
    let again = world.fetch(fetcher, groups(1, 1), None);
    assert_eq!(world.refused(fetcher, again), code(RequestErrorCode::DoesNotExist));
}

#[test]
fn a_revoked_token_takes_its_fetches_back() {
    let (mut world, publisher, _) = World::live();
    world.whole(publisher, 1);
    let may = May { identity: Some("ann"), ..May::everything() };
    let fetcher = world.client_that(may, Limits::default());
    world.clients[fetcher].pair.stall(Role::Server, true);
    world.fetch(fetcher, groups(1, 1), None);
    assert!(world.core.counters().fetching > 0);
    world.revoke("ann");
    assert_eq!(world.core.counters().fetching, 0);
}

#[test]
fn what_a_session_fetched_is_forgotten_with_it() {
    let (mut world, publisher, fetcher) = World::live();
    world.whole(publisher, 1);
    world.clients[fetcher].pair.stall(Role::Server, true);
    world.fetch(fetcher, groups(1, 1), None);
    world.kill(fetcher);
    assert_eq!(world.core.counters().fetching, 0);
    // And with the track nothing of the fetch that outlives it.
    let other = world.client();
    world.clients[other].pair.stall(Role::Server, true);
    let request = world.fetch(other, groups(1, 1), None);
    world.kill(publisher);
    world.clients[other].pair.stall(Role::Server, false);
    world.settle();
    assert_eq!(world.told(other, request).len(), 3);
    assert_eq!((world.core.counters().fetching, world.core.counters().cache_bytes), (0, 0));
}

#[test]
fn a_fetch_is_refused_in_the_same_words_wherever_it_points() {
    let (mut world, publisher, _) = World::live();
    world.whole(publisher, 1);
    let nobody = May { subscribe: vec![namespace(&["other"])], ..May::default() };
    let stranger = world.client_that(nobody, Limits::default());
    let mut refused = |sid: &'static str, last| {
        let track = named(namespace(&["voice", sid, "uplink"]), "audio");
        let fetch = Fetch::Standalone { track, start: at(0, 0), end: at(last, 0) };
        let request = world.fetch(stranger, fetch, None);
        world.refusal(stranger, request).expect("it may not")
    };
    let refusal = refused("CA1", 1);
    assert_eq!(refusal.code, RequestErrorCode::Unauthorized as u64);
    assert_eq!([refused("CA9", 1), refused("CA1", 0), refused("CA1", 99)], [(); 3].map(|()| refusal.clone()));
}

/// The newest groups, as drafts from 20 on ask for them.
#[test]
fn the_newest_groups_are_fetched_by_number() {
    let mut world = World::new();
    world.conditions.draft = crate::moqt::Draft::D22;
    let publisher = world.publisher();
    let listener = world.client();
    world.subscribe(listener, None);
    (1..4).for_each(|group| world.whole(publisher, group));
    let newest = |groups| Fetch::Newest { track: audio(), groups };
    let one = world.fetch(listener, newest(1), None);
    assert_eq!(world.told(listener, one), [Here(3, 0), Here(3, 1), Here(3, 2)]);
    let two = world.fetch(listener, newest(2), DESCENDING);
    let told = world.told(listener, two);
    assert_eq!(told[..4], [Here(3, 0), Here(3, 1), Here(3, 2), Here(2, 0)]);
    let all = world.fetch(listener, newest(u64::MAX), None);
    assert_eq!(world.told(listener, all)[..2], [Unknown(0, u64::MAX), Here(1, 0)]);
    let none = world.fetch(listener, newest(0), None);
    assert_eq!(world.refused(listener, none), code(RequestErrorCode::InvalidRange));
}

/// Every pair of places out of the corners, in both orders: an answer, or INVALID_RANGE; nobody closes over it.
#[test]
fn no_range_and_no_place_breaks_anything() {
    const CORNERS: [u64; 5] = [0, 1, 3, u64::MAX - 1, u64::MAX];
    let places: Vec<(u64, u64)> = CORNERS.iter().flat_map(|group| CORNERS.map(|id| (*group, id))).collect();
    for until in [7, 17, 25] {
        let (mut world, publisher, _) = World::live();
        let fetcher = world.client_that(May::everything(), Limits { requests_burst: 10_000, ..Limits::default() });
        let (upstream, _) = world.clients[publisher].asked[0].clone();
        let published = &places[..until];
        for (group, id) in published.iter().step_by(2) {
            let gaps = properties::Writer::default().number(kind::PRIOR_GROUP_ID_GAP, group / 2);
            let object = Object { properties: gaps.finish(), ..object(*group, *id) };
            world.session(publisher).send_datagram(upstream, &object).unwrap();
        }
        world.settle();
        let ends = places.iter().map(|(group, id)| at(*group, *id)).chain([Fetch::TO_LARGEST]);
        let asked: Vec<_> =
            places.iter().flat_map(|(group, id)| ends.clone().map(|end| (at(*group, *id), end))).collect();
        for order in [None, DESCENDING] {
            let session = world.session(fetcher);
            let requests: Vec<RequestId> = asked
                .iter()
                .map(|(start, end)| Fetch::Standalone { track: audio(), start: *start, end: *end })
                .map(|fetch| session.fetch(fetch, order, Vec::new()))
                .collect();
            world.settle();
            for (request, (start, end)) in requests.into_iter().zip(&asked) {
                let last = at(end.group, end.object.wrapping_sub(1));
                match world.fetch_end(fetcher, request) {
                    Some(reset) => assert_eq!((reset, *start <= last), (None, true), "{start:?} {end:?}"),
                    None => {
                        let refused = world.refused(fetcher, request);
                        assert_eq!(refused, code(RequestErrorCode::InvalidRange), "{start:?} {end:?}");
                    }
                }
                let here = world.told(fetcher, request).into_iter().filter_map(|told| match told {
                    Here(group, id) => Some((group, id)),
                    _ => None,
                });
                for (group, id) in here {
                    let place = at(group, id);
                    assert!(*start <= place && place <= last && published.contains(&(group, id)), "{start:?} {end:?}");
                }
            }
        }
        assert!(world.clients[fetcher].pair.closed.is_none());
        assert_eq!(world.core.counters().fetching, 0);
    }
}
