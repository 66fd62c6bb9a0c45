//! One call on the wire. Its brain says what it wants, the far side says what it does; this task keeps both in step until neither
//! has anything to say any more.
//!
//! A wish to hang up is kept until it can be carried out: before the answer it is a CANCEL, after it a BYE. After it nothing is
//! told but silence, since the brain has decided; the wire is followed all the same.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::stack::{Failure, Heard, Invite, Line, Reply, Stack};
use super::{Media, NoMedia, Peer};
use crate::engine::trunk::{Dial, Events, TrunkEvent, TrunkKind};

/// Letters of a Call-ID: not to be guessed, so that a stranger's BYE finds no call.
const CALL_ID_BYTES: usize = 16;
/// Of a BYE of ours (RFC 3326): normal call clearing.
const CLEARED: &str = "Q.850;cause=16;text=\"Normal call clearing\"";
/// Of a BYE because the answer was of no use: incompatible destination.
const INCOMPATIBLE: &str = "Q.850;cause=88;text=\"Incompatible destination\"";

/// What the call's brain wants.
#[derive(Debug)]
pub(super) enum Order {
    HangUp,
    Transfer { to: String },
}

/// A call before its INVITE.
pub(super) struct Dialling {
    pub(super) dial: Dial,
    pub(super) peer: Arc<Peer>,
    pub(super) stack: Arc<Stack>,
    pub(super) media: Box<dyn Media>,
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
    /// The host of numbers there, and our own URI.
    trunk_host: String,
    us: String,
    line: Line,
    media: Box<dyn Media>,
    events: Events,
    phase: Phase,
}

impl Dialling {
    /// Ends when the wire is done with the call.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        tokio::select! {
            reached = self.stack.reach(&self.peer.host, self.peer.port) => if let Err(error) = reached {
                return self.unreachable(&error);
            },
            // Nothing was sent yet, so there is nothing to take back.
            _ = orders.recv() => return,
        }
        let body = match self.media.offer() {
            Ok(body) => body,
            Err(NoMedia { code }) => return self.unreachable(&format!("no offer can be made ({code})")),
        };
        let invite = self.invite(body);
        let (trunk_host, us) = (self.trunk_host(), invite.from.clone());
        let (line, heard) = match self.stack.invite(invite) {
            Ok(begun) => begun,
            Err(error) => return self.unreachable(&error),
        };
        let (sid, media, events) = (self.dial.sid, self.media, self.events);
        let phase = Phase::Calling;
        Call { sid, trunk_host, us, line, media, events, phase }.run(heard, orders).await;
    }

    fn unreachable(self, error: &str) {
        tracing::info!(sid = self.dial.sid, error, "a call can't be placed");
        let _ = self.events.send(TrunkEvent { sid: self.dial.sid, kind: TrunkKind::Unreachable });
    }

    fn trunk_host(&self) -> String {
        format!("{}:{}", self.peer.host, self.peer.port)
    }

    fn invite(&self, body: String) -> Invite {
        let (address, peer) = (self.stack.address(), &*self.peer);
        let domain = peer.domain.clone().unwrap_or_else(|| address.to_string());
        Invite {
            call_id: format!("{}@{}", random(), address.ip()),
            to: uri(&self.dial.to, &self.trunk_host()),
            from: uri(&self.dial.from, &domain),
            caller_name: None,
            headers: Vec::new(),
            body,
            credentials: peer.credentials.clone(),
        }
    }
}

fn uri(user: &str, host: &str) -> String {
    format!("sip:{user}@{host}")
}

fn random() -> String {
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
            (Order::Transfer { to }, Phase::Up) => self.line.refer(&uri(&to, &self.trunk_host), &self.us),
            (_, Phase::Leaving) | (Order::Transfer { .. }, Phase::Calling | Phase::Silent) => {}
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
                    Phase::Up => self.media.handle_offer(&body).map_err(|refused| refused.code),
                    _ => Err(481),
                };
                // A request whose transaction is gone needs no answer.
                let _ = answer.send(answered);
            }
            Heard::Acked { body } => {
                if !body.is_empty() && self.media.handle_late_answer(&body).is_err() && self.phase == Phase::Up {
                    self.tell(TrunkKind::Bye { q850: Some(88) });
                    self.leave(INCOMPATIBLE);
                }
            }
            Heard::Unacked if self.phase == Phase::Up => {
                self.tell(TrunkKind::Bye { q850: Some(102) });
                self.leave(CLEARED);
            }
            Heard::Referred { code: ..300 } => self.tell(TrunkKind::TransferAccepted),
            Heard::Referred { code } => self.tell(TrunkKind::TransferRefused { code }),
            Heard::Unacked => {}
        }
        ControlFlow::Continue(())
    }

    fn answered(&mut self, body: &[u8]) {
        if self.phase == Phase::Leaving {
            return self.line.bye(Some(CLEARED.to_owned()));
        }
        match self.media.handle_answer(body) {
            Ok(leg) => {
                self.tell(TrunkKind::Answered { leg: Some(leg) });
                self.phase = Phase::Up;
            }
            Err(NoMedia { code }) => {
                let reason = "no common codec".to_owned();
                self.tell(TrunkKind::Rejected { code, reason, q850: None });
                self.leave(INCOMPATIBLE);
            }
        }
    }

    fn refused(&mut self, reply: Reply) {
        let q850 = reply.reason.as_deref().and_then(cause);
        self.tell(TrunkKind::Rejected { code: reply.code, reason: reply.phrase, q850 });
    }

    fn failed(&mut self, failure: Failure) -> ControlFlow<()> {
        match failure {
            Failure::Timeout if self.phase == Phase::Calling => {
                self.phase = Phase::Silent;
                return ControlFlow::Continue(());
            }
            Failure::Timeout | Failure::Cancelled => {}
            Failure::Network(error) => {
                tracing::info!(sid = self.sid, error, "a call's trunk broke");
                self.tell(TrunkKind::Unreachable);
            }
        }
        ControlFlow::Break(())
    }
}

/// The Q.850 cause of a Reason header (RFC 3326): its first value of that protocol.
fn cause(header: &str) -> Option<u16> {
    header.split(',').find_map(|value| {
        let (protocol, parameters) = value.split_once(';')?;
        let is_q850 = protocol.trim().eq_ignore_ascii_case("Q.850");
        let mut parameters = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
        let (_, cause) = parameters.find(|(name, _)| is_q850 && name.trim().eq_ignore_ascii_case("cause"))?;
        cause.trim().parse().ok()
    })
}
