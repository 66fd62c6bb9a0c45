//! One call as the phone takes it: from its INVITE through what its number says to the last word on the wire. One task each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::endpoint::Room;
use super::line::{PhoneLine, SHY, Says, Told};
use super::number::Behaviour;
use super::recorder::Recorder;
use crate::engine::leg::Leg as _;
use crate::engine::rtp::{RtpLeg, Talk};
use crate::engine::sip::{Agreed, Came, Heard, Line};
use crate::sip::Direction;

/// From the call's arrival to the first thing that a far side says about it beyond 100.
const ROUTING: Duration = Duration::from_millis(20);
/// What a [`Behaviour::SpeakLate`] rings longer.
const LATE: Duration = Duration::from_secs(3);
/// Nobody listens longer to what is said before the answer.
const EARLY: Duration = Duration::from_secs(20);
/// From a transfer's acceptance to our own BYE.
const TRANSFERRING: Duration = Duration::from_millis(100);
/// Who leaves after his clip hears out what was said to its last words.
const LINGER: Duration = Duration::from_millis(200);
/// An audio thread that has not said the clip by this long after its time never will.
const CLIP_OVERDUE: Duration = Duration::from_secs(10);
/// A caller who has died without a word is not waited for any longer.
const LONGEST: Duration = Duration::from_secs(4 * 3600);
/// What [`Behaviour::Press`] presses.
const KEYS: &str = "123#";
/// What [`Behaviour::RefuseTransfer`] says, and all others.
const REFUSES_TRANSFER: u16 = 603;
const ACCEPTS_TRANSFER: u16 = 202;
/// What [`Behaviour::Announce`] comes to.
const NO_SUCH_NUMBER: u16 = 404;
/// Of an UPDATE before the answer (RFC 3311 §5.2).
const TOO_EARLY: u16 = 500;
const NO_PORTS: u16 = 503;
const SWITCHED_OFF: u16 = 480;
/// Of our BYE (RFC 3326).
const CLEARED: &str = "Q.850;cause=16;text=\"Normal call clearing\"";

/// A call before its line.
pub(super) struct Visit {
    pub(super) room: Arc<Room>,
    pub(super) behaviour: Behaviour,
    /// What its files are named by.
    pub(super) name: Option<String>,
    pub(super) offer: Vec<u8>,
    pub(super) came: oneshot::Receiver<Came>,
    /// The phone hangs up.
    pub(super) ending: watch::Receiver<bool>,
    /// One of so many calls at the same time.
    pub(super) _place: OwnedSemaphorePermit,
}

struct Call {
    room: Arc<Room>,
    behaviour: Behaviour,
    name: Option<String>,
    line: Line,
    heard: mpsc::UnboundedReceiver<Heard>,
    ending: watch::Receiver<bool>,
    audio: Option<Sound>,
    /// Our description, as a 183 had it.
    described: Option<String>,
    /// When the phone hangs up, and that it has.
    leaves_at: Instant,
    is_leaving: bool,
    /// Transfers that nobody says anything about.
    ignored: Vec<oneshot::Sender<u16>>,
}

/// Ports, descriptions and line of an answered call.
struct Sound {
    talk: Talk,
    told: mpsc::UnboundedReceiver<Told>,
    teller: mpsc::UnboundedSender<Told>,
    /// What the audio thread knows its line by.
    key: Option<usize>,
}

/// The call is over before it was answered.
struct Over;

impl Visit {
    pub(super) async fn run(self) {
        // It was no call after all.
        let Ok(Came { line, heard }) = self.came.await else { return };
        let mut call = Call {
            room: self.room,
            behaviour: self.behaviour,
            name: self.name,
            line,
            heard,
            ending: self.ending,
            audio: None,
            described: None,
            leaves_at: Instant::now() + LONGEST,
            is_leaving: false,
            ignored: Vec::new(),
        };
        if call.answer(&self.offer).await.is_ok() {
            call.follow().await;
        }
        call.silence();
    }
}

