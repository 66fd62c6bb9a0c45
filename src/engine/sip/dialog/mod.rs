//! One call on the wire. Its brain says what it wants, the far side says what it does; this task keeps both in step until neither
//! has anything to say any more.
//!
//! A wish to hang up is kept until it can be carried out: before the answer it is a CANCEL, after it a BYE. After it nothing is
//! told but silence, since the brain has decided; the wire is followed all the same.
//!
//! | File | Holds |
//! |---|---|
//! | `placed` | what becomes of an INVITE of ours |
//! | `kept` | offers of the far side, and the refresh of the session |

mod kept;
mod placed;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::dial::Dialling;
use super::pressing::Pressing;
use super::session::Session;
use super::stack::{Heard, Invite, Line, Stack};
use crate::engine::config::SipTrunk;
use crate::engine::rtp::Talk;
use crate::engine::trunk::{Asker, Events, FarEnd, Keys, TrunkEvent, TrunkKind};
use crate::sip::health::Health;
use crate::sip::reason;
use crate::sip::refer::{self, Refer};

/// Of a BYE of ours (RFC 3326): normal call clearing.
const CLEARED: &str = "Q.850;cause=16;text=\"Normal call clearing\"";
/// Of a BYE because the answer was of no use: incompatible destination.
const INCOMPATIBLE: &str = "Q.850;cause=88;text=\"Incompatible destination\"";
/// A session that is too short for the far side (RFC 4028 §6).
const INTERVAL_TOO_SMALL: u16 = 422;

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

/// What a call of ours may be placed by once more.
struct Placed {
    stack: Arc<Stack>,
    /// As it was sent last.
    invite: Invite,
    redirects: u32,
}

/// A call that came in and is answered.
pub(super) struct Joined {
    pub(super) sid: String,
    /// Our number in it.
    pub(super) us: String,
    pub(super) settings: Arc<SipTrunk>,
    pub(super) session: Session,
    pub(super) pressing: Pressing,
    pub(super) line: Line,
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

pub(super) struct Call {
    sid: String,
    from: String,
    settings: Arc<SipTrunk>,
    /// `None`: it came in.
    placed: Option<Placed>,
    line: Line,
    heard: mpsc::UnboundedReceiver<Heard>,
    talk: Talk,
    health: Arc<Mutex<Health>>,
    session: Session,
    /// Keys that go as INFO.
    pressing: Pressing,
    /// What became of the last REFER.
    refer: Refer,
    hears_early: bool,
    events: Events,
    /// Who is to be expected behind the number.
    far_end: FarEnd,
    phase: Phase,
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
            placed: None,
            line: self.line,
            heard,
            talk: self.talk,
            health: self.health,
            session: self.session,
            pressing: self.pressing,
            refer: Refer::default(),
            hears_early: false,
            events: self.events,
            far_end: FarEnd::Phone,
            phase: Phase::Up,
        };
        if is_leaving {
            call.leave(CLEARED);
        }
        call.run(orders).await;
    }
}

