//! Who is told of what a bridge brings beside audio: changes of its link, and keys of the far end.
//!
//! Each has a ring and a slot of its own, so that audio waits for neither. What becomes of their callbacks is counted with the
//! audio's ([`Tally`](super::super::delivery::Tally)): they are the bridge's.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use super::super::delivery::{Consumer, Purpose, Slot, Sort};
use super::super::errors::raise;
use super::Bridge;
use crate::client::Delivered;
use crate::client::bridge::RING_KEYS;
use crate::ring::RingSender;

/// Changes of a link that wait for a callback.
const RING_STATES: usize = 16;

/// Their slots are locked by threads that are detached: whoever holds one may wait for the interpreter.
#[derive(Default)]
pub(super) struct Beside {
    states: Mutex<Option<Arc<Slot>>>,
    keys: Mutex<Option<Arc<Slot>>>,
    /// Keys that were dropped for those who were told before.
    dropped_before: AtomicU64,
}

impl Beside {
    pub(super) fn keys_dropped(&self, py: Python<'_>) -> u64 {
        let now = py.detach(|| locked(&self.keys).as_ref().map_or(0, |slot| slot.dropped()));
        self.dropped_before.load(Relaxed) + now
    }

    fn take_keys(&self, py: Python<'_>) -> Option<Arc<Slot>> {
        let slot = py.detach(|| locked(&self.keys).take())?;
        self.dropped_before.fetch_add(slot.dropped(), Relaxed);
        Some(slot)
    }
}

impl Bridge {
    pub(super) fn tell_states(&self, py: Python<'_>, callback: Option<Py<PyAny>>) {
        let (slot, ring) = callback.map(|callback| self.ear(RING_STATES, callback, ("states", Sort::States))).unzip();
        // Under the lock, so that of two who come at once the one who is told is the one who is kept; detached, so that neither keeps
        // the other from it.
        let before = py.detach(|| {
            let mut kept = locked(&self.beside.states);
            ring.into_iter().for_each(|states| self.native.watch(states));
            std::mem::replace(&mut *kept, slot)
        });
        if let Some(before) = before {
            self.delivery.forget(py, &before);
        }
    }

    pub(super) fn tell_keys(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        self.check_hears(py, "no key is told")?;
        let (slot, ring) = self.ear(RING_KEYS, callback.clone_ref(py), ("keys", Sort::Frames));
        let before = py.detach(|| {
            let mut kept = locked(&self.beside.keys);
            if let Some(before) = &*kept {
                return Ok(Some(before.clone()));
            }
            self.native.hear_keys(ring)?;
            *kept = Some(slot.clone());
            Ok(None)
        });
        match before {
            Ok(None) => Ok(()),
            Ok(Some(before)) => {
                self.delivery.forget(py, &slot);
                self.delivery.swap(py, &before, Some(Consumer::Each(callback)));
                Ok(())
            }
            Err(error) => {
                self.delivery.forget(py, &slot);
                Err(raise(py, error))
            }
        }
    }

    pub(super) fn tell_no_keys(&self, py: Python<'_>) {
        if let Some(before) = self.beside.take_keys(py) {
            py.detach(|| self.native.ignore_keys(before.id()));
            self.delivery.forget(py, &before);
        }
    }

    pub(super) fn forget_keys(&self, py: Python<'_>) {
        if let Some(keys) = self.beside.take_keys(py) {
            self.delivery.forget(py, &keys);
        }
    }

    /// A ring of so many items, and whoever is called with each of them.
    fn ear(
        &self,
        capacity: usize,
        callback: Py<PyAny>,
        (what, sort): (&str, Sort),
    ) -> (Arc<Slot>, RingSender<Delivered>) {
        let (ring, receiver) = self.native.runtime().delivery().ring(capacity);
        let purpose = Purpose::new(format!("{what} of call {}", self.native.sid()), sort).counted_with(&self.slot);
        (self.delivery.register(receiver, Some(Consumer::Each(callback)), purpose), ring)
    }
}

fn locked(slot: &Mutex<Option<Arc<Slot>>>) -> MutexGuard<'_, Option<Arc<Slot>>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
