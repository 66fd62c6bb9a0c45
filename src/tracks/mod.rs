//! Tracks: the only room that knows both an audio frame and a MoQT object.
//!
//! A [`Pool`] lives inside an [`App`](crate::net::App) (the engine's audio thread, the SDK's media worker). Somebody who
//! speaks or listens takes a *lease* on a *route* and opens tracks under it; he never owns a session. The pool shares
//! links between at most [`RouteKind::cap`] leases, dials afresh after a loss, and says every publication and
//! subscription again on the new link. What the outage swallowed stays swallowed: a track goes on at its live edge, and
//! no object is handed up twice.
//!
//! | File | Holds |
//! |---|---|
//! | `names` | calls and renditions ⇄ MoQT names |
//! | `stamp` | LOC timestamps, group numbering |
//! | `edge` | which objects are new |
//! | `lag` | which frames of a live speaker are too old to be heard; for the pool's users |
//! | `migration` | where a relay's GOAWAY may send us; for the pool's users |
//! | `publisher`, `subscriber` | one track, over whatever links it has now |
//! | `reconnect`, `retry`, `timers` | when to dial, when to ask again, what is due; pure |
//! | `pool` | routes, leases, links, replay |
//!
//! Time is an argument here too. The pool resolves no name and fetches no token: it asks ([`Event::WantDial`]) and is
//! supplied ([`Pool::supply`]). It never sleeps, starts a thread, or knows what a call is.
//!
//! **End or loss.** An object with status END_OF_TRACK is the end: [`Event::Ended`]. A PUBLISH_DONE or a lost session without
//! it is a loss: [`Event::Lost`], as is a track that nobody publishes (any more), and the pool subscribes again for as long as
//! the lease lives; whoever knows better (the control plane) releases the lease.

pub mod edge;
pub mod lag;
pub mod migration;
pub mod names;
pub mod pool;
mod publisher;
pub mod reconnect;
mod retry;
pub mod stamp;
mod subscriber;
pub mod timers;

pub use names::Side;
pub use pool::Pool;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::moqt::message::{Setup, Token, TrackProperties};
use crate::moqt::session::Role;
use crate::moqt::{FullTrackName, Session};
use crate::net::{self, Dial, LinkId, PortEnd};

/// A peer that leases share links to. Links of different routes are never shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u64);

/// The right to open tracks on a link of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

/// One published or subscribed track of a lease. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u64);

/// One question of the pool for a way to connect; answered once by [`Pool::supply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialId(pub u64);

/// How a route's links are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteKind {
    /// Leases per link: 1 towards strangers; the engine's own port carries them all.
    pub cap: usize,
}

/// How a track's objects travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// One stream per group of about a second: nothing is lost, what is late waits.
    #[default]
    Stream,
    /// One datagram per frame, each a group of its own: nothing waits, what is lost is lost. A frame that does not fit
    /// travels on a stream of its own.
    Datagram,
}

/// A track to publish.
#[derive(Clone, Debug)]
pub struct PublishTrack {
    pub track: FullTrackName,
    pub delivery: Delivery,
    /// How much time one frame covers; decides where groups end.
    pub frame_us: u32,
    /// What is written while a path gives no answer waits for it, within the bounds of a subscription that is behind: a word that comes
    /// late still counts. Else it is left out.
    pub waits: bool,
    /// Track properties beside TIMESCALE, encoded and ascending from a type above 0x08; usually empty.
    pub properties: TrackProperties,
}

/// What [`Pool::supply`] is given.
pub enum Supply {
    /// Dial this; its setup carries a token of now.
    Dial(Box<Dial>),
    /// One end of a port in this process, and our SETUP on it.
    Port(PortEnd, Setup),
}

/// How a lease's link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Connecting,
    /// The peer's SETUP has arrived and every request of the lease has been sent.
    Connected,
    Reconnecting,
    /// The peer refuses our authorisation again and again: fresh tokens did not help. The pool has stopped dialling.
    Failed,
}

/// Where a written frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// To at least one subscriber.
    Sent,
    /// The link is up and nobody listens.
    Unheard,
    /// No link now: what should have been heard now is gone.
    Offline,
    /// The link holds too much that is not sent: this frame was dropped, the next begins a new group.
    Behind,
}

