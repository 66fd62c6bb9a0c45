//! Asks for the memory of links that are worked on next.
//!
//! A link's memory has left the near caches when its turn comes, 20 ms after the last. One after the other, each first touch
//! waits for the one before; asked for ahead, the waits of several links overlap. Nothing but time depends on it.
#![allow(unsafe_code)] // A prefetch reads nothing and can't fault; the library's face of it takes a pointer.

/// Bytes that a cache moves at once.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// All of `value` itself, not what it points to.
#[inline]
pub(super) fn ask_for<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of::<T>()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint to the processor, without effect on memory, at an address inside `value`.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(value).cast::<i8>().byte_add(at)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
