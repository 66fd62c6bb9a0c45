//! A link without a wire: two bounded queues that carry the transmits of one session into the `handle_*` of another, in one process.
//!
//! Each direction is a lane with [`LANE_BYTES`] in flight at most. What does not fit waits at its session's side, in order, and the session's
//! backlog shows it, as for a stream without credit; a datagram that does not fit is dropped and counted. The other worker
//! is woken at most once per turn, and only if it sleeps. No bytes are copied.
//!
//! A port has no privilege: both ends are sessions with SETUP, requests and limits like any stranger's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst, fence};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use crossbeam_queue::SegQueue;

use super::bell::Bell;
use super::quic::Context;
use super::{Counters, Down, LinkEvent, LinkId};
use crate::moqt::ids::IdMap;
use crate::moqt::session::{Dir, StreamId};
use crate::moqt::{Session, Transmit};

/// In flight per direction: some 10 s of a thousand Opus tracks' worth of one turn, far more than a turn moves.
const LANE_BYTES: usize = 1 << 20;
/// What an item weighs beside its bytes.
const ITEM_BYTES: usize = 64;
/// Items taken per turn, so that a fast sender can't hold the loop.
const ITEMS_PER_TURN: usize = 8_192;
/// The largest datagram a port carries.
pub(super) const DATAGRAM_BYTES: usize = 16 << 10;

/// Two ends of a link inside the process, each for the worker of one thread.
pub fn port() -> (PortEnd, PortEnd) {
    let (there, back) = (Arc::new(Lane::default()), Arc::new(Lane::default()));
    (PortEnd { out: there.clone(), inward: back.clone() }, PortEnd { out: back, inward: there })
}

/// One end of an in-process link. Dropping it ends the link for the other end.
pub struct PortEnd {
    out: Arc<Lane>,
    inward: Arc<Lane>,
}

impl Drop for PortEnd {
    fn drop(&mut self) {
        self.out.closed.store(true, SeqCst);
        self.out.announce();
    }
}

impl std::fmt::Debug for PortEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PortEnd").field("in_flight_bytes", &self.out.bytes.load(SeqCst)).finish_non_exhaustive()
    }
}

/// One direction.
#[derive(Default)]
struct Lane {
    items: SegQueue<Item>,
    bytes: AtomicUsize,
    /// Data items that the receiver has taken.
    taken: AtomicU64,
    /// On the receiver's bell and not yet looked at.
    listed: AtomicBool,
    /// The sender waits for room.
    hungry: AtomicBool,
    closed: AtomicBool,
    receiver: OnceLock<(Arc<Bell>, LinkId)>,
}

impl Lane {
    /// Puts the receiver's link on its bell, once until it looks.
    fn announce(&self) {
        // Either we see the receiver, or it sees what we pushed when it attaches.
        fence(SeqCst);
        if let Some((bell, link)) = self.receiver.get()
            && !self.listed.swap(true, SeqCst)
        {
            bell.ring_for(*link);
        }
    }
}

/// A stream as both ends know it: the name that its opener gave it.
#[derive(Clone, Copy)]
struct Name {
    stream: StreamId,
    /// The sender of the item opened it.
    by_sender: bool,
}

enum Item {
    Open { stream: StreamId, dir: Dir },
    Data { name: Name, data: Bytes },
    Finish { name: Name },
    Reset { name: Name, code: u64 },
    Stop { name: Name, code: u64 },
    Datagram(Bytes),
    Close { code: u64, reason: String },
}

impl Item {
    fn weight(&self) -> usize {
        match self {
            Self::Data { data, .. } | Self::Datagram(data) => ITEM_BYTES + data.len(),
            _ => ITEM_BYTES,
        }
    }
}

/// Streams of the other end and their halves that are still open.
struct Foreign {
    theirs: StreamId,
    sends: bool,
    receives: bool,
}

/// An attached end.
pub(super) struct Port {
    end: PortEnd,
    waiting: VecDeque<Item>,
    /// Data items in flight, in order: what is reported as written when the other side takes it.
    in_flight: VecDeque<(StreamId, usize)>,
    reported: u64,
    /// Streams that the other end opened: his name → ours, and back.
    accepted: IdMap<StreamId, StreamId>,
    foreign: IdMap<StreamId, Foreign>,
    pushed: bool,
    down: bool,
}

