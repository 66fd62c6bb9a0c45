//! Which objects of a subscribed track are new, where they stand in the order of frames, and what is known missing.
//!
//! An [`Edge`] belongs to one subscription of the pool's user for its whole life, over every link. It lets each
//! (group, object) through once. What lies at or before the LARGEST_OBJECT of a SUBSCRIBE_OK was said before we listened:
//! a relay that replays it is not heard. Objects of an older group that are late, not old, pass.
//!
//! Memory is bounded: the last [`REMEMBERED`] groups, and in each the [`WINDOW`] ids below the largest.

use std::collections::VecDeque;

use crate::moqt::message::Location;

/// Groups whose objects are known.
const REMEMBERED: usize = 64;
/// Ids of a group that are told apart below its largest.
const WINDOW: u64 = 128;
/// A greater gap is a jump of the numbering: nothing is known to be missing in it.
const MAX_GAP: u64 = 3000;

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Seen before, or from before the live edge.
    Stale,
    New {
        sequence: u64,
        /// Objects that are now known missing before it.
        missing: u64,
        /// It was counted as missing, and takes the place that was left for it.
        filled: bool,
    },
}

/// The objects of one group that have come.
#[derive(Clone, Debug)]
struct Group {
    group: u64,
    /// One above the largest id.
    next: u64,
    /// Bit `i`: object `next - 1 - i` has come.
    seen: u128,
    /// Object `id` has the place `base + id` (modulo 2^64), if `id` is at least `reserved`.
    base: u64,
    reserved: u64,
    /// So many groups of one object right before this one have places left for them.
    gap: u64,
}

#[derive(Debug, Default)]
pub struct Edge {
    floor: Option<Location>,
    /// In the order in which they began to arrive.
    groups: VecDeque<Group>,
    newest: Option<Location>,
    /// The newest group has no other object than its first.
    single: bool,
    /// The next frame is the first of a subscription: what lies before it was not for us.
    joining: bool,
    sequence: u64,
}

impl Edge {
    pub fn new() -> Self {
        Self { joining: true, ..Self::default() }
    }

    /// A SUBSCRIBE was accepted. `alone`: no other subscription brings the track at the same time.
    pub fn join(&mut self, largest: Option<Location>, alone: bool) {
        if !alone {
            return;
        }
        if largest.is_none() {
            // Nothing was published (§10.8): whatever was numbered before is another publisher's.
            self.groups.clear();
            self.newest = None;
        }
        self.floor = largest;
        self.joining = true;
    }

    /// `single`: the object is the only one of its group.
    pub fn admit(&mut self, at: Location, single: bool) -> Verdict {
        // No id follows the greatest one, so none can be told from it.
        if at.object == u64::MAX || self.floor.is_some_and(|floor| at <= floor) {
            return Verdict::Stale;
        }
        let verdict = match self.groups.iter().rposition(|group| group.group == at.group) {
            Some(i) => self.known_group(i, at.object),
            None if self.newest.is_none_or(|newest| newest.group < at.group) => self.new_group(at, single),
            None => self.late_group(at, single),
        };
        if verdict != Verdict::Stale {
            if self.newest.is_none_or(|newest| newest.group <= at.group) {
                self.single = single;
            }
            self.newest = self.newest.max(Some(at));
            self.joining = false;
        }
        verdict
    }

    /// The group's stream ended whole, and the group with it.
    pub fn end_group(&mut self, group: u64) {
        if self.newest == Some(Location { group, object: 0 }) {
            self.single = true;
        }
    }

    fn known_group(&mut self, i: usize, id: u64) -> Verdict {
        let next = self.groups[i].next;
        if id < next {
            return self.late_object(i, id);
        }
        let missing = if self.joining { 0 } else { known_gap(id - next) };
        let sequence = self.take(missing);
        let group = &mut self.groups[i];
        let base = sequence.wrapping_sub(id);
        if base != group.base {
            // Another group's frames came in between: only from here on places follow ids again.
            group.base = base;
            group.reserved = id - missing;
        }
        let shift = id - next + 1;
        group.seen = if shift < WINDOW { group.seen << shift | 1 } else { 1 };
        group.next = id + 1;
        Verdict::New { sequence, missing, filled: false }
    }

