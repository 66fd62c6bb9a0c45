//! One bridge, as its user holds it: he hears one side of a call and speaks on the other.
//!
//! [`Client::attach`] asks the control plane for the call's tracks and the right to speak, and returns as soon as that is
//! granted: audio comes when it comes. The media worker owns everything that moves; the bridge is a handle to it, and dropping
//! the handle changes nothing. [`Bridge::close`] withdraws both tracks and gives the right to speak back; so does the call's end.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::calls::{Client, checked_sid};
use super::grant::{BridgeDialer, Granted};
use super::http::random_id;
use super::media::{
    Answer, Clock, Command, Delivered, Figures, HolderId, Link, Measured, MediaPort, Outgoing, Publication, Standing,
    Subscription,
};
use super::runtime::{Runtime, in_turn};
use super::waits::{Told, Waits};
use crate::audio::{Codec, Params};
use crate::call::wire::{BridgeRole, TokenAnswer, TokenRequest};
use crate::error::{Error, Kind, Result};
use crate::heap::{BRIDGE_BYTES, Share};
use crate::moqt::FullTrackName;
use crate::net::Path;
use crate::playout::CAPACITY;
use crate::ring::{HandoffSender, RingId, RingSender};
use crate::tracks::lag::Lag;
use crate::tracks::{Delivery, PublishTrack};

/// Frames that wait for a callback.
pub const RING_FRAMES: usize = 10;
/// Keys that wait for a callback: more than a person presses in ten seconds.
pub const RING_KEYS: usize = 64;
/// The largest Opus packet of 60 ms stereo is far below; more is not a frame.
const MAX_OPUS_BYTES: usize = 8 * 1024;
/// How long `stats` waits for the worker, which answers within a turn.
const MEASURE_LIMIT: Duration = Duration::from_millis(100);
/// How long `close` waits for the control plane to take the right to speak back.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// What to attach to, and as what.
#[derive(Clone, Debug)]
pub struct BridgeSpec {
    pub sid: String,
    pub role: BridgeRole,
    pub params: Params,
    pub delivery: Delivery,
    /// Stamps count on this clock.
    pub clock: Clock,
}

/// See the module's contract.
pub struct Bridge {
    client: Client,
    sid: Arc<str>,
    params: Params,
    role: BridgeRole,
    clock: Clock,
    holder: HolderId,
    media: MediaPort,
    frames: HandoffSender<Outgoing>,
    standing: Arc<Standing>,
    figures: Arc<Figures>,
    request: TokenRequest,
    /// Where the call tells its keys.
    control: Option<FullTrackName>,
    /// What the worker told last of the link.
    measured: Mutex<Measured>,
    closed: AtomicBool,
    /// What its link and tracks are about to take.
    _memory: Share,
}

/// A bridge in numbers since it was attached; frames unless the name says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub frames_in: u64,
    pub gaps: u64,
    pub missing: u64,
    pub stale: u64,
    pub keys: u64,
    pub frames_out: u64,
    pub unheard: u64,
    pub offline: u64,
    pub behind: u64,
    pub too_old: u64,
    pub duplicates: u64,
    pub queued_us: u64,
    pub reconnects: u64,
    pub migrations: u64,
    pub dials: u64,
    /// Bridges on this one's link, itself included.
    pub shared_by: u64,
    /// The link's path now; zero when there is none.
    pub path: Path,
}

impl Client {
    /// Opens both tracks once the control plane has granted it. What is heard goes into `ring`, which must have its consumer.
    pub fn attach<W: Waits<Unclaimed>>(
        &self,
        spec: BridgeSpec,
        ring: RingSender<Delivered>,
        waits: W,
    ) -> Result<W::Outcome> {
        let sid = checked_sid(&spec.sid)?;
        let request = self.token_request(&sid, &spec);
        let client = self.clone();
        self.run(waits, |inner| async move {
            let asking = Asking { client: &client, request: Some(request.clone()) };
            let answer = inner.token(&request).await;
            asking.answered();
            client.open(spec, request, answer?, ring).map(Unclaimed::new)
        })
    }

