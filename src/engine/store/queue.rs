//! What waits for the store's thread: bounded, newest state of each call only.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use super::{Forgotten, Health, Listed, MAX_QUESTIONS, MAX_WAITING, Query, Recalled, Remembered, StoreError};
use crate::call::{CallRecord, Status};

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// A question or a new record: answered once, in order.
pub(super) enum Question {
    Create { record: Box<CallRecord>, remembered: Option<Remembered>, answer: Answer<()> },
    Get { sid: String, answer: Answer<Option<CallRecord>> },
    List { query: Query, answer: Answer<Vec<Listed>> },
    Recall { org: String, key: String, answer: Answer<Option<Recalled>> },
    Flush { answer: Answer<()> },
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) questions: VecDeque<Question>,
    changes: HashMap<String, CallRecord>,
    /// The order in which calls came to wait.
    order: VecDeque<String>,
    pub(super) closed: bool,
    pub(super) failing: Option<String>,
    pub(super) commits: u64,
    pub(super) records: u64,
    pub(super) forgotten: Forgotten,
    dropped: u64,
}

impl Queue {
    pub(super) fn has_work(&self) -> bool {
        !self.questions.is_empty() || !self.changes.is_empty()
    }

    /// Refuses at once what can't be done: the answer then goes to the asker unheard by the thread.
    pub(super) fn ask(&mut self, question: Question) {
        let refusal = match &self.failing {
            _ if self.closed => Some(StoreError::Closed),
            _ if self.questions.len() >= MAX_QUESTIONS => Some(StoreError::Busy),
            Some(cause) if matches!(question, Question::Create { .. }) => Some(StoreError::Failing(cause.clone())),
            _ => None,
        };
        match refusal {
            Some(error) => question.refuse(error),
            None => self.questions.push_back(question),
        }
    }

    pub(super) fn change(&mut self, record: CallRecord) {
        if self.changes.insert(record.sid.clone(), record.clone()).is_none() {
            self.order.push_back(record.sid);
        }
        if self.changes.len() > MAX_WAITING {
            self.forget_one();
        }
    }

    /// The oldest ended call goes first: a live one will change again and must find its place.
    fn forget_one(&mut self) {
        let ended = |sid: &String| self.changes.get(sid).is_none_or(|record| record.status.is_terminal());
        let at = self.order.iter().position(ended).unwrap_or(0);
        if let Some(sid) = self.order.remove(at) {
            self.changes.remove(&sid);
            self.dropped += 1;
        }
    }

    /// The state of a call that the disk does not have yet.
    pub(super) fn newest(&self, sid: &str) -> Option<&CallRecord> {
        self.changes.get(sid)
    }

    /// The calls of an organisation that have this status and only wait.
    pub(super) fn waiting(&self, org: &str, status: Status) -> Vec<CallRecord> {
        self.changes.values().filter(|record| record.status == status && record.org_id == org).cloned().collect()
    }

    /// All changes, oldest first.
    pub(super) fn take_changes(&mut self) -> Vec<CallRecord> {
        let changes = &mut self.changes;
        self.order.drain(..).filter_map(|sid| changes.remove(&sid)).collect()
    }

    /// What could not be written waits again, in front, unless a newer state of the call has come.
    pub(super) fn put_back(&mut self, records: Vec<CallRecord>) {
        for record in records.into_iter().rev() {
            if !self.changes.contains_key(&record.sid) {
                self.order.push_front(record.sid.clone());
                self.changes.insert(record.sid.clone(), record);
            }
        }
        while self.changes.len() > MAX_WAITING {
            self.forget_one();
        }
    }

    pub(super) fn health(&self) -> Health {
        Health {
            failing: self.failing.clone(),
            waiting: self.changes.len(),
            dropped: self.dropped,
            commits: self.commits,
            records: self.records,
            forgotten: self.forgotten,
        }
    }
}

impl Question {
    /// An asker who has gone needs no answer.
    pub(super) fn refuse(self, error: StoreError) {
        match self {
            Self::Create { answer, .. } | Self::Flush { answer } => drop(answer.send(Err(error))),
            Self::Get { answer, .. } => drop(answer.send(Err(error))),
            Self::List { answer, .. } => drop(answer.send(Err(error))),
            Self::Recall { answer, .. } => drop(answer.send(Err(error))),
        }
    }
}
