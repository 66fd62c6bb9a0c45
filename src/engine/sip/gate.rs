//! Who may speak to the SIP addresses of an engine: one [`Gate`] for all of them, asked before a message is read any further.
//!
//! - The far sides of trunks are known by their addresses ([`Gate::tell`], from the config and what its names resolve to), and by
//!   networks that a trunk allows ([`Gate::allow`]). They begin so many requests a second.
//! - Everybody else is a stranger. He is dropped without a word, and counted. Where a trunk welcomes strangers, because its callers
//!   prove themselves by a challenge ([`Gate::welcome`]), so many requests of one source and of all are taken, and the rest is dropped.
//! - What belongs to a call of ours is none of this table's: a Call-ID that nobody guesses speaks for itself (`stack/door`).
//!
//! Every table here is bounded: sources that are remembered, seats of connections. No socket and no clock: time is an argument. What a
//! request means, and which trunk's it is, is for whoever takes it: [`Gate::peers_of`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// New requests of one known address: more calls than an engine begins (RFC 3261 has no bound of its own).
const OF_A_PEER: Rate = Rate { per_s: 1000, burst: 2000 };
/// The same of one stranger, where strangers may try: a call is some three requests.
const OF_A_STRANGER: Rate = Rate { per_s: 10, burst: 30 };
/// And of all strangers.
const OF_ALL_STRANGERS: Rate = Rate { per_s: 200, burst: 400 };
/// Sources whose rates are remembered. One more stranger is dropped, one more peer is not counted.
const MOST_SOURCES: usize = 8192;
/// Between two looks for sources that said nothing lately.
const SWEEP: Duration = Duration::from_secs(1);
/// An address that a name does not resolve to any more is known for this long.
const KEEP: Duration = Duration::from_secs(3600);
/// Addresses of one trunk; a name with more is none of a carrier's.
const MOST_ADDRESSES: usize = 256;

/// Connections that were opened to us: of one known address, of one stranger, of all strangers, of all.
const SEATS_OF_A_PEER: usize = 64;
const SEATS_OF_A_STRANGER: usize = 4;
const SEATS_OF_STRANGERS: usize = 128;
const SEATS: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Rate {
    per_s: u32,
    burst: u32,
}

/// Requests that a source may still make.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: f64::from(rate.burst), at: now }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(rate.per_s);
        self.tokens = (self.tokens + gained).min(f64::from(rate.burst));
        self.at = self.at.max(now);
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        let has = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(has));
        has
    }
}

/// One trunk in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(u32);

/// Addresses with the same beginning: `192.0.2.0/24`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub fn holds(self, address: IpAddr) -> bool {
        let same = |ours: u128, theirs: u128, width: u8| {
            self.bits == 0 || (ours ^ theirs) >> u32::from(width.saturating_sub(self.bits)) == 0
        };
        match (self.address, plain(address)) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => same(ours.to_bits().into(), theirs.to_bits().into(), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| "no IP address")?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most));
        Ok(Self { address: plain(address), bits: bits.ok_or("no length of a prefix")? })
    }
}

