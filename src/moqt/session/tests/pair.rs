//! Two sessions and a link between them, in virtual time: delay, jitter, reorder between streams, chunks cut anywhere, lost
//! datagrams. The same seed gives the same run. Made for every room that speaks MoQT.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::moqt::message::Setup;
use crate::moqt::session::{Config, Dir, Event, Limits, Role, Session, StreamId, Transmit};
use crate::moqt::version::Draft;

/// A small seeded generator (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `n`; 0 when `n` is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Bytes {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// How the link treats what it carries.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    pub(crate) draft: Draft,
    pub(crate) seed: u64,
    pub(crate) delay: Duration,
    /// Added at random; what is not of one stream is reordered by it.
    pub(crate) jitter: Duration,
    /// Largest chunk; 0: as it was written.
    pub(crate) chunk: usize,
    /// Of 100 datagrams.
    pub(crate) loss: u64,
    pub(crate) max_datagram: Option<usize>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            draft: Draft::D18,
            seed: 1,
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            chunk: 0,
            loss: 0,
            max_datagram: Some(1200),
        }
    }
}

impl Conditions {
    /// Jitter, chunks of all sizes (1 byte too) and drafts by seed: 15 in a row meet everything.
    pub(crate) fn rough(seed: u64) -> Self {
        let chunk = [1, 2, 7, 64, 0][(seed % 5) as usize];
        let draft = Draft::ALL[(seed / 5) as usize % Draft::ALL.len()];
        Self { draft, seed, jitter: Duration::from_millis(30), chunk, ..Self::default() }
    }
}

/// Bounds as generous as an application sets them.
pub(crate) fn limits() -> Limits {
    Limits {
        setup_timeout: Duration::from_secs(5),
        requests: 4096,
        object_bytes: 64 * 1024,
        pending_bytes: 32 * 1024,
        pending_time: Duration::from_millis(500),
    }
}

pub(crate) fn config(role: Role) -> Config {
    Config { role, draft: Draft::D18, setup: Setup::default(), limits: limits() }
}

enum Packet {
    Data { dir: Dir, data: Bytes, fin: bool },
    Reset { dir: Dir, code: u64 },
    Stop { code: u64 },
    Datagram(Bytes),
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// What the link does not take while it is stalled.
    held: VecDeque<Transmit>,
    stalled: bool,
    /// By arrival.
    flying: BTreeMap<(Instant, u64), (StreamId, Packet)>,
    /// When the last packet of each stream arrives: order holds within a stream.
    last: HashMap<StreamId, Instant>,
    dirs: HashMap<StreamId, Dir>,
    /// The sender's name of a stream to the receiver's.
    names: HashMap<StreamId, StreamId>,
    seq: u64,
}

/// A client, a server, and the link. Events gather in `client_events` and `server_events`.
pub(crate) struct Pair {
    pub(crate) client: Session,
    pub(crate) server: Session,
    pub(crate) client_events: VecDeque<Event>,
    pub(crate) server_events: VecDeque<Event>,
    pub(crate) now: Instant,
    /// Who closed, with what; nothing is carried any more.
    pub(crate) closed: Option<(Role, u64, String)>,
    conditions: Conditions,
    rng: Rng,
    to_server: Lane,
    to_client: Lane,
}

impl Pair {
    pub(crate) fn new(conditions: Conditions) -> Self {
        let config = |role| Config { draft: conditions.draft, ..config(role) };
        let (client, server) = (config(Role::Client), config(Role::Server));
        Self::with(conditions, client, server, Instant::now())
    }

    pub(crate) fn with(conditions: Conditions, client: Config, server: Config, now: Instant) -> Self {
        let (mut client, mut server) = (Session::new(client, now), Session::new(server, now));
        client.set_max_datagram(conditions.max_datagram);
        server.set_max_datagram(conditions.max_datagram);
        Self {
            client,
            server,
            client_events: VecDeque::new(),
            server_events: VecDeque::new(),
            now,
            closed: None,
            rng: Rng(conditions.seed),
            conditions,
            to_server: Lane::default(),
            to_client: Lane::default(),
        }
    }

