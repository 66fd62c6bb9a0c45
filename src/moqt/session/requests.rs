//! Requests: the ones we make, and our answers to the peer's.

use std::collections::HashSet;

use super::lateness::Timeouts;
use super::past::Fetching;
pub(super) use super::state::{Kind, Phase, Publication, Request, Subscription};
use super::streams::Stream;
use super::{Dir, Event, RequestId, Session, StreamId, Transmit, constants, priority};
use crate::moqt::error::{RequestErrorCode, ResetCode};
use crate::moqt::message::{
    DEFAULT_PRIORITY, Location, Message, Parameters, Publish, PublishDone, PublishOk, RequestError, RequestOk,
    Subscribe, SubscribeOk, Token, TrackProperties, Wishes,
};
use crate::moqt::name::{FullTrackName, TrackNamespace};

/// A refusal in our words.
pub(super) fn error(code: RequestErrorCode, reason: &str) -> RequestError {
    RequestError::new(code, reason)
}

/// What we can't say.
pub(super) fn too_long() -> RequestError {
    error(RequestErrorCode::InternalError, "the request is longer than 65535 bytes")
}

/// The peer said nothing.
pub(super) fn silence() -> RequestError {
    error(RequestErrorCode::InternalError, "")
}

pub(super) fn with_tokens(tokens: Vec<Token>) -> Parameters {
    Parameters { tokens, ..Parameters::default() }
}

// ---- requests of ours (each on its own bidi stream, may precede the peer's SETUP) ----

impl Session {
    pub fn subscribe(&mut self, subscribe: Subscribe) -> RequestId {
        self.subscribe_with(subscribe, None)
    }

    pub(super) fn subscribe_with(
        &mut self,
        subscribe: Subscribe,
        fill: Option<(Box<Fetching>, Parameters)>,
    ) -> RequestId {
        let (fill, wanted) = fill.unzip();
        let parameters = Parameters { fill: wanted.map(Box::new), ..subscribe.parameters() };
        let subscription = Subscription::new(subscribe.track.clone(), None);
        let kind = Kind::Subscription(Subscription { forward: subscribe.forward, fill, ..subscription });
        self.request(kind, |id| Message::Subscribe { id, track: subscribe.track, parameters })
    }

    /// Objects can be sent from [`Event::RequestOk`] on.
    pub fn publish(&mut self, track: FullTrackName, properties: TrackProperties, tokens: Vec<Token>) -> RequestId {
        self.offer(Publish { track, forward: true, largest: None, expires: None, tokens, properties })
    }

    /// [`Session::publish`] of a track that has begun, or that is not to be sent yet.
    pub fn offer(&mut self, publish: Publish) -> RequestId {
        self.offer_with(publish, &Wishes::default())
    }

    /// [`Session::offer`] because of the peer's SUBSCRIBE_TRACKS: the subscription begins as that wants it, with the PUBLISH's FORWARD.
    pub fn offer_with(&mut self, publish: Publish, wishes: &Wishes) -> RequestId {
        let alias = self.next_alias;
        self.next_alias += 1;
        let begins = wishes.parameters();
        let timeouts = Timeouts::asked(&begins);
        let Parameters { forward, largest, expires, tokens, .. } = publish.parameters();
        let parameters = Parameters { forward, largest, expires, tokens, ..begins };
        let Publish { track, forward, properties, .. } = publish;
        let publication = Publication::new(forward, wishes.priority.unwrap_or(DEFAULT_PRIORITY));
        let mut publication = Publication { timeouts, group_order: wishes.group_order, ..publication };
        publication.describe(alias, &properties);
        let kind = Kind::Publication(publication);
        self.request(kind, |id| Message::Publish { id, track, alias, parameters, properties })
    }

    pub fn publish_namespace(&mut self, namespace: TrackNamespace, tokens: Vec<Token>) -> RequestId {
        let parameters = with_tokens(tokens);
        self.request(Kind::Announcement, |id| Message::PublishNamespace { id, namespace, parameters })
    }

    pub fn subscribe_namespace(&mut self, prefix: TrackNamespace, tokens: Vec<Token>) -> RequestId {
        let parameters = with_tokens(tokens);
        let kind = Kind::Listing(HashSet::new());
        self.request(kind, |id| Message::SubscribeNamespace { id, prefix, parameters })
    }

    /// The subscriber's priority and object delivery timeout of a publication.
    #[cfg(test)]
    pub(crate) fn begins_with(&self, request: RequestId) -> Option<(u8, Option<std::time::Duration>)> {
        let publication = self.requests.get(&request)?.publication()?;
        Some((publication.subscriber_priority, publication.timeouts.object()))
    }

    /// Draft 16's SUBSCRIBE_NAMESPACE for both, which nobody here needs.
    #[cfg(test)]
    pub(crate) fn subscribe_both(&mut self, prefix: TrackNamespace, forward: bool) -> RequestId {
        let parameters = Parameters { forward: Some(forward), ..Parameters::default() };
        let kind = Kind::Listing(HashSet::new());
        self.request(kind, |id| Message::SubscribeNamespace { id, prefix, parameters })
    }

