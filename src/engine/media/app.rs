//! The app of one audio thread: commands and ticks in, frames and events out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::call::{Call, FAREWELL, Floor, Place, WATCHED};
use super::clock::{Tick, Wheel};
use super::reach::{Gauges, Path, Reach};
use super::tokens::Tokens;
use super::{Command, Event, Mint, Supply};
use crate::engine::outside::follow;
use crate::moqt;
use crate::moqt::ids::IdMap;
use crate::moqt::message::Setup;
use crate::net::{App, Dial, LinkEvent, LinkId, Links};
use crate::relay::shard_of;
use crate::tracks::names;
use crate::tracks::{self, DialId, LeaseId, Pool, RouteId, RouteKind, TrackId};

/// Calls that share one connection to a relay elsewhere: what a lost connection takes with it.
const CALLS_PER_LINK: usize = 128;
/// Calls that there is room for from the start: a table of them that grows is half a megabyte more, and found late.
const CALLS: usize = 448;
/// Closed calls whose end is still said. Beyond, the oldest is let go: who subscribes to it later asks the control plane.
const FAREWELLS: usize = 1024;
/// When the thread ends, last words have this long to leave.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Ticks of many calls come this close after each other, and what arrives between two of them is taken with the next.
const SLACK: Duration = Duration::from_millis(1);
const IMPLEMENTATION: &str = concat!("clutchcall-engine/", env!("CARGO_PKG_VERSION"));

/// What a thread is started with.
pub(super) struct Start {
    pub(super) supply: Supply,
    pub(super) mint: Mint,
    pub(super) events: UnboundedSender<Event>,
    pub(super) commands: crossbeam_channel::Receiver<Command>,
    pub(super) ending: Arc<AtomicBool>,
    /// What it shows of itself, and which of the threads there it is.
    pub(super) gauges: (Arc<Gauges>, usize),
    pub(super) seed: u64,
    /// The wall clock's reading at the start.
    pub(super) unix: Duration,
    /// Reading of the monotonic clock at the start.
    pub(super) clock_us: u64,
}

pub(super) struct Media {
    start: Start,
    pool: Pool,
    /// One per shard of the relay.
    routes: Vec<RouteId>,
    /// Where a lease's links lead, as far as it is not the first shard.
    shard_of_lease: HashMap<LeaseId, usize>,
    tokens: Tokens,
    wheel: Wheel,
    calls: IdMap<u64, Call>,
    by_sid: HashMap<Arc<str>, u64>,
    tracks: IdMap<TrackId, Place>,
    next_call: u64,
    reach: Reach,
    path: Path,
    /// Reused in every turn.
    ticks: Vec<Tick>,
    /// Closed calls, and until when their end is said to late subscribers.
    leaving: VecDeque<(Instant, u64)>,
    /// The thread is to end: when it does.
    ends_at: Option<Instant>,
    done: bool,
}

impl Media {
    pub(super) fn new(start: Start, now: Instant) -> Self {
        let mut pool = Pool::new(start.seed, now, start.unix);
        let cap = match start.supply {
            Supply::Port(_) => usize::MAX,
            Supply::Dial { .. } => CALLS_PER_LINK,
        };
        let shards = match &start.supply {
            Supply::Port(ports) => ports.shards(),
            Supply::Dial { .. } => 1,
        };
        let routes: Vec<RouteId> = (0..shards).map(|_| pool.route(RouteKind { cap })).collect();
        let mut tokens = Tokens::new(start.mint.clone(), &start.supply, now);
        let home = |route: &RouteId| {
            let lease = pool.lease(*route, vec![tokens.young(now)], now);
            tokens.lent(lease, now);
            lease
        };
        // They keep the links up while there is no call.
        let homes: Vec<LeaseId> = routes.iter().map(home).collect();
        let shard_of_lease = homes.iter().enumerate().map(|(shard, lease)| (*lease, shard)).collect();
        let (gauges, thread) = start.gauges.clone();
        Self {
            wheel: Wheel::new(now, start.clock_us),
            start,
            pool,
            routes,
            reach: Reach::new(gauges, thread, &homes, now),
            shard_of_lease,
            tokens,
            calls: IdMap::with_capacity_and_hasher(CALLS, Default::default()),
            by_sid: HashMap::new(),
            tracks: IdMap::default(),
            next_call: 0,
            path: Path::default(),
            ticks: Vec::new(),
            leaving: VecDeque::new(),
            ends_at: None,
            done: false,
        }
    }

