//! The life of one call as a brain: what happened goes in, what to do comes out.
//!
//! A [`Call`] is owned by the control thread (`engine/calls`). Its trunk's words are [`Event`]s, its user's are
//! [`Command`]s, its timers are [`Call::poll_timeout`]; what is to be done about them waits in [`Call::poll_action`].
//! `dialing` → `ringing` → `in_progress` → one of `completed`, `failed`, `no_answer`. A status never moves backwards,
//! and nothing leaves a terminal one.
//!
//! | File | Holds |
//! |---|---|
//! | `state` | the machine and its timers |
//! | `reason` | why calls end: final SIP codes and Q.850 causes into status and end reason |
//! | `record` | what is known of a call: the stored record, and the row that API and SDK share |
//! | `wire` | what API and SDK say to each other beside the row |
//! | `stamp` | ISO 8601 |
//!
//! The room has no clock, socket, lock or store. It knows no SIP beyond the numbers of its answers, and no audio.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod reason;
pub mod record;
pub mod stamp;
mod state;
pub mod wire;

pub use reason::{EndReason, EndedBy, Ending};
pub use record::{CallRecord, CallRow, DEFAULT_RING_TIMEOUT_S, Status};
pub use state::{Action, Call, Command, Event, Refusal, Settled, clamp_ring_timeout};

#[cfg(test)]
mod tests;
