//! Where links stand: slots that are used again, names that are not.

use std::time::Instant;

use quinn_proto::{Connection, ConnectionHandle};

use super::{Carrier, Link, Links};
use crate::moqt::Session;
use crate::net::quic::{Birth, Quic};
use crate::net::{LinkEvent, LinkId};

impl Links {
    pub(super) fn insert_quic(
        &mut self,
        handle: ConnectionHandle,
        connection: Connection,
        birth: Birth,
        now: Instant,
    ) -> LinkId {
        let quic = Quic::new(handle, connection, birth, now);
        let (slot, id) = self.insert(Carrier::Quic(Box::new(quic)), None);
        if handle.0 >= self.by_handle.len() {
            self.by_handle.resize(handle.0 + 1, usize::MAX);
        }
        self.by_handle[handle.0] = slot;
        id
    }

    pub(super) fn insert(&mut self, carrier: Carrier, session: Option<Session>) -> (usize, LinkId) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.generations.push(0);
            self.slots.len() - 1
        });
        let id = LinkId(u64::from(self.generations[slot]) << 32 | slot as u64);
        self.slots[slot] = Some(Box::new(Link::new(id, session, carrier)));
        self.counters.links += 1;
        self.touch(slot);
        (slot, id)
    }

    pub(super) fn remove(&mut self, slot: usize) {
        if let Some(link) = self.slots[slot].take() {
            self.knocking -= usize::from(link.knocking);
            self.generations[slot] = self.generations[slot].wrapping_add(1);
            self.timers.arm(slot, None);
            self.counters.links -= 1;
            self.free.push(slot);
        }
    }

    pub(super) fn slot(&self, link: LinkId) -> Option<usize> {
        let slot = (link.0 & 0xffff_ffff) as usize;
        self.slots.get(slot)?.as_ref().filter(|found| found.id == link).map(|_| slot)
    }

    pub(super) fn touch(&mut self, slot: usize) {
        if let Some(link) = self.slots[slot].as_mut()
            && !std::mem::replace(&mut link.touched, true)
        {
            self.touched.push(slot);
        }
    }

    pub(super) fn listen_to(&mut self, slot: usize) {
        if let Some(link) = self.slots[slot].as_mut()
            && !std::mem::replace(&mut link.telling, true)
        {
            self.telling.push_back(slot);
        }
    }

    pub(super) fn tell(&mut self, slot: usize, event: LinkEvent) {
        if let Some(link) = self.slots[slot].as_mut() {
            link.news.push_back(event);
        }
        self.listen_to(slot);
    }
}
