//! The file: how it is opened, written and read, and what is made of its errors. Its bounds are kept by `upkeep`. Everything here runs on
//! the store's thread.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, params};

use super::queue::Question;
use super::schema::{VERSION, bring_up};
use super::upkeep::Bounds;
use super::{Forgotten, KEY_MEMORY_MS, Listed, Place, Query, Recalled, Remembered};
use crate::call::CallRecord;
use crate::files;

const RAISE: &str = "free space on the disk, or raise limits.store_mb";
const WRITABLE: &str = "make the state folder writable";
const MOVE_AWAY: &str =
    "move calls.db and calls.db-wal away, or put a backup in their place: the engine goes on with what it finds there";
const LOOK: &str = "look at the disk of the state folder";
/// Pages that SQLite keeps in memory, in KiB. New records and their indexes stand at the ends of their trees, so few pages serve them; whoever
/// reads old ones has the system's cache.
const CACHE_KIB: i64 = 512;
/// New records between two looks at the bounds.
const SWEEP_EVERY: u64 = 256;

pub(super) struct File {
    pub(super) db: Connection,
    path: PathBuf,
    /// Device and number of the file that is open: another one may come to stand at its path.
    inode: Option<(u64, u64)>,
    /// What of it is damaged. From then on nothing is written to it: what still could be would be lost with it.
    damage: OnceCell<String>,
    pub(super) bounds: Bounds,
    live: Live,
    /// Since the bounds were last looked at.
    created: u64,
    pub(super) records: u64,
    pub(super) forgotten: Forgotten,
}

/// The calls of this engine that live, by sid: a file that comes to stand in the place of this one does not know them, or knows them as
/// they once were.
type Live = BTreeMap<String, Living>;

/// As the file has it.
struct Living {
    record: CallRecord,
    created_ms: u64,
    remembered: Option<Remembered>,
}

pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl File {
    /// Opens or makes it, and ends what an engine that died has left open.
    pub(super) fn open(path: &Path, bounds: Bounds) -> Result<Self, String> {
        Self::open_for(&Live::new(), path, bounds)
    }

    /// The same for an engine that has calls already: these stand in the file from then on.
    fn open_for(live: &Live, path: &Path, bounds: Bounds) -> Result<Self, String> {
        let explain = |e: rusqlite::Error| explain_open(path, &e);
        files::check(path, u64::MAX).map_err(|e| {
            let path = path.display();
            format!(
                "the record store {path} can't be opened ({e}): move it away, or name another state folder in `state`"
            )
        })?;
        // For the owner only, also in a folder that is not; the journal takes the file's mode. What fails here is explained below.
        drop(OpenOptions::new().append(true).create(true).mode(0o600).open(path));
        let mut db = Connection::open(path).map_err(explain)?;
        // Exclusive: no second engine, and no shared-memory file. Who holds it holds it for good: waiting is no use.
        db.busy_timeout(std::time::Duration::ZERO).map_err(explain)?;
        db.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(explain)?;
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(explain)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(explain)?;
        db.pragma_update(None, "cache_size", -CACHE_KIB).map_err(explain)?;
        db.pragma_update_and_check(None, "max_page_count", bounds.pages as i64, |_| Ok(())).map_err(explain)?;
        bring_up(&mut db, path)?;
        let records = db.query_row("SELECT COUNT(*) FROM calls", [], |row| row.get::<_, i64>(0)).map_err(explain)?;
        let (path, records) = (path.to_owned(), records.cast_unsigned());
        let (inode, damage, forgotten) = (inode(&path), OnceCell::new(), Forgotten::default());
        let mut file = Self { db, path, inode, damage, bounds, live: Live::new(), created: 0, records, forgotten };
        file.end_orphans(live).map_err(explain)?;
        file.sweep().map_err(explain)?;
        Ok(file)
    }

    fn end_orphans(&mut self, live: &Live) -> rusqlite::Result<()> {
        let now_ms = unix_ms();
        let transaction = self.db.transaction()?;
        let orphans: Vec<CallRecord> = {
            let mut open = transaction.prepare("SELECT record FROM calls WHERE ended = 0")?;
            open.query_map([], record)?.collect::<Result<_, _>>()?
        };
        for mut orphan in orphans.into_iter().filter(|open| !live.contains_key(&open.sid)) {
            orphan.orphan(now_ms);
            update(&transaction, &orphan, orphan.started_ms)?;
        }
        for Living { record, created_ms, remembered } in live.values() {
            update(&transaction, record, *created_ms)?;
            remember(&transaction, &record.sid, remembered.as_ref(), *created_ms)?;
        }
        transaction.commit()
    }

    /// One commit for all of it. A full file forgets its oldest ended calls once and tries again.
    pub(super) fn commit(&mut self, changes: &[CallRecord], questions: &[Question]) -> Result<(), String> {
        if let Some(damage) = self.damage.get() {
            let damage = damage.clone();
            self.replace(&damage)?;
        }
        let creates = questions.iter().any(|question| matches!(question, Question::Create { .. }));
        while creates && !self.has_room() && self.make_room().unwrap_or(0) > 0 {}
        if creates && !self.has_room() {
            // What lives still gets its place; only what is new is refused.
            self.write(changes, &[]).map_err(|e| self.explain_write(&e))?;
            return Err(format!("the file is full of live calls and of the keys of 24 hours; {RAISE}"));
        }
        let mut outcome = self.write(changes, questions);
        if is_full(&outcome) && self.make_room().unwrap_or(0) > 0 {
            outcome = self.write(changes, questions);
        }
        outcome.map_err(|e| self.explain_write(&e))?;
        // What was asked for is durable; forgetting may fail and is tried again with the next commit.
        if self.created >= SWEEP_EVERY && self.sweep().is_ok() {
            self.created = 0;
        }
        Ok(())
    }

    /// A damaged file is left for what stands in its place by now: a backup, or nothing yet. Calls that live go on there, and their keys count.
    fn replace(&mut self, damage: &str) -> Result<(), String> {
        if inode(&self.path) == self.inode {
            return Err(damage.to_owned());
        }
        // The old one first: whoever holds a file in a place keeps others from it.
        self.db = Connection::open_in_memory().map_err(|e| e.to_string())?;
        let fresh = Self::open_for(&self.live, &self.path, self.bounds)?;
        tracing::warn!(path = %self.path.display(), "the damaged record store was replaced");
        *self = Self { forgotten: self.forgotten, live: std::mem::take(&mut self.live), ..fresh };
        Ok(())
    }

    /// What of the file is damaged, as far as that is known.
    pub(super) fn damage(&self) -> Option<&String> {
        self.damage.get()
    }

    fn failed(&self, error: &rusqlite::Error) -> String {
        if !is_damage(error) {
            return error.to_string();
        }
        self.damage.get_or_init(|| format!("{error}; {MOVE_AWAY}")).clone()
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
            update(&transaction, change, change.started_ms)?;
        }
        // Even with nothing to say something is written: a failing disk is found well again this way.
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
        self.created += created;
        self.records += created;
        self.follow(changes, questions);
        Ok(())
    }

    /// What was just written of the calls that live.
    fn follow(&mut self, changes: &[CallRecord], questions: &[Question]) {
        for question in questions {
            if let Question::Create { record, remembered, .. } = question
                && !record.status.is_terminal()
            {
                let (record, remembered) = (CallRecord::clone(record), remembered.clone());
                let living = Living { created_ms: record.started_ms, record, remembered };
                self.live.insert(living.record.sid.clone(), living);
            }
        }
        for change in changes {
            if change.status.is_terminal() {
                self.live.remove(&change.sid);
            } else if let Some(living) = self.live.get_mut(&change.sid) {
                living.record.clone_from(change);
            }
        }
    }

    fn explain_write(&self, error: &rusqlite::Error) -> String {
        let remedy = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => RAISE,
            Some(ErrorCode::ReadOnly) => WRITABLE,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => return self.failed(error),
            // SQLite calls every other failure of the system an I/O error: who asks once more is told which.
            _ => match OpenOptions::new().append(true).open(&self.path) {
                Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => return format!("{e}; {WRITABLE}"),
                Err(e) => return format!("{error}: {e}; {LOOK}"),
                Ok(_) => LOOK,
            },
        };
        format!("{error}; {remedy}")
    }

    pub(super) fn get(&self, sid: &str) -> Result<Option<CallRecord>, String> {
        let mut by_sid =
            self.db.prepare_cached("SELECT record FROM calls WHERE sid = ?1").map_err(|e| self.failed(&e))?;
        by_sid.query_row([sid], record).optional().map_err(|e| self.failed(&e))
    }

    pub(super) fn place(&self, sid: &str) -> Result<Option<Place>, String> {
        let find = || -> rusqlite::Result<Option<Place>> {
            let mut by_sid = self.db.prepare_cached("SELECT created_ms FROM calls WHERE sid = ?1")?;
            let created_ms: Option<i64> = by_sid.query_row([sid], |row| row.get(0)).optional()?;
            Ok(created_ms.map(|ms| Place { created_ms: ms.cast_unsigned(), sid: sid.to_owned() }))
        };
        find().map_err(|e| self.failed(&e))
    }

    pub(super) fn list(&self, query: &Query) -> Result<Vec<Listed>, String> {
        self.select(query).map_err(|e| self.failed(&e))
    }

    fn select(&self, query: &Query) -> rusqlite::Result<Vec<Listed>> {
        let (before_ms, before) = match &query.after {
            Some(place) => (i64::try_from(place.created_ms).unwrap_or(i64::MAX), place.sid.as_str()),
            None => (i64::MAX, ""),
        };
        let limit = query.limit as i64;
        // Two texts, so that each has an index that leads to its rows alone.
        match query.status {
            None => {
                let mut newest_first = self.db.prepare_cached(
                    "SELECT record, created_ms FROM calls WHERE org = ?1 AND (created_ms, sid) < (?2, ?3)
                     ORDER BY created_ms DESC, sid DESC LIMIT ?4",
                )?;
                newest_first.query_map(params![query.org, before_ms, before, limit], listed)?.collect()
            }
            Some(status) => {
                let mut newest_first = self.db.prepare_cached(
                    "SELECT record, created_ms FROM calls WHERE org = ?1 AND status = ?2 AND (created_ms, sid) < (?3, ?4)
                     ORDER BY created_ms DESC, sid DESC LIMIT ?5",
                )?;
                let asked = params![query.org, status.as_str(), before_ms, before, limit];
                newest_first.query_map(asked, listed)?.collect()
            }
        }
    }

    pub(super) fn recall(&self, org: &str, key: &str) -> Result<Option<Recalled>, String> {
        let since = unix_ms().saturating_sub(KEY_MEMORY_MS) as i64;
        let sql = "SELECT sid, hash FROM requests WHERE org = ?1 AND key = ?2 AND asked_ms >= ?3";
        let read = |row: &Row<'_>| Ok(Recalled { sid: row.get(0)?, hash: row.get(1)? });
        let mut by_key = self.db.prepare_cached(sql).map_err(|e| self.failed(&e))?;
        by_key.query_row(params![org, key, since], read).optional().map_err(|e| self.failed(&e))
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<CallRecord> {
    let text: String = row.get(0)?;
    serde_json::from_str(&text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e)))
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let record = record(row)?;
    let created_ms = row.get::<_, i64>(1)?.cast_unsigned();
    Ok(Listed { place: Place { created_ms, sid: record.sid.clone() }, record })
}

