//! What allowed a request, what it is charged for, and what happens when the token ends before the request does.
//!
//! At its token's end plus [`Limits::expiry_grace`](super::Limits) a request needs another token: of its session, of the
//! session's other requests, or brought by a REQUEST_UPDATE. Without one a subscription ends with EXPIRED and a publication is
//! cancelled. A revoked token has no grace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accounts::{Account, Bill, Cost};
use super::rights::Rights;
use super::{Core, Peer, Role, Sessions};
use crate::moqt::session::RequestId;
use crate::moqt::{CloseCode, PublishDoneCode, RequestErrorCode, ResetCode};

/// An accepted request's permission.
pub(super) struct Grant {
    /// `None`: nothing had to be allowed.
    rights: Option<Arc<dyn Rights>>,
    /// The account of its token.
    pub(super) token: Option<u64>,
    cost: Cost,
    /// When it has to be looked at again.
    until: Option<Instant>,
}

/// Why a request ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Expired,
    Revoked,
}

/// What a request needs to be allowed.
pub(super) enum Need {
    Subscribe(crate::moqt::TrackNamespace),
    /// A whole namespace (`None`), or one track of it.
    Publish(crate::moqt::TrackNamespace, Option<bytes::Bytes>),
}

impl Need {
    pub(super) fn met_by(&self, rights: &dyn Rights) -> bool {
        match self {
            Self::Subscribe(namespace) => rights.may_subscribe(namespace),
            Self::Publish(namespace, track) => {
                let leased = |track| rights.lease().is_none_or(|lease| lease.track == track);
                rights.may_publish(namespace) && track.as_ref().is_none_or(leased)
            }
        }
    }
}

impl Grant {
    pub(super) fn rights(&self) -> Option<Arc<dyn Rights>> {
        self.rights.clone()
    }
}

impl Core {
    /// Charges a request to its session and to the token that allows it, and remembers which that was.
    pub(super) fn charge(
        &mut self,
        who: (u64, RequestId),
        rights: Option<&Arc<dyn Rights>>,
        cost: Cost,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let token = self.afford(who.0, rights, cost, now)?;
        self.grant(who, rights, token, cost);
        Ok(())
    }

    /// Charges what has no request yet; the account of its token.
    pub(super) fn afford(
        &mut self,
        key: u64,
        rights: Option<&Arc<dyn Rights>>,
        cost: Cost,
        now: Instant,
    ) -> Result<Option<u64>, RequestErrorCode> {
        let peer = self.peers.get_mut(&key).ok_or(RequestErrorCode::InternalError)?;
        let limits = peer.account.limits;
        let identity = rights.and_then(|rights| rights.identity());
        let token = identity.map(|identity| self.tokens.open(identity, limits, now));
        let account = token.and_then(|token| self.tokens.account(token));
        let mut bill = Bill { session: &mut peer.account, token: account };
        if let Err((beyond, of_token)) = bill.charge(cost, now) {
            beyond.count(&mut self.counters);
            self.counters.over_token += u64::from(of_token);
            return Err(RequestErrorCode::ExcessiveLoad);
        }
        Ok(token)
    }

    /// What was charged belongs to this request.
    pub(super) fn grant(
        &mut self,
        (key, request): (u64, RequestId),
        rights: Option<&Arc<dyn Rights>>,
        token: Option<u64>,
        cost: Cost,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let until = rights.and_then(|rights| ends_at(rights, peer));
        if let Some(until) = until {
            self.expiries.insert((until, key, request));
        }
        peer.grants.insert(request, Grant { rights: rights.cloned(), token, cost, until });
    }

