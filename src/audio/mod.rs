//! Audio as bytes: codecs, their parameters, and what turns one encoded frame into another.
//!
//! [`Params`] says what one encoded [`Frame`] is; nothing else in the house describes audio. Everything here is a value or a
//! small machine with one owner: no clock, lock, thread or socket. Samples inside are `i16`, interleaved.
//!
//! | File | Holds |
//! |---|---|
//! | `params` | [`Codec`], [`Params`], the names of renditions; [`Limits`], [`Target`]: what a listener bears of Opus |
//! | `g711`, `pcm`, `opus` | the codecs; `opus` is the only place that names a crate for it; `pcm` also mixes |
//! | `bundle` | [`Bundle`]: Opus packets of other lengths, made of packets |
//! | `resample` | rates and channels, 20 ms at a time |
//! | `transcode` | [`Decoder`], [`Encoder`], [`Transcoder`]: one frame of these params into frames of those |
//! | `wav` | RIFF/WAVE, read whole and written as it grows |
//!
//! The room knows nothing of calls, tracks or time: how late a frame is, is somebody else's business.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod bundle;
#[cfg(test)]
mod bundle_tests;
pub mod g711;
pub mod opus;
mod params;
pub mod pcm;
pub mod resample;
mod transcode;
#[cfg(test)]
mod transcode_tests;
pub mod wav;

pub use bundle::Bundle;
pub use params::{Codec, Limits, Params, ParamsError, Target};
pub use transcode::{CodecError, Decoder, Encoder, Transcoder};

/// One encoded frame of some [`Params`].
pub type Frame = bytes::Bytes;
