//! A call that is up, kept so: the far side's offers, and the refresh of the session.

use super::super::stack::{Agreed, Answer, Offer, OfferRefused, Reply, Terms};
use super::{Call, INTERVAL_TOO_SMALL, Phase};
use crate::engine::trunk::TrunkKind;
use crate::sip::session_timer::Due;

/// Of a BYE because nobody refreshed the session (RFC 4028 §10).
const EXPIRED: &str = "Q.850;cause=102;text=\"Recovery on timer expiry\"";
/// Of a far side that has no UPDATE after all.
const NO_SUCH_METHOD: u16 = 405;
const NOT_IMPLEMENTED: u16 = 501;
/// For requests of a call that is over.
const NO_SUCH_CALL: u16 = 481;

impl Call {
    /// A re-INVITE or UPDATE. One that is refused changes nothing.
    pub(super) fn agree(&mut self, offer: &Offer) -> Answer {
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
        self.pressing.note(&offer.terms);
        Ok(Agreed { body, session_expires })
    }

    pub(super) fn keep_session(&mut self, due: Option<Due>) {
        match due {
            Some(Due::Refresh) => self.refresh(),
            Some(Due::Expired) => {
                self.tell(TrunkKind::SessionExpired);
                self.leave(EXPIRED);
            }
            None => {}
        }
    }

    pub(super) fn refresh(&mut self) {
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

    pub(super) fn refreshed(&mut self, reply: Option<Reply>) {
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
}
