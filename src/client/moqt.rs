//! Tracks by name on a relay of the user's choice: what lies under a bridge, without a control plane.
//!
//! [`MoqtClient::connect`] returns at once and dials in the background. The link is dialled afresh after every loss, and each
//! publication and subscription is said again on the new one. Every client has a link of its own.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::media::{
    Command, Delivered, Figures, HolderId, Link, MediaPort, Outgoing, Publication, RouteKey, Seat, Standing,
    Subscription,
};
use super::relay::{Relay, token};
use super::runtime::{Runtime, in_turn};
use super::tokens::{ClientDialer, TokenSource};
use crate::error::{Error, Kind, Result};
use crate::moqt::{Drafts, FullTrackName, TrackNamespace};
use crate::ring::{HandoffSender, RingId, RingReceiver, Source};
use crate::tracks::{Delivery, PublishTrack};

/// Frames that wait for a callback. More than a bridge's: whoever names a track wants all of it, and on a lossy path a stream
/// gives out at once what one lost packet held up, seconds of audio in bad weather (`benches/python/loss.py`).
const RING_FRAMES: usize = 256;
/// Changes of state that wait for one.
const RING_STATES: usize = 32;
/// Questions for a token: one at a dial, one ahead of a token's end, and what the relay's refusals ask for.
const RING_QUESTIONS: usize = 4;
/// Frames that wait for the worker; it takes them within its turn.
const HANDOFF_LIMIT: Duration = Duration::from_secs(60);
const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Where and how to connect.
#[derive(Clone, Default)]
pub struct Connect {
    pub url: String,
    /// For ever. `None`: none, or as [`Ask`] says.
    pub token: Option<String>,
    /// SHA-256 of the certificates to accept, hexadecimal; empty: the machine's roots decide.
    pub certificate_hashes: Vec<String>,
    /// Any certificate will do.
    pub insecure: bool,
    /// Numbers of the drafts to offer, the preferred first; empty: all that are spoken here.
    pub drafts: Vec<String>,
}

/// Is given the ring of the questions for a token, before anything can be in it.
pub type Ask<'a> = Box<dyn FnOnce(RingReceiver<Delivered>) + Send + 'a>;

/// A track to publish.
#[derive(Clone, Debug)]
pub struct TrackSpec {
    pub track: FullTrackName,
    pub frame_us: u32,
    pub delivery: Delivery,
}

/// See the module's contract.
pub struct MoqtClient {
    runtime: Arc<Runtime>,
    media: MediaPort,
    holder: HolderId,
    standing: Arc<Standing>,
    publications: Mutex<Vec<Weak<Figures>>>,
    closed: AtomicBool,
}

/// A published track. Dropping it leaves the track open; [`AudioPublication::close`] ends it.
pub struct AudioPublication {
    media: MediaPort,
    holder: HolderId,
    frames: HandoffSender<Outgoing>,
    frame_us: u32,
    standing: Arc<Standing>,
    figures: Arc<Figures>,
    closed: AtomicBool,
}

/// A subscribed track, as a handle to end it.
pub struct AudioSubscription {
    media: MediaPort,
    holder: HolderId,
    ring: RingId,
    figures: Arc<Figures>,
}

