//! Where a frame stands (group, object) and when it was captured (LOC TIMESTAMP).
//!
//! Group numbers begin at the wall clock's reading, so that they grow over restarts of the publisher, and are counted on
//! from there, so that no step of any clock takes them back. A [`Numbering`] belongs to one published track for its whole
//! life: neither a new link nor a new subscriber touches it. Frames that nobody hears get no number.
//!
//! The stream profile puts about a second of frames into a group; the datagram profile makes each frame a group.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::Delivery;
use crate::moqt::message::Location;
use crate::moqt::{properties, varint};

/// Ticks per second of every timestamp we write: microseconds.
pub const TIMESCALE: u64 = 1_000_000;
/// Least span of a group in the stream profile. Frames are rounded up to it, so that numbers don't outrun the seconds.
const GROUP_US: u32 = 1_000_000;
/// Without a frame for this long a group is over: what follows is another piece of speech.
const PAUSE: Duration = Duration::from_secs(2);
/// A publisher that says the end of a track on which others spoke stands this far ahead of its own clock: behind whatever
/// they, with clocks of theirs, have said.
const END_LEAD: Duration = Duration::from_secs(24 * 3600);
/// Stamps are cut from blocks of this size: one allocation for hundreds of frames.
const STAMP_BLOCK: usize = 4096;

/// The wall clock, as read once and carried on by the monotonic one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    unix: Duration,
}

impl Clock {
    /// `unix` is the wall clock's reading at `now`.
    pub fn new(now: Instant, unix: Duration) -> Self {
        Self { origin: now, unix }
    }

    fn unix(&self, now: Instant) -> Duration {
        self.unix + now.saturating_duration_since(self.origin)
    }
}

/// Encodes timestamps as object properties.
#[derive(Debug, Default)]
pub struct Stamp {
    block: BytesMut,
}

impl Stamp {
    /// The properties of an object captured at `timestamp_us`.
    pub fn encode(&mut self, timestamp_us: u64) -> Bytes {
        if self.block.capacity() - self.block.len() < 2 * varint::MAX_LEN {
            self.block.reserve(STAMP_BLOCK);
        }
        varint::put(&mut self.block, properties::kind::TIMESTAMP);
        varint::put(&mut self.block, timestamp_us);
        self.block.split().freeze()
    }
}

/// Reads an object's timestamp in microseconds, exactly where `ticks_per_second` allows it.
pub fn timestamp_us(object: &Bytes, ticks_per_second: u64) -> Option<u64> {
    let ticks = properties::number(object, properties::kind::TIMESTAMP)?;
    // An object may name a scale of its own (LOC "Timescale"); ours never do.
    let own = properties::number(object, properties::kind::TIMESCALE);
    let scale = own.filter(|scale| *scale != 0).unwrap_or(ticks_per_second);
    if scale == TIMESCALE {
        return Some(ticks);
    }
    u64::try_from(u128::from(ticks) * u128::from(TIMESCALE) / u128::from(scale)).ok()
}

/// The stamp of who speaks draft 16 and an older LOC: properties 0x06 (loc-02 and -03) or 0x02 (loc-01), always microseconds. In
/// later drafts both are delivery timeouts.
pub fn old_timestamp_us(object: &Bytes) -> Option<u64> {
    [0x06, 0x02].into_iter().find_map(|kind| properties::number(object, kind))
}

/// Where one frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub at: Location,
    /// Its group's first object.
    pub first: bool,
    /// Its group's last object: the stream ends behind it.
    pub last: bool,
}

/// Hands out the places of one published track.
#[derive(Debug)]
pub struct Numbering {
    delivery: Delivery,
    clock: Clock,
    frame_us: u32,
    frames_per_group: u64,
    /// The object handed out last, and when.
    last: Option<(Location, Instant)>,
    /// The group goes on behind `last`.
    open: bool,
}

impl Numbering {
    pub fn new(delivery: Delivery, frame_us: u32, clock: Clock) -> Self {
        let frame_us = frame_us.max(1);
        let frames_per_group = match delivery {
            Delivery::Stream => u64::from(GROUP_US.div_ceil(frame_us)),
            Delivery::Datagram => 1,
        };
        Self { delivery, clock, frame_us, frames_per_group, last: None, open: false }
    }

    /// The largest location handed out.
    pub fn largest(&self) -> Option<Location> {
        self.last.map(|(at, _)| at)
    }

    /// The group in which the next frame would stand beside others, if it came at `now`.
    pub fn open_group(&self, now: Instant) -> Option<u64> {
        let (at, when) = self.last?;
        (self.open && now.saturating_duration_since(when) < PAUSE).then_some(at.group)
    }

    /// The next frame begins a new group.
    pub fn roll(&mut self) {
        self.open = false;
    }

    /// The place of a frame.
    pub fn next(&mut self, now: Instant) -> Place {
        let at = match (self.open_group(now), self.last) {
            (Some(group), Some((last, _))) => Location { group, object: last.object + 1 },
            _ => Location { group: self.fresh_group(self.clock.unix(now)), object: 0 },
        };
        let last = at.object + 1 >= self.frames_per_group;
        self.last = Some((at, now));
        self.open = !last;
        Place { at, first: at.object == 0, last }
    }

    /// The place of END_OF_TRACK: the next object while this track speaks, else a group ahead of everybody's clock.
    pub fn end(&mut self, now: Instant) -> Place {
        let speaks = self.last.is_some_and(|(_, when)| now.saturating_duration_since(when) < PAUSE);
        let mut place = match self.delivery {
            Delivery::Stream if speaks => self.next(now),
            _ => {
                let ahead =
                    Self::new(self.delivery, self.frame_us, self.clock).fresh_group(self.clock.unix(now) + END_LEAD);
                let next = self.fresh_group(self.clock.unix(now));
                let at = Location { group: if speaks { next } else { next.max(ahead) }, object: 0 };
                self.last = Some((at, now));
                Place { at, first: true, last: true }
            }
        };
        self.open = false;
        place.last = true;
        place
    }

