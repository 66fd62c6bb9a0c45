//! What we ask of peers: PUBLISH_NAMESPACE and SUBSCRIBE, their repetition, and the tokens they carry.

use std::time::{Duration, Instant};

use super::slot::SlotId;
use super::{Pool, Role, Timer};
use crate::moqt::message::{RequestError, Subscribe, SubscribeOk, Update};
use crate::moqt::session::RequestId;
use crate::moqt::{Draft, FullTrackName, RequestErrorCode, TrackNamespace};
use crate::net::LinkId;
use crate::tracks::retry::{Asking, Due, RENEWALS, Remedy};
use crate::tracks::subscriber::Shared;
use crate::tracks::{Event, LeaseId, Tokens, TrackId, Wires};

/// How long a peer may hold a SUBSCRIBE until somebody publishes; then it is repeated.
const RENDEZVOUS_TIMEOUT: Duration = Duration::from_secs(30);

/// One namespace of one lease on one link.
#[derive(Debug, Default)]
pub(super) struct Announcement {
    pub(super) request: Option<RequestId>,
    /// The one with older tokens, which stands until this one is accepted.
    before: Option<RequestId>,
    /// When the peer sent it away last and was followed.
    pub(super) moved_at: Option<Instant>,
    pub(super) asking: Asking,
}

impl Pool {
    pub(super) fn tokens(&self, lease: LeaseId) -> Tokens {
        self.leases.get(&lease).map(|lease| lease.tokens.clone()).unwrap_or_default()
    }

    // ---- namespaces ----

    pub(super) fn announce_on_current(&mut self, links: &mut impl Wires, lease: LeaseId, namespace: TrackNamespace) {
        let tokens = self.tokens(lease);
        let slot = self.leases.get(&lease).and_then(|lease| self.slots.get_mut(&lease.slot));
        // §"GOAWAY": nothing new is asked of a peer that wants to be left; on the next link everything is.
        let Some(link) = slot.and_then(|slot| slot.current.as_mut()).filter(|link| !link.going_away) else { return };
        let Some(session) = links.session(link.id) else { return };
        let request = session.publish_namespace(namespace.clone(), tokens);
        for (listing, prefix) in &link.listings {
            if let Some(suffix) = namespace.strip_prefix(prefix) {
                session.namespace(*listing, &suffix);
            }
        }
        let announcement = link.announced.entry((lease, namespace.clone())).or_default();
        let replaced = announcement.request.replace(request);
        let stale = announcement.before.take();
        announcement.before = replaced.or(stale);
        if let Some(stale) = stale.filter(|_| replaced.is_some()) {
            session.cancel(stale);
            self.roles.remove(&(link.id, stale));
        }
        self.roles.insert((link.id, request), Role::Announcement(lease, namespace));
    }

    /// The lease publishes nothing more in the namespace.
    fn withdraw_namespace(&mut self, links: &mut impl Wires, lease: LeaseId, namespace: &TrackNamespace) {
        let slot = self.leases.get(&lease).and_then(|lease| self.slots.get_mut(&lease.slot));
        let Some(slot) = slot else { return };
        for link in slot.current.iter_mut().chain(&mut slot.old) {
            let Some(announcement) = link.announced.remove(&(lease, namespace.clone())) else { continue };
            let Some(session) = links.session(link.id) else { continue };
            for request in announcement.request.into_iter().chain(announcement.before) {
                session.cancel(request);
                self.roles.remove(&(link.id, request));
            }
            for (listing, prefix) in &link.listings {
                if let Some(suffix) = namespace.strip_prefix(prefix) {
                    session.namespace_done(*listing, &suffix);
                }
            }
        }
    }

    pub(super) fn repeat_announcements(&mut self, links: &mut impl Wires, id: SlotId) {
        let now = self.now;
        let Some(link) = self.slots.get_mut(&id).and_then(|slot| slot.current.as_mut()) else { return };
        let polled = link.announced.iter_mut().filter_map(|(key, a)| Some((key.clone(), a.asking.poll(now)?)));
        for ((lease, namespace), due) in polled.collect::<Vec<_>>() {
            match due {
                Due::Ask => self.announce_on_current(links, lease, namespace),
                Due::Refused(error) => {
                    self.no_tokens_came(Some(lease));
                    self.tell_refused_namespace(lease, &namespace, &error);
                }
            }
        }
    }

    pub(super) fn announcement_accepted(
        &mut self,
        links: &mut impl Wires,
        id: SlotId,
        (link, request): (LinkId, RequestId),
        (lease, namespace): (LeaseId, TrackNamespace),
    ) {
        let slot = self.slots.get_mut(&id);
        if let Some(announcement) =
            slot.and_then(|slot| slot.link(link)).and_then(|link| link.announced.get_mut(&(lease, namespace)))
            && announcement.request == Some(request)
        {
            announcement.asking.accepted();
            if let Some(before) = announcement.before.take() {
                links.session(link).into_iter().for_each(|session| session.cancel(before));
                self.roles.remove(&(link, before));
            }
        }
        self.tokens_work(id, lease);
    }

