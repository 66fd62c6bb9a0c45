//! Pools and a relay (or a peer played by the test) in virtual time: each link is a pair of real sessions over a simulated
//! wire, and the relay is the relay's own core.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::moqt::message::{Setup, Token};
use crate::moqt::relay::{Core, Gate, Lease, Limits, Rights, Sessions};
use crate::moqt::session::tests::pair::{Conditions, Pair, config};
use crate::moqt::session::{Config, Role};
use crate::moqt::{Event as Moqt, FullTrackName, RequestErrorCode, Session, TrackNamespace};
use crate::net::{Dial, Down, LinkEvent, LinkId, Peer, PortEnd, Trust, Wire};
use crate::tracks::{
    Delivery, DialId, Event, LeaseId, Pool, PublishTrack, RouteId, RouteKind, Supply, TrackId, Wires, Written,
};

pub(super) const UNIX: Duration = Duration::from_secs(1_700_000_000);
/// 20 ms.
pub(super) const FRAME: Duration = Duration::from_millis(20);
/// More steps than any test needs: a loop that does not end is a failure and not a hang.
const STEPS: usize = 2_000_000;

pub(super) struct Line {
    pub(super) pair: Pair,
    up: bool,
    in_core: bool,
    /// What `quiet_for` says.
    pub(super) quiet: Duration,
}

impl Line {
    /// The relay has its SETUP.
    pub(super) fn is_in_core(&self) -> bool {
        self.in_core
    }
}

/// The wires of all pools, and the relay's sessions.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) all: BTreeMap<u64, Line>,
    next: u64,
    /// Dials come up.
    pub(super) reachable: bool,
    pub(super) conditions: Conditions,
    pub(super) closed: Vec<(LinkId, u64, String)>,
    pub(super) dialled: Vec<(LinkId, Instant)>,
}

impl Wires for Lines {
    fn dial(&mut self, dial: Dial, now: Instant) -> LinkId {
        self.next += 1;
        let draft = self.conditions.draft;
        let of_draft = |role| Config { draft, ..config(role) };
        let client = Config { setup: dial.setup, ..of_draft(Role::Client) };
        let conditions = Conditions { seed: self.next, ..self.conditions.clone() };
        let pair = Pair::with(conditions, client, of_draft(Role::Server), now);
        self.all.insert(self.next, Line { pair, up: false, in_core: false, quiet: Duration::ZERO });
        self.dialled.push((LinkId(self.next), now));
        LinkId(self.next)
    }
    fn attach(&mut self, _: PortEnd, _: Setup, _: Instant) -> LinkId {
        unreachable!("ports are the same to the pool")
    }
    fn session(&mut self, link: LinkId) -> Option<&mut Session> {
        self.all.get_mut(&link.0).filter(|line| line.up).map(|line| &mut line.pair.client)
    }
    fn close(&mut self, link: LinkId, code: u64, reason: &str) {
        self.closed.push((link, code, reason.to_owned()));
        if let Some(line) = self.all.get_mut(&link.0) {
            line.pair.client.close(code, reason);
            if !line.up {
                self.all.remove(&link.0);
            }
        }
    }
    fn quiet_for(&mut self, link: LinkId, _: Instant) -> Duration {
        self.all.get(&link.0).map_or(Duration::ZERO, |line| line.quiet)
    }
}

impl Sessions for Lines {
    fn session(&mut self, key: u64) -> Option<&mut Session> {
        self.all.get_mut(&key).filter(|line| line.in_core).map(|line| &mut line.pair.server)
    }
}

/// May do everything, or everything on one call, for as many seconds as stand behind an `@`.
struct May {
    sid: Option<Bytes>,
    until: Option<Instant>,
}

impl Rights for May {
    fn may_publish(&self, namespace: &TrackNamespace) -> bool {
        self.sid.as_ref().is_none_or(|sid| namespace.fields().get(1) == Some(sid))
    }
    fn may_subscribe(&self, namespace: &TrackNamespace) -> bool {
        self.may_publish(namespace)
    }
    fn lease(&self) -> Option<&Lease> {
        None
    }
    fn expires(&self) -> Option<Instant> {
        self.until
    }
}

struct Door;

impl Gate for Door {
    fn rights(&mut self, token: &Token, now: Instant) -> Result<Arc<dyn Rights>, RequestErrorCode> {
        match &token.value[..] {
            b"expired" => Err(RequestErrorCode::ExpiredAuthToken),
            b"bad" => Err(RequestErrorCode::Unauthorized),
            b"ok" => Ok(Arc::new(May { sid: None, until: None })),
            text => {
                let text = std::str::from_utf8(text).unwrap();
                let (sid, life) = text.split_once('@').map_or((text, None), |(sid, life)| (sid, life.parse().ok()));
                let until = life.map(|life| now + Duration::from_secs(life));
                Ok(Arc::new(May { sid: Some(Bytes::copy_from_slice(sid.as_bytes())), until }))
            }
        }
    }
}