/// What the pool tells its app.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A link is needed: answer with [`Pool::supply`]. `lease` is one that will use it; `uri` is where the relay's GOAWAY wants us,
    /// see [`migration::follow`].
    WantDial { id: DialId, lease: LeaseId, uri: Option<String> },
    /// The peer refused a request of this lease for its tokens: answer with [`Pool::renew`] within 10 s, or the request
    /// ends in [`Event::Refused`]. Asked at most twice in a row.
    WantTokens { lease: LeaseId },
    /// `reason`: why the last link or attempt failed, with what to do about it.
    State { lease: LeaseId, state: State, reason: Option<String> },
    /// One frame of a subscribed track, each (group, object) once, in the order of arrival. `timestamp_us` is the
    /// publisher's own clock, `None` when it sent none. `sequence` grows by one per frame and by the number of objects
    /// that are known to be missing before it; one of those that arrives after all has the number that was left for it.
    Frame { track: TrackId, timestamp_us: Option<u64>, payload: Bytes, sequence: u64 },
    /// Frames of a published track that were written as datagrams and waited too long for room on a link.
    TooOld { track: TrackId, count: u64 },
    /// The number of subscriptions on a published track changed.
    Subscribers { track: TrackId, count: usize },
    /// A subscription was accepted: there is a publisher. [`Event::Lost`] or [`Event::Ended`] takes it back.
    Live { track: TrackId },
    /// The publisher ended the track: the call is over. Nothing follows.
    Ended { track: TrackId },
    /// A subscription that delivered stopped without the track's end, or nobody publishes what was asked for. The pool
    /// subscribes again by itself.
    Lost { track: TrackId, reason: String },
    /// The peer refuses a request in a way that repeating can't mend; `code` is its REQUEST_ERROR code.
    Refused { track: TrackId, code: u64, reason: String },
}

/// Figures since the pool began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub dials: u64,
    pub reconnects: u64,
    pub frames_in: u64,
    /// Objects that arrived a second time, or from before the live edge.
    pub stale: u64,
    /// Objects known missing: gaps inside a group, or between groups of one object. What arrives late is taken off again.
    pub missing: u64,
    pub frames_out: u64,
    /// Frames written while nobody listened.
    pub unheard: u64,
    /// Frames written while no link was up.
    pub offline: u64,
    /// Frames dropped because the link was too far behind.
    pub behind: u64,
    /// Of `frames_out`, those that waited too long for room on a link, or did not fit it.
    pub too_old: u64,
    pub resubscribes: u64,
}

/// How the link of a lease stands; what is counted is counted since the lease began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseStanding {
    pub link: Option<LinkId>,
    /// Leases that share it; none, when there is none.
    pub leases: usize,
    pub dials: u64,
    /// Links that took the place of one that stood: after a GOAWAY, or beside a quiet path.
    pub migrations: u64,
    /// Objects that came a second time, from before the live edge, or overtaken, on the lease's tracks of now.
    pub stale: u64,
}

/// What the pool needs of its worker's links: [`net::Links`], or two sessions in memory for a test.
pub trait Wires {
    fn dial(&mut self, dial: Dial, now: Instant) -> LinkId;
    fn attach(&mut self, end: PortEnd, setup: Setup, now: Instant) -> LinkId;
    fn session(&mut self, link: LinkId) -> Option<&mut Session>;
    fn close(&mut self, link: LinkId, code: u64, reason: &str);
    /// How long data of ours has been outstanding without an acknowledgement; zero when none is.
    fn quiet_for(&mut self, link: LinkId, now: Instant) -> Duration;
}

impl Wires for net::Links {
    fn dial(&mut self, dial: Dial, now: Instant) -> LinkId {
        net::Links::dial(self, dial, now)
    }
    fn attach(&mut self, end: PortEnd, setup: Setup, now: Instant) -> LinkId {
        net::Links::attach(self, end, Role::Client, setup, now)
    }
    fn session(&mut self, link: LinkId) -> Option<&mut Session> {
        net::Links::session(self, link)
    }
    fn close(&mut self, link: LinkId, code: u64, reason: &str) {
        net::Links::close(self, link, code, reason);
    }
    fn quiet_for(&mut self, link: LinkId, now: Instant) -> Duration {
        net::Links::quiet_for(self, link, now)
    }
}

/// Tokens that every request of a lease carries, beside those of the link's SETUP.
pub type Tokens = Vec<Token>;
