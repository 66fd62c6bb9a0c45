//! The SDK under Python's: calls over HTTP, bridges over MoQT, and the threads that carry them. No Python in here.
//!
//! | File | Holds |
//! |---|---|
//! | `runtime` | the control thread (HTTP, names, timers) and the media worker; one pair per process, started on first need, ended at its exit |
//! | `lookout` | who sees that what is to be delivered waits behind a callback that blocks |
//! | `stalls` | when so many block that nothing is delivered: said and counted |
//! | `options` | where the control plane is and who asks: argument → environment → profile → running `clutchcall dev` |
//! | `profile` | the user's file of settings |
//! | `waits` | how an outcome is had: by waiting for it, or by being told |
//! | `events` | what becomes of a call, as it happens |
//! | `process` | whether this process was forked off |
//! | `http`, `calls` | the procedures: one request, its answer, its errors |
//! | `trunks` | what is read of a control plane's trunks |
//! | `keys` | keys that are pressed for the far end |
//! | `originate` | placing a call, and taking back one that nobody waits for any more |
//! | `wait`, `watch` | waiting for a status, over one stream of events that all waits share |
//! | `retry` | whether a request is sent again, and when |
//! | `media` | the media worker's app: a [`tracks::Pool`](crate::tracks::Pool), its bridges and their playout queues |
//! | `relay` | from a relay's URL to a dial |
//! | `tokens` | when a token is renewed, and where that of a `MoqtClient` comes from |
//! | `bridge` | one bridge, as its user holds it |
//! | `grant` | what the control plane granted it: tracks, relay, tokens |
//! | `moqt` | `MoqtClient`: tracks by name on a relay of the user's choice |
//! | `interop` | the cases of the interop runner against anybody's relay |
//!
//! Whoever calls waits in his own thread; every wait takes a cancel check that is asked at least every 100 ms. Or he
//! says whom to tell, and goes on.

pub mod bridge;
mod calls;
pub mod events;
mod grant;
mod http;
pub mod interop;
mod keys;
mod lookout;
mod media;
pub mod moqt;
pub mod options;
mod originate;
pub mod process;
mod profile;
mod relay;
mod retry;
pub mod runtime;
mod stalls;
mod tokens;
mod trunks;
mod wait;
mod waits;
mod watch;

pub use crate::net::shown::origin;
pub use bridge::{Bridge, BridgeSpec, Stats, Unclaimed};
pub use calls::{Agent, Client, List, Page, TERMINAL, Transfer, status};
pub use lookout::Look;
pub use media::{Clock, Delivered, Link};
pub use options::{Arguments, Options};
pub use originate::{Lost, Originate, Placed};
pub use runtime::{Cancel, Runtime};
pub use stalls::Stalls;
pub use tokens::Asked;
pub use waits::{Told, Underway, Waits};

#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod originate_tests;
#[cfg(test)]
mod server_for_tests;
#[cfg(test)]
mod tests;