fn text(record: &CallRecord) -> String {
    serde_json::to_string(record).expect("a record is plain data: texts, numbers and names")
}

fn create(db: &Transaction<'_>, record: &CallRecord, remembered: Option<&Remembered>) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO calls (sid, org, created_ms, status, ended, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let (status, ended) = (record.status.as_str(), record.status.is_terminal());
    insert.execute(params![record.sid, record.org_id, record.started_ms as i64, status, ended, text(record)])?;
    remember(db, &record.sid, remembered, unix_ms())
}

fn remember(db: &Transaction<'_>, sid: &str, remembered: Option<&Remembered>, asked_ms: u64) -> rusqlite::Result<()> {
    let Some(Remembered { org, key, hash }) = remembered else { return Ok(()) };
    let mut remember = db.prepare_cached(
        "INSERT OR REPLACE INTO requests (org, key, hash, sid, asked_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    remember.execute(params![org, key, hash, sid, asked_ms as i64])?;
    Ok(())
}

/// Not its place in the list: who reads page after page misses nobody and sees nobody twice. In a file that has replaced another the
/// call may be new: then `created_ms` is its place.
fn update(db: &Transaction<'_>, record: &CallRecord, created_ms: u64) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached(
        "INSERT INTO calls (sid, org, created_ms, status, ended, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (sid) DO UPDATE SET status = excluded.status, ended = excluded.ended, record = excluded.record",
    )?;
    let (status, ended) = (record.status.as_str(), record.status.is_terminal());
    update.execute(params![record.sid, record.org_id, created_ms as i64, status, ended, text(record)])?;
    Ok(())
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn is_full<T>(outcome: &rusqlite::Result<T>) -> bool {
    outcome.as_ref().is_err_and(|e| e.sqlite_error_code() == Some(ErrorCode::DiskFull))
}

pub(super) fn explain_open(path: &Path, error: &rusqlite::Error) -> String {
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
