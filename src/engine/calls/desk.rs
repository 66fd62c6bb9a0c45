//! [`Desk`]: what the API asks. Calls in memory are the board's to answer, older ones the store's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::board::over;
use super::{Answer, Attach, Originate, Page, Refused, Request, Seen, TrunkState, Watch, Why};
use crate::call::wire::TokenAnswer;
use crate::call::{CallRecord, CallRow, Command, Reject, Settled, Status};
use crate::engine::store::{Pending, Query, Recalled, Remembered, Store, StoreError};
use crate::engine::trunk::{Keys, Probe};

/// How long the disk may take before a request is told so.
const STORE_LIMIT: Duration = Duration::from_secs(10);

/// The way to the board. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    requests: mpsc::Sender<Request>,
    store: Arc<dyn Store>,
    /// Keyed requests that are being carried out: the same key again waits for the first.
    running: Arc<Mutex<HashMap<Name, Lock>>>,
}

/// Organisation and key.
type Name = (String, String);
type Lock = Arc<tokio::sync::Mutex<()>>;

/// The right to carry out a keyed request; gone with the last one who has or wants it.
struct Turn {
    desk: Desk,
    name: Name,
    lock: Option<Lock>,
}

impl Desk {
    pub(super) fn new(requests: mpsc::Sender<Request>, store: Arc<dyn Store>) -> Self {
        Self { requests, store, running: Arc::default() }
    }

