//! A call that came in: it rings until somebody answers, refuses or gives up.
//!
//! It is `ringing` from the first moment and `in_progress` once our 200 is acknowledged. Nobody answers within the ring timeout:
//! 480. A 200 that is never acknowledged is followed by a BYE (RFC 3261 §13.3.1.4), whether its trunk says so or says nothing at all.

use std::time::{Duration, Instant};

use super::Call;
use super::reason::{ELSEWHERE, EndReason, EndedBy, Ending, cause_of_cancel, cause_of_code};
use super::record::{Direction, Status};
use super::state::cause;
use super::words::{Action, Refusal, Reject};

/// What a call that nobody answered is told, and why a new one is refused at the end of the engine.
const NOBODY: u16 = 480;
const SHUTTING_DOWN: u16 = 503;

impl Call {
    /// Rings at once. The record is in `ringing` and durable; its `started_ms` is the wall clock's reading at `now`.
    pub fn ring(record: super::CallRecord, max_duration: Option<Duration>, now: Instant) -> Self {
        let mut call = Self::empty(record, max_duration, now);
        call.actions.push_back(Action::Ring);
        call
    }

    pub(super) fn is_inbound(&self) -> bool {
        self.record.direction == Direction::Inbound
    }

    /// Somebody takes the call. Who comes second is told so, though nobody has acknowledged our 200 yet.
    pub(super) fn pick_up(&mut self, ack_until: Instant) -> Result<(), Refusal> {
        self.check_ringing()?;
        self.ack_until = Some(ack_until);
        self.push(Action::Answer);
        Ok(())
    }

    pub(super) fn turn_down(&mut self, reject: Reject, now: Instant) -> Result<(), Refusal> {
        self.check_ringing()?;
        let code = reject.sip_code();
        self.refuse(code, Ending::new(Status::Failed, reject.reason(), EndedBy::Local, cause_of_code(code)), now);
        Ok(())
    }

    fn check_ringing(&self) -> Result<(), Refusal> {
        match self.record.status {
            _ if !self.is_inbound() => Err(Refusal::Outbound),
            status if status.is_terminal() => Err(Refusal::Over),
            _ if self.ack_until.is_some() => Err(Refusal::Answered),
            _ => Ok(()),
        }
    }

    /// Whoever hangs up a call that rings refuses it; after the 200 only a BYE ends it.
    pub(super) fn leave_ringing(&mut self, by: EndedBy, now: Instant) {
        if self.ack_until.is_some() {
            self.push(Action::Bye);
            let reason = if by == EndedBy::System { EndReason::ServerShutdown } else { EndReason::Canceled };
            return self.end(Ending::new(Status::Failed, reason, by, 31), now);
        }
        let (code, reason) = match by {
            EndedBy::System => (SHUTTING_DOWN, EndReason::ServerShutdown),
            _ => (Reject::Declined.sip_code(), EndReason::Declined),
        };
        self.refuse(code, Ending::new(Status::Failed, reason, by, cause_of_code(code)), now);
    }

    pub(super) fn nobody_answered(&mut self, now: Instant) {
        let ending = Ending::new(Status::NoAnswer, EndReason::RingTimeout, EndedBy::System, 19);
        self.refuse(NOBODY, ending, now);
    }

    fn refuse(&mut self, code: u16, ending: Ending, now: Instant) {
        self.record.sip_code = Some(code);
        self.push(Action::Reject { code });
        self.end(ending, now);
    }

    /// `code`: of an answer that came elsewhere, for which she gave up.
    pub(super) fn given_up(&mut self, q850: Option<u16>, code: Option<u16>, now: Instant) {
        if self.is_inbound() && !self.is_answered() {
            let of_code = code.and_then(cause_of_cancel);
            let q850 = cause(q850).or(of_code).unwrap_or(31);
            let is_elsewhere = [Some(q850), of_code].contains(&Some(ELSEWHERE));
            let reason = if is_elsewhere { EndReason::AnsweredElsewhere } else { EndReason::Canceled };
            self.end(Ending::new(Status::NoAnswer, reason, EndedBy::Remote, q850), now);
        }
    }

    pub(super) fn never_acked(&mut self, now: Instant) {
        if self.is_inbound() && self.ack_until.is_some() && !self.is_answered() {
            self.push(Action::Bye);
            self.end(Ending::new(Status::Failed, EndReason::NoAck, EndedBy::System, 102), now);
        }
    }
}
