//! One shard: the app of one [`net`](crate::net) worker, and the thread it runs on.
//!
//! It lets sessions into the [`Core`] once their SETUP is checked, hands it their events and lends it their sessions. It counts
//! who is there and from where, closes who comes beyond the bounds, and publishes the counters for other threads. A session of
//! a port takes the same way as a stranger's; only its bounds are those of an engine. Sessions of the other shards and to an
//! upstream relay are the exception: this relay opened them itself.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use super::auth::{SharedGate, Verified, Verifier};
use super::figures::{Entrance, Figures};
use super::keyring::Keyring;
use super::places::{Beyond, Places};
use super::spread::{Ways, scope};
use super::upstream::Dialler;
use super::{Admission, Config, Door, PORTS_WAITING, Running, Shared};
use crate::moqt::message::Setup;
use crate::moqt::relay::{Core, Limits, Rights as _, Sessions, Upstream};
use crate::moqt::session::Role;
use crate::moqt::{self, CloseCode, Event, Session};
use crate::net::{
    App, Down, Handshakes, LinkEvent, LinkId, Links, Listen, Peer, PortEnd, QUIET_AFTER, Wire, Worker, WorkerConfig,
};

/// Counters are summed up for other threads this often while anything happens; never while nothing does.
const COUNTERS_STEP: Duration = Duration::from_millis(50);
/// Payload of one object: audio frames are a tenth of it at most.
const OBJECT_BYTES: usize = 64 * 1024;
/// Streams and datagrams that came before the answer that explains them.
const PENDING_BYTES: usize = 32 * 1024;
const PENDING_TIME: Duration = Duration::from_millis(500);
/// A peer that acknowledges nothing for this long is gone: who listens to it, or waits for its place, is to learn it. The
/// transport's own limit is three times that, and a peer that lives has long dialled again.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// Tokens that one session may register instead of saying them again: a pool of calls has one each.
const TOKEN_CACHE_BYTES: u64 = 16 * 1024;
/// MOQT_IMPLEMENTATION (§10.3.1.5).
const IMPLEMENTATION: &str = concat!("clutchcall-relay/", env!("CARGO_PKG_VERSION"));

/// What a shard is given beside the relay's settings.
pub(super) struct Post {
    /// Which of how many.
    pub(super) shard: usize,
    pub(super) shards: usize,
    pub(super) ways: Ways,
    pub(super) upstream: Option<Dialler>,
    /// Told once, when the ways to all other shards stand.
    pub(super) ready: crossbeam_channel::Sender<usize>,
    pub(super) ring: Arc<ArcSwap<Keyring>>,
    pub(super) places: Arc<Places>,
}

/// Binds the worker, so that an error is the caller's, and starts its thread.
pub(super) fn start(config: &Config, bind: SocketAddr, post: Post) -> Result<Running, String> {
    let (limits, cache, admission, open) = (config.limits, config.cache, config.admission, config.open);
    let handshakes = Handshakes { retry_from: admission.retry_from, refuse_from: admission.refuse_from };
    let (identity, drafts) = (config.identity.clone(), config.drafts.clone());
    let listening = Listen { identity, drafts, setup: our_setup(), handshakes };
    let worker = WorkerConfig { bind, listen: Some(listening), limits: session_limits(admission.setup_timeout) };
    let (worker, waker) = Worker::new(worker)?;
    let address = worker.local_addr();
    let shared = Arc::new(Shared { ring: post.ring.clone(), ..Shared::default() });
    let (ends, taken) = crossbeam_channel::bounded(PORTS_WAITING);
    let theirs = shared.clone();
    let name = format!("relay-{}", post.shard);
    let run = move || {
        let verifier = Verifier::new(theirs.ring.load_full(), Box::new(unix_now)).opened(open);
        let _gone = Gone(theirs.clone());
        let mut shard = Shard::new(verifier, limits, admission, taken, theirs);
        shard.core.set_cache(cache);
        shard.post(post);
        worker.run(&mut shard);
    };
    let thread = std::thread::Builder::new().name(name).spawn(run);
    let thread = thread.map_err(|error| format!("the relay's thread can't start: {error}"))?;
    // The ways to the other shards are taken at the first wake-up.
    waker.wake();
    Ok(Running { address, door: Door { waker, ends }, shared, thread })
}

/// Says that the thread has left its loop, also by a panic.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Release);
    }
}

/// What a session itself may hold, before the core has counted it. The worker has one answer for all its sessions, so it is
/// the one that an engine needs; strangers meet [`Limits`] behind it.
fn session_limits(setup_timeout: Duration) -> moqt::session::Limits {
    let engine = Limits::engine();
    moqt::session::Limits {
        setup_timeout,
        requests: engine.subscriptions + engine.publications,
        object_bytes: OBJECT_BYTES,
        pending_bytes: PENDING_BYTES,
        pending_time: PENDING_TIME,
    }
}

