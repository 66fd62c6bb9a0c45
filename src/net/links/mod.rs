//! The links of one worker: which carrier each has, which are touched in this turn, which have news, when each wants time.
//!
//! A link is named by slot and generation, so that a name is never used twice. Everything here runs inside one turn of the
//! worker's loop: nothing waits, and nothing scans all links.

mod inbound;
mod slots;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::{ConnectionEvent, Endpoint, ServerConfig};

use crate::moqt::message::Setup;
use crate::moqt::session::{Config, Limits, Role};
use crate::moqt::{Draft, Drafts, Session};
use crate::net::bell::Bell;
use crate::net::port::{self, Port, PortEnd};
use crate::net::quic::{Birth, Context, Quic};
use crate::net::shown::shown;
use crate::net::socket::{Received, Socket};
use crate::net::timers::Timers;
use crate::net::warm;
use crate::net::{Counters, Dial, Down, Handshakes, LinkEvent, LinkId, Path, Peer, Wire, dial};

/// QUIC packets of one connection in one sending call.
const SEGMENTS: usize = 16;

enum Carrier {
    Quic(Box<Quic>),
    Port(Box<Port>),
    /// A dial that failed before it began.
    None,
}

struct Link {
    id: LinkId,
    session: Option<Session>,
    carrier: Carrier,
    news: VecDeque<LinkEvent>,
    /// On the list of links that may have something to send.
    touched: bool,
    /// On the list of links that may have something to tell.
    telling: bool,
    /// On the list of links whose connection got packets.
    arrived: bool,
    /// Counted among those in their handshake.
    knocking: bool,
    /// The transport has nothing more to do.
    drained: bool,
}

impl Link {
    fn new(id: LinkId, session: Option<Session>, carrier: Carrier) -> Self {
        Self {
            id,
            session,
            carrier,
            news: VecDeque::new(),
            touched: false,
            telling: false,
            arrived: false,
            knocking: false,
            drained: false,
        }
    }
}

/// What a worker's links have in common.
pub(in crate::net) struct Terms {
    pub(in crate::net) drafts: Drafts,
    pub(in crate::net) setup: Setup,
    pub(in crate::net) handshakes: Handshakes,
    pub(in crate::net) limits: Limits,
    pub(in crate::net) server: Option<ServerConfig>,
    /// Of the worker's poll.
    pub(in crate::net) registry: mio::Registry,
}

/// Keys of an app's own sockets become tokens of the poll above those of the worker.
pub(in crate::net) const FIRST_KEY: usize = 16;

/// The links of one worker, as its app sees them.
pub struct Links {
    slots: Vec<Option<Box<Link>>>,
    generations: Vec<u32>,
    free: Vec<usize>,
    /// Slot of a connection.
    by_handle: Vec<usize>,
    touched: Vec<usize>,
    telling: VecDeque<usize>,
    timers: Timers,
    pub(in crate::net) socket: Socket,
    endpoint: Endpoint,
    /// Packets of this turn, and links that got some; empty between turns.
    inbound: Vec<(Received, BytesMut)>,
    arrived: Vec<usize>,
    /// Packets with their links; empty between turns.
    routed: Vec<(usize, ConnectionEvent)>,
    knocking: usize,
    bell: Arc<Bell>,
    /// Our SETUP for those who come to us.
    setup: Setup,
    handshakes: Handshakes,
    limits: Limits,
    /// How those are taken; `None`: nobody is.
    server: Option<ServerConfig>,
    drafts: Drafts,
    registry: mio::Registry,
    pub(in crate::net) counters: Counters,
    now: Instant,
}

impl Links {
    pub(in crate::net) fn new(socket: Socket, endpoint: Endpoint, bell: Arc<Bell>, terms: Terms) -> Self {
        let Terms { drafts, setup, handshakes, limits, server, registry } = terms;
        Self {
            slots: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            by_handle: Vec::new(),
            touched: Vec::new(),
            telling: VecDeque::new(),
            timers: Timers::default(),
            socket,
            endpoint,
            inbound: Vec::new(),
            arrived: Vec::new(),
            routed: Vec::new(),
            knocking: 0,
            bell,
            drafts,
            setup,
            handshakes,
            limits,
            server,
            registry,
            counters: Counters::default(),
            now: Instant::now(),
        }
    }

