//! What the room is made of: the standard library's atomics and locks and crossbeam's queues, or loom's, where `make loom` looks at
//! every order in which threads may meet here (`crates/models`).

#[cfg(not(loom))]
pub(super) use crossbeam_queue::{ArrayQueue, SegQueue};
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(not(loom))]
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};

#[cfg(loom)]
pub(super) use crate::queues::{ArrayQueue, SegQueue};
#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(loom)]
pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
