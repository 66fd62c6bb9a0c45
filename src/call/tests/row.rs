//! A call in a row of the state table, and the virtual clock it lives by.

use std::time::{Duration, Instant};

use super::super::*;

pub(super) const START_MS: u64 = 1_764_000_000_000;
pub(super) const TO: &str = "+15557654321";

/// A call and the virtual clock it lives by.
pub(super) struct Row {
    pub(super) call: Call,
    pub(super) now: Instant,
    pub(super) done: Vec<Action>,
}

impl Row {
    #[allow(clippy::disallowed_methods)] // the origin of the virtual clock
    pub(super) fn new(make: impl FnOnce(Instant) -> Call) -> Self {
        let now = Instant::now();
        Self { call: make(now), now, done: Vec::new() }.drained()
    }

    pub(super) fn drained(mut self) -> Self {
        self.done.extend(std::iter::from_fn(|| self.call.poll_action()));
        self
    }

    pub(super) fn dialing() -> Self {
        Self::new(|now| Call::dial(CallRecord::dialing("CA1".into(), START_MS), None, now))
    }

    pub(super) fn trying() -> Self {
        Self::dialing().event(Event::Trying)
    }

    pub(super) fn ringing() -> Self {
        Self::trying().event(Event::Progress { code: 180 })
    }

    pub(super) fn answered() -> Self {
        Self::ringing().event(Event::Answered).forgetting()
    }

    pub(super) fn answered_by(mode: TransferMode) -> Self {
        let mut row = Self::answered();
        row.call.transfers_by(mode);
        row
    }

    /// 202 came.
    pub(super) fn referred() -> Self {
        let row = Self::answered_by(TransferMode::Refer).command(transfer(TO));
        row.event(Event::TransferAccepted).forgetting()
    }

    /// The second leg is dialled.
    pub(super) fn second() -> Self {
        Self::answered_by(TransferMode::Bridge).command(transfer(TO)).forgetting()
    }

    pub(super) fn bridged() -> Self {
        Self::second().leg(LegEvent::Ringing).leg(LegEvent::Answered).forgetting()
    }

    pub(super) fn inbound() -> Self {
        Self::new(|now| Call::ring(CallRecord::ringing("CA1".into(), START_MS), None, now)).forgetting()
    }

    pub(super) fn event(mut self, event: Event) -> Self {
        self.call.handle_event(event, self.now);
        self.drained()
    }

    pub(super) fn leg(self, event: LegEvent) -> Self {
        self.event(Event::SecondLeg { leg: 0, event })
    }

    pub(super) fn command(mut self, command: Command) -> Self {
        self.call.handle_command(command, self.now).expect("the command is possible in this state");
        self.drained()
    }

    /// Lets time run, with every timer that falls due on the way.
    pub(super) fn after(mut self, seconds: u64) -> Self {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(at) = self.call.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.call.handle_timeout(at);
        }
        self.now = until;
        self.drained()
    }

    pub(super) fn forgetting(mut self) -> Self {
        self.done.clear();
        self
    }

    pub(super) fn did(&self, action: &Action) -> bool {
        self.done.contains(action)
    }

    #[track_caller]
    pub(super) fn ends(&self, status: Status, reason: EndReason, by: EndedBy, q850: impl Into<Option<u8>>) -> &Self {
        let record = self.call.record();
        let ending = (record.status, record.end_reason, record.ended_by, record.q850);
        assert_eq!(ending, (status, Some(reason), Some(by), q850.into()));
        assert!(self.did(&Action::EndMedia) && self.did(&Action::Save) && record.ended_ms.is_some());
        self
    }

    #[track_caller]
    pub(super) fn goes_on(&self) -> &Self {
        assert_eq!((self.call.status(), self.call.record().end_reason), (Status::InProgress, None));
        self
    }

    pub(super) fn transfer(&self) -> (TransferState, Option<u16>) {
        let transfer = self.call.record().transfer.as_ref().expect("a transfer was asked for");
        (transfer.state, transfer.sip_code)
    }
}

pub(super) fn transfer(to: &str) -> Command {
    Command::Transfer { to: to.into() }
}

/// Nobody could be asked.
pub(super) fn unreachable() -> Event {
    Event::Unreachable { reason: "no address".into() }
}

pub(super) fn rejected(code: u16) -> Event {
    Event::Rejected { code, reason: "phrase".into(), q850: None }
}

pub(super) fn rejected_for(code: u16, q850: u16) -> Event {
    Event::Rejected { code, reason: String::new(), q850: Some(q850) }
}
