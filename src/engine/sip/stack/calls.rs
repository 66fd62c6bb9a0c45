//! The calls of a stack: whose queue hears what is said under a Call-ID. No call's state is kept here beyond what messages are told
//! apart by.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rsipstack::dialog::invite_dialog::InviteDialog;
use tokio::sync::{Semaphore, mpsc, watch};

use super::connections::Flow;
use super::prack::Aim;
use super::proofs::Challenges;
use super::{Heard, Insistence};

/// By Call-ID.
#[derive(Default)]
pub(super) struct Calls {
    /// Two have the same where a call of ours comes back to us.
    named: Mutex<HashMap<String, Vec<Call>>>,
    /// Questions of ours that wait for an answer, with what they are proved by, and INVITEs that wait for a decision.
    expected: Mutex<HashMap<String, Option<Arc<Challenges>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer is waited for.
pub(super) struct Expected<'a>(&'a Calls, &'a str);

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        locked(&self.0.expected).remove(self.1);
    }
}

#[derive(Clone)]
pub(super) struct Call {
    pub(super) dialog: InviteDialog,
    /// Our tag.
    pub(super) tag: String,
    /// Whose From tag its INVITE had; `None`: it is ours.
    pub(super) caller: Option<String>,
    pub(super) challenges: Arc<Challenges>,
    pub(super) flow: Flow,
    /// Of one of ours.
    pub(super) aim: Arc<Aim>,
    /// Taken while the answer to a re-INVITE waits for its ACK.
    pub(super) change: Arc<Semaphore>,
    pub(super) heard: mpsc::UnboundedSender<Heard>,
    /// The far end's tag, once its dialog is confirmed.
    pub(super) confirmed: watch::Receiver<Option<String>>,
    /// The Reason headers of the newest CANCEL.
    pub(super) cancelled: Cancelled,
    /// Of a call that came in: what is said before its answer has to arrive.
    pub(super) insistence: Option<Arc<Insistence>>,
}

impl Call {
    pub(super) fn is_up(&self) -> bool {
        self.confirmed.borrow().is_some()
    }
}

/// The Reason headers of a CANCEL, which its transaction does not give away: noted where it comes in, read where the call is told of it.
pub(super) type Cancelled = Arc<Mutex<Option<String>>>;

impl Calls {
    pub(super) fn enter(&self, call_id: &str, call: Call) {
        let mut calls = locked(&self.named);
        calls.entry(call_id.to_owned()).or_default().push(call);
    }

    /// A CANCEL of this caller has come. One that belongs to no INVITE here is followed by nothing, and the next one has reasons of its own.
    pub(super) fn note_cancel(&self, call_id: &str, caller: &str, reasons: Option<String>) {
        let calls = locked(&self.named);
        let named = calls.get(call_id).into_iter().flatten();
        if let Some(call) = named.into_iter().find(|call| call.caller.as_deref() == Some(caller)) {
            *locked(&call.cancelled) = reasons;
        }
    }

    /// Whoever else has the name keeps it.
    pub(super) fn leave(&self, call_id: &str, heard: &mpsc::UnboundedSender<Heard>) {
        let mut calls = locked(&self.named);
        let Some(named) = calls.get_mut(call_id) else { return };
        named.retain(|call| !call.heard.same_channel(heard));
        if named.is_empty() {
            calls.remove(call_id);
        }
    }

    pub(super) fn has(&self, call_id: &str) -> bool {
        locked(&self.named).contains_key(call_id) || locked(&self.expected).contains_key(call_id)
    }

    /// Somebody decides about an INVITE; `None`: about another one of the same name.
    pub(super) fn reserve<'a>(&'a self, call_id: &'a str) -> Option<Expected<'a>> {
        let mut expected = locked(&self.expected);
        let Entry::Vacant(free) = expected.entry(call_id.to_owned()) else { return None };
        free.insert(None);
        Some(Expected(self, call_id))
    }

    pub(super) fn expect<'a>(&'a self, call_id: &'a str, challenges: &Arc<Challenges>) -> Expected<'a> {
        locked(&self.expected).insert(call_id.to_owned(), Some(Arc::clone(challenges)));
        Expected(self, call_id)
    }

    /// Of a question.
    pub(super) fn challenges(&self, call_id: &str) -> Option<Arc<Challenges>> {
        locked(&self.expected).get(call_id)?.clone()
    }

    /// By the tag that is ours.
    pub(super) fn find(&self, call_id: &str, tag: &str) -> Option<Call> {
        self.first(call_id, |call| call.tag == tag)
    }

    /// The one that came in from this caller.
    pub(super) fn came_from(&self, call_id: &str, caller: &str) -> Option<Call> {
        self.first(call_id, |call| call.caller.as_deref() == Some(caller))
    }

    fn first(&self, call_id: &str, is_it: impl Fn(&Call) -> bool) -> Option<Call> {
        let calls = locked(&self.named);
        calls.get(call_id)?.iter().find(|call| is_it(call)).cloned()
    }
}
