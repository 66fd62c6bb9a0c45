//! What peers say on our links: their requests, their answers to ours, and objects.
//!
//! A peer is a relay, or somebody who behaves like one. It may subscribe to exactly what is published under the leases of
//! its link. Foreign relays list our namespaces and echo them back; that is answered and comes to nothing.

use super::slot::SlotId;
use super::{Pool, Role};
use crate::moqt::message::{Filter, Publish, PublishDone, PublishOk, RequestError, Subscribe, SubscribeOk, UpdateOk};
use crate::moqt::session::RequestId;
use crate::moqt::{Event as Moqt, Object, RequestErrorCode, StreamId, SubgroupHeader, TrackNamespace};
use crate::net::LinkId;
use crate::tracks::subscriber::Taken;
use crate::tracks::{Event, TrackId, Wires};

impl Pool {
    pub(super) fn handle_moqt(&mut self, links: &mut impl Wires, id: SlotId, link: LinkId, event: Moqt) {
        match event {
            Moqt::Subgroup { request, stream, header } => self.stream_began((link, request), stream, &header),
            Moqt::SubgroupEnd { request, stream, reset } => {
                self.stream_ended((link, request), stream, reset.is_none());
            }
            Moqt::Setup(_) => self.link_set_up(id, link),
            Moqt::Subscribe { request, subscribe } => self.serve(links, id, (link, request), &subscribe),
            Moqt::Publish { request, publish } => self.take_publish(links, id, (link, request), publish),
            Moqt::PublishNamespace { request, namespace, .. } => {
                let wanted = self.ask_in(id, &namespace);
                let Some(session) = links.session(link) else { return };
                match wanted {
                    true => session.accept(request),
                    false => session.reject(request, refusal(RequestErrorCode::Uninterested)),
                }
            }
            Moqt::SubscribeNamespace { request, prefix, .. } => self.list(links, id, (link, request), prefix),
            Moqt::Update { request, .. } => self.update(links, (link, request)),
            Moqt::Updated { request, forward, filter } => self.updated(links, (link, request), forward, filter),
            Moqt::Cancelled { request } => self.cancelled(id, link, request),
            Moqt::SubscribeOk { request, ok } => self.subscribe_ok(links, id, (link, request), &ok),
            Moqt::RequestOk { request } => {
                if let Some(Role::Announcement(lease, namespace)) = self.roles.get(&(link, request)).cloned() {
                    self.announcement_accepted(links, id, (link, request), (lease, namespace));
                }
            }
            Moqt::RequestError { request, error } => self.refused(links, id, (link, request), &error),
            Moqt::PublishDone { request, done } => self.publish_done((link, request), &done),
            // What was is gone: a track of ours is live.
            Moqt::Fill(fill) => {
                if let Some(session) = links.session(link) {
                    session.fail_fill(fill);
                }
            }
            Moqt::GoAway(goaway) => self.link_goes_away(id, link, &goaway),
            Moqt::RequestGoAway { request, goaway } => self.request_goes_away(links, id, (link, request), &goaway),
            // We list nothing; and a session that is over ends its link, whose end is told next.
            // Objects came another way. A client's session refuses by itself what nobody serves here, and we ask for none of it.
            Moqt::Fetch { .. }
            | Moqt::TrackStatus { .. }
            | Moqt::SubscribeTracks { .. }
            | Moqt::FetchOk { .. }
            | Moqt::Fetched { .. }
            | Moqt::FetchEnd { .. }
            | Moqt::TrackStatusOk { .. }
            | Moqt::PublishBlocked { .. }
            | Moqt::UpdateOk { .. }
            | Moqt::UpdateError { .. }
            | Moqt::Object { .. }
            | Moqt::Namespace { .. }
            | Moqt::NamespaceDone { .. }
            | Moqt::Fulfilled { .. }
            | Moqt::Closed { .. } => {}
        }
    }

    // ---- media ----