    /// Starts a connection; the outcome comes as [`LinkEvent::Up`] or [`LinkEvent::Down`].
    pub fn dial(&mut self, dial: Dial, now: Instant) -> LinkId {
        let connected = dial::prepare(dial).and_then(|ready| {
            let remote = self.socket.reach(ready.address);
            let connected = self.endpoint.connect(now, ready.config, remote, &ready.name);
            let (handle, connection) =
                connected.map_err(|error| format!("can't dial {}: {error}", shown(ready.url.as_str())))?;
            Ok((handle, connection, (ready.drafts, ready.setup), ready.url, (ready.demand, ready.first_id)))
        });
        match connected {
            Ok((handle, connection, (drafts, setup), url, (demand, first_id))) => {
                let (role, limits) = (Role::Client, self.limits.clone());
                let birth = Birth { role, drafts, setup, limits, url: Some(url), demand, first_id: Some(first_id) };
                self.insert_quic(handle, connection, birth, now)
            }
            Err(reason) => {
                let (slot, id) = self.insert(Carrier::None, None);
                self.tell(slot, LinkEvent::Down(Down::Unreachable(reason)));
                id
            }
        }
    }

    /// From now on [`App::handle_readable`](super::App::handle_readable) tells under `key` that `socket` has something to read, edge by
    /// edge: it is to be read until it is empty. Closing the socket ends it.
    pub fn watch(&self, socket: BorrowedFd<'_>, key: usize) -> io::Result<()> {
        let token = mio::Token(FIRST_KEY.saturating_add(key));
        self.registry.register(&mut mio::unix::SourceFd(&socket.as_raw_fd()), token, mio::Interest::READABLE)
    }

    /// Takes one end of a [`port`](super::port()) as a link; `setup` is ours (tokens for the dialling side).
    pub fn attach(&mut self, end: PortEnd, role: Role, setup: Setup, now: Instant) -> LinkId {
        let config = Config { role, draft: Draft::D18, setup, limits: self.limits.clone() };
        let mut session = Session::new(config, now);
        session.set_max_datagram(Some(port::DATAGRAM_BYTES));
        let (slot, id) = self.insert(Carrier::None, Some(session));
        let port = Port::attach(end, self.bell.clone(), id);
        if let Some(link) = self.slots[slot].as_mut() {
            link.carrier = Carrier::Port(Box::new(port));
        }
        let peer = Peer { wire: Wire::Port, address: None, accepted: role == Role::Server, path: None };
        self.tell(slot, LinkEvent::Up(peer));
        id
    }

    /// The session of a live link. Whatever is queued in it is sent at the end of the turn.
    pub fn session(&mut self, link: LinkId) -> Option<&mut Session> {
        let slot = self.slot(link)?;
        self.touch(slot);
        let link = self.slots[slot].as_mut()?;
        let session = link.session.as_mut()?;
        if let Carrier::Port(port) = &mut link.carrier {
            port.settle(session);
        }
        if !link.telling {
            link.telling = true;
            self.telling.push_back(slot);
        }
        Some(session)
    }

    /// Closes with a MoQT code; [`LinkEvent::Down`] follows.
    pub fn close(&mut self, link: LinkId, code: u64, reason: &str) {
        let Some(slot) = self.slot(link) else { return };
        let now = self.now;
        let counters = &mut self.counters;
        if let Some(link) = self.slots[slot].as_mut() {
            match (&mut link.session, &mut link.carrier) {
                (Some(session), _) => session.close(code, reason),
                (None, Carrier::Quic(quic)) => quic.close(code, reason),
                (None, Carrier::Port(port)) => {
                    let mut cx = Context { session: &mut link.session, news: &mut link.news, counters, now };
                    port.close(&mut cx, code, reason);
                }
                (None, Carrier::None) => {}
            }
        }
        self.touch(slot);
        self.listen_to(slot);
    }