    fn open(
        &self,
        spec: BridgeSpec,
        request: TokenRequest,
        answer: TokenAnswer,
        ring: RingSender<Delivered>,
    ) -> Result<Bridge> {
        let granted = Granted::read(&answer, &request.holder, self.options())?;
        let memory = Share::of(BRIDGE_BYTES);
        let media = self.runtime().media()?.clone();
        let (frames, taken) = media.handoff(CAPACITY);
        let (standing, figures) = (Arc::new(Standing::new()), Arc::new(Figures::default()));
        let holder = media.holder();
        let dialer = BridgeDialer::new(self, request.clone(), answer);
        media.send(Command::Open(holder, Box::new(granted.seat(dialer, standing.clone()))));
        let publication = Publication {
            track: PublishTrack {
                track: granted.publish,
                delivery: spec.delivery,
                frame_us: spec.params.frame_us(),
                waits: false,
                properties: Default::default(),
            },
            frames: taken,
            pace: Some(spec.clock),
            figures: figures.clone(),
        };
        let subscription = Subscription {
            track: granted.subscribe,
            ring,
            lag: Some(Lag::by_silence()),
            is_control: false,
            figures: figures.clone(),
        };
        media.send(Command::Subscribe(holder, Box::new(subscription)));
        media.send(Command::Publish(holder, Box::new(publication)));
        let (client, sid, params) = (self.clone(), Arc::from(request.sid.as_str()), spec.params);
        Ok(Bridge {
            client,
            sid,
            params,
            role: spec.role,
            clock: spec.clock,
            holder,
            media,
            frames,
            standing,
            figures,
            request,
            control: granted.control,
            measured: Mutex::default(),
            closed: AtomicBool::new(false),
            _memory: memory,
        })
    }

    /// Tells the control plane that a holder speaks no more. Without an answer the engine notices by itself that it is gone.
    fn give_back<W: Waits<()>>(&self, request: &TokenRequest, waits: W) -> Result<W::Outcome> {
        let request = TokenRequest { release: true, ..request.clone() };
        self.run(waits, |inner| async move {
            let _ = tokio::time::timeout(RELEASE_LIMIT, inner.release(&request)).await;
            Ok(())
        })
    }

    fn token_request(&self, sid: &str, spec: &BridgeSpec) -> TokenRequest {
        TokenRequest {
            org_id: self.options().org_id.clone(),
            sid: sid.to_owned(),
            role: spec.role,
            codec: spec.params.codec.as_str().to_owned(),
            sample_rate: spec.params.sample_rate,
            channels: spec.params.channels.into(),
            frame_ms: spec.params.frame_ms.into(),
            holder: random_id(),
            release: false,
        }
    }
}

impl Bridge {
    pub fn sid(&self) -> &str {
        &self.sid
    }

    pub fn params(&self) -> Params {
        self.params
    }

    pub fn runtime(&self) -> &Arc<Runtime> {
        self.client.runtime()
    }

    pub fn role(&self) -> BridgeRole {
        self.role
    }

    /// One encoded frame, said after those before it, or at `timestamp_us`. Waits for nothing and takes no lock.
    pub fn publish(&self, frame: Bytes, timestamp_us: Option<u64>) -> Result<()> {
        self.check_frame(frame.len())?;
        timestamp_us.map_or(Ok(()), |stamp| self.check_stamp(stamp))?;
        self.check_speaks()?;
        let frame_us = u64::from(self.params.frame_us());
        let queued_us = self.queued_us();
        let limit_us = CAPACITY.as_micros() as u64;
        let full = || {
            Error::new(
                Kind::Bridge,
                format!(
                    "the bridge holds {} s of audio that has not been heard yet, which is all it may (60 s): publish at the speed of speech",
                    queued_us / 1_000_000
                ),
            )
        };
        if queued_us + frame_us > limit_us {
            return Err(full());
        }
        self.frames.push(Outgoing { payload: frame, timestamp_us }, frame_us).map_err(|_| full())?;
        if !in_turn() {
            self.media.flush();
        }
        Ok(())
    }

    /// Microseconds of audio that was published and has not left yet.
    pub fn queued_us(&self) -> u64 {
        self.frames.queued_us() + self.figures.paced_us.load(Relaxed)
    }

