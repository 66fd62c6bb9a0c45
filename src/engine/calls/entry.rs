//! One call as the board holds it: its phase, and what only the board knows of it.

use std::time::{Duration, Instant};

use super::Answer;
use super::arrive::Coming;
use super::lease::Leases;
use super::legs::Second;
use crate::audio::Params;
use crate::call::{Call, CallRecord, CallRow, Carried, Command, Settled};
use crate::engine::leg::Leg;
use crate::engine::media::Caller;
use crate::engine::store::Remembered;
use crate::engine::trunk::Keys;
use crate::engine::webhooks::Callback;
use crate::heap::{CALL_BYTES, Share};

/// One call in memory.
pub(super) struct Entry {
    pub(super) org: String,
    pub(super) trunk_id: String,
    pub(super) caller: Caller,
    /// Until it is dialled.
    pub(super) carried: Carried,
    /// When it may be dialled.
    pub(super) turn: Instant,
    pub(super) phase: Phase,
    /// Who asked for the call and waits for `dialing`.
    pub(super) asker: Option<Answer<CallRow>>,
    /// The request can be repeated by its key: it counts even when the asker has gone.
    pub(super) remembered: Option<Remembered>,
    /// It came in, and does not ring yet.
    pub(super) coming: Option<Coming>,
    pub(super) transfers: Vec<Answer<Settled>>,
    pub(super) leases: Leases,
    /// The agent that speaks, or will speak after the answer.
    pub(super) agent: Option<String>,
    /// What is pressed once the call is answered.
    pub(super) send_digits: Option<Keys>,
    pub(super) leg: Option<Box<dyn Leg>>,
    /// What it spoke when it came.
    pub(super) speaks: Option<Params>,
    /// The newest second leg, while it has a channel of the trunk.
    pub(super) second: Option<Second>,
    /// Its trunk's announcement speaks, and nobody else.
    pub(super) announces: bool,
    /// The row that watchers were told last.
    pub(super) told: Option<CallRow>,
    /// Where each new status is told.
    pub(super) callback: Option<Callback>,
    pub(super) forget_at: Option<Instant>,
    pub(super) timer: Option<Instant>,
    /// What its media are about to take, until it is over.
    pub(super) memory: Option<Share>,
}

pub(super) enum Phase {
    /// The record is on its way to the disk.
    Saving(Early),
    /// Both tracks are being opened.
    Opening(Early, Instant),
    Live(Box<Call>),
}

/// A call that is not dialled yet.
pub(super) struct Early {
    pub(super) record: CallRecord,
    pub(super) max_duration: Option<Duration>,
    /// It was hung up before it was dialled.
    pub(super) ended: Option<Command>,
}

impl Entry {
    /// Of a record on its way to the disk, for a phone, with nothing that only some calls have.
    pub(super) fn new(early: Early, turn: Instant) -> Self {
        let CallRecord { org_id, trunk_id, agent, .. } = &early.record;
        Self {
            org: org_id.clone(),
            trunk_id: trunk_id.clone(),
            caller: Caller::Leg,
            carried: Carried::default(),
            turn,
            agent: agent.clone(),
            phase: Phase::Saving(early),
            asker: None,
            remembered: None,
            coming: None,
            transfers: Vec::new(),
            leases: Leases::default(),
            send_digits: None,
            leg: None,
            speaks: None,
            second: None,
            announces: false,
            told: None,
            callback: None,
            forget_at: None,
            timer: None,
            memory: Some(Share::of(CALL_BYTES)),
        }
    }

    pub(super) fn record(&self) -> &CallRecord {
        match &self.phase {
            Phase::Saving(early) | Phase::Opening(early, _) => &early.record,
            Phase::Live(call) => call.record(),
        }
    }

    /// Who is shown it can do with it whatever a call allows.
    pub(super) fn shown(&self) -> Option<CallRow> {
        matches!(self.phase, Phase::Live(_)).then(|| self.record().row())
    }

    pub(super) fn is_over(&self) -> bool {
        self.record().status.is_terminal()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Saving(_) => None,
            Phase::Opening(_, until) => Some(*until),
            Phase::Live(call) => call.poll_timeout(),
        };
        let second = self.second.as_ref().and_then(Second::poll_timeout);
        phase.into_iter().chain(self.forget_at).chain(second).min()
    }
}
