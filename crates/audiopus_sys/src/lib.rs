//! The C API of libopus under the name that `audiopus` looks for.
//!
//! The published `audiopus_sys` bundles an old, unversioned libopus and does not build with cmake 4;
//! `docs/decisions/0002-libopus.md` tells why this shim stands in its place.
#![no_std]
pub use opusic_sys::*;
