//! A call's audio over RTP: the sockets, clocks and codecs around the brain ([`crate::rtp`]).
//!
//! A trunk uses [`Talks`] and [`Talk`], which do all that stands here, or the parts:
//! 1. [`Ports::open`] before the INVITE is sent or answered: a [`Pair`] of bound ports, of which [`Pair::port`] stands in the offer.
//! 2. [`RtpLeg::new`] with what offer and answer came to ([`Negotiated`]), when the call is answered: the [`RtpLeg`] goes to the audio
//!    thread in `Answered`, the [`RtpLine`] stays with the trunk.
//! 3. [`RtpLine::update`] after every later offer and answer, at once: hold, moved ports, another codec. [`RtpLine::press`] for keys.
//!
//! Dropping the leg says BYE in RTCP and gives the ports back, which then rest; dropping a pair that never became a leg does the latter.
//!
//! What comes is handled on arrival: frames of 20 ms go up at once, whatever the packets of the far end hold. What goes to the far end
//! follows the thread's clock and never pauses, unless the direction says so: silence is packets too. Both are continuous in RTP's
//! time. The leg takes what was signalled or what symmetric RTP has learned, counts all else, and tells its thread when nothing
//! comes any more.
//!
//! | File | Holds |
//! |---|---|
//! | `ports` | [`Ports`], [`Pair`]: bound pairs of ports out of a range |
//! | `leg` | [`RtpLeg`]: sockets, reports, time limits |
//! | `talk` | [`Talk`]: ports, offer and answer, and leg of one call, kept in step |
//! | `line` | [`RtpLine`]: the trunk's word to a leg that has left for its thread |
//! | `inward` | packets to payloads in order |
//! | `maker` | payloads to frames |
//! | `outward` | frames to packets, silence among them |
//!
//! No task, no lock per frame, no name of a call: the room does not know whose audio it is.

mod inward;
mod leg;
mod line;
mod maker;
mod outward;
mod ports;
mod talk;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use leg::RtpLeg;
pub use line::RtpLine;
pub(super) use outward::silence;
pub use ports::{Pair, Ports};
pub use talk::{Talk, Talks};

pub use crate::sip::{Codec, Direction, Events, Negotiated};

/// What a trunk's settings say of its legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Learn where the far end really is (RFC 4961). Off: packets of the signalled address only.
    pub symmetric: bool,
    /// How long a packet may be waited for that others have overtaken; zero: not at all.
    pub reorder: Duration,
    /// Nothing ever came: [`Heard::Silent`](super::leg::Heard) after this. `None`: never.
    pub never_heard: Option<Duration>,
    /// Nothing came any more. Neither counts on hold.
    pub not_heard: Option<Duration>,
    pub fill: Fill,
    /// Keys go to the far end as telephone events; else its trunk has another way.
    pub presses: bool,
}

/// What is sent at a tick for which nothing is there to be heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Silence: carriers and phones expect a stream without a pause.
    #[default]
    Always,
    /// Nothing, but for one packet of silence ahead of all: it opens the far end's latch. Pauses are pauses (RFC 3551 §4.1).
    Once,
    /// Nothing.
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            symmetric: true,
            reorder: Duration::ZERO,
            never_heard: Some(Duration::from_secs(30)),
            not_heard: Some(Duration::from_secs(15)),
            fill: Fill::Always,
            presses: true,
        }
    }
}
