//! The downlink queue of one bridge: what was said at once goes out in its own time.
//!
//! `publish_downlink` may hand over a whole sentence in an instant. A [`Queue`] holds at most [`CAPACITY`] of it, gives every
//! frame a media time, and lets it go at most [`AHEAD`] before that time. A live source (one frame per frame time)
//! passes straight through. Time runs on whether or not anybody listens: what was due during an outage is given out then,
//! and its owner counts what nobody heard. Nothing is lost silently: a full queue refuses ([`Full`]).
//!
//! A frame's *place* is when it is to be heard; its *stamp* is what its object carries. They are the same but for a
//! user's stamp in the past, which is kept although its place is now. Stamps always grow. A user's stamp further
//! ahead than [`CAPACITY`] is on another clock than this one, and refused as a full queue is.
//!
//! Owned by the SDK's media worker, one per bridge. No clock, lock or thread: `now` is an argument. It never looks into a
//! payload and knows nothing of tracks.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How much a queue holds.
pub const CAPACITY: Duration = Duration::from_secs(60);
/// How far ahead of its media time a frame may leave.
pub const AHEAD: Duration = Duration::from_millis(60);

const CAPACITY_US: u64 = CAPACITY.as_micros() as u64;
const AHEAD_US: u64 = AHEAD.as_micros() as u64;

/// One frame to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub timestamp_us: u64,
    pub payload: Bytes,
}

/// The queue holds [`CAPACITY`] already. The payload comes back to its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full {
    pub payload: Bytes,
    pub queued_us: u64,
}

struct Entry {
    place_us: u64,
    due: Due,
}

/// See the module's contract.
pub struct Queue {
    frame_us: u64,
    /// The publisher's clock read `clock_us` at `origin`; all times within are on that clock.
    origin: Instant,
    clock_us: u64,
    entries: VecDeque<Entry>,
    /// Of the last frame laid, left or not.
    last: Laid,
    /// Of the last frame that left.
    left: Laid,
}

#[derive(Clone, Copy, Default)]
struct Laid {
    place_us: u64,
    end_us: u64,
    stamp_us: Option<u64>,
}

impl Queue {
    /// `frame_us`: media time of one frame. `clock_us`: reading of the publisher's monotonic clock at `now`, from which stamps count.
    pub fn new(frame_us: u32, clock_us: u64, now: Instant) -> Self {
        let (frame_us, last) = (u64::from(frame_us.max(1)), Laid::default());
        Self { frame_us, origin: now, clock_us, entries: VecDeque::new(), last, left: last }
    }

    /// Lays a frame at the end of the queue, or at `timestamp_us` when given (in the past: at once, never before an earlier
    /// frame). Without a stamp frames are laid end to end from max(now, end of the queue).
    pub fn push(&mut self, payload: Bytes, timestamp_us: Option<u64>, now: Instant) -> Result<(), Full> {
        let now_us = self.clock(now);
        let place_us = match timestamp_us {
            Some(stamp) => stamp.max(now_us).max(self.last.place_us),
            None => self.last.end_us.max(now_us),
        };
        // Counted from when it may leave, so that a burst on an idle queue is worth its whole capacity.
        let too_far = place_us > now_us.saturating_add(CAPACITY_US + AHEAD_US);
        if too_far || self.queued_us() + self.frame_us > CAPACITY_US {
            return Err(Full { payload, queued_us: self.queued_us() });
        }
        let least = self.last.stamp_us.map_or(0, |stamp| stamp.saturating_add(1));
        let stamp_us = timestamp_us.unwrap_or(place_us).max(least);
        self.last = Laid { place_us, end_us: place_us.saturating_add(self.frame_us), stamp_us: Some(stamp_us) };
        self.entries.push_back(Entry { place_us, due: Due { timestamp_us: stamp_us, payload } });
        Ok(())
    }

    /// The next frame whose time has come. Call until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Due> {
        let until_us = self.clock(now).saturating_add(AHEAD_US);
        let Entry { place_us, due } = self.entries.pop_front_if(|entry| entry.place_us <= until_us)?;
        let end_us = place_us.saturating_add(self.frame_us);
        self.left = Laid { place_us, end_us, stamp_us: Some(due.timestamp_us) };
        Some(due)
    }

    /// When [`Queue::poll`] will have something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due_us = self.entries.front()?.place_us.saturating_sub(AHEAD_US);
        Some(self.origin + Duration::from_micros(due_us.saturating_sub(self.clock_us)))
    }

    /// Microseconds of audio that have not left yet.
    pub fn queued_us(&self) -> u64 {
        self.entries.len() as u64 * self.frame_us
    }

    /// Drops what has not left; returns its microseconds. What is pushed next follows what had left.
    pub fn clear(&mut self) -> u64 {
        let dropped = self.queued_us();
        self.entries.clear();
        self.last = self.left;
        dropped
    }

    fn clock(&self, now: Instant) -> u64 {
        self.clock_us.saturating_add(now.saturating_duration_since(self.origin).as_micros() as u64)
    }
}

#[cfg(test)]
mod tests;