    /// A message that can't be said is refused at once by [`Event::RequestError`], under an id that never travels.
    pub(super) fn request(&mut self, kind: Kind, message: impl FnOnce(u64) -> Message) -> RequestId {
        let message = message(self.next_request);
        let mut data = bytes::BytesMut::new();
        if self.closed || message.encode(self.draft, &mut data).is_err() {
            self.unsent_requests += 1;
            let request = RequestId(u64::MAX - self.unsent_requests);
            if !self.closed {
                self.events.push_back(Event::RequestError { request, error: too_long() });
            }
            return request;
        }
        let id = RequestId(self.next_request);
        self.next_request += 2;
        let stream = self.open(Dir::Bi, priority::REQUEST);
        self.queue(Transmit::Data { stream, data: data.freeze() });
        self.streams.insert(stream, Stream::request(Some(id), self.draft));
        self.requests.insert(id, Request::new(stream, true, kind));
        id
    }

    /// Withdraws a request of ours, or a PUBLISH of the peer that was accepted (RESET_STREAM + STOP_SENDING on its stream).
    /// Unknown ids do nothing.
    pub fn cancel(&mut self, request: RequestId) {
        let Some(gone) = self.remove_request(request) else { return };
        let code = ResetCode::Cancelled as u64;
        let stream = gone.stream;
        if let Some(Stream::Request(state)) = self.streams.remove(&stream) {
            if !state.mute {
                self.queue(Transmit::Reset { stream, code });
            }
            if !state.fin {
                self.queue(Transmit::Stop { stream, code });
            }
        }
    }

    // ---- answers to the peer's requests ----

    /// SUBSCRIBE_OK; a free track alias is chosen. The request is a publication from here on.
    pub fn accept_subscribe(&mut self, request: RequestId, ok: SubscribeOk) {
        let alias = self.next_alias;
        let Some(asked) = self.asked(request) else { return };
        let Kind::Publication(publication) = &mut asked.kind else { return };
        let properties = ok.track_properties();
        publication.describe(alias, &properties);
        let fill = publication.fill.take().zip(ok.largest);
        let stream = asked.stream;
        let message = Message::SubscribeOk { alias, parameters: ok.parameters(), properties };
        if !self.send(stream, &message) {
            let reason = "the answer is longer than 65535 bytes";
            return self.reject(request, error(RequestErrorCode::InternalError, reason));
        }
        self.next_alias += 1;
        self.accepted(request, ok.largest);
        if let Some((wanted, largest)) = fill {
            self.ask_fill(request, request.0, wanted, largest);
        }
    }

    /// REQUEST_OK to PUBLISH: objects of the track follow as events, those that came before it first.
    pub fn accept_publish(&mut self, request: RequestId, ok: PublishOk) {
        let Some(entry) = self.requests.get_mut(&request).filter(|entry| !entry.ours) else { return };
        let Kind::Subscription(subscription) = &mut entry.kind else { return };
        if std::mem::replace(&mut subscription.delivers, true) {
            return;
        }
        let (stream, alias) = (entry.stream, subscription.alias);
        if entry.phase == Phase::Asked {
            let says_all = self.draft.profile().publish_ok_subscribes;
            if says_all {
                subscription.forward = ok.forward;
            }
            let expires = ok.expires;
            let parameters = if says_all { ok.parameters() } else { Parameters { expires, ..Parameters::default() } };
            self.send(stream, &Message::RequestOk(RequestOk { parameters, ..RequestOk::default() }));
            self.accepted(request, None);
            self.update_forward(request, ok.forward);
        }
        if let Some(alias) = alias {
            self.release(alias, request);
        }
    }

    /// REQUEST_OK to PUBLISH_NAMESPACE, SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS.
    pub fn accept(&mut self, request: RequestId) {
        let Some(asked) = self.asked(request) else { return };
        if matches!(asked.kind, Kind::Announcement | Kind::Listing(_) | Kind::Tracks) {
            let stream = asked.stream;
            self.send(stream, &Message::RequestOk(RequestOk::default()));
            self.accepted(request, None);
        }
    }

    pub fn reject(&mut self, request: RequestId, error: RequestError) {
        if self.asked(request).is_some()
            && let Some(gone) = self.remove_request(request)
        {
            self.refuse(gone.stream, error);
        }
    }

    /// REQUEST_ERROR and FIN: nothing else is said or heard on the stream.
    pub(super) fn refuse(&mut self, stream: StreamId, error: RequestError) {
        self.send(stream, &Message::RequestError(error));
        self.queue(Transmit::Finish { stream });
        self.let_go(stream);
    }

    /// NAMESPACE on an accepted SUBSCRIBE_NAMESPACE; what is announced there already is not said again.
    pub fn namespace(&mut self, request: RequestId, suffix: &TrackNamespace) {
        let fits = |told: &HashSet<_>| told.len() < constants::NAMESPACES_PER_LISTING;
        if self.told(request).is_some_and(|told| fits(told) && told.insert(suffix.clone())) {
            self.say(request, &Message::Namespace(suffix.clone()));
        }
    }