    /// How long data of ours has been outstanding without an acknowledgement; zero when none is.
    pub fn quiet_for(&self, link: LinkId, now: Instant) -> Duration {
        let link = self.slot(link).and_then(|slot| self.slots[slot].as_ref());
        match link.map(|link| &link.carrier) {
            Some(Carrier::Quic(quic)) => quic.quiet_for(now),
            _ => Duration::ZERO,
        }
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    // ---- the turn ----

    /// Everything whose time has come.
    pub(in crate::net) fn expire(&mut self, now: Instant) {
        self.now = now;
        while let Some(slot) = self.timers.expire(now) {
            self.counters.timeouts += 1;
            let Some(link) = self.slots[slot].as_mut() else { continue };
            match (&link.carrier, &mut link.session) {
                (Carrier::Quic(_), _) => {
                    self.work(slot, |quic, cx| quic.handle_timeout(cx));
                }
                (_, Some(session)) => session.handle_timeout(now),
                _ => {}
            }
            self.touch(slot);
            self.listen_to(slot);
        }
    }

    /// Of a QUIC connection.
    pub fn path(&self, link: LinkId) -> Option<Path> {
        match &self.slots[self.slot(link)?].as_ref()?.carrier {
            Carrier::Quic(quic) => Some(quic.path()),
            Carrier::Port(_) | Carrier::None => None,
        }
    }

    /// By what a dialled connection is found in the logs of whoever was dialled: the Destination Connection ID of its first
    /// packet.
    pub fn first_id(&self, link: LinkId) -> Option<&[u8]> {
        match &self.slots[self.slot(link)?].as_ref()?.carrier {
            Carrier::Quic(quic) => quic.first_id(),
            Carrier::Port(_) | Carrier::None => None,
        }
    }

    /// What neighbours put into ports.
    pub(in crate::net) fn take_ports(&mut self, now: Instant) {
        self.now = now;
        // Each port stands on the bell at most once; one that is listed again meanwhile rang again, and waits for the next
        // turn. Ports that are gone don't count: who hung up last may have rung for one.
        let mut left = self.slots.len();
        while left > 0
            && let Some(id) = self.bell.take_port()
        {
            let Some(slot) = self.slot(id) else { continue };
            left -= 1;
            let Some(link) = self.slots[slot].as_mut() else { continue };
            if let Carrier::Port(port) = &mut link.carrier {
                let counters = &mut self.counters;
                port.intake(&mut Context { session: &mut link.session, news: &mut link.news, counters, now });
            }
            self.touch(slot);
            self.listen_to(slot);
        }
    }

    /// The next thing that the app has to hear, in order per link; [`LinkEvent::Down`] is a link's last.
    pub(in crate::net) fn next_event(&mut self) -> Option<(LinkId, LinkEvent)> {
        while let Some(&slot) = self.telling.front() {
            let Some(link) = self.slots[slot].as_mut() else {
                self.telling.pop_front();
                continue;
            };
            let ends = matches!(link.news.front(), Some(LinkEvent::Down(_)));
            if !ends && let Some(event) = link.news.pop_front() {
                return Some((link.id, event));
            }
            if let Some(event) = link.session.as_mut().and_then(Session::poll_event) {
                return Some((link.id, LinkEvent::Moqt(event)));
            }
            link.telling = false;
            self.telling.pop_front();
            if let Some(event) = link.news.pop_front() {
                let id = link.id;
                link.session = None;
                if link.drained || !matches!(link.carrier, Carrier::Quic(_)) {
                    self.remove(slot);
                }
                return Some((id, event));
            }
        }
        None
    }

    /// Sends what each touched link has to say.
    pub(in crate::net) fn flush(&mut self, now: Instant) {
        self.now = now;
        self.socket.flush(&mut self.counters);
        // Whatever is touched meanwhile stands behind these, for the next turn.
        let count = self.touched.len();
        for at in 0..count {
            self.ask_for_next(at);
            let slot = self.touched[at];
            let Some(link) = self.slots[slot].as_mut() else { continue };
            link.touched = false;
            if !self.socket.is_writable() && matches!(link.carrier, Carrier::Quic(_)) {
                self.touch(slot);
                continue;
            }
            self.flush_link(slot);
        }
        self.touched.drain(..count);
        self.socket.flush(&mut self.counters);
    }

    /// Something was left to tell or to send that need not wait for the network.
    pub(in crate::net) fn has_work(&self) -> bool {
        !self.telling.is_empty() || (!self.touched.is_empty() && self.socket.is_writable())
    }

    pub(in crate::net) fn next_timeout(&mut self) -> Option<Instant> {
        self.timers.next()
    }

    /// The app is done: every link says goodbye. Nobody hears of it any more.
    pub(in crate::net) fn close_all(&mut self) {
        let live: Vec<LinkId> = self.slots.iter().flatten().map(|link| link.id).collect();
        for id in live {
            self.close(id, 0, "");
        }
    }

    /// As a killed process does.
    #[cfg(test)]
    pub(in crate::net) fn forget_all(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = None);
    }

