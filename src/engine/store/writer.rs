//! [`Sqlite`]: the store's thread, which commits all that waits at once.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::queue::{Answer, Question, Queue};
use super::sqlite::File;
use super::upkeep::Bounds;
use super::{Health, Listed, Pending, Place, Query, Recalled, Remembered, Store, StoreError};
use crate::call::CallRecord;

/// A failing disk is tried again after this long.
const RETRY: Duration = Duration::from_millis(500);
/// Without new calls the bounds of age are looked at this often.
const SWEEP: Duration = Duration::from_secs(600);

/// The embedded store. Dropping it writes what waits and ends the thread.
pub struct Sqlite {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Sqlite {
    /// Opens the file and ends the calls that an engine which died has left open. Blocks until that is durable.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Self, String> {
        Self::swept(path, bounds, SWEEP)
    }

    pub(super) fn swept(path: &Path, bounds: Bounds, every: Duration) -> Result<Self, String> {
        let file = File::open(path, bounds)?;
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new() });
        let writer = Writer { file, shared: Arc::clone(&shared), swept: Instant::now(), every };
        writer.tell();
        let thread = std::thread::Builder::new().name("clutchcall-store".to_owned()).spawn(|| writer.run());
        let thread = thread.map_err(|e| format!("the store's thread can't start: {e}"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Pending<T> {
        let (answer, pending) = oneshot::channel();
        self.shared.lock().ask(question(answer));
        self.shared.wake.notify_one();
        pending
    }
}

impl Store for Sqlite {
    fn create(&self, record: CallRecord, remembered: Option<Remembered>) -> Pending<()> {
        self.ask(|answer| Question::Create { record: Box::new(record), remembered, answer })
    }

    fn update(&self, record: CallRecord) {
        self.shared.lock().change(record);
        self.shared.wake.notify_one();
    }

    fn get(&self, sid: &str) -> Pending<Option<CallRecord>> {
        self.ask(|answer| Question::Get { sid: sid.to_owned(), answer })
    }

    fn list(&self, query: Query) -> Pending<Vec<Listed>> {
        self.ask(|answer| Question::List { query, answer })
    }

    fn recall(&self, org: &str, key: &str) -> Pending<Option<Recalled>> {
        self.ask(|answer| Question::Recall { org: org.to_owned(), key: key.to_owned(), answer })
    }

    fn health(&self) -> Health {
        self.shared.lock().health()
    }

    fn flush(&self) -> Pending<()> {
        self.ask(|answer| Question::Flush { answer })
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    /// The queue is whole between any two statements, so a panic elsewhere leaves it usable.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

struct Writer {
    file: File,
    shared: Arc<Shared>,
    swept: Instant,
    every: Duration,
}

impl Writer {
    fn run(mut self) {
        while let Some((changes, questions)) = self.wait() {
            self.turn(changes, questions);
            self.sweep();
            let queue = self.shared.lock();
            if queue.failing.is_some() && queue.closed {
                break;
            }
        }
        let mut queue = self.shared.lock();
        queue.closed = true;
        for question in std::mem::take(&mut queue.questions) {
            question.refuse(StoreError::Closed);
        }
    }

    /// Looks at the bounds when nobody has for long. A disk that fails is tried again by the next turn.
    fn sweep(&mut self) {
        if self.swept.elapsed() < self.every {
            return;
        }
        self.swept = Instant::now();
        if let Err(error) = self.file.sweep() {
            tracing::warn!(%error, "old records can't be forgotten now");
        }
        self.tell();
    }

    /// What `health` shows of the file.
    fn tell(&self) {
        let (records, forgotten) = self.file.tally();
        let mut queue = self.shared.lock();
        queue.records = records;
        queue.forgotten = forgotten;
    }

    /// The next turn's work; while the disk fails, at the latest after [`RETRY`], else when the bounds are to be looked at.
    /// `None`: closed, and nothing is left.
    fn wait(&self) -> Option<(Vec<CallRecord>, Vec<Question>)> {
        let (retry_at, sweep_at) = (Instant::now() + RETRY, self.swept + self.every);
        let mut queue = self.shared.lock();
        loop {
            // Changes don't hurry a failing disk; only the clock and questions do.
            let failing = queue.failing.is_some();
            let due = if failing { !queue.questions.is_empty() } else { queue.has_work() };
            if due || queue.closed {
                break;
            }
            let until = if failing { retry_at } else { sweep_at };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.shared.wake.wait_timeout(queue, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        if queue.closed && !queue.has_work() {
            return None;
        }
        let questions = std::mem::take(&mut queue.questions);
        Some((queue.take_changes(), questions.into()))
    }

    /// Writes, then reads: an answer sees everything that was asked before it.
    fn turn(&mut self, changes: Vec<CallRecord>, questions: Vec<Question>) {
        let writes =
            questions.iter().any(|question| matches!(question, Question::Create { .. } | Question::Flush { .. }));
        let failing = self.shared.lock().failing.is_some();
        let outcome =
            if failing || writes || !changes.is_empty() { self.file.commit(&changes, &questions) } else { Ok(()) };
        {
            let mut queue = self.shared.lock();
            match &outcome {
                Ok(()) => queue.commits += 1,
                Err(_) => queue.put_back(changes),
            }
            queue.failing = outcome.clone().err();
        }
        self.tell();
        for question in questions {
            self.answer(question, &outcome);
        }
        // Whoever read may have found what no writer had.
        if let Some(damage) = self.file.damage() {
            self.shared.lock().failing.get_or_insert_with(|| damage.clone());
        }
    }

    /// An asker who has gone needs no answer.
    fn answer(&self, question: Question, outcome: &Result<(), String>) {
        let failing = StoreError::Failing;
        match question {
            Question::Create { answer, .. } | Question::Flush { answer } => {
                drop(answer.send(outcome.clone().map_err(failing)));
            }
            Question::Get { sid, answer } => drop(answer.send(self.get(&sid).map_err(failing))),
            Question::List { query, answer } => drop(answer.send(self.list(&query).map_err(failing))),
            Question::Recall { org, key, answer } => {
                drop(answer.send(self.file.recall(&org, &key).map_err(failing)));
            }
        }
    }

    /// What waits is newer than what the disk has, and is there when the disk can't be read.
    fn get(&self, sid: &str) -> Result<Option<CallRecord>, String> {
        let waiting = self.shared.lock().newest(sid).cloned();
        if waiting.is_some() { Ok(waiting) } else { self.file.get(sid) }
    }

    /// Rows in their newest state, wherever that is. A row that the disk has in another status than it has by now is found by the new one
    /// alone, at its own place.
    fn list(&self, query: &Query) -> Result<Vec<Listed>, String> {
        let mut rows = self.moved(query)?;
        let moved: HashSet<String> = rows.iter().map(|row| row.place.sid.clone()).collect();
        let (mut found, mut after) = (0, query.after.clone());
        loop {
            let page = self.file.list(&Query { after, ..query.clone() })?;
            let is_last = page.len() < query.limit;
            after = page.last().map(|row| row.place.clone());
            let page = page.into_iter().filter(|row| !moved.contains(&row.place.sid)).map(|row| self.freshened(row));
            let before = rows.len();
            rows.extend(page.filter(|row| query.status.is_none_or(|status| row.record.status == status)));
            found += rows.len() - before;
            if is_last || found >= query.limit {
                break;
            }
        }
        rows.sort_unstable_by(|one, other| other.place.cmp(&one.place));
        rows.truncate(query.limit);
        Ok(rows)
    }

    /// Calls whose newest state only waits, and has the status that is asked for.
    fn moved(&self, query: &Query) -> Result<Vec<Listed>, String> {
        let Some(status) = query.status else { return Ok(Vec::new()) };
        let waiting = self.shared.lock().waiting(&query.org, status);
        let mut rows = Vec::new();
        for record in waiting {
            let place = self.file.place(&record.sid)?;
            let is_asked = |place: &Place| query.after.as_ref().is_none_or(|after| place < after);
            rows.extend(place.filter(is_asked).map(|place| Listed { place, record }));
        }
        Ok(rows)
    }

    fn freshened(&self, row: Listed) -> Listed {
        let newest = self.shared.lock().newest(&row.place.sid).cloned();
        Listed { record: newest.unwrap_or(row.record), ..row }
    }
}
