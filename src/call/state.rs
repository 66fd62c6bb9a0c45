//! The machine: one writer, one direction.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::parts::{RtpStats, TransferMode};
use super::reason::{EndReason, EndedBy, Ending};
use super::record::{CallRecord, Status};
use super::transfer::Transfer;
use super::words::{Action, Command, Event, LegEvent, Refusal};

/// What `ringTimeoutSec` may be, in seconds.
const RING_TIMEOUT_S: std::ops::RangeInclusive<f64> = 5.0..=120.0;
/// No answer of any kind for this long: nobody is there (RFC 3261 §17.1.1.2, Timer B = 64·T1).
const NO_RESPONSE: Duration = Duration::from_secs(32);
/// Our 200 is acknowledged within 64·T1, or its trunk says that it was not (RFC 3261 §13.3.1.4); a trunk that says nothing is not waited for.
const NO_ACK: Duration = Duration::from_secs(40);

/// The server's limits on a finite number of seconds.
pub fn clamp_ring_timeout(seconds: f64) -> u32 {
    seconds.clamp(*RING_TIMEOUT_S.start(), *RING_TIMEOUT_S.end()).round() as u32
}

/// One call from its first moment to its end.
pub struct Call {
    pub(super) record: CallRecord,
    started: Instant,
    ring_until: Instant,
    max_duration: Option<Duration>,
    /// Why it ends when that time is over.
    at_limit: EndReason,
    end_by: Option<Instant>,
    /// When it is dialled; `None`: it was, or it came in.
    turn: Option<Instant>,
    /// When it was dialled.
    dialled: Option<Instant>,
    provisional: bool,
    /// Of a call that came in: our 200 is on its way, and how long its ACK is waited for.
    pub(super) ack_until: Option<Instant>,
    pub(super) transfer_mode: TransferMode,
    pub(super) transfer: Option<Transfer>,
    pub(super) actions: VecDeque<Action>,
}

impl Call {
    /// Dials at once. The record is in `dialing` and durable; its `started_ms` is the wall clock's reading at `now`.
    pub fn dial(record: CallRecord, max_duration: Option<Duration>, now: Instant) -> Self {
        Self::dial_at(record, max_duration, now, now)
    }

    /// Dials when its `turn` comes. The wait counts as ring time.
    pub fn dial_at(record: CallRecord, max_duration: Option<Duration>, turn: Instant, now: Instant) -> Self {
        let mut call = Self::empty(record, max_duration, now);
        call.turn = Some(turn);
        call.take_turn(now);
        call
    }

    pub(super) fn empty(record: CallRecord, max_duration: Option<Duration>, now: Instant) -> Self {
        let ring_until = now + Duration::from_secs(u64::from(record.ring_timeout_s));
        Self {
            record,
            started: now,
            ring_until,
            max_duration,
            at_limit: EndReason::MaxDuration,
            end_by: None,
            turn: None,
            dialled: None,
            provisional: false,
            ack_until: None,
            transfer_mode: TransferMode::default(),
            transfer: None,
            actions: VecDeque::new(),
        }
    }

    /// How its trunk transfers calls; [`TransferMode::Auto`] unless somebody says.
    pub fn transfers_by(&mut self, mode: TransferMode) {
        self.transfer_mode = mode;
    }

    /// It has no more to say than takes this long; then it is hung up for this reason.
    pub fn lasts(&mut self, length: Duration, reason: EndReason) {
        if self.max_duration.is_none_or(|limit| length < limit) {
            (self.max_duration, self.at_limit) = (Some(length), reason);
        }
    }

    /// What its packets were, known when its media is closed, and those of the leg that was joined to it. Give them to the record and keep that.
    pub fn note_rtp(&mut self, own: Option<RtpStats>, second: Option<RtpStats>) {
        self.record.rtp = own;
        // One was answered at most: the call ends with it.
        if let Some(leg) = self.record.legs.iter_mut().find(|leg| leg.answered_ms.is_some()) {
            leg.rtp = second;
        }
        self.push(Action::Save);
    }

    pub fn record(&self) -> &CallRecord {
        &self.record
    }

    pub fn status(&self) -> Status {
        self.record.status
    }