    /// Runs `work` on a call with all that it needs.
    fn with<R>(
        &mut self,
        links: &mut Links,
        key: u64,
        now: Instant,
        work: impl FnOnce(&mut Call, &mut Floor<'_>) -> R,
    ) -> Option<R> {
        let call = self.calls.get_mut(&key)?;
        let (pool, tracks, events) = (&mut self.pool, &mut self.tracks, &self.start.events);
        let (stalled, stamps) = (self.path.stalls(now), self.wheel.stamps());
        Some(work(call, &mut Floor { pool, links, tracks, events, now, stalled, stamps }))
    }

    fn handle_commands(&mut self, links: &mut Links, now: Instant) {
        while let Ok(command) = self.start.commands.try_recv() {
            self.handle_command(links, command, now);
        }
    }

    fn handle_command(&mut self, links: &mut Links, command: Command, now: Instant) {
        if let Command::Open { sid, caller } = command {
            return self.open(links, sid, caller, now);
        }
        let sid = command.sid();
        let Some(key) = self.by_sid.get(sid).copied() else {
            return tracing::debug!(%sid, "a command for a call that is not here");
        };
        match command {
            Command::Start { leg, .. } => {
                self.with(links, key, now, |call, floor| call.start(leg, floor));
                self.schedule(key, now);
            }
            Command::Early { leg, .. } => {
                self.with(links, key, now, |call, floor| call.listen(leg, floor));
                self.schedule(key, now);
            }
            Command::Rendition { side, params, .. } => {
                self.with(links, key, now, |call, floor| call.add(floor, side, params));
            }
            Command::Agent { agent, .. } => {
                self.with(links, key, now, |call, floor| call.bind(agent, floor));
                self.schedule(key, now);
            }
            Command::Key { key: pressed, duration_ms, second, .. } => {
                self.with(links, key, now, |call, floor| match second {
                    true => call.handle_second_signalled(pressed, duration_ms, now),
                    false => call.handle_signalled(floor, pressed, duration_ms),
                });
            }
            Command::Close { .. } => self.close(links, key, now),
            Command::Open { .. } => {}
        }
    }

    fn open(&mut self, links: &mut Links, sid: Arc<str>, caller: super::Caller, now: Instant) {
        if self.by_sid.contains_key(&sid) {
            return;
        }
        let lease = self.lease(&sid, now);
        let key = self.next_call;
        self.next_call += 1;
        self.by_sid.insert(sid.clone(), key);
        self.calls.insert(key, Call::new(key, sid.clone(), caller, lease));
        self.with(links, key, now, |call, floor| call.open(floor));
        let _ = self.start.events.send(Event::Opened { sid });
    }

    /// Puts the call on the clock, or takes it off.
    fn schedule(&mut self, key: u64, now: Instant) {
        self.wheel.remove(key);
        if let Some(period_ms) = self.calls.get(&key).and_then(Call::period_ms) {
            self.wheel.insert(key, period_ms, now);
        }
    }

    fn close(&mut self, links: &mut Links, key: u64, now: Instant) {
        self.wheel.remove(key);
        let Some(call) = self.calls.get(&key) else { return };
        let sid = (call.caller() == super::Caller::Bridge).then(|| call.sid.clone());
        let lease = sid.map(|sid| self.lease(&sid, now));
        let closed = self.with(links, key, now, |call, floor| {
            call.close(floor, lease);
            (call.sid.clone(), call.stats())
        });
        let Some((sid, stats)) = closed else { return };
        self.by_sid.remove(&sid);
        self.leaving.push_back((now + FAREWELL, key));
        // At the end of the thread there are no more of them than calls, and no time for any.
        if self.leaving.len() > FAREWELLS && self.ends_at.is_none() {
            self.reach.farewell_cut();
            self.leaving.pop_front().into_iter().for_each(|(_, oldest)| self.let_go(links, oldest, now));
        }
        let _ = self.start.events.send(Event::Closed { sid, stats: Box::new(stats) });
    }

    /// Calls whose end was said for long enough.
    fn handle_farewells(&mut self, links: &mut Links, now: Instant) {
        while let Some((_, key)) = self.leaving.pop_front_if(|(at, _)| *at <= now) {
            self.let_go(links, key, now);
        }
    }

    fn let_go(&mut self, links: &mut Links, key: u64, now: Instant) {
        self.with(links, key, now, |call, floor| call.release(floor));
        for lease in self.calls.remove(&key).into_iter().flat_map(|call| call.leases()) {
            self.shard_of_lease.remove(&lease);
        }
    }

    /// Closed calls that are still here, and calls in all.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.leaving.len(), self.calls.len())
    }

