//! One call on the wire. Its brain says what it wants, the far side says what it does; this task keeps both in step until neither
//! has anything to say any more.
//!
//! A wish to hang up is kept until it can be carried out: before the answer it is a CANCEL, after it a BYE. After it nothing is
//! told but silence, since the brain has decided; the wire is followed all the same.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::dial::Dialling;
use super::session::Session;
use super::stack::{Agreed, Answer, Failure, Heard, Invite, Line, Offer, OfferRefused, Reply, Stack, Terms};
use crate::call::{EndReason, Ending};
use crate::engine::config::SipTrunk;
use crate::engine::leg::Leg;
use crate::engine::rtp::Talk;
use crate::engine::trunk::{Asker, Events, FarEnd, Keys, TrunkEvent, TrunkKind};
use crate::sip::health::Health;
use crate::sip::refer::{self, Refer};
use crate::sip::session_timer::Due;
use crate::sip::{contact, reason, uri};

/// Of a BYE of ours (RFC 3326): normal call clearing.
const CLEARED: &str = "Q.850;cause=16;text=\"Normal call clearing\"";
/// Of a BYE because the answer was of no use: incompatible destination.
const INCOMPATIBLE: &str = "Q.850;cause=88;text=\"Incompatible destination\"";
/// Of a BYE because nobody refreshed the session (RFC 4028 §10).
const EXPIRED: &str = "Q.850;cause=102;text=\"Recovery on timer expiry\"";

