//! Call records, durable before an answer.
//!
//! A [`Store`] is asked from the control thread and never blocks it: every question is answered through a [`Pending`].
//! A new record ([`Store::create`]) is durable or refused, never in between. A change of a live call ([`Store::update`]) is kept
//! until it is durable: while the disk fails it waits in memory, the newest state of each call only, and is tried again.
//!
//! [`Sqlite`] is the embedded store: one file (WAL, `synchronous=FULL`), one thread, one commit for all that waits. It is
//! bounded by number, age and size: the oldest ended calls are forgotten, and counted. It owns its file alone; a second engine on
//! the same state folder is refused. Whoever reads while it runs asks the API.
//!
//! | Queue | Bound | When full |
//! |---|---|---|
//! | changes that wait for the disk | [`MAX_WAITING`] calls | the oldest ended one is dropped, counted |
//! | new records and questions | [`MAX_QUESTIONS`] | refused: busy |
//!
//! The room knows nothing of trunks, tracks and HTTP.

mod queue;
mod schema;
mod sqlite;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

pub use upkeep::Bounds;
pub use writer::Sqlite;

use crate::call::{CallRecord, Status};

/// Calls whose newest state may wait for a failing disk.
pub const MAX_WAITING: usize = 10_000;
/// New records and questions that may wait for the thread.
pub const MAX_QUESTIONS: usize = 4096;
/// How long an `Idempotency-Key` is remembered.
pub const KEY_MEMORY_MS: u64 = 24 * 3600 * 1000;

/// An answer to come.
pub type Pending<T> = tokio::sync::oneshot::Receiver<Result<T, StoreError>>;

/// Why the store can't do it now. The text names the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the record store fails: {0}")]
    Failing(String),
    #[error("the record store is busy: {MAX_QUESTIONS} requests wait for it")]
    Busy,
    #[error("the record store is closed")]
    Closed,
}

/// What a client called a request, so that saying it twice does it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    pub org: String,
    pub key: String,
    /// SHA-256 of what the request asked for.
    pub hash: [u8; 32],
}

/// What became of a request with an `Idempotency-Key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    pub sid: String,
    pub hash: [u8; 32],
}

/// Which calls [`Store::list`] shows, newest first.
#[derive(Clone, Debug)]
pub struct Query {
    pub org: String,
    pub status: Option<Status>,
    pub limit: usize,
    /// Only calls older than this one: [`Place`] of the last row seen.
    pub after: Option<Place>,
}

/// A call's place in the list, which never moves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it was asked for, Unix milliseconds; its dialling began a little later.
    pub created_ms: u64,
    pub sid: String,
}

/// One row of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub place: Place,
    pub record: CallRecord,
}

/// Ended calls that were forgotten since the start, by the bound that they were beyond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub by_age: u64,
    pub by_number: u64,
    pub by_size: u64,
}

/// How a store does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The last commit failed for this reason.
    pub failing: Option<String>,
    /// Changes in memory only.
    pub waiting: usize,
    /// Changes that were given up because too many waited.
    pub dropped: u64,
    pub commits: u64,
    /// Records in the file, the live ones included.
    pub records: u64,
    pub forgotten: Forgotten,
}

/// Keeps call records.
pub trait Store: Send + Sync {
    /// Makes a new record durable, with the key of its request where there was one. Refused: nothing is kept.
    fn create(&self, record: CallRecord, remembered: Option<Remembered>) -> Pending<()>;
    /// Keeps the newest state of a call that exists; never refused.
    fn update(&self, record: CallRecord);
    /// The newest state, also of what only waits for a failing disk.
    fn get(&self, sid: &str) -> Pending<Option<CallRecord>>;
    /// Newest first, each in its newest state, also with `status`. A call that no disk ever took is not there.
    fn list(&self, query: Query) -> Pending<Vec<Listed>>;
    /// The request that had this key within [`KEY_MEMORY_MS`].
    fn recall(&self, org: &str, key: &str) -> Pending<Option<Recalled>>;
    fn health(&self) -> Health;
    /// Answered when all that waited before is durable, or can't be made so.
    fn flush(&self) -> Pending<()>;
}
