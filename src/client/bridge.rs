//! One bridge, as its user holds it: he hears one side of a call and speaks on the other.
//!
//! [`Client::attach`] asks the control plane for the call's tracks and the right to speak, and returns as soon as that is
//! granted: audio comes when it comes. The media worker owns everything that moves; the bridge is a handle to it, and dropping
//! the handle changes nothing. [`Bridge::close`] withdraws both tracks and gives the right to speak back; so does the call's end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::calls::{self, Client, TERMINAL, checked_sid};
use super::http::random_id;
use super::media::{
    Boxed, Clock, Command, Delivered, Dialer, Figures, HolderId, Link, Measured, MediaPort, Outgoing, Prepared,
    Publication, Refused, RouteKey, Seat, Standing, Subscription, Verdict,
};
use super::options::Options;
use super::relay::{Relay, token};
use super::runtime::{Cancel, in_turn};
use super::tokens::renew_after;
use crate::audio::{Codec, Params};
use crate::call::wire::{BridgeRole, TokenAnswer, TokenRequest, TrackRef};
use crate::error::{Error, Kind, Result};
use crate::heap::{BRIDGE_BYTES, Share};
use crate::moqt::message::Token;
use crate::moqt::{FullTrackName, TrackNamespace};
use crate::net::Path;
use crate::playout::CAPACITY;
use crate::ring::{HandoffSender, RingReceiver};
use crate::tracks::lag::Lag;
use crate::tracks::{Delivery, PublishTrack};

