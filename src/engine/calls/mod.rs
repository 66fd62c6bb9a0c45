//! One place that owns every [`Call`](crate::call::Call): requests in, what they cause carried out.
//!
//! A [`Board`](board::Board) lives on the control thread, in one task. It owns the calls, their trunks and leases, and speaks to
//! the audio threads and the store; none of these ever waits for another. The API asks it through a [`Desk`], which also
//! knows what is no longer in memory.
//!
//! | File | Holds |
//! |---|---|
//! | `desk` | [`Desk`]: requests of the API, answered from the board or the store |
//! | `board` | [`Board`](board::Board): the calls, and what happens to them |
//! | `entry` | one call as the board holds it |
//! | `ends` | how they leave: ended, forgotten, taken back |
//! | `feed` | [`Watch`]: what becomes of the calls, told to whoever watches |
//! | `arrive` | from an INVITE to a call that rings |
//! | `originate` | from a request to a dialled call |
//! | `speak` | agents, leases and tokens of a call |
//! | `task` | the task around the board: channels, timers, the orderly end |
//! | `legs` | second legs of calls that are transferred by a bridge |
//! | `lease` | who may speak on a track; pure |
//! | `mint` | sids and relay tokens |
//! | `press` | keys for the far end of a call |
//! | `trunks` | trunks with their limits |
//!
//! An originate is validated, durable, its tracks open, before it is dialled and answered. Calls stay in memory for a
//! while after their end, then only in the store. The room knows no HTTP, and nothing of what audio is.

mod arrive;
mod board;
mod desk;
mod ends;
mod entry;
mod feed;
mod lease;
mod legs;
mod mint;
mod originate;
mod press;
mod speak;
mod task;
mod trunks;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use url::Url;

use super::agents::Agent;
use super::config::{CallerId, Inbound};
use super::media;
use super::metrics::Metrics;
use super::outside::pinned;
use super::store::{Place, Recalled, Remembered, Store};
use super::trunk::{self, Keys, Probe, Trunk};
use super::webhooks::Hooks;
use crate::audio::Params;
use crate::call::record::Metadata;
use crate::call::wire::{BridgeRole, RelayRef, TokenAnswer};
use crate::call::{CallRow, Carried, Command, Settled, TransferMode};
use crate::net::tls::Identity;
use crate::relay::shard_of;
use crate::sip::health;
use crate::tracks::names::VOICE;

pub use desk::Desk;
pub use feed::{News, Seen, Told, Watch};
pub use mint::Minter;
pub use task::Task;

/// Requests that may wait for the board.
const MAX_REQUESTS: usize = 4096;

/// Why a request is refused, as the API sorts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    BadRequest,
    NotFound,
    Conflict,
    TooMany,
    Unavailable,
}

/// A refusal with its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub why: Why,
    pub message: String,
    pub sip_code: Option<u16>,
    pub end_reason: Option<String>,
    /// When asking again is worth it, where that is known.
    pub retry_after: Option<Duration>,
}

impl Refused {
    pub fn new(why: Why, message: impl Into<String>) -> Self {
        Self { why, message: message.into(), sip_code: None, end_reason: None, retry_after: None }
    }

    /// The same words for a call that never was and for one of somebody else's.
    pub fn unknown_sid(sid: &str) -> Self {
        Self::new(Why::NotFound, format!("sid {sid:?} is no call of this organisation"))
    }

    pub(super) fn shutting_down() -> Self {
        Self::new(Why::Unavailable, "the engine is shutting down: try again when it is back")
    }
}

/// An outgoing call as it was asked for; the fields are checked.
#[derive(Clone, Debug)]
pub struct Originate {
    pub org: String,
    pub to: String,
    pub from: String,
    pub trunk_id: String,
    pub agent: Option<String>,
    pub ring_timeout_s: u32,
    pub max_duration_s: Option<u32>,
    pub metadata: Metadata,
    /// What is pressed once the far end has answered.
    pub send_digits: Option<Keys>,
    pub carried: Carried,
    pub remembered: Option<Remembered>,
    /// Where each new status is told.
    pub status_callback: Option<Url>,
}

/// A bridge that wants to speak and hear.
#[derive(Clone, Debug)]
pub struct Attach {
    pub org: String,
    pub sid: String,
    pub role: BridgeRole,
    pub params: Params,
    pub holder: String,
}

/// One page of calls, newest first.
pub struct Page {
    pub calls: Vec<CallRow>,
    pub next: Option<Place>,
}

/// A trunk as the API shows it.
#[derive(Clone, Debug)]
pub struct TrunkState {
    pub id: String,
    pub active: usize,
    /// Of these, those whose turn to be dialled has not come.
    pub waiting: usize,
    pub health: health::State,
    /// Why no call over it can come to anything, where that is known.
    pub problem: Option<String>,
}