    pub(super) fn announcement_refused(
        &mut self,
        id: SlotId,
        (link, request): (LinkId, RequestId),
        (lease, namespace): (LeaseId, &TrackNamespace),
        error: &RequestError,
    ) {
        let (now, slot) = (self.now, self.slots.get_mut(&id));
        let Some(announcement) =
            slot.and_then(|slot| slot.link(link)).and_then(|link| link.announced.get_mut(&(lease, namespace.clone())))
        else {
            return;
        };
        if announcement.request != Some(request) {
            // The older one ends: the newer is what counts.
            announcement.before.take_if(|before| *before == request);
            return;
        }
        announcement.request = announcement.before.take();
        let stands = announcement.request.is_some();
        let remedy = announcement.asking.refused(error, &mut self.random, now);
        let hopeless = match remedy {
            Remedy::Again(_) => false,
            Remedy::Tokens => !self.want_tokens(lease),
            Remedy::Never => true,
        };
        if hopeless {
            let slot = self.slots.get_mut(&id);
            let link = slot.and_then(|slot| slot.link(link));
            link.and_then(|link| link.announced.get_mut(&(lease, namespace.clone())))
                .into_iter()
                .for_each(|announcement| announcement.asking.give_up());
            if !stands {
                self.tell_refused_namespace(lease, namespace, error);
            }
        }
        self.arm_slot(id);
    }

    fn tell_refused_namespace(&mut self, lease: LeaseId, namespace: &TrackNamespace, error: &RequestError) {
        let tracks = self.leases.get(&lease).map(|lease| lease.tracks.clone()).unwrap_or_default();
        let inside = |track: &TrackId| self.publishers.get(track).is_some_and(|p| p.name.namespace == *namespace);
        let refused = tracks.into_iter().filter(inside).map(|track| refused(track, error)).collect::<Vec<_>>();
        self.events.extend(refused);
    }

    // ---- subscriptions ----

    /// SUBSCRIBE on the slot's current link, unless a request there brings the track already.
    pub(super) fn ask(&mut self, links: &mut impl Wires, track: TrackId) {
        let Some(subscriber) = self.subscribers.get(&track).filter(|subscriber| !subscriber.ended) else { return };
        let Some(lease) = self.leases.get(&subscriber.lease) else { return };
        let slot = self.slots.get(&lease.slot);
        let standing = slot.and_then(|slot| Some((slot, slot.current.as_ref().filter(|link| !link.going_away)?.id)));
        let Some((slot, link)) = standing else { return };
        if subscriber.is_fed_by(link) {
            return;
        }
        let mut others = slot.wanted.get(&subscriber.name).into_iter().flatten();
        let shared = others.find_map(|other| self.subscribers.get(other)?.share(link));
        if let Some(shared) = shared {
            return self.join(track, shared);
        }
        let Some(session) = links.session(link) else { return };
        let request = session.subscribe(subscribe(subscriber.name.clone(), lease.tokens.clone()));
        self.roles.insert((link, request), Role::Subscription(vec![track]));
        if let Some(subscriber) = self.subscribers.get_mut(&track) {
            subscriber.add_feed(link, request);
            subscriber.asking.due = None;
            self.counters.resubscribes += u64::from(std::mem::replace(&mut subscriber.asked, true));
        }
        self.arm_track(track);
    }

    /// What is due: a request, or fresh tokens for the one that stands.
    fn ask_or_show(&mut self, links: &mut impl Wires, track: TrackId) {
        if !self.show_tokens(links, track) {
            self.ask(links, track);
        }
    }

    /// The tokens of now, for a request that stands on the slot's current link. `false`: none does.
    fn show_tokens(&mut self, links: &mut impl Wires, track: TrackId) -> bool {
        let Some(subscriber) = self.subscribers.get(&track) else { return false };
        let Some(lease) = self.leases.get(&subscriber.lease) else { return false };
        let slot = self.slots.get(&lease.slot);
        let current = slot.and_then(|slot| slot.current.as_ref()).map(|link| link.id);
        let Some(feed) = subscriber.feeds.iter().find(|feed| Some(feed.link) == current && feed.live) else {
            return false;
        };
        let session = links.session(feed.link);
        session.is_some_and(|session| session.update(feed.request, Update::renewal(lease.tokens.clone())))
    }