/// Frames that wait for a callback.
pub const RING_FRAMES: usize = 10;
/// The largest Opus packet of 60 ms stereo is far below; more is not a frame.
const MAX_OPUS_BYTES: usize = 8 * 1024;
/// A token this young, and younger than half its life, serves the next dial; an older one is fetched afresh.
const FRESH: Duration = Duration::from_secs(5);
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
    /// Returns once the control plane has granted it. `listen` is given the ring of what is heard before anything can be in it.
    pub fn attach(
        &self,
        spec: BridgeSpec,
        listen: impl FnOnce(RingReceiver<Delivered>),
        cancel: Cancel<'_>,
    ) -> Result<Bridge> {
        let sid = checked_sid(&spec.sid)?;
        let request = self.token_request(&sid, &spec);
        let asked = request.clone();
        let answer = self.run(cancel, |inner| async move { inner.token(&asked).await })?;
        let granted = Granted::read(&answer, &request.holder, self.options())?;
        let memory = Share::of(BRIDGE_BYTES);
        let media = self.runtime().media()?.clone();
        let (ring, receiver) = self.runtime().delivery().ring(RING_FRAMES);
        listen(receiver);
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
                properties: Default::default(),
            },
            frames: taken,
            pace: Some(spec.clock),
            figures: figures.clone(),
        };
        let subscription =
            Subscription { track: granted.subscribe, ring, lag: Some(Lag::by_silence()), figures: figures.clone() };
        media.send(Command::Subscribe(holder, Box::new(subscription)));
        media.send(Command::Publish(holder, Box::new(publication)));
        let (client, sid, params, role, clock) = (self.clone(), Arc::from(sid), spec.params, spec.role, spec.clock);
        Ok(Bridge {
            client,
            sid,
            params,
            role,
            clock,
            holder,
            media,
            frames,
            standing,
            figures,
            request,
            measured: Mutex::default(),
            closed: AtomicBool::new(false),
            _memory: memory,
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

    pub fn role(&self) -> BridgeRole {
        self.role
    }

    /// One encoded frame, said after those before it, or at `timestamp_us`. Waits for nothing and takes no lock.
    pub fn publish(&self, frame: Bytes, timestamp_us: Option<u64>) -> Result<()> {
        self.check_frame(frame.len())?;
        timestamp_us.map_or(Ok(()), |stamp| self.check_stamp(stamp))?;
        self.check_open()?;
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

    /// Waits for the media worker, a moment at most: what it does not tell in time is as it was told last.
    pub fn stats(&self) -> Stats {
        let Measured { standing, path } = self.measure();
        let figures = &self.figures;
        Stats {
            frames_in: figures.frames_in.load(Relaxed),
            gaps: figures.gaps.load(Relaxed),
            missing: figures.missing.load(Relaxed),
            stale: figures.stale.load(Relaxed),
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

    fn measure(&self) -> Measured {
        let (answer, measured) = sync_channel(1);
        let alive = self.link() != Link::Closed && self.client.runtime().check().is_ok();
        let told = alive.then(|| {
            self.media.send(Command::Measure(self.holder, answer));
            measured.recv_timeout(MEASURE_LIMIT).ok()
        });
        let mut last = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        *last = told.flatten().unwrap_or(*last);
        *last
    }

    /// Withdraws both tracks and gives the right to speak back. Twice is once. What has not been heard by then is not heard.
    pub fn close(&self, cancel: Cancel<'_>) -> Result<()> {
        if self.closed.swap(true, SeqCst) {
            return Ok(());
        }
        if self.client.runtime().check().is_err() {
            // The parent of a fork goes on with it.
            return Ok(());
        }
        let over = self.standing.link() == Link::Closed;
        self.media.send(Command::Close(self.holder));
        if over {
            return Ok(());
        }
        let request = TokenRequest { release: true, ..self.request.clone() };
        self.client.run(cancel, |inner| async move {
            // Without an answer the engine notices by itself that the holder is gone.
            let _ = tokio::time::timeout(RELEASE_LIMIT, inner.release(&request)).await;
            Ok(())
        })
    }

    fn check_open(&self) -> Result<()> {
        self.client.runtime().check()?;
        match self.link() {
            Link::Closed => {
                let reason = self.reason().unwrap_or_else(|| "it was closed".into());
                Err(Error::closed(format!("this bridge is closed ({reason}): nothing can be published any more")))
            }
            Link::Failed => {
                let reason = self.reason().unwrap_or_else(|| "the relay refuses it".into());
                Err(Error::new(Kind::Bridge, format!("{reason}: close this bridge and attach again")))
            }
            _ => Ok(()),
        }
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

/// A token answer, read.
struct Granted {
    relay: Relay,
    route: RouteKey,
    token: String,
    renew_at: Option<Instant>,
    publish: FullTrackName,
    subscribe: FullTrackName,
}

impl Granted {
    fn read(answer: &TokenAnswer, holder: &str, options: &Options) -> Result<Self> {
        let foreign = |why: String| Error::new(Kind::ApiStatus, format!("the token answer can't be used: {why}"));
        let relay = Relay::new(&answer.relay.url, &answer.relay.certificate_hashes, false).map_err(foreign)?;
        let relay = match &options.relay_host {
            Some(host) => relay.at_host(host),
            None => relay,
        };
        let relay = relay.with_drafts(options.drafts.clone());
        let route = RouteKey {
            url: relay.url.to_string(),
            trust: relay.hashes.clone(),
            anything: false,
            drafts: options.drafts.clone(),
            cap: answer.relay.pool.clamp(1, options.pool),
        };
        Ok(Self {
            relay,
            route,
            token: answer.token.clone(),
            renew_at: Some(Instant::now() + renew_after(answer.expires_in_s, holder)),
            publish: track(&answer.publish).map_err(foreign)?,
            subscribe: track(&answer.subscribe).map_err(foreign)?,
        })
    }

    /// A link that bridges share belongs to none of them: each request shows its own bridge's token, and no right of one is
    /// another's (decision 0045).
    fn setup_tokens(&self) -> Vec<Token> {
        if self.route.cap > 1 { Vec::new() } else { vec![token(&self.token)] }
    }

    fn seat(&self, dialer: BridgeDialer, standing: Arc<Standing>) -> Seat {
        Seat {
            route: self.route.clone(),
            tokens: vec![token(&self.token)],
            dialer: Arc::new(dialer),
            standing,
            states: None,
            ends_with_track: true,
            renew_at: self.renew_at,
        }
    }
}

fn track(name: &TrackRef) -> std::result::Result<FullTrackName, String> {
    let fields = name.namespace.iter().map(|field| Bytes::copy_from_slice(field.as_bytes()));
    let namespace = TrackNamespace::new(fields).map_err(|error| error.to_string())?;
    FullTrackName::new(namespace, name.name.clone().into_bytes()).map_err(|error| error.to_string())
}

/// Fetches tokens for one bridge and learns whether its call still lives.
struct BridgeDialer {
    inner: Arc<calls::Inner>,
    request: TokenRequest,
    /// The answer to `attach`, until it is used or old.
    first: Mutex<Option<(TokenAnswer, Instant)>>,
    attempt: Arc<AtomicUsize>,
}

impl BridgeDialer {
    fn new(client: &Client, request: TokenRequest, answer: TokenAnswer) -> Self {
        let first = Mutex::new(Some((answer, Instant::now())));
        Self { inner: client.inner().clone(), request, first, attempt: Arc::default() }
    }
}

impl Dialer for BridgeDialer {
    fn prepare(&self, uri: Option<String>) -> Boxed<std::result::Result<Prepared, Refused>> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fresh = |answer: &TokenAnswer| FRESH.min(Duration::from_secs(answer.expires_in_s) / 2);
        let first = first.filter(|(answer, at)| at.elapsed() < fresh(answer)).map(|(answer, _)| answer);
        let (inner, request, attempt) = (self.inner.clone(), self.request.clone(), self.attempt.clone());
        Box::pin(async move {
            let answer = match first {
                Some(answer) => answer,
                None => inner.token(&request).await.map_err(refused)?,
            };
            let no = |reason| Refused { reason, ask: false };
            // A restarted engine may name another port or certificate than before.
            let granted = Granted::read(&answer, &request.holder, &inner.options).map_err(refused)?;
            let tokens = vec![token(&answer.token)];
            let relay = granted.relay.clone().follow(uri.as_deref());
            let dial = relay.dial(granted.setup_tokens(), &attempt).await.map_err(no)?;
            Ok(Prepared { dial, tokens, renew_at: granted.renew_at })
        })
    }

    fn verdict(&self) -> Boxed<Verdict> {
        let (inner, sid) = (self.inner.clone(), self.request.sid.clone());
        Box::pin(async move {
            match inner.call(&sid).await {
                Ok(row) if TERMINAL.contains(&row.status) => {
                    let reason = row.end_reason.map_or_else(String::new, |reason| format!(": {reason}"));
                    Verdict::Over(format!("the call ended{reason}"))
                }
                Ok(_) => Verdict::Lives,
                Err(error) if error.kind() == Kind::NotFound => Verdict::Over("the engine knows no such call".into()),
                Err(_) => Verdict::Unknown,
            }
        })
    }
}

/// A refusal by name may mean that the call is over; silence means nothing.
fn refused(error: Error) -> Refused {
    let ask = matches!(error.kind(), Kind::NotFound | Kind::Conflict | Kind::BadRequest);
    Refused { reason: format!("no token for the relay: {error}"), ask }
}
