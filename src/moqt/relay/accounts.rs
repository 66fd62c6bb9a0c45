//! What sessions and tokens have asked for, counted against their [`Limits`].
//!
//! A session is charged for everything that it asks; the token that allowed a request is charged for it too, over all its
//! sessions, so that more sessions are not more room. A token's account lives as long as something is charged to it, and then until
//! its burst is whole again: asking and cancelling in turns gains nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::limits::{Counters, Limits};
use crate::moqt::ids::IdMap;

/// Idle accounts are looked for when there are this many, and whenever there are twice as many as were left.
const SWEEP_AT: usize = 64;

/// The bound that a request would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    Subscriptions,
    Held,
    Publications,
    NameBytes,
    Requests,
}

impl Beyond {
    pub(super) fn count(self, counters: &mut Counters) {
        let counter = match self {
            Self::Subscriptions => &mut counters.over_subscriptions,
            Self::Held => &mut counters.over_held,
            Self::Publications => &mut counters.over_publications,
            Self::NameBytes => &mut counters.over_name_bytes,
            Self::Requests => &mut counters.over_requests,
        };
        *counter += 1;
    }
}

/// What a request costs while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    Subscription {
        held: bool,
        bytes: usize,
    },
    Publication {
        bytes: usize,
    },
    /// A subscription that we offer: nothing was asked for it.
    Offer {
        bytes: usize,
    },
}

impl Cost {
    /// Subscriptions, held ones among them, publications, and bytes of names.
    fn parts(self) -> (usize, usize, usize, usize) {
        match self {
            Self::Subscription { held, bytes } => (1, usize::from(held), 0, bytes),
            Self::Publication { bytes } => (0, 0, 1, bytes),
            Self::Offer { bytes } => (1, 0, 0, bytes),
        }
    }
}

/// One session's or token's use of its limits.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) limits: Limits,
    bucket: Bucket,
    subscriptions: usize,
    held: usize,
    publications: usize,
    name_bytes: usize,
}

impl Account {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        let bucket = Bucket::new(&limits, now);
        Self { limits, bucket, subscriptions: 0, held: 0, publications: 0, name_bytes: 0 }
    }

    /// One more request now?
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Beyond> {
        self.bucket.take(&self.limits, 1, now).then_some(()).ok_or(Beyond::Requests)
    }

    /// So many more requests than the one that was taken; no more than a whole burst allows.
    pub(super) fn take_more(&mut self, requests: u32, now: Instant) -> Result<(), Beyond> {
        let most = self.limits.requests_burst.saturating_sub(1);
        self.bucket.take(&self.limits, requests.min(most), now).then_some(()).ok_or(Beyond::Requests)
    }

    pub(super) fn fits(&self, cost: Cost) -> Result<(), Beyond> {
        let (subscriptions, held, publications, bytes) = cost.parts();
        if self.subscriptions + subscriptions > self.limits.subscriptions {
            return Err(Beyond::Subscriptions);
        }
        if held > 0 && self.held + held > self.limits.held {
            return Err(Beyond::Held);
        }
        if self.publications + publications > self.limits.publications {
            return Err(Beyond::Publications);
        }
        (self.name_bytes + bytes <= self.limits.name_bytes).then_some(()).ok_or(Beyond::NameBytes)
    }

    fn charge(&mut self, cost: Cost) {
        let (subscriptions, held, publications, bytes) = cost.parts();
        self.subscriptions += subscriptions;
        self.held += held;
        self.publications += publications;
        self.name_bytes += bytes;
    }

    fn release(&mut self, cost: Cost) {
        let (subscriptions, held, publications, bytes) = cost.parts();
        self.subscriptions -= subscriptions;
        self.held -= held;
        self.publications -= publications;
        self.name_bytes -= bytes;
    }

    fn is_idle(&mut self, now: Instant) -> bool {
        self.subscriptions == 0 && self.publications == 0 && self.bucket.is_full(&self.limits, now)
    }
}

/// The accounts of tokens, by [`Rights::identity`](super::Rights::identity).
#[derive(Default)]
pub(super) struct Tokens {
    by_identity: HashMap<Arc<str>, u64>,
    accounts: IdMap<u64, (Arc<str>, Account)>,
    next: u64,
    sweep_at: usize,
}

impl Tokens {
    /// The account of a token that a session with these limits brought.
    pub(super) fn open(&mut self, identity: &str, limits: Limits, now: Instant) -> u64 {
        if let Some(id) = self.by_identity.get(identity) {
            if let Some((_, account)) = self.accounts.get_mut(id) {
                account.limits = account.limits.widest(limits);
            }
            return *id;
        }
        self.sweep(now);
        let id = self.next;
        self.next += 1;
        let identity: Arc<str> = Arc::from(identity);
        self.by_identity.insert(identity.clone(), id);
        self.accounts.insert(id, (identity, Account::new(limits, now)));
        id
    }

