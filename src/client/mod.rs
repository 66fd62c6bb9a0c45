//! The SDK under Python's: calls over HTTP, bridges over MoQT, and the threads that carry them. No Python in here.
//!
//! | File | Holds |
//! |---|---|
//! | `runtime` | the control thread (HTTP, names, timers) and the media worker; both start on first need and end with their [`Client`](self) |
//! | `options` | where the control plane is and who asks: argument → environment → running `clutchcall dev` |
//! | `http`, `calls` | the procedures: one request, its retries, its errors |
//! | `media` | the media worker's app: a [`tracks::Pool`](crate::tracks::Pool), its bridges and their playout queues |
//! | `bridge` | one bridge, as its user holds it |
//! | `moqt` | `MoqtClient`: tracks by name on a relay of the user's choice |
//!
//! Whoever calls waits in his own thread; every wait takes a cancel check that is asked at least every 100 ms.

mod calls;
mod http;
pub mod options;
pub mod runtime;

pub use calls::{Client, Originate, TERMINAL, Transfer, status};
pub use options::{Arguments, Options};
pub use runtime::{Cancel, Runtime};

#[cfg(test)]
mod tests;
