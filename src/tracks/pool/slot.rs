//! A slot: the place of one link that leases share, and the dialling for it.
//!
//! Several attempts may be under way; the first that is up wins and the others are closed (`links`). A way to connect is
//! asked of the app for each attempt, because each carries a token of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Pool;
use super::ask::Announcement;
use super::links::words;
use crate::moqt::session::RequestId;
use crate::moqt::{CloseCode, FullTrackName, TrackNamespace};
use crate::net::{Down, LinkId};
use crate::tracks::reconnect::{IN_FLIGHT, Reconnect};
use crate::tracks::{DialId, Event, LeaseId, RouteId, State, TrackId, Wires};

/// While the first link of a slot is being dialled, a second attempt waits this long: the peer may only be busy.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);
/// The oldest attempt is left alone for this long, so that a path with a long round trip comes up too.
const OLDEST_ATTEMPT: Duration = Duration::from_secs(3);
/// An unanswered [`Event::WantDial`] counts as lost after this time.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// A URI that a GOAWAY gave is forgotten after so many dials.
const MOVED_ASKS: u32 = 8;
/// How often a link that is being replaced, or that ends, is looked at.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SlotId(pub(super) u64);

/// A link that stands.
pub(super) struct Link {
    pub(super) id: LinkId,
    /// The peer's SETUP has come.
    pub(super) set_up: bool,
    pub(super) quiet: bool,
    /// When a quiet link counts as lost for those who lease it, though nothing has taken its place.
    pub(super) mute_at: Option<Instant>,
    /// They were told so.
    pub(super) mute: bool,
    pub(super) going_away: bool,
    pub(super) since: Instant,
    /// Boxed: the table grows in steps, and no step shall cost much.
    pub(super) announced: HashMap<(LeaseId, TrackNamespace), Box<Announcement>>,
    pub(super) listings: Vec<(RequestId, TrackNamespace)>,
    /// It goes at this time, whatever it still brings; later than `limit`, its peer's own word, never.
    pub(super) until: Option<Instant>,
    pub(super) limit: Option<Instant>,
    /// Another link brings what it brought: it speaks no more, and is heard until then.
    pub(super) moved: Option<Instant>,
}

/// What was done to have a link, since the slot began.
#[derive(Clone, Copy, Default)]
pub(super) struct Dialled {
    pub(super) dials: u64,
    /// Links that took the place of one that stood.
    pub(super) migrations: u64,
}

pub(super) struct Slot {
    pub(super) route: RouteId,
    pub(super) leases: Vec<LeaseId>,
    pub(super) reconnect: Reconnect,
    pub(super) asks: Vec<(DialId, LeaseId, Instant)>,
    pub(super) attempts: Vec<(LinkId, Instant)>,
    pub(super) current: Option<Link>,
    pub(super) old: Option<Link>,
    /// A link has stood here before.
    pub(super) stood: bool,
    pub(super) dialled: Dialled,
    pub(super) failed: bool,
    /// Where the last GOAWAY wants us, and how many dials were asked for since.
    pub(super) moved: Option<(String, u32)>,
    /// GOAWAYs in a row that came soon after their link.
    pub(super) hurried: u32,
    /// Links in a row that were sent away and fell, all soon after they stood.
    pub(super) falls: u32,
    /// What was told last about why there is no link.
    pub(super) reason: Option<String>,
    pub(super) published: HashMap<FullTrackName, TrackId>,
    pub(super) wanted: HashMap<FullTrackName, Vec<TrackId>>,
    /// Something was served: a link may hold last words.
    pub(super) spoke: bool,
    /// Nobody leases it since.
    pub(super) vacant: Option<Instant>,
    /// Since when nothing of ours is on its way.
    pub(super) silent: Option<Instant>,
}

impl Link {
    pub(super) fn new(id: LinkId, now: Instant) -> Self {
        Self {
            id,
            since: now,
            set_up: false,
            quiet: false,
            mute_at: None,
            mute: false,
            going_away: false,
            announced: HashMap::new(),
            listings: Vec::new(),
            until: None,
            limit: None,
            moved: None,
        }
    }

    /// It is being replaced, and has this much time for it.
    pub(super) fn goes_within(&mut self, time: Duration, now: Instant) {
        let latest = now + time;
        self.until = Some(self.limit.map_or(latest, |limit| limit.min(latest)));
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.quiet || self.going_away
    }
}

impl Slot {
    fn new(route: RouteId, seed: u64) -> Self {
        Self {
            route,
            leases: Vec::new(),
            reconnect: Reconnect::new(seed),
            asks: Vec::new(),
            attempts: Vec::new(),
            current: None,
            old: None,
            stood: false,
            dialled: Dialled::default(),
            failed: false,
            moved: None,
            hurried: 0,
            falls: 0,
            reason: None,
            published: HashMap::new(),
            wanted: HashMap::new(),
            spoke: false,
            vacant: None,
            silent: None,
        }
    }

    pub(super) fn is_set_up(&self) -> bool {
        self.current.as_ref().is_some_and(|link| link.set_up)
    }

