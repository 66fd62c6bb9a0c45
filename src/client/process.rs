//! Which process this is: threads stay in the parent of a fork, and whatever speaks to them must know.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// How often this process was forked off, counted in the child.
static FORKS: AtomicU32 = AtomicU32::new(0);

pub(super) fn forks() -> u32 {
    FORKS.load(SeqCst)
}

/// Called in the child of a fork, before anything else of ours.
pub fn after_fork() {
    FORKS.fetch_add(1, SeqCst);
}
