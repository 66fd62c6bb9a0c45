//! Objects, absent and unknown ranges, as a fetch stream tells them: small worlds, written out or at random.

use std::time::Instant;

use bytes::Bytes;

use crate::moqt::fetched::Fetched;
use crate::moqt::message::{GroupOrder, Location};
use crate::moqt::properties::{self, kind};
use crate::moqt::relay::cache::Past;
use crate::moqt::relay::history::{Range, absent, tell};
use crate::moqt::{Object, Status};

const fn at(group: u64, object: u64) -> Location {
    Location { group, object }
}

const fn end(group: u64) -> Location {
    at(group, u64::MAX)
}

fn past(object: Object) -> Past {
    Past { object, datagram: false, at: Instant::now() }
}

fn object(group: u64, id: u64) -> Object {
    Object { group, id, payload: Bytes::from_static(b"x"), ..Object::default() }
}

fn status(group: u64, id: u64, status: Status) -> Past {
    past(Object { status, payload: Bytes::new(), ..object(group, id) })
}

fn with_gap(group: u64, id: u64, kind: u64, gap: u64) -> Past {
    let properties = properties::Writer::default().number(kind, gap).finish();
    past(Object { properties, ..object(group, id) })
}

/// In short: `Ok` is an object, `Err(true)` an unknown and `Err(false)` an absent range.
fn short(told: Vec<Fetched>) -> Vec<Result<Location, (bool, Location)>> {
    let short = told.into_iter().map(|fetched| match fetched {
        Fetched::Object { object, .. } => Ok(at(object.group, object.id)),
        Fetched::Unknown(end) => Err((true, end)),
        Fetched::Absent(end) => Err((false, end)),
    });
    short.collect()
}

fn told(pasts: &[Past], range: Range, order: GroupOrder) -> Vec<Result<Location, (bool, Location)>> {
    short(tell(pasts.to_vec(), range, order, 128, |_| true))
}

use GroupOrder::{Ascending, Descending};

fn unknown(end: Location) -> Result<Location, (bool, Location)> {
    Err((true, end))
}

#[test]
fn every_gap_without_proof_is_unknown() {
    let pasts: Vec<Past> = [(5, 2), (5, 3), (5, 6), (7, 0)].map(|(group, id)| past(object(group, id))).to_vec();
    assert_eq!(
        told(&pasts, (at(4, 0), at(7, 3)), Ascending),
        [
            unknown(at(5, 1)),
            Ok(at(5, 2)),
            Ok(at(5, 3)),
            unknown(at(5, 5)),
            Ok(at(5, 6)),
            unknown(end(6)),
            Ok(at(7, 0)),
            unknown(at(7, 3)),
        ]
    );
    assert_eq!(
        told(&pasts, (at(4, 3), at(7, 3)), Descending),
        [
            Ok(at(7, 0)),
            // The rest of 7, all of 6, and the beginning of 5.
            unknown(at(5, 1)),
            Ok(at(5, 2)),
            Ok(at(5, 3)),
            unknown(at(5, 5)),
            Ok(at(5, 6)),
            // The rest of 5, and of 4 what was asked for.
            unknown(end(4)),
        ]
    );
    assert_eq!(told(&[], (at(3, 1), at(9, 2)), Ascending), [unknown(at(9, 2))]);
    assert_eq!(told(&[], (at(3, 1), at(9, 2)), Descending), [unknown(end(3))]);
}

#[test]
fn what_is_proven_not_to_exist_needs_no_word() {
    let first = past(Object { end_of_group: true, ..object(5, 1) });
    let proofs: [&[Past]; 3] = [
        &[past(object(5, 0)), first, past(object(6, 0))],
        &[past(object(5, 0)), past(object(5, 1)), status(5, 2, Status::EndOfGroup), past(object(6, 0))],
        &[
            past(object(5, 0)),
            past(object(5, 1)),
            status(5, 2, Status::EndOfGroup),
            status(6, 1, Status::EndOfTrack),
            past(object(6, 0)),
        ],
    ];
    for pasts in proofs {
        assert_eq!(told(pasts, (at(5, 0), at(6, 0)), Ascending), [Ok(at(5, 0)), Ok(at(5, 1)), Ok(at(6, 0))]);
        assert_eq!(told(pasts, (at(5, 0), at(6, 0)), Descending), [Ok(at(6, 0)), Ok(at(5, 0)), Ok(at(5, 1))]);
    }
    assert_eq!(told(proofs[2], (at(6, 0), at(6, 1)), Ascending), [Ok(at(6, 0))]);
    assert_eq!(told(proofs[2], (at(9, 0), at(9, 1)), Ascending), []);
}

