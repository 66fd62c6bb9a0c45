//! The room `ring` once more, over loom's atomics and locks: `make loom` runs each model in every order that its threads can meet in.
//!
//! The sources are those of the product (`src/ring`), not a copy. What stands in for something is [`queues`]: crossbeam's queues are
//! taken for what they promise, one order of pushes and pops that every thread agrees on (their indices are sequentially
//! consistent), and not looked into. Loom takes `SeqCst` on an atomic for acquire and release, which is less than the product has.
//! A thread that would wait for ever fails a model: limits of waiting time don't run out here.

#[cfg(loom)]
mod queues;
#[cfg(loom)]
#[path = "../../../src/ring/mod.rs"]
pub mod ring;

#[cfg(all(test, loom))]
mod desks;
#[cfg(all(test, loom))]
mod inboxes;
