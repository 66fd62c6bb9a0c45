//! SUBSCRIBE_TRACKS (§10.19): every track that flows here is offered by PUBLISH to whoever asked for all of its namespace.
//!
//! An *interest* is one accepted SUBSCRIBE_TRACKS, an *offer* our PUBLISH without an answer. Offered is what has an Established upstream
//! subscription, by whichever message it came about: what flows when the interest comes, what is published later, and what begins to
//! flow because somebody else subscribed. Nobody is offered what it publishes, has, waits for or may not hear. An offer asks
//! nothing of the publisher; its acceptance makes it a subscription like others. An offer that a limit forbids is
//! PUBLISH_BLOCKED, once and for all of the interest's life (§"Subscribing to Namespaces").

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Instant;

use super::accounts::Cost;
use super::interests::Interest;
use super::rights::{Credentials, permit};
use super::track::{Subscriber, Track};
use super::{Core, Role, Sessions, constants, name_bytes, namespace_bytes};
use crate::moqt::message::{Filter, Publish, PublishBlocked, PublishDone, Wishes};
use crate::moqt::session::RequestId;
use crate::moqt::{FullTrackName, PublishDoneCode, RequestErrorCode, TrackNamespace};

/// A request, by session.
type Who = (u64, RequestId);

/// Our PUBLISH to a peer that has not answered it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) key: u64,
    pub(super) request: RequestId,
    filter: Option<Filter>,
}

