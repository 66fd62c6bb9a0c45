//! What peers ask for, told apart; SUBSCRIBE_NAMESPACE (SUBSCRIBE_TRACKS is in `offers`), and the withdrawal of whatever was asked.

use std::time::Instant;

use super::accounts::Cost;
use super::fetch::How;
use super::rights::Credentials;
use super::{Core, Role, Sessions, constants, namespace_bytes};
use crate::moqt::message::{RequestError, Token, Wishes};
use crate::moqt::session::RequestId;
use crate::moqt::{Event, RequestErrorCode, TrackNamespace};

impl Core {
    /// A new request of a peer: counted first, then authorised, then served.
    pub(super) fn handle_request(&mut self, sessions: &mut dyn Sessions, key: u64, event: Event, now: Instant) {
        let in_time = match self.account(key).map(|account| account.take(now)) {
            Some(Err(beyond)) => {
                beyond.count(&mut self.counters);
                false
            }
            Some(Ok(())) => true,
            None => false,
        };
        let ends = self.sends_away(sessions, key);
        let gate = |core: &mut Self, tokens: &[Token]| match (ends, in_time) {
            (true, _) => Err(RequestErrorCode::GoingAway),
            (false, true) => core.credentials(key, tokens, now),
            (false, false) => Err(RequestErrorCode::ExcessiveLoad),
        };
        let (request, result) = match event {
            Event::Subscribe { request, subscribe } => {
                let credentials = gate(self, &subscribe.tokens);
                (request, credentials.and_then(|c| self.subscribe(sessions, (key, request), &subscribe, &c, now)))
            }
            Event::Publish { request, publish } => {
                let credentials = gate(self, &publish.tokens);
                let (namespace, tokens) = (publish.track.namespace.clone(), publish.tokens.clone());
                let result = credentials.and_then(|c| {
                    self.publish(sessions, (key, request), publish, &c, now)?;
                    self.announce_up(sessions, &namespace, (key, request), &handed_on(&tokens, &c));
                    Ok(())
                });
                (request, result)
            }
            Event::PublishNamespace { request, namespace, tokens } => {
                let credentials = gate(self, &tokens);
                let result = credentials.and_then(|c| {
                    self.announce(sessions, (key, request), namespace.clone(), &c, now)?;
                    self.announce_up(sessions, &namespace, (key, request), &handed_on(&tokens, &c));
                    Ok(())
                });
                (request, result)
            }
            Event::SubscribeNamespace { request, prefix, tracks, tokens } => {
                let credentials = gate(self, &tokens);
                let wish = (prefix, tracks);
                (request, credentials.and_then(|c| self.list(sessions, (key, request), wish, c, now)))
            }
            Event::TrackStatus { request, subscribe } => {
                let credentials = gate(self, &subscribe.tokens);
                (request, credentials.and_then(|c| self.status(sessions, (key, request), &subscribe, &c, now)))
            }
            Event::Fetch { request, fetch, order, fill_timeout, tokens } => {
                let (credentials, how) = (gate(self, &tokens), How { order, wait: fill_timeout });
                (request, credentials.and_then(|c| self.fetch(sessions, (key, request), (fetch, how), &c, now)))
            }
            Event::SubscribeTracks { request, prefix, wishes, tokens } => {
                let credentials = gate(self, &tokens);
                let wish = (prefix, wishes);
                (request, credentials.and_then(|c| self.list_tracks(sessions, (key, request), wish, c, now)))
            }
            _ => return,
        };
        if let Err(code) = result {
            self.refuse(sessions, key, request, code);
        }
    }

    pub(super) fn refuse(&mut self, sessions: &mut dyn Sessions, key: u64, request: RequestId, code: RequestErrorCode) {
        self.count_refusal(code);
        if let Some(session) = sessions.session(key) {
            session.reject(request, refusal(code));
        }
    }

    pub(super) fn count_refusal(&mut self, code: RequestErrorCode) {
        match code {
            RequestErrorCode::Unauthorized
            | RequestErrorCode::ExpiredAuthToken
            | RequestErrorCode::MalformedAuthToken => self.counters.unauthorized += 1,
            RequestErrorCode::ExcessiveLoad => self.counters.excessive += 1,
            _ => {}
        }
    }

