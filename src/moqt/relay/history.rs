//! What a FETCH is told: objects, and of every place between them whether it is known that nothing is there.
//!
//! A gap on a fetch stream says that nothing exists there (§10.12.4), so what is not kept is told as an unknown range. That a place is
//! empty is known only from its publisher: by END_OF_GROUP and END_OF_TRACK, by a group's last object (datagram or FIN), and by the
//! properties Prior Group ID Gap and Prior Object ID Gap. Such words hold for ever (§2.1), objects only for their age.

use std::cmp::Reverse;

use super::cache::Past;
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{GroupOrder, Location};
use crate::moqt::properties::{self, kind};
use crate::moqt::{Object, Status};

/// First and last place, both included.
pub(super) type Range = (Location, Location);

const LAST: Location = Location { group: u64::MAX, object: u64::MAX };

/// What lies at a run of places.
enum What {
    Object(Object, bool),
    Absent,
    Unknown,
}

struct Run {
    first: Location,
    last: Location,
    what: What,
}

/// The next place, if there is one: the first of the next group after a group's last.
fn after(at: Location) -> Option<Location> {
    match at.object.checked_add(1) {
        Some(object) => Some(Location { object, ..at }),
        None => at.group.checked_add(1).map(|group| Location { group, object: 0 }),
    }
}

fn before(at: Location) -> Location {
    match at.object.checked_sub(1) {
        Some(object) => Location { object, ..at },
        None => Location { group: at.group.saturating_sub(1), object: u64::MAX },
    }
}

/// Where nothing is, by this one's word.
pub(super) fn absent(past: &Past) -> impl Iterator<Item = Range> {
    let Object { group, id, status, end_of_group, properties, .. } = &past.object;
    let at = Location { group: *group, object: *id };
    let group_end = Location { object: u64::MAX, ..at };
    let behind = match status {
        Status::EndOfTrack => Some((at, LAST)),
        Status::EndOfGroup => Some((at, group_end)),
        Status::Normal if *end_of_group && at < group_end => after(at).map(|next| (next, group_end)),
        Status::Normal => None,
    };
    let gap = |kind| properties::number(properties, kind).filter(|gap| *gap > 0);
    let groups = gap(kind::PRIOR_GROUP_ID_GAP).and_then(|gap| at.group.checked_sub(gap));
    let groups = groups.map(|group| (Location { group, object: 0 }, before(Location { object: 0, ..at })));
    let objects = gap(kind::PRIOR_OBJECT_ID_GAP).and_then(|gap| at.object.checked_sub(gap));
    let objects = objects.map(|object| (Location { object, ..at }, before(at)));
    [behind, groups, objects].into_iter().flatten()
}

/// The places of the range at which nothing is: in order, apart from each other.
fn all_absent(pasts: &[Past], (start, end): Range) -> Vec<Range> {
    let clipped = |(first, last): Range| (first.max(start), last.min(end));
    let mut all: Vec<Range> =
        pasts.iter().flat_map(absent).map(clipped).filter(|(first, last)| first <= last).collect();
    all.sort_unstable();
    let mut apart: Vec<Range> = Vec::new();
    for (first, last) in all {
        match apart.last_mut() {
            Some((_, end)) if first <= *end || after(*end) == Some(first) => *end = last.max(*end),
            _ => apart.push((first, last)),
        }
    }
    apart
}

/// The range as runs in ascending order, none left out. `is_served`: not too old.
fn runs(pasts: Vec<Past>, (start, end): Range, is_served: impl Fn(&Past) -> bool) -> Vec<Run> {
    let absent = all_absent(&pasts, (start, end));
    let place = |past: &Past| Location { group: past.object.group, object: past.object.id };
    let is_absent = |at: Location| {
        let behind = absent.partition_point(|(first, _)| *first <= at);
        behind > 0 && at <= absent[behind - 1].1
    };
    let is_here = |past: &Past| {
        let at = place(past);
        past.object.status == Status::Normal && start <= at && at <= end && !is_absent(at) && is_served(past)
    };
    let objects = pasts.into_iter().filter(is_here).map(|past| {
        let at = place(&past);
        Run { first: at, last: at, what: What::Object(past.object, past.datagram) }
    });
    let absent = absent.iter().map(|(first, last)| Run { first: *first, last: *last, what: What::Absent });
    let mut known: Vec<Run> = objects.chain(absent).collect();
    // Of what came twice the first stays.
    known.sort_by_key(|run| run.first);
    known.dedup_by_key(|run| run.first);
    let (mut all, mut next) = (Vec::with_capacity(2 * known.len() + 1), Some(start));
    for run in known {
        if let Some(from) = next.filter(|from| *from < run.first) {
            all.push(Run { first: from, last: before(run.first), what: What::Unknown });
        }
        next = after(run.last);
        all.push(run);
    }
    if let Some(from) = next.filter(|from| *from <= end) {
        all.push(Run { first: from, last: end, what: What::Unknown });
    }
    all
}

/// The same, the newest group first: runs over several groups are cut so that each is of one group or of whole groups.
fn newest_first(runs: Vec<Run>) -> Vec<Run> {
    let mut cut = Vec::with_capacity(runs.len() + 2);
    for Run { mut first, mut last, what } in runs {
        let piece = |first, last, what: &What| match what {
            What::Absent => Run { first, last, what: What::Absent },
            _ => Run { first, last, what: What::Unknown },
        };
        if first.group < last.group && first.object > 0 {
            let end = Location { object: u64::MAX, ..first };
            cut.push(piece(first, end, &what));
            first = Location { group: first.group + 1, object: 0 };
        }
        if first.group < last.group && last.object < u64::MAX {
            let begin = Location { object: 0, ..last };
            cut.push(piece(begin, last, &what));
            last = before(begin);
        }
        cut.push(Run { first, last, what });
    }
    cut.sort_by_key(|run| (Reverse(run.first.group), run.first.object));
    // The last of several groups is the first of them now.
    for run in cut.iter_mut().filter(|run| run.last.group > run.first.group) {
        run.last = Location { object: u64::MAX, ..run.first };
    }
    cut
}

/// What a fetch stream says of the range, in its order. `priority` is the track's, for objects that have none of their own.
pub(super) fn tell(
    pasts: Vec<Past>,
    range: Range,
    order: GroupOrder,
    priority: u8,
    is_served: impl Fn(&Past) -> bool,
) -> Vec<Fetched> {
    let mut runs = runs(pasts, range, is_served);
    if order == GroupOrder::Descending {
        runs = newest_first(runs);
    }
    let mut told = Vec::with_capacity(runs.len());
    let mut gap: Option<Fetched> = None;
    for Run { last, what, .. } in runs {
        gap = match what {
            What::Object(object, datagram) => {
                // That nothing is at a place needs no word before an object.
                told.extend(gap.take().filter(|gap| matches!(gap, Fetched::Unknown(_))));
                let object = Object { priority: object.priority.or(Some(priority)), ..object };
                told.push(Fetched::Object { object, datagram });
                None
            }
            What::Absent => {
                told.extend(gap.take().filter(|gap| matches!(gap, Fetched::Unknown(_))));
                Some(Fetched::Absent(last))
            }
            What::Unknown => {
                // An unknown range begins where the thing before it ended.
                told.extend(gap.take().filter(|gap| matches!(gap, Fetched::Absent(_))));
                Some(Fetched::Unknown(last))
            }
        };
    }
    told.extend(gap.filter(|gap| matches!(gap, Fetched::Unknown(_))));
    told
}
