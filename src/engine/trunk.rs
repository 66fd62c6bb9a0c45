//! The seam to whatever carries calls: a [`Trunk`] is told what to do and answers by events.
//!
//! The control thread owns every trunk. Commands never block and never fail in place: what becomes of a command comes back
//! as a [`TrunkEvent`] through the channel that the trunk was built with, in order per call. After a final event
//! (`Rejected`, `Unreachable`, `Bye`, `Cancelled`) a trunk says nothing more about that call; commands for calls it does not know
//! do nothing. The second leg of a bridged call is to its trunk a call like any other, with a sid of its own. A trunk never
//! touches records, tracks or the call's state machine.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::leg::Leg;
use crate::audio::Params;
use crate::call::{Carried, Event};
use crate::rtp::dtmf::Stroke;
use crate::sip::{health, registration};

/// One outgoing call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    pub sid: String,
    pub to: String,
    pub from: String,
    /// How long the far end may ring. The call's own timer decides; a trunk may pass it on (INVITE `Expires`).
    pub ring_timeout: Duration,
    /// Headers and a name of the user's, checked.
    pub carried: Carried,
    /// What comes before the answer is of use to somebody.
    pub hears_early: bool,
}

/// Keys to be pressed for a far end, one after the other, with pauses between them.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub strokes: Vec<Stroke>,
    /// Of each key.
    pub duration_ms: u32,
}

/// Digits may be a secret: they stand in no log.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} strokes)", self.strokes.len())
    }
}

/// Whoever asked for something of which a trunk says at once whether it will be done. The error is what to say to a user; dropping it
/// without a word says that the call has ended.
pub struct Asker(Option<Told>);

type Told = Box<dyn FnOnce(Result<(), String>) + Send>;

impl Asker {
    pub fn new(told: impl FnOnce(Result<(), String>) + Send + 'static) -> Self {
        Self(Some(Box::new(told)))
    }

    pub fn tell(mut self, done: Result<(), String>) {
        if let Some(told) = self.0.take() {
            told(done);
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            told(Err("the call has ended".to_owned()));
        }
    }
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asker")
    }
}

/// A call that came in and is not yet taken in: no command reaches it, and nothing more is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Over which trunk it came.
    pub trunk_id: String,
    /// What its trunk knows it by until it has a sid.
    pub key: u64,
    /// Numbers or names as the far side writes them, untrusted.
    pub to: String,
    pub from: String,
    pub sip_call_id: String,
}

/// Something happened to a call of this trunk. An arrival has no sid yet.
pub struct TrunkEvent {
    pub sid: String,
    pub kind: TrunkKind,
}

pub enum TrunkKind {
    /// Somebody calls. [`Trunk::take_in`] or [`Trunk::turn_away`] has to follow.
    Arrived(Box<Arrival>),
    /// The call's INVITE has this Call-ID.
    Placed {
        sip_call_id: String,
    },
    /// The far side's first hop works on it (SIP 100).
    Trying,
    /// Provisional answer, 180..=199.
    Progress {
        code: u16,
    },
    /// What the far side says before the answer (early media): this leg listens, and becomes the call's with it.
    Early {
        leg: Box<dyn Leg>,
    },
    /// The far end picked up. `None`: its leg came early, or nobody is there ([`FarEnd::Empty`]), and `attach_caller` speaks for it.
    Answered {
        leg: Option<Box<dyn Leg>>,
    },
    /// Final answer, 300..=699. `reason` is the far end's phrase, untrusted.
    Rejected {
        code: u16,
        reason: String,
        q850: Option<u16>,
    },
    /// No answer of any kind came from the far side's first hop. `reason` is for the user.
    Unreachable {
        reason: String,
    },
    /// The far end hung up.
    Bye {
        q850: Option<u16>,
    },
    /// Of a call that came in: the answer was acknowledged, or never was; the caller gave up before it, for the sake of a SIP answer that
    /// came elsewhere if she names one.
    Acked {
        leg: Option<Box<dyn Leg>>,
    },
    Unacked,
    Cancelled {
        q850: Option<u16>,
        code: Option<u16>,
    },
    /// The session was not refreshed in time (RFC 4028); the call is still to be ended.
    SessionExpired,
    /// The far end signalled a key beside its audio (SIP INFO).
    Key {
        key: char,
        duration_ms: u32,
    },
    /// The far end agreed to be transferred (202); its own `Bye` or `TransferOutcome` may follow.
    TransferAccepted,
    /// Final answer to the transfer, 300..=699; the call goes on.
    TransferRefused {
        code: u16,
    },
    /// What became of it, as the far end's NOTIFY says: 200..=699.
    TransferOutcome {
        code: u16,
    },
}

/// What came of asking a trunk's far side, once, whether it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who was asked, and how: `sip.example.com:5060`, `udp`.
    pub peer: String,
    pub transport: &'static str,
    /// Where that led: one address of the host, with a port; `None`: nowhere, or nobody was asked.
    pub address: Option<SocketAddr>,
    /// Where we are, as the far side is told.
    pub local: SocketAddr,
    /// Code and phrase of its answer; the error is why there is none.
    pub answer: Result<(u16, String), String>,
    pub after: Duration,
    /// Of a trunk that registers.
    pub registration: Option<registration::State>,
}

/// Given what came of it; `None`: this trunk has nobody to ask.
pub type Probed = Box<dyn FnOnce(Option<Probe>) + Send>;

/// Who is to be expected behind a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// A phone with audio of its own.
    Phone,
    /// Nobody: the audio of the far side is `attach_caller`'s.
    Empty,
}

