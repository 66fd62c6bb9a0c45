//! The bounds of the file: by number, age and size. The oldest ended calls are forgotten, and counted; calls that live never are.
//! Runs on the store's thread, behind what was asked for or in its way when there is no room.

use super::sqlite::{File, unix_ms};
use super::{Forgotten, KEY_MEMORY_MS};

/// One in so many pages takes no new call.
const KEPT_FREE: u64 = 2;

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

impl File {
    /// Records grow until their call ends: a part of the file is kept for what the live ones become.
    pub(super) fn has_room(&self) -> bool {
        let pages = |pragma: &str| self.db.query_row(pragma, [], |row| row.get::<_, i64>(0).map(i64::cast_unsigned));
        let (Ok(all), Ok(free)) = (pages("PRAGMA page_count"), pages("PRAGMA freelist_count")) else { return true };
        all.saturating_sub(free) * KEPT_FREE < self.bounds.pages * (KEPT_FREE - 1)
    }

    /// Forgets the oldest tenth of the ended calls.
    pub(super) fn make_room(&mut self) -> rusqlite::Result<usize> {
        let forgotten = self.db.execute(
            "DELETE FROM calls WHERE sid IN (SELECT sid FROM calls WHERE ended = 1 ORDER BY created_ms
             LIMIT (SELECT 1 + COUNT(*) / 10 FROM calls WHERE ended = 1))",
            [],
        )?;
        self.forgotten.by_size += forgotten as u64;
        self.records = self.records.saturating_sub(forgotten as u64);
        let too_old = unix_ms().saturating_sub(KEY_MEMORY_MS) as i64;
        Ok(forgotten + self.db.execute("DELETE FROM requests WHERE asked_ms < ?1", [too_old])?)
    }

    /// Keeps the bounds of number and age. Calls that live are never forgotten.
    pub(super) fn sweep(&mut self) -> rusqlite::Result<()> {
        let now_ms = unix_ms();
        let oldest = now_ms.saturating_sub(self.bounds.days.saturating_mul(86_400_000)) as i64;
        let transaction = self.db.transaction()?;
        let by_age = transaction.execute("DELETE FROM calls WHERE ended = 1 AND created_ms < ?1", [oldest])?;
        let count = |sql: &str| transaction.query_row(sql, [], |row| row.get::<_, i64>(0));
        let (all, count) = (count("SELECT COUNT(*) FROM calls")?, count("SELECT COUNT(*) FROM calls WHERE ended = 1")?);
        let surplus = count - i64::try_from(self.bounds.records).unwrap_or(i64::MAX);
        let mut by_number = 0;
        if surplus > 0 {
            by_number = transaction.execute(
                "DELETE FROM calls WHERE sid IN
                 (SELECT sid FROM calls WHERE ended = 1 ORDER BY created_ms LIMIT ?1)",
                [surplus],
            )?;
        }
        transaction
            .execute("DELETE FROM requests WHERE asked_ms < ?1", [now_ms.saturating_sub(KEY_MEMORY_MS) as i64])?;
        transaction.commit()?;
        self.forgotten.by_age += by_age as u64;
        self.forgotten.by_number += by_number as u64;
        self.records = all.cast_unsigned().saturating_sub(by_number as u64);
        Ok(())
    }

    /// Records, and what was forgotten since the start.
    pub(super) fn tally(&self) -> (u64, Forgotten) {
        (self.records, self.forgotten)
    }
}
