//! What the core says through `tracing`, kept until somebody attached carries it into Python's `logging`.
//!
//! Whoever speaks never attaches to the interpreter and never waits: a record is made of text and put into a queue of
//! [`CAPACITY`]; one that finds it full is dropped and counted. Only events of this crate count, down to DEBUG: what its
//! dependencies say of each packet is refused where it stands, once for all. Which levels are wanted now is told by
//! [`want`]; an event below costs that look and no more.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use crossbeam_queue::ArrayQueue;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// Records that nobody has carried yet.
const CAPACITY: usize = 256;
/// Rooms, the more exact one first, and the logger that tells of them. The last one is for all the rest.
pub(super) const LOGGERS: [(&str, &str); 7] = [
    ("clutchcall::client::http", "clutchcall.http"),
    ("clutchcall::engine::api", "clutchcall.http"),
    ("clutchcall::engine::calls::speak", "clutchcall.agent"),
    ("clutchcall::engine", "clutchcall.engine"),
    ("clutchcall::relay", "clutchcall.relay"),
    ("clutchcall::", "clutchcall.media"),
    ("clutchcall", "clutchcall"),
];

/// Swapped without a lock, and replaced in the child of a fork: a thread of the parent's may have stood in the queue.
static KEPT: ArcSwapOption<ArrayQueue<Record>> = ArcSwapOption::const_empty();
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// The least level that each logger wants, as `logging` counts levels.
static WANTED: [AtomicU32; LOGGERS.len()] = [const { AtomicU32::new(u32::MAX) }; LOGGERS.len()];

/// Something that was said.
pub(super) struct Record {
    pub(super) logger: &'static str,
    pub(super) level: u32,
    pub(super) text: String,
    /// The call it is about, where it says so.
    pub(super) sid: Option<String>,
    pub(super) place: (&'static str, u32),
    pub(super) thread: String,
    pub(super) at: SystemTime,
}

/// From now on, for the life of the process, what is said is kept. Twice is once.
pub(super) fn begin() {
    reset();
    // Nobody else in this library sets one.
    let _ = tracing::subscriber::set_global_default(Keeper);
}

/// Forgets what is kept; in the child of a fork.
pub(in crate::python) fn reset() {
    std::mem::forget(KEPT.swap(Some(Arc::new(ArrayQueue::new(CAPACITY)))));
}

/// The least level that the logger in this place of [`LOGGERS`] wants.
pub(super) fn want(place: usize, level: u32) {
    WANTED[place].store(level, Relaxed);
}

/// The oldest record.
pub(super) fn next() -> Option<Record> {
    KEPT.load().as_ref()?.pop()
}

pub(in crate::python) fn is_empty() -> bool {
    KEPT.load().as_ref().is_none_or(|kept| kept.is_empty())
}

/// Records that found no room since this was asked last.
pub(super) fn dropped() -> u64 {
    DROPPED.swap(0, Relaxed)
}

struct Keeper;

impl Subscriber for Keeper {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_ours(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata) && number(*metadata.level()) >= WANTED[place(metadata.target())].load(Relaxed)
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut text = Text::default();
        event.record(&mut text);
        let record = Record {
            logger: LOGGERS[place(metadata.target())].1,
            level: number(*metadata.level()),
            text: text.message + &text.fields,
            sid: text.sid,
            place: (metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default()),
            thread: std::thread::current().name().unwrap_or_default().to_owned(),
            at: SystemTime::now(),
        };
        if KEPT.load().as_ref().is_none_or(|kept| kept.push(record).is_err()) {
            DROPPED.fetch_add(1, Relaxed);
        }
        super::super::delivery::nudge();
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    metadata.is_event() && (target == "clutchcall" || target.starts_with("clutchcall::"))
}

fn place(target: &str) -> usize {
    LOGGERS.iter().position(|(room, _)| target.starts_with(room)).unwrap_or(LOGGERS.len() - 1)
}

/// As `logging` counts.
fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

/// The message, and ` name=value` for every field.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
    sid: Option<String>,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field.name(), format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field.name(), format_args!("{value:?}"));
    }
}

impl Text {
    fn field(&mut self, name: &str, value: fmt::Arguments<'_>) {
        let written = match name {
            "message" => self.message.write_fmt(value),
            _ => write!(self.fields, " {name}={value}"),
        };
        written.expect("a String takes what it is given");
        if name == "sid" {
            self.sid = Some(value.to_string());
        }
    }
}