    pub fn link(&self) -> Link {
        if self.closed.load(SeqCst) { Link::Closed } else { self.standing.link() }
    }

    /// Why it is not connected, where that is known.
    pub fn reason(&self) -> Option<String> {
        self.standing.reason()
    }

    /// Asks the media worker, a moment at most: what it does not tell in time is as it was told last.
    pub fn stats(&self) -> Stats {
        let (answer, measured) = sync_channel(1);
        let told = self.ask_worker(Box::new(move |link| {
            let _ = answer.try_send(link);
        }));
        self.stats_of(told.then(|| measured.recv_timeout(MEASURE_LIMIT).ok()).flatten())
    }

    /// [`stats`](Self::stats) for whoever must not wait for anything.
    pub fn stats_then<W: Waits<Stats>>(self: &Arc<Self>, waits: W) -> Result<W::Outcome> {
        let (answer, measured) = oneshot::channel();
        if !self.ask_worker(Box::new(move |link| {
            let _ = answer.send(link);
        })) {
            return waits.at_once(self.stats_of(None));
        }
        let bridge = self.clone();
        self.client.run(waits, |_| async move {
            let told = tokio::time::timeout(MEASURE_LIMIT, measured).await;
            Ok(bridge.stats_of(told.ok().and_then(|told| told.ok())))
        })
    }

    /// `false`: nobody would answer.
    fn ask_worker(&self, answer: Answer) -> bool {
        let alive = self.link() != Link::Closed && self.client.runtime().check().is_ok();
        if alive {
            self.media.send(Command::Measure(self.holder, answer));
        }
        alive
    }

    fn stats_of(&self, told: Option<Measured>) -> Stats {
        let mut last = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        *last = told.unwrap_or(*last);
        let Measured { standing, path } = *last;
        let figures = &self.figures;
        Stats {
            frames_in: figures.frames_in.load(Relaxed),
            gaps: figures.gaps.load(Relaxed),
            missing: figures.missing.load(Relaxed),
            stale: figures.stale.load(Relaxed),
            keys: figures.keys.load(Relaxed),
            frames_out: figures.frames_out.load(Relaxed),
            unheard: figures.unheard.load(Relaxed),
            offline: figures.offline.load(Relaxed),
            behind: figures.behind.load(Relaxed),
            too_old: figures.too_old.load(Relaxed),
            duplicates: standing.stale,
            queued_us: self.queued_us(),
            reconnects: self.standing.reconnects(),
            migrations: standing.migrations,
            dials: standing.dials,
            shared_by: standing.leases as u64,
            path: path.unwrap_or_default(),
        }
    }

    /// Changes of the link go into `states` from now on, the state of now first; `Closed` is the last.
    pub fn watch(&self, states: RingSender<Delivered>) {
        self.media.send(Command::Watch(self.holder, states));
    }

    /// Keys that the far end presses go into `ring` from now on, until [`Bridge::ignore_keys`] or the end; `Closed` is the last. Only who
    /// asks for them subscribes to them.
    pub fn hear_keys(&self, ring: RingSender<Delivered>) -> Result<()> {
        let Some(track) = self.control.clone() else {
            let why = "this engine tells no keys: its answer to attach names no control track";
            return Err(Error::new(Kind::Bridge, why));
        };
        let subscription = Subscription { track, ring, lag: None, is_control: true, figures: self.figures.clone() };
        self.media.send(Command::Subscribe(self.holder, Box::new(subscription)));
        Ok(())
    }

    /// [`Client::send_dtmf`] on this call.
    pub fn send_dtmf<W: Waits<()>>(&self, digits: &str, duration_ms: u32, waits: W) -> Result<W::Outcome> {
        self.check_open("no key can be pressed over it")?;
        self.client.send_dtmf(&self.sid, digits, duration_ms, waits)
    }

    /// Nobody hears the keys of this ring any more.
    pub fn ignore_keys(&self, ring: RingId) {
        self.media.send(Command::Unsubscribe(self.holder, ring));
    }

    /// Withdraws both tracks and gives the right to speak back. Twice is once. What has not been heard by then is not heard.
    pub fn close<W: Waits<()>>(&self, waits: W) -> Result<W::Outcome> {
        match self.leave() {
            true => self.client.give_back(&self.request, waits),
            false => waits.at_once(()),
        }
    }

