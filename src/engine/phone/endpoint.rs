//! [`Phone`]: the endpoint, and who takes its calls.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::PhoneConfig;
use super::audio::Audio;
use super::call::Visit;
use super::clip::{ClipError, Clips};
use super::line::PhoneLine;
use super::number::Behaviour;
use crate::audio::{Decoder, Params};
use crate::engine::rtp::{Fill, Ports, Settings, Talks};
use crate::engine::sip::{Answering, Knock, Local, Past, Reception, Refusal, Ruled, Ruling, Timers, Transport};
use crate::sip::{Codec, uri};

/// Calls at the same time; one more is told 503.
const MOST_CALLS: usize = 4096;
const PTIME_MS: u8 = 20;
/// Ports that are tried where any will do.
const TRIES: usize = 16;
/// The last BYEs of a phone that is switched off have this long.
const GOODBYE: Duration = Duration::from_secs(1);

/// A simulated phone that answers SIP. Lives within a tokio runtime; dropping it ends its calls without another word on the wire.
pub struct Phone {
    /// UDP and TCP, at one port (RFC 3261 §18.2.1).
    endpoints: [Answering; 2],
    desk: Arc<Desk>,
    ending: watch::Sender<bool>,
}

/// What its calls share.
pub(super) struct Room {
    pub(super) config: PhoneConfig,
    pub(super) clips: Arc<Clips>,
    pub(super) talks: Talks,
    pub(super) audio: Audio,
    next_line: AtomicUsize,
}

impl Room {
    /// Hands a line to the audio thread.
    pub(super) fn begin(&self, line: PhoneLine) -> usize {
        let key = self.next_line.fetch_add(1, Ordering::Relaxed);
        self.audio.begin(key, line);
        key
    }
}

impl Phone {
    /// Reads and encodes the clip, makes the folder for recordings, binds. The error names what is wrong.
    pub async fn open(config: PhoneConfig, listen: SocketAddr) -> Result<Self, String> {
        Self::with_timers(config, listen, Timers::default()).await
    }

    /// The same, with another T1 than RFC 3261's.
    pub async fn with_timers(config: PhoneConfig, listen: SocketAddr, timers: Timers) -> Result<Self, String> {
        let clips = clips(&config).map_err(|error| error.to_string())?;
        let talks = talks(listen.ip(), Codec::ALL.to_vec(), Fill::Never);
        let room = Room { config, clips, talks, audio: Audio::start()?, next_line: AtomicUsize::default() };
        let (ending, told) = watch::channel(false);
        let desk = Arc::new(Desk {
            room: Arc::new(room),
            places: Arc::new(Semaphore::new(MOST_CALLS)),
            tasks: Mutex::default(),
            ending: told,
        });
        let endpoints = answering(listen, timers, &desk).await?;
        Ok(Self { endpoints, desk, ending })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.endpoints[0].address()
    }

    /// What it has in memory of calls that are over, for whoever counts.
    pub(in crate::engine) fn past(&self) -> [Past; 2] {
        self.endpoints.each_ref().map(Answering::past)
    }

    /// Calls under way.
    pub fn lines(&self) -> usize {
        MOST_CALLS - self.desk.places.available_permits()
    }

    /// Hangs up everywhere, and waits a moment until all have heard of it.
    pub async fn switch_off(self) {
        let _ = self.ending.send(true);
        let mut tasks = std::mem::take(&mut *self.desk.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while tasks.join_next().await.is_some() {} };
        // Whoever does not answer by then is left.
        let _ = tokio::time::timeout(GOODBYE, all).await;
    }
}

/// UDP, and TCP at its port.
async fn answering(listen: SocketAddr, timers: Timers, desk: &Arc<Desk>) -> Result<[Answering; 2], String> {
    let open = async |transport, bind| {
        let local = Local { transport, bind, external: None, tls_roots: None, certificate: None };
        Answering::open(&local, timers, desk.clone()).await
    };
    let mut tries = if listen.port() == 0 { TRIES } else { 1 };
    loop {
        let udp = open(Transport::Udp, listen).await?;
        match open(Transport::Tcp, udp.address()).await {
            Ok(tcp) => return Ok([udp, tcp]),
            // A port that is free over UDP may be somebody's over TCP.
            Err(_) if tries > 1 => tries -= 1,
            Err(error) => return Err(error),
        }
    }
}

fn clips(config: &PhoneConfig) -> Result<Arc<Clips>, ClipError> {
    if let Some(path) = &config.record {
        std::fs::create_dir_all(path).map_err(|error| ClipError::Record { path: path.clone(), error })?;
    }
    // Says now whether a recording's decoder runs at this rate.
    Decoder::at(Params::CALL, config.record_rate, 1)?;
    Ok(Arc::new(config.clip.as_deref().map_or_else(Clips::voice, Clips::read)?))
}

/// Audio on whatever ports are free at this address. Both ends of a phone bear silence for as long as it lasts.
pub(super) fn talks(address: IpAddr, codecs: Vec<Codec>, fill: Fill) -> Talks {
    let settings = Settings { never_heard: None, not_heard: None, fill, ..Settings::default() };
    Talks { ports: Ports::any(address), address, codecs, ptime_ms: PTIME_MS, settings }
}

/// Who takes the calls, each with a task of its own.
struct Desk {
    room: Arc<Room>,
    places: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
    ending: watch::Receiver<bool>,
}

impl Desk {
    fn rule(&self, knock: Knock) -> Ruling {
        let behaviour = Behaviour::of(&uri::user_of(&knock.uri).unwrap_or_default());
        if matches!(behaviour, Behaviour::Silent | Behaviour::Unreachable) {
            return Ruling::Silence;
        }
        if let Some(refusal) = knock.unfit {
            return Ruling::Refuse(refusal);
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Ruling::Refuse(Refusal::of(503));
        };
        let (take, came) = oneshot::channel();
        let visit = Visit {
            room: Arc::clone(&self.room),
            behaviour,
            name: super::name_of(&knock.call_id),
            offer: knock.body,
            came,
            ending: self.ending.clone(),
            _place: place,
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(done) = tasks.try_join_next() {
            if let Err(error) = done {
                tracing::error!(%error, "a phone's call ended by itself");
            }
        }
        tasks.spawn(visit.run());
        Ruling::Take(take)
    }
}

impl Reception for Desk {
    fn receive(&self, knock: Knock) -> Ruled {
        let ruling = self.rule(knock);
        Box::pin(std::future::ready(ruling))
    }

    fn takes_transfers(&self) -> bool {
        true
    }
}