    /// One whose board says nothing for as long as what comes with it lives.
    #[cfg(test)]
    pub(in crate::engine) fn before_a_silent_board(store: Arc<dyn Store>) -> (Self, impl Sized) {
        let (requests, kept) = mpsc::channel(4);
        (Self::new(requests, store), kept)
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Dials, or, for a key that was used before, says what became of that call.
    pub async fn originate(&self, asked: Originate) -> Result<CallRow, Refused> {
        let Some(remembered) = asked.remembered.clone() else { return self.dial(asked).await };
        let turn = Turn::new(self, &remembered);
        let lock = Arc::clone(turn.lock.as_ref().expect("it is taken out by drop alone"));
        let _mine = lock.lock().await;
        match self.recall(&remembered.org, &remembered.key).await? {
            None => self.dial(asked).await,
            Some(recalled) => self.repeat(&remembered, recalled).await,
        }
    }

    /// The board first: it has the keys of what lives whatever became of the file.
    async fn recall(&self, org: &str, key: &str) -> Result<Option<Recalled>, Refused> {
        let (owned_org, owned_key) = (org.to_owned(), key.to_owned());
        match self.ask(|answer| Request::Recall { org: owned_org, key: owned_key, answer }).await? {
            None => wait(self.store.recall(org, key)).await,
            here => Ok(here),
        }
    }

    async fn dial(&self, asked: Originate) -> Result<CallRow, Refused> {
        self.ask(|answer| Request::Originate(Box::new(asked), answer)).await
    }

    async fn repeat(&self, remembered: &Remembered, recalled: Recalled) -> Result<CallRow, Refused> {
        if recalled.hash != remembered.hash {
            let message = "Idempotency-Key was used for another request within 24 hours: use a new key";
            return Err(Refused::new(Why::Conflict, message));
        }
        self.call(&remembered.org, &recalled.sid).await
    }

    pub async fn call(&self, org: &str, sid: &str) -> Result<CallRow, Refused> {
        let asked = self.ask(|answer| Request::Get { org: org.to_owned(), sid: sid.to_owned(), answer }).await;
        match asked {
            Err(Refused { why: Why::NotFound, .. }) => Ok(self.stored(org, sid).await?.row()),
            answer => answer,
        }
    }

    pub async fn transfer(&self, org: &str, sid: &str, to: String) -> Result<Settled, Refused> {
        let (owned_org, owned_sid) = (org.to_owned(), sid.to_owned());
        let asked = self.ask(|answer| Request::Transfer { org: owned_org, sid: owned_sid, to, answer }).await;
        match self.or_over(asked, org, sid).await? {
            Settled::Over => Err(self.ended(org, sid).await?),
            outcome => Ok(outcome),
        }
    }

    pub async fn attach_agent(&self, org: &str, sid: &str, agent: String) -> Result<(), Refused> {
        let (owned_org, owned_sid) = (org.to_owned(), sid.to_owned());
        let asked = self.ask(|answer| Request::Agent { org: owned_org, sid: owned_sid, agent, answer }).await;
        self.or_over(asked, org, sid).await
    }

    pub async fn press(&self, org: &str, sid: &str, keys: Keys) -> Result<(), Refused> {
        let (owned_org, owned_sid) = (org.to_owned(), sid.to_owned());
        let asked = self.ask(|answer| Request::Press { org: owned_org, sid: owned_sid, keys, answer }).await;
        self.or_over(asked, org, sid).await
    }

    /// Also of a call that has ended.
    pub async fn hangup(&self, org: &str, sid: &str) -> Result<(), Refused> {
        let asked = self.ask(|answer| Request::Hangup { org: org.to_owned(), sid: sid.to_owned(), answer }).await;
        match asked {
            Err(Refused { why: Why::NotFound, .. }) => self.stored(org, sid).await.map(drop),
            answer => answer,
        }
    }

    /// A call that came in is answered; `agent` speaks on it from then on.
    pub async fn answer(&self, org: &str, sid: &str, agent: Option<String>) -> Result<(), Refused> {
        let (owned_org, owned_sid) = (org.to_owned(), sid.to_owned());
        let asked = self.ask(|answer| Request::Answer { org: owned_org, sid: owned_sid, agent, answer }).await;
        self.or_over(asked, org, sid).await
    }

    /// A call that came in is refused.
    pub async fn reject(&self, org: &str, sid: &str, reject: Reject) -> Result<(), Refused> {
        self.decide(org, sid, Command::Reject(reject)).await
    }

    async fn decide(&self, org: &str, sid: &str, command: Command) -> Result<(), Refused> {
        let (owned_org, owned_sid) = (org.to_owned(), sid.to_owned());
        let asked = self.ask(|answer| Request::Decide { org: owned_org, sid: owned_sid, command, answer }).await;
        self.or_over(asked, org, sid).await
    }

    /// Ends the call that an originate with this key has placed, or keeps it from being placed.
    pub async fn take_back(&self, org: &str, key: &str) -> Result<(), Refused> {
        let (owned_org, owned_key) = (org.to_owned(), key.to_owned());
        if self.ask(|answer| Request::TakeBack { org: owned_org, key: owned_key, answer }).await? {
            return Ok(());
        }
        match wait(self.store.recall(org, key)).await? {
            Some(recalled) => match self.hangup(org, &recalled.sid).await {
                // It ended so long ago that it is forgotten.
                Err(refused) if refused.why == Why::NotFound => Ok(()),
                outcome => outcome,
            },
            None => Ok(()),
        }
    }

    pub async fn attach(&self, asked: Attach) -> Result<TokenAnswer, Refused> {
        let (org, sid) = (asked.org.clone(), asked.sid.clone());
        let answer = self.ask(|answer| Request::Attach(Box::new(asked), answer)).await;
        self.or_over(answer, &org, &sid).await
    }

    /// Also of a call that has ended.
    pub async fn release(&self, asked: Attach) -> Result<(), Refused> {
        let (org, sid) = (asked.org.clone(), asked.sid.clone());
        match self.ask(|answer| Request::Release(Box::new(asked), answer)).await {
            Err(Refused { why: Why::NotFound, .. }) => self.stored(&org, &sid).await.map(drop),
            answer => answer,
        }
    }

    /// Newest first. What is in memory is newer than what is on the disk, and is listed once watchers are told of it: a call that rings
    /// can be answered.
    pub async fn list(&self, query: Query) -> Result<Page, Refused> {
        let (limit, status) = (query.limit, query.status);
        let mut listed = wait(self.store.list(Query { limit: limit + 1, ..query })).await?;
        let has_more = listed.len() > limit;
        listed.truncate(limit);
        let next = listed.last().filter(|_| has_more).map(|last| last.place.clone());
        let sids = listed.iter().map(|row| row.place.sid.clone()).collect();
        let mut fresh = self.ask(|answer| Request::Fresh { sids, answer }).await?;
        let rows =
            listed.iter().filter_map(|row| fresh.remove(&row.place.sid).unwrap_or_else(|| Some(row.record.row())));
        let wanted = |row: &CallRow| status.is_none_or(|status: Status| row.status == status);
        Ok(Page { calls: rows.filter(wanted).collect(), next })
    }

    /// Follows the calls of an organisation, or one of them; whoever comes back says what was seen.
    pub async fn watch(&self, org: &str, sid: Option<&str>, seen: Option<Seen>) -> Result<Watch, Refused> {
        let ask = |sid: Option<&str>| {
            let (org, sid, seen) = (org.to_owned(), sid.map(str::to_owned), seen.clone());
            self.ask(|answer| Request::Watch { org, sid, seen, answer })
        };
        match (ask(sid).await, sid) {
            (Err(Refused { why: Why::NotFound, .. }), Some(sid)) => {
                let row = self.stored(org, sid).await?.row();
                Ok(ask(None).await?.of_stored(row, org))
            }
            (answer, _) => answer,
        }
    }

    pub async fn trunks(&self) -> Result<Vec<TrunkState>, Refused> {
        self.ask(|answer| Request::Trunks { answer }).await
    }

    /// Asks the far side of a trunk whether it is there; `None`: it has none.
    pub async fn probe(&self, org: &str, trunk_id: &str) -> Result<Option<Probe>, Refused> {
        let (org, trunk_id) = (org.to_owned(), trunk_id.to_owned());
        self.ask(|answer| Request::Probe { org, trunk_id, answer }).await
    }

    /// Every call ends, and no new one begins.
    pub async fn shutdown(&self) {
        drop(self.ask(|answer| Request::Shutdown { answer }).await);
    }

    /// An absent sid may be a call that has ended long ago: that is a conflict, and says why it ended. What was refused for
    /// another unknown name stays as it is.
    async fn or_over<T>(&self, asked: Result<T, Refused>, org: &str, sid: &str) -> Result<T, Refused> {
        match asked {
            Err(refused) if refused == Refused::unknown_sid(sid) => Err(self.ended(org, sid).await?),
            answer => answer,
        }
    }

    async fn ended(&self, org: &str, sid: &str) -> Result<Refused, Refused> {
        Ok(over(self.call(org, sid).await?))
    }

    async fn stored(&self, org: &str, sid: &str) -> Result<CallRecord, Refused> {
        let found = wait(self.store.get(sid)).await?;
        found.filter(|record| record.org_id == org).ok_or_else(|| Refused::unknown_sid(sid))
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, Refused> {
        let (answer, pending) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| Refused::shutting_down())?;
        pending.await.unwrap_or_else(|_| Err(Refused::shutting_down()))
    }
}

async fn wait<T>(pending: Pending<T>) -> Result<T, Refused> {
    let answer = tokio::time::timeout(STORE_LIMIT, pending).await;
    let slow = || StoreError::Failing(format!("no answer within {} s", STORE_LIMIT.as_secs()));
    let answer = answer.map_or_else(|_| Err(slow()), |answer| answer.unwrap_or(Err(StoreError::Closed)));
    answer.map_err(|error| Refused::new(Why::Unavailable, error.to_string()))
}

impl Turn {
    fn new(desk: &Desk, remembered: &Remembered) -> Self {
        let name = (remembered.org.clone(), remembered.key.clone());
        let mut running = desk.running.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = Arc::clone(running.entry(name.clone()).or_default());
        Self { desk: desk.clone(), name, lock: Some(lock) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.desk.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock = None;
        if running.get(&self.name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            running.remove(&self.name);
        }
    }
}