    fn lanes(&mut self, from: Role) -> (&mut Session, &mut Lane, &mut Lane) {
        match from {
            Role::Client => (&mut self.client, &mut self.to_server, &mut self.to_client),
            Role::Server => (&mut self.server, &mut self.to_client, &mut self.to_server),
        }
    }

    /// The link of this side takes no stream data until it is called with `false`.
    pub(crate) fn stall(&mut self, from: Role, stalled: bool) {
        self.lanes(from).1.stalled = stalled;
        self.pump();
    }

    /// Moves what both sessions have to say onto the link, and their events out.
    pub(crate) fn pump(&mut self) {
        for from in [Role::Client, Role::Server] {
            if !self.lanes(from).1.stalled {
                for transmit in std::mem::take(&mut self.lanes(from).1.held) {
                    self.carry(from, transmit);
                }
            }
            while let Some(transmit) = self.lanes(from).0.poll_transmit() {
                self.take(from, transmit);
            }
        }
        self.client_events.extend(std::iter::from_fn(|| self.client.poll_event()));
        self.server_events.extend(std::iter::from_fn(|| self.server.poll_event()));
    }

    fn take(&mut self, from: Role, transmit: Transmit) {
        let lane = self.lanes(from).1;
        match &transmit {
            Transmit::Data { .. } | Transmit::Finish { .. } if lane.stalled => lane.held.push_back(transmit),
            Transmit::Reset { stream: reset, .. } => {
                lane.held.retain(|held| match held {
                    Transmit::Data { stream, .. } | Transmit::Finish { stream } => stream != reset,
                    _ => true,
                });
                self.carry(from, transmit);
            }
            _ => self.carry(from, transmit),
        }
    }

    fn carry(&mut self, from: Role, transmit: Transmit) {
        if self.closed.is_some() {
            return;
        }
        match transmit {
            Transmit::Open { stream, dir, .. } => drop(self.lanes(from).1.dirs.insert(stream, dir)),
            Transmit::Priority { .. } => {}
            Transmit::Data { stream, data } => {
                self.lanes(from).0.handle_written(stream, data.len());
                self.cut(from, stream, data);
            }
            Transmit::Finish { stream } => {
                let dir = self.dir(from, stream);
                self.fly(from, stream, Packet::Data { dir, data: Bytes::new(), fin: true });
            }
            Transmit::Reset { stream, code } => {
                if self.rng.below(2) == 0 {
                    // It overtakes what was sent before.
                    let lost = |packet: &Packet| matches!(packet, Packet::Data { .. });
                    self.lanes(from).1.flying.retain(|_, (of, packet)| *of != stream || !lost(packet));
                }
                let dir = self.dir(from, stream);
                self.fly(from, stream, Packet::Reset { dir, code });
            }
            Transmit::Stop { stream, code } => self.fly(from, stream, Packet::Stop { code }),
            Transmit::Datagram { data, .. } => {
                if self.rng.below(100) >= self.conditions.loss {
                    self.fly(from, StreamId(u64::MAX), Packet::Datagram(data));
                }
            }
            Transmit::Close { code, reason } => self.closed = Some((from, code, reason)),
        }
    }

    fn dir(&mut self, from: Role, stream: StreamId) -> Dir {
        // Streams of the peer that we may write to are bidirectional.
        self.lanes(from).1.dirs.get(&stream).copied().unwrap_or(Dir::Bi)
    }

    fn cut(&mut self, from: Role, stream: StreamId, mut data: Bytes) {
        let dir = self.dir(from, stream);
        while !data.is_empty() {
            let most = if self.conditions.chunk == 0 { data.len() } else { self.conditions.chunk.min(data.len()) };
            let len = if self.conditions.chunk == 0 { most } else { 1 + self.rng.below(most as u64) as usize };
            self.fly(from, stream, Packet::Data { dir, data: data.split_to(len), fin: false });
        }
    }

