//! The relay and what speaks through it: real sessions over raw QUIC, WebTransport and ports, on loopback.
//!
//! | Module | Holds |
//! |---|---|
//! | `rig` | a relay with its keys, and a worker whose app a test drives step by step |
//! | `rules` | the relay's rules, one suite over all three kinds of link |
//! | `mute` | a QUIC client that never says SETUP |
//! | `peers` | aiomoqt and moq-rs against our relay, where their interpreter is there |
//! | `media` | the engine's audio threads between scripted legs and real bridges' tracks |
//!
//! Nothing here paces itself or sleeps: every wait is for an event, with one generous upper limit.

#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod media;
mod mute;
mod peers;
mod rig;
mod rules;
