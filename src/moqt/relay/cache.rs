//! The latest objects of each live track, so that a FETCH can be answered and a join begins in the past.
//!
//! What passed is copied into memory of the cache's own: a payload that is kept as it came would hold its whole packet. The
//! memory is cut into *blocks*. A track fills one after the other and gives up its oldest for the next when it has
//! [`CacheLimits::track_bytes`], or when what the oldest holds is too old to be served. When there are no more than
//! [`CacheLimits::bytes`] in all, the block that was begun first goes, whosever it is. So there is no timer, no search, and
//! nothing is allocated for an object once the blocks are there (decision 0100).
//!
//! Kept is what passed to subscribers, each object once, whole, with all its fields; object statuses too, and the ends of groups that a
//! FIN told: from them follows what does not exist ([`history`](super::history)). A track whose last publisher is gone keeps nothing.
//!
//! What it never does: read a payload or a property, ask upstream, keep part of an object.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::blocks::{BLOCK, Blocks, Owned};
use super::limits::{CacheLimits, Counters};
use super::record::Head;
use crate::moqt::message::Location;
use crate::moqt::{Object, Status};

/// Blocks of a track that are allocated when the track begins, so that its first second finds them.
const BLOCKS_AHEAD: usize = 8;

/// The memory of all tracks.
pub(super) struct Cache {
    limits: CacheLimits,
    /// Blocks of one track at most.
    track_blocks: usize,
    blocks: Blocks,
    /// Times are kept as microseconds from here.
    epoch: Option<Instant>,
}

/// What one track has in it.
#[derive(Default)]
pub(super) struct Kept {
    /// The block that is being filled, with the track: an object looks at nothing else of it.
    current: Option<Hold>,
    /// Its bytes that are written.
    filled: usize,
    /// The ones before, the oldest first. Blocks that others took are a beginning of this row, or all of it and the current one.
    full: VecDeque<Hold>,
}

#[derive(Clone, Copy)]
struct Hold {
    owned: Owned,
    /// Where the first object that begins in this block stands; `BLOCK`: none does.
    first: usize,
    /// When the track went on to its next block.
    left: Option<Instant>,
}

/// One kept object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) object: Object,
    pub(super) datagram: bool,
    pub(super) at: Instant,
}

impl Cache {
    pub(super) fn new(limits: CacheLimits) -> Self {
        let limits = limits.within();
        let most = limits.bytes / BLOCK;
        let track_blocks = (limits.track_bytes / BLOCK).min(most);
        Self { limits, track_blocks, blocks: Blocks::new(most), epoch: None }
    }

    /// So many tracks will want their first blocks.
    pub(super) fn expect(&mut self, tracks: usize) {
        self.blocks.expect(tracks * self.track_blocks.min(BLOCKS_AHEAD));
    }