impl MoqtClient {
    /// Checks the arguments and starts dialling. `listen` is given the ring of the changes of state, `ask` that of the questions for a
    /// token ([`Delivered::Token`]); with it there is no other token.
    pub fn connect(
        connect: Connect,
        listen: impl FnOnce(RingReceiver<Delivered>),
        ask: Option<Ask<'_>>,
    ) -> Result<Self> {
        let relay = Relay::new(&connect.url, &connect.certificate_hashes, connect.insecure)
            .map_err(|why| Error::value(format!("url or certificate_hashes: {why}")))?;
        let drafts = Drafts::from_numbers(&connect.drafts).map_err(|why| Error::value(format!("drafts: {why}")))?;
        let relay = relay.with_drafts(drafts.clone());
        let runtime = Runtime::shared();
        let media = runtime.media()?.clone();
        let (holder, standing) = (media.holder(), Arc::new(Standing::new()));
        let (states, receiver) = runtime.delivery().ring(RING_STATES);
        listen(receiver);
        let tokens: Vec<_> = connect.token.iter().filter(|_| ask.is_none()).map(|text| token(text)).collect();
        let source = match (ask, connect.token) {
            (Some(ask), _) => {
                let (questions, receiver) = runtime.delivery().ring(RING_QUESTIONS);
                ask(receiver);
                TokenSource::Asks(questions)
            }
            (None, Some(text)) => TokenSource::Text(text),
            (None, None) => TokenSource::None,
        };
        let (url, trust, anything) = (relay.url.to_string(), relay.hashes.clone(), relay.anything);
        let route = RouteKey { url, trust, anything, drafts, cap: 1 };
        let seat = Seat {
            route,
            tokens,
            dialer: Arc::new(ClientDialer::new(relay, source)),
            standing: standing.clone(),
            states: Some(states),
            ends_with_track: false,
            renew_at: None,
        };
        media.send(Command::Open(holder, Box::new(seat)));
        let (publications, closed) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { runtime, media, holder, standing, publications, closed })
    }

    pub fn publish(&self, spec: TrackSpec) -> Result<AudioPublication> {
        self.check_open()?;
        let (frames, taken) = self.media.handoff(HANDOFF_LIMIT);
        let figures = Arc::new(Figures::default());
        let publication = Publication {
            track: PublishTrack {
                track: spec.track,
                delivery: spec.delivery,
                frame_us: spec.frame_us,
                waits: false,
                properties: Default::default(),
            },
            frames: taken,
            pace: None,
            figures: figures.clone(),
        };
        self.media.send(Command::Publish(self.holder, Box::new(publication)));
        let mut publications = self.publications.lock().unwrap_or_else(PoisonError::into_inner);
        publications.retain(|figures| figures.strong_count() > 0);
        publications.push(Arc::downgrade(&figures));
        Ok(AudioPublication {
            media: self.media.clone(),
            holder: self.holder,
            frames,
            frame_us: spec.frame_us,
            standing: self.standing.clone(),
            figures,
            closed: AtomicBool::new(false),
        })
    }

    /// `listen` is given the ring of the track's frames.
    pub fn subscribe(
        &self,
        track: FullTrackName,
        listen: impl FnOnce(RingReceiver<Delivered>),
    ) -> Result<AudioSubscription> {
        self.check_open()?;
        let (ring, receiver) = self.runtime.delivery().ring(RING_FRAMES);
        let (figures, id) = (Arc::new(Figures::default()), receiver.id());
        listen(receiver);
        let subscription = Subscription { track, ring, lag: None, is_control: false, figures: figures.clone() };
        self.media.send(Command::Subscribe(self.holder, Box::new(subscription)));
        let (media, holder) = (self.media.clone(), self.holder);
        Ok(AudioSubscription { media, holder, ring: id, figures })
    }

    /// Subscriptions on all tracks that this client publishes.
    pub fn subscriber_count(&self) -> u64 {
        let publications = self.publications.lock().unwrap_or_else(PoisonError::into_inner);
        publications.iter().filter_map(Weak::upgrade).map(|figures| figures.subscribers.load(Relaxed)).sum()
    }

    pub fn link(&self) -> Link {
        if self.closed.load(SeqCst) { Link::Closed } else { self.standing.link() }
    }

    pub fn reason(&self) -> Option<String> {
        self.standing.reason()
    }

    pub fn reconnects(&self) -> u64 {
        self.standing.reconnects()
    }

    /// Withdraws every track and closes the link. Twice is once.
    pub fn close(&self) {
        if !self.closed.swap(true, SeqCst) {
            self.media.send(Command::Close(self.holder));
        }
    }

    fn check_open(&self) -> Result<()> {
        self.runtime.check()?;
        if self.link() == Link::Closed {
            return Err(Error::closed("this client is closed: connect again"));
        }
        Ok(())
    }
}

impl AudioPublication {
    /// One frame with its stamp, sent at once. Waits for nothing and takes no lock.
    pub fn write(&self, timestamp_us: u64, payload: Bytes) -> Result<()> {
        if self.closed.load(SeqCst) || self.standing.link() == Link::Closed {
            return Err(Error::closed("this publication is closed"));
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            let length = payload.len();
            return Err(Error::value(format!("data is {length} bytes long: at most {MAX_PAYLOAD_BYTES}")));
        }
        let frame = Outgoing { payload, timestamp_us: Some(timestamp_us) };
        self.frames.push(frame, self.frame_us.into()).map_err(|_| {
            Error::new(Kind::Bridge, "60 s of frames wait for the sending thread: write at the speed of speech")
        })?;
        if !in_turn() {
            self.media.flush();
        }
        Ok(())
    }

    pub fn subscriber_count(&self) -> u64 {
        self.figures.subscribers.load(Relaxed)
    }

    /// Ends the track for good: subscribers learn that nothing follows.
    pub fn close(&self) {
        if !self.closed.swap(true, SeqCst) {
            self.media.send(Command::EndTrack(self.holder, self.frames.id()));
        }
    }
}

impl AudioSubscription {
    pub fn frames(&self) -> u64 {
        self.figures.frames_in.load(Relaxed)
    }

    pub fn missing(&self) -> u64 {
        self.figures.missing.load(Relaxed)
    }

    pub fn close(&self) {
        self.media.send(Command::Unsubscribe(self.holder, self.ring));
    }
}

/// A track's name from its fields; the error says what is wrong with them.
pub fn track_name(namespace: Vec<Vec<u8>>, name: &str) -> Result<FullTrackName> {
    let wrong = |error: crate::moqt::name::NameError| Error::value(format!("namespace or name: {error}"));
    if namespace.is_empty() {
        return Err(Error::value("namespace is empty: give at least one field"));
    }
    let namespace = TrackNamespace::new(namespace.into_iter().map(Bytes::from)).map_err(wrong)?;
    FullTrackName::new(namespace, name.as_bytes().to_vec()).map_err(wrong)
}
