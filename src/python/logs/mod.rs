//! What the core says reaches Python's `logging`, under the names of [`records::LOGGERS`].
//!
//! Records are carried by whoever is attached anyway: the delivery thread at the end of its turns, for which it is woken, and the
//! threads that wait for an answer. No thread that carries audio or asks the engine ever attaches for them. A level that is
//! changed counts from the next question or within a second while audio flows; records of a level that is not wanted any
//! more are dropped by `logging` itself, as handlers and filters are its own.

use std::time::UNIX_EPOCH;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::delivery::Delivery;
use crate::client::Runtime;

mod records;

use records::{LOGGERS, Record};

pub(super) use records::{is_empty, reset};

/// More are left to the next turn: a handler may make the core say something.
const AT_ONCE: usize = 256;
const LEVELS: [u32; 4] = [10, 20, 30, 40];

/// Once per process, when its first `Voice`, `MoqtClient`, `Engine` or `Relay` is made.
pub(super) fn begin(py: Python<'_>) -> PyResult<()> {
    py.import("clutchcall._logs")?.call_method0("begin")?;
    records::begin();
    look(py)
}

/// For what speaks without ever being asked, as servers do: a delivery thread is there to carry it.
pub(super) fn carried(py: Python<'_>) -> PyResult<()> {
    Delivery::of(py, &Runtime::shared()).map(drop)
}

/// Which levels are wanted now.
pub(super) fn look(py: Python<'_>) -> PyResult<()> {
    let logging = py.import("logging")?;
    for (place, (_, name)) in LOGGERS.iter().enumerate() {
        let logger = logging.call_method1("getLogger", (*name,))?;
        let mut wanted = u32::MAX;
        for level in LEVELS.into_iter().rev() {
            if !logger.call_method1("isEnabledFor", (level,))?.is_truthy()? {
                break;
            }
            wanted = level;
        }
        records::want(place, wanted);
    }
    Ok(())
}

/// Carries what is there. What a handler or filter raises goes to `sys.unraisablehook`.
pub(super) fn carry(py: Python<'_>) {
    if records::is_empty() {
        return;
    }
    for _ in 0..AT_ONCE {
        let Some(record) = records::next() else { break };
        if let Err(error) = tell(py, &record) {
            error.write_unraisable(py, None);
        }
    }
    let dropped = records::dropped();
    if dropped > 0
        && let Err(error) = tell_of_dropped(py, dropped)
    {
        error.write_unraisable(py, None);
    }
    if let Err(error) = look(py) {
        error.write_unraisable(py, None);
    }
}

fn tell(py: Python<'_>, record: &Record) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", (record.logger,))?;
    if !logger.call_method1("isEnabledFor", (record.level,))?.is_truthy()? {
        return Ok(());
    }
    let extra = PyDict::new(py);
    extra.set_item("sid", record.sid.as_deref())?;
    let (file, line) = record.place;
    let no_arguments = pyo3::types::PyTuple::empty(py);
    let arguments = (record.logger, record.level, file, line, &record.text, no_arguments, py.None(), py.None(), extra);
    let made = logger.call_method1("makeRecord", arguments)?;
    let at = record.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    made.setattr("created", at.as_secs_f64())?;
    made.setattr("msecs", f64::from(at.subsec_millis()))?;
    made.setattr("threadName", &record.thread)?;
    logger.call_method1("handle", (made,)).map(drop)
}

fn tell_of_dropped(py: Python<'_>, count: u64) -> PyResult<()> {
    let text = format!("{count} records were dropped: more was said than could be handed to logging");
    let logger = py.import("logging")?.call_method1("getLogger", ("clutchcall",))?;
    logger.call_method1("warning", (text,)).map(drop)
}

/// Says something in the core, so that a test can follow it into `logging`.
#[pyfunction]
#[pyo3(name = "_log_sample")]
pub(super) fn log_sample(level: &str, text: &str, count: usize) {
    for number in 0..count {
        match level {
            "debug" => tracing::debug!(number, "{text}"),
            "info" => tracing::info!(number, "{text}"),
            "warning" => tracing::warn!(number, sid = "CA1", "{text}"),
            _ => tracing::error!(number, "{text}"),
        }
    }
}
