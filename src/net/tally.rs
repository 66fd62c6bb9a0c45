//! What all workers of this process did together, for `benches/python`. Only in builds with the cargo feature `counted`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Counters;

/// How a figure is called, where it is added up, and where a worker has it.
type Figure = (&'static str, AtomicU64, fn(&Counters) -> u64);

static FIGURES: [Figure; 7] = [
    ("turns", AtomicU64::new(0), |counters| counters.turns),
    ("wakes", AtomicU64::new(0), |counters| counters.wakes),
    ("recv_calls", AtomicU64::new(0), |counters| counters.recv_calls),
    ("send_calls", AtomicU64::new(0), |counters| counters.send_calls),
    ("packets_in", AtomicU64::new(0), |counters| counters.packets_in),
    ("packets_out", AtomicU64::new(0), |counters| counters.packets_out),
    ("timeouts", AtomicU64::new(0), |counters| counters.timeouts),
];

/// A worker's figures, which were `before` when it last came.
pub(super) fn add(before: &mut Counters, now: Counters) {
    for (_, sum, of) in &FIGURES {
        sum.fetch_add(of(&now) - of(before), Relaxed);
    }
    *before = now;
}

/// Name and value of each.
pub fn so_far() -> Vec<(&'static str, u64)> {
    FIGURES.iter().map(|(name, sum, _)| (*name, sum.load(Relaxed))).collect()
}
