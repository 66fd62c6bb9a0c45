//! PUBLISH and PUBLISH_NAMESPACE: who may speak, who speaks no longer, and who is asked because of it.

use std::time::Instant;

use super::accounts::Cost;
use super::directory::{Announcement, Superseded};
use super::rights::{Credentials, Lease, permit};
use super::track::{Source, State, Track};
use super::{Core, Role, Sessions, name_bytes, namespace_bytes};
use crate::moqt::message::{Publish, PublishOk, SubscribeOk};
use crate::moqt::session::RequestId;
use crate::moqt::{RequestErrorCode, TrackNamespace};

impl Core {
    pub(super) fn publish(
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
        self.charge((key, request), Some(rights), Cost::Publication { bytes: name_bytes(&name) }, now)?;
        let id = self.track_id(&name);
        let replaced = self.replace_own(sessions, id, key);
        let ghosts = replaced.and_then(|()| match &lease {
            Some(lease) => self.stale_sources(&name.namespace, lease, key),
            None => Ok(Ghosts::default()),
        });
        let ghosts = ghosts.inspect_err(|_| {
            self.forget(key, request);
            self.tidy(id);
        })?;
        let expires = self.expires_in((key, request), now);
        let Some(track) = self.tracks.get_mut(&id) else { return Ok(()) };
        // Nobody may listen yet (§"Publisher Interactions").
        let forward = track.is_heard_from(key);
        if let Some(session) = sessions.session(key) {
            session.accept_publish(request, PublishOk { forward, priority: 128, filter: None, expires });
        }
        track.describe(SubscribeOk { largest, properties, ..SubscribeOk::default() });
        track.sources.push(Source {
            key,
            request,
            held: false,
            pushed: true,
            lease,
            forward,
            state: State::Live,
            streams: 0,
            until: None,
        });
        self.note(key, request, Role::Publication { track: id });
        self.answer_all(sessions, id);
        self.offer_all(sessions, id);
        self.drop_ghosts(sessions, ghosts);
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

    pub(super) fn announce(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): (u64, RequestId),
        namespace: TrackNamespace,
        credentials: &Credentials,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let rights = permit(credentials, now, |rights| rights.may_publish(&namespace))?;
        let lease = rights.lease().cloned();
        self.charge((key, request), Some(rights), Cost::Publication { bytes: namespace_bytes(&namespace) }, now)?;
        let ghosts = match &lease {
            Some(lease) => self.stale_sources(&namespace, lease, key).inspect_err(|_| self.forget(key, request))?,
            None => Ghosts::default(),
        };
        self.note(key, request, Role::Announcement(namespace.clone()));
        if let Some(session) = sessions.session(key).filter(|_| !self.awaits_up(&namespace, key)) {
            session.accept(request);
        }
        let announcement = Announcement { key, request, lease, superseded: false };
        self.directory.announce(namespace.clone(), announcement.clone());
        self.tell(sessions, &namespace, key, true);
        self.ask_for_wanted(sessions, &namespace, &announcement, now);
        self.drop_ghosts(sessions, ghosts);
        Ok(())
    }

    /// §"Publisher Interactions": whoever is subscribed or waits hears the new publisher too.
    pub(super) fn ask_for_wanted(
        &mut self,
        sessions: &mut dyn Sessions,
        namespace: &TrackNamespace,
        publisher: &Announcement,
        now: Instant,
    ) {
        for id in self.tracks_under(namespace) {
            let wanted = |track: &Track| track.is_wanted_from(publisher.key) && publisher.offers(&track.name.name);
            if self.tracks.get(&id).is_some_and(wanted) {
                self.ask(sessions, id, publisher, None, now);
            }
        }
    }

    /// Publications that this lease replaces: their announcements are retired, their sources are
    /// returned, to be dropped once the new publisher was asked.
    fn stale_sources(
        &mut self,
        namespace: &TrackNamespace,
        lease: &Lease,
        key: u64,
    ) -> Result<Ghosts, RequestErrorCode> {
        let older = |other: &Lease| other.excludes(lease);
        let mut ghosts = Ghosts::default();
        for id in self.tracks_under(namespace) {
            let Some(track) = self.tracks.get(&id) else { continue };
            for source in track.sources.iter().filter(|source| source.lease.as_ref().is_some_and(older)) {
                if source.lease.as_ref().is_some_and(|other| other.epoch > lease.epoch) {
                    return Err(RequestErrorCode::Unauthorized);
                }
                if source.key != key {
                    ghosts.sources.push((id, source.key, source.request));
                }
            }
        }
        let replaced = self.directory.supersede(namespace, lease);
        let replaced = replaced.map_err(|Superseded| RequestErrorCode::Unauthorized)?;
        self.counters.superseded += replaced.len() as u64;
        ghosts.announcements = replaced.into_iter().filter(|(other, _)| self.relay(*other).is_some()).collect();
        Ok(ghosts)
    }

    fn drop_ghosts(&mut self, sessions: &mut dyn Sessions, ghosts: Ghosts) {
        for (id, key, request) in ghosts.sources {
            self.cancel_source(sessions, id, key, request);
        }
        for (key, request) in ghosts.announcements {
            if let Some(session) = sessions.session(key) {
                session.cancel(request);
            }
            self.withdraw(sessions, key, request);
        }
    }
}

/// What a newer epoch replaces.
#[derive(Default)]
struct Ghosts {
    /// By track, session and request.
    sources: Vec<(u64, u64, RequestId)>,
    /// Of other relays, which learn by their end that the speaker behind them is to fall silent.
    announcements: Vec<(u64, RequestId)>,
}