type Answer<T> = oneshot::Sender<Result<T, Refused>>;

/// What the desk asks of the board. `NotFound` for a sid: it is not in memory.
enum Request {
    Originate(Box<Originate>, Answer<CallRow>),
    Get {
        org: String,
        sid: String,
        answer: Answer<CallRow>,
    },
    /// The rows of those that are in memory; `None`: it is on its way to being dialled or rung, and nobody is told of it yet.
    Fresh {
        sids: Vec<String>,
        answer: Answer<HashMap<String, Option<CallRow>>>,
    },
    Transfer {
        org: String,
        sid: String,
        to: String,
        answer: Answer<Settled>,
    },
    Agent {
        org: String,
        sid: String,
        agent: String,
        answer: Answer<()>,
    },
    Press {
        org: String,
        sid: String,
        keys: Keys,
        answer: Answer<()>,
    },
    Hangup {
        org: String,
        sid: String,
        answer: Answer<()>,
    },
    /// Of a call that came in: it is answered, and this agent speaks on it.
    Answer {
        org: String,
        sid: String,
        agent: Option<String>,
        answer: Answer<()>,
    },
    /// Of a call that came in: it is refused, for example.
    Decide {
        org: String,
        sid: String,
        command: Command,
        answer: Answer<()>,
    },
    /// `None`: the store may know.
    Recall {
        org: String,
        key: String,
        answer: Answer<Option<Recalled>>,
    },
    /// `false`: no call of this key is in memory, and none will be placed.
    TakeBack {
        org: String,
        key: String,
        answer: Answer<bool>,
    },
    Attach(Box<Attach>, Answer<TokenAnswer>),
    Release(Box<Attach>, Answer<()>),
    Watch {
        org: String,
        sid: Option<String>,
        seen: Option<Seen>,
        answer: Answer<Watch>,
    },
    Trunks {
        answer: Answer<Vec<TrunkState>>,
    },
    /// `None`: this trunk has nobody to ask.
    Probe {
        org: String,
        trunk_id: String,
        answer: Answer<Option<Probe>>,
    },
    Shutdown {
        answer: Answer<()>,
    },
}

/// Makes an agent for one call.
pub type MakeAgent = Arc<dyn Fn() -> Box<dyn Agent> + Send + Sync>;

/// The way to the audio threads.
pub trait Media: Send {
    fn send(&mut self, command: media::Command);
}

/// A trunk, and how much it may carry.
pub struct Line {
    pub trunk: Box<dyn Trunk>,
    pub org: Option<String>,
    pub channel_limit: usize,
    pub max_cps: usize,
    /// Which numbers its calls may show; empty: any.
    pub caller_ids: Vec<CallerId>,
    pub transfer_mode: TransferMode,
    /// What becomes of calls that come in.
    pub inbound: Inbound,
    /// What `PLAY_AND_HANGUP` plays.
    pub announcement: Option<Announcement>,
}

/// Something to say once, and how long it is.
#[derive(Clone)]
pub struct Announcement {
    pub make: MakeAgent,
    pub length: Duration,
}

/// What the board is built from.
pub struct Parts {
    pub node: String,
    pub max_calls: usize,
    pub lines: BTreeMap<String, Line>,
    /// The other end of what the trunks were built with.
    pub trunk_events: mpsc::UnboundedReceiver<trunk::TrunkEvent>,
    pub agents: BTreeMap<String, MakeAgent>,
    pub media: Box<dyn Media>,
    pub media_events: mpsc::UnboundedReceiver<media::Event>,
    pub store: Arc<dyn Store>,
    pub minter: Arc<Minter>,
    /// What bridges are told to dial.
    pub relay: Relays,
    pub metrics: Arc<Metrics>,
    pub hooks: Hooks,
}

/// What bridges are told to dial: one address per shard of the relay, the public one first.
pub struct Relays {
    public: RelayRef,
    shards: Vec<RelayRef>,
    /// Whose certificate bridges pin, if the relay is our own.
    identity: Option<Identity>,
}

impl Relays {
    pub fn new(public: RelayRef, shards: Vec<RelayRef>, identity: Option<Identity>) -> Self {
        Self { public, shards, identity }
    }

    /// The shard in charge of this call, with the certificate that it shows now.
    fn of(&self, sid: &str) -> RelayRef {
        let shard = self.shards.get(shard_of(&[VOICE, sid], self.shards.len())).unwrap_or(&self.public);
        let hashes = self.identity.as_ref().map(pinned);
        let certificate_hashes = hashes.unwrap_or_else(|| shard.certificate_hashes.clone());
        RelayRef { certificate_hashes, ..shard.clone() }
    }
}