    fn fly(&mut self, from: Role, stream: StreamId, packet: Packet) {
        let jitter = self.rng.below(self.conditions.jitter.as_micros() as u64 + 1);
        let mut at = self.now + self.conditions.delay + Duration::from_micros(jitter);
        let lane = self.lanes(from).1;
        if matches!(packet, Packet::Data { .. } | Packet::Reset { .. }) {
            let last = lane.last.entry(stream).or_insert(at);
            at = at.max(*last);
            *last = at;
        }
        lane.seq += 1;
        let seq = lane.seq;
        lane.flying.insert((at, seq), (stream, packet));
    }

    /// Goes to the next thing that happens, at most to `until`. `false`: nothing happens before.
    pub(crate) fn step(&mut self, until: Instant) -> bool {
        self.pump();
        match self.next_event().filter(|at| *at <= until) {
            Some(at) => {
                self.advance(at);
                true
            }
            None => {
                self.now = self.now.max(until);
                false
            }
        }
    }

    /// When something arrives or a session wants to be called.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        if self.closed.is_some() {
            return None;
        }
        let arrival = |lane: &Lane| lane.flying.first_key_value().map(|((at, _), _)| *at);
        let times = [
            arrival(&self.to_server),
            arrival(&self.to_client),
            self.client.poll_timeout(),
            self.server.poll_timeout(),
        ];
        times.into_iter().flatten().min()
    }

    /// Sets the time, delivers what has arrived by then, and runs the sessions' timers.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        for from in [Role::Client, Role::Server] {
            while let Some(entry) = self.lanes(from).1.flying.first_entry().filter(|entry| entry.key().0 <= now) {
                let (stream, packet) = entry.remove();
                self.deliver(from, stream, packet);
            }
        }
        for side in [Role::Client, Role::Server] {
            let now = self.now;
            let session = self.lanes(side).0;
            if session.poll_timeout().is_some_and(|at| at <= now) {
                session.handle_timeout(now);
            }
        }
        self.pump();
    }

    fn deliver(&mut self, from: Role, stream: StreamId, packet: Packet) {
        if self.closed.is_some() {
            return;
        }
        let now = self.now;
        let (receiver, to) = match from {
            Role::Client => (&mut self.server, Role::Server),
            Role::Server => (&mut self.client, Role::Client),
        };
        let dir = match packet {
            Packet::Datagram(data) => return receiver.handle_datagram(data, now),
            Packet::Data { dir, .. } | Packet::Reset { dir, .. } => dir,
            Packet::Stop { .. } => Dir::Bi,
        };
        let (there, back) = match from {
            Role::Client => (&mut self.to_server, &mut self.to_client),
            Role::Server => (&mut self.to_client, &mut self.to_server),
        };
        let name = *there.names.entry(stream).or_insert_with(|| {
            let name = receiver.accept_stream(dir);
            back.names.insert(name, stream);
            name
        });
        match packet {
            Packet::Data { data, fin, .. } => receiver.handle_data(name, data, fin, now),
            Packet::Reset { code, .. } => receiver.handle_reset(name, code, now),
            Packet::Stop { code } => receiver.handle_stopped(name, code, now),
            Packet::Datagram(_) => {}
        }
        debug_assert!(to != from);
        self.pump();
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Until nothing is on its way; timers do not count.
    pub(crate) fn settle(&mut self) {
        self.pump();
        while self.closed.is_none() && !(self.to_server.flying.is_empty() && self.to_client.flying.is_empty()) {
            let next = self.next_event();
            self.advance(next.expect("something is flying"));
        }
    }

    /// Takes the first event of a side that `pick` takes; events before it stay.
    pub(crate) fn find<T>(&mut self, side: Role, mut pick: impl FnMut(&Event) -> Option<T>) -> Option<T> {
        let events = match side {
            Role::Client => &mut self.client_events,
            Role::Server => &mut self.server_events,
        };
        let (at, found) = events.iter().enumerate().find_map(|(at, event)| Some((at, pick(event)?)))?;
        events.remove(at);
        Some(found)
    }
}