#[test]
fn gap_properties_prove_what_they_say_and_no_more() {
    let pasts = [
        past(object(3, 0)),
        with_gap(7, 4, kind::PRIOR_OBJECT_ID_GAP, 2),
        with_gap(7, 5, kind::PRIOR_GROUP_ID_GAP, 2),
        // Larger than its own id: nonsense, and no proof.
        with_gap(8, 1, kind::PRIOR_OBJECT_ID_GAP, 9),
        with_gap(8, 2, kind::PRIOR_GROUP_ID_GAP, 9),
    ];
    assert_eq!(
        told(&pasts, (at(3, 0), at(8, 2)), Ascending),
        [
            Ok(at(3, 0)),
            unknown(end(4)),
            // 5 and 6 are absent, then two unknown objects.
            Err((false, end(6))),
            unknown(at(7, 1)),
            Ok(at(7, 4)),
            Ok(at(7, 5)),
            unknown(at(8, 0)),
            Ok(at(8, 1)),
            Ok(at(8, 2)),
        ]
    );
    assert_eq!(
        told(&pasts, (at(3, 0), at(7, 5)), Descending),
        [
            unknown(at(7, 1)),
            Ok(at(7, 4)),
            Ok(at(7, 5)),
            // 6 and 5.
            Err((false, end(5))),
            unknown(end(4)),
            Ok(at(3, 0)),
            unknown(end(3)),
        ]
    );
}

#[test]
fn what_does_not_exist_is_not_served_and_what_comes_twice_is_served_once() {
    let twice = Object { payload: Bytes::from_static(b"other"), ..object(1, 1) };
    let pasts = [past(object(1, 1)), past(twice), status(1, 2, Status::EndOfGroup), past(object(1, 3))];
    let told = tell(pasts.to_vec(), (at(1, 1), at(1, 9)), Ascending, 7, |_| true);
    let expected = Object { priority: Some(7), ..object(1, 1) };
    assert_eq!(told, [Fetched::Object { object: expected, datagram: false }]);
}

#[test]
fn what_is_too_old_is_unknown_but_its_word_holds() {
    let pasts = [past(object(1, 0)), past(Object { end_of_group: true, ..object(1, 1) }), past(object(2, 0))];
    let told = tell(pasts.to_vec(), (at(1, 0), at(2, 0)), Ascending, 128, |past| past.object.group > 1);
    assert_eq!(short(told), [unknown(at(1, 1)), Ok(at(2, 0))]);
}

/// Both orders over small worlds: each place of the range is told exactly once, and what is told is so.
#[test]
fn every_place_is_told_once_in_both_orders() {
    let mut random = 1_u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % n
    };
    for _ in 0..3000 {
        let pasts: Vec<Past> = (0..below(9))
            .map(|_| {
                let (group, id) = (below(5), below(4));
                match below(6) {
                    0 => status(group, id, Status::EndOfGroup),
                    1 => past(Object { end_of_group: true, ..object(group, id) }),
                    2 => with_gap(group, id, kind::PRIOR_GROUP_ID_GAP, below(3)),
                    3 => with_gap(group, id, kind::PRIOR_OBJECT_ID_GAP, below(3)),
                    _ => past(object(group, id)),
                }
            })
            .collect();
        let (one, other) = (at(below(5), below(4)), at(below(5), below(4)));
        let range = (one.min(other), one.max(other));
        let by_place = |order| {
            let mut places = places(&told(&pasts, range, order), range, order);
            places.sort_unstable();
            places
        };
        let (up, down) = (by_place(Ascending), by_place(Descending));
        assert_eq!(up, down, "{pasts:?} {range:?}");
        for (place, what) in up {
            let nothing = pasts.iter().flat_map(absent).any(|(first, last)| first <= place && place <= last);
            let here = pasts
                .iter()
                .any(|past| past.object.status == Status::Normal && at(past.object.group, past.object.id) == place);
            let expected = if nothing {
                'a'
            } else if here {
                'o'
            } else {
                'u'
            };
            assert_eq!(what, expected, "{place:?} {pasts:?} {range:?}");
        }
    }
}

/// What a reader makes of it, for object ids up to 5 (and the last of all).
fn places(
    told: &[Result<Location, (bool, Location)>],
    (start, last): Range,
    order: GroupOrder,
) -> Vec<(Location, char)> {
    let objects: Vec<u64> = (0..6).chain([u64::MAX]).collect();
    let mut groups: Vec<u64> = (start.group..=last.group).collect();
    if order == Descending {
        groups.reverse();
    }
    let walk = groups.iter().flat_map(|group| objects.iter().map(|id| at(*group, *id)));
    let mut walk = walk.filter(|at| start <= *at && *at <= last).peekable();
    let mut places = Vec::new();
    for thing in told {
        let (Ok(end) | Err((_, end))) = *thing;
        loop {
            let place = walk.next().unwrap_or_else(|| panic!("{end:?} is not in its order"));
            let what = match thing {
                Ok(_) if place == end => 'o',
                Ok(_) | Err((false, _)) => 'a',
                Err((true, _)) => 'u',
            };
            places.push((place, what));
            if place == end {
                break;
            }
        }
    }
    places.extend(walk.map(|place| (place, 'a')));
    places
}