    /// A place for one call on a link to the shard in charge of it, with a token that goes with its requests.
    fn lease(&mut self, sid: &str, now: Instant) -> LeaseId {
        let shard = shard_of(&[names::VOICE, sid], self.routes.len());
        let lease = self.pool.lease(self.routes[shard], vec![self.tokens.young(now)], now);
        self.tokens.lent(lease, now);
        if shard > 0 {
            self.shard_of_lease.insert(lease, shard);
        }
        lease
    }

    fn handle_ticks(&mut self, links: &mut Links, now: Instant) {
        let mut ticks = std::mem::take(&mut self.ticks);
        self.wheel.due(now, &mut ticks);
        for tick in ticks.drain(..) {
            let Tick { key, timestamp_us, at } = tick;
            self.with(links, key, now, |call, floor| call.tick(floor, at, timestamp_us));
        }
        self.ticks = ticks;
    }

    /// What the pool has to say, to the last word.
    fn handle_pool(&mut self, links: &mut Links, now: Instant) {
        while let Some(event) = self.pool.poll_event() {
            match event {
                tracks::Event::WantDial { id, lease, uri } => self.supply(links, (id, lease), uri.as_deref(), now),
                tracks::Event::WantTokens { lease } => {
                    self.pool.renew(lease, vec![self.tokens.fresh(now)]);
                }
                tracks::Event::State { lease, state, reason } => self.reach.note(lease, state, reason, now),
                event => self.handle_track(links, event, now),
            }
        }
    }

    fn handle_track(&mut self, links: &mut Links, event: tracks::Event, now: Instant) {
        let place = |media: &Self, track: TrackId| media.tracks.get(&track).copied();
        match event {
            tracks::Event::Frame { track, timestamp_us, payload, .. } => {
                let Some(place) = place(self, track) else { return };
                let stamp = timestamp_us.unwrap_or_else(|| self.wheel.stamps().at(now));
                self.with(links, place.call, now, |call, floor| call.handle_frame(floor, place, stamp, payload));
            }
            tracks::Event::Subscribers { track, count } => {
                let Some(place) = place(self, track) else { return };
                self.with(links, place.call, now, |call, _| call.handle_subscribers(place, count));
            }
            tracks::Event::Live { track } => {
                let Some(place) = place(self, track) else { return };
                self.with(links, place.call, now, |call, floor| call.handle_live(floor, place, true));
            }
            tracks::Event::Lost { track, .. } => {
                let Some(place) = place(self, track) else { return };
                self.with(links, place.call, now, |call, floor| call.handle_live(floor, place, false));
            }
            tracks::Event::Ended { track } => {
                let Some(place) = place(self, track) else { return };
                self.with(links, place.call, now, |call, floor| call.handle_ended(floor, place));
            }
            tracks::Event::Refused { track, code, reason } => {
                tracing::error!(place = ?place(self, track), code, reason, "the relay refuses a call's track");
            }
            // The first is counted by the pool; the others were taken before.
            tracks::Event::TooOld { .. }
            | tracks::Event::WantDial { .. }
            | tracks::Event::WantTokens { .. }
            | tracks::Event::State { .. } => {}
        }
    }

