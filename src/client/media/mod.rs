//! The media worker's side of the SDK: bridges and MoQT clients on one [`tracks::Pool`](crate::tracks::Pool).
//!
//! A *holder* is a bridge or a `MoqtClient`: it holds one lease and the tracks under it. Other threads speak to the worker in
//! [`Command`]s (few per holder, none per frame) and in hand-offs of [`Outgoing`] frames; it answers through the holder's
//! [`Standing`] and [`Figures`], and pushes what arrives into a ring per subscription.
//!
//! The worker never blocks: names, tokens and the fate of a call are asked on the control thread by the holder's [`Dialer`].
//! It knows no procedure of the control plane and no Python.

mod app;
mod holders;
mod news;
mod publisher;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

pub(super) use app::{Media, Parts};

use crate::call::CallRow;
use crate::call::control::Dtmf;
use crate::client::process::forks;
use crate::client::tokens::Asked;
use crate::error::Error;
use crate::moqt::{Drafts, FullTrackName};
use crate::net::{Dial, Path, Waker};
use crate::ring::{HandoffReceiver, HandoffSender, Inbox, RingId, RingSender};
use crate::tracks::lag::Lag;
use crate::tracks::{DialId, LeaseStanding, PublishTrack, Tokens};

/// Names a bridge or a client for the life of the worker.
pub(super) type HolderId = u64;

pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a subscription's ring carries to the delivering thread.
#[derive(Debug)]
pub enum Delivered {
    Frame {
        timestamp_us: u64,
        payload: Bytes,
        /// Grows by one per frame, and by those that are missing.
        sequence: u64,
    },
    State(Link),
    /// The far end of a call has pressed a key.
    Dtmf(Dtmf),
    /// How a call stands now, or why that can't be said any more.
    Row(Result<Box<CallRow>, Box<Error>>),
    /// Somebody is to say which token counts now.
    Token(Asked),
    /// Nothing follows.
    Closed,
}

/// How a holder's link stands, as users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Link {
    Connecting,
    Connected,
    Reconnecting,
    Closed,
    Failed,
}

/// A frame on its way out. Without a stamp it follows the one before.
pub(super) struct Outgoing {
    pub(super) payload: Bytes,
    pub(super) timestamp_us: Option<u64>,
}

/// A monotonic clock in microseconds that reads `us` at `at`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub at: Instant,
    pub us: u64,
}

/// What is asked for a holder on the control thread.
pub(super) trait Dialer: Send + Sync {
    /// Whom to dial now, with tokens of now; `uri` is where the relay of before wants us.
    fn prepare(&self, uri: Option<String>) -> Boxed<Result<Prepared, Refused>>;
    /// Is there still somebody to wait for?
    fn verdict(&self) -> Boxed<Verdict>;
}

pub(super) struct Prepared {
    pub(super) dial: Dial,
    pub(super) tokens: Tokens,
    /// When tokens should be fetched again; `None`: they don't expire.
    pub(super) renew_at: Option<Instant>,
}

/// Why there is nothing to dial; `ask`: the answer may mean that the call is over.
pub(super) struct Refused {
    pub(super) reason: String,
    pub(super) ask: bool,
}

pub(super) enum Verdict {
    Lives,
    Over(String),
    /// Nobody could be asked.
    Unknown,
}

/// Links may be shared between holders of the same relay, trust and cap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RouteKey {
    pub(super) url: String,
    pub(super) trust: Vec<[u8; 32]>,
    pub(super) anything: bool,
    pub(super) drafts: Drafts,
    pub(super) cap: usize,
}

/// A holder takes its place.
pub(super) struct Seat {
    pub(super) route: RouteKey,
    pub(super) tokens: Tokens,
    pub(super) dialer: Arc<dyn Dialer>,
    pub(super) standing: Arc<Standing>,
    /// Changes of state go here, where somebody wants them.
    pub(super) states: Option<RingSender<Delivered>>,
    /// The end of a subscribed track is the end of the holder: a bridge's call is over.
    pub(super) ends_with_track: bool,
    pub(super) renew_at: Option<Instant>,
}

/// A track that a holder publishes.
pub(super) struct Publication {
    pub(super) track: PublishTrack,
    pub(super) frames: HandoffReceiver<Outgoing>,
    /// `Some`: frames leave in their own time, counted by this clock. `None`: at once.
    pub(super) pace: Option<Clock>,
    pub(super) figures: Arc<Figures>,
}

/// A track that a holder subscribes to.
pub(super) struct Subscription {
    pub(super) track: FullTrackName,
    pub(super) ring: RingSender<Delivered>,
    /// Stamps follow the time of day, as they do on a call: what a stall held up is not handed on.
    pub(super) lag: Option<Lag>,
    /// It carries no audio but what a call tells beside it, and neither its end nor its loss is the holder's.
    pub(super) is_control: bool,
    pub(super) figures: Arc<Figures>,
}