pub(super) struct World {
    pub(super) began: Instant,
    pub(super) now: Instant,
    pub(super) lines: Lines,
    /// `None`: the test speaks for the peer.
    pub(super) core: Option<Core>,
    pub(super) pools: Vec<Pool>,
    pub(super) events: Vec<Vec<Event>>,
    /// WantDial is answered at once.
    pub(super) supplies: bool,
    pub(super) wants: Vec<(usize, DialId, LeaseId)>,
    /// Where WantDial wanted to go, when it is not answered at once.
    pub(super) uris: Vec<String>,
}

pub(super) fn relay() -> Option<Core> {
    Some(Core::new(Box::new(Door)))
}

pub(super) fn tokens(value: &'static str) -> Vec<Token> {
    vec![Token { kind: 0, value: Bytes::from_static(value.as_bytes()) }]
}

pub(super) fn name(track: &'static str) -> FullTrackName {
    name_of("CA1", track)
}

pub(super) fn name_of(sid: &'static str, track: &'static str) -> FullTrackName {
    let namespace = TrackNamespace::new(["voice", sid, "uplink"]).unwrap();
    FullTrackName::new(namespace, track).unwrap()
}

pub(super) fn publication(track: &'static str, delivery: Delivery) -> PublishTrack {
    PublishTrack { track: name(track), delivery, frame_us: 20_000, waits: false, properties: Default::default() }
}

/// A frame that says which it is.
pub(super) fn payload(n: u64) -> Bytes {
    Bytes::from(format!("frame {n:06} {}", "x".repeat(60)))
}

impl World {
    /// `pools` pools and a relay.
    pub(super) fn new(pools: usize, core: Option<Core>) -> Self {
        let now = Instant::now();
        let lines = Lines { reachable: true, ..Lines::default() };
        let pool = |n| Pool::new(n as u64 + 1, now, UNIX);
        Self {
            began: now,
            now,
            lines,
            core,
            pools: (0..pools).map(pool).collect(),
            events: vec![Vec::new(); pools],
            supplies: true,
            wants: Vec::new(),
            uris: Vec::new(),
        }
    }

    pub(super) fn route(&mut self, pool: usize, cap: usize) -> RouteId {
        self.pools[pool].route(RouteKind { cap })
    }

    /// A lease on a route of its own.
    pub(super) fn lease(&mut self, pool: usize) -> LeaseId {
        let route = self.route(pool, 1);
        self.pools[pool].lease(route, tokens("ok"), self.now)
    }

    pub(super) fn publish(&mut self, pool: usize, lease: LeaseId, track: PublishTrack) -> TrackId {
        self.pools[pool].publish(&mut self.lines, lease, track, self.now)
    }

    pub(super) fn subscribe(&mut self, pool: usize, lease: LeaseId, track: &'static str) -> TrackId {
        self.pools[pool].subscribe(&mut self.lines, lease, name(track), self.now)
    }

    pub(super) fn write(&mut self, pool: usize, track: TrackId, n: u64) -> Written {
        self.pools[pool].write(&mut self.lines, track, n * 20_000, payload(n), self.now)
    }

    pub(super) fn end(&mut self, pool: usize, track: TrackId) {
        self.pools[pool].end(&mut self.lines, track, self.now);
    }

    pub(super) fn release(&mut self, pool: usize, lease: LeaseId) {
        self.pools[pool].release(&mut self.lines, lease, self.now);
    }

    pub(super) fn supply(&mut self, pool: usize, id: DialId, supply: Result<Setup, &str>) {
        let supply = supply.map_err(str::to_owned).map(|setup| {
            let url = url::Url::parse("moqt://relay.test").unwrap();
            let address = ([127, 0, 0, 1], 4433).into();
            Supply::Dial(Box::new(Dial { url, address, trust: Trust::System, drafts: Default::default(), setup }))
        });
        self.pools[pool].supply(&mut self.lines, id, supply, self.now);
    }

    /// The one link of a one-link world.
    pub(super) fn only(&mut self) -> &mut Pair {
        assert_eq!(self.lines.all.len(), 1);
        &mut self.lines.all.values_mut().next().unwrap().pair
    }

    pub(super) fn event(&mut self, link: u64, event: LinkEvent) {
        for pool in &mut self.pools {
            pool.handle_event(&mut self.lines, LinkId(link), event.clone(), self.now);
        }
    }

    /// The transport below a link is gone.
    pub(super) fn cut(&mut self, link: u64, down: Down) {
        self.lines.all.remove(&link);
        if let Some(core) = &mut self.core {
            core.handle_down(&mut self.lines, link);
        }
        self.event(link, LinkEvent::Down(down));
    }

    /// Every link falls and the relay forgets everything.
    pub(super) fn crash(&mut self) {
        self.core = self.core.take().and_then(|_| relay());
        for link in self.lines.all.keys().copied().collect::<Vec<_>>() {
            self.cut(link, Down::TimedOut);
        }
    }

