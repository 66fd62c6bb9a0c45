//! An allocator, counting. A bench makes it its own:
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: support::alloc::Counting = support::alloc::Counting(System);
//! ```
//!
//! `realloc` counts as one allocation. The counters are shared by all threads, so that a figure holds for the process.
#![allow(unsafe_code)] // A `GlobalAlloc` can't be written without it; every call goes to the one inside unchanged.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Counting<A = System>(pub(crate) A);

// SAFETY: the contract is that of the allocator inside; the counters touch nothing of it.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { self.0.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { self.0.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { self.0.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { self.0.dealloc(at, layout) }
    }
}

fn count(bytes: usize) {
    CALLS.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes as u64, Relaxed);
}

/// Allocations and bytes asked for since the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allocated {
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
}

pub(crate) fn so_far() -> Allocated {
    Allocated { calls: CALLS.load(Relaxed), bytes: BYTES.load(Relaxed) }
}

/// Runs `work` and returns what was allocated meanwhile, by any thread.
pub(crate) fn during(work: impl FnOnce()) -> Allocated {
    let before = so_far();
    work();
    let after = so_far();
    Allocated { calls: after.calls - before.calls, bytes: after.bytes - before.bytes }
}
