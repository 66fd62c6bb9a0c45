//! One call on the wire. Its brain says what it wants, the far side says what it does; this task keeps both in step until neither
//! has anything to say any more.
//!
//! A wish to hang up is kept until it can be carried out: before the answer it is a CANCEL, after it a BYE. After it nothing is
//! told but silence, since the brain has decided; the wire is followed all the same.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::stack::{Failure, Heard, Invite, Line, Reply, Stack};
use crate::call::{EndReason, Ending};
use crate::engine::config::{Host, SipTrunk};
use crate::engine::rtp::Talk;
use crate::engine::trunk::{Asker, Dial, Events, Keys, TrunkEvent, TrunkKind};
use crate::sip::health::Health;
use crate::sip::refer::{self, Refer};
use crate::sip::{reason, uri};

/// Letters of a Call-ID: not to be guessed, so that a stranger's BYE finds no call.
const CALL_ID_BYTES: usize = 16;
/// Of a BYE of ours (RFC 3326): normal call clearing.
const CLEARED: &str = "Q.850;cause=16;text=\"Normal call clearing\"";
/// Of a BYE because the answer was of no use: incompatible destination.
const INCOMPATIBLE: &str = "Q.850;cause=88;text=\"Incompatible destination\"";

/// Of an answer without audio that we could take.
const NOT_ACCEPTABLE: u16 = 488;

/// What the call's brain wants.
#[derive(Debug)]
pub(super) enum Order {
    HangUp,
    Transfer {
        to: String,
    },
    /// Of a call that came in: 180, the 200, a final answer.
    Ring,
    Answer,
    Reject {
        code: u16,
    },
    Press(Keys, Asker),
}

/// A call that came in and is answered.
pub(super) struct Joined {
    pub(super) sid: String,
    /// Our number in it.
    pub(super) us: String,
    pub(super) settings: Arc<SipTrunk>,
    pub(super) line: Line,
    pub(super) talk: Talk,
    pub(super) health: Arc<Mutex<Health>>,
    pub(super) events: Events,
}

/// A call before its INVITE.
pub(super) struct Dialling {
    pub(super) dial: Dial,
    pub(super) settings: Arc<SipTrunk>,
    pub(super) stack: Arc<Stack>,
    pub(super) talk: Talk,
    pub(super) health: Arc<Mutex<Health>>,
    pub(super) events: Events,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The INVITE has no final answer.
    Calling,
    Up,
    /// We want no more of it.
    Leaving,
    /// The INVITE is over without an answer; the call's own timer has yet to say so.
    Silent,
}

struct Call {
    sid: String,
    from: String,
    settings: Arc<SipTrunk>,
    line: Line,
    talk: Talk,
    health: Arc<Mutex<Health>>,
    /// What became of the last REFER.
    refer: Refer,
    events: Events,
    phase: Phase,
}

impl Dialling {
    /// Ends when the wire is done with the call.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let peer = self.settings.peer();
        let port = peer.port.unwrap_or(self.settings.default_port());
        tokio::select! {
            reached = self.stack.reach(&peer.name, port) => if let Err(error) = reached {
                return self.unreachable(&error);
            },
            // Nothing was sent yet, so there is nothing to take back.
            _ = orders.recv() => return,
        }
        let body = match self.talk.offer() {
            Ok(body) => body,
            Err(refused) => return self.unreachable(&refused.to_string()),
        };
        let invite = self.invite(body, &peer, port);
        let sip_call_id = invite.call_id.clone();
        let (line, heard) = match self.stack.invite(invite) {
            Ok(begun) => begun,
            Err(error) => return self.unreachable(&error),
        };
        let call = Call {
            sid: self.dial.sid,
            from: self.dial.from,
            settings: self.settings,
            line,
            talk: self.talk,
            health: self.health,
            refer: Refer::default(),
            events: self.events,
            phase: Phase::Calling,
        };
        call.tell(TrunkKind::Placed { sip_call_id });
        call.run(heard, orders).await;
    }

    fn unreachable(self, error: &str) {
        tracing::info!(sid = self.dial.sid, error, "a call can't be placed");
        noted(&self.health).handle_silence();
        let _ = self.events.send(TrunkEvent { sid: self.dial.sid, kind: TrunkKind::Unreachable });
    }

    fn invite(&self, body: String, peer: &Host, port: u16) -> Invite {
        let (settings, trunk_host) = (&*self.settings, self.settings.trunk_host());
        let to = settings.number_template.fill(&self.dial.to, &trunk_host);
        // CANCEL goes where the INVITE went: either by its URI, or by its Route.
        let is_there = trunk_host == peer.to_string() && uri::host_of(&to).as_deref() == Some(&*peer.name);
        let hop = Host { name: peer.name.clone(), port: Some(port) };
        Invite {
            call_id: format!("{}@{}", random(), self.stack.address().ip()),
            route: (!is_there).then(|| format!("sip:{hop};lr")),
            from: uri::at(&self.dial.from, &trunk_host),
            to,
            caller_name: None,
            headers: Vec::new(),
            body,
            credentials: settings.credentials.clone(),
        }
    }
}

