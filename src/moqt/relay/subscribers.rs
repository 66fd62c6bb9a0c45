//! The downstream half: a SUBSCRIBE from its request to its answer.

use std::time::{Duration, Instant};

use super::accounts::Cost;
use super::rights::{Credentials, permit};
use super::track::{Subscriber, Waiting};
use super::{Core, Role, Sessions, name_bytes};
use crate::moqt::RequestErrorCode;
use crate::moqt::message::{Filter, Location, Subscribe, SubscribeOk};
use crate::moqt::session::RequestId;

impl Core {
    pub(super) fn subscribe(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): (u64, RequestId),
        subscribe: &Subscribe,
        credentials: &Credentials,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let rights = permit(credentials, now, |rights| rights.may_subscribe(&subscribe.track.namespace))?;
        let track = self.names.get(&subscribe.track).and_then(|id| self.tracks.get(id));
        // One subscription per track and session, where the draft says so (§5.1).
        let once = sessions.session(key).is_none_or(|session| session.draft().subscribes_once());
        if once && track.is_some_and(|track| track.has_subscriber(key)) {
            return Err(RequestErrorCode::DuplicateSubscription);
        }
        let relay = self.relay(key);
        let live = track.is_some_and(|track| track.is_live_for(relay));
        let cost = Cost::Subscription { held: !live, bytes: name_bytes(&subscribe.track) };
        self.charge((key, request), Some(rights), cost, now)?;
        let longest = self.account(key).map_or(Duration::ZERO, |account| account.limits.rendezvous);
        let waiting = Waiting { relay, ..Waiting::new(key, request, subscribe, longest, now) };
        let id = self.track_id(&subscribe.track);
        self.note(key, request, Role::Subscription { track: id, held: !live });
        let hold = waiting.rendezvous.then(|| waiting.until.saturating_duration_since(now));
        match live {
            true => {
                self.answer(sessions, id, &waiting);
                self.steer(sessions, id);
            }
            false => self.hold(id, waiting),
        }
        if !self.tracks.get(&id).is_some_and(|track| track.has_subscriber(key)) {
            return Ok(()); // Its answer was a refusal.
        }
        // All that match, also beside one that flows already (§"Publisher Interactions"): each is asked once.
        for publisher in self.directory.publishers(&subscribe.track) {
            if Some(publisher.key) != relay {
                self.ask(sessions, id, &publisher, None, now);
            }
        }
        if live {
            return Ok(());
        }
        if !self.uplinks.is_empty() && self.tracks.get(&id).is_some_and(|track| !track.has_source_for(relay)) {
            self.ask_up(sessions, id, key, hold, now);
        }
        let track = self.tracks.get(&id);
        if track.is_some_and(|t| {
            !t.has_source_for(relay) && t.waiting.iter().any(|w| (w.key, w.request) == (key, request) && !w.rendezvous)
        }) {
            self.drop_waiting(id, key, request);
            return Err(RequestErrorCode::DoesNotExist);
        }
        Ok(())
    }

    /// TRACK_STATUS: what a SUBSCRIBE would be told, while the track is live here. Nobody is asked on its behalf.
    pub(super) fn status(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): (u64, RequestId),
        subscribe: &Subscribe,
        credentials: &Credentials,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        permit(credentials, now, |rights| rights.may_subscribe(&subscribe.track.namespace))?;
        let track = self.names.get(&subscribe.track).and_then(|id| self.tracks.get(id));
        let track = track.filter(|track| track.is_live()).ok_or(RequestErrorCode::DoesNotExist)?;
        if let Some(session) = sessions.session(key) {
            session.answer_track_status(request, track.ok());
        }
        Ok(())
    }

    fn hold(&mut self, id: u64, waiting: Waiting) {
        self.deadlines.insert((waiting.until, waiting.key, waiting.request));
        if let Some(track) = self.tracks.get_mut(&id) {
            track.waiting.push(waiting);
        }
    }

    /// SUBSCRIBE_OK: from here on objects flow.
    pub(super) fn answer(&mut self, sessions: &mut dyn Sessions, id: u64, waiting: &Waiting) {
        let Waiting { key, request, until, .. } = *waiting;
        self.deadlines.remove(&(until, key, request));
        let expires = self.now.and_then(|now| self.expires_in((key, request), now));
        let Some(track) = self.tracks.get_mut(&id) else { return };
        if ends_before(waiting.filter, track.largest()) {
            self.refuse(sessions, key, request, RequestErrorCode::InvalidRange);
            return self.forget(key, request);
        }
        let (Some(session), Some(peer)) = (sessions.session(key), self.peers.get_mut(&key)) else { return };
        session.accept_subscribe(request, SubscribeOk { expires, ..track.ok() });
        track.subscribers.push(Subscriber::new(waiting, track.largest(), &peer.account.limits));
        track.note_bounds();
        if let Some(Role::Subscription { held, .. }) = peer.requests.get_mut(&request) {
            *held = false;
        }
        self.settle(key, request);
    }

    /// Takes out a subscription that was not answered, without a word to the peer.
    pub(super) fn drop_waiting(&mut self, id: u64, key: u64, request: RequestId) {
        self.forget(key, request);
        if let Some(track) = self.tracks.get_mut(&id)
            && let Some(at) = track.waiting.iter().position(|w| (w.key, w.request) == (key, request))
        {
            let waiting = track.waiting.remove(at);
            self.deadlines.remove(&(waiting.until, key, request));
        }
        self.tidy(id);
    }

    /// The time of a held subscription is over.
    pub(super) fn give_up(&mut self, sessions: &mut dyn Sessions, id: u64, key: u64, request: RequestId) {
        self.counters.unanswered += 1;
        self.refuse(sessions, key, request, RequestErrorCode::Timeout);
        self.forget(key, request);
        if let Some(track) = self.tracks.get_mut(&id) {
            track.waiting.retain(|w| (w.key, w.request) != (key, request));
        }
        self.rest(sessions, id);
    }
}

/// A filter whose range is over already can't be satisfied (§"Subscription Filters").
fn ends_before(filter: Option<Filter>, largest: Option<Location>) -> bool {
    filter.zip(largest).is_some_and(|(filter, largest)| filter.range(Some(largest)).1 < largest)
}