    /// Bytes of the blocks that tracks have.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.owned() * BLOCK
    }

    /// How long an object is served.
    pub(super) fn age(&self) -> Duration {
        self.limits.age
    }

    /// Keeps one object that passed.
    pub(super) fn keep(
        &mut self,
        kept: &mut Kept,
        object: &Object,
        datagram: bool,
        counters: &mut Counters,
        now: Instant,
    ) {
        let len = Head::LEN + object.properties.len() + object.payload.len();
        // A block more: it begins anywhere in one.
        if len + BLOCK > self.track_blocks * BLOCK {
            counters.cache_too_large += u64::from(self.track_blocks > 0);
            return;
        }
        let epoch = *self.epoch.get_or_insert(now);
        let at_us = now.saturating_duration_since(epoch).as_micros() as u64;
        if kept.current.is_none_or(|hold| kept.filled == BLOCK || !self.blocks.is(hold.owned)) {
            self.go_on(kept, counters, now);
        }
        if let Some(hold) = &mut kept.current {
            hold.first = hold.first.min(kept.filled);
        }
        let head = Head::of(object, datagram, at_us);
        for part in [head.bytes(), &object.properties, &object.payload] {
            self.write(kept, part, counters, now);
        }
    }

    /// The end of a group that no object of its own told: the last of them was the one before `at`.
    pub(super) fn keep_end(&mut self, kept: &mut Kept, at: Location, counters: &mut Counters, now: Instant) {
        let end = Object { group: at.group, id: at.object, status: Status::EndOfGroup, ..Object::default() };
        self.keep(kept, &end, false, counters, now);
    }

    fn write(&mut self, kept: &mut Kept, mut bytes: &[u8], counters: &mut Counters, now: Instant) {
        while !bytes.is_empty() {
            if kept.filled == BLOCK {
                self.go_on(kept, counters, now);
            }
            let Some(hold) = kept.current else { return };
            let (now_fits, later) = bytes.split_at(bytes.len().min(BLOCK - kept.filled));
            let end = kept.filled + now_fits.len();
            self.blocks.bytes_mut(hold.owned)[kept.filled..end].copy_from_slice(now_fits);
            (kept.filled, bytes) = (end, later);
        }
    }

    /// The track's next block: its own oldest when that is too old or one too many, else whichever is free or was begun first.
    fn go_on(&mut self, kept: &mut Kept, counters: &mut Counters, now: Instant) {
        kept.full.extend(kept.current.take().map(|last| Hold { left: Some(now), ..last }));
        // Others took them.
        while kept.full.pop_front_if(|hold| !self.blocks.is(hold.owned)).is_some() {}
        let stale = |hold: &Hold| hold.left.is_some_and(|at| now.saturating_duration_since(at) > self.limits.age);
        let full = kept.full.len() >= self.track_blocks;
        let own = kept.full.pop_front_if(|hold| full || stale(hold));
        let owned = match own {
            Some(hold) => {
                counters.cache_track_full += u64::from(!stale(&hold));
                self.blocks.begin_again(hold.owned)
            }
            None => {
                let (owned, taken) = self.blocks.begin();
                counters.cache_full += u64::from(taken);
                owned
            }
        };
        kept.current = Some(Hold { owned, first: BLOCK, left: None });
        kept.filled = 0;
    }

    /// Gives back everything that a track has.
    pub(super) fn free(&mut self, kept: &mut Kept) {
        let newest_first = kept.current.take().into_iter().chain(kept.full.drain(..).rev());
        newest_first.for_each(|hold| self.blocks.free(hold.owned));
    }

    /// Everything that the track has, in the order in which it passed: one copy, of which the objects are slices.
    pub(super) fn read(&self, kept: &Kept) -> Vec<Past> {
        let Some(epoch) = self.epoch else { return Vec::new() };
        let here = kept.full.iter().chain(&kept.current).skip_while(|hold| !self.blocks.is(hold.owned));
        let whole = here.skip_while(|hold| hold.first == BLOCK);
        let mut bytes = BytesMut::with_capacity((kept.full.len() + 1) * BLOCK);
        for (at, hold) in whole.enumerate() {
            let from = if at == 0 { hold.first } else { 0 };
            let to = if hold.left.is_none() { kept.filled } else { BLOCK };
            bytes.extend_from_slice(&self.blocks.bytes(hold.owned)[from..to]);
        }
        let mut bytes = bytes.freeze();
        let mut all = Vec::new();
        while let Some(head) = Head::read(&bytes) {
            let mut content = bytes.split_off(Head::LEN);
            let mut take = |len: usize| content.split_to(len.min(content.len()));
            let (properties, payload) = (take(head.properties()), take(head.payload()));
            let at = epoch + Duration::from_micros(head.at_us());
            let object = head.object(properties, payload);
            all.push(Past { object, datagram: head.is_datagram(), at });
            bytes = content;
        }
        all
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
mod tests {
    use bytes::Bytes;

    use super::*;

    const AGE: Duration = Duration::from_secs(10);

    fn object(group: u64, id: u64, len: usize) -> Object {
        Object { group, id, payload: vec![id as u8; len].into(), ..Object::default() }
    }

    struct World {
        cache: Cache,
        counters: Counters,
        now: Instant,
    }

    impl World {
        fn new(track_bytes: usize, bytes: usize) -> Self {
            let cache = Cache::new(CacheLimits { age: AGE, track_bytes, bytes });
            Self { cache, counters: Counters::default(), now: Instant::now() }
        }

        fn keep(&mut self, kept: &mut Kept, object: &Object) {
            self.cache.keep(kept, object, false, &mut self.counters, self.now);
            self.check();
        }

        fn ids(&self, kept: &Kept) -> Vec<u64> {
            self.cache.read(kept).iter().map(|past| past.object.id).collect()
        }

        fn check(&self) {
            self.cache.blocks.check();
            assert!(self.cache.bytes() <= self.cache.limits.bytes);
        }
    }

    #[test]
    fn everything_comes_back_as_it_was() {
        let (mut world, mut kept) = (World::new(64 * 1024, 1 << 20), Kept::default());
        let all = [
            Object { priority: Some(3), properties: Bytes::from_static(&[16, 1]), subgroup: 9, ..object(7, 1, 5000) },
            Object { end_of_group: true, ..object(u64::MAX, u64::MAX, 0) },
            Object { status: Status::EndOfGroup, ..object(1, 2, 0) },
            Object { status: Status::EndOfTrack, ..object(1, 3, 0) },
            object(2, 0, BLOCK - Head::LEN),
            object(2, 1, 1),
        ];
        let mut expected = Vec::new();
        for (n, object) in all.iter().enumerate() {
            world.cache.keep(&mut kept, object, n % 2 == 1, &mut world.counters, world.now);
            expected.push(Past { object: object.clone(), datagram: n % 2 == 1, at: world.now });
            world.now += Duration::from_millis(20);
        }
        assert_eq!(world.cache.read(&kept), expected);
        assert!(world.cache.read(&Kept::default()).is_empty());
    }

    #[test]
    fn a_track_keeps_its_latest_within_its_bytes() {
        let (mut world, mut kept) = (World::new(4 * BLOCK, 1 << 20), Kept::default());
        for id in 0..200 {
            world.keep(&mut kept, &object(1, id, 100));
            let ids = world.ids(&kept);
            assert!(ids.is_sorted() && ids.last() == Some(&id) && ids.len() as u64 == id + 1 - ids[0]);
            assert!(world.cache.bytes() <= 4 * BLOCK);
        }
        let least = 3 * BLOCK / (100 + Head::LEN) - 1;
        assert!(world.ids(&kept).len() >= least, "{least}");
        assert!(world.counters.cache_track_full > 0 && world.counters.cache_full == 0);
    }

    #[test]
    fn what_is_too_old_makes_room_before_the_bytes_are_reached() {
        let (mut world, mut kept) = (World::new(64 * 1024, 1 << 20), Kept::default());
        for id in 0..500 {
            world.keep(&mut kept, &object(1, id, 100));
            world.now += Duration::from_millis(250);
        }
        // 40 objects are younger than the age: three blocks, one that is begun and one that is left.
        assert!(world.cache.bytes() <= 5 * BLOCK, "{}", world.cache.bytes());
        assert!(world.ids(&kept).len() >= 40);
        assert_eq!(world.counters.cache_track_full, 0);
    }

    #[test]
    fn when_all_is_used_the_oldest_block_goes_whosever_it_is() {
        let mut world = World::new(8 * BLOCK, 16 * BLOCK);
        let mut tracks: Vec<Kept> = (0..4).map(|_| Kept::default()).collect();
        for id in 0..400 {
            for kept in &mut tracks {
                world.keep(kept, &object(1, id, 100));
            }
        }
        for kept in &tracks {
            let ids = world.ids(kept);
            assert!(ids.is_sorted() && ids.last() == Some(&399));
            assert!(ids.len() >= 2 * BLOCK / 142, "all have about the same: {}", ids.len());
        }
        assert!(world.counters.cache_full > 0);
        // Silent tracks lose theirs to one that speaks.
        for id in 400..800 {
            world.keep(&mut tracks[0], &object(1, id, 100));
        }
        assert!(world.ids(&tracks[0]).len() > 7 * BLOCK / 142);
        assert!(world.cache.bytes() <= 16 * BLOCK);
    }

    #[test]
    fn what_is_given_back_is_used_first_and_read_by_nobody() {
        let mut world = World::new(8 * BLOCK, 16 * BLOCK);
        let (mut gone, mut here) = (Kept::default(), Kept::default());
        for id in 0..100 {
            world.keep(&mut gone, &object(1, id, 100));
        }
        world.cache.free(&mut gone);
        world.check();
        assert_eq!((world.cache.bytes(), world.ids(&gone)), (0, vec![]));
        let allocated = world.cache.blocks.allocated();
        for id in 0..20 {
            world.keep(&mut here, &object(2, id, 100));
        }
        world.keep(&mut gone, &object(3, 5, 100));
        assert_eq!((world.cache.blocks.allocated(), world.counters.cache_full), (allocated, 0));
        assert_eq!((world.ids(&here).len(), world.ids(&gone)), (20, vec![5]));
    }

    #[test]
    fn blocks_are_there_before_their_track_fills_them() {
        let mut world = World::new(16 * BLOCK, 64 * BLOCK);
        world.cache.expect(2);
        let (allocated, mut kept) = (world.cache.blocks.allocated(), Kept::default());
        for id in 0..64 {
            world.keep(&mut kept, &object(1, id, 100));
        }
        assert_eq!((allocated, world.cache.blocks.allocated()), (2 * BLOCKS_AHEAD, allocated));
        assert!(world.cache.bytes() > BLOCK && world.ids(&kept).len() == 64);
        world.cache.expect(1_000);
        assert_eq!(world.cache.blocks.allocated(), 64);
        world.check();
    }

    #[test]
    fn what_is_larger_than_a_tracks_room_is_not_kept_and_breaks_nothing() {
        let (mut world, mut kept) = (World::new(4 * BLOCK, 4 * BLOCK), Kept::default());
        for id in 0..300 {
            let len = [10, 3 * BLOCK, 3 * BLOCK - Head::LEN, 5 * BLOCK][id as usize % 4];
            world.keep(&mut kept, &object(1, id, len));
            let fits = id % 4 == 0 || id % 4 == 2;
            assert_eq!(world.ids(&kept).last() == Some(&id), fits, "{id}");
        }
        assert_eq!(world.counters.cache_too_large, 150);
    }

    #[test]
    fn no_bytes_or_no_age_keep_nothing() {
        for limits in [
            CacheLimits { bytes: 0, ..CacheLimits::default() },
            CacheLimits { track_bytes: 0, ..CacheLimits::default() },
            CacheLimits { age: Duration::ZERO, ..CacheLimits::default() },
        ] {
            let (mut cache, mut kept, mut counters) = (Cache::new(limits), Kept::default(), Counters::default());
            cache.keep(&mut kept, &object(1, 1, 10), false, &mut counters, Instant::now());
            assert!(cache.read(&kept).is_empty() && cache.blocks.allocated() == 0);
            assert_eq!(counters, Counters::default());
        }
    }
}
