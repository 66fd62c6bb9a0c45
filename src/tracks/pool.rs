//! Routes, leases and links: see the contract in [`crate::tracks`].
//!
//! A *slot* is the place of one link that leases of a route share: first it is dialled, then it stands, and while it is
//! replaced the old one stands beside it. `slot` dials, `links` owns the life of what stands, `ask` is what we ask of
//! peers, `requests` what they say. Every timer is an entry of one ordered set, so a turn without a due timer costs nothing.

mod ask;
mod links;
mod requests;
mod sent_away;
mod slot;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::publisher::Publisher;
use super::reconnect::Jitter;
use super::stamp::{Clock, Stamp};
use super::subscriber::Subscriber;
use super::timers::Timers;
use super::{
    Counters, DialId, Event, LeaseId, LeaseStanding, PublishTrack, RouteId, RouteKind, State, Supply, Tokens, TrackId,
    Wires, Written,
};
use crate::moqt::ids::IdMap;
use crate::moqt::session::RequestId;
use crate::moqt::{self, CloseCode, FullTrackName, TrackNamespace};
use crate::net::{LinkEvent, LinkId};
use slot::{Dialled, Slot, SlotId};

/// What a request on one of our links is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// Our PUBLISH_NAMESPACE.
    Announcement(LeaseId, TrackNamespace),
    /// Our SUBSCRIBE, or the peer's PUBLISH of a track we want. Leases that want the same track share it: a session has one
    /// subscription to a track (§10.7).
    Subscription(Vec<TrackId>),
    /// The peer's SUBSCRIBE to a track of ours.
    Served(TrackId),
    /// The peer's SUBSCRIBE_NAMESPACE.
    Listing,
}

/// Ended tracks of a lease that late subscribers are told of; beyond, the oldest is forgotten.
const ENDED_KEPT: usize = 64;

/// What is looked at when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Timer {
    Slot(SlotId),
    Track(TrackId),
}

struct Route {
    cap: usize,
    slots: Vec<SlotId>,
}

struct Lease {
    slot: SlotId,
    /// What the slot had counted before.
    before: Dialled,
    tokens: Tokens,
    tracks: Vec<TrackId>,
    /// Those of them that ended, oldest first.
    ended: VecDeque<TrackId>,
    /// Namespaces it publishes in, and how many tracks in each.
    namespaces: HashMap<TrackNamespace, usize>,
    /// Times that fresh tokens were asked for since a request was last accepted, and whether they are awaited now.
    renewals: u32,
    awaits_tokens: bool,
}

/// All tracks of one worker.
pub struct Pool {
    clock: Clock,
    now: Instant,
    random: Jitter,
    next_id: u64,
    routes: IdMap<RouteId, Route>,
    slots: IdMap<SlotId, Slot>,
    leases: IdMap<LeaseId, Lease>,
    publishers: IdMap<TrackId, Publisher>,
    subscribers: IdMap<TrackId, Subscriber>,
    /// Links of ours, dialled, standing or ending.
    links: IdMap<LinkId, SlotId>,
    roles: IdMap<(LinkId, RequestId), Role>,
    timers: Timers<Timer>,
    stamp: Stamp,
    /// Emptied by the app in the turn that filled it.
    events: VecDeque<Event>,
    counters: Counters,
}

