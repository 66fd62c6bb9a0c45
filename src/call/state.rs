//! The machine: one writer, one direction.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::reason::{EndReason, EndedBy, Ending};
use super::record::{CallRecord, Status};

/// What `ringTimeoutSec` may be, in seconds.
const RING_TIMEOUT_S: std::ops::RangeInclusive<f64> = 5.0..=120.0;
/// No answer of any kind for this long: nobody is there (RFC 3261 §17.1.1.2, Timer B = 64·T1).
const NO_RESPONSE: Duration = Duration::from_secs(32);
/// A transfer is reported as undecided after this long: the API answers within 25 s. What becomes of it still counts.
const TRANSFER_ANSWER: Duration = Duration::from_secs(20);

/// The server's limits on a finite number of seconds.
pub fn clamp_ring_timeout(seconds: f64) -> u32 {
    seconds.clamp(*RING_TIMEOUT_S.start(), *RING_TIMEOUT_S.end()).round() as u32
}

/// The trunk's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// 100: somebody works on it.
    Trying,
    /// Another provisional answer, 101..=199.
    Progress {
        code: u16,
    },
    Answered,
    /// Final answer, 300..=699; `q850` is its own Reason header's.
    Rejected {
        code: u16,
        reason: String,
        q850: Option<u16>,
    },
    Unreachable,
    Bye {
        q850: Option<u16>,
    },
    TransferAccepted,
    TransferRefused {
        code: u16,
    },
}

/// The users' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Hangup,
    Transfer {
        to: String,
    },
    /// The record names another agent; who speaks is not the brain's business.
    Agent {
        id: String,
    },
    Shutdown,
}

/// Why a command can't be followed now. Each is a conflict (409) with a remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the call has ended")]
    Over,
    #[error("the call is {}: transfer it once it is in_progress", .0.as_str())]
    NotAnswered(Status),
    #[error("a transfer to another number is pending: wait for its outcome")]
    OtherTransfer,
}

/// How a transfer came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Accepted,
    /// The far end refused with this SIP code; the call goes on.
    Refused {
        code: u16,
    },
    /// Nothing came back in time; the call goes on, and a late answer still counts.
    Undecided,
    /// The call ended first.
    Over,
}

/// What the owner has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Dial,
    Cancel,
    Bye,
    Transfer {
        to: String,
    },
    StartMedia,
    /// Ends both tracks with END_OF_TRACK.
    EndMedia,
    /// Keep [`Call::record`] as it is now.
    Save,
    /// For everybody who waits for the pending transfer.
    Settled(Settled),
}

struct Transfer {
    to: String,
    /// `None`: reported as undecided.
    answer_by: Option<Instant>,
}

/// One call from `dialing` to its end.
pub struct Call {
    record: CallRecord,
    started: Instant,
    ring_until: Instant,
    max_duration: Option<Duration>,
    end_by: Option<Instant>,
    provisional: bool,
    transfer: Option<Transfer>,
    actions: VecDeque<Action>,
}

impl Call {
    /// Dials at once. The record is in `dialing` and durable; its `started_ms` is the wall clock's reading at `now`.
    pub fn dial(record: CallRecord, max_duration: Option<Duration>, now: Instant) -> Self {
        let ring_until = now + Duration::from_secs(u64::from(record.ring_timeout_s));
        let actions = VecDeque::from([Action::Dial]);
        Self {
            record,
            started: now,
            ring_until,
            max_duration,
            end_by: None,
            provisional: false,
            transfer: None,
            actions,
        }
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
            // An answer that crossed our CANCEL is hung up (RFC 3261 §9.1); the result stays as decided.
            if event == Event::Answered {
                self.actions.push_back(Action::Bye);
            }
            return;
        }
        match event {
            Event::Trying => self.provisional = true,
            Event::Progress { code } => self.ring(code, now),
            Event::Answered => self.answer(now),
            Event::Rejected { code, reason, q850 } => self.reject(code, reason, q850, now),
            Event::Unreachable if !self.is_answered() => {
                self.end(Ending::new(Status::Failed, EndReason::NetworkError, EndedBy::Remote, 38), now);
            }
            Event::Unreachable => self.finish(EndReason::Normal, EndedBy::Remote, 38, now),
            Event::Bye { q850 } => self.bye(q850, now),
            Event::TransferAccepted => self.transferred(now),
            Event::TransferRefused { code } => self.settle(Settled::Refused { code }),
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
            Command::Agent { .. } if self.is_over() => return Err(Refusal::Over),
            Command::Agent { id } => {
                self.record.agent = Some(id);
                self.actions.push_back(Action::Save);
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
            let no_response = (!self.provisional).then_some(self.started + NO_RESPONSE);
            return Some(no_response.map_or(self.ring_until, |at| at.min(self.ring_until)));
        }
        let transfer = self.transfer.as_ref().and_then(|transfer| transfer.answer_by);
        self.end_by.into_iter().chain(transfer).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        if !self.is_answered() {
            return self.ring_out(now);
        }
        if self.end_by.is_some_and(|at| now >= at) {
            self.actions.push_back(Action::Bye);
            return self.finish(EndReason::MaxDuration, EndedBy::System, 16, now);
        }
        if let Some(transfer) = &mut self.transfer {
            transfer.answer_by = None;
            self.actions.push_back(Action::Settled(Settled::Undecided));
        }
    }

