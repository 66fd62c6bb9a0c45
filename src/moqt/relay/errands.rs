//! FETCH at an edge: what this relay has not seen is asked of the relay in charge (decision 0103).
//!
//! An *errand* is one FETCH of ours to an uplink, for a FETCH or a fill of a peer whose answer from here would leave something unknown,
//! or whose track does not flow here. What comes is handed on as it is. When nothing comes in time, or too much, the answer is what
//! is known here. A publisher that is no relay is asked for nothing: it keeps nothing.
//!
//! An errand holds [`constants::ERRAND_BYTES`] at most, for [`constants::ERRAND`] or the peer's FILL_TIMEOUT, and counts as the fetch
//! that it is for.

use std::time::Instant;

use super::fetch::{Asked, How, told_bytes};
use super::{Core, Role, Sessions, constants};
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{Fetch, FetchOk, GroupOrder, Location, Parameters};
use crate::moqt::session::{Fill, RequestId};
use crate::moqt::{RequestErrorCode, TrackNamespace};

/// A request, by session.
type Who = (u64, RequestId);

/// What of a peer it is for.
#[derive(Clone, Copy)]
pub(super) enum For {
    Fetch(RequestId),
    Fill(Fill),
}

/// The track, and what of it, as this relay would answer.
type Local = (u64, Asked, GroupOrder);

pub(super) struct Errand {
    key: u64,
    purpose: For,
    start: Location,
    local: Option<Local>,
    ok: Option<FetchOk>,
    items: Vec<Fetched>,
    bytes: usize,
    ended: bool,
    until: Instant,
}

impl Core {
    /// The uplink that brings this track, or would; not to a session of that relay itself.
    pub(super) fn relay_in_charge(&self, namespace: &TrackNamespace, id: Option<u64>, who: u64) -> Option<u64> {
        let uplink = self.uplink_of(namespace, who)?;
        let track = id.and_then(|id| self.tracks.get(&id));
        let alone = track.is_none_or(|track| track.sources.iter().all(|source| source.key == uplink));
        let stays = self.peers.get(&uplink).is_some_and(|peer| !peer.leaving);
        (alone && stays).then_some(uplink)
    }

    /// `false`: nobody is asked.
    pub(super) fn send_errand(
        &mut self,
        sessions: &mut dyn Sessions,
        uplink: u64,
        (key, purpose): (u64, For),
        (fetch, how, local): (Fetch, How, Option<Local>),
        now: Instant,
    ) -> bool {
        let wait = how.wait.map_or(constants::ERRAND, |wait| wait.min(constants::ERRAND));
        let start = if let Fetch::Standalone { start, .. } = fetch { start } else { Location::default() };
        let (Some(session), false) = (sessions.session(uplink), wait.is_zero()) else { return false };
        let order = Some(how.order).filter(|order| *order != GroupOrder::Ascending);
        let request = session.fetch(fetch, order, Vec::new());
        let until = now + wait;
        self.deadlines.insert((until, uplink, request));
        self.note(uplink, request, Role::Errand);
        if let For::Fetch(waiting) = purpose {
            self.note(key, waiting, Role::Sent { uplink, request });
        }
        let (ok, items, bytes, ended) = (None, Vec::new(), 0, false);
        self.errands.insert((uplink, request), Errand { key, purpose, start, local, ok, items, bytes, ended, until });
        self.counters.errands += 1;
        true
    }

    pub(super) fn errand_ok(&mut self, sessions: &mut dyn Sessions, who: Who, ok: FetchOk, now: Instant) {
        if let Some(errand) = self.errands.get_mut(&who) {
            errand.ok = Some(FetchOk { parameters: Parameters::default(), ..ok });
            self.errand_done(sessions, who, now);
        }
    }

    pub(super) fn errand_brings(&mut self, sessions: &mut dyn Sessions, who: Who, fetched: Fetched, now: Instant) {
        let Some(errand) = self.errands.get_mut(&who) else { return };
        errand.bytes += told_bytes(&fetched);
        errand.items.push(fetched);
        if errand.bytes > constants::ERRAND_BYTES {
            self.end_errand(sessions, who, RequestErrorCode::ExcessiveLoad, now);
        }
    }

