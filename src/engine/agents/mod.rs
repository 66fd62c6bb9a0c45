//! Agents that live in the engine: they hear what the caller says and say what she hears.
//!
//! An [`Agent`] belongs to the audio thread of its call. Like a leg it has no clock, task or lock: it is given every frame of the
//! caller and asked once per tick for a frame to say, in the same [`Params`]. One that is the far end of a second leg ([`Bridged`]) has
//! sockets, which the thread watches as it does a leg's.

mod bridged;
mod echo;
mod play;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::leg::{Line, SOCKETS};
use crate::audio::{Frame, Limits, Params};

pub use bridged::Bridged;
pub use echo::Echo;
pub use play::{Play, Said};

/// The agent's end of one call.
pub trait Agent: Send {
    /// The frames it hears and says are of these parameters; asked when it is bound, and after [`Told::Retuned`]. `call`: what the leg
    /// speaks, the choice that costs no transcoding.
    fn params(&self, call: Params) -> Params;
    /// What it bears of the Opus that it hears; asked together with the parameters.
    fn limits(&self) -> Limits {
        Limits::default()
    }
    fn hear(&mut self, frame: &Frame, now: Instant);
    /// The caller pressed a key, and has let go of it. `false`: it was for the agent's far end, whose line takes none.
    fn hear_key(&mut self, _key: char, _duration_ms: u32) -> bool {
        true
    }
    /// Once per tick, before it is asked what to say.
    fn handle_tick(&mut self, _now: Instant) {}
    /// What to say in this tick; `None`: silence.
    fn say(&mut self, now: Instant) -> Option<Frame>;
    /// Watched for its life, and read as a leg's ([`Leg::receive`](super::leg::Leg::receive)).
    fn sockets(&self) -> [Option<BorrowedFd<'_>>; SOCKETS] {
        [None; SOCKETS]
    }
    fn receive(&mut self, _socket: usize, _now: Instant) {}
    /// What the line of an agent that has one was like so far.
    fn line(&self) -> Option<Line> {
        None
    }
    /// Asked after each tick and each [`Agent::receive`] until there is nothing more.
    fn poll_told(&mut self) -> Option<Told> {
        None
    }
}

/// What an agent with a line of its own has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// [`Agent::params`] or [`Agent::limits`] are others now.
    Retuned,
    /// Of [`Agent::limits`] the loss alone is another.
    Loss(u8),
    /// Nothing comes of its far end any more.
    Silent,
    /// Its far end pressed a key, and has let go of it.
    Key { key: char, duration_ms: u32 },
}