fn our_setup() -> Setup {
    Setup { implementation: Some(IMPLEMENTATION.to_owned()), max_token_cache: TOKEN_CACHE_BYTES, ..Setup::default() }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Who is at the other end.
enum Kind {
    Guest,
    /// Another shard's session to us.
    Edge,
    /// Ours to another relay.
    Uplink(Upstream),
}

/// A link that is up.
struct Visitor {
    peer: Peer,
    kind: Kind,
    /// The tokens of its SETUP, and whether it has a place for each of their identities.
    tokens: Vec<Arc<Verified>>,
    counted: bool,
    /// It is being closed: nothing that it says counts any more.
    refused: bool,
}

impl Visitor {
    fn identities(&self) -> Vec<&str> {
        let mut identities: Vec<&str> = self.tokens.iter().filter_map(|token| token.identity()).collect();
        identities.sort_unstable();
        identities.dedup();
        identities
    }
}

/// Lends the worker's sessions to the core.
struct Lent<'a>(&'a mut Links);

impl Sessions for Lent<'_> {
    fn session(&mut self, key: u64) -> Option<&mut Session> {
        self.0.session(LinkId(key))
    }
}

struct Shard {
    core: Core,
    verifier: Rc<RefCell<Verifier>>,
    limits: Limits,
    admission: Admission,
    visitors: HashMap<LinkId, Visitor>,
    places: Arc<Places>,
    entrance: Entrance,
    ports: crossbeam_channel::Receiver<PortEnd>,
    shared: Arc<Shared>,
    /// Links that were quiet, and when they are looked at again: in the order of that time.
    quiet: VecDeque<(Instant, LinkId)>,
    /// When the counters that changed since are to be published; `None`: nothing changed.
    publish_at: Option<Instant>,
    /// Ways to the other shards that are not taken yet, and links that they became.
    ways: Ways,
    kinds: HashMap<LinkId, Kind>,
    /// Uplinks to other shards that don't stand yet, and whom to tell when all do.
    missing: usize,
    ready: Option<(usize, crossbeam_channel::Sender<usize>)>,
    /// The relay that this one is an edge of, and what of it is ours.
    upstream: Option<(Dialler, Upstream)>,
}

impl Shard {
    fn new(
        verifier: Verifier,
        limits: Limits,
        admission: Admission,
        ports: crossbeam_channel::Receiver<PortEnd>,
        shared: Arc<Shared>,
    ) -> Self {
        let verifier = Rc::new(RefCell::new(verifier));
        Self {
            core: Core::new(Box::new(SharedGate(verifier.clone()))),
            verifier,
            limits,
            admission,
            visitors: HashMap::new(),
            places: Arc::default(),
            entrance: Entrance::default(),
            ports,
            shared,
            quiet: VecDeque::new(),
            publish_at: None,
            ways: Ways::default(),
            kinds: HashMap::new(),
            missing: 0,
            ready: None,
            upstream: None,
        }
    }

    fn post(&mut self, post: Post) {
        let Post { shard, shards, ways, upstream, ready, places, .. } = post;
        self.places = places;
        self.missing = ways.up.len();
        self.ways = ways;
        self.ready = Some((shard, ready));
        self.upstream = upstream.map(|dialler| (dialler, Upstream { scope: scope(shard, shards), sister: false }));
        self.tell_ready();
    }

    fn tell_ready(&mut self) {
        if self.missing == 0
            && let Some((shard, ready)) = self.ready.take()
        {
            // Whoever waited may have given up.
            let _ = ready.send(shard);
        }
    }

    fn take_ways(&mut self, links: &mut Links, now: Instant) {
        let Ways { up, down } = std::mem::take(&mut self.ways);
        for end in down {
            let link = links.attach(end, Role::Server, our_setup(), now);
            self.kinds.insert(link, Kind::Edge);
        }
        for (upstream, end) in up {
            let link = links.attach(end, Role::Client, our_setup(), now);
            self.kinds.insert(link, Kind::Uplink(upstream));
        }
        self.dial_upstream(links, now);
    }

    fn dial_upstream(&mut self, links: &mut Links, now: Instant) {
        if let Some((dialler, _)) = &mut self.upstream {
            dialler.handle_timeout(links, now);
            dialler.dial(links, IMPLEMENTATION, now);
        }
    }

