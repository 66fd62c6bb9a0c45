//! The process as the SDK sees it: Python's clock, its exit, its forks.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyResourceWarning;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::super::logs;
use super::DELIVERY;
use crate::client::{Clock, process, runtime};

/// Exit waits no longer for callbacks.
const EXIT_LIMIT: Duration = Duration::from_secs(1);

/// The interpreter whose callbacks these threads call, by the address of its `sys`; 0: none yet.
static OWNER: AtomicU64 = AtomicU64::new(0);
static WATCHED: PyOnceLock<()> = PyOnceLock::new();

/// Python's own monotonic clock, read now: stamps of `time.monotonic_ns() // 1000` are on it.
pub(in crate::python) fn clock(py: Python<'_>) -> PyResult<Clock> {
    let ns: u64 = py.import("time")?.call_method0("monotonic_ns")?.extract()?;
    Ok(Clock { at: Instant::now(), us: ns / 1000 })
}

/// Once per process: be told of exit and of forks.
pub(in crate::python) fn watch_process(py: Python<'_>) -> PyResult<()> {
    WATCHED.get_or_try_init(py, || {
        // Before `atexit`, which ends what began last first: `logging` is there until we are done.
        logs::begin(py)?;
        let core = py.import("clutchcall._core")?;
        py.import("atexit")?.call_method1("register", (core.getattr("_shutdown")?,))?;
        let hooks = [("after_in_child", core.getattr("_after_fork")?)];
        let keywords = pyo3::types::IntoPyDict::into_py_dict(hooks, py)?;
        py.import("os")?.getattr("register_at_fork")?.call((), Some(&keywords)).map(drop)
    })?;
    Ok(())
}

/// Ends all threads of the SDK within a second. Registered with `atexit`.
#[pyfunction]
#[pyo3(name = "_shutdown")]
pub(in crate::python) fn shutdown(py: Python<'_>) -> PyResult<()> {
    let delivery = DELIVERY.swap(None);
    let forgotten = delivery.as_ref().map_or_else(Vec::new, |delivery| delivery.clear(py));
    py.detach(|| {
        let deadline = Instant::now() + EXIT_LIMIT;
        if let Some(delivery) = &delivery {
            delivery.stop(deadline);
        }
        runtime::shutdown(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100)));
    });
    // The last words; of those that nobody carried before too.
    logs::carry(py);
    for label in forgotten {
        let text = std::ffi::CString::new(format!("unclosed {label}: call close(), or use it in a with statement"))?;
        PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &text, 1)?;
    }
    Ok(())
}

/// The child of a fork has none of the parent's threads.
#[pyfunction]
#[pyo3(name = "_after_fork")]
pub(in crate::python) fn after_fork() {
    process::after_fork();
    // Its locks may be shut for ever, and its callbacks are the parent's.
    std::mem::forget(DELIVERY.swap(None));
    logs::reset();
}

/// `interpreter` is the address of its `sys`. `false`: another interpreter of this process has the module.
#[pyfunction]
#[pyo3(name = "_claim")]
pub(in crate::python) fn claim(interpreter: u64) -> bool {
    OWNER.compare_exchange(0, interpreter, SeqCst, SeqCst).map_or_else(|owner| owner == interpreter, |_| true)
}