    /// Gives back what the request was charged.
    pub(super) fn release(&mut self, key: u64, request: RequestId) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(grant) = peer.grants.remove(&request) else { return };
        if let Some(until) = grant.until {
            self.expiries.remove(&(until, key, request));
        }
        let token = grant.token.and_then(|token| self.tokens.account(token));
        Bill { session: &mut peer.account, token }.release(grant.cost);
    }

    /// A held subscription is answered: it no longer counts as held.
    pub(super) fn settle(&mut self, key: u64, request: RequestId) {
        self.note_settled(key, request);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(grant) = peer.grants.get_mut(&request) else { return };
        if let Cost::Subscription { held, .. } = &mut grant.cost
            && std::mem::take(held)
        {
            let token = grant.token.and_then(|token| self.tokens.account(token));
            Bill { session: &mut peer.account, token }.settle();
        }
    }

    pub(super) fn carry_on(&mut self, key: u64, request: RequestId, rights: Arc<dyn Rights>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let until = ends_at(&rights, peer);
        let Some(grant) = peer.grants.get_mut(&request) else { return };
        if let Some(until) = std::mem::replace(&mut grant.until, until) {
            self.expiries.remove(&(until, key, request));
        }
        grant.rights = Some(rights);
        if let Some(until) = grant.until {
            self.expiries.insert((until, key, request));
        }
    }

    /// EXPIRES (§10.2.10): how long the subscription goes on if no other token carries it on; its grace is in it. A relay whose
    /// subscriptions outlive their tokens says none, and no draft has a place for it with what is no subscription in all of them.
    pub(super) fn expires_in(&self, (key, request): (u64, RequestId), now: Instant) -> Option<Duration> {
        let peer = self.peers.get(&key)?;
        let until = peer.grants.get(&request)?.until?;
        let is_subscription = !matches!(peer.requests.get(&request), Some(Role::Announcement(_) | Role::Listing));
        is_subscription.then(|| told(until, now))
    }

    /// The same of a subscription that a session is offered under these rights.
    pub(super) fn would_expire_in(&self, key: u64, rights: &Arc<dyn Rights>, now: Instant) -> Option<Duration> {
        Some(told(ends_at(rights, self.peers.get(&key)?)?, now))
    }

    /// What the request needs; `None`: nothing that a token gives.
    pub(super) fn need(&self, key: u64, request: RequestId) -> Option<Need> {
        let name = |track: &u64| self.tracks.get(track).map(|track| &track.name);
        match self.peers.get(&key)?.requests.get(&request)? {
            Role::Subscription { track, .. } | Role::Fetch { track: Some(track), .. } | Role::Offer { track } => {
                Some(Need::Subscribe(name(track)?.namespace.clone()))
            }
            Role::Publication { track } => {
                let name = name(track)?;
                Some(Need::Publish(name.namespace.clone(), Some(name.name.clone())))
            }
            Role::Announcement(namespace) => {
                let lease = self.directory.lease(namespace, key, request);
                Some(Need::Publish(namespace.clone(), lease.map(|lease| lease.track.clone())))
            }
            Role::Source { .. }
            | Role::Listing
            | Role::Interest
            | Role::Joining { .. }
            | Role::Sent { .. }
            | Role::Errand
            | Role::Fetch { track: None, .. } => None,
        }
    }

    /// Rights that the session has for it now: its own, and those of its other requests.
    fn fresh(&self, key: u64, need: &Need, now: Instant) -> Option<Arc<dyn Rights>> {
        let peer = self.peers.get(&key)?;
        let others = peer.grants.values().filter_map(|grant| grant.rights.as_ref());
        let mut all = peer.rights.iter().chain(others);
        all.find(|rights| !rights.is_expired(now) && need.met_by(rights.as_ref())).cloned()
    }

    pub(super) fn handle_expiries(&mut self, sessions: &mut dyn Sessions, now: Instant) {
        while let Some(&(at, key, request)) = self.expiries.first().filter(|(at, ..)| *at <= now) {
            self.expiries.remove(&(at, key, request));
            let Some(grant) = self.peers.get_mut(&key).and_then(|peer| peer.grants.get_mut(&request)) else { continue };
            grant.until = None;
            self.renew_or_end(sessions, (key, request), Ended::Expired, now);
        }
    }

    fn renew_or_end(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): (u64, RequestId),
        why: Ended,
        now: Instant,
    ) {
        let Some(need) = self.need(key, request) else { return };
        if let Some(rights) = self.fresh(key, &need, now) {
            return self.carry_on(key, request, rights);
        }
        match why {
            Ended::Expired => self.counters.expired += 1,
            Ended::Revoked => self.counters.revoked += 1,
        }
        let (refusal, done) = match why {
            Ended::Expired => (RequestErrorCode::ExpiredAuthToken, PublishDoneCode::Expired),
            Ended::Revoked => (RequestErrorCode::Unauthorized, PublishDoneCode::Unauthorized),
        };
        match self.peers.get(&key).and_then(|peer| peer.requests.get(&request)).cloned() {
            Some(Role::Subscription { track, held: true }) => {
                self.refuse(sessions, key, request, refusal);
                self.drop_waiting(track, key, request);
                self.rest(sessions, track);
            }
            Some(Role::Subscription { track, held: false }) => {
                self.end_subscription(sessions, track, (key, request), done);
                self.rest(sessions, track);
            }
            Some(Role::Publication { track }) => self.cancel_source(sessions, track, key, request),
            Some(Role::Announcement(namespace)) => {
                if let Some(session) = sessions.session(key) {
                    session.cancel(request);
                }
                self.withdraw(sessions, key, request);
                self.cancel_sources_under(sessions, key, &namespace, now);
            }
            Some(Role::Fetch { .. }) => self.reset_fetch(sessions, (key, request), ResetCode::ExpiredAuthToken),
            Some(Role::Offer { .. }) => self.end_offer(sessions, (key, request), done),
            Some(
                Role::Source { .. }
                | Role::Listing
                | Role::Interest
                | Role::Joining { .. }
                | Role::Sent { .. }
                | Role::Errand,
            )
            | None => {}
        }
    }

    /// Our subscriptions to a session whose right to publish there is gone.
    fn cancel_sources_under(
        &mut self,
        sessions: &mut dyn Sessions,
        key: u64,
        namespace: &crate::moqt::TrackNamespace,
        now: Instant,
    ) {
        for id in self.tracks_under(namespace) {
            let Some(track) = self.tracks.get(&id) else { continue };
            let pulled = track.sources.iter().find(|source| source.key == key && !source.pushed);
            let Some(request) = pulled.map(|source| source.request) else { continue };
            let need = Need::Publish(track.name.namespace.clone(), Some(track.name.name.clone()));
            if self.fresh(key, &need, now).is_none() {
                self.cancel_source(sessions, id, key, request);
            }
        }
    }

    /// Ends everything that rests on the rights which `is_revoked` picks; a session that brought them in its SETUP is closed.
    /// The gate must refuse their tokens from now on.
    pub fn revoke(
        &mut self,
        sessions: &mut dyn Sessions,
        is_revoked: &mut dyn FnMut(&dyn Rights) -> bool,
        now: Instant,
    ) {
        let mut keys: Vec<u64> = self.peers.keys().copied().collect();
        keys.sort_unstable();
        self.directory.revoke(is_revoked);
        self.interests.revoke(is_revoked);
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            let before = peer.rights.len();
            peer.rights.retain(|rights| !is_revoked(rights.as_ref()));
            let closes = peer.rights.len() < before;
            let mut revoked = Vec::new();
            for (request, grant) in peer.grants.iter_mut() {
                if grant.rights.as_ref().is_some_and(|rights| is_revoked(rights.as_ref())) {
                    grant.rights = None;
                    revoked.push(*request);
                }
            }
            for request in revoked {
                self.renew_or_end(sessions, (key, request), Ended::Revoked, now);
            }
            if closes && let Some(session) = sessions.session(key) {
                session.close(
                    CloseCode::Unauthorized as u64,
                    "the token was revoked, or its key withdrawn: ask for another where it came from",
                );
            }
        }
        self.serve_joins(sessions, now);
    }

    /// [`Core::revoke`] for every token of this identity.
    pub fn revoke_identity(&mut self, sessions: &mut dyn Sessions, identity: &str, now: Instant) {
        self.revoke(sessions, &mut |rights: &dyn Rights| rights.identity() == Some(identity), now);
    }

    /// The session's own part of its account: what a new request is counted against first.
    pub(super) fn account(&mut self, key: u64) -> Option<&mut Account> {
        self.peers.get_mut(&key).map(|peer| &mut peer.account)
    }
}

/// When these rights have to be another's in this session; `None`: never.
fn ends_at(rights: &Arc<dyn Rights>, peer: &Peer) -> Option<Instant> {
    rights.expires().zip(peer.account.limits.expiry_grace).map(|(at, grace)| at + grace)
}

/// As EXPIRES says it, to whom zero would mean that it does not end.
fn told(until: Instant, now: Instant) -> Duration {
    until.saturating_duration_since(now).max(Duration::from_millis(1))
}
