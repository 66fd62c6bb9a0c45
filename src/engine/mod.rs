//! The engine: control plane, calls, audio threads, and the trunks that carry calls.

pub mod leg;
pub mod trunk;
