//! A call that is to go to another number: REFER, and a second leg where the far end won't (RFC 3515, `TransferMode`).
//!
//! | Step | Means |
//! |---|---|
//! | REFER is under way | the API waits, at most [`ANSWER`] |
//! | 202 | it is told so; the agent is silent, the media stay |
//! | NOTIFY 2xx, or the far end's BYE after the 202 | the call has completed, transferred |
//! | NOTIFY 3xx to 6xx, and [`GRACE`] later the far end is still there | failed; the agent speaks again |
//! | a NOTIFY with the outcome before the 202 | stands for the 202, too (RFC 6665 §4.1.2.4) |
//! | no NOTIFY within the ring timeout and [`SLACK`] | unknown; the agent speaks again, a late outcome still counts, a BYE is a BYE, and another transfer takes its place |
//! | refused, mode `auto`; or mode `bridge` | a second leg is dialled, and joined with the first once it is answered |
//!
//! A failing NOTIFY is no proof: peers send one for calls that they have connected. So the dialog itself decides.

use std::time::{Duration, Instant};

use super::Call;
use super::parts::{LegRecord, LegState, TransferMode, TransferRecord, TransferState};
use super::reason::{EndReason, EndedBy};
use super::state::cause;
use super::words::{Action, LegEvent, Refusal, Settled};

/// A transfer is reported as undecided after this long: the API answers within 25 s. What becomes of it still counts.
pub(super) const ANSWER: Duration = Duration::from_secs(20);
/// From a failing NOTIFY to believing it.
const GRACE: Duration = Duration::from_secs(2);
/// What a far end may need beyond the ringing.
const SLACK: Duration = Duration::from_secs(10);

/// A transfer that is not over.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    to: String,
    step: Step,
    /// When whoever asked is told that it is undecided; `None`: told already.
    answer_by: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Referring,
    /// 202; the outcome comes until then, if it comes.
    Accepted {
        outcome_by: Option<Instant>,
    },
    /// The outcome was a failure; it is believed then.
    Failing {
        believed_at: Instant,
        code: u16,
    },
    /// The second leg rings until then.
    Dialling {
        until: Instant,
    },
    Bridged,
}

impl Transfer {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.step {
            Step::Referring | Step::Bridged => None,
            Step::Accepted { outcome_by } => outcome_by,
            Step::Failing { believed_at, .. } => Some(believed_at),
            Step::Dialling { until } => Some(until),
        };
        own.into_iter().chain(self.answer_by).min()
    }

    /// The far end has agreed to leave us.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.step, Step::Accepted { .. } | Step::Failing { .. })
    }

    /// It had agreed to, and nobody heard what came of it.
    pub(super) fn is_unknown(&self) -> bool {
        self.step == Step::Accepted { outcome_by: None }
    }

    pub(super) fn is_bridged(&self) -> bool {
        self.step == Step::Bridged
    }

    pub(super) fn is_dialling(&self) -> bool {
        matches!(self.step, Step::Dialling { .. })
    }

    pub(super) fn to(&self) -> &str {
        &self.to
    }
}

impl Call {
    pub(super) fn begin_transfer(&mut self, to: String, now: Instant) -> Result<(), Refusal> {
        if self.is_over() {
            return Err(Refusal::Over);
        }
        if !self.is_answered() {
            return Err(Refusal::NotAnswered(self.status()));
        }
        match &mut self.transfer {
            Some(pending) if pending.is_bridged() => return Err(Refusal::Bridged),
            Some(pending) if pending.is_unknown() => self.start_transfer(to, now),
            Some(pending) if pending.to != to => return Err(Refusal::OtherTransfer),
            // Told before that it was accepted: so is whoever joins.
            Some(pending) if pending.is_accepted() => self.push(Action::Settled(Settled::Accepted)),
            Some(pending) => drop(pending.answer_by.get_or_insert(now + ANSWER)),
            None => self.start_transfer(to, now),
        }
        Ok(())
    }