/// Of an answer without audio that we could take.
const NOT_ACCEPTABLE: u16 = 488;
/// A session that is too short for the far side (RFC 4028 §6).
const INTERVAL_TOO_SMALL: u16 = 422;
/// Of a far side that has no UPDATE after all.
const NO_SUCH_METHOD: u16 = 405;
const NOT_IMPLEMENTED: u16 = 501;
/// For requests of a call that is over.
const NO_SUCH_CALL: u16 = 481;

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

    /// A provisional answer never makes the call an answered one, whatever is heard.
    fn progress(&mut self, code: u16, body: &[u8]) {
        self.tell(TrunkKind::Progress { code });
        if (180..=183).contains(&code) {
            noted(&self.health).handle_ringing();
        }
        if self.phase != Phase::Calling || body.is_empty() {
            return;
        }
        if !self.hears_early {
            // The final answer may leave it out (RFC 3261 §13.2.1). What is no answer is left to that, too.
            let _ = self.talk.negotiation().handle_early_answer(body);
        } else if let Some(leg) = self.talk.early_leg(body) {
            self.tell(TrunkKind::Early { leg: Box::new(leg) });
        }
    }

    /// A re-INVITE or UPDATE. One that is refused changes nothing.
    fn agree(&mut self, offer: &Offer) -> Answer {
        if self.phase != Phase::Up {
            return Err(NO_SUCH_CALL.into());
        }
        let mut session = self.session.clone();
        let session_expires = session
            .handle_request(&offer.terms)
            .map_err(|least| OfferRefused { code: INTERVAL_TOO_SMALL, min_se_s: Some(least) })?;
        let body = match offer.is_update && offer.body.is_empty() {
            true => None,
            false => Some(self.talk.handle_offer(&offer.body).map_err(|refused| refused.sip_code())?),
        };
        self.session = session;
        Ok(Agreed { body, session_expires })
    }

    fn answered(&mut self, body: &[u8], terms: &Terms) {
        if self.phase == Phase::Leaving {
            return self.line.bye(Some(CLEARED.to_owned()));
        }
        noted(&self.health).handle_answer(200, None, false, Instant::now());
        self.session.handle_answer(terms);
        let agreed = self.talk.handle_answer(body);
        if self.far_end == FarEnd::Empty && agreed.is_ok() {
            self.tell(TrunkKind::Answered { leg: None });
            self.phase = Phase::Up;
            return;
        }
        match (agreed, self.talk.leg()) {
            (Ok(()), leg) if leg.is_some() || self.talk.is_open() => {
                self.tell(TrunkKind::Answered { leg: leg.map(|leg| Box::new(leg) as Box<dyn Leg>) });
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

    fn keep_session(&mut self, due: Option<Due>) {
        match due {
            Some(Due::Refresh) => self.refresh(),
            Some(Due::Expired) => {
                self.tell(TrunkKind::SessionExpired);
                self.leave(EXPIRED);
            }
            None => {}
        }
    }

    fn refresh(&mut self) {
        let body = match self.session.takes_updates() {
            true => None,
            false => match self.talk.negotiation().refresh() {
                Ok(body) => Some(body),
                // An offer is under way: as if the far side had said so (RFC 3261 §14.1).
                Err(refused) => {
                    let due = self.session.handle_refresh_failed(Some(refused.sip_code()));
                    return self.keep_session(due);
                }
            },
        };
        self.line.refresh(body, self.session.request());
    }

    fn refreshed(&mut self, reply: Option<Reply>) {
        if self.phase != Phase::Up {
            return;
        }
        if let Some(reply) = reply.as_ref().filter(|reply| reply.code < 300) {
            self.session.handle_answer(&reply.terms);
            if self.talk.negotiation().is_offering() && self.talk.handle_answer(&reply.body).is_err() {
                self.talk.roll_back();
            }
            return;
        }
        self.talk.roll_back();
        let (code, terms) = reply.map_or((None, Terms::default()), |reply| (Some(reply.code), reply.terms));
        if code == Some(INTERVAL_TOO_SMALL) && self.session.handle_too_small(&terms) {
            return self.refresh();
        }
        // It names UPDATE in its Allow, and does not take one.
        if matches!(code, Some(NO_SUCH_METHOD | NOT_IMPLEMENTED)) && self.session.takes_updates() {
            self.session.note_no_updates();
            return self.refresh();
        }
        let due = self.session.handle_refresh_failed(code);
        self.keep_session(due);
    }

    /// What a refusal asks for instead: a longer session (RFC 4028 §7.4), or another place of the same trunk (RFC 3261 §8.1.3.4).
    fn another(&mut self, reply: &Reply) -> Option<Invite> {
        let placed = self.placed.as_mut().filter(|_| self.phase == Phase::Calling)?;
        let mut invite = placed.invite.clone();
        match reply.code {
            INTERVAL_TOO_SMALL if self.session.handle_too_small(&reply.terms) => invite.timer = self.session.request(),
            300..=399 => {
                let (hosts, contacts) = (self.settings.host_names(), reply.contacts.iter().map(String::as_str));
                let best = contact::by_preference(contacts).into_iter();
                invite.to = best.filter_map(|contact| uri::redirected(contact.uri, &hosts, placed.redirects)).next()?;
                invite.route = self.settings.proxy.as_ref().and(invite.route);
                invite.place = self.settings.proxy.as_ref().and(invite.place);
                placed.redirects += 1;
            }
            _ => return None,
        }
        Some(invite)
    }

    fn refused(&mut self, reply: Reply) -> ControlFlow<()> {
        if let Some(invite) = self.another(&reply)
            && let Some(placed) = &mut self.placed
        {
            return match placed.stack.invite(invite.clone()) {
                Ok((line, heard)) => {
                    placed.invite = invite;
                    (self.line, self.heard) = (line, heard);
                    ControlFlow::Continue(())
                }
                Err(error) => self.failed(Failure::Local(error)),
            };
        }
        let q850 = reply.reason.as_deref().and_then(cause);
        let retry_after = reply.retry_after.as_deref().and_then(seconds);
        let is_limit = Ending::from_answer(reply.code, &reply.phrase, None, false).reason == EndReason::CarrierLimit;
        noted(&self.health).handle_answer(reply.code, retry_after, is_limit, Instant::now());
        self.tell(TrunkKind::Rejected { code: reply.code, reason: reply.phrase, q850 });
        ControlFlow::Break(())
    }

    /// Nobody answers where it went: the next call goes to another place of the name.
    fn pass_over(&self) {
        if let Some(placed) = &self.placed
            && let Some(place) = placed.invite.place
        {
            placed.stack.pass_over(&self.settings.hop().name, place);
        }
    }

    fn failed(&mut self, failure: Failure) -> ControlFlow<()> {
        match failure {
            Failure::Timeout if self.phase == Phase::Calling => {
                noted(&self.health).handle_silence();
                self.pass_over();
                self.phase = Phase::Silent;
                return ControlFlow::Continue(());
            }
            Failure::Timeout | Failure::Cancelled => {}
            Failure::Network(error) => {
                tracing::info!(sid = self.sid, error, "a call's trunk broke");
                noted(&self.health).handle_silence();
                self.pass_over();
                self.tell(TrunkKind::Unreachable);
            }
            Failure::Local(error) => {
                tracing::warn!(sid = self.sid, error, "a call broke on our side");
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