    fn supply(&mut self, links: &mut Links, (id, lease): (DialId, LeaseId), uri: Option<&str>, now: Instant) {
        self.reach.dialled();
        let shard = self.shard_of_lease.get(&lease).copied().unwrap_or_default();
        let setup = Setup {
            tokens: vec![self.tokens.fresh(now)],
            implementation: Some(IMPLEMENTATION.to_owned()),
            ..Setup::default()
        };
        let supply = match &self.start.supply {
            Supply::Port(ports) => Ok(tracks::Supply::Port(ports.open_at(shard), setup)),
            Supply::Dial { url, trust, drafts, address } => address.borrow().clone().map(|address| {
                let (url, address) = follow(url, trust, uri, address);
                let (trust, drafts) = (trust.clone(), drafts.clone());
                tracks::Supply::Dial(Box::new(Dial { url, address, trust, drafts, setup }))
            }),
        };
        self.pool.supply(links, id, supply, now);
    }

    /// Ends every call, then waits for the last words to leave.
    fn wind_up(&mut self, links: &mut Links, now: Instant) {
        self.ends_at = Some(now + LAST_WORDS);
        let live: Vec<u64> = self.by_sid.values().copied().collect();
        live.into_iter().for_each(|key| self.close(links, key, now));
    }
}

impl App for Media {
    fn handle_event(&mut self, links: &mut Links, link: LinkId, event: LinkEvent, now: Instant) {
        // Who subscribes was told of the track by the control thread, which had sent the command to open it before: that one
        // comes first, also when both are found in one turn.
        if let LinkEvent::Moqt(moqt::Event::Subscribe { .. }) = event {
            self.handle_commands(links, now);
        }
        self.path.note(link, &event, now);
        self.pool.handle_event(links, link, event, now);
        self.handle_pool(links, now);
    }

    /// A leg's socket: what the phone says goes up in this turn. Or a second leg's.
    fn handle_readable(&mut self, links: &mut Links, key: usize, now: Instant) {
        let (key, socket) = (key / WATCHED, key % WATCHED);
        self.with(links, key as u64, now, |call, floor| call.handle_readable(floor, socket));
    }

    fn handle_wake(&mut self, links: &mut Links, now: Instant) {
        self.handle_commands(links, now);
        if self.start.ending.load(Ordering::Acquire) && self.ends_at.is_none() {
            self.wind_up(links, now);
        }
        self.handle_pool(links, now);
    }

    fn handle_timeout(&mut self, links: &mut Links, now: Instant) {
        self.handle_ticks(links, now);
        if self.pool.poll_timeout().is_some_and(|at| at <= now) {
            self.pool.handle_timeout(links, now);
        }
        self.handle_farewells(links, now);
        self.tokens.handle_timeout(&mut self.pool, now);
        self.reach.handle_timeout(now);
        self.handle_pool(links, now);
        if self.ends_at.is_some_and(|at| at <= now) && !self.done {
            self.pool.shutdown(links);
            self.done = true;
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let farewell = self.leaving.front().map(|(at, _)| *at);
        let renewal = self.tokens.poll_timeout();
        let wheel = self.wheel.poll_timeout();
        let reach = self.reach.poll_timeout();
        [wheel, self.pool.poll_timeout(), farewell, renewal, reach, self.ends_at].into_iter().flatten().min()
    }

    /// Frames for a leg wait for its tick in any case.
    fn slack(&self) -> Duration {
        SLACK
    }

    /// The control thread is woken by its channel, the relay by the port.
    fn flush(&mut self, _now: Instant) {}

    fn is_done(&self) -> bool {
        self.done
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        if self.wheel.skipped() > 0 {
            tracing::warn!(ticks = self.wheel.skipped(), "audio ticks were skipped: the machine was too busy");
        }
    }
}
