//! Wires: QUIC and WebTransport under MoQT sessions, and the one loop that drives them.
//!
//! One [`Worker`] is one thread, one UDP socket (4 MiB buffers), any number of links. A *link* is a
//! [`moqt::Session`](crate::moqt::Session) and what carries it: raw QUIC (`moqt-NN`), WebTransport (`h3`), or a
//! [`PortEnd`], two bounded queues in one process. The [`App`] on top never sees which.
//!
//! The worker owns its socket, timers and wake-ups, and watches sockets that an app has of its own. In every turn it takes all that arrived, hands events to the app, calls
//! [`App::flush`] once, then sends what each touched link has to say. There is no task per link, stream or frame.
//! It never knows what a track, a frame or a call is.

mod bell;
mod certificate;
mod congestion;
mod datagrams;
mod dial;
mod down;
mod links;
mod outbox;
mod port;
mod quic;
mod quiet;
pub mod shown;
mod socket;
mod streams;
#[cfg(feature = "counted")]
pub mod tally;
mod timers;
pub mod tls;
mod transport;
mod verify;
mod warm;
mod webtransport;
mod worker;

#[cfg(any(test, feature = "fuzz"))]
pub(crate) use webtransport::fuzz as fuzz_webtransport;

pub use bell::Waker;
pub use links::Links;
pub use port::{PortEnd, port};
pub use verify::{check_cert_file, client_over_tcp};
pub use worker::Worker;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::moqt;

/// Names a link for the life of its worker; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// What carries a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    RawQuic,
    WebTransport,
    Port,
}

/// The other end, known once the transport is up.
#[derive(Clone, Debug)]
pub struct Peer {
    pub wire: Wire,
    /// `None` for a port.
    pub address: Option<SocketAddr>,
    /// `true`: the peer came to us.
    pub accepted: bool,
    /// Path and query of a WebTransport CONNECT (raw QUIC carries them in SETUP).
    pub path: Option<String>,
}

/// Why a link is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// Never came up: name, certificate, ALPN, refused; the text says what to do.
    Unreachable(String),
    /// The path went silent.
    TimedOut,
    /// A stateless reset: the peer restarted.
    Reset,
    /// The peer closed with a MoQT code.
    Peer { code: u64, reason: String },
    /// We closed.
    Local { code: u64, reason: String },
}

/// What an app learns about its links.
#[derive(Clone, Debug)]
pub enum LinkEvent {
    /// The transport is up and the session has queued its SETUP.
    Up(Peer),
    Moqt(moqt::Event),
    /// Data of ours has been outstanding for [`QUIET_AFTER`] without an acknowledgement: the path may be dead. Never of a port.
    Quiet,
    /// After `Quiet`: an acknowledgement has arrived.
    Alive,
    /// Last event of a link; its session is gone.
    Down(Down),
}

/// The logic on top of a worker. All methods run on the worker's thread.
pub trait App {
    fn handle_event(&mut self, links: &mut Links, link: LinkId, event: LinkEvent, now: Instant);
    /// Somebody called [`Waker::wake`] since the last turn.
    fn handle_wake(&mut self, links: &mut Links, now: Instant);
    /// [`App::poll_timeout`] has passed.
    fn handle_timeout(&mut self, links: &mut Links, now: Instant);
    fn poll_timeout(&self) -> Option<Instant>;
    /// A socket of the app's own ([`Links::watch`]) has something to read. It is said again only when more comes.
    fn handle_readable(&mut self, _links: &mut Links, _key: usize, _now: Instant) {}
    /// Once at the end of each turn: wake neighbour threads here, at most once each.
    fn flush(&mut self, now: Instant);
    /// Who rings, by [`Waker::wake`], usually rings again at once: how long a turn waits for the rest. Nobody pays for it who rings once in
    /// a while, and a burst of frames is one turn instead of one turn each.
    fn gathers(&self) -> Duration {
        Duration::ZERO
    }
    /// A ring may wait for the next turn that is planned anyway, when it is at most this far ahead.
    fn slack(&self) -> Duration {
        Duration::ZERO
    }
    /// `true` ends [`Worker::run`]; links are closed first.
    fn is_done(&self) -> bool;
}

/// How long data of ours may be outstanding before [`LinkEvent::Quiet`].
pub const QUIET_AFTER: Duration = Duration::from_millis(500);

/// What a worker is told at birth.
pub struct WorkerConfig {
    /// Where the UDP socket is bound. An unspecified IPv6 address reaches IPv4 peers too.
    pub bind: SocketAddr,
    /// `None`: this worker only dials.
    pub listen: Option<Listen>,
    /// Bounds of every session of this worker.
    pub limits: moqt::session::Limits,
}

/// How a worker takes connections.
pub struct Listen {
    pub identity: tls::Identity,
    /// The first of them that a client offers is spoken.
    pub drafts: moqt::Drafts,
    /// Our SETUP on every link that comes to us.
    pub setup: moqt::message::Setup,
    pub handshakes: Handshakes,
}

/// Connections of one worker in their handshake from which on a stranger must prove his address (Retry, RFC 9000 §8.1.2), and
/// from which on he is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshakes {
    pub retry_from: usize,
    pub refuse_from: usize,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { retry_from: 256, refuse_from: 1_024 }
    }
}

/// What a worker did since it was born.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rounds of the loop; each is one wait.
    pub turns: u64,
    /// Times another thread ended a sleep.
    pub wakes: u64,
    /// Receiving and sending system calls.
    pub recv_calls: u64,
    pub send_calls: u64,
    /// UDP packets.
    pub packets_in: u64,
    pub packets_out: u64,
    /// QUIC datagrams, and those that waited too long for room on their path or did not fit it.
    pub datagrams_in: u64,
    pub datagrams_out: u64,
    pub datagrams_dropped: u64,
    /// Expired timers that had something to do.
    pub timeouts: u64,
    /// Connections refused or sent a Retry because too many were in their handshake.
    pub refused: u64,
    pub retried: u64,
    pub links: u64,
}

/// A path as its connection sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    pub rtt: Duration,
    pub packets_out: u64,
    pub packets_lost: u64,
    /// How much may be on its way.
    pub window_bytes: u64,
}

/// Where to connect, and whom to trust. Names are resolved by the caller: a worker never blocks.
#[derive(Clone, Debug)]
pub struct Dial {
    /// `moqt://` (aliases `moq://`, `quic://`) for raw QUIC, `https://` for WebTransport.
    pub url: url::Url,
    pub address: SocketAddr,
    pub trust: Trust,
    /// What is offered; the server chooses, some the first that they know.
    pub drafts: moqt::Drafts,
    pub setup: moqt::message::Setup,
}

/// Which server certificates a dial accepts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The machine's root certificates.
    System,
    /// These roots (DER).
    Roots(Vec<Vec<u8>>),
    /// Exactly these SHA-256 hashes of a leaf certificate (as browsers pin them), nothing else.
    Hashes(Vec<[u8; 32]>),
    /// Whatever the server shows. Only when the user writes it out.
    Anything,
}

#[cfg(test)]
mod tests;
