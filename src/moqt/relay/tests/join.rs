//! Joining FETCH: where it begins and ends, and that it meets its subscription.

use std::time::Duration;

use super::cache::Told::{self, Object as Here, Unknown};
use super::cache::at;
use super::world::{May, World, audio, code, namespace, object, subscribe, token, uplink};
use crate::moqt::message::{Fetch, Filter, PublishOk, Subscribe, SubscribeOk};
use crate::moqt::relay::Limits;
use crate::moqt::session::RequestId;
use crate::moqt::session::tests::pair::{Conditions, Rng};
use crate::moqt::{Draft, RequestErrorCode};

fn relative(joined: RequestId, groups: u64) -> Fetch {
    Fetch::RelativeJoining { request: joined.0, groups }
}

fn absolute(joined: RequestId, group: u64) -> Fetch {
    Fetch::AbsoluteJoining { request: joined.0, group }
}

fn group(group: u64) -> impl Iterator<Item = Told> {
    (0..3).map(move |id| Here(group, id))
}

const REST: u64 = u64::MAX;

#[test]
fn a_join_begins_where_it_is_told_and_ends_where_its_subscription_begins() {
    let (mut world, publisher, joiner) = World::live();
    (3..6).for_each(|group| world.whole(publisher, group));
    let joined = world.subscribe(joiner, None);
    // What comes later is the subscription's.
    world.whole(publisher, 6);
    let cases = [
        (relative(joined, 0), vec![5], None),
        (relative(joined, 1), vec![4, 5], None),
        (absolute(joined, 4), vec![4, 5], None),
        (absolute(joined, 5), vec![5], None),
        (relative(joined, 99), vec![3, 4, 5], Some(Unknown(2, REST))),
        (absolute(joined, 0), vec![3, 4, 5], Some(Unknown(2, REST))),
    ];
    for (fetch, groups, before) in cases {
        let request = world.fetch(joiner, fetch.clone(), None);
        let mut expected: Vec<Told> = before.into_iter().collect();
        for (n, which) in groups.iter().enumerate() {
            expected.extend((n > 0).then_some(Unknown(which - 1, REST)).into_iter().chain(group(*which)));
        }
        assert_eq!(world.told(joiner, request), expected, "{fetch:?}");
        assert_eq!(world.fetch_ok(joiner, request).unwrap().end, at(5, 3));
    }
    let beyond = world.fetch(joiner, absolute(joined, 6), None);
    assert_eq!(world.refused(joiner, beyond), code(RequestErrorCode::InvalidRange));
    assert_eq!(world.objects(joiner), [(6, 0), (6, 1), (6, 2)]);
}

/// A publisher's 60 objects, and somebody who joins them in the middle: from which group on, what it fetched, and what it heard.
fn joined_in_the_middle(seed: u64, publisher: Conditions) -> (u64, Vec<Told>, Vec<(u64, u64)>) {
    let mut world = World::new();
    world.conditions = publisher;
    let publisher = world.publisher();
    // Those that have it.
    let draft = [Draft::D18, Draft::D16][seed as usize % 2];
    world.conditions = Conditions { draft, ..Conditions::rough(seed) };
    let (listener, joiner) = (world.client(), world.client());
    world.subscribe(listener, None);
    world.run_for(Duration::from_secs(2));
    let mut rng = Rng(seed);
    let mut subgroup = world.group(publisher, 1);
    let (begin, mut joined, mut join) = (30 + rng.below(20), RequestId(0), None);
    for n in 0..60 {
        let (group, id) = (1 + n / 10, n % 10);
        if id == 0 && n > 0 {
            world.session(publisher).finish_subgroup(subgroup);
            subgroup = world.group(publisher, group);
        }
        world.session(publisher).send_object(subgroup, &object(group, id));
        if n == begin {
            let live = Subscribe { filter: Some(Filter::LargestObject), ..subscribe(audio(), None) };
            let session = world.session(joiner);
            joined = session.subscribe(live);
            join = Some(session.fetch(relative(joined, 1), None, Vec::new()));
        }
        // It may overtake its subscription.
        if join.is_some_and(|join| world.refused(joiner, join).is_some()) {
            join = Some(world.session(joiner).fetch(relative(joined, 1), None, Vec::new()));
        }
        world.run_for(Duration::from_millis(rng.below(40)));
    }
    world.run_for(Duration::from_secs(2));
    let join = join.unwrap();
    let first = world.fetch_ok(joiner, join).unwrap().end.group - 1;
    (first, world.told(joiner, join), world.objects(joiner))
}