    /// Another track of the same name is subscribed on the link: its request serves this one too.
    fn join(&mut self, track: TrackId, shared: Shared) {
        if let Some(Role::Subscription(tracks)) = self.roles.get_mut(&shared.feed()) {
            tracks.push(track);
        }
        let Some(subscriber) = self.subscribers.get_mut(&track) else { return };
        subscriber.asking.due = None;
        subscriber.asked = true;
        if subscriber.join(shared) {
            self.events.push_back(Event::Live { track });
        }
        self.arm_track(track);
    }

    /// The namespace of these tracks was announced: those that wait need not wait longer. `false`: nobody wants one.
    pub(super) fn ask_in(&mut self, id: SlotId, namespace: &TrackNamespace) -> bool {
        let now = self.now;
        let Some(slot) = self.slots.get(&id) else { return false };
        let inside = slot.wanted.iter().filter(|(name, _)| name.namespace.starts_with(namespace));
        let wanted: Vec<_> = inside.flat_map(|(_, tracks)| tracks).copied().collect();
        for track in &wanted {
            if let Some(subscriber) = self.subscribers.get_mut(track) {
                subscriber.asking.hurry(now);
            }
            self.arm_track(*track);
        }
        !wanted.is_empty()
    }

    pub(super) fn subscription_accepted(
        &mut self,
        links: &mut impl Wires,
        id: SlotId,
        (link, request, track): (LinkId, RequestId, TrackId),
        ok: &SubscribeOk,
    ) {
        let Some(subscriber) = self.subscribers.get_mut(&track) else { return };
        let lease = subscriber.lease;
        if ok.properties.has_mandatory() {
            // §2.5.1: who does not know such a property must not touch the track.
            links.session(link).into_iter().for_each(|session| session.cancel(request));
            self.roles.remove(&(link, request));
            let reason = "the track has a property that must be understood and is not known here";
            let error = RequestError::new(RequestErrorCode::UnsupportedExtension, reason);
            return self.subscription_refused(links, (link, request, track), &error);
        }
        let draft = links.session(link).map_or(Draft::D18, |session| session.draft());
        if subscriber.accept((link, request), ok, draft) {
            self.events.push_back(Event::Live { track });
        }
        self.note_moved((link, request, track));
        self.arm_track(track);
        self.tokens_work(id, lease);
    }

    pub(super) fn subscription_refused(
        &mut self,
        links: &mut impl Wires,
        (link, request, track): (LinkId, RequestId, TrackId),
        error: &RequestError,
    ) {
        let now = self.now;
        if self.makes_room(links, (link, track), error) {
            return self.lose_feed(track, (link, request), &error.reason);
        }
        let Some(subscriber) = self.subscribers.get_mut(&track) else { return };
        subscriber.remove_feed(link, request);
        let lease = subscriber.lease;
        let absent = !subscriber.feeds.iter().any(|feed| feed.live);
        let remedy = subscriber.asking.refused(error, &mut self.random, now);
        if absent && matches!(remedy, Remedy::Again(_)) {
            self.events.push_back(Event::Lost { track, reason: error.reason.clone() });
        }
        let hopeless = match remedy {
            Remedy::Again(_) => false,
            Remedy::Tokens => !self.want_tokens(lease),
            Remedy::Never => true,
        };
        if hopeless {
            self.subscribers.get_mut(&track).into_iter().for_each(|subscriber| subscriber.asking.give_up());
            self.events.push_back(refused(track, error));
        }
        self.arm_track(track);
    }

    /// A request that brought these tracks is over. They are asked for again on the link that stands now.
    pub(super) fn lose_feeds(&mut self, tracks: Vec<TrackId>, feed: (LinkId, RequestId), reason: &str) {
        self.roles.remove(&feed);
        for track in tracks {
            self.lose_feed(track, feed, reason);
        }
    }

    fn lose_feed(&mut self, track: TrackId, (link, request): (LinkId, RequestId), reason: &str) {
        let now = self.now;
        let Some(subscriber) = self.subscribers.get_mut(&track) else { return };
        if !subscriber.remove_feed(link, request) || subscriber.ended {
            return self.arm_track(track);
        }
        let slot = self.leases.get(&subscriber.lease).and_then(|lease| self.slots.get(&lease.slot));
        let current = slot.and_then(|slot| slot.current.as_ref()).map(|link| link.id);
        if current.is_some_and(|current| !subscriber.is_fed_by(current)) {
            subscriber.asking.soon(&mut self.random, now);
        }
        if subscriber.is_lost() {
            self.events.push_back(Event::Lost { track, reason: reason.to_owned() });
        }
        self.arm_track(track);
    }