impl Pool {
    /// `seed` for jitter; `unix` is the wall clock's reading at `now`, from which group numbers grow.
    pub fn new(seed: u64, now: Instant, unix: Duration) -> Self {
        Self {
            clock: Clock::new(now, unix),
            now,
            random: Jitter::new(seed),
            next_id: 0,
            routes: IdMap::default(),
            slots: IdMap::default(),
            leases: IdMap::default(),
            publishers: IdMap::default(),
            subscribers: IdMap::default(),
            links: IdMap::default(),
            roles: IdMap::default(),
            timers: Timers::default(),
            stamp: Stamp::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    pub fn route(&mut self, kind: RouteKind) -> RouteId {
        let id = RouteId(self.fresh_id());
        self.routes.insert(id, Route { cap: kind.cap.max(1), slots: Vec::new() });
        id
    }

    /// Forgets a route without links. `false`: it has some, and stays.
    pub fn forget_route(&mut self, route: RouteId) -> bool {
        let idle = self.routes.get(&route).is_none_or(|route| route.slots.is_empty());
        if idle {
            self.routes.remove(&route);
        }
        idle
    }

    /// A place on a link of the route; [`Event::WantDial`] follows when there is none. `tokens` go with every request of
    /// the lease, for links that others dialled. A route that is not the pool's gives a lease that stays `Connecting`.
    pub fn lease(&mut self, route: RouteId, tokens: Tokens, now: Instant) -> LeaseId {
        self.now = now;
        let id = LeaseId(self.fresh_id());
        let slot = self.place(route);
        let up = self.slots.get(&slot).is_some_and(Slot::is_set_up);
        let state = if up { State::Connected } else { State::Connecting };
        let reason = self.slots.get(&slot).filter(|_| !up).and_then(|slot| slot.reason.clone());
        let (ended, namespaces) = (VecDeque::new(), HashMap::new());
        let before = self.slots.get(&slot).map_or_else(Dialled::default, |slot| slot.dialled);
        let lease =
            Lease { slot, before, tokens, tracks: Vec::new(), ended, namespaces, renewals: 0, awaits_tokens: false };
        self.leases.insert(id, lease);
        self.events.push_back(Event::State { lease: id, state, reason });
        self.occupy(slot, id);
        id
    }

    /// Fresh tokens for the requests to come. Requests that were refused for the old ones are repeated, and namespaces that stand are
    /// announced once more: a relay lets go what only an old token allowed, and takes the new one for all that the lease has. Who
    /// announces nothing shows them by a REQUEST_UPDATE of each subscription.
    pub fn renew(&mut self, lease: LeaseId, tokens: Tokens) {
        let now = self.now;
        let Some(entry) = self.leases.get_mut(&lease) else { return };
        let fresh = entry.tokens != tokens;
        entry.tokens = tokens;
        entry.awaits_tokens = false;
        let (slot, shows) = (entry.slot, fresh && entry.namespaces.is_empty());
        for track in entry.tracks.clone() {
            if let Some(subscriber) = self.subscribers.get_mut(&track) {
                subscriber.asking.renewed(now);
                if shows && subscriber.live {
                    subscriber.asking.again(now);
                }
                self.arm_track(track);
            }
        }
        self.renew_slot(slot, lease, fresh);
    }

    /// Announces the track's namespace and serves its subscribers, on this link and every later one.
    pub fn publish(&mut self, links: &mut impl Wires, lease: LeaseId, track: PublishTrack, now: Instant) -> TrackId {
        self.now = now;
        let id = TrackId(self.fresh_id());
        let Some(entry) = self.leases.get_mut(&lease) else { return id };
        let name = track.track.clone();
        entry.tracks.push(id);
        let users = entry.namespaces.entry(name.namespace.clone()).or_default();
        *users += 1;
        let first = *users == 1;
        let slot = entry.slot;
        let mut publisher = Publisher::new(lease, track, self.clock);
        if let Some(slot) = self.slots.get_mut(&slot) {
            publisher.online = slot.current.is_some();
            slot.published.insert(name.clone(), id);
        }
        self.publishers.insert(id, publisher);
        if first {
            self.announce_on_current(links, lease, name.namespace);
        }
        id
    }

    /// Subscribes from the live edge, holding out for a publisher, on this link and every later one.
    pub fn subscribe(&mut self, links: &mut impl Wires, lease: LeaseId, track: FullTrackName, now: Instant) -> TrackId {
        self.now = now;
        let id = TrackId(self.fresh_id());
        let Some(entry) = self.leases.get_mut(&lease) else { return id };
        entry.tracks.push(id);
        if let Some(slot) = self.slots.get_mut(&entry.slot) {
            slot.wanted.entry(track.clone()).or_default().push(id);
        }
        self.subscribers.insert(id, Subscriber::new(lease, track));
        self.ask(links, id);
        id
    }

    /// One frame of a published track. After the track's end, and for tracks that are none, it is `Offline` and not counted.
    pub fn write(
        &mut self,
        links: &mut impl Wires,
        track: TrackId,
        timestamp_us: u64,
        payload: Bytes,
        now: Instant,
    ) -> Written {
        let Some(publisher) = self.publishers.get_mut(&track).filter(|publisher| !publisher.is_ended()) else {
            return Written::Offline;
        };
        let before = publisher.subscribers();
        let written = publisher.write(links, || self.stamp.encode(timestamp_us), payload, now);
        let (count, dropped) = (publisher.subscribers(), publisher.take_dropped());
        match written {
            Written::Sent => self.counters.frames_out += 1,
            Written::Unheard => self.counters.unheard += 1,
            Written::Offline => self.counters.offline += 1,
            Written::Behind => self.counters.behind += 1,
        }
        if count != before {
            self.events.push_back(Event::Subscribers { track, count });
        }
        if dropped > 0 {
            self.counters.too_old += dropped;
            self.events.push_back(Event::TooOld { track, count: dropped });
        }
        written
    }

    /// Ends a published track for good: END_OF_TRACK, then PUBLISH_DONE TRACK_ENDED. Whoever subscribes later, while the
    /// lease lives and not many others have ended since, hears the end too. Unknown tracks do nothing.
    pub fn end(&mut self, links: &mut impl Wires, track: TrackId, now: Instant) {
        self.now = now;
        let Some(publisher) = self.publishers.get_mut(&track).filter(|publisher| !publisher.is_ended()) else { return };
        let (requests, lease): (Vec<_>, _) = (publisher.requests().collect(), publisher.lease);
        publisher.end(links, now);
        for request in &requests {
            self.roles.remove(request);
        }
        if !requests.is_empty() {
            self.events.push_back(Event::Subscribers { track, count: 0 });
        }
        let Some(lease) = self.leases.get_mut(&lease) else { return };
        lease.ended.push_back(track);
        if lease.ended.len() > ENDED_KEPT
            && let Some(oldest) = lease.ended.pop_front()
        {
            self.close(links, oldest);
        }
    }

    /// Withdraws one track without saying that it ended; the lease stays.
    pub fn close(&mut self, links: &mut impl Wires, track: TrackId) {
        self.withdraw(links, track);
        let lease = self.publishers.get(&track).map(|publisher| publisher.lease);
        let lease = lease.or_else(|| self.subscribers.get(&track).map(|subscriber| subscriber.lease));
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
            lease.tracks.retain(|other| *other != track);
        }
        self.forget_track(links, track);
    }

    /// Withdraws all tracks of the lease and gives its place back; a link that nobody leases is closed once its last words are out.
    pub fn release(&mut self, links: &mut impl Wires, lease: LeaseId, now: Instant) {
        self.now = now;
        let Some(tracks) = self.leases.get_mut(&lease).map(|entry| std::mem::take(&mut entry.tracks)) else { return };
        for track in tracks {
            self.withdraw(links, track);
            self.forget_track(links, track);
        }
        if let Some(entry) = self.leases.remove(&lease) {
            self.vacate(links, entry.slot, lease);
        }
    }

    /// The answer to [`Event::WantDial`]. An error is a text for [`Event::State`]; the next attempt asks again.
    pub fn supply(&mut self, links: &mut impl Wires, id: DialId, supply: Result<Supply, String>, now: Instant) {
        self.now = now;
        let asked = self.slots.iter_mut().find_map(|(slot_id, slot)| slot.take_ask(id).then_some(*slot_id));
        let Some(slot) = asked else { return };
        let link = match supply {
            Ok(Supply::Dial(dial)) => links.dial(*dial, now),
            Ok(Supply::Port(end, setup)) => links.attach(end, setup, now),
            Err(reason) => return self.in_vain(slot, reason),
        };
        self.counters.dials += 1;
        self.links.insert(link, slot);
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.attempts.push((link, now));
            slot.dialled.dials += 1;
        }
        self.arm_slot(slot);
    }

