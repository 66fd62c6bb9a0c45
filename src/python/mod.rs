//! The face: what Python sees of the house, as the private module `clutchcall._core`.
//!
//! One file per class. Each method here checks the *types* of its arguments, lets go of the interpreter where something
//! may wait or compute for more than a few microseconds, calls one function of floor 3, and turns its error into a Python
//! exception (`errors`). There is no logic, no state of a call and no retry in this room; names, defaults, docstrings
//! and public types live in `python/clutchcall/`, which is thin and typed.
//!
//! The only thread that starts here is the delivery thread (`delivery`). Nothing starts at import.

mod bench;
mod bridge;
mod buffer;
mod cancel;
mod client;
#[cfg(feature = "counted")]
mod counts;
mod delivery;
mod engine;
mod errors;
mod frame;
mod interop;
mod later;
mod logs;
mod media;
mod moqt;
mod number;
mod phone;
mod post;
mod relay;
mod row;
mod taker;
mod token;

use pyo3::prelude::*;

/// What one thread takes another often gives back, frame by frame: see `docs/decisions/0006-allocator-of-the-wheel.md`.
#[cfg(all(feature = "allocator", not(feature = "counted")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native half of `clutchcall`; use the public modules instead.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::bench::bench_rings;
    #[pymodule_export]
    use super::bridge::{Bridge, BridgeStats};
    #[pymodule_export]
    use super::client::{Attaching, Client, Placing, Watch};
    #[cfg(feature = "counted")]
    #[pymodule_export]
    use super::counts::counts;
    #[pymodule_export]
    use super::delivery::{after_fork, claim, shutdown};
    #[pymodule_export]
    use super::engine::{Engine, example_config};
    #[pymodule_export]
    use super::errors::{error_classes, raise_sample};
    #[pymodule_export]
    use super::frame::{Agent, Dtmf, Frame};
    #[pymodule_export]
    use super::interop::{InteropReport, drafts, interop, interop_cases, shown_url};
    #[pymodule_export]
    use super::later::Begun;
    #[pymodule_export]
    use super::logs::log_sample;
    #[pymodule_export]
    use super::media::{OpusDecoder, OpusEncoder, decode_alaw, decode_ulaw, encode_alaw, encode_ulaw, opus_version};
    #[pymodule_export]
    use super::moqt::{AudioPublication, AudioSubscription, MoqtClient};
    #[pymodule_export]
    use super::phone::Phone;
    #[pymodule_export]
    use super::post::Post;
    #[pymodule_export]
    use super::relay::{Relay, certificate_days, create_key, list_keys, mint_key, public_key, revoke_key};
    #[pymodule_export]
    use super::row::{CallLeg, CallStats, CallTransfer, Row};
    #[pymodule_export]
    use super::taker::Taker;
    #[pymodule_export]
    use super::token::{check_token, mint_token, read_token};

    /// The version of the wheel.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