    /// Requests of a track that said PUBLISH_DONE and bring nothing more.
    pub(super) fn finish_feeds(&mut self, track: TrackId) {
        let now = self.now;
        while let Some((link, request, reason)) = self.subscribers.get(&track).and_then(|s| s.finished(now)) {
            let shared = match self.roles.get(&(link, request)) {
                Some(Role::Subscription(tracks)) => tracks.clone(),
                _ => vec![track],
            };
            self.lose_feeds(shared, (link, request), &reason);
        }
    }

    pub(super) fn track_timeout(&mut self, links: &mut impl Wires, track: TrackId) {
        let now = self.now;
        self.leave_feeds(links, track);
        self.finish_feeds(track);
        match self.subscribers.get_mut(&track).and_then(|subscriber| subscriber.asking.poll(now)) {
            Some(Due::Ask) => self.ask_or_show(links, track),
            Some(Due::Refused(error)) => {
                let lease = self.subscribers.get(&track).map(|subscriber| subscriber.lease);
                self.no_tokens_came(lease);
                self.events.push_back(refused(track, &error));
            }
            None => {}
        }
        self.arm_track(track);
    }

    // ---- withdrawal ----

    /// Takes a track back from every link, without an end.
    pub(super) fn withdraw(&mut self, links: &mut impl Wires, track: TrackId) {
        if let Some(publisher) = self.publishers.get_mut(&track) {
            let requests: Vec<_> = publisher.requests().collect();
            for (link, _) in &requests {
                links.session(*link).into_iter().for_each(|session| drop(publisher.leave(session, *link)));
            }
            requests.into_iter().for_each(|request| drop(self.roles.remove(&request)));
        }
        if let Some(subscriber) = self.subscribers.get_mut(&track) {
            for feed in subscriber.feeds.drain(..) {
                let key = (feed.link, feed.request);
                let Some(Role::Subscription(tracks)) = self.roles.get_mut(&key) else { continue };
                tracks.retain(|other| *other != track);
                if tracks.is_empty() {
                    self.roles.remove(&key);
                    links.session(feed.link).into_iter().for_each(|session| session.cancel(feed.request));
                }
            }
        }
    }

    /// Nothing is known of the track from here on.
    pub(super) fn forget_track(&mut self, links: &mut impl Wires, track: TrackId) {
        let publisher = self.publishers.remove(&track);
        let subscriber = self.subscribers.remove(&track);
        self.timers.set(Timer::Track(track), None);
        if let Some(subscriber) = subscriber {
            let slot = self.leases.get(&subscriber.lease).and_then(|lease| self.slots.get_mut(&lease.slot));
            if let Some(slot) = slot {
                let others = slot.wanted.entry(subscriber.name.clone()).or_default();
                others.retain(|other| *other != track);
                if others.is_empty() {
                    slot.wanted.remove(&subscriber.name);
                }
            }
        }
        let Some(publisher) = publisher else { return };
        let Some(lease) = self.leases.get_mut(&publisher.lease) else { return };
        if let Some(slot) = self.slots.get_mut(&lease.slot) {
            // A later track of the same name keeps its entry.
            if slot.published.get(&publisher.name) == Some(&track) {
                slot.published.remove(&publisher.name);
            }
        }
        let namespace = publisher.name.namespace;
        let Some(users) = lease.namespaces.get_mut(&namespace) else { return };
        *users -= 1;
        if *users == 0 {
            lease.namespaces.remove(&namespace);
            self.withdraw_namespace(links, publisher.lease, &namespace);
        }
    }

    // ---- tokens ----

    /// Asks the app for fresh tokens. `false`: they were asked for often enough.
    fn want_tokens(&mut self, lease: LeaseId) -> bool {
        let Some(entry) = self.leases.get_mut(&lease) else { return false };
        if entry.awaits_tokens {
            return true;
        }
        if entry.renewals >= RENEWALS {
            return false;
        }
        entry.renewals += 1;
        entry.awaits_tokens = true;
        self.events.push_back(Event::WantTokens { lease });
        true
    }

    fn no_tokens_came(&mut self, lease: Option<LeaseId>) {
        let lease = lease.and_then(|lease| self.leases.get_mut(&lease));
        lease.into_iter().for_each(|lease| lease.awaits_tokens = false);
    }

    /// A request was accepted.
    fn tokens_work(&mut self, id: SlotId, lease: LeaseId) {
        self.slots.get_mut(&id).into_iter().for_each(|slot| slot.reconnect.accepted());
        self.leases.get_mut(&lease).into_iter().for_each(|lease| lease.renewals = 0);
    }
}

fn refused(track: TrackId, error: &RequestError) -> Event {
    Event::Refused { track, code: error.code, reason: error.reason.clone() }
}

pub(super) fn subscribe(track: FullTrackName, tokens: Tokens) -> Subscribe {
    Subscribe { rendezvous_timeout: Some(RENDEZVOUS_TIMEOUT), tokens, ..Subscribe::live(track) }
}