    fn is_answered(&self) -> bool {
        self.record.status == Status::InProgress
    }

    fn ring(&mut self, code: u16, now: Instant) {
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
        let ending = Ending::from_answer(code, &phrase, cause(q850), self.record.ringing_ms.is_some());
        self.record.sip_code = Some(code);
        self.record.sip_phrase = (!phrase.is_empty()).then_some(phrase);
        self.end(ending, now);
    }

    /// A BYE before the answer is a far end that gives up in its own words.
    fn bye(&mut self, q850: Option<u16>, now: Instant) {
        if self.is_answered() {
            return self.finish(EndReason::Normal, EndedBy::Remote, cause(q850).unwrap_or(16), now);
        }
        self.end(Ending::new(Status::Failed, EndReason::Unavailable, EndedBy::Remote, cause(q850).unwrap_or(31)), now);
    }

    fn ring_out(&mut self, now: Instant) {
        self.actions.push_back(Action::Cancel);
        let (status, reason, q850) = match (self.provisional, self.record.ringing_ms) {
            (false, _) => (Status::Failed, EndReason::NoResponse, 18),
            (true, None) => (Status::NoAnswer, EndReason::RingTimeout, 18),
            (true, Some(_)) => (Status::NoAnswer, EndReason::RingTimeout, 19),
        };
        self.end(Ending::new(status, reason, EndedBy::System, q850), now);
    }

    fn leave(&mut self, answered: EndReason, unanswered: EndReason, by: EndedBy, now: Instant) {
        if self.is_over() {
        } else if self.is_answered() {
            self.actions.push_back(Action::Bye);
            self.finish(answered, by, 16, now);
        } else {
            self.actions.push_back(Action::Cancel);
            self.end(Ending::new(Status::Failed, unanswered, by, 31), now);
        }
    }

    fn begin_transfer(&mut self, to: String, now: Instant) -> Result<(), Refusal> {
        if self.is_over() {
            return Err(Refusal::Over);
        }
        if !self.is_answered() {
            return Err(Refusal::NotAnswered(self.status()));
        }
        match &mut self.transfer {
            Some(pending) if pending.to != to => Err(Refusal::OtherTransfer),
            Some(pending) => {
                pending.answer_by.get_or_insert(now + TRANSFER_ANSWER);
                Ok(())
            }
            None => {
                self.transfer = Some(Transfer { to: to.clone(), answer_by: Some(now + TRANSFER_ANSWER) });
                self.actions.push_back(Action::Transfer { to });
                Ok(())
            }
        }
    }

    fn transferred(&mut self, now: Instant) {
        let Some(transfer) = &self.transfer else { return };
        self.record.transferred_to = Some(transfer.to.clone());
        self.settle(Settled::Accepted);
        self.actions.push_back(Action::Bye);
        self.finish(EndReason::Transferred, EndedBy::Local, 16, now);
    }

    fn settle(&mut self, outcome: Settled) {
        if self.transfer.take().is_some() {
            self.actions.push_back(Action::Settled(outcome));
        }
    }

    fn finish(&mut self, reason: EndReason, by: EndedBy, q850: u8, now: Instant) {
        self.end(Ending::new(Status::Completed, reason, by, q850), now);
    }

    fn end(&mut self, ending: Ending, now: Instant) {
        self.settle(Settled::Over);
        self.record.status = ending.status;
        self.record.end_reason = Some(ending.reason);
        self.record.ended_by = Some(ending.by);
        self.record.q850 = ending.q850;
        self.record.ended_ms = Some(self.unix_ms(now));
        self.actions.extend([Action::EndMedia, Action::Save]);
    }

    fn unix_ms(&self, now: Instant) -> u64 {
        self.record.started_ms + now.saturating_duration_since(self.started).as_millis() as u64
    }
}

/// 0 is no cause (RFC 3326 §2 leaves it out of the values), and a cause has 7 bits.
fn cause(q850: Option<u16>) -> Option<u8> {
    q850.and_then(|cause| u8::try_from(cause).ok()).filter(|cause| (1..=127).contains(cause))
}
