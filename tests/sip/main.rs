//! A SIP trunk against SIPp: each case asserts the messages on the wire and what the call's record says.
//!
//! The far side is a scenario of `tests/data/sipp/`; a message that it does not expect there and then fails it, unless it is a
//! repeated one. T1 is a tenth of RFC 3261's, so that 64·T1 passes within a test.

mod admitted;
mod answered;
mod around;
mod asterisk;
mod astray;
mod called;
mod callers;
mod cancelled;
mod changes;
mod clock;
// The bench of the engine's own tests; this binary uses a part of it.
#[allow(dead_code)]
#[path = "../engine/common.rs"]
mod common;
mod digest;
mod engine;
mod faults;
mod forwarded;
mod inbound;
mod info;
mod joined;
mod keys;
mod later;
mod limits;
mod lines;
mod names;
mod opus;
mod packets;
mod phones;
mod ports;
mod proxied;
mod refused;
mod reliable;
mod rig;
mod routes;
mod sessions;
mod settings;
mod simulated;
mod stalled;
mod strangers;
mod tls;
mod tls_inbound;
mod transferred;
mod webhooks;
