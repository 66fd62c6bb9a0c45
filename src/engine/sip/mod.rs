//! SIP trunks: a [`Trunk`](super::trunk::Trunk) whose far side is a carrier on the network.
//!
//! | File | Holds |
//! |---|---|
//! | `trunk` | [`SipTrunk`]: commands in, one task per call |
//! | `dial` | one call before its INVITE |
//! | `dialog` | one call: what the wire says and what the call's brain wants, until both are done with it |
//! | `reception` | whose call an INVITE is, and where it waits until the board has decided |
//! | `ringing` | one call that came in, until it is answered |
//! | `session` | its session timer |
//! | `pressing` | keys for it as SIP INFO |
//! | `register` | who we are, told to a registrar |
//! | `options` | whether the far side is there |
//! | `probe` | the same, asked by a user |
//! | `gate` | [`Gate`]: who may speak to us, and how much of strangers is borne |
//! | `names` | [`Servers`] and what the host of a far side leads to: SRV records and addresses |
//! | `peers` | what a trunk's names resolve to, told to the gate |
//! | `endpoint` | [`Endpoints`]: one stack per transport and local address, shared by the trunks that use it |
//! | `stack/` | the crate behind it all; nobody else names it |
//!
//! The control thread owns the trunks, and their tasks run there: none of them blocks, and none touches audio. A call's task lives
//! longer than the call where the wire does: a CANCEL is followed until the INVITE is over, an answer that crosses it is hung up,
//! a BYE is repeated until it is answered. What a call becomes is its brain's (`call/`); here is no record and no status.
//! Descriptions, ports and audio of a call are its [`Talk`](super::rtp::Talk)'s.

mod dial;
mod dialog;
mod endpoint;
mod gate;
mod names;
mod options;
mod peers;
mod pressing;
mod probe;
mod reception;
mod register;
mod ringing;
mod session;
mod stack;
mod trunk;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::config::{SIP_PORT, SIPS_PORT};

pub(super) use endpoint::Answering;
pub use endpoint::{Endpoint, Endpoints, local, talks};
pub use gate::{Counts, Gate, Network, PeerId, Seat};
pub use names::Servers;
pub use stack::Transactions;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use stack::fuzz;
pub(super) use stack::{Agreed, Came, Heard, Knock, Line, Past, Reception, Refusal, Ruled, Ruling};
pub use trunk::{FarSide, SipTrunk};

/// RFC 3261 §17.1.1.1.
const T1: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// Where a far side listens unless told otherwise (RFC 3261 §19.1.2).
    fn port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => SIP_PORT,
            Self::Tls => SIPS_PORT,
        }
    }

    /// What stands before a name in the name of its SRV records (RFC 3263 §4.1).
    fn service(self) -> &'static str {
        match self {
            Self::Udp => "_sip._udp",
            Self::Tcp => "_sip._tcp",
            Self::Tls => "_sips._tcp",
        }
    }

    /// What a URI of ours says of it; nothing where it is the one that everybody assumes.
    fn parameter(self) -> &'static str {
        match self {
            Self::Udp => "",
            Self::Tcp => ";transport=tcp",
            Self::Tls => ";transport=tls",
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
    /// Whom TLS trusts: certificates in a file of PEM, or those of the machine.
    pub tls_roots: Option<PathBuf>,
    /// What it shows to those who connect to it over TLS; without it nobody can.
    pub certificate: Option<Certificate>,
}

/// Files of PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
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
