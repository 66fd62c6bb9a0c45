//! Memory ahead of its first touch.
//!
//! An allocator that asks for huge pages (decision 0008) gets 2 MiB at the first touch of each, and whoever touches it waits while the system
//! clears them: 0.1 ms on plain hardware, 5 ms on a virtual machine whose host looks for the memory only then. A thread that carries
//! audio should not be the one who waits. So whoever makes a call or a bridge, on a thread without audio, takes a [`Share`]: for each
//! two mebibytes of shares the system is asked to prepare one more page of the heap. Shares end with their calls; pages that were
//! prepared stay, for the next ones.
//!
//! Which pages: the first untouched one of each stretch that the allocator already works in, in turns, since allocators fill the lowest
//! gap. A wrong guess costs that page, a right one is memory that the call would have taken anyway.
//!
//! Knows no allocator: it looks where an allocation of its own lies, and does nothing where that mapping does not ask for huge pages.
//! Never called where frames pass, never waits for anybody but the system, and never fails: without help from the system the heap is as it was.

mod mapping;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, TryLockError};

use mapping::Mapping;

/// What a call takes in the engine: its tracks, their renditions, its part of the relay's tables and of what the relay keeps.
pub const CALL_BYTES: usize = 144 << 10;
/// What a relay begins with.
pub const RELAY_BYTES: usize = 4 << 20;
/// What a bridge takes in the SDK when its audio begins, beyond what it takes while it is made.
pub const BRIDGE_BYTES: usize = 12 << 10;

/// Pages that are asked for at once, so that nobody waits long for his call.
const AT_ONCE: usize = 4;

static HEAP: Reserve = Reserve::new();

/// The memory that somebody is about to need, until it is dropped. Dropping it waits for nobody, also in the child of a fork.
#[derive(Debug)]
pub struct Share {
    bytes: usize,
    of: &'static Reserve,
}

#[derive(Debug)]
struct Reserve {
    /// By the shares of now.
    wanted: AtomicUsize,
    ahead: Mutex<Ahead>,
}

#[derive(Debug)]
struct Ahead {
    /// So far; never less.
    prepared: usize,
    turn: usize,
    mapping: Found,
}

#[derive(Debug)]
enum Found {
    NotYet,
    /// The heap has no huge pages, or the system can't prepare any.
    Nothing,
    Here(Mapping),
}

impl Share {
    pub fn of(bytes: usize) -> Self {
        HEAP.share(bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.wanted.fetch_sub(self.bytes, Relaxed);
    }
}

impl Reserve {
    const fn new() -> Self {
        let ahead = Mutex::new(Ahead { prepared: 0, turn: 0, mapping: Found::NotYet });
        Self { wanted: AtomicUsize::new(0), ahead }
    }

    /// Whoever finds another at it leaves the pages to him, or to the next.
    fn share(&'static self, bytes: usize) -> Share {
        self.wanted.fetch_add(bytes, Relaxed);
        match self.ahead.try_lock() {
            Ok(mut ahead) => ahead.prepare(&self.wanted),
            Err(TryLockError::Poisoned(ahead)) => ahead.into_inner().prepare(&self.wanted),
            Err(TryLockError::WouldBlock) => {}
        }
        Share { bytes, of: self }
    }
}

impl Ahead {
    fn prepare(&mut self, wanted: &AtomicUsize) {
        for _ in 0..AT_ONCE {
            if self.prepared + mapping::PAGE > wanted.load(Relaxed) {
                return;
            }
            if matches!(self.mapping, Found::NotYet) {
                self.mapping = Mapping::of_the_heap().map_or(Found::Nothing, Found::Here);
            }
            let Found::Here(mapping) = &self.mapping else { return };
            match mapping.prepare_one(self.turn) {
                Ok(true) => self.prepared += mapping::PAGE,
                // It is full: what comes next lies elsewhere.
                Ok(false) => return self.mapping = Found::NotYet,
                Err(error) => {
                    tracing::debug!(%error, "the system prepares no memory");
                    self.mapping = Found::Nothing;
                }
            }
            self.turn += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_and_go_also_while_another_is_at_it() {
        static RESERVE: Reserve = Reserve::new();
        let wanted = || RESERVE.wanted.load(Relaxed);
        let shares = [RESERVE.share(1 << 10), RESERVE.share(CALL_BYTES)];
        assert_eq!(wanted(), (1 << 10) + CALL_BYTES);
        let busy = RESERVE.ahead.lock().expect("no test panics inside");
        let third = RESERVE.share(CALL_BYTES);
        drop(shares);
        assert_eq!(wanted(), CALL_BYTES);
        drop((third, busy));
        assert_eq!(wanted(), 0);
    }
}