impl Core {
    pub(super) fn list_tracks(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): Who,
        (prefix, wishes): (TrackNamespace, Wishes),
        credentials: Credentials,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let in_one = sessions.session(key).is_some_and(|session| session.draft().lists_in_one());
        if self.interests.overlaps(key, &prefix, None) || in_one && self.directory.overlaps(key, &prefix, None) {
            return Err(RequestErrorCode::PrefixOverlap);
        }
        self.charge((key, request), credentials.first(), Cost::Publication { bytes: namespace_bytes(&prefix) }, now)?;
        self.may_begin(key, &prefix, now).inspect_err(|_| self.forget(key, request))?;
        if let Some(session) = sessions.session(key) {
            session.accept(request);
        }
        self.note(key, request, Role::Interest);
        self.begin_interest(sessions, (key, request), (prefix, wishes), credentials, now);
        Ok(())
    }

    /// What flows under the prefix is not too much, and paid for.
    pub(super) fn may_begin(
        &mut self,
        key: u64,
        prefix: &TrackNamespace,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let tracks = self.flowing_under(prefix).len();
        self.may_list(key, tracks)?;
        self.pay_for_offers(key, tracks, now)
    }

    fn flowing_under(&self, prefix: &TrackNamespace) -> Vec<u64> {
        let flowing = |id: &u64| self.tracks.get(id).is_some_and(Track::is_live);
        self.tracks_under(prefix).into_iter().filter(flowing).collect()
    }

    /// Of an accepted SUBSCRIBE_TRACKS, or of draft 16's SUBSCRIBE_NAMESPACE that asks for both.
    pub(super) fn begin_interest(
        &mut self,
        sessions: &mut dyn Sessions,
        who: Who,
        (prefix, wishes): (TrackNamespace, Wishes),
        credentials: Credentials,
        now: Instant,
    ) {
        let (tracks, relay) = (self.flowing_under(&prefix), self.relay(who.0).is_some());
        let interest = Interest { relay, prefix: prefix.clone(), wishes, credentials, blocked: HashSet::new() };
        self.interests.add(who, interest);
        for id in tracks {
            self.offer(sessions, id, who, now);
        }
        if !relay {
            self.ask_abroad(sessions, &prefix);
        }
    }

    /// Nothing more is offered; what was is another matter.
    pub(super) fn end_interest(&mut self, sessions: &mut dyn Sessions, who: Who) {
        if let Some(interest) = self.interests.remove(who).filter(|interest| !interest.relay) {
            self.unask_abroad(sessions, &interest.prefix);
        }
    }

    /// What flows under a prefix is offered all at once to who asks anew, as often as it asks: that counts as requests too, one for each
    /// [`constants::OFFERS_PER_REQUEST`] tracks, as far as a burst goes.
    pub(super) fn pay_for_offers(&mut self, key: u64, tracks: usize, now: Instant) -> Result<(), RequestErrorCode> {
        self.pay(key, tracks / constants::OFFERS_PER_REQUEST, now)
    }

    /// The same of the namespaces that a listing is told at once, [`constants::NAMESPACES_PER_REQUEST`].
    pub(super) fn pay_for_listing(&mut self, key: u64, told: usize, now: Instant) -> Result<(), RequestErrorCode> {
        self.pay(key, told / constants::NAMESPACES_PER_REQUEST, now)
    }

    fn pay(&mut self, key: u64, requests: usize, now: Instant) -> Result<(), RequestErrorCode> {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        let paid = self.account(key).map_or(Ok(()), |account| account.take_more(requests, now));
        paid.map_err(|beyond| {
            beyond.count(&mut self.counters);
            RequestErrorCode::ExcessiveLoad
        })
    }

    /// What an interest may have now.
    pub(super) fn wanted_by(&mut self, who: Who) -> Result<Vec<u64>, RequestErrorCode> {
        let prefix = self.interests.find(who).map(|interest| interest.prefix.clone());
        let tracks = prefix.map_or_else(Vec::new, |prefix| self.flowing_under(&prefix));
        self.may_list(who.0, tracks.len()).map(|()| tracks)
    }

    /// A prefix with so much under it is not too large for this session.
    pub(super) fn may_list(&mut self, key: u64, count: usize) -> Result<(), RequestErrorCode> {
        if count <= self.listed(key) {
            return Ok(());
        }
        self.counters.over_listed += 1;
        Err(RequestErrorCode::NamespaceTooLarge)
    }

    pub(super) fn listed(&self, key: u64) -> usize {
        self.peers.get(&key).map_or(0, |peer| peer.account.limits.listed)
    }

    /// The track flows: everybody who asked for its namespace is to have it.
    pub(super) fn offer_all(&mut self, sessions: &mut dyn Sessions, id: u64) {
        let (Some(now), Some(track)) = (self.now, self.tracks.get(&id)) else { return };
        for who in self.interests.of(&track.name.namespace) {
            self.offer(sessions, id, who, now);
        }
    }

    pub(super) fn offer(&mut self, sessions: &mut dyn Sessions, id: u64, who: Who, now: Instant) {
        let Some(track) = self.tracks.get(&id).filter(|track| self.is_news(track, who.0)) else { return };
        let Some(interest) = self.interests.find(who) else { return };
        let (name, namespace) = (&track.name, &track.name.namespace);
        // What its holder may not hear does not exist for it.
        let Ok(rights) = permit(&interest.credentials, now, |rights| rights.may_subscribe(namespace)) else { return };
        let (rights, wishes) = (rights.clone(), interest.wishes);
        if interest.blocked.contains(&hash(name)) {
            return;
        }
        let ok = track.ok();
        let publish = Publish {
            track: name.clone(),
            forward: wishes.forward,
            largest: ok.largest,
            expires: self.would_expire_in(who.0, &rights, now),
            tokens: Vec::new(),
            properties: ok.track_properties(),
        };
        let cost = Cost::Offer { bytes: name_bytes(name) };
        let Some(session) = sessions.session(who.0) else { return };
        let Ok(token) = self.afford(who.0, Some(&rights), cost, now) else {
            return self.block(sessions, publish.track, who);
        };
        let request = session.offer_with(publish, &wishes);
        self.grant((who.0, request), Some(&rights), token, cost);
        self.counters.offers += 1;
        self.note(who.0, request, Role::Offer { track: id });
        if let Some(track) = self.tracks.get_mut(&id) {
            track.offers.push(Offer { key: who.0, request, filter: wishes.filter });
        }
    }

    /// The session does not have the track, and could. Another shard is offered what users publish here.
    fn is_news(&self, track: &Track, key: u64) -> bool {
        let takes = self.draining.is_none() && self.peers.get(&key).is_some_and(|peer| !peer.leaving);
        let relay = self.relay(key).is_some();
        let mut live = track.sources.iter().filter(|source| !source.is_asked());
        let flows = live.any(|source| !relay || self.relay(source.key).is_none());
        takes && flows && !track.has_source(key) && !track.has_subscriber(key)
    }

    /// PUBLISH_BLOCKED. A session that has so many of them that they can't be remembered loses its interest.
    fn block(&mut self, sessions: &mut dyn Sessions, name: FullTrackName, (key, request): Who) {
        let Some(interest) = self.interests.find((key, request)) else { return };
        interest.blocked.insert(hash(&name));
        let beyond = interest.blocked.len() > constants::BLOCKED;
        let suffix = name.namespace.strip_prefix(&interest.prefix);
        self.counters.offers_blocked += 1;
        let (Some(session), Some(suffix)) = (sessions.session(key), suffix) else { return };
        session.publish_blocked(request, PublishBlocked { suffix, name: name.name });
        if beyond {
            session.cancel(request);
            self.withdraw(sessions, key, request);
        }
    }

    /// PUBLISH_OK: from here on objects flow. `true`: it was an offer.
    pub(super) fn handle_taken(&mut self, sessions: &mut dyn Sessions, (key, request): Who) -> bool {
        let Some(Role::Offer { track: id }) = self.peers.get(&key).and_then(|p| p.requests.get(&request)).cloned()
        else {
            return false;
        };
        let relay = self.relay(key);
        let (Some(track), Some(peer)) = (self.tracks.get_mut(&id), self.peers.get(&key)) else { return true };
        let at = track.offers.iter().position(|offer| (offer.key, offer.request) == (key, request));
        let filter = at.and_then(|at| track.offers.swap_remove(at).filter);
        let forward = sessions.session(key).is_some_and(|session| session.is_forwarding(request));
        let largest = track.largest();
        let mut subscriber = Subscriber::pushed((key, request, relay), forward, largest, &peer.account.limits);
        subscriber.narrow(filter, largest);
        track.subscribers.push(subscriber);
        track.note_bounds();
        self.note(key, request, Role::Subscription { track: id, held: false });
        self.steer(sessions, id);
        true
    }

    /// The offer is over without an answer, or with a refusal. `true`: it was one.
    pub(super) fn drop_offer(&mut self, (key, request): Who) -> bool {
        let Some(Role::Offer { track: id }) = self.peers.get(&key).and_then(|p| p.requests.get(&request)).cloned()
        else {
            return false;
        };
        self.forget(key, request);
        if let Some(track) = self.tracks.get_mut(&id) {
            track.offers.retain(|offer| (offer.key, offer.request) != (key, request));
        }
        true
    }

    /// PUBLISH_DONE to an offer.
    pub(super) fn end_offer(&mut self, sessions: &mut dyn Sessions, (key, request): Who, code: PublishDoneCode) {
        if self.drop_offer((key, request))
            && let Some(session) = sessions.session(key)
        {
            let reason = "the track is no longer offered".to_owned();
            session.end_publication(request, PublishDone { code: code as u64, streams: 0, reason });
        }
    }

    /// What does not flow any more is not offered any more.
    pub(super) fn end_offers(&mut self, sessions: &mut dyn Sessions, id: u64) {
        let Some(track) = self.tracks.get(&id).filter(|track| !track.is_live()) else { return };
        for Offer { key, request, .. } in track.offers.clone() {
            self.end_offer(sessions, (key, request), PublishDoneCode::InternalError);
        }
    }
}

/// Of a track that is remembered and not kept. Whoever finds two of one hash keeps a track from being offered, no more.
fn hash(name: &FullTrackName) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
