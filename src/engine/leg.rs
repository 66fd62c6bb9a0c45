//! The audio end of one answered call, as an audio thread sees it.
//!
//! A [`Leg`] belongs to exactly one audio thread from the moment it arrives in [`Answered`](super::trunk::TrunkKind) until
//! it is dropped; dropping it ends its media (files are closed, sockets let go). It has no clock, task or lock: the
//! thread's 20 ms tick calls [`Leg::pull`] once and [`Leg::push`] once, both with the tick's time. It never signals
//! the call: that is its trunk's word.

use std::time::Instant;

use crate::audio::{Frame, Params};

/// One frame each way per tick of [`Params::frame_ms`].
pub trait Leg: Send {
    /// The codec of both directions; constant for the life of the leg.
    fn params(&self) -> Params;
    /// What the far end says now. `None`: nothing came in time (silence up); the tick goes on.
    fn pull(&mut self, now: Instant) -> Option<Frame>;
    /// What the far end is to hear during this tick. `None`: nothing was there; the leg fills the gap in its own way.
    fn push(&mut self, frame: Option<&Frame>, now: Instant);
}
