//! What a stack keeps of transactions that are over, and for how long.
//!
//! The crate remembers a last answer or ACK for 64·T1, because the far side may repeat itself (RFC 3261 §17.1.1.2, §17.2; RFC 6026 §7):
//! some 1.5 KB each. The INVITE of an answered call of ours it keeps whole for as long, with its dialog, its queues and a task, some
//! 35 KB: so that each 2xx is acknowledged, and a branch of a fork that answers too is hung up (§13.2.2.4). A call that is over gives
//! this up once no such branch can be on its way any more; with the ACK alone the crate still acknowledges what is repeated.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rsipstack::dialog::dialog::DialogState;
use rsipstack::transaction::endpoint::{EndpointInner, EndpointInnerRef};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::TransactionEvent;
use tokio::runtime::Handle;

use super::uac::Line;

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

impl Line {
    /// The call is over: of its INVITE the ACK is enough, as soon as no branch of a fork can answer any more. A CANCEL of the proxy that
    /// forked has T4 to reach such a branch, and the 2xx that crosses it as long (RFC 3261 §16.7, §17.1.2.2).
    pub(super) fn let_go(&self) {
        let is_answered = matches!(self.dialog.state(), DialogState::Confirmed(..) | DialogState::Terminated(..));
        if self.dialog.role() != TransactionRole::Client || !is_answered {
            return;
        }
        let Ok(key) = TransactionKey::from_request(&self.dialog.initial_request(), TransactionRole::Client) else {
            return;
        };
        let (endpoint, crossing) = (&self.dialogs.endpoint, self.dialogs.endpoint.option.t4 * 2);
        // An engine that ends forgets everything anyhow.
        if let (true, Ok(runtime)) = (endpoint.transactions.contains_key(&key), Handle::try_current()) {
            runtime.spawn(end(Arc::downgrade(endpoint), key, crossing));
        }
    }
}

async fn end(endpoint: Weak<EndpointInner>, key: TransactionKey, after: Duration) {
    tokio::time::sleep(after).await;
    let transaction = endpoint.upgrade().and_then(|endpoint| endpoint.transactions.get(&key));
    if let Some(transaction) = transaction {
        // Its own 64·T1 may be over.
        let _ = transaction.send(TransactionEvent::Terminate(key));
    }
}
