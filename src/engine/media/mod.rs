//! The audio threads: who ticks every 20 ms, and who stands between a call's leg and its tracks.
//!
//! One audio thread is one [`net::Worker`](crate::net::Worker) without strangers: its app holds a [`tracks::Pool`](crate::tracks::Pool)
//! with one route (the engine's own relay through a port, or `relay.url` over QUIC) and the calls that were given to it.
//! A call lives on one audio thread from [`Command::Open`] to [`Command::Close`]. Calls are spread over the twenty 1 ms slots
//! of a frame; in its slot a call's leg is pushed once. A leg with sockets is read when they have something; one without is pulled in
//! its slot.
//!
//! Up: the leg's frame, or the agent's ear, goes to every rendition somebody subscribes to (made once, passed through where codecs
//! agree). Down: what arrives on the downlink's renditions is kept per rendition, 10 frames from tick to tick; at its tick the leg gets
//! one frame, mixed when two speak at once. An attached agent is the one speaker: what bridges publish meanwhile is dropped, counted.
//!
//! The control thread speaks to it in [`Command`]s and hears [`Event`]s; both are few per call, none per frame.

//!
//! | File | Holds |
//! |---|---|
//! | `threads` | [`AudioThreads`]: starts them, spreads calls over them |
//! | `app` | the worker's app: commands, ticks, and what the pool says |
//! | `clock` | when each call's next frame is due; pure |
//! | `reach` | whether the relay is reached: for the log and for [`Gauges`] |
//! | `tokens` | whose turn it is to be given a fresh token |
//! | `call` | one call: who speaks and who hears |
//! | `control` | what it tells beside its audio |
//! | `lately` | keys that come by two ways |
//! | `rendition`, `mix`, `speaker` | one rendition; one frame out of several; an agent |

mod app;
mod call;
mod clock;
mod control;
mod lately;
mod mix;
mod reach;
mod rendition;
mod speaker;
#[cfg(test)]
mod tests;
mod threads;
mod tokens;

pub use reach::{Gauges, Missing};
pub use threads::AudioThreads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::leg::{Leg, Line};
use crate::audio::Params;
use crate::moqt::Drafts;
use crate::net::Trust;
use crate::relay::Ports;
use crate::tracks::Side;

/// Gives a fresh token (JWT) with every right in every call; called on the audio threads.
#[derive(Clone)]
pub struct Mint {
    pub token: Arc<dyn Fn() -> String + Send + Sync>,
    /// How long one counts.
    pub life: Duration,
}

/// How an audio thread reaches the relay.
#[derive(Clone)]
pub enum Supply {
    /// The engine's own, in this process.
    Port(Ports),
    /// One elsewhere. Its name is resolved by the control thread, which also keeps `address` up to date; an error is the
    /// text of what to do.
    Dial {
        url: url::Url,
        trust: Trust,
        drafts: Drafts,
        address: tokio::sync::watch::Receiver<Result<SocketAddr, String>>,
    },
}

/// Who speaks for the far end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A leg will come with [`Command::Start`]: uplink is published here, downlink is heard here.
    Leg,
    /// Nobody: an `attach_caller` bridge publishes the uplink and hears the downlink itself. The engine listens, makes
    /// renditions and says the end.
    Bridge,
}

/// What the control thread asks of an audio thread.
pub enum Command {
    /// Opens both tracks of a call; [`Event::Opened`] follows.
    Open { sid: Arc<str>, caller: Caller },
    /// The call was answered. `None`: there is no leg ([`Caller::Bridge`]).
    Start { sid: Arc<str>, leg: Option<Box<dyn Leg>> },
    /// What the far side says before the answer: heard, and not spoken to. [`Command::Start`] without a leg goes on with this one.
    Early { sid: Arc<str>, leg: Box<dyn Leg> },
    /// Makes a rendition of a side available: published (uplink) while somebody subscribes, or taken (downlink) while
    /// somebody publishes. Repeating it does nothing.
    Rendition { sid: Arc<str>, side: Side, params: Params },
    /// Binds an agent to the call, in place of the one before; `None` frees the place.
    Agent { sid: Arc<str>, agent: Option<Box<dyn super::agents::Agent>> },
    /// The far end has signalled a key, beside its audio; `second`: that of the leg that was joined.
    Key { sid: Arc<str>, key: char, duration_ms: u32, second: bool },
    /// END_OF_TRACK on both sides; leg and agent are dropped.
    Close { sid: Arc<str> },
}

impl Command {
    pub fn sid(&self) -> &Arc<str> {
        match self {
            Self::Open { sid, .. }
            | Self::Start { sid, .. }
            | Self::Early { sid, .. }
            | Self::Rendition { sid, .. }
            | Self::Agent { sid, .. }
            | Self::Key { sid, .. }
            | Self::Close { sid } => sid,
        }
    }
}

/// What an audio thread tells the control thread.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Both tracks are announced and subscribed, as far as the relay can be reached now.
    Opened { sid: Arc<str> },
    /// A bridge began (`true`) or ceased to publish this rendition.
    Speaking { sid: Arc<str>, side: Side, rendition: String, live: bool },
    /// The agent on the call gave up by itself.
    AgentEnded { sid: Arc<str>, reason: String },
    /// The far end pressed a key; or, with its length, let go of it.
    Key { sid: Arc<str>, key: char, ended_ms: Option<u32> },
    /// One far end of two that are joined has pressed a key, which the other one's line can't take; `second`: that is the second leg's.
    Unpressed { sid: Arc<str>, key: char, duration_ms: u32, second: bool },
    /// Nothing comes of the far end any more, for as long as its leg was told to wait.
    Silent { sid: Arc<str> },
    /// Figures of the call's media, once, after [`Command::Close`].
    Closed { sid: Arc<str>, stats: Box<Stats> },
}

/// A call's media in numbers. Frames are of the leg's own duration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    pub frames_up: u64,
    pub frames_down: u64,
    /// Ticks at which the leg had nothing to say (of one with sockets: packets that were lost), or nothing to hear after it had begun.
    pub gaps_up: u64,
    pub gaps_down: u64,
    pub dropped_before_answer: u64,
    /// Downlink frames beyond the 10 that a rendition keeps, or while an agent speaks.
    pub dropped_down: u64,
    /// Of a leg with sockets, and of a second one that was joined to it.
    pub line: Option<Line>,
    pub second: Option<Line>,
}