    /// The upstream relay sends us away, or the session that is to take over from the one before is of use.
    fn note_upstream(&mut self, links: &mut Links, link: LinkId, event: &Event, now: Instant) {
        let Some((dialler, _)) = self.upstream.as_mut().filter(|(dialler, _)| dialler.owns(link)) else { return };
        match event {
            Event::GoAway(goaway) => dialler.handle_goaway(links, link, goaway, now),
            _ => self.entrance.upstream_moved += u64::from(dialler.takes_over(links, link, now)),
        }
        self.dial_upstream(links, now);
    }

    fn handle_up(&mut self, links: &mut Links, link: LinkId, peer: Peer) {
        let guest = peer.address.filter(|_| peer.accepted);
        let entered = guest.map_or(Ok(()), |address| self.places.enter(address.ip(), &self.admission));
        if let Err(beyond) = entered {
            // The draft has no code for a full house; this one does not make a client doubt its token.
            links.close(link, CloseCode::InternalError as u64, "too many sessions: close some, or try again later");
            match beyond {
                Beyond::Address => self.entrance.beyond_address += 1,
                Beyond::All => self.entrance.beyond_total += 1,
            }
        }
        let refused = entered.is_err();
        let kind = match &self.upstream {
            Some((dialler, upstream)) if dialler.owns(link) => Kind::Uplink(upstream.clone()),
            _ => self.kinds.remove(&link).unwrap_or(Kind::Guest),
        };
        self.visitors.insert(link, Visitor { peer, kind, tokens: Vec::new(), counted: false, refused });
    }

    fn handle_setup(&mut self, links: &mut Links, link: LinkId, setup: &Setup, now: Instant) {
        let Some(visitor) = self.visitors.get_mut(&link).filter(|visitor| !visitor.refused) else { return };
        match &visitor.kind {
            Kind::Guest => {}
            Kind::Edge => return self.core.insert_edge(link.0, now),
            Kind::Uplink(upstream) => {
                let upstream = upstream.clone();
                return self.uplink_stands(links, link, upstream, now);
            }
        }
        match self.verifier.borrow_mut().admit(setup, visitor.peer.path.as_deref(), now) {
            Ok(admitted) => {
                let roomy = visitor.peer.wire == Wire::Port || admitted.every_call;
                let limits = if roomy { Limits::engine() } else { self.limits };
                visitor.tokens = admitted.tokens;
                visitor.counted = !roomy;
                if !roomy && !self.places.enter_as(&visitor.identities(), self.admission.sessions_per_token) {
                    (visitor.counted, visitor.refused) = (false, true);
                    self.entrance.beyond_token += 1;
                    let reason = "this token has too many sessions: close some, or ask for a token of your own";
                    return links.close(link, CloseCode::InternalError as u64, reason);
                }
                self.core.insert(link.0, admitted.rights, limits, now);
                self.entrance.admitted += 1;
            }
            Err(refused) => {
                self.entrance.unauthorized += 1;
                visitor.refused = true;
                tracing::info!(peer = ?visitor.peer.address, code = ?refused.code, "SETUP refused: {}", refused.reason);
                links.close(link, refused.code as u64, &refused.reason);
            }
        }
    }

    fn uplink_stands(&mut self, links: &mut Links, link: LinkId, upstream: Upstream, now: Instant) {
        if upstream.sister {
            self.missing = self.missing.saturating_sub(1);
        } else if let Some((dialler, _)) = &mut self.upstream {
            dialler.stands(link, now);
        }
        self.core.insert_uplink(&mut Lent(links), link.0, upstream, now);
        self.tell_ready();
    }

    fn handle_down(&mut self, links: &mut Links, link: LinkId, down: &Down, now: Instant) {
        if let Some((dialler, _)) = self.upstream.as_mut().filter(|(dialler, _)| dialler.owns(link)) {
            let lost = dialler.lost(link, now);
            tracing::warn!(?down, lost, "a session to the upstream relay ended");
            self.entrance.upstream_lost += u64::from(lost);
        }
        let Some(visitor) = self.visitors.remove(&link) else { return };
        tracing::debug!(peer = ?visitor.peer.address, wire = ?visitor.peer.wire, ?down, "session ended");
        if let Some(address) = visitor.peer.address.filter(|_| visitor.peer.accepted) {
            self.places.leave(address.ip());
        }
        if visitor.counted {
            self.places.leave_as(&visitor.identities());
        }
        self.core.handle_down(&mut Lent(links), link.0);
    }

