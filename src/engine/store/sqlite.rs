//! The file: schema, statements, bounds. Everything here runs on the store's thread.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, params};

use super::queue::Question;
use super::{KEY_MEMORY_MS, Query, Recalled, Remembered};
use crate::call::CallRecord;

/// How much the file may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub records: u64,
    pub days: u64,
    /// Pages of 4 KiB.
    pub pages: u64,
}

impl Bounds {
    /// `megabytes` of file.
    pub fn new(records: u64, days: u64, megabytes: u64) -> Self {
        Self { records, days, pages: megabytes.saturating_mul(256).max(16) }
    }
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS calls (
    sid TEXT PRIMARY KEY, org TEXT NOT NULL, started_ms INTEGER NOT NULL, status TEXT NOT NULL, ended INTEGER NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_of_org ON calls (org, started_ms, sid);
CREATE INDEX IF NOT EXISTS calls_by_age ON calls (ended, started_ms);
CREATE TABLE IF NOT EXISTS requests (
    org TEXT NOT NULL, key TEXT NOT NULL, hash BLOB NOT NULL, sid TEXT NOT NULL, asked_ms INTEGER NOT NULL,
    PRIMARY KEY (org, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_by_age ON requests (asked_ms);
";
/// Layout of the file; an older engine refuses a newer file.
const VERSION: i64 = 1;
/// One in so many pages takes no new call.
const KEPT_FREE: u64 = 2;
const RAISE: &str = "free space on the disk, or raise limits.store_mb";
/// New records between two looks at the bounds.
const SWEEP_EVERY: u64 = 256;

pub(super) struct File {
    db: Connection,
    bounds: Bounds,
    created: u64,
}

pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl File {
    /// Opens or makes it, and ends what an engine that died has left open.
    pub(super) fn open(path: &Path, bounds: Bounds) -> Result<Self, String> {
        let explain = |e: rusqlite::Error| explain_open(path, &e);
        // For the owner only, also in a folder that is not; the journal takes the file's mode. What fails here is explained below.
        drop(OpenOptions::new().append(true).create(true).mode(0o600).open(path));
        let db = Connection::open(path).map_err(explain)?;
        // Exclusive: no second engine, and no shared-memory file. Who holds it holds it for good: waiting is no use.
        db.busy_timeout(std::time::Duration::ZERO).map_err(explain)?;
        db.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(explain)?;
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(explain)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(explain)?;
        db.pragma_update_and_check(None, "max_page_count", bounds.pages as i64, |_| Ok(())).map_err(explain)?;
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(explain)?;
        if version > VERSION {
            return Err(format!("{} is of a newer version: start that one, or move the file away", path.display()));
        }
        db.execute_batch(SCHEMA).map_err(explain)?;
        db.pragma_update(None, "user_version", VERSION).map_err(explain)?;
        let mut file = Self { db, bounds, created: 0 };
        file.end_orphans().map_err(explain)?;
        file.sweep().map_err(explain)?;
        Ok(file)
    }

    fn end_orphans(&mut self) -> rusqlite::Result<()> {
        let now_ms = unix_ms();
        let transaction = self.db.transaction()?;
        let orphans: Vec<CallRecord> = {
            let mut open = transaction.prepare("SELECT record FROM calls WHERE ended = 0")?;
            open.query_map([], record)?.collect::<Result<_, _>>()?
        };
        for mut orphan in orphans {
            orphan.orphan(now_ms);
            update(&transaction, &orphan)?;
        }
        transaction.commit()
    }

    /// One commit for all of it. A full file forgets its oldest ended calls once and tries again.
    pub(super) fn commit(&mut self, changes: &[CallRecord], questions: &[Question]) -> Result<(), String> {
        let creates = questions.iter().any(|question| matches!(question, Question::Create { .. }));
        while creates && !self.has_room() && self.make_room().unwrap_or(0) > 0 {}
        if creates && !self.has_room() {
            // What lives still gets its place; only what is new is refused.
            self.write(changes, &[]).map_err(|e| explain_write(&e))?;
            return Err(format!("the file is full of live calls; {RAISE}"));
        }
        let mut outcome = self.write(changes, questions);
        if is_full(&outcome) && self.make_room().unwrap_or(0) > 0 {
            outcome = self.write(changes, questions);
        }
        outcome.map_err(|e| explain_write(&e))?;
        // What was asked for is durable; forgetting may fail and is tried again with the next commit.
        if self.created >= SWEEP_EVERY && self.sweep().is_ok() {
            self.created = 0;
        }
        Ok(())
    }

    fn write(&mut self, changes: &[CallRecord], questions: &[Question]) -> rusqlite::Result<()> {
        let transaction = self.db.transaction()?;
        let mut created = 0;
        for question in questions {
            if let Question::Create { record, remembered, .. } = question {
                create(&transaction, record, remembered.as_ref())?;
                created += 1;
            }
        }
        for change in changes {
            update(&transaction, change)?;
        }
        // Even with nothing to say something is written: a failing disk is found well again this way.
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
        self.created += created;
        Ok(())
    }

    /// Records grow until their call ends: a part of the file is kept for what the live ones become.
    fn has_room(&self) -> bool {
        let pages = |pragma: &str| self.db.query_row(pragma, [], |row| row.get::<_, i64>(0).map(i64::cast_unsigned));
        let (Ok(all), Ok(free)) = (pages("PRAGMA page_count"), pages("PRAGMA freelist_count")) else { return true };
        all.saturating_sub(free) * KEPT_FREE < self.bounds.pages * (KEPT_FREE - 1)
    }

    /// Forgets the oldest tenth of the ended calls.
    fn make_room(&mut self) -> rusqlite::Result<usize> {
        let forgotten = self.db.execute(
            "DELETE FROM calls WHERE sid IN (SELECT sid FROM calls WHERE ended = 1 ORDER BY started_ms
             LIMIT (SELECT 1 + COUNT(*) / 10 FROM calls WHERE ended = 1))",
            [],
        )?;
        let too_old = unix_ms().saturating_sub(KEY_MEMORY_MS) as i64;
        Ok(forgotten + self.db.execute("DELETE FROM requests WHERE asked_ms < ?1", [too_old])?)
    }

    /// Keeps the bounds of number and age. Calls that live are never forgotten.
    fn sweep(&mut self) -> rusqlite::Result<()> {
        let now_ms = unix_ms();
        let oldest = now_ms.saturating_sub(self.bounds.days.saturating_mul(86_400_000)) as i64;
        let transaction = self.db.transaction()?;
        transaction.execute("DELETE FROM calls WHERE ended = 1 AND started_ms < ?1", [oldest])?;
        let count: i64 = transaction.query_row("SELECT COUNT(*) FROM calls WHERE ended = 1", [], |row| row.get(0))?;
        let surplus = count - self.bounds.records as i64;
        if surplus > 0 {
            transaction.execute(
                "DELETE FROM calls WHERE sid IN
                 (SELECT sid FROM calls WHERE ended = 1 ORDER BY started_ms LIMIT ?1)",
                [surplus],
            )?;
        }
        transaction
            .execute("DELETE FROM requests WHERE asked_ms < ?1", [now_ms.saturating_sub(KEY_MEMORY_MS) as i64])?;
        transaction.commit()
    }

    pub(super) fn get(&self, sid: &str) -> Result<Option<CallRecord>, String> {
        let mut by_sid =
            self.db.prepare_cached("SELECT record FROM calls WHERE sid = ?1").map_err(|e| e.to_string())?;
        by_sid.query_row([sid], record).optional().map_err(|e| e.to_string())
    }

    pub(super) fn list(&self, query: &Query) -> Result<Vec<CallRecord>, String> {
        self.select(query).map_err(|e| e.to_string())
    }

    fn select(&self, query: &Query) -> rusqlite::Result<Vec<CallRecord>> {
        let mut newest_first = self.db.prepare_cached(
            "SELECT record FROM calls WHERE org = ?1 AND (?2 IS NULL OR status = ?2)
             AND (started_ms, sid) < (?3, ?4) ORDER BY started_ms DESC, sid DESC LIMIT ?5",
        )?;
        let (before_ms, before) = match &query.after {
            Some(place) => (i64::try_from(place.started_ms).unwrap_or(i64::MAX), place.sid.as_str()),
            None => (i64::MAX, ""),
        };
        let status = query.status.map(|status| status.as_str());
        let rows = newest_first.query_map(params![query.org, status, before_ms, before, query.limit as i64], record)?;
        rows.collect()
    }

    pub(super) fn recall(&self, org: &str, key: &str) -> Result<Option<Recalled>, String> {
        let since = unix_ms().saturating_sub(KEY_MEMORY_MS) as i64;
        let sql = "SELECT sid, hash FROM requests WHERE org = ?1 AND key = ?2 AND asked_ms >= ?3";
        let read = |row: &Row<'_>| Ok(Recalled { sid: row.get(0)?, hash: row.get(1)? });
        let mut by_key = self.db.prepare_cached(sql).map_err(|e| e.to_string())?;
        by_key.query_row(params![org, key, since], read).optional().map_err(|e| e.to_string())
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<CallRecord> {
    let text: String = row.get(0)?;
    serde_json::from_str(&text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e)))
}

fn text(record: &CallRecord) -> String {
    serde_json::to_string(record).expect("a record is plain data: texts, numbers and names")
}

fn create(db: &Transaction<'_>, record: &CallRecord, remembered: Option<&Remembered>) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO calls (sid, org, started_ms, status, ended, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let (status, ended) = (record.status.as_str(), record.status.is_terminal());
    insert.execute(params![record.sid, record.org_id, record.started_ms as i64, status, ended, text(record)])?;
    if let Some(Remembered { org, key, hash }) = remembered {
        let mut remember = db.prepare_cached(
            "INSERT OR REPLACE INTO requests (org, key, hash, sid, asked_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        remember.execute(params![org, key, hash, record.sid, unix_ms() as i64])?;
    }
    Ok(())
}

/// A call's clock begins with its dialling, so its place in the list moves once; record and column agree at any time.
fn update(db: &Transaction<'_>, record: &CallRecord) -> rusqlite::Result<()> {
    let mut update =
        db.prepare_cached("UPDATE calls SET status = ?2, ended = ?3, record = ?4, started_ms = ?5 WHERE sid = ?1")?;
    let (status, ended) = (record.status.as_str(), record.status.is_terminal());
    update.execute(params![record.sid, status, ended, text(record), record.started_ms as i64])?;
    Ok(())
}

fn is_full<T>(outcome: &rusqlite::Result<T>) -> bool {
    outcome.as_ref().is_err_and(|e| e.sqlite_error_code() == Some(ErrorCode::DiskFull))
}

fn explain_write(error: &rusqlite::Error) -> String {
    let remedy = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => RAISE,
        Some(ErrorCode::ReadOnly) => "make the state folder writable",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "move the file away and start again",
        _ => "look at the disk of the state folder",
    };
    format!("{error}; {remedy}")
}

fn explain_open(path: &Path, error: &rusqlite::Error) -> String {
    let remedy = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another engine uses this state folder: stop it, or name another in `state`"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "it is damaged: move it away and start again, or restore it from a backup"
        }
        Some(ErrorCode::DiskFull) => RAISE,
        _ => "check that the state folder exists and is writable",
    };
    format!("the record store {} can't be opened ({error}): {remedy}", path.display())
}
