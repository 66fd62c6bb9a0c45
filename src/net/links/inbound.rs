//! Packets in: to their connection, to a newcomer's handshake, or answered outside of any connection.

use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::{DatagramEvent, Incoming, Transmit};

use super::{Carrier, Links};
use crate::moqt::session::Role;
use crate::net::congestion::Demand;
use crate::net::quic::Birth;
use crate::net::socket::Received;
use crate::net::{transport, warm};
impl Links {
    /// Takes packets from the socket. `true`: there may be more.
    pub(in crate::net) fn receive(&mut self, now: Instant) -> bool {
        self.now = now;
        let mut inbound = std::mem::take(&mut self.inbound);
        let more = self.socket.receive(&mut self.counters, |received, packet| inbound.push((*received, packet)));
        let mut arrived = std::mem::take(&mut self.arrived);
        for (received, packet) in inbound.drain(..) {
            self.packet(received, packet, &mut arrived);
        }
        self.inbound = inbound;
        self.hand_over(&mut arrived);
        for slot in arrived.drain(..) {
            self.work(slot, |quic, cx| quic.intake(cx));
        }
        self.arrived = arrived;
        more
    }

    fn packet(&mut self, received: Received, packet: BytesMut, arrived: &mut Vec<usize>) {
        let Received { from, to, ecn } = received;
        let mut buffer = self.socket.buffer();
        match self.endpoint.handle(self.now, from, to, ecn, packet, &mut buffer) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let slot = self.by_handle.get(handle.0).copied().unwrap_or(usize::MAX);
                if let Some(link) = self.slots.get(slot).and_then(Option::as_ref) {
                    warm::ask_for(&**link);
                    self.routed.push((slot, event));
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => arrived.extend(self.admit(incoming)),
            Some(DatagramEvent::Response(transmit)) => return self.respond(transmit, buffer),
            None => {}
        }
        self.socket.give_back(buffer);
    }

    /// To their connections, whose memory is asked for before the first of them is read.
    fn hand_over(&mut self, arrived: &mut Vec<usize>) {
        for (slot, _) in &self.routed {
            if let Some(Carrier::Quic(quic)) = self.slots[*slot].as_ref().map(|link| &link.carrier) {
                warm::ask_for(&**quic);
            }
        }
        for (slot, event) in self.routed.drain(..) {
            let Some(link) = self.slots[slot].as_mut() else { continue };
            if let Carrier::Quic(quic) = &mut link.carrier {
                quic.connection.handle_event(event);
            }
            if !std::mem::replace(&mut link.arrived, true) {
                arrived.push(slot);
            }
        }
    }

    /// Somebody knocks.
    fn admit(&mut self, incoming: Incoming) -> Option<usize> {
        let mut buffer = self.socket.buffer();
        if self.knocking >= self.handshakes.refuse_from {
            self.counters.refused += 1;
            let transmit = self.endpoint.refuse(incoming, &mut buffer);
            self.respond(transmit, buffer);
            return None;
        }
        if self.knocking >= self.handshakes.retry_from && incoming.may_retry() && !incoming.remote_address_validated() {
            self.counters.retried += 1;
            if let Ok(transmit) = self.endpoint.retry(incoming, &mut buffer) {
                self.respond(transmit, buffer);
            }
            return None;
        }
        let demand = Demand::default();
        let config = self.server.as_ref().map(|base| transport::accepted(base, &demand));
        match self.endpoint.accept(incoming, self.now, &mut buffer, config) {
            Ok((handle, connection)) => {
                let (drafts, setup, limits) = (self.drafts.clone(), self.setup.clone(), self.limits.clone());
                let birth = Birth { role: Role::Server, drafts, setup, limits, url: None, demand, first_id: None };
                let id = self.insert_quic(handle, connection, birth, self.now);
                let slot = self.slot(id)?;
                if let Some(link) = self.slots[slot].as_mut() {
                    link.knocking = true;
                    link.arrived = true;
                    self.knocking += 1;
                }
                Some(slot)
            }
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.respond(transmit, buffer);
                }
                None
            }
        }
    }

    /// One packet outside of connections; lost if the kernel is full, as the network may lose it.
    fn respond(&mut self, transmit: Transmit, buffer: Vec<u8>) {
        if self.socket.is_writable() {
            self.socket.begin_link();
            self.socket.push(transmit, buffer, &mut self.counters);
        }
    }
}
