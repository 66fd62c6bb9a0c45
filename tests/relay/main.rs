//! The relay and what speaks through it: real sessions over raw QUIC, WebTransport and ports, on loopback.
//!
//! | Module | Holds |
//! |---|---|
//! | `rig` | a relay with its keys, and a worker whose app a test drives step by step |
//! | `rules` | the relay's rules, one suite over all three kinds of link |
//! | `raw` | a QUIC client of another make that says whatever bytes it is given |
//! | `words` | draft-18 messages as bytes, written by hand |
//! | `call` | a call of good people, live beside strangers |
//! | `isolation` | who has a token for one call, and tries everything to hear another or to speak on it |
//! | `hostile` | bytes that no peer of good will sends, on every kind of stream |
//! | `floods` | too much of what is allowed |
//! | `keys` | keys rolled over and tokens revoked under live sessions |
//! | `tracks` | SUBSCRIBE_TRACKS and FORWARD, over shards |
//! | `upstream` | our relay as an edge of another |
//! | `ending` | the relay inside an engine that ends |
//! | `past` | FETCH and joins, over shards |
//! | `peers` | aiomoqt and moq-rs against our relay, where their interpreter is there |
//! | `media` | the engine's audio threads between scripted legs and real bridges' tracks |
//! | `control` | what a call tells beside its audio |
//! | `rtp` | a phone over RTP, between its packets and bridges' tracks |
//!
//! Nothing here paces itself or sleeps: every wait is for an event, with one generous upper limit.

#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod call;
mod control;
mod ending;
mod floods;
mod hostile;
mod isolation;
mod keys;
mod media;
mod past;
mod peers;
mod raw;
mod rig;
mod rtp;
mod rules;
mod tracks;
mod upstream;
mod words;