impl Call {
    /// What its number says until somebody picks up.
    async fn answer(&mut self, offer: &[u8]) -> Result<(), Over> {
        let ring = self.room.config.ring;
        self.wait(ROUTING).await?;
        match self.behaviour {
            Behaviour::Reject { code } if !self.behaviour.rings_first() => return self.refuse(code).await,
            // Who sends no description is sent ours with the answer, and hears nothing before (RFC 3261 §13.2.1).
            Behaviour::SpeakEarly | Behaviour::Announce if !offer.is_empty() => self.speak_early(offer).await?,
            _ => self.line.ring(),
        }
        match self.behaviour {
            Behaviour::Ring => self.wait(LONGEST).await?,
            _ if self.described.is_some() => self.wait(EARLY).await?,
            Behaviour::SpeakLate => self.wait(ring + LATE).await?,
            _ => self.wait(ring).await?,
        }
        match self.behaviour {
            Behaviour::Reject { code } => self.refuse(code).await,
            Behaviour::Announce => self.refuse(NO_SUCH_NUMBER).await,
            _ => self.pick_up(offer).await,
        }
    }

    /// 183, and the clip behind it.
    async fn speak_early(&mut self, offer: &[u8]) -> Result<(), Over> {
        let body = self.describe(offer).await?;
        self.line.progress(body.clone());
        self.described = Some(body);
        self.speak();
        Ok(())
    }