impl Port {
    pub(super) fn attach(end: PortEnd, bell: Arc<Bell>, link: LinkId) -> Self {
        // An end is attached once: attach takes it by value.
        let _ = end.inward.receiver.set((bell, link));
        end.inward.announce();
        Self {
            end,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            reported: 0,
            accepted: IdMap::default(),
            foreign: IdMap::default(),
            pushed: false,
            down: false,
        }
    }

    /// What the other end sent goes into the session.
    pub(super) fn intake(&mut self, cx: &mut Context<'_>) {
        let lane = self.end.inward.clone();
        lane.listed.store(false, SeqCst);
        // Read before the items: whatever was pushed before the end closed is among them.
        let closed = lane.closed.load(SeqCst);
        let mut count = 0;
        while let Some(item) = lane.items.pop() {
            lane.bytes.fetch_sub(item.weight(), SeqCst);
            lane.taken.fetch_add(u64::from(matches!(item, Item::Data { .. })), SeqCst);
            self.take(item, cx);
            count += 1;
            if count == ITEMS_PER_TURN {
                lane.announce();
                break;
            }
        }
        if lane.hungry.load(SeqCst) && lane.hungry.swap(false, SeqCst) {
            self.end.out.announce();
        }
        if let Some(session) = cx.session.as_mut() {
            self.settle(session);
        }
        if closed && count < ITEMS_PER_TURN {
            self.down(cx, Down::Reset);
        }
    }

    fn take(&mut self, item: Item, cx: &mut Context<'_>) {
        let Some(session) = cx.session.as_mut().filter(|_| !self.down) else { return };
        match item {
            Item::Open { stream, dir } => {
                let ours = session.accept_stream(dir);
                self.accepted.insert(stream, ours);
                self.foreign.insert(ours, Foreign { theirs: stream, sends: dir == Dir::Bi, receives: true });
            }
            Item::Data { name, data } => {
                if let Some(stream) = self.ours(name) {
                    session.handle_data(stream, data, false, cx.now);
                }
            }
            Item::Finish { name } => {
                if let Some(stream) = self.ours(name) {
                    session.handle_data(stream, Bytes::new(), true, cx.now);
                    self.half_done(stream, |foreign| foreign.receives = false);
                }
            }
            Item::Reset { name, code } => {
                if let Some(stream) = self.ours(name) {
                    session.handle_reset(stream, code, cx.now);
                    self.half_done(stream, |foreign| foreign.receives = false);
                }
            }
            Item::Stop { name, code } => {
                if let Some(stream) = self.ours(name) {
                    session.handle_stopped(stream, code, cx.now);
                }
            }
            Item::Datagram(data) => {
                cx.counters.datagrams_in += 1;
                session.handle_datagram(data, cx.now);
            }
            Item::Close { code, reason } => self.down(cx, Down::Peer { code, reason }),
        }
    }

    /// Moves what the session says into the lane, and tells the other worker once.
    pub(super) fn output(&mut self, cx: &mut Context<'_>) {
        if let Some(session) = cx.session.as_mut().filter(|_| !self.down) {
            self.settle(session);
            let mut close = None;
            while let Some(transmit) = session.poll_transmit() {
                match transmit {
                    Transmit::Close { code, reason } => {
                        close = Some((code, reason));
                        break;
                    }
                    Transmit::Datagram { request, data } => {
                        if !self.datagram(data, cx.counters) {
                            session.handle_dropped(request);
                        }
                    }
                    other => self.say(other),
                }
            }
            if let Some((code, reason)) = close {
                self.last_words(code, &reason);
                self.down(cx, Down::Local { code, reason });
            }
        }
        if std::mem::take(&mut self.pushed) {
            self.end.out.announce();
        }
    }

    /// Reports what the other side took, and fills the room that this made.
    pub(super) fn settle(&mut self, session: &mut Session) {
        let taken = self.end.out.taken.load(SeqCst);
        while self.reported < taken
            && let Some((stream, bytes)) = self.in_flight.pop_front()
        {
            self.reported += 1;
            session.handle_written(stream, bytes);
        }
        while self.has_room()
            && let Some(item) = self.waiting.pop_front()
        {
            self.push(item);
        }
    }

