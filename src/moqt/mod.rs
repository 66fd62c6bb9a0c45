//! Media over QUIC Transport, as a brain without I/O.
//!
//! One [`Session`] is one MoQT session, either role, any draft of [`Draft`]. It owns no socket, clock, task or lock:
//!
//! * bytes in: [`Session::accept_stream`], [`Session::handle_data`], [`Session::handle_reset`],
//!   [`Session::handle_stopped`], [`Session::handle_datagram`];
//! * time in: [`Session::handle_timeout`], asked for by [`Session::poll_timeout`];
//! * bytes out: [`Session::poll_transmit`], drained after every call that may have queued something;
//! * events out: [`Session::poll_event`];
//! * the application's words: `subscribe`, `publish_namespace`, `accept_subscribe`, `send_object`, …
//!
//! A link — a QUIC connection, a WebTransport session, or two queues in one process — moves the transmits of one session
//! into the `handle_*` of the other. Nothing a peer sends panics: a violation closes the session with the draft's code.
//! Objects stay bytes: properties and payload are never taken apart here.
//!
//! Section numbers in comments are those of draft-ietf-moq-transport-18.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod authorization;
mod codec;
pub mod draft16;
pub mod error;
pub mod fetched;
pub mod few;
pub mod ids;
pub mod message;
pub mod name;
pub mod object;
mod parameters;
pub mod properties;
pub mod relay;
pub mod session;
pub mod stream;
pub mod subgroup;
pub mod varint;
pub mod version;

pub use error::{CloseCode, PublishDoneCode, RequestErrorCode, ResetCode, Violation};
pub use name::{FullTrackName, TrackNamespace};
pub use object::{Object, Status, SubgroupHeader};
pub use session::{Dir, Event, Session, StreamId, Transmit};
pub use version::{Draft, Drafts};