    pub(super) fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        self.current.iter_mut().chain(&mut self.old).find(|link| link.id == id)
    }

    pub(super) fn take_ask(&mut self, id: DialId) -> bool {
        let before = self.asks.len();
        self.asks.retain(|(ask, ..)| *ask != id);
        self.asks.len() < before
    }

    /// The URI of a GOAWAY, for the first dials and then for every other one: nobody may be there.
    fn moved_to(&mut self) -> Option<String> {
        let (uri, asked) = self.moved.as_mut()?;
        *asked += 1;
        let uri = uri.clone();
        match *asked {
            asked if asked > MOVED_ASKS => {
                self.moved = None;
                None
            }
            asked => (asked <= 2 || asked % 2 == 1).then_some(uri),
        }
    }

    fn wants_a_link(&self) -> bool {
        !self.failed && !self.leases.is_empty() && self.current.as_ref().is_none_or(Link::is_leaving)
    }

    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let dial = self.reconnect.poll_timeout().filter(|_| self.wants_a_link());
        let look = (self.old.is_some() || self.vacant.is_some()).then(|| now + LOOK);
        let announcements = self.current.iter().flat_map(|link| link.announced.values()).filter_map(|a| a.asking.due);
        let mute = self.current.as_ref().and_then(|link| link.mute_at);
        dial.into_iter().chain(look).chain(announcements).chain(mute).min()
    }
}

impl Pool {
    /// The slot for one more lease of the route.
    pub(super) fn place(&mut self, route: RouteId) -> SlotId {
        let id = SlotId(self.fresh_id());
        let Some(entry) = self.routes.get_mut(&route) else { return id };
        let cap = entry.cap;
        // A link that was one lease's alone carries its rights: nobody else gets it.
        let fits = |slot: &super::Slot| !slot.failed && slot.leases.len() < cap && (cap > 1 || slot.vacant.is_none());
        if let Some(free) = entry.slots.iter().find(|slot| self.slots.get(slot).is_some_and(fits)) {
            return *free;
        }
        entry.slots.push(id);
        let seed = self.random.bits();
        self.slots.insert(id, Slot::new(route, seed));
        id
    }

    pub(super) fn occupy(&mut self, id: SlotId, lease: LeaseId) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.leases.push(lease);
        slot.vacant = None;
        if slot.current.is_none() && slot.reconnect.poll_timeout().is_none() {
            slot.reconnect.start(now);
            self.want_dial(id);
        }
        self.arm_slot(id);
    }

    /// A lease has left. Its tracks are withdrawn already.
    pub(super) fn vacate(&mut self, links: &mut impl Wires, id: SlotId, lease: LeaseId) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.leases.retain(|other| *other != lease);
        let orphaned = slot.asks.iter().any(|(_, asker, _)| *asker == lease);
        slot.asks.retain(|(_, asker, _)| *asker != lease);
        if !slot.leases.is_empty() {
            if orphaned {
                self.want_dial(id);
            }
            return self.arm_slot(id);
        }
        slot.vacant = Some(now);
        slot.silent = None;
        self.stop_dialling(links, id);
        self.look_at_vacant(links, id);
        self.arm_slot(id);
    }

    /// Asks for a way to connect.
    fn want_dial(&mut self, id: SlotId) {
        let dial = DialId(self.fresh_id());
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(lease) = slot.leases.first().copied() else { return };
        // Each in his turn: one whose right is refused must not keep the others from their link.
        slot.leases.rotate_left(1);
        // The clock runs on from here.
        slot.reconnect.poll(now);
        slot.asks.push((dial, lease, now));
        let uri = slot.moved_to();
        self.events.push_back(Event::WantDial { id: dial, lease, uri });
    }

    pub(super) fn dial_if_due(&mut self, links: &mut impl Wires, id: SlotId) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.asks.retain(|(.., asked)| now.saturating_duration_since(*asked) < ASK_TIMEOUT);
        if !slot.wants_a_link() || slot.reconnect.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let age = |(_, began): &(LinkId, Instant)| now.saturating_duration_since(*began);
        let patient = !slot.stood && slot.attempts.last().is_some_and(|attempt| age(attempt) < FIRST_ATTEMPT);
        if patient || slot.asks.len() >= IN_FLIGHT {
            slot.reconnect.poll(now);
            return;
        }
        if !slot.attempts.is_empty() && slot.attempts.len() + slot.asks.len() >= IN_FLIGHT {
            let spared = usize::from(slot.attempts.len() > 1 && age(&slot.attempts[0]) < OLDEST_ATTEMPT);
            let (link, began) = slot.attempts.remove(spared);
            self.links.remove(&link);
            links.close(link, CloseCode::NoError as u64, "another attempt takes its place");
            if now.saturating_duration_since(began) >= OLDEST_ATTEMPT {
                self.in_vain(id, words(&Down::TimedOut));
            }
        }
        self.want_dial(id);
    }

    pub(super) fn stop_dialling(&mut self, links: &mut impl Wires, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.asks.clear();
        for (link, _) in slot.attempts.drain(..) {
            self.links.remove(&link);
            links.close(link, CloseCode::NoError as u64, "not needed any more");
        }
    }

    /// An attempt came to nothing: nobody answered it, or the app could not say how to connect. Told once, until a link stands or the
    /// reason is another.
    pub(super) fn in_vain(&mut self, id: SlotId, reason: String) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let state = if slot.stood { State::Reconnecting } else { State::Connecting };
        if slot.current.is_none() && slot.reason.as_ref() != Some(&reason) {
            slot.reason = Some(reason.clone());
            self.tell(id, state, Some(reason));
        }
        self.arm_slot(id);
    }

    /// Tells all leases of a slot how their link stands.
    pub(super) fn tell(&mut self, id: SlotId, state: State, reason: Option<String>) {
        let leases = self.slots.get(&id).map(|slot| slot.leases.clone()).unwrap_or_default();
        self.events.extend(leases.into_iter().map(|lease| Event::State { lease, state, reason: reason.clone() }));
    }

    pub(super) fn slot_timeout(&mut self, links: &mut impl Wires, id: SlotId) {
        self.look_at_mute(id);
        self.look_at_old(links, id);
        self.look_at_vacant(links, id);
        self.dial_if_due(links, id);
        self.repeat_announcements(links, id);
        self.arm_slot(id);
    }
}