    /// Other keys and revocations count: sessions whose tokens don't any more end.
    fn take_ring(&mut self, links: &mut Links, now: Instant) {
        let ring = self.shared.ring.load_full();
        let same = Arc::ptr_eq(self.verifier.borrow().ring(), &ring);
        if same || !self.verifier.borrow_mut().replace(ring) {
            return;
        }
        for (link, visitor) in self.visitors.iter_mut().filter(|(_, visitor)| !visitor.refused) {
            if visitor.tokens.iter().any(|token| token.is_withdrawn()) {
                visitor.refused = true;
                self.entrance.withdrawn += 1;
                let reason = "the token was revoked, or its key withdrawn: ask for another where it came from";
                links.close(*link, CloseCode::Unauthorized as u64, reason);
            }
        }
        // Requests that brought such a token of their own end; their sessions go on.
        self.core.revoke(&mut Lent(links), &mut |rights| rights.is_withdrawn(), now);
    }

    /// Everybody is sent away, once.
    fn begin_drain(&mut self, links: &mut Links) {
        let Some(goaway) = self.shared.drain.load_full().filter(|_| !self.core.is_draining()) else { return };
        self.core.drain(&mut Lent(links), &goaway.uri, goaway.timeout.unwrap_or_default());
    }

    /// The last word to whoever is still there.
    fn say_the_end(&self, links: &mut Links) {
        for link in self.visitors.keys() {
            links.close(*link, CloseCode::NoError as u64, "this relay ends");
        }
    }

    /// Gives up links that have not spoken since they were noted.
    fn look_at_quiet(&mut self, links: &mut Links, now: Instant) {
        while let Some((_, link)) = self.quiet.pop_front_if(|(at, _)| *at <= now) {
            if links.quiet_for(link, now) >= DEAD_AFTER.saturating_sub(QUIET_AFTER) {
                self.entrance.silent += 1;
                links.close(link, CloseCode::NoError as u64, "nothing was acknowledged for three seconds");
            }
        }
    }

    fn note_change(&mut self, now: Instant) {
        self.publish_at.get_or_insert(now + COUNTERS_STEP);
    }

    fn publish(&mut self, links: &Links) {
        let (mut core, entrance) = (self.core.counters(), self.entrance);
        core.unauthorized += entrance.unauthorized;
        core.excessive += entrance.beyond_total + entrance.beyond_address + entrance.beyond_token;
        let up = self.upstream.as_ref().is_some_and(|(dialler, _)| dialler.is_up());
        let entrance = Entrance { upstream_up: u64::from(up), ..entrance };
        self.shared.publish(Figures { core, net: links.counters(), entrance });
        self.publish_at = None;
    }
}

impl App for Shard {
    fn handle_event(&mut self, links: &mut Links, link: LinkId, event: LinkEvent, now: Instant) {
        self.note_change(now);
        match event {
            LinkEvent::Up(peer) => self.handle_up(links, link, peer),
            LinkEvent::Moqt(Event::Setup(setup)) => self.handle_setup(links, link, &setup, now),
            LinkEvent::Moqt(event @ (Event::GoAway(_) | Event::RequestOk { .. })) => {
                self.note_upstream(links, link, &event, now);
                self.core.handle_event(&mut Lent(links), link.0, event, now);
            }
            LinkEvent::Moqt(event) => self.core.handle_event(&mut Lent(links), link.0, event, now),
            LinkEvent::Quiet => self.quiet.push_back((now + DEAD_AFTER.saturating_sub(QUIET_AFTER), link)),
            // Found out when its time comes.
            LinkEvent::Alive => {}
            LinkEvent::Down(down) => self.handle_down(links, link, &down, now),
        }
    }

    fn handle_wake(&mut self, links: &mut Links, now: Instant) {
        if self.shared.is_ending() {
            return self.say_the_end(links);
        }
        self.take_ways(links, now);
        self.begin_drain(links);
        self.take_ring(links, now);
        self.note_change(now);
        while let Ok(end) = self.ports.try_recv() {
            links.attach(end, Role::Server, our_setup(), now);
        }
    }

    fn handle_timeout(&mut self, links: &mut Links, now: Instant) {
        if self.publish_at.is_some_and(|at| at <= now) {
            self.publish(links);
        }
        self.look_at_quiet(links, now);
        self.dial_upstream(links, now);
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            self.core.handle_timeout(&mut Lent(links), now);
            self.note_change(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let again = self.upstream.as_ref().and_then(|(dialler, _)| dialler.poll_timeout());
        let quiet = self.quiet.front().map(|(at, _)| *at);
        [self.core.poll_timeout(), self.publish_at, quiet, again].into_iter().flatten().min()
    }

    /// Nobody else's thread waits for ours: a port wakes its other side itself.
    fn flush(&mut self, _now: Instant) {}

    fn is_done(&self) -> bool {
        self.shared.is_ending()
    }
}