/// An IPv4 address in an IPv6 socket's clothes is an IPv4 address.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Who counts as one source: an IPv4 address, or the /64 that an IPv6 host has to itself.
fn source(address: IpAddr) -> IpAddr {
    match plain(address) {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// What was dropped, for `/metrics`. They only grow.
#[derive(Debug, Default)]
pub struct Counts {
    /// Messages of strangers.
    pub strangers: AtomicU64,
    /// Messages of strangers who may try, beyond their rates.
    pub strangers_rate: AtomicU64,
    /// New requests of a known address beyond its rate.
    pub peers_rate: AtomicU64,
    /// Connections, whoever's, that were closed at once, or for a message that announced too much.
    pub connections: AtomicU64,
    /// Connections that ended because what their far side was told it did not take.
    pub untaken: AtomicU64,
    /// Requests of ours over connections that were forgotten before anybody said a word.
    pub unanswered: AtomicU64,
    /// Requests that came while too many were being answered.
    pub busy: AtomicU64,
    /// Calls whose caller does not know the password.
    pub wrong_password: AtomicU64,
}

impl Counts {
    /// By name.
    pub fn all(&self) -> [(&'static str, u64); 8] {
        let Self { strangers, strangers_rate, peers_rate, connections, untaken, unanswered, busy, wrong_password } =
            self;
        [
            ("stranger", strangers),
            ("stranger_rate", strangers_rate),
            ("peer_rate", peers_rate),
            ("connection", connections),
            ("untaken", untaken),
            ("unanswered", unanswered),
            ("busy", busy),
            ("wrong_password", wrong_password),
        ]
        .map(|(name, counter)| (name, counter.load(Relaxed)))
    }
}

/// See the file's contract.
#[derive(Debug, Default)]
pub struct Gate {
    table: Mutex<Table>,
    pub(super) counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Table {
    peers: HashMap<PeerId, Peer>,
    entered: u32,
    sources: HashMap<IpAddr, Bucket>,
    strangers: Option<Bucket>,
    swept: Option<Instant>,
    seats: HashMap<IpAddr, usize>,
    taken: usize,
    taken_by_strangers: usize,
}

#[derive(Debug, Default)]
struct Peer {
    written: Vec<IpAddr>,
    /// What its names resolve to, and when each was last told.
    addresses: HashMap<IpAddr, Instant>,
    networks: Vec<Network>,
    welcomes_strangers: bool,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    gate: Arc<Gate>,
    source: IpAddr,
    is_strangers: bool,
}

impl Gate {
    pub fn new(counts: Arc<Counts>) -> Self {
        Self { table: Mutex::default(), counts }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A trunk. These of its addresses are written in the config.
    pub fn enter(&self, written: impl IntoIterator<Item = IpAddr>) -> PeerId {
        let mut table = self.table();
        table.entered += 1;
        let peer = PeerId(table.entered);
        let written = written.into_iter().map(plain).collect();
        table.peers.insert(peer, Peer { written, ..Peer::default() });
        peer
    }

    pub fn leave(&self, peer: PeerId) {
        self.table().peers.remove(&peer);
    }

    /// A name of the trunk has these addresses now. Others that it had are forgotten in an hour: calls may still come from there.
    pub fn tell(&self, peer: PeerId, addresses: impl IntoIterator<Item = IpAddr>, now: Instant) {
        let mut table = self.table();
        let Some(peer) = table.peers.get_mut(&peer) else { return };
        for address in addresses {
            if peer.addresses.len() < MOST_ADDRESSES || peer.addresses.contains_key(&plain(address)) {
                peer.addresses.insert(plain(address), now);
            }
        }
        peer.addresses.retain(|_, told| now.saturating_duration_since(*told) < KEEP);
    }

    /// Who speaks from these networks is the trunk's far side too.
    pub fn allow(&self, peer: PeerId, networks: Vec<Network>) {
        if let Some(peer) = self.table().peers.get_mut(&peer) {
            peer.networks = networks;
        }
    }

    /// Whether callers of this trunk may come from anywhere. Whoever takes their requests has to challenge them.
    pub fn welcome(&self, peer: PeerId, strangers: bool) {
        if let Some(peer) = self.table().peers.get_mut(&peer) {
            peer.welcomes_strangers = strangers;
        }
    }

    /// The trunks whose far side has this address, in the order in which they entered.
    pub fn peers_of(&self, address: IpAddr) -> Vec<PeerId> {
        let table = self.table();
        let known = table.peers.iter().filter(|(_, peer)| peer.knows(plain(address)));
        let mut peers: Vec<PeerId> = known.map(|(id, _)| *id).collect();
        peers.sort_unstable();
        peers
    }

    pub fn knows(&self, address: IpAddr) -> bool {
        self.table().knows(plain(address))
    }

    /// Whether a message that belongs to no call is read; what is not is counted. A response asks for nothing: it is a peer's, or it is
    /// dropped.
    pub fn takes(&self, from: IpAddr, is_request: bool, now: Instant) -> bool {
        let (mut table, from) = (self.table(), plain(from));
        let dropped = match (table.knows(from), is_request) {
            (true, false) => return true,
            (true, true) if table.charge(source(from), OF_A_PEER, now).unwrap_or(true) => return true,
            (true, true) => &self.counts.peers_rate,
            (false, true) if table.welcomes_strangers() => {
                let own = table.charge(source(from), OF_A_STRANGER, now).unwrap_or(false);
                let all = table.strangers.get_or_insert(Bucket::full(OF_ALL_STRANGERS, now));
                if own && all.take(OF_ALL_STRANGERS, now) {
                    return true;
                }
                &self.counts.strangers_rate
            }
            (false, _) => &self.counts.strangers,
        };
        dropped.fetch_add(1, Relaxed);
        false
    }

    /// A place for a connection that was opened to us. `None`: it is to be closed, and is counted.
    pub fn seat(self: &Arc<Self>, from: IpAddr) -> Option<Seat> {
        let seat = self.table().take_seat(plain(from));
        if seat.is_none() {
            self.counts.connections.fetch_add(1, Relaxed);
        }
        seat.map(|is_strangers| Seat { gate: Arc::clone(self), source: source(from), is_strangers })
    }
}

impl Peer {
    fn knows(&self, address: IpAddr) -> bool {
        self.written.contains(&address)
            || self.addresses.contains_key(&address)
            || self.networks.iter().any(|network| network.holds(address))
    }
}

impl Table {
    fn knows(&self, address: IpAddr) -> bool {
        self.peers.values().any(|peer| peer.knows(address))
    }

    fn welcomes_strangers(&self) -> bool {
        self.peers.values().any(|peer| peer.welcomes_strangers)
    }

    /// `None`: nobody new can be remembered.
    fn charge(&mut self, source: IpAddr, rate: Rate, now: Instant) -> Option<bool> {
        if !self.sources.contains_key(&source) && self.sources.len() >= MOST_SOURCES {
            self.sweep(now);
            if self.sources.len() >= MOST_SOURCES {
                return None;
            }
        }
        Some(self.sources.entry(source).or_insert_with(|| Bucket::full(rate, now)).take(rate, now))
    }

    /// Forgets who could not have fewer tokens than a newcomer.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        let slowest = OF_A_STRANGER.burst.div_ceil(OF_A_STRANGER.per_s).max(OF_A_PEER.burst.div_ceil(OF_A_PEER.per_s));
        let recovers = Duration::from_secs(slowest.into());
        self.sources.retain(|_, bucket| now.saturating_duration_since(bucket.at) < recovers);
    }

    /// Whose seat it is: a stranger's, or a peer's.
    fn take_seat(&mut self, from: IpAddr) -> Option<bool> {
        let is_strangers = !self.knows(from);
        let (own, source) = (self.seats.get(&source(from)).copied().unwrap_or_default(), source(from));
        let is_free = self.taken < SEATS
            && if is_strangers {
                self.welcomes_strangers() && own < SEATS_OF_A_STRANGER && self.taken_by_strangers < SEATS_OF_STRANGERS
            } else {
                own < SEATS_OF_A_PEER
            };
        if !is_free {
            return None;
        }
        self.seats.insert(source, own + 1);
        self.taken += 1;
        self.taken_by_strangers += usize::from(is_strangers);
        Some(is_strangers)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.gate.table();
        table.taken = table.taken.saturating_sub(1);
        table.taken_by_strangers = table.taken_by_strangers.saturating_sub(usize::from(self.is_strangers));
        if let Some(own) = table.seats.get_mut(&self.source) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                table.seats.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