    fn list(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): (u64, RequestId),
        (prefix, tracks): (TrackNamespace, Option<bool>),
        credentials: Credentials,
        now: Instant,
    ) -> Result<(), RequestErrorCode> {
        let in_one = sessions.session(key).is_some_and(|session| session.draft().lists_in_one());
        if self.directory.overlaps(key, &prefix, None) || in_one && self.interests.overlaps(key, &prefix, None) {
            return Err(RequestErrorCode::PrefixOverlap);
        }
        self.charge((key, request), credentials.first(), Cost::Publication { bytes: namespace_bytes(&prefix) }, now)?;
        let relay = self.relay(key).is_some();
        self.directory.list((key, request), relay, prefix.clone(), credentials.clone());
        let may_begin = |core: &mut Self| match tracks {
            Some(_) => core.may_begin(key, &prefix, now),
            None => Ok(()),
        };
        let paid = |core: &mut Self| {
            let shown = core.visible(key, request)?;
            core.pay_for_listing(key, shown.len(), now).map(|()| shown)
        };
        let shown = may_begin(self).and_then(|()| paid(self)).inspect_err(|_| {
            self.directory.unlist(key, request);
            self.forget(key, request);
        })?;
        self.note(key, request, Role::Listing);
        if let Some(session) = sessions.session(key) {
            session.accept(request);
            shown.iter().for_each(|suffix| session.namespace(request, suffix));
        }
        if let Some(forward) = tracks {
            let wishes = Wishes { forward, ..Wishes::default() };
            self.begin_interest(sessions, (key, request), (prefix, wishes), credentials, now);
        }
        Ok(())
    }

    /// The namespaces that a listing may hear of now, by suffix.
    pub(super) fn visible(&mut self, key: u64, request: RequestId) -> Result<Vec<TrackNamespace>, RequestErrorCode> {
        let visible = self.directory.visible((key, request), self.now, self.listed(key).saturating_add(1));
        self.may_list(key, visible.len()).map(|()| visible)
    }

    /// NAMESPACE or NAMESPACE_DONE to everybody who listens, may know and did not before: `actor` began to announce it, or ceased to.
    pub(super) fn tell(
        &mut self,
        sessions: &mut dyn Sessions,
        namespace: &TrackNamespace,
        actor: u64,
        announced: bool,
    ) {
        for (key, request, suffix) in self.directory.listeners(namespace, (actor, announced), self.now) {
            let Some(session) = sessions.session(key) else { continue };
            match announced {
                true => session.namespace(request, &suffix),
                false => session.namespace_done(request, &suffix),
            }
        }
    }

    pub(super) fn handle_cancelled(&mut self, sessions: &mut dyn Sessions, key: u64, request: RequestId) {
        self.withdraw(sessions, key, request);
    }

    /// A request is over because its peer withdrew it or is gone.
    pub(super) fn withdraw(&mut self, sessions: &mut dyn Sessions, key: u64, request: RequestId) {
        match self.peers.get(&key).and_then(|peer| peer.requests.get(&request)).cloned() {
            Some(Role::Subscription { track, held: true }) => {
                self.drop_waiting(track, key, request);
                self.rest(sessions, track);
            }
            Some(Role::Subscription { track, held: false }) => {
                self.forget(key, request);
                if let Some(track) = self.tracks.get_mut(&track) {
                    track.subscribers.retain(|s| (s.key, s.request) != (key, request));
                }
                self.rest(sessions, track);
            }
            Some(Role::Source { track } | Role::Publication { track }) => {
                self.lose_source(sessions, track, key, request);
            }
            Some(Role::Announcement(namespace)) => {
                self.forget(key, request);
                if self.directory.withdraw(&namespace, key, request) {
                    self.tell(sessions, &namespace, key, false);
                }
                self.withdraw_up(sessions, &namespace, (key, request));
            }
            Some(Role::Listing) => {
                self.forget(key, request);
                self.directory.unlist(key, request);
                self.end_interest(sessions, (key, request));
            }
            Some(Role::Fetch { track, bytes }) => self.end_fetch((key, request), track, bytes),
            Some(Role::Interest) => {
                self.forget(key, request);
                self.end_interest(sessions, (key, request));
            }
            Some(Role::Offer { .. }) => drop(self.drop_offer((key, request))),
            Some(Role::Joining { joined }) => self.end_join((key, request), joined),
            Some(Role::Sent { uplink, request: sent }) => {
                self.forget(key, request);
                self.recall_errand(sessions, (uplink, sent));
            }
            Some(Role::Errand) => {
                if let Some(now) = self.now {
                    self.end_errand(sessions, (key, request), RequestErrorCode::DoesNotExist, now);
                }
            }
            None => {}
        }
    }
}

/// What a sister relay needs to know the lease: the request's tokens, or those of its session.
fn handed_on(tokens: &[Token], credentials: &Credentials) -> Vec<Token> {
    match tokens.is_empty() {
        false => tokens.to_vec(),
        true => credentials.iter().filter_map(|rights| rights.token()).take(constants::TOKENS_PER_REQUEST).collect(),
    }
}

/// A refusal. Its bytes depend on the code alone, so they tell nothing about what exists.
pub(super) fn refusal(code: RequestErrorCode) -> RequestError {
    let reason = match code {
        RequestErrorCode::Unauthorized => "no token of this request or session allows it",
        RequestErrorCode::ExpiredAuthToken => "the token that would allow it has expired",
        RequestErrorCode::MalformedAuthToken => "a token can't be read",
        RequestErrorCode::ExcessiveLoad => "more than this session may ask for now",
        RequestErrorCode::DoesNotExist => "nobody publishes this track",
        RequestErrorCode::Timeout => "nobody published this track in time",
        RequestErrorCode::DuplicateSubscription => "this session has this track already",
        RequestErrorCode::PrefixOverlap => "this session lists an overlapping prefix",
        RequestErrorCode::NamespaceTooLarge => "more namespaces than can be listed",
        RequestErrorCode::GoingAway => "this relay takes no new requests",
        RequestErrorCode::InvalidRange => "nothing that was published, or will be, lies in that range",
        RequestErrorCode::InvalidJoiningRequestId => "no subscription of this session has that Request ID",
        _ => "the publisher refused",
    };
    let retry_after = (code == RequestErrorCode::ExcessiveLoad).then_some(constants::RETRY_AFTER);
    RequestError { code: code as u64, retry_after, reason: reason.to_owned() }
}
