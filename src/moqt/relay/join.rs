//! Joining FETCH (§10.12.2): what was before a subscription of the same session, up to the object behind which that begins.
//!
//! The end is the subscription's Joining Location: the largest object when it was accepted, or when it began to forward again. What the
//! subscription brings and what the fetch brings meet there, without a gap and without an object twice. The right to a subscription
//! is a right to its past. A subscription that waits for its publisher lets its fetches wait too; they end with it.

use std::time::Instant;

use super::accounts::Cost;
use super::fetch::{Asked, How};
use super::rights::{Credentials, permit};
use super::track::Track;
use super::{Core, Role, Sessions, name_bytes};
use crate::moqt::RequestErrorCode;
use crate::moqt::message::{Fetch, Location};
use crate::moqt::session::RequestId;

/// A request of a peer.
type Who = (u64, RequestId);

/// A joining fetch whose subscription has no answer.
#[derive(Clone, Debug)]
pub(super) struct Join {
    request: RequestId,
    fetch: Fetch,
    how: How,
}

impl Core {
    pub(super) fn join(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, join, joined): (u64, Join, RequestId),
        credentials: &Credentials,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        const NONE: RequestErrorCode = RequestErrorCode::InvalidJoiningRequestId;
        let peer = self.peers.get(&key).ok_or(NONE)?;
        let Some(&Role::Subscription { track: id, held }) = peer.requests.get(&joined) else { return Err(NONE) };
        let name = self.tracks.get(&id).ok_or(NONE)?.name.clone();
        let mut credentials = credentials.clone();
        credentials.extend(peer.grants.get(&joined).and_then(|grant| grant.rights()));
        let rights = permit(&credentials, now, |rights| rights.may_subscribe(&name.namespace))?;
        let cost = Cost::Subscription { held, bytes: name_bytes(&name) };
        let request = join.request;
        if held {
            self.charge((key, request), Some(rights), cost, now)?;
            self.note(key, request, Role::Joining { joined });
            self.joins.entry((key, joined)).or_default().push(join);
            return Ok(());
        }
        let asked = self.joined((key, joined), &join.fetch)?;
        self.charge((key, request), Some(rights), cost, now)?;
        self.serve(sessions, (key, request), (id, asked, join.how), now)
    }

    /// What a fetch that joins this subscription asks for.
    fn joined(&self, (key, joined): Who, fetch: &Fetch) -> Result<Asked, RequestErrorCode> {
        let role = self.peers.get(&key).and_then(|peer| peer.requests.get(&joined));
        let Some(Role::Subscription { track, held: false }) = role else {
            return Err(RequestErrorCode::InvalidJoiningRequestId);
        };
        Asked::of(fetch, self.tracks.get(track).and_then(|track| track.joining(key, joined)))
    }

    /// A subscription was answered, or is gone: whoever waits for it is served when its event is over.
    pub(super) fn note_settled(&mut self, key: u64, request: RequestId) {
        if !self.joins.is_empty() && self.joins.contains_key(&(key, request)) {
            self.settled.push((key, request));
        }
    }

    pub(super) fn serve_joins(&mut self, sessions: &mut dyn Sessions, now: Instant) {
        while let Some((key, joined)) = self.settled.pop() {
            for Join { request, fetch, how } in self.joins.remove(&(key, joined)).unwrap_or_default() {
                self.settle(key, request);
                let role = self.peers.get(&key).and_then(|peer| peer.requests.get(&joined));
                let id =
                    role.and_then(|role| if let Role::Subscription { track, .. } = role { Some(*track) } else { None });
                let served = self.joined((key, joined), &fetch).and_then(|asked| {
                    let id = id.ok_or(RequestErrorCode::InvalidJoiningRequestId)?;
                    self.serve(sessions, (key, request), (id, asked, how), now)
                });
                if let Err(code) = served {
                    self.forget(key, request);
                    self.refuse(sessions, key, request, code);
                }
            }
        }
    }

    /// A fetch that waits is withdrawn.
    pub(super) fn end_join(&mut self, (key, request): Who, joined: RequestId) {
        self.forget(key, request);
        if let Some(joins) = self.joins.get_mut(&(key, joined)) {
            joins.retain(|join| join.request != request);
            if joins.is_empty() {
                self.joins.remove(&(key, joined));
            }
        }
    }
}

impl Join {
    pub(super) fn new(request: RequestId, fetch: Fetch, how: How) -> Self {
        Self { request, fetch, how }
    }
}

#[cfg(test)]
impl Core {
    pub(super) fn holds_no_join(&self) -> bool {
        self.joins.is_empty() && self.settled.is_empty()
    }
}

impl Track {
    fn joining(&self, key: u64, request: RequestId) -> Option<Location> {
        self.subscribers.iter().find(|s| (s.key, s.request) == (key, request))?.joining
    }
}
