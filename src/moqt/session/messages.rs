//! What the peer says on request streams: its own requests, its answers to ours, and how the streams end.

use super::fill;
use super::lateness::Timeouts;
use super::requests::{Kind, Phase, Publication, Request, Subscription, error, silence};
use super::streams::Stream;
use super::{Event, RequestId, Role, Session, StreamId, Transmit, constants};
use crate::moqt::error::{CloseCode, PublishDoneCode, RequestErrorCode, ResetCode, Violation};
use crate::moqt::message::{
    Message, Parameters, Publish, PublishDone, PublishOk, RequestError, RequestOk, Scopes, Subscribe, SubscribeOk,
    TrackProperties, Wishes,
};
use crate::moqt::name::{FullTrackName, TrackNamespace};

impl Session {
    pub(super) fn request_data(&mut self, stream: StreamId, data: bytes::Bytes, fin: bool) {
        let Some(Stream::Request(state)) = self.streams.get_mut(&stream) else { return };
        let len = data.len();
        state.push(data, fin);
        if self.is_set_up {
            return self.read_request(stream);
        }
        if !std::mem::replace(&mut state.early, true) {
            self.early.push(stream);
        }
        self.early_bytes += len;
        if self.early_bytes > constants::EARLY_BYTES {
            self.early_bytes -= len;
            self.counters.refused += 1;
            let code = ResetCode::ExcessiveLoad as u64;
            self.queue(Transmit::Stop { stream, code });
            self.request_stream_ended(stream, true);
        }
    }

    /// Everything that is whole, then the FIN.
    pub(super) fn read_request(&mut self, stream: StreamId) {
        loop {
            let Some(Stream::Request(state)) = self.streams.get_mut(&stream) else { return };
            match (state.reader.read(), state.request) {
                (Ok(Some(message)), Some(request)) => self.handle_message(request, message),
                (Ok(Some(message)), None) => self.handle_first(stream, message),
                (Ok(None), _) => break,
                (Err(violation), _) => return self.fail(violation),
            }
        }
        let Some(Stream::Request(state)) = self.streams.get(&stream) else { return };
        if state.fin {
            match state.reader.finish() {
                Ok(()) => self.request_stream_ended(stream, false),
                Err(violation) => self.fail(violation),
            }
        }
    }

    // ---- the peer asks ----

    fn handle_first(&mut self, stream: StreamId, mut message: Message) {
        let Some(id) = message.asks() else {
            return self.fail(Violation::protocol("a request stream that begins with no request"));
        };
        if !self.peer_ids.take(id) {
            return self
                .fail(Violation::new(CloseCode::InvalidRequestId, "a Request ID of the wrong parity or used twice"));
        }
        let id = RequestId(id);
        // Also of a request that is refused: later ones may refer to what it registered (§10.2.2).
        if let Err(violation) = self.resolve_tokens(message.asking_parameters()) {
            return self.fail(violation);
        }
        if let Some(error) = self.refusal_of(&message) {
            if let Message::Publish { alias, .. } = message {
                self.aliases.refuse(alias);
                self.discard_held(alias);
            }
            return self.refuse(stream, error);
        }
        match message {
            Message::Subscribe { track, parameters, .. } => self.peer_subscribes(stream, id, track, parameters),
            Message::Publish { track, alias, parameters, properties, .. } => {
                let publish = Publish::from_parameters(track, parameters, properties);
                self.peer_publishes(stream, id, alias, publish);
            }
            Message::PublishNamespace { namespace, parameters, .. } => {
                let tokens = parameters.tokens;
                let event = Event::PublishNamespace { request: id, namespace, tokens };
                self.peer_asks(stream, id, Kind::Announcement, event);
            }
            Message::SubscribeNamespace { prefix, parameters, .. } => {
                let (tokens, tracks) = (parameters.tokens, parameters.forward);
                let event = Event::SubscribeNamespace { request: id, prefix, tracks, tokens };
                self.peer_asks(stream, id, Kind::Listing(Default::default()), event);
            }
            Message::Fetch { fetch, parameters, .. } => self.peer_fetches(stream, id, fetch, parameters),
            Message::TrackStatus { track, parameters, .. } => {
                let subscribe = Subscribe::from_parameters(track, parameters);
                self.peer_asks(stream, id, Kind::Status, Event::TrackStatus { request: id, subscribe });
            }
            Message::SubscribeTracks { prefix, parameters, .. } => {
                let (wishes, tokens) = (Wishes::from_parameters(&parameters), parameters.tokens);
                let event = Event::SubscribeTracks { request: id, prefix, wishes, tokens };
                self.peer_asks(stream, id, Kind::Tracks, event);
            }
            _ => {}
        }
    }