/// The fetch and the subscription together are every object from the start on, none twice, whenever the two come.
#[test]
fn a_join_and_its_subscription_meet_without_a_gap_on_rough_links() {
    for seed in 0..40 {
        let (first, told, heard) = joined_in_the_middle(seed, Conditions::default());
        let fetched = told.iter().filter(|told| matches!(told, Here(..)));
        let mut all: Vec<Told> = fetched.copied().collect();
        assert!(all.len() >= 10 && told.len() <= all.len() + 1, "only the end of one group is not known: {told:?}");
        all.extend(heard.into_iter().map(|(group, id)| Here(group, id)));
        // Groups pass each other on links that jitter.
        all.sort_unstable_by_key(|told| format!("{told:?}"));
        let expected: Vec<Told> = (first..7).flat_map(|group| (0..10).map(move |id| Here(group, id))).collect();
        assert_eq!(all, expected, "seed {seed}");
    }
}

/// Where the publisher's groups pass each other before the relay, what neither brings is told as unknown (§5.1.2: late objects
/// do not pass the filter).
#[test]
fn what_a_join_misses_is_told_as_unknown() {
    let mut missed = 0;
    for seed in 0..40 {
        let jitter = Duration::from_millis(400);
        let rough = Conditions { draft: Draft::D18, jitter, ..Conditions::rough(seed + 1) };
        let (first, told, heard) = joined_in_the_middle(seed, rough);
        let (mut unknown, mut before, mut fetched) = (Vec::new(), None, Vec::new());
        for told in told {
            match told {
                Here(group, id) => {
                    fetched.push((group, id));
                    before = Some((group, id));
                }
                Unknown(group, id) | Told::Absent(group, id) => {
                    assert!(matches!(told, Unknown(..)), "nothing proves an absence here");
                    unknown.push((before, (group, id)));
                    before = Some((group, id));
                }
            }
        }
        for place in (first..7).flat_map(|group| (0..10).map(move |id| (group, id))) {
            let times = fetched.iter().chain(&heard).filter(|other| **other == place).count();
            let untold = !unknown.iter().any(|(after, end)| after.is_none_or(|after| after < place) && place <= *end);
            assert!(times == 1 || times == 0 && !untold, "seed {seed}: {place:?} {times} times");
            missed += usize::from(times == 0);
        }
    }
    assert!(missed > 0, "the links were rough enough for the test to mean something");
}

#[test]
fn a_join_waits_for_its_subscription() {
    for largest in [Some(at(4, 1)), None] {
        let mut world = World::new();
        let joiner = world.client();
        let session = world.session(joiner);
        let joined = session.subscribe(subscribe(audio(), Some(Duration::from_secs(20))));
        let requests = [
            session.fetch(relative(joined, 1), None, Vec::new()),
            session.fetch(relative(joined, 0), None, Vec::new()),
        ];
        let withdrawn = session.fetch(relative(joined, 0), None, Vec::new());
        world.settle();
        world.session(joiner).cancel(withdrawn);
        world.settle();
        assert!(requests.iter().all(|request| world.refused(joiner, *request).is_none()));
        let publisher = world.client();
        world.clients[publisher].serves = Some(SubscribeOk { largest, ..SubscribeOk::default() });
        world.announce(publisher, uplink());
        for request in requests {
            match largest {
                // Nothing of it has passed here.
                Some(_) => assert_eq!(world.told(joiner, request), [Unknown(4, 1)]),
                None => assert_eq!(world.refused(joiner, request), code(RequestErrorCode::InvalidRange)),
            }
        }
        assert!(world.is_answered(joiner, joined));
        assert!(world.told(joiner, withdrawn).is_empty());
        assert_eq!(world.core.counters().fetching, 0);
    }
}

