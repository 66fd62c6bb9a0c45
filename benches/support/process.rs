//! What the kernel says about this process: CPU time, sleeps, the clock all processes share, and the core it is bound to.
#![allow(unsafe_code)] // A few libc calls that std has no words for, each with memory of our own.

use std::io;
use std::mem::{size_of, zeroed};

/// CPU time and context switches of all threads of this process so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    /// The process went to sleep and was woken (voluntary context switches).
    pub(crate) sleeps: u64,
}

pub(crate) fn usage() -> Usage {
    // SAFETY: `rusage` is plain integers, so all zeroes is a value; the call only writes into it.
    let usage = unsafe {
        let mut usage: libc::rusage = zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let us = |time: libc::timeval| (time.tv_sec * 1_000_000 + time.tv_usec) as u64;
    Usage { user_us: us(usage.ru_utime), system_us: us(usage.ru_stime), sleeps: usage.ru_nvcsw as u64 }
}

/// The monotonic clock in nanoseconds; the same in every process of a machine.
pub(crate) fn monotonic_ns() -> u64 {
    // SAFETY: as above, a plain struct that the call fills.
    let now = unsafe {
        let mut now: libc::timespec = zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
        now
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Binds this process to one core, before it starts any thread.
#[cfg(target_os = "linux")]
pub(crate) fn pin(core: usize) -> io::Result<()> {
    // SAFETY: the set is ours and its size is passed with it; `CPU_SET` checks the bounds.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_core: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Before others where the system allows it (root): a busy machine then moves the figures less. Ends this process with a
/// signal after `secs`, so that nothing hangs.
pub(crate) fn prefer_and_limit(secs: u32) {
    // SAFETY: two calls that take integers and touch no memory. A refusal changes nothing, so it is not looked at.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS as _, 0, -20);
        libc::alarm(secs);
    }
}