impl Joined {
    /// Ends when the wire is done with the call. `is_leaving`: it was hung up before its 200 was acknowledged.
    pub(super) async fn run(
        self,
        is_leaving: bool,
        heard: mpsc::UnboundedReceiver<Heard>,
        orders: mpsc::UnboundedReceiver<Order>,
    ) {
        let mut call = Call {
            sid: self.sid,
            from: self.us,
            settings: self.settings,
            line: self.line,
            talk: self.talk,
            health: self.health,
            refer: Refer::default(),
            events: self.events,
            phase: Phase::Up,
        };
        if is_leaving {
            call.leave(CLEARED);
        }
        call.run(heard, orders).await;
    }
}

fn noted(health: &Mutex<Health>) -> std::sync::MutexGuard<'_, Health> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn random() -> String {
    let mut bytes = [0; CALL_ID_BYTES];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).expect("the system has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Call {
    async fn run(mut self, mut heard: mpsc::UnboundedReceiver<Heard>, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let flow = tokio::select! {
                // The brain decides first: an answer beside its CANCEL is not told any more.
                biased;
                order = orders.recv(), if !orders.is_closed() => self.handle_order(order.unwrap_or(Order::HangUp)),
                heard = heard.recv() => heard.map_or(ControlFlow::Break(()), |heard| self.handle_heard(heard)),
            };
            if flow.is_break() {
                return;
            }
        }
    }

    fn tell(&self, kind: TrunkKind) {
        if self.phase != Phase::Leaving {
            // Nobody listens any more when the engine goes down.
            let _ = self.events.send(TrunkEvent { sid: self.sid.clone(), kind });
        }
    }

    fn handle_order(&mut self, order: Order) -> ControlFlow<()> {
        match (order, self.phase) {
            (Order::HangUp, Phase::Silent) => return ControlFlow::Break(()),
            (Order::HangUp, Phase::Calling) => {
                self.phase = Phase::Leaving;
                self.line.cancel();
            }
            (Order::HangUp, Phase::Up) => self.leave(CLEARED),
            (Order::Transfer { to }, Phase::Up) => {
                let (settings, host) = (&self.settings, self.settings.trunk_host());
                self.refer = Refer::default();
                self.line.refer(refer::headers(&settings.refer_to, &to, &self.from, &host));
            }
            (Order::Press(keys, asker), Phase::Up) => asker.tell(self.talk.press(&keys.strokes, keys.duration_ms)),
            (Order::Press(_, asker), _) => asker.tell(Err("the call is not up".to_owned())),
            (_, Phase::Leaving) | (Order::Transfer { .. }, Phase::Calling | Phase::Silent) => {}
            // It was answered, or goes out.
            (Order::Ring | Order::Answer | Order::Reject { .. }, _) => {}
        }
        ControlFlow::Continue(())
    }

    fn leave(&mut self, reason: &str) {
        self.phase = Phase::Leaving;
        self.line.bye(Some(reason.to_owned()));
    }

    fn handle_heard(&mut self, heard: Heard) -> ControlFlow<()> {
        match heard {
            Heard::Trying => self.tell(TrunkKind::Trying),
            Heard::Progress { code } => self.tell(TrunkKind::Progress { code }),
            Heard::Answered { body } => self.answered(&body),
            Heard::Refused(reply) => {
                self.refused(reply);
                return ControlFlow::Break(());
            }
            Heard::Failed(failure) => return self.failed(failure),
            Heard::Bye { reason } => {
                self.tell(TrunkKind::Bye { q850: reason.as_deref().and_then(cause) });
                // Ours may be under way: it is still to be answered.
                if self.phase != Phase::Leaving {
                    return ControlFlow::Break(());
                }
            }
            Heard::Gone => return ControlFlow::Break(()),
            Heard::Offer { body, answer } => {
                let answered = match self.phase {
                    Phase::Up => self.talk.handle_offer(&body).map_err(|refused| refused.sip_code()),
                    _ => Err(481),
                };
                // A request whose transaction is gone needs no answer.
                let _ = answer.send(answered);
            }
            Heard::Acked { body } => {
                if !body.is_empty() && self.talk.handle_answer(&body).is_err() && self.phase == Phase::Up {
                    self.tell(TrunkKind::Bye { q850: Some(88) });
                    self.leave(INCOMPATIBLE);
                }
            }
            Heard::Unacked if self.phase == Phase::Up => {
                self.tell(TrunkKind::Bye { q850: Some(102) });
                self.leave(CLEARED);
            }
            Heard::Key { key, duration_ms } => self.tell(TrunkKind::Key { key, duration_ms }),
            Heard::Referred { code: ..300 } => self.tell(TrunkKind::TransferAccepted),
            Heard::Referred { code } => self.tell(TrunkKind::TransferRefused { code }),
            Heard::Unacked | Heard::Cancelled => {}
            Heard::Notified { body, state } => {
                if let Some(code) = self.refer.handle_notify(&body, state.as_deref()) {
                    self.tell(TrunkKind::TransferOutcome { code });
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn answered(&mut self, body: &[u8]) {
        if self.phase == Phase::Leaving {
            return self.line.bye(Some(CLEARED.to_owned()));
        }
        noted(&self.health).handle_answer(200, None, false, Instant::now());
        let agreed = self.talk.handle_answer(body);
        match (agreed, self.talk.leg()) {
            (Ok(()), Some(leg)) => {
                self.tell(TrunkKind::Answered { leg: Some(Box::new(leg)) });
                self.phase = Phase::Up;
            }
            (agreed, _) => {
                let reason = agreed.err().map_or_else(|| "no audio".to_owned(), |refused| refused.to_string());
                // Whatever is wrong with it: no audio can come of this answer.
                self.tell(TrunkKind::Rejected { code: NOT_ACCEPTABLE, reason, q850: None });
                self.leave(INCOMPATIBLE);
            }
        }
    }

    fn refused(&mut self, reply: Reply) {
        let q850 = reply.reason.as_deref().and_then(cause);
        let retry_after = reply.retry_after.as_deref().and_then(seconds);
        let is_limit = Ending::from_answer(reply.code, &reply.phrase, None, false).reason == EndReason::CarrierLimit;
        noted(&self.health).handle_answer(reply.code, retry_after, is_limit, Instant::now());
        self.tell(TrunkKind::Rejected { code: reply.code, reason: reply.phrase, q850 });
    }

    fn failed(&mut self, failure: Failure) -> ControlFlow<()> {
        match failure {
            Failure::Timeout if self.phase == Phase::Calling => {
                noted(&self.health).handle_silence();
                self.phase = Phase::Silent;
                return ControlFlow::Continue(());
            }
            Failure::Timeout | Failure::Cancelled => {}
            Failure::Network(error) => {
                tracing::info!(sid = self.sid, error, "a call's trunk broke");
                noted(&self.health).handle_silence();
                self.tell(TrunkKind::Unreachable);
            }
        }
        ControlFlow::Break(())
    }
}

/// Of a Retry-After header, or an Expires: seconds, perhaps with a comment and parameters behind them.
pub(super) fn seconds(header: &str) -> Option<Duration> {
    let digits = header.trim().split(|letter: char| !letter.is_ascii_digit()).next()?;
    digits.parse().ok().map(Duration::from_secs)
}

pub(super) fn cause(header: &str) -> Option<u16> {
    reason::q850([header]).map(|reason| u16::from(reason.cause))
}
