//! A peer sends one request away (GOAWAY on its stream, draft-18 §10.4): it is made again, and what it brought or allowed goes on.
//!
//! With a URI the whole link moves there, as for a GOAWAY on the control stream: the leases of a slot share one link, and it takes
//! along what was not sent away. Without one the request is made again on the same session, beside the old one, which is withdrawn when
//! the new one is accepted: a namespace at once, a subscription [`LINGER`] later, so that what is on its way is still heard. A peer that
//! refuses the second subscription (until draft 18 a session has one of each track) has the first withdrawn before it is asked again.
//! Whoever is sent away again within [`SETTLED`] stays until the peer ends the request.

use std::time::Duration;

use super::slot::SlotId;
use super::{Pool, Role};
use crate::moqt::RequestErrorCode;
use crate::moqt::message::{GoAway, RequestError};
use crate::moqt::session::RequestId;
use crate::net::LinkId;
use crate::tracks::{TrackId, Wires};

/// What was on its way for the request before is heard for this long.
const LINGER: Duration = Duration::from_millis(500);
/// A peer that sends away whatever it is asked is not followed more often.
const SETTLED: Duration = Duration::from_secs(10);

impl Pool {
    pub(super) fn request_goes_away(
        &mut self,
        links: &mut impl Wires,
        id: SlotId,
        (link, request): (LinkId, RequestId),
        goaway: &GoAway,
    ) {
        let role = self.roles.get(&(link, request)).cloned();
        // The peer's own PUBLISH is not ours to make again: it ends it.
        let ours = request.0.is_multiple_of(2);
        match role {
            Some(Role::Announcement(..) | Role::Subscription(_)) if ours && !goaway.uri.is_empty() => {
                let current = self.slots.get(&id).and_then(|slot| slot.current.as_ref());
                if current.is_some_and(|current| current.id == link && !current.going_away) {
                    self.link_goes_away(id, link, goaway);
                }
            }
            Some(Role::Announcement(lease, namespace)) => {
                let now = self.now;
                let current = self.slots.get_mut(&id).and_then(|slot| slot.current.as_mut());
                let announced = current.filter(|current| current.id == link).map(|current| &mut current.announced);
                let announcement = announced.and_then(|all| all.get_mut(&(lease, namespace.clone())));
                let Some(announcement) = announcement.filter(|a| a.request == Some(request)) else { return };
                if announcement.moved_at.is_none_or(|at| at + SETTLED <= now) {
                    announcement.moved_at = Some(now);
                    self.announce_on_current(links, lease, namespace);
                }
            }
            Some(Role::Subscription(tracks)) if ours => self.move_subscription(links, id, (link, request), tracks),
            Some(Role::Subscription(_) | Role::Served(_) | Role::Listing) | None => {}
        }
    }

    /// SUBSCRIBE once more beside the one that stands, for all that share it.
    fn move_subscription(
        &mut self,
        links: &mut impl Wires,
        id: SlotId,
        (link, request): (LinkId, RequestId),
        mut tracks: Vec<TrackId>,
    ) {
        let now = self.now;
        let current = self.slots.get(&id).and_then(|slot| slot.current.as_ref());
        if current.is_none_or(|current| current.id != link || current.going_away) {
            return;
        }
        tracks.retain(|track| self.subscribers.get(track).is_some_and(|s| s.may_move((link, request), now - SETTLED)));
        let first = tracks.first().and_then(|track| self.subscribers.get(track));
        let Some((lease, name)) = first.map(|subscriber| (subscriber.lease, subscriber.name.clone())) else { return };
        let tokens = self.tokens(lease);
        let Some(session) = links.session(link) else { return };
        let anew = session.subscribe(super::ask::subscribe(name, tokens));
        for track in &tracks {
            if let Some(subscriber) = self.subscribers.get_mut(track) {
                subscriber.moves((link, request), now);
                subscriber.add_feed(link, anew);
            }
        }
        self.counters.resubscribes += 1;
        self.roles.insert((link, anew), Role::Subscription(tracks));
    }

    /// The request that was made anew is accepted: the one before goes when its last objects have had their time.
    pub(super) fn note_moved(&mut self, (link, request, track): (LinkId, RequestId, TrackId)) {
        let until = self.now + LINGER;
        if let Some(subscriber) = self.subscribers.get_mut(&track) {
            subscriber.note_moved((link, request), until);
        }
    }

    /// The peer wanted a request made again, and does not take the new one. `true`: the old one stood in its way, and is withdrawn.
    pub(super) fn makes_room(
        &mut self,
        links: &mut impl Wires,
        (link, track): (LinkId, TrackId),
        error: &RequestError,
    ) -> bool {
        if error.code != RequestErrorCode::DuplicateSubscription as u64 {
            return false;
        }
        let leaving = self.subscribers.get(&track).and_then(|subscriber| subscriber.leaving(link));
        let Some(request) = leaving else { return false };
        self.withdraw_feed(links, (link, request), track);
        true
    }

    /// Requests whose successor has taken over.
    pub(super) fn leave_feeds(&mut self, links: &mut impl Wires, track: TrackId) {
        let now = self.now;
        while let Some(feed) = self.subscribers.get(&track).and_then(|subscriber| subscriber.left(now)) {
            self.withdraw_feed(links, feed, track);
        }
    }

    fn withdraw_feed(&mut self, links: &mut impl Wires, (link, request): (LinkId, RequestId), track: TrackId) {
        if let Some(subscriber) = self.subscribers.get_mut(&track) {
            subscriber.remove_feed(link, request);
        }
        let Some(Role::Subscription(tracks)) = self.roles.get_mut(&(link, request)) else { return };
        tracks.retain(|other| *other != track);
        if tracks.is_empty() {
            self.roles.remove(&(link, request));
            links.session(link).into_iter().for_each(|session| session.cancel(request));
        }
    }
}
