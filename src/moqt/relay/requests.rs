//! What peers ask for: SUBSCRIBE, PUBLISH, PUBLISH_NAMESPACE, SUBSCRIBE_NAMESPACE, and their withdrawal.

use std::time::Instant;

use super::directory::{Announcement, Superseded};
use super::rights::{Credentials, Lease, permit};
use super::track::{Source, State, Subscriber, Track, Waiting};
use super::{Core, Role, Sessions, constants, name_bytes, namespace_bytes, refusal};
use crate::moqt::message::{Filter, Publish, PublishOk, Subscribe, SubscribeOk, Token};
use crate::moqt::session::RequestId;
use crate::moqt::{Event, FullTrackName, RequestErrorCode, TrackNamespace};

impl Core {
    /// A new request of a peer: counted first, then authorised, then served.
    pub(super) fn handle_request(&mut self, sessions: &mut dyn Sessions, key: u64, event: Event, now: Instant) {
        let in_time = self.peers.get_mut(&key).is_some_and(|peer| peer.bucket.take(&peer.limits, now));
        let gate = |core: &mut Self, tokens: &[Token]| match in_time {
            true => core.credentials(key, tokens, now),
            false => Err(RequestErrorCode::ExcessiveLoad),
        };
        let (request, result) = match event {
            Event::Subscribe { request, subscribe } => {
                let credentials = gate(self, &subscribe.tokens);
                (request, credentials.and_then(|c| self.subscribe(sessions, (key, request), &subscribe, &c, now)))
            }
            Event::Publish { request, publish } => {
                let credentials = gate(self, &publish.tokens);
                (request, credentials.and_then(|c| self.publish(sessions, (key, request), publish, &c, now)))
            }
            Event::PublishNamespace { request, namespace, tokens } => {
                let credentials = gate(self, &tokens);
                (request, credentials.and_then(|c| self.announce(sessions, (key, request), namespace, &c, now)))
            }
            Event::SubscribeNamespace { request, prefix, tokens } => {
                let credentials = gate(self, &tokens);
                (request, credentials.and_then(|c| self.list(sessions, (key, request), prefix, c)))
            }
            _ => return,
        };
        if let Err(code) = result {
            self.refuse(sessions, key, request, code);
        }
    }

    fn refuse(&mut self, sessions: &mut dyn Sessions, key: u64, request: RequestId, code: RequestErrorCode) {
        match code {
            RequestErrorCode::Unauthorized
            | RequestErrorCode::ExpiredAuthToken
            | RequestErrorCode::MalformedAuthToken => self.counters.unauthorized += 1,
            RequestErrorCode::ExcessiveLoad => self.counters.excessive += 1,
            _ => {}
        }
        if let Some(session) = sessions.session(key) {
            session.reject(request, refusal(code));
        }
    }

