//! Allocations and packets of this process, for `benches/python`. Only in builds with the cargo feature `counted`.

use pyo3::prelude::*;

use crate::net::tally;

#[path = "../../benches/support/alloc.rs"]
#[allow(dead_code)] // The other benches use the rest of it.
mod alloc;

#[global_allocator]
static ALLOCATOR: alloc::Counting<mimalloc::MiMalloc> = alloc::Counting(mimalloc::MiMalloc);

/// Name and value of each figure since the process began.
#[pyfunction]
#[pyo3(name = "_counts")]
pub(super) fn counts() -> Vec<(&'static str, u64)> {
    let mut figures = tally::so_far();
    figures.push(("allocations", alloc::so_far().calls));
    figures
}
