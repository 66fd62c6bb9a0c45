//! The audio end of one answered call, as an audio thread sees it.
//!
//! A [`Leg`] belongs to exactly one audio thread from the moment it arrives in [`Answered`](super::trunk::TrunkKind) until
//! it is dropped; dropping it ends its media (files are closed, sockets let go). It has no clock, task or lock. At each 20 ms tick
//! the thread calls [`Leg::push`] once with what the far end is to hear. What the far end says comes in one of two ways:
//! - a leg without sockets is asked once per tick ([`Leg::pull`]), right before the push;
//! - a leg with sockets reads them when they have something ([`Leg::receive`]), and gives frames at once ([`Leg::poll_heard`]).
//!
//! It never signals the call: that is its trunk's word. What only the audio shows (keys, silence) it tells its thread.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::audio::{Frame, Limits, Params, Target};
use crate::call::{Hundredths, RtpStats};

/// Frames of [`Params::frame_ms`] both ways.
pub trait Leg: Send {
    /// The codec of both directions; constant but for [`Heard::Retuned`].
    fn params(&self) -> Params;
    /// What the far end bears of the Opus that is made for it; may change with [`Heard::Retuned`] too.
    fn limits(&self) -> Limits {
        Limits::default()
    }
    fn target(&self) -> Target {
        Target { params: self.params(), limits: self.limits() }
    }
    /// What the far end says now. `None`: nothing came in time (silence up); the tick goes on. Never asked of a leg with sockets.
    fn pull(&mut self, _now: Instant) -> Option<Frame> {
        None
    }
    /// What the far end is to hear during this tick. `None`: nothing was there; the leg fills the gap in its own way.
    fn push(&mut self, frame: Option<&Frame>, now: Instant);
    /// A key for the far end, in place of audio. `false`: it takes none, or too many wait.
    fn press(&mut self, _key: char, _duration_ms: u32) -> bool {
        false
    }
    /// Watched for the life of the leg.
    fn sockets(&self) -> [Option<BorrowedFd<'_>>; SOCKETS] {
        [None; SOCKETS]
    }
    /// The socket at this place of [`Leg::sockets`] has something to read, and is read until it is empty.
    fn receive(&mut self, _socket: usize, _now: Instant) {}
    /// Asked after each [`Leg::receive`] and [`Leg::push`] until there is nothing more.
    fn poll_heard(&mut self) -> Option<Heard> {
        None
    }
    /// What the far end's line was like so far.
    fn line(&self) -> Option<Line> {
        None
    }
}

/// RTP's and RTCP's.
pub const SOCKETS: usize = 2;

/// What a leg with sockets has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// One frame, and when its first sample was spoken, by the far end's clock from the first one on.
    Frame { frame: Frame, at: Instant },
    /// A key was pressed; or, with its length, is over.
    Key { key: char, ended_ms: Option<u32> },
    /// [`Leg::params`] or [`Leg::limits`] are others now.
    Retuned,
    /// Of [`Leg::limits`] this one alone is another: so many percent of what is sent are lost, and frames may repeat those before.
    Loss(u8),
    /// Nothing comes any more, or nothing ever came, for as long as the leg was told to wait.
    Silent,
}

/// A line in figures, as call records keep them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// Its name in SDP.
    pub codec: &'static str,
    pub packets_received: u64,
    pub packets_sent: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub packets_lost: u64,
    /// Came when nobody waited for them any more.
    pub packets_late: u64,
    /// Of strangers, spoiled, or of a type that nobody agreed on.
    pub packets_refused: u64,
    /// At its worst, as reports saw it.
    pub jitter_ms: f64,
    /// `None`: the far end sends no reports.
    pub round_trip_ms: Option<f64>,
    /// Of ours, as the far end reports it.
    pub far_packets_lost: Option<u64>,
    /// Estimated, of what is heard (ITU-T G.107).
    pub mos: Option<f64>,
}

impl Line {
    /// The same in a record's form.
    pub fn stats(&self) -> RtpStats {
        RtpStats {
            codec: self.codec.to_owned(),
            packets_sent: self.packets_sent,
            bytes_sent: self.bytes_sent,
            packets_received: self.packets_received,
            bytes_received: self.bytes_received,
            packets_lost: self.packets_lost,
            remote_packets_lost: self.far_packets_lost,
            jitter_ms: Hundredths::new(self.jitter_ms),
            round_trip_ms: self.round_trip_ms.map(Hundredths::new),
            mos: self.mos.map(Hundredths::new),
        }
    }
}