#[test]
fn a_join_ends_with_the_subscription_that_it_waits_for() {
    for way in ["timeout", "withdrawn", "revoked", "killed"] {
        let mut world = World::new();
        let limits = Limits { held: 3, ..Limits::default() };
        let joiner = world.client_that(May { identity: Some("ann"), ..May::everything() }, limits);
        for _ in 0..3 {
            let session = world.session(joiner);
            let joined = session.subscribe(subscribe(audio(), Some(Duration::from_secs(5))));
            let requests = [0, 1].map(|groups| session.fetch(relative(joined, groups), None, Vec::new()));
            let one_more = world.fetch(joiner, relative(joined, 0), None);
            assert_eq!(world.refused(joiner, one_more), code(RequestErrorCode::ExcessiveLoad), "{way}");
            match way {
                "timeout" => world.run_for(Duration::from_secs(6)),
                "withdrawn" => world.session(joiner).cancel(joined),
                "revoked" => world.revoke("ann"),
                _ => world.kill(joiner),
            }
            world.settle();
            if way == "revoked" || way == "killed" {
                // The session went too.
                break;
            }
            for request in requests {
                assert_eq!(world.refused(joiner, request), code(RequestErrorCode::InvalidJoiningRequestId), "{way}");
            }
        }
        assert!(world.core.holds_no_join(), "{way}");
        assert_eq!((world.core.counters().held, world.core.counters().tracks), (0, 0), "{way}");
    }
}

#[test]
fn what_is_no_live_subscription_of_the_session_can_not_be_joined() {
    let (mut world, publisher, joiner) = World::live();
    world.whole(publisher, 1);
    // Its listing, the other sessions' subscriptions, and what it does not have.
    let listing = world.session(joiner).subscribe_namespace(namespace(&["x"]), Vec::new());
    let ended = world.subscribe(joiner, None);
    world.session(joiner).cancel(ended);
    world.settle();
    for joined in [listing, RequestId(0), RequestId(1), ended, RequestId(1000)] {
        let request = world.fetch(joiner, relative(joined, 0), None);
        let none = RequestErrorCode::InvalidJoiningRequestId;
        assert_eq!(world.refused(joiner, request), code(none), "{joined:?}");
    }
    // One that does not forward is there, and has nothing to meet.
    let quiet = Subscribe { forward: false, ..subscribe(audio(), None) };
    let quiet = world.session(joiner).subscribe(quiet);
    world.settle();
    let request = world.fetch(joiner, relative(quiet, 0), None);
    assert_eq!(world.refused(joiner, request), code(RequestErrorCode::InvalidRange));
}

#[test]
fn a_subscription_that_forwards_again_is_joined_where_it_does() {
    let (mut world, publisher, joiner) = World::live();
    world.whole(publisher, 1);
    let joined = world.subscribe(joiner, None);
    world.session(joiner).update_forward(joined, false);
    world.settle();
    world.whole(publisher, 2);
    world.session(joiner).update_forward(joined, true);
    world.settle();
    // Another word of the same kind changes nothing.
    world.whole(publisher, 3);
    world.session(joiner).update_forward(joined, true);
    world.settle();
    let request = world.fetch(joiner, relative(joined, 0), None);
    assert_eq!(world.told(joiner, request), group(2).collect::<Vec<_>>());
    assert_eq!(world.objects(joiner), [(3, 0), (3, 1), (3, 2)]);
}

