//! The engine: control plane, calls, audio threads, and the trunks that carry calls. This file assembles; no logic.
//!
//! | Room | Holds |
//! |---|---|
//! | `config` | [`Config`]: listen addresses, state folder, keys, orgs, trunks, agents, relay; from TOML, environment or code |
//! | `runtime` | the control thread: one tokio `current_thread` runtime for API, timers and trunks |
//! | `outside` | state folder, signing key, relay: what stays the same after a restart, and what bridges are told |
//! | `watched` | files that are read again when they change |
//! | `private` | files that are replaced as a whole and keep their owner |
//! | `api/` | HTTP: the procedures, their answers and refusals |
//! | `calls` | one place that owns every [`Call`](crate::call::Call): commands in, actions carried out |
//! | `store/` | call records, durable before an answer |
//! | `trunk`, `leg` | the seam to whatever carries calls |
//! | `phone/` | the simulated phone: a SIP endpoint, and the trunk that leads to it |
//! | `sip/` | SIP trunks: a carrier on the network |
//! | `rtp/` | legs over RTP: ports, sockets, reports |
//! | `media/` | the audio threads |
//! | `agents/` | agents that live in the engine |
//! | `webhooks/` | what becomes of calls, told to HTTP servers of the user's |
//!
//! It never parses MoQT (that is `tracks`), never touches Python, and forwards no audio between sessions (that is `relay`).

pub mod agents;
pub mod api;
pub mod calls;
pub mod config;
pub mod leg;
pub mod media;
pub mod metrics;
mod outside;
pub mod phone;
mod private;
pub mod rtp;
mod runtime;
pub mod sip;
pub mod store;
pub mod trunk;
mod watched;
pub mod webhooks;

pub use config::Config;
pub use outside::{public_key, signing_key_of};
pub use runtime::Engine;