    /// What is refused without asking the application.
    fn refusal_of(&mut self, message: &Message) -> Option<RequestError> {
        if self.goaway_sent {
            return Some(error(RequestErrorCode::GoingAway, "this session takes no new requests"));
        }
        if self.peer_requests >= self.limits.requests {
            self.counters.refused += 1;
            let retry_after = Some(constants::RETRY_AFTER);
            let refusal = error(RequestErrorCode::ExcessiveLoad, "more open requests than this session may have");
            return Some(RequestError { retry_after, ..refusal });
        }
        if let Some(refusal) = fill::unserved_of(message) {
            return Some(refusal);
        }
        match message {
            Message::Fetch { .. } | Message::TrackStatus { .. } | Message::SubscribeTracks { .. }
                if self.role == Role::Client =>
            {
                Some(error(RequestErrorCode::NotSupported, "this endpoint does not serve such requests"))
            }
            Message::Publish { properties, .. } if properties.has_mandatory() => Some(unsupported_extension()),
            _ => None,
        }
    }

    pub(super) fn peer_asks(&mut self, stream: StreamId, id: RequestId, kind: Kind, event: Event) {
        if let Some(Stream::Request(state)) = self.streams.get_mut(&stream) {
            state.request = Some(id);
            self.requests.insert(id, Request::new(stream, false, kind));
            self.peer_requests += 1;
            self.events.push_back(event);
        }
    }

    fn peer_subscribes(&mut self, stream: StreamId, request: RequestId, track: FullTrackName, parameters: Parameters) {
        let (fill, timeouts) = (fill::wanted(&parameters), Timeouts::asked(&parameters));
        let subscribe = Subscribe::from_parameters(track, parameters);
        let group_order = subscribe.group_order;
        let publication = Publication::new(subscribe.forward, subscribe.priority);
        let publication = Publication { fill, timeouts, group_order, ..publication };
        self.peer_asks(stream, request, Kind::Publication(publication), Event::Subscribe { request, subscribe });
    }

    fn peer_publishes(&mut self, stream: StreamId, request: RequestId, alias: u64, publish: Publish) {
        if self.name_alias(alias, request, &publish.track) {
            let subscription = Subscription::new(publish.track.clone(), Some(alias));
            let dynamic_groups = publish.properties.has_dynamic_groups();
            let kind = Kind::Subscription(Subscription { forward: publish.forward, dynamic_groups, ..subscription });
            self.peer_asks(stream, request, kind, Event::Publish { request, publish });
        }
    }

    /// `false`: the alias is another live track's, and the session is over (§11.1).
    fn name_alias(&mut self, alias: u64, request: RequestId, track: &FullTrackName) -> bool {
        let taken = match self.aliases.owner(alias) {
            super::aliases::Owner::Request(other) => self.requests.get(&other).is_some_and(|other| match &other.kind {
                Kind::Subscription(subscription) => other.phase != Phase::Ended && subscription.track != *track,
                _ => false,
            }),
            _ => false,
        };
        if taken {
            self.fail(Violation::new(CloseCode::DuplicateTrackAlias, "one track alias for two tracks"));
        } else {
            self.aliases.name(alias, request);
        }
        !taken
    }

    // ---- the peer answers, updates and ends ----

    fn handle_message(&mut self, id: RequestId, message: Message) {
        let Some(entry) = self.requests.get_mut(&id) else { return };
        let (ours, asked) = (entry.ours, entry.phase == Phase::Asked);
        match (message, &mut entry.kind) {
            (Message::SubscribeOk { alias, parameters, properties }, Kind::Subscription(_)) if ours && asked => {
                self.handle_subscribe_ok(id, alias, parameters, properties);
            }
            (Message::RequestOk(ok), Kind::Status) if ours && asked => self.handle_status(id, ok),
            (Message::RequestOk(ok), _) if ours && asked => self.handle_request_ok(id, &ok),
            (Message::FetchOk(ok), Kind::Fetch(_)) if ours && asked => self.handle_fetch_ok(id, ok),
            (Message::RequestOk(ok), _) if !asked && !entry.sent_updates.is_empty() => self.handle_update_ok(id, &ok),
            (Message::RequestError(error), _) if !asked && !entry.sent_updates.is_empty() => {
                self.handle_update_error(id, error)
            }
            (Message::PublishBlocked(blocked), Kind::Tracks) if ours && !asked => {
                self.events.push_back(Event::PublishBlocked { request: id, blocked });
            }
            (Message::RequestError(error), _) if ours && asked => self.handle_request_error(id, error),
            (Message::Redirected { error, redirect }, _) if ours && asked => {
                if self.role == Role::Server && !redirect.uri.is_empty() {
                    return self.fail(Violation::protocol("a client sends a server elsewhere"));
                }
                self.handle_request_error(id, error);
            }
            (Message::PublishDone(done), Kind::Subscription(_)) if entry.phase != Phase::Ended && !(ours && asked) => {
                self.handle_publish_done(id, done);
            }
            (Message::RequestUpdate { id: update, parameters }, kind) => {
                match !ours || matches!(kind, Kind::Publication(_)) {
                    true => self.handle_update(id, update, parameters),
                    false => self.out_of_place(),
                }
            }
            (Message::Namespace(suffix), Kind::Listing(_)) if ours && !asked => self.handle_namespace(id, suffix),
            (Message::NamespaceDone(suffix), Kind::Listing(shown)) if ours && !asked => match shown.remove(&suffix) {
                true => self.events.push_back(Event::NamespaceDone { request: id, suffix }),
                false => self.fail(Violation::protocol("NAMESPACE_DONE before its NAMESPACE")),
            },
            // It informs; what it may change is the peer's affair.
            (Message::PublishStateNotify(_), Kind::Subscription(_)) if !(ours && asked) => {}
            (Message::GoAway { goaway, request: None }, _) if !entry.goaway => {
                entry.goaway = true;
                match self.role == Role::Server && !goaway.uri.is_empty() {
                    true => self.fail(Violation::protocol("a client sends a server elsewhere")),
                    false => self.events.push_back(Event::RequestGoAway { request: id, goaway }),
                }
            }
            _ => self.out_of_place(),
        }
    }

