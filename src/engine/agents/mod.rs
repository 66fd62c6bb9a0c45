//! Agents that live in the engine: they hear what the caller says and say what she hears.
//!
//! An [`Agent`] belongs to the audio thread of its call. Like a leg it has no clock, task or lock: it is given every frame of the
//! caller and asked once per tick for a frame to say, in the same [`Params`].

mod bridged;
mod echo;

use std::time::Instant;

use crate::audio::{Frame, Params};

pub use bridged::Bridged;
pub use echo::Echo;

/// The agent's end of one call.
pub trait Agent: Send {
    /// The frames it hears and says are of these parameters; asked once, when it is bound. `call`: what the leg speaks, the choice
    /// that costs no transcoding.
    fn params(&self, call: Params) -> Params;
    fn hear(&mut self, frame: &Frame, now: Instant);
    /// What to say in this tick; `None`: silence.
    fn say(&mut self, now: Instant) -> Option<Frame>;
}
