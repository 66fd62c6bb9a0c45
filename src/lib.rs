//! clutchcall: a voice engine and its Python SDK in one crate.
//!
//! The house has floors; nobody looks up (`ARCHITECTURE.md` draws it, `tests/house.rs` keeps it):
//!
//! 1. brains — [`audio`], [`call`], [`jitter`], [`moqt`], [`playout`], [`rtp`], [`sip`], [`token`]: no sockets, clocks,
//!    locks or threads; time is an argument, bytes go in, bytes and events come out.
//! 2. wires — [`net`]: QUIC, WebTransport, TLS, and the loop that drives a [`moqt::Session`]; [`files`].
//! 3. joints — [`error`], [`heap`], [`ring`], [`tracks`].
//! 4. hands — [`client`], [`relay`], [`engine`].
//! 5. face — `python`, the only room that knows PyO3 (cargo feature `python`).

pub mod audio;
pub mod call;
pub mod client;
pub mod engine;
pub mod error;
pub mod files;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod heap;
pub mod jitter;
pub mod moqt;
pub mod net;
pub mod playout;
#[cfg(feature = "python")]
mod python;
pub mod relay;
pub mod ring;
pub mod rtp;
pub mod sip;
pub mod token;
pub mod tracks;
