//! A link stands, is replaced, falls, and goes when nobody needs it.
//!
//! A link that is to be replaced (its peer said GOAWAY, or its path went quiet) stands until the new one brings and serves
//! whatever it did. A link that nobody leases stands until its last words are out.

use std::time::{Duration, Instant};

use super::slot::{Link, Slot, SlotId};
use super::{Pool, Role, Timer};
use crate::moqt::CloseCode;
use crate::moqt::message::GoAway;
use crate::moqt::session::RequestId;
use crate::net::{Down, LinkId};
use crate::tracks::{Event, LeaseId, State, Wires};

/// A link without leases goes when its last words are acknowledged, and after this time in any case.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// What was on its way on a link that another has replaced is heard for this long.
const LINGER: Duration = Duration::from_millis(500);
/// A link that is being replaced goes after this time, or the peer's if that is less.
const REPLACE_WITHIN: Duration = Duration::from_secs(10);
/// A GOAWAY on a younger link than this comes from a relay that sends everybody away.
const SETTLED: Duration = Duration::from_secs(10);
/// A path that is quiet may only have stumbled; after this time more without a word and without another link, it is lost.
const MUTE_AFTER: Duration = Duration::from_secs(1);

impl Pool {
    pub(super) fn link_up(&mut self, links: &mut impl Wires, id: SlotId, link: LinkId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(at) = slot.attempts.iter().position(|(attempt, _)| *attempt == link) else { return };
        slot.attempts.remove(at);
        let is_detour = self.is_detour(id);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let mut replaced = slot.current.replace(Link::new(link, self.now));
        slot.dialled.migrations += u64::from(replaced.is_some());
        if let Some(link) = &mut replaced {
            link.goes_within(REPLACE_WITHIN, self.now);
        }
        let older = if is_detour { replaced } else { std::mem::replace(&mut slot.old, replaced) };
        self.counters.reconnects += u64::from(std::mem::replace(&mut slot.stood, true));
        self.stop_dialling(links, id);
        self.replay(links, id);
        if let Some(older) = older {
            self.drop_link(links, id, older.id, "a newer link stands");
        }
        self.arm_slot(id);
    }

    /// The link that is being replaced has not taken over from the one before, which still brings what it did.
    fn is_detour(&self, id: SlotId) -> bool {
        let Some(slot) = self.slots.get(&id) else { return false };
        let (Some(old), Some(current)) = (&slot.old, &slot.current) else { return false };
        current.going_away && !old.quiet && old.moved.is_none() && !self.has_moved(slot, old.id, current.id)
    }

    /// Every publication and subscription once more, on the slot's current link.
    fn replay(&mut self, links: &mut impl Wires, id: SlotId) {
        let leases = self.slots.get(&id).map(|slot| slot.leases.clone()).unwrap_or_default();
        for lease in leases {
            let Some(entry) = self.leases.get(&lease) else { continue };
            let namespaces: Vec<_> = entry.namespaces.keys().cloned().collect();
            let tracks = entry.tracks.clone();
            for namespace in namespaces {
                self.announce_on_current(links, lease, namespace);
            }
            for track in tracks {
                match self.publishers.get_mut(&track) {
                    Some(publisher) => publisher.online = true,
                    None => self.ask(links, track),
                }
            }
        }
    }

    /// The peer's SETUP: from here on the link counts.
    pub(super) fn link_set_up(&mut self, id: SlotId, link: LinkId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(current) = slot.current.as_mut().filter(|current| current.id == link) else { return };
        current.set_up = true;
        slot.reconnect.up();
        (slot.reason, slot.moved) = (None, None);
        self.tell(id, State::Connected, None);
        self.arm_slot(id);
    }

    /// A second link beside one that may be dead.
    pub(super) fn link_quiet(&mut self, links: &mut impl Wires, id: SlotId, link: LinkId) {
        let now = self.now;
        self.set_quiet(links, id, link, true);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(current) = slot.current.as_mut().filter(|current| current.id == link) else { return };
        current.quiet = true;
        current.mute_at = Some(now + MUTE_AFTER);
        slot.reconnect.lost(now);
        self.arm_slot(id);
    }

    /// Users learn of a dead path long before the transport gives the link up.
    pub(super) fn look_at_mute(&mut self, id: SlotId) {
        let now = self.now;
        let Some(current) = self.slots.get_mut(&id).and_then(|slot| slot.current.as_mut()) else { return };
        if current.mute_at.take_if(|at| *at <= now).is_some() {
            current.mute = true;
            self.tell(id, State::Reconnecting, Some(words(&Down::TimedOut)));
        }
    }

    /// Publishers leave a quiet link out.
    fn set_quiet(&mut self, links: &mut impl Wires, id: SlotId, link: LinkId, quiet: bool) {
        let (Some(slot), Some(session)) = (self.slots.get(&id), links.session(link)) else { return };
        for track in slot.published.values() {
            if let Some(publisher) = self.publishers.get_mut(track) {
                publisher.set_quiet(session, link, quiet);
            }
        }
    }