    fn late_object(&mut self, i: usize, id: u64) -> Verdict {
        let group = &mut self.groups[i];
        let back = group.next - 1 - id;
        if back >= WINDOW || group.seen >> back & 1 == 1 {
            return Verdict::Stale;
        }
        group.seen |= 1 << back;
        let filled = id >= group.reserved;
        let place = group.base.wrapping_add(id);
        let sequence = if filled { place } else { self.take(0) };
        Verdict::New { sequence, missing: 0, filled }
    }

    fn new_group(&mut self, at: Location, single: bool) -> Verdict {
        let gap = match self.newest {
            Some(newest) if single && self.single && !self.joining => known_gap(at.group - newest.group - 1),
            _ => 0,
        };
        let before = if self.joining { 0 } else { known_gap(at.object) };
        let sequence = self.take(gap + before);
        self.remember(at, sequence, at.object - before, gap);
        Verdict::New { sequence, missing: gap + before, filled: false }
    }

    /// A group that a later one has overtaken.
    fn late_group(&mut self, at: Location, single: bool) -> Verdict {
        let later = self.groups.iter().filter(|group| group.group > at.group).min_by_key(|group| group.group);
        let place = later.filter(|_| single).and_then(|later| {
            let distance = later.group - at.group;
            let left = later.gap.checked_sub(distance)?;
            Some((later.base.wrapping_sub(distance), left))
        });
        let (sequence, left) = place.unwrap_or_else(|| (self.take(0), 0));
        self.remember(at, sequence, at.object, left);
        Verdict::New { sequence, missing: 0, filled: place.is_some() }
    }

    /// The next place behind `missing` that stay empty for now.
    fn take(&mut self, missing: u64) -> u64 {
        let sequence = self.sequence.wrapping_add(missing);
        self.sequence = sequence.wrapping_add(1);
        sequence
    }

    fn remember(&mut self, at: Location, sequence: u64, reserved: u64, gap: u64) {
        if self.groups.len() == REMEMBERED {
            self.groups.pop_front();
        }
        let base = sequence.wrapping_sub(at.object);
        let next = at.object + 1;
        self.groups.push_back(Group { group: at.group, next, seen: 1, base, reserved, gap });
    }
}