    fn subscribe(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): (u64, RequestId),
        subscribe: &Subscribe,
        credentials: &Credentials,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        permit(credentials, now, |rights| rights.may_subscribe(&subscribe.track.namespace))?;
        let once = sessions.session(key).is_none_or(|session| session.draft().subscribes_once());
        self.admit_subscription(key, &subscribe.track, once)?;
        let id = self.track_id(&subscribe.track);
        let waiting = Waiting::new(key, request, subscribe, now);
        let live = self.tracks.get(&id).is_some_and(|track| track.is_live());
        self.note_subscription(key, request, id, &subscribe.track, !live);
        if live {
            self.answer(sessions, id, &waiting);
            return Ok(());
        }
        self.hold(id, waiting);
        for publisher in self.directory.publishers(&subscribe.track) {
            self.ask(sessions, id, &publisher, now);
        }
        let track = self.tracks.get(&id);
        if track.is_some_and(|t| t.sources.is_empty() && t.waiting.iter().any(|w| w.key == key && !w.rendezvous)) {
            self.drop_waiting(id, key, request);
            return Err(RequestErrorCode::DoesNotExist);
        }
        Ok(())
    }

    /// One subscription per track and session where the draft says so (§5.1), within the session's limits.
    fn admit_subscription(&mut self, key: u64, name: &FullTrackName, once: bool) -> Result<(), RequestErrorCode> {
        let track = self.names.get(name).and_then(|id| self.tracks.get(id));
        if once && track.is_some_and(|track| track.has_subscriber(key)) {
            return Err(RequestErrorCode::DuplicateSubscription);
        }
        let live = track.is_some_and(|track| track.is_live());
        let peer = self.peers.get(&key).ok_or(RequestErrorCode::InternalError)?;
        let held = if live { 0 } else { peer.held + 1 };
        let fits = peer.subscriptions < peer.limits.subscriptions
            && held <= peer.limits.held
            && peer.name_bytes + name_bytes(name) <= peer.limits.name_bytes;
        fits.then_some(()).ok_or(RequestErrorCode::ExcessiveLoad)
    }

    fn note_subscription(&mut self, key: u64, request: RequestId, track: u64, name: &FullTrackName, held: bool) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.subscriptions += 1;
            peer.held += usize::from(held);
            peer.name_bytes += name_bytes(name);
            peer.requests.insert(request, Role::Subscription { track, held, bytes: name_bytes(name) });
        }
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
        let Some(track) = self.tracks.get_mut(&id) else { return };
        if ends_before(waiting.filter, track.largest()) {
            self.refuse(sessions, key, request, RequestErrorCode::InvalidRange);
            return self.forget(key, request);
        }
        let (Some(session), Some(peer)) = (sessions.session(key), self.peers.get_mut(&key)) else { return };
        session.accept_subscribe(request, track.ok());
        track.subscribers.push(Subscriber::new(waiting, track.largest(), peer.limits.backlog_bytes));
        if let Some(Role::Subscription { held, .. }) = peer.requests.get_mut(&request) {
            peer.held -= usize::from(std::mem::take(held));
        }
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

    fn publish(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): (u64, RequestId),
        publish: Publish,
        credentials: &Credentials,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let Publish { track: name, largest, properties, .. } = publish;
        let allows = |lease: Option<&Lease>| lease.is_none_or(|lease| lease.track == name.name);
        let rights = permit(credentials, now, |r| r.may_publish(&name.namespace) && allows(r.lease()))?;
        let lease = rights.lease().cloned();
        self.admit_publication(key, name_bytes(&name))?;
        let id = self.track_id(&name);
        self.replace_own(sessions, id, key)?;
        if let Some(lease) = &lease {
            self.supersede(sessions, &name.namespace, lease, key)?;
        }
        let id = self.track_id(&name);
        if let Some(session) = sessions.session(key) {
            session.accept_publish(request, PublishOk { forward: true, priority: 128, filter: None });
        }
        let Some(track) = self.tracks.get_mut(&id) else { return Ok(()) };
        track.describe(SubscribeOk { largest, properties, ..SubscribeOk::default() });
        track.sources.push(Source { key, request, pushed: true, lease, state: State::Live, streams: 0, until: None });
        let bytes = name_bytes(&name);
        self.note_publication(key, request, Role::Publication { track: id, bytes }, bytes);
        self.answer_all(sessions, id);
        Ok(())
    }

    /// A session publishes a track once; a PUBLISH that crosses our unanswered SUBSCRIBE wins (§"Subscriptions").
    fn replace_own(&mut self, sessions: &mut dyn Sessions, id: u64, key: u64) -> Result<(), RequestErrorCode> {
        let track = self.tracks.get(&id);
        let Some(own) = track.and_then(|t| t.sources.iter().find(|source| source.key == key)) else { return Ok(()) };
        if !own.is_asked() {
            return Err(RequestErrorCode::DuplicateSubscription);
        }
        let request = own.request;
        if let Some(session) = sessions.session(key) {
            session.cancel(request);
        }
        self.forget(key, request);
        if let Some(track) = self.tracks.get_mut(&id) {
            track.remove_source(key, request);
        }
        Ok(())
    }

    fn admit_publication(&mut self, key: u64, bytes: usize) -> Result<(), RequestErrorCode> {
        let peer = self.peers.get(&key).ok_or(RequestErrorCode::InternalError)?;
        let fits = peer.publications < peer.limits.publications && peer.name_bytes + bytes <= peer.limits.name_bytes;
        fits.then_some(()).ok_or(RequestErrorCode::ExcessiveLoad)
    }

    fn note_publication(&mut self, key: u64, request: RequestId, role: Role, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.publications += 1;
            peer.name_bytes += bytes;
            peer.requests.insert(request, role);
        }
    }

    fn announce(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): (u64, RequestId),
        namespace: TrackNamespace,
        credentials: &Credentials,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let rights = permit(credentials, now, |rights| rights.may_publish(&namespace))?;
        let lease = rights.lease().cloned();
        self.admit_publication(key, namespace_bytes(&namespace))?;
        let ghosts = match &lease {
            Some(lease) => self.stale_sources(&namespace, lease, key)?,
            None => Vec::new(),
        };
        let bytes = namespace_bytes(&namespace);
        self.note_publication(key, request, Role::Announcement(namespace.clone()), bytes);
        if let Some(session) = sessions.session(key) {
            session.accept(request);
        }
        let announcement = Announcement { key, request, lease, superseded: false };
        if self.directory.announce(namespace.clone(), announcement.clone()) {
            self.tell(sessions, &namespace, true);
        }
        // §"Publisher Interactions": whoever is subscribed or waits hears the new publisher too.
        for id in self.tracks_under(&namespace) {
            let wanted = |track: &Track| track.is_wanted() && announcement.offers(&track.name.name);
            if self.tracks.get(&id).is_some_and(wanted) {
                self.ask(sessions, id, &announcement, now);
            }
        }
        self.drop_ghosts(sessions, ghosts);
        Ok(())
    }

    /// Publications that this lease replaces: their announcements are retired, their sources are
    /// returned, to be dropped once the new publisher was asked.
    fn stale_sources(
        &mut self,
        namespace: &TrackNamespace,
        lease: &Lease,
        key: u64,
    ) -> Result<Vec<(u64, u64, RequestId)>, RequestErrorCode> {
        let older = |other: &Lease| other.excludes(lease);
        let mut ghosts = Vec::new();
        for id in self.tracks_under(namespace) {
            let Some(track) = self.tracks.get(&id) else { continue };
            for source in track.sources.iter().filter(|source| source.lease.as_ref().is_some_and(older)) {
                if source.lease.as_ref().is_some_and(|other| other.epoch > lease.epoch) {
                    return Err(RequestErrorCode::Unauthorized);
                }
                if source.key != key {
                    ghosts.push((id, source.key, source.request));
                }
            }
        }
        let replaced = self.directory.supersede(namespace, lease);
        let replaced = replaced.map_err(|Superseded| RequestErrorCode::Unauthorized)?;
        self.counters.superseded += replaced as u64;
        Ok(ghosts)
    }

    fn supersede(
        &mut self,
        sessions: &mut dyn Sessions,
        namespace: &TrackNamespace,
        lease: &Lease,
        key: u64,
    ) -> Result<(), RequestErrorCode> {
        let ghosts = self.stale_sources(namespace, lease, key)?;
        self.drop_ghosts(sessions, ghosts);
        Ok(())
    }

    fn drop_ghosts(&mut self, sessions: &mut dyn Sessions, ghosts: Vec<(u64, u64, RequestId)>) {
        for (id, key, request) in ghosts {
            self.cancel_source(sessions, id, key, request);
        }
    }

    fn list(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): (u64, RequestId),
        prefix: TrackNamespace,
        credentials: Credentials,
    ) -> Result<(), RequestErrorCode> {
        if self.directory.overlaps(key, &prefix) {
            return Err(RequestErrorCode::PrefixOverlap);
        }
        let bytes = namespace_bytes(&prefix);
        self.admit_publication(key, bytes)?;
        let may_see = |namespace: &&TrackNamespace| credentials.iter().any(|rights| rights.may_subscribe(namespace));
        let shown: Vec<_> = self.directory.under(&prefix).filter(may_see).take(constants::LISTED + 1).collect();
        if shown.len() > constants::LISTED {
            return Err(RequestErrorCode::NamespaceTooLarge);
        }
        if let Some(session) = sessions.session(key) {
            session.accept(request);
            for suffix in shown.iter().filter_map(|namespace| namespace.strip_prefix(&prefix)) {
                session.namespace(request, &suffix);
            }
        }
        self.directory.list(key, request, prefix, credentials);
        self.note_publication(key, request, Role::Listing { bytes }, bytes);
        Ok(())
    }

    /// NAMESPACE or NAMESPACE_DONE to everybody who listens and may know.
    fn tell(&mut self, sessions: &mut dyn Sessions, namespace: &TrackNamespace, announced: bool) {
        for (key, request, suffix) in self.directory.listeners(namespace) {
            let Some(session) = sessions.session(key) else { continue };
            match announced {
                true => session.namespace(request, &suffix),
                false => session.namespace_done(request, &suffix),
            }
        }
    }

    pub(super) fn handle_cancelled(&mut self, sessions: &mut dyn Sessions, key: u64, request: RequestId) {
        self.withdraw(sessions, key, request);
    }

    /// A request is over because its peer withdrew it or is gone.
    pub(super) fn withdraw(&mut self, sessions: &mut dyn Sessions, key: u64, request: RequestId) {
        match self.peers.get(&key).and_then(|peer| peer.requests.get(&request)).cloned() {
            Some(Role::Subscription { track, held: true, .. }) => {
                self.drop_waiting(track, key, request);
                self.rest(sessions, track);
            }
            Some(Role::Subscription { track, held: false, .. }) => {
                self.forget(key, request);
                if let Some(track) = self.tracks.get_mut(&track) {
                    track.subscribers.retain(|s| (s.key, s.request) != (key, request));
                }
                self.rest(sessions, track);
            }
            Some(Role::Source { track } | Role::Publication { track, .. }) => {
                self.lose_source(sessions, track, key, request);
            }
            Some(Role::Announcement(namespace)) => {
                self.forget(key, request);
                if self.directory.withdraw(&namespace, key, request) {
                    self.tell(sessions, &namespace, false);
                }
            }
            Some(Role::Listing { .. }) => {
                self.forget(key, request);
                self.directory.unlist(key, request);
            }
            None => {}
        }
    }
}

/// A filter whose range is over already can't be satisfied (§"Subscription Filters").
fn ends_before(filter: Option<Filter>, largest: Option<crate::moqt::message::Location>) -> bool {
    filter.zip(largest).is_some_and(|(filter, largest)| filter.range(Some(largest)).1 < largest)
}
