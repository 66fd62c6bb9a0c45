//! What is told and not yet delivered. Telling never waits: what finds no room is dropped, and counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use url::Url;

use crate::call::CallRow;
use crate::call::stamp::iso8601;

/// Messages that may be open, of all organisations and of one: a receiver that is down takes nobody else's room.
const MOST: usize = 4096;
const MOST_OF_ORG: usize = 1024;

/// Where the changes of one call are told, and whose call it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    pub url: Url,
    pub org: String,
}

/// For `/metrics`. They only grow.
#[derive(Debug, Default)]
pub struct Counts {
    pub delivered: AtomicU64,
    /// Posts that did not succeed, and will be repeated.
    pub retried: AtomicU64,
    pub given_up: AtomicU64,
    /// Found no room.
    pub dropped: AtomicU64,
}

impl Counts {
    /// By name.
    pub fn all(&self) -> [(&'static str, u64); 4] {
        let Self { delivered, retried, given_up, dropped } = self;
        [("delivered", delivered), ("retried", retried), ("given_up", given_up), ("dropped", dropped)]
            .map(|(name, count)| (name, count.load(Relaxed)))
    }
}

/// One message.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) url: Url,
    /// Of one call: messages of the same lane arrive in order.
    pub(super) lane: Arc<str>,
    pub(super) org: String,
    pub(super) body: String,
    _room: Room,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_org: HashMap<String, usize>,
}

/// A message's place in the queue, until it is dropped.
#[derive(Debug)]
struct Room {
    org: String,
    open: Arc<Mutex<Open>>,
}

fn locked(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    fn take(open: &Arc<Mutex<Open>>, org: &str) -> Option<Self> {
        let mut now = locked(open);
        let of_org = now.by_org.get(org).copied().unwrap_or_default();
        if now.all >= MOST || of_org >= MOST_OF_ORG {
            return None;
        }
        now.all += 1;
        now.by_org.insert(org.to_owned(), of_org + 1);
        Some(Self { org: org.to_owned(), open: Arc::clone(open) })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut open = locked(&self.open);
        open.all = open.all.saturating_sub(1);
        if let Some(left) = open.by_org.get_mut(&self.org) {
            *left -= 1;
            if *left == 0 {
                open.by_org.remove(&self.org);
            }
        }
    }
}

/// The way to the queue.
#[derive(Debug)]
pub struct Hooks {
    // Bounded by the places in `open`.
    notices: mpsc::UnboundedSender<Notice>,
    open: Arc<Mutex<Open>>,
    counts: Arc<Counts>,
}

impl Hooks {
    pub(super) fn new(counts: Arc<Counts>) -> (Self, mpsc::UnboundedReceiver<Notice>) {
        let (notices, receiver) = mpsc::unbounded_channel();
        (Self { notices, open: Arc::default(), counts }, receiver)
    }

    /// Some whose messages go nowhere.
    #[cfg(test)]
    pub(in crate::engine) fn of_tests() -> Self {
        Self::new(Arc::default()).0
    }

    /// The call's status is another.
    pub fn tell(&self, callback: &Callback, row: &CallRow, unix_ms: u64) {
        let Some(room) = Room::take(&self.open, &callback.org) else {
            self.counts.dropped.fetch_add(1, Relaxed);
            return tracing::warn!(sid = row.sid, "a webhook is not told: too many wait for their receivers");
        };
        let Callback { url, org } = callback.clone();
        let (body, lane) = (body(row, unix_ms), Arc::from(row.sid.as_str()));
        // The task has ended with the engine.
        let _ = self.notices.send(Notice { url, lane, org, body, _room: room });
    }
}

/// Standard Webhooks, "Payload structure".
fn body(row: &CallRow, unix_ms: u64) -> String {
    let kind = format!("call.{}", row.status.as_str());
    serde_json::json!({ "type": kind, "timestamp": iso8601(unix_ms), "data": row }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::CallRecord;

    #[test]
    fn what_finds_no_room_is_dropped_and_counted_and_others_have_theirs() {
        let counts = Arc::<Counts>::default();
        let (hooks, mut notices) = Hooks::new(Arc::clone(&counts));
        let row = CallRecord::ringing("CA1".to_owned(), 0).row();
        let of = |org: &str| Callback { url: "http://h/".parse().unwrap(), org: org.to_owned() };
        (0..MOST_OF_ORG + 7).for_each(|_| hooks.tell(&of("loud"), &row, 0));
        hooks.tell(&of("other"), &row, 0);
        assert_eq!(counts.all()[3], ("dropped", 7));
        assert_eq!(notices.len(), MOST_OF_ORG + 1);
        let first = notices.try_recv().unwrap();
        assert!(
            first.body.starts_with(r#"{"data":{"#) || first.body.contains(r#""type":"call.ringing""#),
            "{}",
            first.body
        );
        drop(first);
        hooks.tell(&of("loud"), &row, 0);
        assert_eq!(counts.all()[3], ("dropped", 7), "there is room again");
        drop(notices);
        assert_eq!(locked(&hooks.open).all, 0);
    }
}
