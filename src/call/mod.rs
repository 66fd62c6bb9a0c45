//! The life of one call as a brain: what happened goes in, what to do comes out.
//!
//! A [`Call`] is owned by the control thread (`engine/calls`). Its trunk's words are [`Event`]s, its user's are
//! [`Command`]s, its timers are [`Call::poll_timeout`]; what is to be done about them waits in [`Call::poll_action`].
//! `dialing` → `ringing` → `in_progress` → one of `completed`, `failed`, `no_answer`. A status never moves backwards,
//! and nothing leaves a terminal one.
//!
//! | File | Holds |
//! |---|---|
//! | `words` | what a call hears and says |
//! | `state` | the machine and its timers |
//! | `transfer` | a call that is to go to another number: REFER, and a second leg |
//! | `inbound` | a call that came in |
//! | `carried` | what an INVITE carries for its user: headers, a name |
//! | `reason` | why calls end: final SIP codes and Q.850 causes into status and end reason |
//! | `record` | what is known of a call: the stored record, and the row that API and SDK share |
//! | `parts` | parts of the record that some calls have: transfer, legs, packets |
//! | `wire` | what API and SDK say to each other beside the row |
//! | `control` | what the control track of a call says |
//! | `stamp` | ISO 8601 |
//!
//! The room has no clock, socket, lock or store. It knows no SIP beyond the numbers of its answers, and no audio.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod carried;
pub mod control;
mod inbound;
mod parts;
mod reason;
pub mod record;
pub mod stamp;
mod state;
mod transfer;
pub mod wire;
mod words;

pub use carried::Carried;
pub use parts::{
    Hundredths, LegRecord, LegRow, LegState, RtpStats, TransferMode, TransferRecord, TransferRow, TransferState,
};
pub use reason::{EndReason, EndedBy, Ending};
pub use record::{CallRecord, CallRow, DEFAULT_RING_TIMEOUT_S, Direction, Status};
pub use state::{Call, clamp_ring_timeout};
pub use words::{Action, Command, Event, LegEvent, Refusal, Reject, Settled};

#[cfg(test)]
mod tests;