    /// Everything that happens now, to the last word.
    fn turn(&mut self) {
        let mut busy = true;
        for _ in 0..STEPS {
            if !std::mem::take(&mut busy) {
                return;
            }
            for key in self.lines.all.keys().copied().collect::<Vec<_>>() {
                busy |= self.line_turn(key);
            }
            busy |= self.pool_turn();
        }
        panic!("the world does not come to rest");
    }

    fn line_turn(&mut self, key: u64) -> bool {
        let Some(line) = self.lines.all.get_mut(&key) else { return false };
        if !line.up && self.lines.reachable {
            line.up = true;
            let peer = Peer { wire: Wire::RawQuic, address: None, accepted: false, path: None };
            self.event(key, LinkEvent::Up(peer));
            return true;
        }
        if !line.up {
            return false;
        }
        line.pair.pump();
        let to_client: Vec<_> = line.pair.client_events.drain(..).collect();
        let to_server: Vec<_> = match self.core {
            Some(_) => line.pair.server_events.drain(..).collect(),
            None => Vec::new(),
        };
        let closed = line.pair.closed.clone();
        let busy = !to_client.is_empty() || !to_server.is_empty();
        for event in to_server {
            self.hand_to_core(key, event);
        }
        for event in to_client {
            self.event(key, LinkEvent::Moqt(event));
        }
        if let Some((role, code, reason)) = closed {
            let down = match role {
                Role::Client => Down::Local { code, reason },
                Role::Server => Down::Peer { code, reason },
            };
            self.cut(key, down);
        }
        busy
    }

    fn hand_to_core(&mut self, key: u64, event: Moqt) {
        let Some(core) = &mut self.core else { return };
        if let (Moqt::Setup(setup), Some(line)) = (&event, self.lines.all.get_mut(&key)) {
            line.in_core = true;
            let rights = setup.tokens.iter().filter_map(|token| Door.rights(token, self.now).ok()).collect();
            core.insert(key, rights, Limits::default(), self.now);
        }
        core.handle_event(&mut self.lines, key, event, self.now);
    }

    fn pool_turn(&mut self) -> bool {
        let mut busy = false;
        for pool in 0..self.pools.len() {
            while let Some(event) = self.pools[pool].poll_event() {
                busy = true;
                match event {
                    Event::WantDial { id, .. } if self.supplies => self.supply(pool, id, Ok(Setup::default())),
                    Event::WantDial { id, lease, uri } => {
                        self.uris.extend(uri);
                        self.wants.push((pool, id, lease));
                    }
                    event => self.events[pool].push(event),
                }
            }
        }
        busy
    }

    /// Runs what happens in `time`.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..STEPS {
            self.turn();
            let pools = self.pools.iter().filter_map(Pool::poll_timeout);
            let lines = self.lines.all.values().filter(|line| line.up).filter_map(|line| line.pair.next_event());
            let core = self.core.as_ref().and_then(Core::poll_timeout);
            let Some(next) = pools.chain(lines).chain(core).min().filter(|at| *at <= until) else {
                self.now = until;
                self.lines.all.values_mut().for_each(|line| line.pair.now = until);
                return;
            };
            self.advance(next);
        }
        panic!("time does not pass");
    }

    fn advance(&mut self, next: Instant) {
        self.now = self.now.max(next);
        for line in self.lines.all.values_mut() {
            line.pair.advance(self.now);
        }
        if let Some(core) = &mut self.core {
            core.handle_timeout(&mut self.lines, self.now);
        }
        for pool in &mut self.pools {
            pool.handle_timeout(&mut self.lines, self.now);
        }
    }

    pub(super) fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    /// Writes frames `range` 20 ms apart; returns how each went.
    pub(super) fn speak(&mut self, pool: usize, track: TrackId, range: std::ops::Range<u64>) -> Vec<Written> {
        let mut written = Vec::new();
        for n in range {
            written.push(self.write(pool, track, n));
            self.run(FRAME);
        }
        written
    }

    /// The frames that a track of a pool got: which, with which stamp and place.
    pub(super) fn heard(&self, pool: usize, track: TrackId) -> Vec<(u64, Option<u64>, u64)> {
        let frame = |event: &Event| match event {
            Event::Frame { track: of, timestamp_us, payload, sequence } if *of == track => {
                let n = std::str::from_utf8(&payload[6..12]).unwrap().parse().unwrap();
                Some((n, *timestamp_us, *sequence))
            }
            _ => None,
        };
        self.events[pool].iter().filter_map(frame).collect()
    }

    /// The events of a pool that are no frames.
    pub(super) fn told(&self, pool: usize) -> Vec<&Event> {
        self.events[pool].iter().filter(|event| !matches!(event, Event::Frame { .. })).collect()
    }

    pub(super) fn count(&self, pool: usize, pick: impl Fn(&Event) -> bool) -> usize {
        self.events[pool].iter().filter(|event| pick(event)).count()
    }
}