    /// NAMESPACE_DONE of what is announced there: never before its NAMESPACE (§10.18).
    pub fn namespace_done(&mut self, request: RequestId, suffix: &TrackNamespace) {
        if self.told(request).is_some_and(|told| told.remove(suffix)) {
            self.say(request, &Message::NamespaceDone(suffix.clone()));
        }
    }

    fn told(&mut self, request: RequestId) -> Option<&mut HashSet<TrackNamespace>> {
        match self.requests.get_mut(&request)? {
            Request { ours: false, phase: Phase::Accepted, kind: Kind::Listing(told), .. } => Some(told),
            _ => None,
        }
    }

    /// One more message on a request of the peer, who may make us say many and take none: beyond a bound the request is dropped.
    pub(super) fn say(&mut self, request: RequestId, message: &Message) {
        let Some(stream) = self.requests.get(&request).map(|entry| entry.stream) else { return };
        self.send(stream, message);
        let Some(Stream::Request(state)) = self.streams.get(&stream) else { return };
        if state.unwritten > constants::REQUEST_BACKLOG {
            self.counters.stopped += 1;
            self.streams.remove(&stream);
            let code = ResetCode::ExcessiveLoad as u64;
            self.queue(Transmit::Reset { stream, code });
            self.queue(Transmit::Stop { stream, code });
            self.withdrawn(request);
        }
    }

    /// PUBLISH_DONE with the exact stream count, then FIN; open subgroups of the publication are finished first. A request that
    /// was not accepted is refused with the same reason.
    pub fn end_publication(&mut self, request: RequestId, done: PublishDone) {
        if self.asked(request).is_some() {
            return self.reject(request, error(RequestErrorCode::InternalError, &done.reason));
        }
        let Some(Kind::Publication(publication)) = self.requests.get_mut(&request).map(|entry| &mut entry.kind) else {
            return;
        };
        // They are finished.
        publication.fills.clear();
        let streams = publication.streams;
        for stream in publication.open.clone() {
            self.finish(stream);
        }
        let Some(gone) = self.remove_request(request) else { return };
        self.send(gone.stream, &Message::PublishDone(PublishDone { streams, ..done }));
        self.queue(Transmit::Finish { stream: gone.stream });
        self.let_go(gone.stream);
    }

    // ---- bookkeeping ----

    /// A request of the peer that has no answer.
    pub(super) fn asked(&mut self, request: RequestId) -> Option<&mut Request> {
        self.requests.get_mut(&request).filter(|entry| !entry.ours && entry.phase == Phase::Asked)
    }

    /// The answer to a request, ours or the peer's, was good; `largest` is what it said of the track.
    pub(super) fn accepted(&mut self, request: RequestId, largest: Option<Location>) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        entry.phase = Phase::Accepted;
        match entry.ours {
            true => self.send_waiting(request),
            false => self.tell_early_updates(request, largest),
        }
    }

    /// Takes a request out with its data streams; its own stream is the caller's affair.
    pub(super) fn remove_request(&mut self, request: RequestId) -> Option<Request> {
        let gone = self.requests.remove(&request)?;
        self.peer_requests -= usize::from(!gone.ours);
        match &gone.kind {
            Kind::Subscription(subscription) => {
                let fill = subscription.fill.as_ref().and_then(|fill| fill.stream);
                for stream in subscription.open.iter().chain(&fill) {
                    self.discard(*stream, ResetCode::Cancelled);
                }
                if let Some(alias) = subscription.alias {
                    self.aliases.retire(alias, request);
                    self.discard_held(alias);
                }
            }
            Kind::Publication(publication) => {
                for stream in publication.open.iter().chain(&publication.fills) {
                    self.drop_outbound(*stream, ResetCode::Cancelled as u64);
                }
            }
            Kind::Fetch(fetching) => {
                if let Some(stream) = fetching.stream {
                    match gone.ours {
                        true => self.discard(stream, ResetCode::Cancelled),
                        false => self.drop_outbound(stream, ResetCode::Cancelled as u64),
                    }
                }
            }
            Kind::Announcement | Kind::Listing(_) | Kind::Status | Kind::Tracks => {}
        }
        Some(gone)
    }

    /// The peer's half of a request stream says nothing more that matters.
    pub(super) fn let_go(&mut self, stream: StreamId) {
        if matches!(self.streams.get(&stream), Some(Stream::Request(state)) if state.fin) {
            self.streams.remove(&stream);
        } else if let Some(entry) = self.streams.get_mut(&stream) {
            *entry = Stream::Discarded;
        }
    }

    /// The time for late streams is over.
    pub(super) fn end_subscription(&mut self, request: RequestId) {
        if self.requests.get(&request).is_some_and(|entry| entry.phase == Phase::Ended)
            && let Some(gone) = self.remove_request(request)
        {
            self.let_go(gone.stream);
        }
    }
}
