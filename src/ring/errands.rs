//! What is to be done on a thread that is woken for it: things are added one by one, and whoever does them is told once for all of them.

use std::mem;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;

use super::sync::{AtomicBool, Mutex};

/// Bounded by whoever adds: at most one for each that somebody waits for.
pub struct Errands<T> {
    waiting: Mutex<Vec<T>>,
    /// He has been told, and has not looked since.
    told: AtomicBool,
}

impl<T> Default for Errands<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Vec::new()), told: AtomicBool::new(false) }
    }
}

impl<T> Errands<T> {
    pub fn add(&self, errand: T) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(errand);
    }

    /// After adding: tells him, unless he has been told and has not looked yet. `false` from `tell`: he is gone; what he would have
    /// done comes back, to be dropped where no lock is held.
    pub fn flush(&self, tell: impl FnOnce() -> bool) -> Vec<T> {
        if self.told.swap(true, SeqCst) || tell() {
            return Vec::new();
        }
        self.look()
    }

    /// What there is to do.
    pub fn look(&self) -> Vec<T> {
        // Before looking: what is added after the look must tell him again.
        self.told.store(false, SeqCst);
        mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