    pub(super) fn link_alive(&mut self, links: &mut impl Wires, id: SlotId, link: LinkId) {
        self.set_quiet(links, id, link, false);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(current) = slot.current.as_mut().filter(|current| current.id == link) else { return };
        current.quiet = false;
        current.mute_at = None;
        let speaks_again = std::mem::take(&mut current.mute) && current.set_up;
        if !current.is_leaving() {
            if current.set_up {
                slot.reconnect.up();
            }
            self.stop_dialling(links, id);
        }
        if speaks_again {
            self.tell(id, State::Connected, None);
        }
        self.arm_slot(id);
    }

    /// The peer wants to be left: a new link first, then we go.
    pub(super) fn link_goes_away(&mut self, id: SlotId, link: LinkId, goaway: &GoAway) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(current) = slot.current.as_mut().filter(|current| current.id == link) else { return };
        current.going_away = true;
        current.limit = goaway.timeout.and_then(|timeout| now.checked_add(timeout));
        current.until = current.limit;
        let is_young = now.saturating_duration_since(current.since) < SETTLED;
        slot.hurried = if is_young { slot.hurried + 1 } else { 0 };
        slot.moved = (!goaway.uri.is_empty()).then(|| (goaway.uri.clone(), 0));
        // The first that comes soon may be chance: whoever comes to a relay that drains hears it once.
        let (hurried, limit) = (slot.hurried.saturating_sub(1), goaway.timeout.map(|timeout| timeout / 2));
        slot.reconnect.sent_away(hurried, limit, now);
        // Whoever was to take over is leaving too: the one before is given the time again.
        if let Some(old) = slot.old.as_mut().filter(|old| old.moved.is_none() && !old.quiet) {
            old.goes_within(REPLACE_WITHIN, now);
        }
        self.arm_slot(id);
    }

    pub(super) fn link_down(&mut self, links: &mut impl Wires, id: SlotId, link: LinkId, down: &Down) {
        self.links.remove(&link);
        let reason = words(down);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.attempts.retain(|(attempt, _)| *attempt != link);
        let fallen = slot.current.take_if(|current| current.id == link);
        if let Some(fallen) = &fallen {
            let is_young = self.now.saturating_duration_since(fallen.since) < SETTLED;
            slot.falls = if is_young && fallen.going_away { slot.falls + 1 } else { 0 };
        }
        let was_current = fallen.is_some();
        let was_old = slot.old.take_if(|old| old.id == link).is_some();
        if was_current && let Some(old) = slot.old.take_if(|old| old.moved.is_none()) {
            // The new link fell before it was of use: the old one is all there is, and still on its way out.
            slot.current = Some(old);
            slot.reconnect.lost(self.now);
        }
        if was_current || was_old {
            self.link_lost(id, link, &reason);
        }
        self.look_at_vacant(links, id);
        // While another link stands, the fall of this one is no news.
        if self.slots.get(&id).is_some_and(|slot| slot.current.is_none() && !slot.leases.is_empty()) {
            self.fell(id, was_current, is_refusal(down), reason);
        }
        self.arm_slot(id);
    }

    /// A slot without a link: when to dial, and what to tell.
    fn fell(&mut self, id: SlotId, stood: bool, refused: bool, reason: String) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if refused {
            slot.failed = !slot.reconnect.refused(now);
        } else {
            slot.reconnect.fell(slot.falls.saturating_sub(1), now);
        }
        let state = match (slot.failed, slot.stood) {
            (true, _) => State::Failed,
            (false, true) => State::Reconnecting,
            (false, false) => State::Connecting,
        };
        if stood || slot.failed || slot.reason.as_ref() != Some(&reason) {
            slot.reason = Some(reason.clone());
            self.tell(id, state, Some(reason));
        }
    }

    /// Tokens that were refused for the whole session may be good now.
    pub(super) fn renew_slot(&mut self, id: SlotId, lease: LeaseId, fresh: bool) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let announced = slot.current.iter_mut().flat_map(|link| &mut link.announced);
        for (_, announcement) in announced.filter(|((owner, _), _)| *owner == lease) {
            announcement.asking.renewed(now);
            if fresh && announcement.request.is_some() {
                announcement.asking.again(now);
            }
        }
        if std::mem::take(&mut slot.failed) {
            slot.reconnect.accepted();
            slot.reconnect.start(now);
        }
        self.arm_slot(id);
    }

    /// What a link brought and served is gone with it.
    fn link_lost(&mut self, id: SlotId, link: LinkId, reason: &str) {
        let gone: Vec<(RequestId, Role)> =
            self.roles.extract_if(|(owner, _), _| *owner == link).map(|((_, request), role)| (request, role)).collect();
        if let Some(slot) = self.slots.get(&id).filter(|slot| slot.current.is_none()) {
            for track in slot.published.values() {
                self.publishers.get_mut(track).into_iter().for_each(|publisher| publisher.online = false);
            }
        }
        for (request, role) in gone {
            match role {
                Role::Subscription(tracks) => self.lose_feeds(tracks, (link, request), reason),
                Role::Served(track) => self.unserve(track, link, request),
                Role::Announcement(..) | Role::Listing => {}
            }
        }
    }

    /// Closes the link before when nothing depends on it any more.
    pub(super) fn look_at_old(&mut self, links: &mut impl Wires, id: SlotId) {
        let now = self.now;
        let Some(slot) = self.slots.get(&id) else { return };
        let (Some(old), Some(current)) = (&slot.old, &slot.current) else { return };
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let old_id = old.id;
        if due(old.until) || due(old.moved) {
            self.slots.get_mut(&id).into_iter().for_each(|slot| slot.old = None);
            return self.drop_link(links, id, old_id, "moved to another link");
        }
        if old.moved.is_none() && current.set_up && self.has_moved(slot, old_id, current.id) {
            self.leave(links, id, old_id);
            let old = self.slots.get_mut(&id).and_then(|slot| slot.old.as_mut());
            old.into_iter().for_each(|old| old.moved = Some(now + LINGER));
        }
    }

    /// Whatever `old` brought or served is brought and served by `current`.
    fn has_moved(&self, slot: &Slot, old: LinkId, current: LinkId) -> bool {
        let mut served = slot.published.values().filter_map(|track| self.publishers.get(track));
        let mut heard = slot.wanted.values().flatten().filter_map(|track| self.subscribers.get(track));
        served.all(|p| !p.is_served_on(old) || p.is_served_on(current)) && heard.all(|s| s.has_moved(old, current))
    }

    /// Serves nothing more on a link that goes.
    fn leave(&mut self, links: &mut impl Wires, id: SlotId, link: LinkId) {
        let (Some(slot), Some(session)) = (self.slots.get(&id), links.session(link)) else { return };
        for track in slot.published.values().copied() {
            let Some(publisher) = self.publishers.get_mut(&track) else { continue };
            let left = publisher.leave(session, link);
            let count = publisher.subscribers();
            if !left.is_empty() {
                self.events.push_back(Event::Subscribers { track, count });
            }
            for request in left {
                self.roles.remove(&(link, request));
            }
        }
    }

    /// Closes a link that stood, and forgets what it carried.
    fn drop_link(&mut self, links: &mut impl Wires, id: SlotId, link: LinkId, reason: &str) {
        self.links.remove(&link);
        links.close(link, CloseCode::NoError as u64, reason);
        self.link_lost(id, link, reason);
    }

    /// A slot that nobody leases goes when its last words are out.
    pub(super) fn look_at_vacant(&mut self, links: &mut impl Wires, id: SlotId) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(since) = slot.vacant else { return };
        let standing = [&slot.current, &slot.old].into_iter().flatten().map(|link| link.id).collect::<Vec<_>>();
        if slot.spoke && !standing.is_empty() && now.saturating_duration_since(since) < LAST_WORDS {
            let speaks = since == now || standing.iter().any(|link| is_speaking(links, *link, now));
            slot.silent = if speaks { None } else { slot.silent.or(Some(now)) };
            // One look more: what was queued in this turn is on its way only after it.
            if slot.silent.is_none_or(|silent| silent == now) {
                return;
            }
        }
        let route = slot.route;
        self.slots.remove(&id);
        self.timers.set(Timer::Slot(id), None);
        if let Some(route) = self.routes.get_mut(&route) {
            route.slots.retain(|slot| *slot != id);
        }
        for link in standing {
            self.drop_link(links, id, link, "nobody needs this link");
        }
    }
}

/// Words of ours are not acknowledged yet.
fn is_speaking(links: &mut impl Wires, link: LinkId, now: Instant) -> bool {
    links.session(link).is_some_and(|session| session.unwritten() > 0) || !links.quiet_for(link, now).is_zero()
}

/// The peer refused our tokens for the whole session.
fn is_refusal(down: &Down) -> bool {
    let codes = [
        CloseCode::Unauthorized,
        CloseCode::MalformedAuthToken,
        CloseCode::ExpiredAuthToken,
        CloseCode::UnknownAuthTokenAlias,
    ];
    matches!(down, Down::Peer { code, .. } if codes.iter().any(|refusal| *refusal as u64 == *code))
}

/// For people, with what to do about it.
pub(super) fn words(down: &Down) -> String {
    match down {
        Down::Unreachable(reason) => reason.clone(),
        Down::TimedOut => "the relay does not answer: check that it runs and that UDP reaches it".to_owned(),
        Down::Reset => "the relay has restarted".to_owned(),
        Down::Peer { code, reason } => format!("the relay closed the session: {reason:?} (code {code:#x})"),
        Down::Local { code, reason } => format!("the session was closed here: {reason} (code {code:#x})"),
    }
}
