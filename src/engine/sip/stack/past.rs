//! What a stack keeps of transactions that are over, and for how long.
//!
//! The crate remembers a last answer or ACK for 64·T1, because the far side may repeat itself (RFC 3261 §17.1.1.2, §17.2; RFC 6026 §7):
//! some 1.5 KB each. The INVITE of an answered call of ours it keeps whole for as long, with its dialog, its queues and a task, some
//! 35 KB: so that each 2xx is acknowledged, and a branch of a fork that answers too is hung up (§13.2.2.4). A call that is over gives
//! this up once no such branch can be on its way any more; with the ACK alone the crate still acknowledges what is repeated.

use std::sync::{Arc, Weak};
use std::time::Instant;

use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::platform::CancellationToken;
use rsipstack::transaction::endpoint::{EndpointInner, EndpointInnerRef};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::TransactionEvent;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Some 400 calls a second that end: of one more the crate keeps the INVITE for its 64·T1.
const MOST_WAITING: usize = 4096;

/// How many transactions a stack has in memory.
#[derive(Clone)]
pub(in crate::engine) struct Past(Weak<EndpointInner>);

/// For `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    pub running: usize,
    /// They are over, and answer what is repeated.
    pub remembered: usize,
}

impl std::ops::Add for Transactions {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { running: self.running + other.running, remembered: self.remembered + other.remembered }
    }
}

impl Past {
    pub(super) fn of(endpoint: &EndpointInnerRef) -> Self {
        Self(Arc::downgrade(endpoint))
    }

    /// Of a stack that is gone: none.
    pub(in crate::engine) fn transactions(&self) -> Transactions {
        let stats = self.0.upgrade().map(|endpoint| endpoint.get_stats());
        stats.map_or_else(Transactions::default, |stats| Transactions {
            running: stats.running_transactions,
            remembered: stats.finished_transactions,
        })
    }
}

/// Where a call of ours that is over leaves its INVITE, to be let go in time. One task does that; it ends with the stack, and lets go of
/// all that waits then.
#[derive(Clone)]
pub(super) struct Over {
    waiting: mpsc::Sender<(TransactionKey, Instant)>,
    endpoint: EndpointInnerRef,
}

impl Over {
    pub(super) fn of(endpoint: &EndpointInnerRef, ending: CancellationToken) -> Self {
        let (waiting, over) = mpsc::channel(MOST_WAITING);
        tokio::spawn(let_go(Arc::clone(endpoint), over, ending));
        Self { waiting, endpoint: Arc::clone(endpoint) }
    }

    /// A CANCEL of the proxy that forked has T4 to reach a branch that did not answer yet, and the 2xx that crosses it as long (RFC 3261
    /// §16.7, §17.1.2.2).
    pub(super) fn leave(&self, dialog: &InviteDialog) {
        if !matches!(dialog.state(), DialogState::Confirmed(..) | DialogState::Terminated(..)) {
            return;
        }
        let Ok(key) = TransactionKey::from_request(&dialog.initial_request(), TransactionRole::Client) else { return };
        let due = Instant::now() + self.endpoint.option.t4 * 2;
        if let Err(TrySendError::Closed((key, _))) = self.waiting.try_send((key, due)) {
            end(&self.endpoint, key);
        }
    }
}

/// Each waits as long as any other, so they come in the order in which they go.
async fn let_go(
    endpoint: EndpointInnerRef,
    mut over: mpsc::Receiver<(TransactionKey, Instant)>,
    ending: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = over.recv() => next,
            () = ending.cancelled() => None,
        };
        let Some((key, due)) = next else { return };
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            () = ending.cancelled() => {}
        }
        end(&endpoint, key);
    }
}

fn end(endpoint: &EndpointInnerRef, key: TransactionKey) {
    if let Some(transaction) = endpoint.transactions.get(&key) {
        // Its own 64·T1 may be over.
        let _ = transaction.send(TransactionEvent::Terminate(key));
    }
}
