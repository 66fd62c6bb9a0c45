//! The layout of the file, version by version: [`bring_up`] leads any file of an earlier release to the newest layout.
//!
//! A step that was released is never changed again, only followed by another; `tests/data/store` keeps a file of each released
//! version, and a test opens them all. The steps that a file lacks are one transaction: a crash in the middle, or a full disk, leaves the
//! old layout whole. An older engine refuses a newer file. Records are JSON and read fields that they lack as absent, so a new field
//! of a record needs no step.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Entry `n` makes version `n + 1`; the first begins with an empty file.
const STEPS: [&str; 2] = [FIRST, SECOND];
/// Layout of the file.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// "If not exists": the first engines wrote the version behind the tables, not with them.
const FIRST: &str = "
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

/// A call's place in the list no longer moves with the beginning of its dialling, and a list of one status does not read the others.
const SECOND: &str = "
ALTER TABLE calls RENAME COLUMN started_ms TO created_ms;
CREATE INDEX calls_of_status ON calls (org, status, created_ms, sid);
";

/// A file of a later release is an error.
pub(super) fn bring_up(db: &mut Connection, path: &Path) -> Result<(), String> {
    let explain = |e: rusqlite::Error| super::sqlite::explain_open(path, &e);
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    let have = version(&transaction).map_err(explain)?;
    if !(0..=VERSION).contains(&have) {
        return Err(format!("{} is of a newer version: start that one, or move the file away", path.display()));
    }
    for step in STEPS.iter().skip(have as usize) {
        transaction.execute_batch(step).map_err(explain)?;
    }
    transaction.pragma_update(None, "user_version", VERSION).map_err(explain)?;
    transaction.commit().map_err(explain)
}

fn version(db: &Transaction<'_>) -> rusqlite::Result<i64> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}
