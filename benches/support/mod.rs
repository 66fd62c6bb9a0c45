//! What the benches share: a counting allocator, and what the kernel says about this process.
//!
//! Taken in with `#[path = "../support/mod.rs"] mod support;`. No bench uses all of it, hence `dead_code`.
#![allow(dead_code)]

pub(crate) mod alloc;
pub(crate) mod process;