    fn start_transfer(&mut self, to: String, now: Instant) {
        let (mode, step) = (self.transfer_mode, Step::Referring);
        let mut noted = TransferRecord { to: to.clone(), mode, state: TransferState::Pending, sip_code: None };
        if noted.mode == TransferMode::Auto {
            noted.mode = TransferMode::Refer;
        }
        self.record.transfer = Some(noted);
        self.transfer = Some(Transfer { to: to.clone(), step, answer_by: Some(now + ANSWER) });
        if mode == TransferMode::Bridge {
            self.dial_leg(now);
        } else {
            self.push(Action::Transfer { to });
        }
        self.push(Action::Save);
    }

    /// 202: the agent's part is over, as far as anybody knows.
    pub(super) fn transfer_accepted(&mut self, now: Instant) {
        let outcome_by = now + Duration::from_secs(u64::from(self.record.ring_timeout_s)) + SLACK;
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.step == Step::Referring) else { return };
        transfer.step = Step::Accepted { outcome_by: Some(outcome_by) };
        transfer.answer_by = None;
        self.note_transfer(TransferState::Accepted, None);
        self.actions.extend([Action::Settled(Settled::Accepted), Action::PauseAgent, Action::Save]);
    }

    pub(super) fn transfer_refused(&mut self, code: u16, now: Instant) {
        if !self.transfer.as_ref().is_some_and(|transfer| transfer.step == Step::Referring) {
            return;
        }
        if self.transfer_mode == TransferMode::Auto {
            self.note_transfer(TransferState::Pending, Some(code));
            self.dial_leg(now);
            return self.push(Action::Save);
        }
        self.transfer_failed(code);
    }

    /// A NOTIFY's final status.
    pub(super) fn transfer_outcome(&mut self, code: u16, now: Instant) {
        if code >= 200 {
            // It may overtake the 202.
            self.transfer_accepted(now);
        }
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.is_accepted()) else { return };
        match code {
            200..=299 => {
                self.note_transfer(TransferState::Completed, Some(code));
                self.actions.push_back(Action::Bye);
                self.finish_transferred(EndedBy::Local, 16, now);
            }
            300.. => transfer.step = Step::Failing { believed_at: now + GRACE, code },
            _ => {}
        }
    }

    /// The far end left after it had agreed to: that is a transfer, whatever its NOTIFY said.
    pub(super) fn finish_transferred(&mut self, by: EndedBy, q850: u8, now: Instant) {
        if let Some(transfer) = &self.transfer {
            self.record.transferred_to = Some(transfer.to().to_owned());
        }
        self.note_transfer(TransferState::Completed, None);
        self.finish(EndReason::Transferred, by, q850, now);
    }

    pub(super) fn handle_leg(&mut self, leg: usize, event: LegEvent, now: Instant) {
        let current = self.transfer.as_ref().filter(|_| leg + 1 == self.record.legs.len());
        let Some(transfer) = current else {
            // An answer that crossed our CANCEL is hung up (RFC 3261 §9.1).
            if event == LegEvent::Answered {
                self.push(Action::ByeLeg { leg });
            }
            return;
        };
        match event {
            LegEvent::Placed { sip_call_id } => {
                if let Some(leg) = self.record.legs.last_mut() {
                    leg.sip_call_id = Some(sip_call_id);
                    self.push(Action::Save);
                }
            }
            LegEvent::Ringing if transfer.is_dialling() => self.note_leg(LegState::Ringing, None, None, now),
            LegEvent::Answered if transfer.is_dialling() => self.join(now),
            LegEvent::Rejected { code, q850 } if transfer.is_dialling() => {
                self.note_leg(LegState::Failed, Some(code), cause(q850), now);
                self.transfer_failed(code);
            }
            LegEvent::Bye { q850 } if transfer.is_bridged() => {
                let q850 = cause(q850).unwrap_or(16);
                self.note_leg(LegState::Ended, None, Some(q850), now);
                self.push(Action::Bye);
                self.finish_transferred(EndedBy::Remote, q850, now);
            }
            _ => {}
        }
    }

    pub(super) fn transfer_timeout(&mut self, now: Instant) {
        let Some(transfer) = self.transfer.as_mut() else { return };
        if transfer.answer_by.is_some_and(|at| now >= at) {
            transfer.answer_by = None;
            self.actions.push_back(Action::Settled(Settled::Undecided));
        }
        match transfer.step {
            Step::Accepted { outcome_by: Some(at) } if now >= at => {
                transfer.step = Step::Accepted { outcome_by: None };
                self.note_transfer(TransferState::Unknown, None);
                self.actions.extend([Action::ResumeAgent, Action::Save]);
            }
            Step::Failing { believed_at, code } if now >= believed_at => {
                self.note_transfer(TransferState::Failed, Some(code));
                self.transfer = None;
                self.actions.extend([Action::ResumeAgent, Action::Save]);
            }
            Step::Dialling { until } if now >= until => {
                self.push(Action::CancelLeg { leg: self.leg() });
                self.note_leg(LegState::Failed, None, Some(19), now);
                self.transfer_failed(408);
            }
            _ => {}
        }
    }

    /// The call ends with its transfer on the way: whoever waits is told, and the second leg goes with the first.
    pub(super) fn end_transfer(&mut self, now: Instant) {
        let Some(transfer) = self.transfer.take() else { return };
        match transfer.step {
            Step::Dialling { .. } => {
                self.push(Action::CancelLeg { leg: self.leg() });
                self.note_leg(LegState::Failed, None, Some(31), now);
            }
            Step::Bridged => {
                let open = self.record.legs.last().is_some_and(|leg| leg.state == LegState::InProgress);
                if open {
                    self.push(Action::ByeLeg { leg: self.leg() });
                    self.note_leg(LegState::Ended, None, Some(16), now);
                }
            }
            _ => {}
        }
        if matches!(transfer.step, Step::Referring | Step::Dialling { .. }) {
            self.note_transfer(TransferState::Failed, None);
            self.push(Action::Settled(Settled::Over));
        }
    }

    fn dial_leg(&mut self, now: Instant) {
        let Some(transfer) = self.transfer.as_mut() else { return };
        transfer.step = Step::Dialling { until: now + Duration::from_secs(u64::from(self.record.ring_timeout_s)) };
        let to = transfer.to.clone();
        if let Some(noted) = &mut self.record.transfer {
            noted.mode = TransferMode::Bridge;
        }
        self.record.legs.push(LegRecord::dialing(to.clone(), self.unix_ms(now)));
        self.push(Action::DialLeg { leg: self.leg(), to });
    }

    /// The number of the newest leg.
    fn leg(&self) -> usize {
        self.record.legs.len().saturating_sub(1)
    }

    /// Both legs are up: from here the far end and the new one speak with each other.
    fn join(&mut self, now: Instant) {
        let Some(transfer) = self.transfer.as_mut() else { return };
        transfer.step = Step::Bridged;
        transfer.answer_by = None;
        self.record.transferred_to = Some(transfer.to.clone());
        let at = self.unix_ms(now);
        if let Some(leg) = self.record.legs.last_mut() {
            (leg.state, leg.answered_ms) = (LegState::InProgress, Some(at));
        }
        self.note_transfer(TransferState::Bridged, None);
        let settled = Action::Settled(Settled::Accepted);
        let bridge = Action::Bridge { leg: self.leg() };
        self.actions.extend([settled, Action::PauseAgent, bridge, Action::Save]);
    }

    fn transfer_failed(&mut self, code: u16) {
        if self.transfer.take().is_some() {
            self.note_transfer(TransferState::Failed, Some(code));
            self.actions.extend([Action::Settled(Settled::Refused { code }), Action::Save]);
        }
    }

    fn note_transfer(&mut self, state: TransferState, code: Option<u16>) {
        if let Some(noted) = &mut self.record.transfer {
            noted.state = state;
            noted.sip_code = code.or(noted.sip_code);
        }
    }

    fn note_leg(&mut self, state: LegState, code: Option<u16>, q850: Option<u8>, now: Instant) {
        let ended = matches!(state, LegState::Ended | LegState::Failed).then(|| self.unix_ms(now));
        if let Some(leg) = self.record.legs.last_mut() {
            leg.state = state;
            leg.ended_ms = ended;
            leg.sip_code = code.or(leg.sip_code);
            leg.q850 = q850.or(leg.q850);
            self.push(Action::Save);
        }
    }
}