    pub(super) fn account(&mut self, id: u64) -> Option<&mut Account> {
        self.accounts.get_mut(&id).map(|(_, account)| account)
    }

    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    fn sweep(&mut self, now: Instant) {
        if self.accounts.len() < self.sweep_at.max(SWEEP_AT) {
            return;
        }
        let by_identity = &mut self.by_identity;
        self.accounts.retain(|_, (identity, account)| {
            let stays = !account.is_idle(now);
            if !stays {
                by_identity.remove(identity);
            }
            stays
        });
        self.sweep_at = 2 * self.accounts.len();
    }
}

/// A session's account together with that of the token that allows the request.
pub(super) struct Bill<'a> {
    pub(super) session: &'a mut Account,
    pub(super) token: Option<&'a mut Account>,
}

impl Bill<'_> {
    /// Charges both, or neither. `Err`: the bound, and whether it is the token's.
    pub(super) fn charge(&mut self, cost: Cost, now: Instant) -> Result<(), (Beyond, bool)> {
        self.session.fits(cost).map_err(|beyond| (beyond, false))?;
        if let Some(token) = &mut self.token {
            let asked = if matches!(cost, Cost::Offer { .. }) { Ok(()) } else { token.take(now) };
            asked.and_then(|()| token.fits(cost)).map_err(|beyond| (beyond, true))?;
            token.charge(cost);
        }
        self.session.charge(cost);
        Ok(())
    }

    pub(super) fn release(&mut self, cost: Cost) {
        self.session.release(cost);
        if let Some(token) = &mut self.token {
            token.release(cost);
        }
    }

    /// A held subscription was answered.
    pub(super) fn settle(&mut self) {
        self.session.held -= 1;
        if let Some(token) = &mut self.token {
            token.held -= 1;
        }
    }
}

/// Allows [`Limits::requests_per_s`] with bursts.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a request.
    level: u64,
    at: Instant,
}

impl Bucket {
    fn new(limits: &Limits, now: Instant) -> Self {
        Self { level: u64::from(limits.requests_burst) * 1000, at: now }
    }

    fn fill(&mut self, limits: &Limits, now: Instant) {
        let passed_ms = now.saturating_duration_since(self.at).min(Duration::from_secs(3600)).as_millis() as u64;
        if passed_ms > 0 {
            let full = u64::from(limits.requests_burst) * 1000;
            self.level = full.min(self.level + passed_ms * u64::from(limits.requests_per_s));
            self.at = now;
        }
    }

    fn take(&mut self, limits: &Limits, requests: u32, now: Instant) -> bool {
        self.fill(limits, now);
        let wanted = u64::from(requests) * 1000;
        let enough = self.level >= wanted;
        if enough {
            self.level -= wanted;
        }
        enough
    }

    fn is_full(&mut self, limits: &Limits, now: Instant) -> bool {
        self.fill(limits, now);
        self.level >= u64::from(limits.requests_burst) * 1000
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
mod tests {
    use super::*;

    #[test]
    fn idle_accounts_of_tokens_are_swept_and_busy_ones_stay() {
        let now = Instant::now();
        let mut tokens = Tokens::default();
        let busy = tokens.open("busy", Limits::default(), now);
        let mut session = Account::new(Limits::default(), now);
        let mut bill = Bill { session: &mut session, token: tokens.account(busy) };
        bill.charge(Cost::Publication { bytes: 10 }, now).unwrap();
        // One whose burst is not whole again is not idle yet.
        let hasty = tokens.open("hasty", Limits::default(), now);
        tokens.account(hasty).unwrap().take(now).unwrap();
        for i in 0..10 * SWEEP_AT {
            tokens.open(&format!("{i}"), Limits::default(), now);
            assert!(tokens.len() <= SWEEP_AT);
        }
        assert_eq!(
            (tokens.open("busy", Limits::default(), now), tokens.open("hasty", Limits::default(), now)),
            (busy, hasty)
        );
        assert_eq!(tokens.by_identity.len(), tokens.accounts.len());
    }

    #[test]
    fn what_is_charged_is_released() {
        let now = Instant::now();
        let (mut session, mut token) = (Account::new(Limits::default(), now), Account::new(Limits::default(), now));
        let costs = [Cost::Subscription { held: true, bytes: 7 }, Cost::Publication { bytes: 9 }];
        let mut bill = Bill { session: &mut session, token: Some(&mut token) };
        costs.iter().for_each(|cost| bill.charge(*cost, now).unwrap());
        costs.iter().for_each(|cost| bill.release(*cost));
        for account in [session, token] {
            assert_eq!((account.subscriptions, account.held, account.publications, account.name_bytes), (0, 0, 0, 0));
        }
    }
}