pub(super) enum Command {
    Open(HolderId, Box<Seat>),
    Publish(HolderId, Box<Publication>),
    Subscribe(HolderId, Box<Subscription>),
    /// Ends a published track for good.
    EndTrack(HolderId, RingId),
    Unsubscribe(HolderId, RingId),
    Supply(DialId, HolderId, Result<Box<Prepared>, Refused>),
    Renewed(HolderId, Result<Box<Prepared>, Refused>),
    Verdict(HolderId, Verdict),
    /// How the holder's link stands, for whoever waits for the answer; nobody answers for a holder that is gone.
    Measure(HolderId, Answer),
    /// Changes of the holder's link go here from now on, the state of now first.
    Watch(HolderId, RingSender<Delivered>),
    Close(HolderId),
    Shutdown,
    /// How much the worker remembers of what.
    #[cfg(test)]
    Count(std::sync::mpsc::Sender<Vec<usize>>),
}

/// Given the figures of a link, on the worker's thread.
pub(super) type Answer = Box<dyn FnOnce(Measured) + Send>;

/// A holder's link in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) standing: LeaseStanding,
    /// `None`: no link now.
    pub(super) path: Option<Path>,
}

/// The worker as other threads see it.
#[derive(Clone)]
pub(super) struct MediaPort(Arc<PortInner>);

struct PortInner {
    commands: crossbeam_channel::Sender<Command>,
    waker: Waker,
    /// Where hand-offs announce themselves.
    handoffs: Inbox,
    next_holder: AtomicU64,
    /// [`forks`] of the process whose worker it is.
    forks: u32,
}

impl MediaPort {
    pub(super) fn new(commands: crossbeam_channel::Sender<Command>, waker: Waker) -> Self {
        let ring = waker.clone();
        let handoffs = Inbox::calling(move || ring.wake());
        Self(Arc::new(PortInner { commands, waker, handoffs, next_holder: AtomicU64::new(0), forks: forks() }))
    }

    pub(super) fn holder(&self) -> HolderId {
        self.0.next_holder.fetch_add(1, Relaxed)
    }

    pub(super) fn handoff(&self, limit: Duration) -> (HandoffSender<Outgoing>, HandoffReceiver<Outgoing>) {
        self.0.handoffs.handoff(limit.as_micros() as u64)
    }

    /// Lost when the worker has ended, which every holder's standing then says; and in the child of a fork, where nobody would
    /// take it and the waker is the parent's.
    pub(super) fn send(&self, command: Command) {
        if self.0.forks != forks() {
            return;
        }
        let _ = self.0.commands.send(command);
        self.0.waker.wake();
    }

    /// Tells the worker of frames that were pushed since it last looked.
    pub(super) fn flush(&self) {
        self.0.handoffs.neighbour().flush();
    }

    pub(super) fn handoffs(&self) -> &Inbox {
        &self.0.handoffs
    }
}

/// How a holder's link stands; written by the worker, read by anyone.
#[derive(Debug)]
pub(super) struct Standing {
    link: AtomicU8,
    reconnects: AtomicU64,
    /// Why, when it is not connected.
    reason: Mutex<Option<String>>,
}

impl Standing {
    pub(super) fn new() -> Self {
        let link = AtomicU8::new(Link::Connecting as u8);
        Self { link, reconnects: AtomicU64::new(0), reason: Mutex::new(None) }
    }

    pub(super) fn link(&self) -> Link {
        use Link::*;
        let all = [Connecting, Connected, Reconnecting, Closed, Failed];
        all.into_iter().find(|link| *link as u8 == self.link.load(Relaxed)).unwrap_or(Failed)
    }

    /// `true`: that is a change. Nothing follows [`Link::Closed`].
    pub(super) fn set(&self, link: Link, reason: Option<String>) -> bool {
        let before = self.link();
        if before == Link::Closed {
            return false;
        }
        if let Some(reason) = reason {
            *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        }
        self.link.store(link as u8, Relaxed);
        if link == Link::Connected && before == Link::Reconnecting {
            self.reconnects.fetch_add(1, Relaxed);
        }
        before != link
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.reconnects.load(Relaxed)
    }
}

impl Link {
    pub fn as_str(self) -> &'static str {
        match self {
            Link::Connecting => "connecting",
            Link::Connected => "connected",
            Link::Reconnecting => "reconnecting",
            Link::Closed => "closed",
            Link::Failed => "failed",
        }
    }
}

/// What passed; written by the worker, read by anyone.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) frames_in: AtomicU64,
    /// Holes in what arrived, and the frames that are missing in them.
    pub(super) gaps: AtomicU64,
    pub(super) missing: AtomicU64,
    /// Came too late to be heard, after a stall of the path.
    pub(super) stale: AtomicU64,
    pub(super) frames_out: AtomicU64,
    /// Sent while nobody listened, while no link was up, and while the link was too far behind.
    pub(super) unheard: AtomicU64,
    pub(super) offline: AtomicU64,
    pub(super) behind: AtomicU64,
    /// Datagrams that waited too long for room on the path.
    pub(super) too_old: AtomicU64,
    /// Keys that the far end pressed.
    pub(super) keys: AtomicU64,
    /// What waits for its time.
    pub(super) paced_us: AtomicU64,
    pub(super) subscribers: AtomicU64,
}
