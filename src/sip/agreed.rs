//! The nouns of an agreement: our end, the direction, what came out, and why a body is refused.

use std::net::{IpAddr, SocketAddr};

use super::format::{Codec, Events, OpusWishes};
use super::sdp::SdpError;
use crate::audio::{Limits, Params};

/// Who of both sends, from the view of whoever says it (RFC 3264 §5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    const ALL: [Direction; 4] = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|direction| direction.as_str() == name)
    }

    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    pub(super) fn from_parts(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// What is left for us beside what the far end says of itself.
    pub(super) fn beside(self, far: Self) -> Self {
        Self::from_parts(self.sends() && far.receives(), self.receives() && far.sends())
    }
}

/// Our end of the audio stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// As the far end reaches it.
    pub address: IpAddr,
    pub port: u16,
    /// The preferred first; at least one.
    pub codecs: Vec<Codec>,
    pub ptime_ms: u8,
}

/// What both sides agreed on, from our view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Where our RTP goes. `None`: nowhere yet; a host name is not looked up, latching finds it.
    pub remote: Option<SocketAddr>,
    pub remote_rtcp: Option<SocketAddr>,
    /// What we send, under `send_type`.
    pub codec: Codec,
    pub send_type: u8,
    /// What may come in, each under its number; the first is `codec`.
    pub receive_types: Vec<(u8, Codec)>,
    /// The length of the packets that we send. Those of the far end may differ.
    pub ptime_ms: u8,
    pub direction: Direction,
    /// `None`: no telephone-event was agreed on.
    pub events: Option<Events>,
    /// `None`: another codec.
    pub opus: Option<OpusWishes>,
}

impl Negotiated {
    /// The far end sends nothing: its silence is no fault.
    pub fn is_on_hold(&self) -> bool {
        !self.direction.receives()
    }

    /// What an encoder for the far end has to keep to.
    pub fn limits(&self) -> Limits {
        let halved = self.codec == Codec::Opus && self.ptime_ms < Params::CALL.frame_ms;
        Limits { halved, ..self.opus.map(OpusWishes::limits).unwrap_or_default() }
    }
}

/// Why a body can't be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Unreadable(#[from] SdpError),
    #[error("no audio over plain RTP is offered")]
    NoAudio,
    #[error("no codec in common")]
    NoCommonCodec,
    #[error("an offer of ours waits for its answer")]
    Glare,
    #[error("there is no offer to answer")]
    NoOffer,
}

impl Refused {
    /// The final answer to a request that brought such a body.
    pub fn sip_code(&self) -> u16 {
        match self {
            Self::Unreadable(SdpError::TooLong(_)) => 413,
            Self::Unreadable(_) | Self::NoOffer => 400,
            Self::NoAudio | Self::NoCommonCodec => 488,
            Self::Glare => 491,
        }
    }
}
