//! The downlink queue of one bridge: what was said at once goes out in its own time.
//!
//! `publish_downlink` may hand over a whole sentence in an instant. A [`Queue`] holds at most [`CAPACITY`] of it, gives every
//! frame a media time, and lets it go at most [`AHEAD`] before that time. A live source (one frame per frame time)
//! passes straight through. Time runs on whether or not anybody listens: what was due during an outage is given out then,
//! and its owner counts what nobody heard. Nothing is lost silently: a full queue refuses ([`Full`]).
//!
//! Owned by the SDK's media worker, one per bridge. No clock, lock or thread: `now` is an argument. It never looks into a
//! payload and knows nothing of tracks.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::{Duration, Instant};

use bytes::Bytes;

/// How much a queue holds.
pub const CAPACITY: Duration = Duration::from_secs(60);
/// How far ahead of its media time a frame may leave.
pub const AHEAD: Duration = Duration::from_millis(60);

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

/// See the module's contract.
pub struct Queue {
    _private: (),
}

#[allow(unused_variables, clippy::todo)]
impl Queue {
    /// `frame_us`: media time of one frame. `clock_us`: reading of the publisher's monotonic clock at `now`, from which stamps count.
    pub fn new(frame_us: u32, clock_us: u64, now: Instant) -> Self {
        todo!()
    }

    /// Lays a frame at the end of the queue, or at `timestamp_us` when given (in the past: at once, never before an earlier
    /// frame). Without a stamp frames are laid end to end from max(now, end of the queue).
    pub fn push(&mut self, payload: Bytes, timestamp_us: Option<u64>, now: Instant) -> Result<(), Full> {
        todo!()
    }

    /// The next frame whose time has come. Call until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Due> {
        todo!()
    }

    /// When [`Queue::poll`] will have something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Microseconds of audio that have not left yet.
    pub fn queued_us(&self) -> u64 {
        todo!()
    }

    /// Drops what has not left; returns its microseconds.
    pub fn clear(&mut self) -> u64 {
        todo!()
    }
}
