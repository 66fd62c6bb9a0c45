//! REQUEST_UPDATE of peers (§10.9): each counts as a request of its session and of its token, brings tokens that are judged like a
//! request's, and is answered. One that is refused ends its request.

use std::time::Instant;

use super::accounts::{Account, Cost};
use super::rights::{Credentials, permit};
use super::{Core, Role, Sessions, namespace_bytes};
use crate::moqt::RequestErrorCode;
use crate::moqt::message::{Location, Token, Update, UpdateOk};
use crate::moqt::session::RequestId;

/// A request of a peer.
type Who = (u64, RequestId);

/// What a request under a prefix lists.
#[derive(Clone, Copy)]
enum Lists {
    Namespaces,
    Tracks,
}

impl Core {
    pub(super) fn handle_update(&mut self, sessions: &mut dyn Sessions, who: Who, update: &Update, now: Instant) {
        if let Err(code) = self.update_in_time(who, now).and_then(|()| self.judge_update(sessions, who, update, now)) {
            return self.refuse_update(sessions, who, code);
        }
        let ok = UpdateOk { largest: self.largest_of(who), expires: self.expires_in(who, now) };
        if let Some(session) = sessions.session(who.0) {
            session.accept_update(who.1, ok);
        }
        self.interests.wish(who, update);
        if !update.tokens.is_empty() || update.prefix.is_some() {
            self.show(sessions, who, now);
        }
    }

    fn update_in_time(&mut self, (key, request): Who, now: Instant) -> Result<(), RequestErrorCode> {
        let Some(peer) = self.peers.get_mut(&key) else { return Err(RequestErrorCode::InternalError) };
        let token = peer.grants.get(&request).and_then(|grant| grant.token);
        let of_session = peer.account.take(now).map_err(|beyond| (beyond, false));
        let of_token = |account: &mut Account| account.take(now).map_err(|beyond| (beyond, true));
        let token = token.and_then(|token| self.tokens.account(token));
        of_session.and_then(|()| token.map_or(Ok(()), of_token)).map_err(|(beyond, of_token)| {
            beyond.count(&mut self.counters);
            self.counters.over_token += u64::from(of_token);
            RequestErrorCode::ExcessiveLoad
        })
    }

    /// What it asks is done, if it may be.
    fn judge_update(
        &mut self,
        sessions: &mut dyn Sessions,
        who: Who,
        update: &Update,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        match (self.lists(who), &update.prefix) {
            (Some(_), None) if update.tokens.is_empty() => Ok(()),
            (Some(what), _) => self.relist(sessions, (who, what), update, now),
            (None, Some(_)) => Err(RequestErrorCode::NotSupported),
            (None, None) => self.renew(who, &update.tokens, now),
        }
    }

    fn lists(&self, (key, request): Who) -> Option<Lists> {
        match self.peers.get(&key)?.requests.get(&request)? {
            Role::Listing => Some(Lists::Namespaces),
            Role::Interest => Some(Lists::Tracks),
            _ => None,
        }
    }

    /// The first of the tokens that allows the request carries it on.
    fn renew(&mut self, (key, request): Who, tokens: &[Token], now: Instant) -> Result<(), RequestErrorCode> {
        if tokens.is_empty() {
            return Ok(());
        }
        let brought = self.brought(tokens, now)?;
        if let Some(need) = self.need(key, request) {
            let rights = permit(&brought, now, |rights| need.met_by(rights))?.clone();
            self.carry_on(key, request, rights);
        }
        Ok(())
    }

    /// It hears of what its new tokens allow, or of what is under its new prefix (§10.9.2).
    fn relist(
        &mut self,
        sessions: &mut dyn Sessions,
        ((key, request), what): (Who, Lists),
        update: &Update,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let (prefix, tokens) = (update.prefix.as_ref(), &update.tokens);
        let credentials = if tokens.is_empty() { None } else { Some(self.credentials(key, tokens, now)?) };
        if let Some(prefix) = prefix {
            let overlaps = match what {
                Lists::Namespaces => self.directory.overlaps(key, prefix, Some(request)),
                Lists::Tracks => self.interests.overlaps(key, prefix, Some(request)),
            };
            if overlaps {
                return Err(RequestErrorCode::PrefixOverlap);
            }
            let rights = self.peers.get(&key).and_then(|peer| peer.grants.get(&request)?.rights());
            self.release(key, request);
            let cost = Cost::Publication { bytes: namespace_bytes(prefix) };
            self.charge((key, request), rights.as_ref(), cost, now)?;
        }
        // In draft 16 one request may list both.
        let before = self.interests.relist((key, request), prefix, credentials.clone());
        if let (Some(before), Some(prefix)) = (before, prefix) {
            self.unask_abroad(sessions, &before);
            self.ask_abroad(sessions, prefix);
        }
        self.directory.relist((key, request), prefix, credentials);
        let shown = self.visible(key, request)?.len();
        self.pay_for_listing(key, shown, now)?;
        let tracks = self.wanted_by((key, request))?.len();
        self.pay_for_offers(key, tracks, now)
    }

    /// What it may hear of now: its session leaves out namespaces that it has told, and nobody is offered what it has.
    fn show(&mut self, sessions: &mut dyn Sessions, (key, request): Who, now: Instant) {
        if let (Some(session), Ok(shown)) = (sessions.session(key), self.visible(key, request)) {
            shown.iter().for_each(|suffix| session.namespace(request, suffix));
        }
        for id in self.wanted_by((key, request)).unwrap_or_default() {
            self.offer(sessions, id, (key, request), now);
        }
    }

    pub(super) fn refuse_update(&mut self, sessions: &mut dyn Sessions, (key, request): Who, code: RequestErrorCode) {
        self.count_refusal(code);
        if let Some(session) = sessions.session(key) {
            session.reject_update(request, super::refusal(code));
        }
        self.withdraw(sessions, key, request);
    }

    fn largest_of(&self, (key, request): Who) -> Option<Location> {
        match self.peers.get(&key)?.requests.get(&request)? {
            Role::Subscription { track, .. } => self.tracks.get(track)?.largest(),
            _ => None,
        }
    }

    fn brought(&mut self, tokens: &[Token], now: Instant) -> Result<Credentials, RequestErrorCode> {
        if tokens.len() > super::constants::TOKENS_PER_REQUEST {
            return Err(RequestErrorCode::MalformedAuthToken);
        }
        tokens.iter().map(|token| self.gate.rights(token, now)).collect()
    }
}