pub(super) fn noted(health: &Mutex<Health>) -> std::sync::MutexGuard<'_, Health> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Call {
    pub(super) fn new(
        dialling: Dialling,
        session: Session,
        invite: Invite,
        (line, heard): (Line, mpsc::UnboundedReceiver<Heard>),
    ) -> Self {
        let Dialling { dial, settings, stack, talk, health, events, far_side } = dialling;
        let far_end = (far_side.far_end)(&dial.to);
        let hears_early = dial.hears_early && settings.early_media;
        let (sid, from, refer) = (dial.sid, dial.from, Refer::default());
        let pressing = Pressing::new(settings.dtmf_mode, stack.timers());
        Self {
            sid,
            from,
            settings,
            placed: Some(Placed { stack, invite, redirects: 0 }),
            line,
            heard,
            talk,
            health,
            session,
            pressing,
            refer,
            hears_early,
            events,
            far_end,
            phase: Phase::Calling,
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let flow = tokio::select! {
                // The brain decides first: an answer beside its CANCEL is not told any more.
                biased;
                order = orders.recv(), if !orders.is_closed() => self.handle_order(order.unwrap_or(Order::HangUp)),
                heard = self.heard.recv() => heard.map_or(ControlFlow::Break(()), |heard| self.handle_heard(heard)),
                () = self.session.due(), if self.phase == Phase::Up => {
                    let due = self.session.handle_timeout();
                    self.keep_session(due);
                    ControlFlow::Continue(())
                }
                () = self.pressing.due(), if self.phase == Phase::Up => {
                    self.pressing.handle_timeout(Instant::now());
                    self.press_on();
                    ControlFlow::Continue(())
                }
            };
            if flow.is_break() {
                return;
            }
        }
    }

    pub(super) fn tell(&self, kind: TrunkKind) {
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
            (Order::Press(keys, asker), Phase::Up) => self.press(keys, asker),
            (Order::Press(_, asker), _) => asker.tell(Err("the call is not up".to_owned())),
            (_, Phase::Leaving) | (Order::Transfer { .. }, Phase::Calling | Phase::Silent) => {}
            // It was answered, or goes out.
            (Order::Ring | Order::Answer | Order::Reject { .. }, _) => {}
        }
        ControlFlow::Continue(())
    }

    fn press(&mut self, keys: Keys, asker: Asker) {
        if !self.pressing.is_used(self.talk.takes(&keys.strokes).is_ok()) {
            return asker.tell(self.talk.press(&keys.strokes, keys.duration_ms));
        }
        self.pressing.push(keys, asker, Instant::now());
        self.press_on();
    }

    fn press_on(&mut self) {
        if self.phase == Phase::Up
            && let Some((key, duration_ms)) = self.pressing.next(Instant::now())
        {
            self.line.press(key.as_char(), duration_ms);
        }
    }

    fn leave(&mut self, reason: &str) {
        self.phase = Phase::Leaving;
        self.pressing.close();
        self.line.bye(Some(reason.to_owned()));
    }

    fn handle_heard(&mut self, heard: Heard) -> ControlFlow<()> {
        match heard {
            Heard::Trying => self.tell(TrunkKind::Trying),
            Heard::Progress { code, body } => self.progress(code, &body),
            Heard::Answered { body, terms } => self.answered(&body, &terms),
            Heard::Refused(reply) => return self.refused(reply),
            Heard::Failed(failure) => return self.failed(failure),
            Heard::Bye { reason } => {
                self.tell(TrunkKind::Bye { q850: reason.as_deref().and_then(cause) });
                // Ours may be under way: it is still to be answered.
                if self.phase != Phase::Leaving {
                    return ControlFlow::Break(());
                }
            }
            Heard::Gone => {
                // The far side refuses every word of ours: for it there is no such call.
                if self.phase == Phase::Up {
                    self.tell(TrunkKind::Bye { q850: None });
                }
                return ControlFlow::Break(());
            }
            Heard::Offer(offer) => {
                let answer = self.agree(&offer);
                // A request whose transaction is gone needs no answer.
                let _ = offer.answer.send(answer);
            }
            // It asked for an offer, and leaves it at that: what was agreed on before holds.
            Heard::Acked { body } if body.is_empty() => self.talk.roll_back(),
            Heard::Refreshed(reply) => self.refreshed(reply),
            Heard::Acked { body } => {
                if self.talk.handle_answer(&body).is_err() && self.phase == Phase::Up {
                    self.tell(TrunkKind::Bye { q850: Some(88) });
                    self.leave(INCOMPATIBLE);
                }
            }
            Heard::Unacked if self.phase == Phase::Up => {
                self.tell(TrunkKind::Bye { q850: Some(102) });
                self.leave(CLEARED);
            }
            Heard::Pressed { code } => {
                self.pressing.handle_answer(code, Instant::now());
                self.press_on();
            }
            Heard::Key { key, duration_ms } => self.tell(TrunkKind::Key { key, duration_ms }),
            Heard::Referred { code: ..300 } => self.tell(TrunkKind::TransferAccepted),
            Heard::Referred { code } => self.tell(TrunkKind::TransferRefused { code }),
            // Of calls that come in, and of a far end that may transfer itself.
            Heard::Unacked | Heard::Cancelled { .. } | Heard::TransferAsked { .. } => {}
            Heard::Notified { body, state } => {
                if let Some(code) = self.refer.handle_notify(&body, state.as_deref()) {
                    self.tell(TrunkKind::TransferOutcome { code });
                }
            }
        }
        ControlFlow::Continue(())
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