    pub(super) fn out_of_place(&mut self) {
        self.fail(Violation::protocol("a message that this request can't have here"));
    }

    fn handle_subscribe_ok(
        &mut self,
        request: RequestId,
        alias: u64,
        parameters: Parameters,
        properties: TrackProperties,
    ) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        let Kind::Subscription(subscription) = &mut entry.kind else { return };
        let track = subscription.track.clone();
        subscription.alias = Some(alias);
        subscription.delivers = true;
        subscription.dynamic_groups = properties.has_dynamic_groups();
        if !self.name_alias(alias, request, &track) {
            return;
        }
        if properties.has_mandatory() {
            // §2.5.1: such a track is neither processed nor passed on.
            self.cancel(request);
            return self.events.push_back(Event::RequestError { request, error: unsupported_extension() });
        }
        let ok = SubscribeOk::from_parameters(parameters, properties);
        self.events.push_back(Event::SubscribeOk { request, ok });
        self.accepted(request, None);
        self.release(alias, request);
    }

    fn handle_request_ok(&mut self, request: RequestId, ok: &RequestOk) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        let scopes = match entry.kind {
            Kind::Publication(_) => Scopes::PUBLISH_OK,
            Kind::Announcement | Kind::Listing(_) | Kind::Tracks => Scopes::NAMESPACE_OK,
            Kind::Subscription(_) | Kind::Fetch(_) | Kind::Status => return self.out_of_place(),
        };
        if let Err(violation) = ok.fit(self.draft, scopes) {
            return self.fail(violation);
        }
        self.events.push_back(Event::RequestOk { request });
        if let Kind::Publication(publication) = &mut entry.kind {
            let said = PublishOk::from_parameters(&ok.parameters);
            // Since draft 20 the answer says nothing of it: what the PUBLISH said goes on.
            let PublishOk { forward, priority, filter, .. } = match self.draft.profile().publish_ok_subscribes {
                true => said,
                false => PublishOk {
                    forward: publication.forward,
                    priority: publication.subscriber_priority,
                    filter: None,
                    expires: None,
                },
            };
            publication.forward = forward;
            publication.subscriber_priority = priority;
            if !forward || filter.is_some() {
                self.events.push_back(Event::Updated { request, forward, filter });
            }
        }
        self.accepted(request, None);
    }

    pub(super) fn handle_request_error(&mut self, request: RequestId, error: RequestError) {
        let Some(gone) = self.remove_request(request) else { return };
        self.events.push_back(Event::RequestError { request, error });
        self.end_our_half(gone.stream);
        self.let_go(gone.stream);
    }

    fn handle_publish_done(&mut self, request: RequestId, done: PublishDone) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        entry.phase = Phase::Ended;
        self.ending.push_back((self.now + constants::LATE_STREAMS, request));
        self.events.push_back(Event::PublishDone { request, done });
    }

    pub(super) fn resolve_tokens(&mut self, parameters: Option<&mut Parameters>) -> Result<(), Violation> {
        let Some(parameters) = parameters else { return Ok(()) };
        for form in std::mem::take(&mut parameters.token_aliases) {
            parameters.tokens.extend(self.token_cache.resolve(form)?);
        }
        Ok(())
    }

    fn handle_namespace(&mut self, request: RequestId, suffix: TrackNamespace) {
        let Some(Kind::Listing(shown)) = self.requests.get_mut(&request).map(|entry| &mut entry.kind) else { return };
        if shown.len() < constants::NAMESPACES_PER_LISTING || shown.contains(&suffix) {
            shown.insert(suffix.clone());
            self.events.push_back(Event::Namespace { request, suffix });
        } else {
            self.cancel(request);
            let error = error(RequestErrorCode::ExcessiveLoad, "more namespaces than one request may list");
            self.events.push_back(Event::RequestError { request, error });
        }
    }

    // ---- how request streams end ----

    pub(super) fn end_our_half(&mut self, stream: StreamId) {
        if matches!(self.streams.get(&stream), Some(Stream::Request(state)) if !state.mute) {
            self.queue(Transmit::Finish { stream });
        }
    }

    /// Since draft 19 a FIN says only that nothing more will be said. Whose last word is still due has failed by it: PUBLISH_DONE,
    /// or an answer.
    fn goes_on(&self, stream: StreamId) -> bool {
        let Some(Stream::Request(state)) = self.streams.get(&stream) else { return false };
        let Some(entry) = state.request.and_then(|request| self.requests.get(&request)) else { return false };
        match entry.kind {
            Kind::Subscription(_) => false,
            Kind::Listing(_) | Kind::Tracks => !entry.ours,
            Kind::Fetch(_) | Kind::Status => false,
            Kind::Publication(_) | Kind::Announcement => !entry.ours || entry.phase == Phase::Accepted,
        }
    }

    /// FETCH and TRACK_STATUS are whole with their one message (§10.14), so its FIN withdraws nothing, in no draft.
    fn has_said_all(&self, stream: StreamId) -> bool {
        let Some(Stream::Request(state)) = self.streams.get(&stream) else { return false };
        let entry = state.request.and_then(|request| self.requests.get(&request));
        entry.is_some_and(|entry| !entry.ours && matches!(entry.kind, Kind::Fetch(_) | Kind::Status))
    }

    /// FIN or RESET_STREAM of the peer: whatever was asked on the stream is over.
    pub(super) fn request_stream_ended(&mut self, stream: StreamId, reset: bool) {
        if !reset && (self.has_said_all(stream) || !self.draft.profile().fin_cancels && self.goes_on(stream)) {
            return;
        }
        let Some(Stream::Request(state)) = self.streams.remove(&stream) else { return };
        match reset || state.request.is_none() {
            _ if state.mute => {}
            true => self.queue(Transmit::Reset { stream, code: ResetCode::Cancelled as u64 }),
            false => self.queue(Transmit::Finish { stream }),
        }
        let Some(request) = state.request else { return };
        let Some(entry) = self.requests.get(&request).filter(|entry| entry.phase != Phase::Ended) else { return };
        let (ours, asked) = (entry.ours, entry.phase == Phase::Asked);
        match &entry.kind {
            Kind::Subscription(_) if ours && !asked => {
                let code = PublishDoneCode::InternalError as u64;
                self.handle_publish_done(request, PublishDone { code, streams: 0, reason: String::new() });
            }
            Kind::Publication(_) if ours && !asked => self.withdrawn(request),
            // What was asked comes on a stream of its own.
            Kind::Fetch(_) if ours && !asked && !reset => {}
            Kind::Listing(_) if ours => {
                if let Some(Request { kind: Kind::Listing(shown), .. }) = self.remove_request(request) {
                    self.events.extend(shown.into_iter().map(|suffix| Event::NamespaceDone { request, suffix }));
                }
                self.events.push_back(Event::RequestError { request, error: silence() });
            }
            _ if ours => {
                self.remove_request(request);
                self.events.push_back(Event::RequestError { request, error: silence() });
            }
            _ => self.withdrawn(request),
        }
    }

    pub(super) fn withdrawn(&mut self, request: RequestId) {
        self.remove_request(request);
        self.events.push_back(Event::Cancelled { request });
    }

    /// STOP_SENDING on a request stream. To our own requests it is no answer yet: that is on the other half, perhaps behind.
    pub(super) fn request_stopped(&mut self, stream: StreamId, code: u64) {
        let Some(Stream::Request(state)) = self.streams.get_mut(&stream) else { return };
        if std::mem::replace(&mut state.mute, true) {
            return;
        }
        let request = state.request;
        self.queue(Transmit::Reset { stream, code });
        let Some(request) = request else { return };
        let Some(entry) = self.requests.get(&request) else { return };
        let subscriber_left = matches!(entry.kind, Kind::Publication(_)) && entry.phase == Phase::Accepted;
        if subscriber_left || !entry.ours && entry.phase != Phase::Ended {
            self.withdrawn(request);
            self.let_go(stream);
        }
    }
}

fn unsupported_extension() -> RequestError {
    error(RequestErrorCode::UnsupportedExtension, "the track has a mandatory property that is not known here")
}