#[test]
fn a_track_of_which_nothing_was_published_can_not_be_joined() {
    let (mut world, _, joiner) = World::live();
    let joined = world.subscribe(joiner, None);
    for fetch in [relative(joined, 0), absolute(joined, 0)] {
        let request = world.fetch(joiner, fetch, None);
        assert_eq!(world.refused(joiner, request), code(RequestErrorCode::InvalidRange));
    }
}

/// The right to the subscription is enough; without one that counts now the join is refused like any other request.
#[test]
fn a_join_needs_a_right_that_counts_now() {
    let started = std::time::Instant::now();
    let listen = May { subscribe: vec![uplink()], until: Some(started + Duration::from_secs(30)), ..May::default() };
    let mut world = World::with_tokens([("listen", listen)]);
    let publisher = world.publisher();
    let joiner = world.client_that(May::default(), Limits::default());
    let mut with_token = subscribe(audio(), None);
    with_token.tokens = vec![token("listen")];
    let joined = world.session(joiner).subscribe(with_token);
    world.settle();
    world.whole(publisher, 1);
    let request = world.fetch(joiner, relative(joined, 0), None);
    assert_eq!(world.refused(joiner, request), code(RequestErrorCode::InvalidRange), "nothing was there when it began");
    world.run_for(Duration::from_secs(35));
    let request = world.fetch(joiner, relative(joined, 0), None);
    assert_eq!(world.refused(joiner, request), code(RequestErrorCode::ExpiredAuthToken));
    assert_eq!(world.objects(joiner).len(), 3);
}

/// Since draft 20 a SUBSCRIBE asks for its past itself.
#[test]
fn a_fill_brings_what_was_before_its_subscription() {
    for draft in [Draft::D20, Draft::D22] {
        for stalled in [false, true] {
            let (mut world, publisher, _) = World::live();
            (1..4).for_each(|group| world.whole(publisher, group));
            world.conditions.draft = draft;
            let limits = Limits { session_backlog_bytes: 100, ..Limits::default() };
            let joiner = world.client_that(May::everything(), if stalled { limits } else { Limits::default() });
            let request = world.session(joiner).subscribe_filled(Subscribe::live(audio()), Filter::NewestGroups(2));
            world.settle();
            let counters = world.core.counters();
            let expected = if stalled { (0, 0, 1) } else { (1, 6, 0) };
            assert_eq!((counters.fetches, counters.objects_fetched, counters.over_fetching), expected, "{draft:?}");
            let brought: Vec<_> =
                if stalled { Vec::new() } else { group(2).chain([Unknown(2, REST)]).chain(group(3)).collect() };
            assert_eq!(world.told(joiner, request), brought, "{draft:?}");
            // Either way the subscription goes on.
            assert_eq!(counters.subscriptions, 2);
            world.whole(publisher, 4);
            assert_eq!(world.objects(joiner), [(4, 0), (4, 1), (4, 2)]);
        }
    }
}

/// A track that the relay published to its subscriber is joined by the relay's own request.
#[test]
fn what_was_offered_can_be_joined() {
    let (mut world, publisher, joiner) = World::live();
    world.whole(publisher, 1);
    world.session(joiner).subscribe_tracks(uplink(), true, Vec::new());
    world.settle();
    let (offered, _) = world.clients[joiner].offered[0].clone();
    let early = world.fetch(joiner, relative(offered, 0), None);
    assert_eq!(world.refused(joiner, early), code(RequestErrorCode::InvalidJoiningRequestId));
    world
        .session(joiner)
        .accept_publish(offered, PublishOk { forward: true, priority: 128, filter: None, expires: None });
    world.settle();
    world.whole(publisher, 2);
    let request = world.fetch(joiner, relative(offered, 0), None);
    assert_eq!(world.told(joiner, request), group(1).collect::<Vec<_>>());
    assert_eq!(world.objects(joiner), [(2, 0), (2, 1), (2, 2)]);
}
