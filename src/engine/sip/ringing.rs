//! One call that came in, from its INVITE to its answer; from then on it is a call like any other (`dialog`).
//!
//! Its description is looked at first: one that we can't take is refused at once. The brain says when to ring, to answer and to refuse. A
//! hangup behind our 200 waits for its ACK, since nobody may say BYE before (RFC 3261 §15). Once the caller has given up nothing is
//! told any more, and the task lives until the INVITE is over.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::mpsc;

use super::Timers;
use super::dialog::{Joined, Order};
use super::pressing::Pressing;
use super::reception::Caller;
use super::session::Session;
use super::stack::{Came, Heard};
use crate::engine::config::SipTrunk;
use crate::engine::rtp::Talk;
use crate::engine::trunk::{Events, TrunkEvent, TrunkKind};
use crate::sip::health::Health;
use crate::sip::reason;

/// Of an ACK whose answer is of no use, and of requests that come before the call is answered.
const NOT_ACCEPTABLE: u16 = 488;
const TOO_EARLY: u16 = 500;
/// Of a BYE instead of a CANCEL.
const TERMINATED: u16 = 487;
/// Of a call whose trunk is gone.
const UNAVAILABLE: u16 = 503;

/// A call that was taken in.
pub(super) struct Ringing {
    pub(super) sid: String,
    pub(super) caller: Caller,
    pub(super) settings: Arc<SipTrunk>,
    pub(super) timers: Timers,
    pub(super) talk: Talk,
    pub(super) health: Arc<Mutex<Health>>,
    pub(super) events: Events,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ringing,
    /// Our 200 is on its way.
    Answered,
    /// It is to be hung up once the 200 is acknowledged.
    Leaving,
    /// It has a final answer that is none of ours, or one that refuses.
    Over,
}

struct Call {
    ringing: Ringing,
    line: super::stack::Line,
    phase: Phase,
    /// Our description, until it is sent.
    description: Option<String>,
    is_joined: bool,
    session: Session,
}

impl Ringing {
    /// Ends when the wire is done with the call.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let Some(Came { line, mut heard }) = self.caller.line().await else {
            // The caller left before anybody was there.
            self.tell(TrunkKind::Cancelled { q850: None, code: None });
            return;
        };
        let described = self.talk.handle_offer(&self.caller.body);
        let session = Session::new(&self.settings, self.timers, false);
        let (phase, description) = (Phase::Ringing, None);
        let mut call = Call { ringing: self, line, phase, description, is_joined: false, session };
        match described {
            Ok(description) => call.description = Some(description),
            Err(refused) => call.misfit(refused.sip_code(), refused.to_string()),
        }
        call.follow(&mut heard, &mut orders).await;
        if call.is_joined {
            let Call { ringing, line, phase, session, .. } = call;
            let Ringing { sid, caller, settings, timers, talk, health, events } = ringing;
            let mut pressing = Pressing::new(settings.dtmf_mode, timers);
            pressing.note(&caller.terms);
            let joined = Joined { sid, us: caller.to, settings, session, pressing, line, talk, health, events };
            joined.run(phase == Phase::Leaving, heard, orders).await;
        }
    }

    fn tell(&self, kind: TrunkKind) {
        // Nobody listens any more when the engine goes down.
        let _ = self.events.send(TrunkEvent { sid: self.sid.clone(), kind });
    }
}

impl Call {
    async fn follow(
        &mut self,
        heard: &mut mpsc::UnboundedReceiver<Heard>,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) {
        loop {
            let flow = tokio::select! {
                // The brain decides first.
                biased;
                order = orders.recv(), if !orders.is_closed() => {
                    self.handle_order(order.unwrap_or(Order::HangUp));
                    ControlFlow::Continue(())
                }
                heard = heard.recv() => heard.map_or(ControlFlow::Break(()), |heard| self.handle_heard(heard)),
            };
            if flow.is_break() {
                return;
            }
        }
    }

    /// What came with it can't be taken.
    fn misfit(&mut self, code: u16, reason: String) {
        self.ringing.tell(TrunkKind::Rejected { code, reason, q850: None });
        self.refuse(code);
    }

    fn refuse(&mut self, code: u16) {
        self.phase = Phase::Over;
        self.ringing.caller.note_refused(code, Instant::now());
        self.line.reject(code);
    }

    fn handle_order(&mut self, order: Order) {
        match (order, self.phase) {
            (Order::Ring, Phase::Ringing) => self.line.ring(),
            (Order::Answer, Phase::Ringing) => {
                if let Some(description) = self.description.take() {
                    self.phase = Phase::Answered;
                    // One that is too short was refused before it rang (`reception`).
                    let session_expires = self.session.handle_request(&self.ringing.caller.terms).ok().flatten();
                    self.line.accept(description, session_expires);
                }
            }
            (Order::Reject { code }, Phase::Ringing) => self.refuse(code),
            (Order::HangUp, Phase::Ringing) => {
                self.phase = Phase::Over;
                self.line.reject(UNAVAILABLE);
            }
            (Order::HangUp, Phase::Answered) => self.phase = Phase::Leaving,
            _ => {}
        }
    }

    fn handle_heard(&mut self, heard: Heard) -> ControlFlow<()> {
        match heard {
            Heard::Acked { body } => {
                self.acked(&body);
                return ControlFlow::Break(());
            }
            Heard::Cancelled { reason } => self.given_up(reason.as_deref()),
            Heard::Bye { reason } => {
                let is_ringing = self.phase == Phase::Ringing;
                self.given_up(reason.as_deref());
                if !is_ringing {
                    return ControlFlow::Break(());
                }
                self.line.reject(TERMINATED);
            }
            Heard::Unacked => {
                if self.phase == Phase::Answered {
                    self.ringing.tell(TrunkKind::Unacked);
                }
                self.phase = Phase::Over;
            }
            // A request whose transaction is gone needs no answer.
            Heard::Offer(offer) => drop(offer.answer.send(Err(TOO_EARLY.into()))),
            Heard::Gone => {
                self.lost();
                return ControlFlow::Break(());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn given_up(&mut self, headers: Option<&str>) {
        if matches!(self.phase, Phase::Ringing | Phase::Answered) {
            let q850 = reason::q850(headers).map(|reason| u16::from(reason.cause));
            self.ringing.tell(TrunkKind::Cancelled { q850, code: reason::sip_code(headers) });
        }
        self.phase = Phase::Over;
    }

    /// The INVITE is over, and what was to be said of it reached nobody.
    fn lost(&mut self) {
        match self.phase {
            Phase::Ringing => self.ringing.tell(TrunkKind::Cancelled { q850: None, code: None }),
            Phase::Answered => self.ringing.tell(TrunkKind::Unacked),
            Phase::Leaving | Phase::Over => {}
        }
        self.phase = Phase::Over;
    }

    /// Both have agreed, or never will.
    fn acked(&mut self, body: &[u8]) {
        self.is_joined = true;
        let talk = &mut self.ringing.talk;
        let agreed = if self.ringing.caller.body.is_empty() { talk.handle_answer(body) } else { Ok(()) };
        match (agreed, talk.leg()) {
            _ if self.phase != Phase::Answered => self.phase = Phase::Leaving,
            (Ok(()), Some(leg)) => self.ringing.tell(TrunkKind::Acked { leg: Some(Box::new(leg)) }),
            (agreed, _) => {
                let reason = agreed.err().map_or_else(|| "no audio".to_owned(), |refused| refused.to_string());
                self.ringing.tell(TrunkKind::Rejected { code: NOT_ACCEPTABLE, reason, q850: None });
                self.phase = Phase::Leaving;
            }
        }
    }
}