    /// The tracks that a request brings.
    fn subscription(&self, feed: (LinkId, RequestId)) -> Vec<TrackId> {
        match self.roles.get(&feed) {
            Some(Role::Subscription(tracks)) => tracks.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn object(
        &mut self,
        links: &mut impl Wires,
        feed: (LinkId, RequestId),
        stream: Option<StreamId>,
        object: Object,
    ) {
        let Some(Role::Subscription(tracks)) = self.roles.get(&feed) else { return };
        if let [track] = tracks[..] {
            return self.object_of(links, (track, feed.0), stream, object);
        }
        for track in tracks.clone() {
            self.object_of(links, (track, feed.0), stream, object.clone());
        }
    }

    fn object_of(
        &mut self,
        links: &mut impl Wires,
        (track, link): (TrackId, LinkId),
        stream: Option<StreamId>,
        object: Object,
    ) {
        let Some(subscriber) = self.subscribers.get_mut(&track) else { return };
        subscriber.note_feed(link);
        match subscriber.object(stream, object) {
            Taken::Frame { timestamp_us, payload, sequence, missing, filled } => {
                self.counters.frames_in += 1;
                self.counters.missing = (self.counters.missing + missing).saturating_sub(u64::from(filled));
                self.events.push_back(Event::Frame { track, timestamp_us, payload, sequence });
            }
            Taken::Stale => {
                subscriber.stale += 1;
                self.counters.stale += 1;
            }
            Taken::Ended => {
                self.events.push_back(Event::Ended { track });
                self.withdraw(links, track);
                self.arm_track(track);
            }
            Taken::Nothing => {}
        }
    }

    fn stream_began(&mut self, feed: (LinkId, RequestId), stream: StreamId, header: &SubgroupHeader) {
        for track in self.subscription(feed) {
            if let Some(subscriber) = self.subscribers.get_mut(&track) {
                subscriber.stream_began(feed, stream, header);
            }
        }
    }

    fn stream_ended(&mut self, feed: (LinkId, RequestId), stream: StreamId, whole: bool) {
        for track in self.subscription(feed) {
            let Some(subscriber) = self.subscribers.get_mut(&track) else { continue };
            subscriber.stream_ended(feed, stream, whole);
            if subscriber.is_ending() {
                self.finish_feeds(track);
            }
        }
    }

    fn publish_done(&mut self, feed: (LinkId, RequestId), done: &PublishDone) {
        let now = self.now;
        for track in self.subscription(feed) {
            if let Some(subscriber) = self.subscribers.get_mut(&track) {
                subscriber.done(feed, done.clone(), now);
            }
            self.finish_feeds(track);
            self.arm_track(track);
        }
    }

    // ---- answers to our requests ----

    fn subscribe_ok(
        &mut self,
        links: &mut impl Wires,
        id: SlotId,
        (link, request): (LinkId, RequestId),
        ok: &SubscribeOk,
    ) {
        for track in self.subscription((link, request)) {
            self.subscription_accepted(links, id, (link, request, track), ok);
        }
    }

    fn refused(
        &mut self,
        links: &mut impl Wires,
        id: SlotId,
        (link, request): (LinkId, RequestId),
        error: &RequestError,
    ) {
        match self.roles.remove(&(link, request)) {
            Some(Role::Announcement(lease, namespace)) => {
                self.announcement_refused(id, (link, request), (lease, &namespace), error);
            }
            Some(Role::Subscription(tracks)) => {
                for track in tracks {
                    self.subscription_refused(links, (link, request, track), error);
                }
            }
            Some(Role::Served(_) | Role::Listing) | None => {}
        }
    }

    // ---- requests of the peer ----

    fn serve(
        &mut self,
        links: &mut impl Wires,
        id: SlotId,
        (link, request): (LinkId, RequestId),
        subscribe: &Subscribe,
    ) {
        let (Some(session), Some(slot)) = (links.session(link), self.slots.get_mut(&id)) else { return };
        if slot.link(link).is_none_or(|link| link.moved.is_some()) {
            return session.reject(request, refusal(RequestErrorCode::GoingAway));
        }
        let track = slot.published.get(&subscribe.track).copied();
        let publisher = track.and_then(|track| Some((track, self.publishers.get_mut(&track)?)));
        let Some((track, publisher)) = publisher else {
            return session.reject(request, refusal(RequestErrorCode::DoesNotExist));
        };
        if !publisher.serve(session, (link, request), subscribe.forward, subscribe.filter) {
            return session.reject(request, refusal(RequestErrorCode::InvalidRange));
        }
        slot.spoke = true;
        if publisher.is_ended() {
            return;
        }
        let count = publisher.subscribers();
        self.roles.insert((link, request), Role::Served(track));
        self.events.push_back(Event::Subscribers { track, count });
    }

    /// A peer that pushes: taken when we want that track, in place of a SUBSCRIBE that it has not answered.
    fn take_publish(
        &mut self,
        links: &mut impl Wires,
        id: SlotId,
        (link, request): (LinkId, RequestId),
        publish: Publish,
    ) {
        let Some(session) = links.session(link) else { return };
        let wanted = self.slots.get(&id).and_then(|slot| slot.wanted.get(&publish.track)).cloned();
        let mut tracks = wanted.unwrap_or_default();
        tracks.retain(|track| self.subscribers.get(track).is_some_and(|subscriber| !subscriber.ended));
        if tracks.is_empty() {
            return session.reject(request, refusal(RequestErrorCode::Uninterested));
        }
        if tracks.iter().any(|track| self.subscribers.get(track).is_some_and(|s| s.is_live_on(link))) {
            return session.reject(request, refusal(RequestErrorCode::DuplicateSubscription));
        }
        session.accept_publish(request, PublishOk { forward: true, priority: 128, filter: None, expires: None });
        self.roles.insert((link, request), Role::Subscription(tracks.clone()));
        let Publish { largest, properties, .. } = publish;
        let ok = SubscribeOk { largest, properties, ..SubscribeOk::default() };
        for track in tracks {
            let Some(subscriber) = self.subscribers.get_mut(&track) else { continue };
            let waiting: Vec<_> = subscriber.feeds.extract_if(.., |feed| feed.link == link).collect();
            subscriber.add_feed(link, request);
            for feed in waiting {
                self.roles.remove(&(link, feed.request));
                links.session(link).into_iter().for_each(|session| session.cancel(feed.request));
            }
            self.subscription_accepted(links, id, (link, request, track), &ok);
        }
    }

    fn list(
        &mut self,
        links: &mut impl Wires,
        id: SlotId,
        (link, request): (LinkId, RequestId),
        prefix: TrackNamespace,
    ) {
        let Some(session) = links.session(link) else { return };
        let Some(standing) = self.slots.get_mut(&id).and_then(|slot| slot.link(link)) else { return };
        session.accept(request);
        for suffix in standing.announced.keys().filter_map(|(_, namespace)| namespace.strip_prefix(&prefix)) {
            session.namespace(request, &suffix);
        }
        standing.listings.push((request, prefix));
        self.roles.insert((link, request), Role::Listing);
    }

    /// Who may ask for a track may change what it asks; what else a peer may change means nothing here.
    fn update(&mut self, links: &mut impl Wires, (link, request): (LinkId, RequestId)) {
        let largest = match self.roles.get(&(link, request)) {
            Some(Role::Served(track)) => self.publishers.get(track).and_then(|publisher| publisher.largest()),
            _ => None,
        };
        if let Some(session) = links.session(link) {
            session.accept_update(request, UpdateOk { largest, expires: None });
        }
    }

    fn updated(
        &mut self,
        links: &mut impl Wires,
        (link, request): (LinkId, RequestId),
        forward: bool,
        filter: Option<Filter>,
    ) {
        let Some(Role::Served(track)) = self.roles.get(&(link, request)) else { return };
        if let (Some(publisher), Some(session)) = (self.publishers.get_mut(track), links.session(link)) {
            publisher.update(session, (link, request), forward, filter);
        }
    }

    fn cancelled(&mut self, id: SlotId, link: LinkId, request: RequestId) {
        match self.roles.remove(&(link, request)) {
            Some(Role::Served(track)) => self.unserve(track, link, request),
            Some(Role::Subscription(tracks)) => {
                self.lose_feeds(tracks, (link, request), "the publisher took the track back");
            }
            Some(Role::Listing) => {
                let standing = self.slots.get_mut(&id).and_then(|slot| slot.link(link));
                standing.into_iter().for_each(|link| link.listings.retain(|(listing, _)| *listing != request));
            }
            // §"Publishing Namespaces": the peer revoked it; it is announced again in a while.
            Some(Role::Announcement(lease, namespace)) => {
                let error = refusal(RequestErrorCode::DoesNotExist);
                self.announcement_refused(id, (link, request), (lease, &namespace), &error);
            }
            None => {}
        }
    }

    pub(super) fn unserve(&mut self, track: TrackId, link: LinkId, request: RequestId) {
        if let Some(publisher) = self.publishers.get_mut(&track) {
            publisher.drop_request(link, request);
            let count = publisher.subscribers();
            self.events.push_back(Event::Subscribers { track, count });
        }
    }
}

fn refusal(code: RequestErrorCode) -> RequestError {
    let reason = match code {
        RequestErrorCode::DoesNotExist => "no such track is published here",
        RequestErrorCode::InvalidRange => "the range is over",
        RequestErrorCode::GoingAway => "this publisher has moved to another session",
        RequestErrorCode::DuplicateSubscription => "this track comes on this session already",
        _ => "this track is not wanted here",
    };
    RequestError::new(code, reason)
}