    pub fn is_over(&self) -> bool {
        self.record.status.is_terminal()
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn handle_event(&mut self, event: Event, now: Instant) {
        if self.is_over() {
            return self.hear_late(event);
        }
        match event {
            Event::Placed { sip_call_id } => {
                self.record.sip_call_id = Some(sip_call_id);
                self.push(Action::Save);
            }
            Event::Trying => self.provisional = true,
            Event::Progress { code } => self.ring_out_loud(code, now),
            Event::Answered if !self.is_inbound() => self.answer(now),
            Event::Acked if self.ack_until.is_some() => self.answer(now),
            Event::Answered | Event::Acked => {}
            Event::Unacked => self.never_acked(now),
            Event::Cancelled { q850, code } => self.given_up(q850, code, now),
            Event::Rejected { code, reason, q850 } => self.reject(code, reason, q850, now),
            Event::Unreachable { reason } if !self.is_answered() => {
                self.record.sip_phrase = (!reason.is_empty()).then_some(reason);
                self.end(Ending::new(Status::Failed, EndReason::NetworkError, EndedBy::Remote, 38), now);
            }
            Event::Unreachable { .. } => self.finish(EndReason::Normal, EndedBy::Remote, 38, now),
            Event::Bye { q850 } => self.bye(q850, now),
            Event::SessionExpired => self.cut(EndReason::SessionExpired, 102, now),
            Event::MediaTimeout => self.cut(EndReason::MediaTimeout, 31, now),
            Event::TransferAccepted => self.transfer_accepted(now),
            Event::TransferRefused { code } => self.transfer_refused(code, now),
            Event::TransferOutcome { code } => self.transfer_outcome(code, now),
            Event::SecondLeg { leg, event } => self.handle_leg(leg, event, now),
        }
    }

    /// An answer that crossed our CANCEL is hung up (RFC 3261 §9.1); the result stays as decided.
    fn hear_late(&mut self, event: Event) {
        match event {
            Event::Answered => self.push(Action::Bye),
            Event::SecondLeg { leg, event: LegEvent::Answered } => self.push(Action::ByeLeg { leg }),
            _ => {}
        }
    }

    /// A hangup or shutdown of an ended call is no error.
    pub fn handle_command(&mut self, command: Command, now: Instant) -> Result<(), Refusal> {
        match command {
            Command::Hangup => self.leave(EndReason::Normal, EndReason::Canceled, EndedBy::Local, now),
            Command::Shutdown => {
                self.leave(EndReason::ServerShutdown, EndReason::ServerShutdown, EndedBy::System, now);
            }
            Command::Transfer { to } => return self.begin_transfer(to, now),
            Command::Answer => return self.pick_up(now + NO_ACK),
            Command::Reject(reject) => return self.turn_down(reject, now),
            Command::Agent { .. } if self.is_over() => return Err(Refusal::Over),
            // The other number has the agent's place.
            Command::Agent { .. } if self.transfer.as_ref().is_some_and(Transfer::is_bridged) => {
                return Err(Refusal::Bridged);
            }
            Command::Agent { id } => {
                self.record.agent = Some(id);
                self.push(Action::Save);
            }
        }
        Ok(())
    }

    /// When [`Call::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_over() {
            return None;
        }
        if !self.is_answered() {
            // Once it is picked up its ACK is waited for, or the trunk's word that none came.
            let until = self.ack_until.unwrap_or(self.ring_until);
            let silent = self.dialled.filter(|_| !self.provisional).map(|dialled| dialled + NO_RESPONSE);
            return [until].into_iter().chain(self.turn).chain(silent).min();
        }
        let transfer = self.transfer.as_ref().and_then(Transfer::poll_timeout);
        self.end_by.into_iter().chain(transfer).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        if self.end_by.is_some_and(|at| now >= at) {
            return self.cut(self.at_limit, 16, now);
        }
        if self.is_answered() {
            return self.transfer_timeout(now);
        }
        if self.is_inbound() {
            return if self.ack_until.is_some() { self.never_acked(now) } else { self.nobody_answered(now) };
        }
        if now >= self.ring_until || self.turn.is_none() {
            return self.ring_out(now);
        }
        self.take_turn(now);
    }

    fn take_turn(&mut self, now: Instant) {
        if self.turn.is_some_and(|turn| turn <= now) {
            self.turn = None;
            self.dialled = Some(now);
            self.push(Action::Dial);
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.record.status == Status::InProgress
    }

    fn ring_out_loud(&mut self, code: u16, now: Instant) {
        self.provisional = true;
        if (180..=183).contains(&code) && self.record.status == Status::Dialing {
            self.record.status = Status::Ringing;
            self.record.ringing_ms = Some(self.unix_ms(now));
            self.actions.push_back(Action::Save);
        }
    }

    fn answer(&mut self, now: Instant) {
        if self.is_answered() {
            return;
        }
        self.record.status = Status::InProgress;
        self.record.answered_ms = Some(self.unix_ms(now));
        self.end_by = self.max_duration.map(|limit| now + limit);
        self.actions.extend([Action::StartMedia, Action::Save]);
    }

    fn reject(&mut self, code: u16, phrase: String, q850: Option<u16>, now: Instant) {
        if self.is_answered() {
            return;
        }
        let mut ending = Ending::from_answer(code, &phrase, cause(q850), self.record.ringing_ms.is_some());
        if self.is_inbound() {
            // It is our answer: what the caller offered can't be taken.
            ending.by = EndedBy::System;
        }
        self.record.sip_code = Some(code);
        self.record.sip_phrase = (!phrase.is_empty()).then_some(phrase);
        self.end(ending, now);
    }

    /// A BYE before the answer is a far end that gives up in its own words.
    fn bye(&mut self, q850: Option<u16>, now: Instant) {
        let leaves = |transfer: &Transfer| transfer.is_bridged() || transfer.is_accepted() && !transfer.is_unknown();
        if self.transfer.as_ref().is_some_and(leaves) {
            return self.finish_transferred(EndedBy::Remote, cause(q850).unwrap_or(16), now);
        }
        if self.is_answered() {
            return self.finish(EndReason::Normal, EndedBy::Remote, cause(q850).unwrap_or(16), now);
        }
        if self.is_inbound() {
            return self.given_up(q850, None, now);
        }
        self.end(Ending::new(Status::Failed, EndReason::Unavailable, EndedBy::Remote, cause(q850).unwrap_or(31)), now);
    }

    fn ring_out(&mut self, now: Instant) {
        self.cancel();
        let (status, reason, q850) = match (self.provisional, self.record.ringing_ms) {
            // It waited for its turn for so long that it was never dialled.
            (false, _) if self.dialled.is_none() => (Status::NoAnswer, EndReason::RingTimeout, 18),
            (false, _) => (Status::Failed, EndReason::NoResponse, 18),
            (true, None) => (Status::NoAnswer, EndReason::RingTimeout, 18),
            (true, Some(_)) => (Status::NoAnswer, EndReason::RingTimeout, 19),
        };
        self.end(Ending::new(status, reason, EndedBy::System, q850), now);
    }

    /// What was never dialled is not cancelled.
    fn cancel(&mut self) {
        if self.dialled.is_some() {
            self.push(Action::Cancel);
        }
    }

    fn leave(&mut self, answered: EndReason, unanswered: EndReason, by: EndedBy, now: Instant) {
        if self.is_over() {
        } else if self.is_answered() {
            self.push(Action::Bye);
            let is_bridged = self.transfer.as_ref().is_some_and(Transfer::is_bridged);
            if is_bridged && by == EndedBy::Local {
                return self.finish_transferred(by, 16, now);
            }
            self.finish(answered, by, 16, now);
        } else if self.is_inbound() {
            self.leave_ringing(by, now);
        } else {
            self.cancel();
            self.end(Ending::new(Status::Failed, unanswered, by, 31), now);
        }
    }

    /// The engine itself ends an answered call.
    fn cut(&mut self, reason: EndReason, q850: u8, now: Instant) {
        if self.is_answered() {
            self.push(Action::Bye);
            self.finish(reason, EndedBy::System, q850, now);
        }
    }

    pub(super) fn finish(&mut self, reason: EndReason, by: EndedBy, q850: u8, now: Instant) {
        self.end(Ending::new(Status::Completed, reason, by, q850), now);
    }

    pub(super) fn end(&mut self, ending: Ending, now: Instant) {
        self.end_transfer(now);
        self.turn = None;
        self.record.status = ending.status;
        self.record.end_reason = Some(ending.reason);
        self.record.ended_by = Some(ending.by);
        self.record.q850 = ending.q850;
        self.record.ended_ms = Some(self.unix_ms(now));
        self.actions.extend([Action::EndMedia, Action::Save]);
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn unix_ms(&self, now: Instant) -> u64 {
        self.record.started_ms + now.saturating_duration_since(self.started).as_millis() as u64
    }
}

/// 0 is no cause (RFC 3326 §2 leaves it out of the values), and a cause has 7 bits.
pub(super) fn cause(q850: Option<u16>) -> Option<u8> {
    q850.and_then(|cause| u8::try_from(cause).ok()).filter(|cause| (1..=127).contains(cause))
}
