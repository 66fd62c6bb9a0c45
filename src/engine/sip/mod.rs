//! SIP trunks: a [`Trunk`](super::trunk::Trunk) whose far side is a carrier on the network.
//!
//! | File | Holds |
//! |---|---|
//! | `trunk` | [`SipTrunk`]: commands in, one task per call |
//! | `dialog` | one call: what the wire says and what the call's brain wants, until both are done with it |
//! | `endpoint` | [`Endpoints`]: one stack per transport and local address, shared by the trunks that use it |
//! | `stack/` | the crate behind it all; nobody else names it |
//!
//! The control thread owns the trunks, and their tasks run there: none of them blocks, and none touches audio. A call's task lives
//! longer than the call where the wire does: a CANCEL is followed until the INVITE is over, an answer that crosses it is hung up,
//! a BYE is repeated until it is answered. What a call becomes is its brain's (`call/`); here is no record and no status.
//! Descriptions are made and read by [`Media`], which gives the [`Leg`]; sockets of RTP are not this room's.

mod dialog;
mod endpoint;
mod stack;
mod trunk;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::leg::Leg;

pub use endpoint::{Endpoint, Endpoints};
pub use trunk::SipTrunk;

/// RFC 3261 §17.1.1.1.
const T1: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Where one stack listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    pub transport: Transport,
    /// One address, not all of them: it stands in Via and Contact. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// What far sides are told instead, where a translator stands in between.
    pub external: Option<IpAddr>,
}

impl Local {
    fn advertised(&self, bound: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.external.unwrap_or(bound.ip()), bound.port())
    }
}

/// What all timers of RFC 3261 are made of.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    pub t1: Duration,
}

impl Timers {
    /// 64·T1: nobody answers any more.
    fn give_up(self) -> Duration {
        self.t1 * 64
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self { t1: T1 }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.username)
    }
}

/// A trunk's far side, and who we are there.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Name or address of its first hop.
    pub host: String,
    pub port: u16,
    /// The host of our From; `None`: our own address.
    pub domain: Option<String>,
    pub credentials: Option<Credentials>,
}

/// Why there is no audio, as the far side is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMedia {
    /// 488, 491, …: the final answer to whoever brought the description.
    pub code: u16,
}

/// Offer, answer and audio of one call (RFC 3264): made before the INVITE, kept to the end.
pub trait Media: Send {
    /// The body of the INVITE.
    fn offer(&mut self) -> Result<String, NoMedia>;
    /// The far side's answer; gives the audio, once.
    fn handle_answer(&mut self, body: &[u8]) -> Result<Box<dyn Leg>, NoMedia>;
    /// A re-INVITE or UPDATE: what to answer. An empty body asks for an offer of ours.
    fn handle_offer(&mut self, body: &[u8]) -> Result<String, NoMedia>;
    /// The answer to that offer, in the ACK.
    fn handle_late_answer(&mut self, body: &[u8]) -> Result<(), NoMedia>;
}

/// Gives each new call its [`Media`]. The error is for the log: there are no ports left, or no memory.
pub trait MakeMedia: Send {
    fn make(&mut self, sid: &str) -> Result<Box<dyn Media>, String>;
}