fn known_gap(gap: u64) -> u64 {
    if gap <= MAX_GAP { gap } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(group: u64, object: u64) -> Location {
        Location { group, object }
    }

    /// Admits an object of a stream; `Ok((sequence, missing))` or the filled place.
    fn new(sequence: u64, missing: u64) -> Verdict {
        Verdict::New { sequence, missing, filled: false }
    }

    fn filled(sequence: u64) -> Verdict {
        Verdict::New { sequence, missing: 0, filled: true }
    }

    #[test]
    fn every_object_passes_once_in_whatever_order() {
        let mut edge = Edge::new();
        edge.join(None, true);
        for (group, object) in [(5, 0), (5, 1), (6, 0), (5, 2), (6, 1)] {
            assert!(matches!(edge.admit(at(group, object), false), Verdict::New { missing: 0, .. }));
            assert_eq!(edge.admit(at(group, object), false), Verdict::Stale);
        }
    }

    #[test]
    fn gaps_inside_a_group_are_missing_until_they_are_filled() {
        let mut edge = Edge::new();
        assert_eq!(edge.admit(at(1, 7), false), new(0, 0), "a late joiner misses nothing");
        assert_eq!(edge.admit(at(1, 8), false), new(1, 0));
        assert_eq!(edge.admit(at(1, 11), false), new(4, 2));
        assert_eq!(edge.admit(at(1, 9), false), filled(2));
        assert_eq!(edge.admit(at(1, 9), false), Verdict::Stale);
        assert_eq!(edge.admit(at(1, 12), false), new(5, 0));
        assert_eq!(edge.admit(at(2, 2), false), new(8, 2), "the first two of a group");
        assert_eq!(edge.admit(at(2, 0), false), filled(6));
        assert_eq!(edge.admit(at(1, 6), false), new(9, 0), "nobody left a place for it");
    }

    #[test]
    fn groups_of_one_object_count_what_is_missing_between_them() {
        let mut edge = Edge::new();
        assert_eq!(edge.admit(at(100, 0), true), new(0, 0));
        assert_eq!(edge.admit(at(101, 0), true), new(1, 0));
        assert_eq!(edge.admit(at(105, 0), true), new(5, 3));
        assert_eq!(edge.admit(at(103, 0), true), filled(3));
        assert_eq!(edge.admit(at(102, 0), true), filled(2));
        assert_eq!(edge.admit(at(104, 0), true), filled(4));
        for group in 100..=105 {
            assert_eq!(edge.admit(at(group, 0), true), Verdict::Stale);
        }
        assert_eq!(edge.admit(at(106, 0), false), new(6, 0), "too large for a datagram");
        edge.end_group(106);
        assert_eq!(edge.admit(at(108, 0), true), new(8, 1));
        assert_eq!(edge.admit(at(108 + MAX_GAP + 2, 0), true), new(9, 0), "a jump is no loss");
    }

    #[test]
    fn gaps_between_seconds_are_nobodys_loss() {
        let mut edge = Edge::new();
        edge.admit(at(1, 0), false);
        assert_eq!(edge.admit(at(9, 0), false), new(1, 0));
        edge.end_group(9);
        assert_eq!(edge.admit(at(20, 0), false), new(2, 0));
    }

    #[test]
    fn nothing_from_before_the_live_edge() {
        let mut edge = Edge::new();
        edge.admit(at(10, 0), false);
        edge.join(Some(at(12, 30)), true);
        for stale in [at(10, 1), at(11, 0), at(12, 30)] {
            assert_eq!(edge.admit(stale, false), Verdict::Stale);
        }
        assert_eq!(edge.admit(at(12, 33), false), new(1, 0), "the outage is not counted as lost objects");
        assert_eq!(edge.admit(at(12, 35), false), new(3, 1));
    }

    #[test]
    fn a_second_subscription_beside_the_first_neither_repeats_nor_skips() {
        let mut edge = Edge::new();
        (0..5).for_each(|object| assert_ne!(edge.admit(at(1, object), false), Verdict::Stale));
        edge.join(Some(at(1, 7)), false);
        assert_eq!(edge.admit(at(1, 8), false), new(8, 3), "the new link is ahead");
        (5..8).for_each(|object| assert_eq!(edge.admit(at(1, object), false), filled(object)));
        assert_eq!(edge.admit(at(1, 8), false), Verdict::Stale);
    }

    #[test]
    fn a_publisher_that_began_to_count_afresh_is_heard() {
        let mut edge = Edge::new();
        edge.admit(at(1000, 3), false);
        edge.join(None, true);
        assert_eq!(edge.admit(at(7, 0), false), new(1, 0));
        assert_eq!(edge.admit(at(1000, 3), false), new(5, 3));
        // And one that takes over without a word, below the numbers of the one before.
        (0..200).for_each(|group| assert_ne!(edge.admit(at(900 + group, 4), false), Verdict::Stale, "{group}"));
        assert!(edge.groups.len() <= REMEMBERED);
    }

    #[test]
    fn hostile_numbers_do_no_harm() {
        let mut edge = Edge::new();
        let big = u64::MAX;
        for location in [at(big, big), at(0, big), at(0, 0), at(big, 0), at(big, big - 1), at(big - 1, 5), at(3, big)] {
            edge.admit(location, location.object % 2 == 0);
            assert_eq!(edge.admit(location, true), Verdict::Stale, "{location:?}");
        }
    }

    /// Whatever arrives, and however often: frames and holes fill the sequence exactly.
    #[test]
    fn frames_and_missing_add_up() {
        let mut random = 1_u64;
        let mut edge = Edge::new();
        edge.join(None, true);
        let (mut frames, mut missing, mut top) = (0_u64, 0_u64, 0_u64);
        let mut places = std::collections::HashSet::new();
        for step in 0..20_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = (step + (random >> 60)).saturating_sub(random >> 61);
            let location = at(id / 50, id % 50);
            if let Verdict::New { sequence, missing: new, filled } = edge.admit(location, false) {
                assert!(places.insert(sequence), "a place is given once");
                frames += 1;
                missing = missing + new - u64::from(filled);
                top = top.max(sequence);
            }
        }
        assert_eq!(frames + missing, top + 1);
    }
}