    pub(super) fn errand_ends(&mut self, sessions: &mut dyn Sessions, who: Who, reset: bool, now: Instant) {
        let Some(errand) = self.errands.get_mut(&who) else { return };
        errand.ended = true;
        match reset {
            true => self.end_errand(sessions, who, RequestErrorCode::InternalError, now),
            false => self.errand_done(sessions, who, now),
        }
    }

    /// All came, and the word that says what of the range it is.
    fn errand_done(&mut self, sessions: &mut dyn Sessions, who: Who, now: Instant) {
        if !self.errands.get(&who).is_some_and(|errand| errand.ended && errand.ok.is_some()) {
            return;
        }
        let Some(mut errand) = self.drop_errand(who) else { return };
        let Some(ok) = errand.ok.take().filter(|ok| ok.last() >= errand.start) else {
            return self.answer_here(sessions, errand, RequestErrorCode::InternalError, now);
        };
        let Errand { key, items, local, .. } = errand;
        match errand.purpose {
            For::Fill(fill) => self.deliver_fill(sessions, key, fill, Some(items)),
            For::Fetch(request) => {
                let track = local.map(|(id, ..)| id);
                let delivered = self.deliver(sessions, (key, request), track, (ok, items));
                self.refuse_undelivered(sessions, (key, request), delivered);
            }
        }
    }

    /// Nothing more comes of it: what is known here is the answer, or `code`.
    pub(super) fn end_errand(&mut self, sessions: &mut dyn Sessions, who: Who, code: RequestErrorCode, now: Instant) {
        let Some(errand) = self.drop_errand(who) else { return };
        if let Some(session) = sessions.session(who.0) {
            session.cancel(who.1);
        }
        self.counters.errands_in_vain += 1;
        self.answer_here(sessions, errand, code, now);
    }

    fn answer_here(&mut self, sessions: &mut dyn Sessions, errand: Errand, code: RequestErrorCode, now: Instant) {
        let Errand { key, purpose, local, .. } = errand;
        let told = local.map(|(id, asked, order)| (id, self.history(id, asked, order, now)));
        match purpose {
            For::Fill(fill) => {
                let told = told.and_then(|(_, told)| told.ok()).map(|(_, told)| told);
                self.deliver_fill(sessions, key, fill, told);
            }
            For::Fetch(request) => {
                let delivered = match told {
                    Some((id, told)) => told.and_then(|told| self.deliver(sessions, (key, request), Some(id), told)),
                    None => Err(code),
                };
                self.refuse_undelivered(sessions, (key, request), delivered);
            }
        }
    }

    fn refuse_undelivered(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): Who,
        delivered: Result<(), RequestErrorCode>,
    ) {
        if let Err(code) = delivered {
            self.forget(key, request);
            self.refuse(sessions, key, request, code);
        }
    }

    fn drop_errand(&mut self, (uplink, request): Who) -> Option<Errand> {
        let errand = self.errands.remove(&(uplink, request))?;
        self.deadlines.remove(&(errand.until, uplink, request));
        if let Some(peer) = self.peers.get_mut(&uplink) {
            peer.requests.remove(&request);
        }
        Some(errand)
    }

    /// Whoever waited for it does not any more.
    pub(super) fn recall_errand(&mut self, sessions: &mut dyn Sessions, who: Who) {
        if self.drop_errand(who).is_some()
            && let Some(session) = sessions.session(who.0)
        {
            session.cancel(who.1);
        }
    }
}

#[cfg(test)]
impl Core {
    pub(super) fn runs_no_errand(&self) -> bool {
        let roles = self.peers.values().flat_map(|peer| peer.requests.values());
        let mut ours = roles.filter(|role| matches!(role, Role::Errand | Role::Sent { .. }));
        self.errands.is_empty() && ours.next().is_none()
    }
}