    /// While one link is flushed, the next ones' memory is on its way.
    fn ask_for_next(&self, at: usize) {
        let link = |ahead: usize| self.touched.get(at + ahead).and_then(|slot| self.slots[*slot].as_ref());
        if let Some(link) = link(2) {
            warm::ask_for(&**link);
        }
        if let Some(Carrier::Quic(quic)) = link(1).map(|link| &link.carrier) {
            warm::ask_for(&**quic);
        }
    }

    fn flush_link(&mut self, slot: usize) {
        self.with_quic(slot, |quic, cx| quic.output(cx));
        self.socket.begin_link();
        let sent = self.transmit(slot);
        let mut closes = false;
        self.with_quic(slot, |quic, cx| closes = quic.close_if_asked(cx));
        if closes {
            self.transmit(slot);
        }
        let Some(link) = self.slots[slot].as_mut() else { return };
        let deadline = match &mut link.carrier {
            Carrier::Quic(quic) => {
                if sent {
                    quic.sent(self.now);
                }
                quic.poll_timeout(link.session.as_ref())
            }
            Carrier::Port(port) => {
                let (now, counters) = (self.now, &mut self.counters);
                port.output(&mut Context { session: &mut link.session, news: &mut link.news, counters, now });
                link.session.as_ref().and_then(Session::poll_timeout)
            }
            Carrier::None => None,
        };
        let tells = !link.news.is_empty();
        self.timers.arm(slot, deadline);
        if tells {
            self.listen_to(slot);
        }
    }

    /// Packets of one connection, as far as congestion control and the kernel take them. `true`: there were some.
    fn transmit(&mut self, slot: usize) -> bool {
        let segments = self.socket.max_segments().min(SEGMENTS);
        let mut sent = false;
        while self.socket.is_writable() {
            let Some(link) = self.slots[slot].as_mut() else { break };
            let Carrier::Quic(quic) = &mut link.carrier else { break };
            let mut buffer = self.socket.buffer();
            let (now, counters) = (self.now, &mut self.counters);
            let mut cx = Context { session: &mut link.session, news: &mut link.news, counters, now };
            let Some(transmit) = quic.transmit(&mut cx, segments, &mut buffer) else {
                self.socket.give_back(buffer);
                break;
            };
            self.socket.push(transmit, buffer, &mut self.counters);
            sent = true;
        }
        sent
    }

    /// Runs `step` on a connection, then carries its words to the endpoint and back.
    fn work(&mut self, slot: usize, step: impl FnOnce(&mut Quic, &mut Context<'_>)) {
        self.with_quic(slot, step);
        let Some(link) = self.slots[slot].as_mut() else { return };
        let Carrier::Quic(quic) = &mut link.carrier else { return };
        link.arrived = false;
        while let Some(event) = quic.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(quic.handle, event) {
                quic.connection.handle_event(event);
            }
        }
        if link.knocking && !quic.is_knocking() {
            link.knocking = false;
            self.knocking -= 1;
        }
        link.drained = quic.connection.is_drained();
        if link.drained && link.news.is_empty() {
            self.remove(slot);
            return;
        }
        self.touch(slot);
        self.listen_to(slot);
    }

    fn with_quic(&mut self, slot: usize, step: impl FnOnce(&mut Quic, &mut Context<'_>)) {
        let Some(link) = self.slots[slot].as_mut() else { return };
        if let Carrier::Quic(quic) = &mut link.carrier {
            let (now, counters) = (self.now, &mut self.counters);
            step(quic, &mut Context { session: &mut link.session, news: &mut link.news, counters, now });
        }
    }

    pub(in crate::net) fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }
}