/// Where a trunk's events go. Unbounded by type, bounded by use: a call causes a handful of events, and calls are limited.
pub type Events = tokio::sync::mpsc::UnboundedSender<TrunkEvent>;

/// A carrier of calls.
pub trait Trunk: Send {
    fn dial(&mut self, dial: Dial, now: Instant);
    /// The same for a call that is to be joined to one whose audio is this: nothing need be transcoded if the far side can do it.
    fn dial_like(&mut self, dial: Dial, _first: Option<Params>, now: Instant) {
        self.dial(dial, now);
    }
    /// Gives up an unanswered call. Answered meanwhile: hangs up.
    fn cancel(&mut self, sid: &str, now: Instant);
    /// Hangs up an answered call.
    fn bye(&mut self, sid: &str, now: Instant);
    /// Asks the far end of an answered call to call `to` instead.
    fn transfer(&mut self, sid: &str, to: &str, now: Instant);
    /// An arrival becomes the call of this sid; or it is given this final answer, and when it is worth trying again.
    fn take_in(&mut self, _key: u64, _sid: &str, _now: Instant) {}
    fn turn_away(&mut self, _key: u64, _code: u16, _retry_after: Option<Duration>, _now: Instant) {}
    /// Presses keys for the far end of an answered call.
    fn press(&mut self, _sid: &str, _keys: Keys, asker: Asker, _now: Instant) {
        asker.tell(Err("this trunk sends no keys".to_owned()));
    }
    /// Of a call that came in: 180, 200 with our description, or this final answer.
    fn ring(&mut self, _sid: &str, _now: Instant) {}
    fn answer(&mut self, _sid: &str, _now: Instant) {}
    fn reject(&mut self, _sid: &str, _code: u16, _now: Instant) {}
    /// Whether a call may be tried now; if not, in how long it may.
    fn admit(&mut self, _now: Instant) -> Result<(), Duration> {
        Ok(())
    }
    /// Whether the audio of one more call has a place; if not, in how long it may have.
    fn check_room(&self, _now: Instant) -> Result<(), Duration> {
        Ok(())
    }
    /// Why no call over it can come to anything, where that is known.
    fn problem(&self) -> Option<String> {
        None
    }
    fn health(&self, _now: Instant) -> health::State {
        health::State::Healthy
    }
    /// Asks the far side whether it is there.
    fn probe(&mut self, probed: Probed) {
        probed(None);
    }
    /// Known from the number alone, before `dial`.
    fn far_end(&self, _to: &str) -> FarEnd {
        FarEnd::Phone
    }
    /// The engine ends: no call follows, and the far side is told that nobody can be called here any more.
    fn close(&mut self) {}
    /// What the far side is not done with: a BYE is under way, an INVITE that was given up, an unregistration. An engine that ends waits for
    /// them a while.
    fn lines(&mut self) -> usize {
        0
    }
    /// When [`Trunk::handle_timeout`] wants to be called; asked again after every command.
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Instant);
}

impl TrunkKind {
    /// What the call's brain hears of it, and the leg that comes with it. An arrival has no brain yet, a key is none of its business.
    pub fn parted(self) -> (Option<Event>, Option<Box<dyn Leg>>) {
        let event = match self {
            Self::Arrived(_) | Self::Key { .. } => return (None, None),
            Self::Early { leg } => return (None, Some(leg)),
            Self::Answered { leg } => return (Some(Event::Answered), leg),
            Self::Acked { leg } => return (Some(Event::Acked), leg),
            Self::Placed { sip_call_id } => Event::Placed { sip_call_id },
            Self::Trying => Event::Trying,
            Self::Progress { code } => Event::Progress { code },
            Self::Rejected { code, reason, q850 } => Event::Rejected { code, reason, q850 },
            Self::Unreachable { reason } => Event::Unreachable { reason },
            Self::Bye { q850 } => Event::Bye { q850 },
            Self::Unacked => Event::Unacked,
            Self::Cancelled { q850, code } => Event::Cancelled { q850, code },
            Self::SessionExpired => Event::SessionExpired,
            Self::TransferAccepted => Event::TransferAccepted,
            Self::TransferRefused { code } => Event::TransferRefused { code },
            Self::TransferOutcome { code } => Event::TransferOutcome { code },
        };
        (Some(event), None)
    }
}

impl std::fmt::Debug for TrunkKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Placed { .. } => f.write_str("Placed"),
            Self::Trying => f.write_str("Trying"),
            Self::Progress { code } => write!(f, "Progress({code})"),
            Self::Early { .. } => f.write_str("Early"),
            Self::Answered { leg } => write!(f, "Answered(leg: {})", leg.is_some()),
            Self::Rejected { code, .. } => write!(f, "Rejected({code})"),
            Self::Unreachable { reason } => write!(f, "Unreachable({reason})"),
            Self::Bye { .. } => f.write_str("Bye"),
            Self::Arrived(arrival) => write!(f, "Arrived({})", arrival.key),
            Self::Acked { leg } => write!(f, "Acked(leg: {})", leg.is_some()),
            Self::Unacked => f.write_str("Unacked"),
            Self::Cancelled { .. } => f.write_str("Cancelled"),
            Self::SessionExpired => f.write_str("SessionExpired"),
            Self::Key { .. } => f.write_str("Key"),
            Self::TransferOutcome { code } => write!(f, "TransferOutcome({code})"),
            Self::TransferAccepted => f.write_str("TransferAccepted"),
            Self::TransferRefused { code } => write!(f, "TransferRefused({code})"),
        }
    }
}
