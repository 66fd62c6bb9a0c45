//! Several publishers of one subgroup: whoever brings the next object feeds the subscribers' stream.

use super::world::{World, object};
use crate::moqt::session::SubgroupId;
use crate::moqt::{Event, ResetCode};

struct Two {
    world: World,
    first: usize,
    second: usize,
    listener: usize,
    subgroups: [SubgroupId; 2],
}

/// Two publishers with a stream each of group 1, the first of which sent three objects.
fn two() -> Two {
    let mut world = World::new();
    let (first, second) = (world.publisher(), world.publisher());
    let listener = world.client();
    world.subscribe(listener, None);
    let subgroups = [world.group(first, 1), world.group(second, 1)];
    world.send(first, subgroups[0], 1, 0..3);
    Two { world, first, second, listener, subgroups }
}

impl Two {
    fn streams(&self) -> usize {
        self.world.clients[self.listener].heard.iter().filter(|event| matches!(event, Event::Subgroup { .. })).count()
    }

    fn ends(&self) -> Vec<Option<u64>> {
        let ends = self.world.clients[self.listener].heard.iter().filter_map(|event| match event {
            Event::SubgroupEnd { reset, .. } => Some(*reset),
            _ => None,
        });
        ends.collect()
    }

    fn objects(&self) -> Vec<u64> {
        self.world.objects(self.listener).into_iter().map(|(_, id)| id).collect()
    }
}

#[test]
fn the_next_object_of_another_source_goes_on_the_open_stream() {
    let mut two = two();
    let (first, second, [a, b]) = (two.first, two.second, two.subgroups);
    // The first falls silent without a word; the second brings what passed and goes on.
    two.world.send(second, b, 1, 1..6);
    assert_eq!((two.objects(), two.streams(), two.ends()), (vec![0, 1, 2, 3, 4, 5], 1, vec![]));
    // The first comes back with what has passed, and is ahead again.
    two.world.send(first, a, 1, 3..8);
    assert_eq!((two.objects(), two.streams()), ((0..8).collect(), 1));
    let counters = two.world.core.counters();
    assert_eq!((counters.taken_over, counters.duplicates), (2, 2 + 3));
    // One of them ends: the stream goes on with the other, and ends once.
    two.world.session(second).finish_subgroup(b);
    two.world.send(first, a, 1, 8..9);
    two.world.session(first).finish_subgroup(a);
    two.world.settle();
    assert_eq!((two.objects(), two.streams(), two.ends()), ((0..9).collect(), 1, vec![None]));
}

#[test]
fn where_it_is_not_provably_the_next_the_stream_is_reset_and_a_new_one_opened() {
    let mut two = two();
    let (first, second, [_, b]) = (two.first, two.second, two.subgroups);
    // It is ahead: nobody can know yet whether object 3 exists.
    two.world.send(second, b, 1, 4..5);
    assert_eq!((two.objects(), two.world.core.counters().duplicates), (vec![0, 1, 2], 1));
    two.world.kill(first);
    assert_eq!(two.ends(), []);
    two.world.send(second, b, 1, 5..7);
    assert_eq!((two.objects(), two.streams()), (vec![0, 1, 2, 5, 6], 2));
    assert_eq!(two.ends(), [Some(ResetCode::InternalError as u64)]);
}

#[test]
fn a_source_that_dies_leaves_its_stream_to_the_other() {
    let mut two = two();
    let (first, second, [_, b]) = (two.first, two.second, two.subgroups);
    two.world.send(second, b, 1, 0..2);
    two.world.kill(first);
    two.world.send(second, b, 1, 2..5);
    two.world.session(second).finish_subgroup(b);
    two.world.settle();
    assert_eq!((two.objects(), two.streams(), two.ends()), ((0..5).collect(), 1, vec![None]));
}

#[test]
fn a_source_that_ends_early_does_not_end_the_others_objects() {
    let mut two = two();
    let (first, second, [a, b]) = (two.first, two.second, two.subgroups);
    two.world.send(second, b, 1, 0..3);
    two.world.session(first).finish_subgroup(a);
    two.world.settle();
    two.world.send(second, b, 1, 3..5);
    assert_eq!(two.objects(), (0..5).collect::<Vec<_>>());
}

/// Another priority is another header: the bytes of the one can't stand behind the other's.
#[test]
fn another_header_is_another_stream() {
    let mut two = two();
    let second = two.second;
    let upstream = two.world.clients[second].asked[0].0;
    let header = crate::moqt::SubgroupHeader { priority: Some(7), ..super::world::header(1) };
    let subgroup = two.world.session(second).open_subgroup(upstream, &header).unwrap();
    for id in 2..5 {
        let object = crate::moqt::Object { priority: Some(7), ..object(1, id) };
        two.world.session(second).send_object(subgroup, &object);
    }
    two.world.settle();
    assert_eq!((two.objects(), two.streams()), ((0..5).collect(), 2));
    assert_eq!(two.ends(), [Some(ResetCode::InternalError as u64)]);
}

/// Random orders of two publishers that bring the same, one of which may die: each object once, in order, on whatever streams.
#[test]
fn no_order_of_two_sources_loses_or_doubles_an_object() {
    for seed in 0..60_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut two = two();
        let sources = [two.first, two.second];
        let (mut at, mut alive) = ([3_u64, 0], [true, true]);
        let dies = (seed % 3 == 0).then(|| 4 + next(10));
        while alive.iter().zip(at).any(|(alive, at)| *alive && at < 20) {
            let who = next(2) as usize;
            let many = 1 + next(3);
            if !alive[who] || at[who] >= 20 {
                continue;
            }
            let until = (at[who] + many).min(20);
            two.world.send(sources[who], two.subgroups[who], 1, at[who]..until);
            at[who] = until;
            if dies.is_some_and(|dies| at[0] >= dies) && std::mem::take(&mut alive[0]) {
                two.world.kill(sources[0]);
            }
        }
        assert_eq!(two.objects(), (0..20).collect::<Vec<_>>(), "seed {seed}");
    }
}