    /// Nobody at the other end, or no session any more.
    pub(super) fn close(&mut self, cx: &mut Context<'_>, code: u64, reason: &str) {
        if !self.down {
            self.last_words(code, reason);
            self.down(cx, Down::Local { code, reason: reason.to_owned() });
        }
    }

    fn say(&mut self, transmit: Transmit) {
        let item = match transmit {
            Transmit::Open { stream, dir, .. } => Some(Item::Open { stream, dir }),
            Transmit::Data { stream, data } => self.theirs(stream).map(|name| Item::Data { name, data }),
            Transmit::Finish { stream } => self.last_of(stream).map(|name| Item::Finish { name }),
            Transmit::Reset { stream, code } => self.last_of(stream).map(|name| Item::Reset { name, code }),
            Transmit::Stop { stream, code } => self.theirs(stream).map(|name| Item::Stop { name, code }),
            // A port sends in the order of the session.
            Transmit::Priority { .. } | Transmit::Datagram { .. } | Transmit::Close { .. } => None,
        };
        if let Some(item) = item {
            if self.waiting.is_empty() && self.has_room() {
                self.push(item);
            } else {
                self.waiting.push_back(item);
            }
        }
    }

    /// `false`: there was no room for it.
    fn datagram(&mut self, data: Bytes, counters: &mut Counters) -> bool {
        let fits = self.has_room();
        if fits {
            counters.datagrams_out += 1;
            self.push(Item::Datagram(data));
        } else {
            counters.datagrams_dropped += 1;
        }
        fits
    }

    /// What waits, without regard to room (the session bounded it), and the close.
    fn last_words(&mut self, code: u64, reason: &str) {
        while let Some(item) = self.waiting.pop_front() {
            self.push(item);
        }
        self.push(Item::Close { code, reason: reason.to_owned() });
        self.end.out.announce();
        self.pushed = false;
    }

    fn down(&mut self, cx: &mut Context<'_>, down: Down) {
        if !std::mem::replace(&mut self.down, true) {
            cx.news.push_back(LinkEvent::Down(down));
        }
    }

    /// After saying that it is hungry the sender looks again: else the receiver could empty the lane in between, unasked.
    fn has_room(&self) -> bool {
        let lane = &self.end.out;
        if lane.bytes.load(SeqCst) < LANE_BYTES {
            return true;
        }
        lane.hungry.store(true, SeqCst);
        lane.bytes.load(SeqCst) < LANE_BYTES
    }

    fn push(&mut self, item: Item) {
        if let Item::Data { name, data } = &item {
            let stream = if name.by_sender { Some(name.stream) } else { self.accepted.get(&name.stream).copied() };
            self.in_flight.push_back((stream.unwrap_or(name.stream), data.len()));
        }
        self.end.out.bytes.fetch_add(item.weight(), SeqCst);
        self.end.out.items.push(item);
        self.pushed = true;
    }

    /// Our name of a stream in an item of theirs.
    fn ours(&self, name: Name) -> Option<StreamId> {
        match name.by_sender {
            true => self.accepted.get(&name.stream).copied(),
            false => Some(name.stream),
        }
    }

    /// The name that the other end knows. Names of streams that we accepted are odd.
    fn theirs(&self, stream: StreamId) -> Option<Name> {
        match stream.0 % 2 {
            0 => Some(Name { stream, by_sender: true }),
            _ => self.foreign.get(&stream).map(|foreign| Name { stream: foreign.theirs, by_sender: false }),
        }
    }

    fn last_of(&mut self, stream: StreamId) -> Option<Name> {
        let name = self.theirs(stream);
        self.half_done(stream, |foreign| foreign.sends = false);
        name
    }

    fn half_done(&mut self, stream: StreamId, half: impl Fn(&mut Foreign)) {
        if let Some(foreign) = self.foreign.get_mut(&stream) {
            half(foreign);
            if !foreign.sends && !foreign.receives {
                let theirs = foreign.theirs;
                self.foreign.remove(&stream);
                self.accepted.remove(&theirs);
            }
        }
    }
}
