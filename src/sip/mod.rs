//! What we write of SIP ourselves, as brains: bodies, headers and rules. The stack (transport, transactions, dialogs) is a crate
//! behind `engine/trunk`; it gives texts in and takes texts out.
//!
//! | File | Holds |
//! |---|---|
//! | `sdp` | [`Description`]: a session description (RFC 8866), as much of it as one audio call needs |
//! | `format` | [`Codec`], payload types, `rtpmap`, `fmtp`, packet times |
//! | `offer` | [`Negotiation`]: offer and answer (RFC 3264) of one dialog |
//! | `agreed` | what comes of it: [`Negotiated`], [`Direction`], [`Refused`] |
//! | `digest` | [`Challenger`](digest::Challenger): challenges to callers, and their answers (RFC 7616) |
//! | `reason` | the Reason header (RFC 3326): Q.850 causes in and out |
//! | `contact` | Contact headers: bindings of a registration, and where a redirect leads |
//! | `uri` | numbers into request URIs, `Refer-To` and back; where a redirect may lead |
//! | `health` | [`Health`] of a trunk: OPTIONS, consecutive 5xx, the breaker |
//! | `rate` | [`Rate`]: calls per second, and the calls that wait for their turn |
//! | `registration` | [`Registration`]: when to register, to refresh, to try again (RFC 3261 §10) |
//! | `reliable` | [`Reliable`](reliable::Reliable): a provisional answer that has to arrive (RFC 3262) |
//! | `session_timer` | [`SessionTimer`]: who refreshes the session and when (RFC 4028) |
//! | `srv` | where a name leads (RFC 2782, RFC 3263): the order of its records, and how long they are believed |
//! | `dns` | the question for them, and its answer, as bytes |
//! | `dice` | [`Dice`](dice::Dice): chance |
//! | `info` | keys in the bodies of INFO requests |
//! | `refer` | [`Refer`]: the headers of a transfer, and what its NOTIFYs say (RFC 3515) |
//!
//! The room has no socket, clock or task: time is an argument. It knows no call record, no RTP packet, and not the stack's
//! types. Texts of the network are bounded before they are read, and never panic.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod agreed;
pub mod contact;
pub mod dice;
pub mod digest;
pub mod dns;
pub mod format;
pub mod health;
pub mod info;
pub mod offer;
pub mod rate;
pub mod reason;
pub mod refer;
pub mod registration;
pub mod reliable;
pub mod sdp;
pub mod session_timer;
pub mod srv;
pub mod uri;

pub use agreed::{Direction, Local, Negotiated, Refused};
pub use format::{Codec, Events, OpusWishes};
pub use health::Health;
pub use offer::Negotiation;
pub use rate::Rate;
pub use refer::Refer;
pub use registration::Registration;
pub use sdp::{Description, SdpError};
pub use session_timer::SessionTimer;

#[cfg(test)]
mod offer_tests;
#[cfg(test)]
mod shapes;
