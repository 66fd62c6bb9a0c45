//! What becomes of an INVITE of ours: a provisional answer, a final one, another place to go to, nothing at all.

use std::ops::ControlFlow;
use std::time::Instant;

use super::super::stack::{Failure, Invite, Reply, Terms};
use super::{CLEARED, Call, INCOMPATIBLE, INTERVAL_TOO_SMALL, Phase, cause, noted, seconds};
use crate::call::{EndReason, Ending};
use crate::engine::leg::Leg;
use crate::engine::trunk::{FarEnd, TrunkKind};
use crate::sip::{contact, uri};

/// Of an answer without audio that we could take.
const NOT_ACCEPTABLE: u16 = 488;

impl Call {
    /// A provisional answer never makes the call an answered one, whatever is heard.
    pub(super) fn progress(&mut self, code: u16, body: &[u8]) {
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

    pub(super) fn answered(&mut self, body: &[u8], terms: &Terms) {
        if self.phase == Phase::Leaving {
            return self.line.bye(Some(CLEARED.to_owned()));
        }
        noted(&self.health).handle_answer(200, None, false, Instant::now());
        self.session.handle_answer(terms);
        self.pressing.note(terms);
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

    /// What a refusal asks for instead: a longer session (RFC 4028 §7.4), or another place of the same trunk (RFC 3261 §8.1.3.4).
    pub(super) fn another(&mut self, reply: &Reply) -> Option<Invite> {
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

    pub(super) fn refused(&mut self, reply: Reply) -> ControlFlow<()> {
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

    pub(super) fn failed(&mut self, failure: Failure) -> ControlFlow<()> {
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
                self.tell(TrunkKind::Unreachable { reason: error });
            }
            Failure::Local(error) => {
                tracing::warn!(sid = self.sid, error, "a call broke on our side");
                self.tell(TrunkKind::Unreachable { reason: error });
            }
        }
        ControlFlow::Break(())
    }
}