    /// An event of a link. Links that are not the pool's are ignored.
    pub fn handle_event(&mut self, links: &mut impl Wires, link: LinkId, event: LinkEvent, now: Instant) {
        self.now = now;
        // The one event that comes fifty times a second goes the shortest way.
        if let LinkEvent::Moqt(moqt::Event::Object { request, stream, object }) = event {
            return self.object(links, (link, request), stream, object);
        }
        let Some(slot) = self.links.get(&link).copied() else { return };
        match event {
            LinkEvent::Moqt(event) => self.handle_moqt(links, slot, link, event),
            LinkEvent::Up(_) => self.link_up(links, slot, link),
            LinkEvent::Quiet => self.link_quiet(links, slot, link),
            LinkEvent::Alive => self.link_alive(links, slot, link),
            LinkEvent::Down(down) => self.link_down(links, slot, link, &down),
        }
    }

    pub fn handle_timeout(&mut self, links: &mut impl Wires, now: Instant) {
        self.now = now;
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Slot(slot) => self.slot_timeout(links, slot),
                Timer::Track(track) => self.track_timeout(links, track),
            }
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How the link of a lease stands now.
    pub fn standing(&self, lease: LeaseId) -> Option<LeaseStanding> {
        let entry = self.leases.get(&lease)?;
        let slot = self.slots.get(&entry.slot)?;
        let stale = entry.tracks.iter().filter_map(|track| self.subscribers.get(track)).map(|track| track.stale).sum();
        Some(LeaseStanding {
            link: slot.current.as_ref().map(|link| link.id),
            leases: if slot.current.is_some() { slot.leases.len() } else { 0 },
            dials: slot.dialled.dials - entry.before.dials,
            migrations: slot.dialled.migrations - entry.before.migrations,
            stale,
        })
    }

    /// The pool's own words while its app ends: every link is closed with NO_ERROR.
    pub fn shutdown(&mut self, links: &mut impl Wires) {
        for link in self.links.keys() {
            links.close(*link, CloseCode::NoError as u64, "the client ends");
        }
        let counters = self.counters;
        *self = Self { counters, next_id: self.next_id, ..Self::new(self.random.bits(), self.now, Duration::ZERO) };
    }

    /// How much it remembers of what: what tests of leaks look at.
    #[cfg(test)]
    fn sizes(&self) -> Vec<usize> {
        let slots = self.routes.values().map(|route| route.slots.len()).sum();
        let tracks = self.leases.values().map(|lease| lease.tracks.len()).sum();
        let (live, asked) = (self.publishers.len(), self.subscribers.len());
        let (links, roles) = (self.links.len(), self.roles.len());
        vec![slots, self.slots.len(), self.leases.len(), tracks, live, asked, links, roles, self.timers.len()]
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn arm_track(&mut self, track: TrackId) {
        let due = self.subscribers.get(&track).and_then(Subscriber::due);
        self.timers.set(Timer::Track(track), due);
    }

    fn arm_slot(&mut self, slot: SlotId) {
        let due = self.slots.get(&slot).and_then(|slot| slot.due(self.now));
        self.timers.set(Timer::Slot(slot), due);
    }
}