    /// `true`: the right to speak is still ours to give back.
    fn leave(&self) -> bool {
        // The parent of a fork goes on with it.
        if self.closed.swap(true, SeqCst) || self.client.runtime().check().is_err() {
            return false;
        }
        let over = self.standing.link() == Link::Closed;
        self.media.send(Command::Close(self.holder));
        !over
    }

    /// Closed is for good: `what` is what can't be any more.
    pub fn check_open(&self, what: &str) -> Result<()> {
        self.client.runtime().check()?;
        if self.link() != Link::Closed {
            return Ok(());
        }
        let reason = self.reason().unwrap_or_else(|| "it was closed".into());
        Err(Error::closed(format!("this bridge is closed ({reason}): {what} any more")))
    }

    fn check_speaks(&self) -> Result<()> {
        self.check_open("nothing can be published")?;
        if self.link() != Link::Failed {
            return Ok(());
        }
        let reason = self.reason().unwrap_or_else(|| "the relay refuses it".into());
        Err(Error::new(Kind::Bridge, format!("{reason}: close this bridge and attach again")))
    }

    /// What lies further ahead than anything may wait was read from another clock.
    fn check_stamp(&self, timestamp_us: u64) -> Result<()> {
        let now_us = self.clock.us_at(Instant::now());
        if timestamp_us <= now_us.saturating_add(CAPACITY.as_micros() as u64) {
            return Ok(());
        }
        let ahead_s = (timestamp_us - now_us) / 1_000_000;
        Err(Error::value(format!(
            "timestamp_us is {ahead_s} s ahead, and 60 s may wait: read it from the clock of time.monotonic_ns() // 1000"
        )))
    }

    fn check_frame(&self, length: usize) -> Result<()> {
        let codec = self.params.codec;
        match self.params.frame_bytes() {
            Some(expected) if length != expected => Err(Error::value(format!(
                "frame is {length} bytes long: a frame of {} with sample_rate {}, channels {} and frame_ms {} has {expected}",
                codec.as_str(),
                self.params.sample_rate,
                self.params.channels,
                self.params.frame_ms
            ))),
            None if length == 0 => Err(Error::value("frame is empty: publish one encoded frame")),
            None if length > MAX_OPUS_BYTES => {
                Err(Error::value(format!("frame is {length} bytes long: one Opus packet has at most {MAX_OPUS_BYTES}")))
            }
            _ => Ok(()),
        }
    }
}

/// A bridge that nobody has taken yet. If nobody does, because whoever asked for it was interrupted, it is closed.
pub struct Unclaimed(Option<Bridge>);

impl Unclaimed {
    fn new(bridge: Bridge) -> Self {
        Self(Some(bridge))
    }

    pub fn claim(mut self) -> Bridge {
        self.0.take().expect("it is taken by value")
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(bridge) = self.0.take().filter(Bridge::leave) {
            let _ = bridge.client.give_back(&bridge.request, Told(|_: Result<()>| ()));
        }
    }
}

/// A question for the right to speak. Whoever gives it up before the answer came gives the right back.
struct Asking<'a> {
    client: &'a Client,
    request: Option<TokenRequest>,
}

impl Asking<'_> {
    fn answered(mut self) {
        self.request = None;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            let _ = self.client.give_back(&request, Told(|_: Result<()>| ()));
        }
    }
}

/// What a caller of `attach` may ask for, as one error says it.
pub fn params(codec: &str, sample_rate: Option<u32>, channels: u32, frame_ms: u32) -> Result<Params> {
    let wrong = |error: crate::audio::ParamsError| Error::value(error.to_string());
    let codec: Codec = codec.parse().map_err(wrong)?;
    Params::new(codec, sample_rate, channels, frame_ms).map_err(wrong)
}

/// How frames travel, by its name.
pub fn delivery(name: &str) -> Result<Delivery> {
    match name {
        "stream" => Ok(Delivery::Stream),
        "datagram" => Ok(Delivery::Datagram),
        _ => Err(Error::value(format!("delivery is {name:?}: choose stream or datagram"))),
    }
}