    /// A number above all before. Datagram groups are counted on without a gap, for a gap there reads as loss.
    fn fresh_group(&self, unix: Duration) -> u64 {
        let next = self.last.map(|(last, _)| last.group + 1);
        match self.delivery {
            Delivery::Stream => unix.as_secs().max(next.unwrap_or_default()),
            Delivery::Datagram => next.unwrap_or((unix.as_micros() / u128::from(self.frame_us)) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: Duration = Duration::from_millis(1_700_000_000_250);

    fn start() -> (Instant, Clock) {
        let now = Instant::now();
        (now, Clock::new(now, UNIX))
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn stamps_are_exact_and_share_an_allocation() {
        let mut stamp = Stamp::default();
        for us in [0, 1, 127, 128, 20_000, u64::from(u32::MAX), u64::MAX] {
            let bytes = stamp.encode(us);
            assert_eq!(bytes, properties::timestamp(us));
            assert_eq!(timestamp_us(&bytes, TIMESCALE), Some(us));
        }
        for us in 0..10_000 {
            assert_eq!(timestamp_us(&stamp.encode(us * 20_000), TIMESCALE), Some(us * 20_000));
        }
        assert!(stamp.block.capacity() <= STAMP_BLOCK);
    }

    #[test]
    fn foreign_scales_become_microseconds() {
        let at_48k = properties::timestamp(960);
        assert_eq!(timestamp_us(&at_48k, 48_000), Some(20_000));
        let own = properties::Writer::default().number(0x08, 1000).number(0x10, 20).finish();
        assert_eq!(timestamp_us(&own, 48_000), Some(20_000));
        assert_eq!(timestamp_us(&Bytes::new(), TIMESCALE), None);
        let old = |kind| properties::Writer::default().number(kind, 7).finish();
        assert_eq!((old_timestamp_us(&old(0x06)), old_timestamp_us(&old(0x02))), (Some(7), Some(7)));
        assert_eq!(old_timestamp_us(&old(0x08)), None);
        assert_eq!(timestamp_us(&properties::timestamp(u64::MAX), 1), None, "no wrapped time");
    }

    #[test]
    fn a_second_of_frames_is_a_group_named_after_its_second() {
        let (now, clock) = start();
        let mut numbering = Numbering::new(Delivery::Stream, 20_000, clock);
        for i in 0..500 {
            let place = numbering.next(now + ms(20 * i));
            assert_eq!(place.at, Location { group: 1_700_000_000 + i / 50, object: i % 50 });
            assert_eq!((place.first, place.last), (i % 50 == 0, i % 50 == 49));
        }
    }

    #[test]
    fn groups_never_outrun_the_seconds_at_any_frame_size() {
        let (now, clock) = start();
        for frame_ms in [5, 10, 20, 30, 40, 60] {
            let mut numbering = Numbering::new(Delivery::Stream, frame_ms as u32 * 1000, clock);
            let last = (0..10_000).map(|i| numbering.next(now + ms(frame_ms * i))).last().unwrap();
            assert!(last.at.group <= 1_700_000_001 + 10_000 * frame_ms / 1000, "{frame_ms} ms");
        }
    }

    #[test]
    fn a_pause_a_roll_and_a_clock_that_stands_still_begin_greater_groups() {
        let (now, clock) = start();
        let mut numbering = Numbering::new(Delivery::Stream, 20_000, clock);
        let first = numbering.next(now).at;
        numbering.roll();
        let second = numbering.next(now);
        assert_eq!((second.at, second.first), (Location { group: first.group + 1, object: 0 }, true));
        let third = numbering.next(now + PAUSE).at;
        assert_eq!(third, Location { group: 1_700_000_002, object: 0 });
        let restarted = Numbering::new(Delivery::Stream, 20_000, clock).next(now + ms(3000)).at;
        assert!(restarted > third, "a restarted publisher goes on above");
    }

    #[test]
    fn datagrams_are_groups_of_one_without_gaps() {
        let (now, clock) = start();
        let mut numbering = Numbering::new(Delivery::Datagram, 20_000, clock);
        let base = 1_700_000_000_250 / 20;
        for (i, at_ms) in [0, 20, 45, 60, 5_000, 5_020].into_iter().enumerate() {
            let place = numbering.next(now + ms(at_ms));
            assert_eq!(place.at, Location { group: base + i as u64, object: 0 });
            assert!(place.first && place.last);
        }
    }

    #[test]
    fn the_end_is_the_next_object_of_who_speaks_and_ahead_of_all_clocks_otherwise() {
        let (now, clock) = start();
        let mut numbering = Numbering::new(Delivery::Stream, 20_000, clock);
        let spoken = numbering.next(now).at;
        assert_eq!(numbering.end(now).at, Location { object: 1, ..spoken });

        let mut silent = Numbering::new(Delivery::Stream, 20_000, clock);
        assert!(silent.end(now).at.group >= 1_700_000_000 + 86_400);
        let mut silent = Numbering::new(Delivery::Datagram, 20_000, clock);
        silent.next(now);
        assert!(silent.end(now + PAUSE).at.group >= (1_700_000_000 + 86_400) * 50);
        let mut speaking = Numbering::new(Delivery::Datagram, 20_000, clock);
        let spoken = speaking.next(now).at;
        assert_eq!(speaking.end(now).at, Location { group: spoken.group + 1, object: 0 });
    }
}
