//! RTP (RFC 3550) and telephone events (RFC 4733) as brains: packets in, payloads and events out; frames in, packets out.
//!
//! Everything here belongs to one leg of a call (`engine/rtp`), which owns the sockets, the clock and the codec. Time is an
//! argument, bytes are borrowed, nothing is allocated per packet. No input panics: what is no RTP is an error or is refused and
//! counted.
//!
//! | File | Holds |
//! |---|---|
//! | `packet` | one RTP packet: read and written |
//! | `rtcp` | compound RTCP packets: SR, RR, SDES, BYE, the rest skipped |
//! | `sequence` | 16 bits of sequence number to 64: order, loss, probation, restart (RFC 3550 §A.1) |
//! | `receiver` | one stream that comes: its packets checked, events split off, statistics kept |
//! | `sender` | one stream that goes: sequence and timestamp continuous whatever is said |
//! | `dtmf` | telephone events both ways |
//! | `latch` | whose packets count (symmetric RTP) |
//! | `loss` | how much of ours the far end will lose |
//! | `report` | what RTCP says of both streams: loss, jitter, round trip |
//! | `quality` | an estimated MOS of these figures (ITU-T G.107) |
//! | `framing` | packets of any duration to frames of one |
//! | `ports` | which pair of ports is next |
//!
//! The room knows no codec, no SDP, no call.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod dtmf;
pub mod framing;
pub mod latch;
mod loss;
pub mod packet;
pub mod ports;
pub mod quality;
mod receiver;
pub mod report;
pub mod rtcp;
mod sender;
pub mod sequence;
#[cfg(test)]
mod tests;

pub use packet::{Header, Packet};
pub use receiver::{Audio, Received, Receiver, Stream};
pub use sender::{Outgoing, Sender};
pub use sequence::Totals;
