//! Requests of ours that went over a connection and that nobody has answered by a word. The crate sends a request once over TCP and
//! TLS, and learns of a connection that breaks behind it by the silence of 64·T1: here it is told at once (RFC 3261 §18.4).
//!
//! A far side that closes its connection in order may still answer over another one (§18.2.2), so only what broke is told.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rsipstack::sip::{Method, Request, Response};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transport::SipAddr;

/// Of those that nobody answered what is older than any transaction is looked for at this many.
const MANY: usize = 1024;
/// 64·T1: nobody waits longer for a first word.
const LIFE: Duration = Duration::from_secs(32);

#[derive(Default)]
pub(super) struct Owed(Mutex<HashMap<TransactionKey, Asked>>);

struct Asked {
    request: Request,
    to: SipAddr,
    at: Instant,
}

impl Owed {
    fn requests(&self) -> MutexGuard<'_, HashMap<TransactionKey, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is about to be sent there. ACK and CANCEL are of other transactions.
    pub(super) fn note(&self, request: &Request, to: &SipAddr, now: Instant) {
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return;
        }
        let Ok(key) = TransactionKey::from_request(request, TransactionRole::Client) else { return };
        let mut requests = self.requests();
        if requests.len() >= MANY && requests.len().is_power_of_two() {
            requests.retain(|_, asked| now.saturating_duration_since(asked.at) < LIFE);
        }
        let request = Request { body: Vec::new(), ..request.clone() };
        requests.insert(key, Asked { request, to: to.clone(), at: now });
    }

    pub(super) fn answered(&self, response: &Response) {
        if let Ok(key) = TransactionKey::from_response(response, TransactionRole::Client) {
            self.requests().remove(&key);
        }
    }

    /// What went there is lost.
    pub(super) fn take(&self, to: &SipAddr) -> Vec<(TransactionKey, Request)> {
        let lost = self.requests().extract_if(|_, asked| asked.to == *to).collect::<Vec<_>>();
        lost.into_iter().map(|(key, asked)| (key, asked.request)).collect()
    }
}