    /// Up to the end of what is said meanwhile, unless the caller gives up.
    async fn wait(&mut self, time: Duration) -> Result<(), Over> {
        let until = tokio::time::sleep(time);
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                heard = self.heard.recv() => match heard {
                    None | Some(Heard::Cancelled { .. } | Heard::Gone | Heard::Bye { .. }) => return Err(Over),
                    // A request whose transaction is gone needs no answer.
                    Some(Heard::Offer(offer)) => drop(offer.answer.send(Err(TOO_EARLY.into()))),
                    Some(_) => {}
                },
                () = told(&mut self.ending) => return self.refuse(SWITCHED_OFF).await,
                () = said(&mut self.audio) => return Ok(()),
                () = &mut until => return Ok(()),
            }
        }
    }

    /// Until it was acknowledged, or nobody does.
    async fn refuse<T>(&mut self, code: u16) -> Result<T, Over> {
        self.line.reject(code);
        while !matches!(self.heard.recv().await, None | Some(Heard::Gone)) {}
        Err(Over)
    }

    /// Our description beside this offer, and ports for it.
    async fn describe(&mut self, offer: &[u8]) -> Result<String, Over> {
        let mut talk = match self.room.talks.open() {
            Ok(talk) => talk,
            Err(error) => {
                tracing::warn!(error, "a phone has no ports for its audio");
                return self.refuse(NO_PORTS).await;
            }
        };
        if self.behaviour == Behaviour::Empty {
            talk.negotiation().want(Direction::Inactive);
        }
        let body = match talk.handle_offer(offer) {
            Ok(body) => body,
            Err(refused) => return self.refuse(refused.sip_code()).await,
        };
        let (teller, told) = mpsc::unbounded_channel();
        self.audio = Some(Sound { talk, told, teller, key: None });
        Ok(body)
    }

    async fn pick_up(&mut self, offer: &[u8]) -> Result<(), Over> {
        let body = match self.described.take() {
            Some(body) => body,
            None => self.describe(offer).await?,
        };
        // Before the answer leaves: what comes right behind its ACK is heard.
        self.speak();
        self.line.accept(body, None);
        if self.behaviour == Behaviour::SpeakAndLeave {
            self.leaves_at = Instant::now() + SHY + self.room.clips.duration() + CLIP_OVERDUE;
        }
        Ok(())
    }

    /// Begins its line, once, when both sides have agreed.
    fn speak(&mut self) {
        let Some(audio) = self.audio.as_mut().filter(|audio| audio.key.is_none()) else { return };
        if self.behaviour == Behaviour::Empty {
            return;
        }
        let Some(leg) = audio.talk.leg() else { return };
        let says = match self.behaviour {
            Behaviour::Echo => Says::Echo,
            Behaviour::Listen => Says::Nothing,
            Behaviour::Press => Says::Keys { keys: KEYS, begins: None },
            Behaviour::SpeakEarly | Behaviour::Announce => Says::Early { clips: self.room.clips.clone() },
            behaviour => Says::Clip { clips: self.room.clips.clone(), leaves: behaviour == Behaviour::SpeakAndLeave },
        };
        let recorder = self.name.as_deref().and_then(|name| self.room.recorder(name, &leg));
        let line = PhoneLine::new(Box::new(leg), says, recorder, audio.teller.clone(), Instant::now());
        audio.key = Some(self.room.begin(line));
    }

    fn silence(&mut self) {
        if let Some(key) = self.audio.take().and_then(|audio| audio.key) {
            self.room.audio.end(key);
        }
    }

    /// From the answer to the last word.
    async fn follow(&mut self) {
        loop {
            let Some(audio) = &mut self.audio else { return };
            let leaves_at = self.leaves_at;
            tokio::select! {
                biased;
                heard = self.heard.recv() => match heard {
                    None => return,
                    Some(heard) => if self.handle(heard).is_none() {
                        return;
                    },
                },
                Some(Told::ClipEnded) = audio.told.recv() => {
                    if self.behaviour == Behaviour::SpeakAndLeave {
                        self.leaves_at = leaves_at.min(Instant::now() + LINGER);
                    }
                }
                () = told(&mut self.ending), if !self.is_leaving => self.leave(),
                () = tokio::time::sleep_until(leaves_at.into()), if !self.is_leaving => self.leave(),
            }
        }
    }

    /// Hangs up. Audio goes on until the far end has heard of it.
    fn leave(&mut self) {
        self.is_leaving = true;
        self.line.bye(Some(CLEARED.to_owned()));
    }

    /// `None`: it was the last word.
    fn handle(&mut self, heard: Heard) -> Option<()> {
        let audio = self.audio.as_mut()?;
        match heard {
            // Ours may be under way: it is still to be answered.
            Heard::Bye { .. } => self.is_leaving.then_some(())?,
            Heard::Gone | Heard::Cancelled { .. } => return None,
            // Who never acknowledges has a call all the same, as he sees it (RFC 3261 §13.3.1.4).
            Heard::Unacked if !self.is_leaving => self.leave(),
            Heard::Offer(offer) => {
                // An UPDATE without a description asks for nothing (RFC 4028 §7.4).
                let asks = !(offer.is_update && offer.body.is_empty());
                let body = asks.then(|| audio.talk.handle_offer(&offer.body)).transpose();
                let answered = body.map(|body| Agreed { body, session_expires: None });
                // A request whose transaction is gone needs no answer.
                let _ = offer.answer.send(answered.map_err(|refused| refused.sip_code().into()));
            }
            Heard::Acked { body } => {
                let agreed = body.is_empty() || audio.talk.handle_answer(&body).is_ok();
                if !agreed && !self.is_leaving {
                    self.leave();
                }
                self.speak();
                if let Some(key) = self.audio.as_ref().and_then(|audio| audio.key) {
                    self.room.audio.acked(key);
                }
            }
            Heard::TransferAsked { answer } => self.transfer(answer),
            _ => {}
        }
        Some(())
    }

    fn transfer(&mut self, answer: oneshot::Sender<u16>) {
        let code = match self.behaviour {
            Behaviour::IgnoreTransfer => return self.ignored.push(answer),
            Behaviour::RefuseTransfer => REFUSES_TRANSFER,
            _ => ACCEPTS_TRANSFER,
        };
        // A request whose transaction is gone needs no answer.
        let _ = answer.send(code);
        if code == ACCEPTS_TRANSFER {
            // Who is on his way to somebody else no longer waits for his clip.
            self.behaviour = Behaviour::Speak;
            self.leaves_at = Instant::now() + TRANSFERRING;
        }
    }
}

/// What it says has come to its end; without audio never.
async fn said(audio: &mut Option<Sound>) {
    let told = match audio {
        Some(audio) => audio.told.recv().await,
        None => None,
    };
    if told.is_none() {
        std::future::pending().await
    }
}

/// The phone is to be switched off, or is gone.
async fn told(ending: &mut watch::Receiver<bool>) {
    drop(ending.wait_for(|ending| *ending).await);
}

impl Room {
    fn recorder(&self, name: &str, leg: &RtpLeg) -> Option<Recorder> {
        Recorder::begin(&self.config, name, leg.params()).unwrap_or_else(|error| {
            tracing::warn!(name, %error, "a phone records nothing of this call");
            None
        })
    }
}
