//! What is asked of tracks beside a subscription: FETCH (§10.12), TRACK_STATUS (§10.14), SUBSCRIBE_TRACKS (§10.19).
//!
//! A FETCH is answered with everything at once: FETCH_OK, and one stream that is written whole. What the link has not taken of
//! it counts in [`Session::unwritten`]; a cancelled request resets it.

use bytes::BytesMut;

use super::requests::{Kind, Phase, error, with_tokens};
use super::streams::Stream;
use super::{Event, RequestId, Session, StreamId, Transmit, constants, priority};
use crate::moqt::error::{RequestErrorCode, ResetCode, Violation};
use crate::moqt::fetched::{Fetched, FetchedObjects};
use crate::moqt::message::{
    DEFAULT_PRIORITY, Fetch, FetchOk, GroupOrder, Message, Parameters, PublishBlocked, RequestError, RequestOk, Scopes,
    Subscribe, SubscribeOk, Token, Wishes,
};
use crate::moqt::name::TrackNamespace;
use crate::moqt::stream::{FETCH_HEADER, FetchReader};
use crate::moqt::varint;

/// A FETCH of either side.
pub(super) struct Fetching {
    order: GroupOrder,
    priority: u8,
    /// Its objects come or go here.
    pub(super) stream: Option<StreamId>,
    /// Ours: all of them came.
    ended: bool,
}

impl Fetching {
    pub(super) fn new(order: Option<GroupOrder>, priority: Option<u8>) -> Self {
        // Unlike a subscription's, a fetch's default order is fixed (§10.2.9).
        let order = order.unwrap_or(GroupOrder::Ascending);
        Self { order, priority: priority.unwrap_or(DEFAULT_PRIORITY), stream: None, ended: false }
    }
}

impl Fetching {
    /// Takes a new priority; its stream, and the priority it has now.
    pub(super) fn turn(&mut self, priority: Option<u8>) -> (Option<StreamId>, u8) {
        self.priority = priority.unwrap_or(self.priority);
        (self.stream, self.priority)
    }
}

// ---- asked by us ----

impl Session {
    /// [`Event::FetchOk`] or [`Event::RequestError`] answers; [`Event::Fetched`] and one [`Event::FetchEnd`] bring what there is.
    pub fn fetch(&mut self, fetch: Fetch, order: Option<GroupOrder>, tokens: Vec<Token>) -> RequestId {
        let kind = Kind::Fetch(Fetching::new(order, None));
        let parameters = Parameters { group_order: order, ..with_tokens(tokens) };
        self.request(kind, |id| Message::Fetch { id, fetch, parameters })
    }

    /// [`Event::TrackStatusOk`] or [`Event::RequestError`] answers. What is about delivery is not sent.
    pub fn track_status(&mut self, subscribe: Subscribe) -> RequestId {
        let parameters = with_tokens(subscribe.tokens);
        self.request(Kind::Status, |id| Message::TrackStatus { id, track: subscribe.track, parameters })
    }

    /// The peer is to PUBLISH what it has under the prefix, now and later.
    pub fn subscribe_tracks(&mut self, prefix: TrackNamespace, forward: bool, tokens: Vec<Token>) -> RequestId {
        self.subscribe_tracks_with(prefix, &Wishes { forward, ..Wishes::default() }, tokens)
    }

    /// The same with all that drafts since 20 can say of the subscriptions to come; others can't send it.
    pub fn subscribe_tracks_with(&mut self, prefix: TrackNamespace, wishes: &Wishes, tokens: Vec<Token>) -> RequestId {
        let parameters = Parameters { tokens, ..wishes.parameters() };
        self.request(Kind::Tracks, |id| Message::SubscribeTracks { id, prefix, parameters })
    }

    pub(super) fn handle_status(&mut self, request: RequestId, ok: RequestOk) {
        if let Err(violation) = ok.fit(self.draft, Scopes::TRACK_STATUS_OK) {
            return self.fail(violation);
        }
        let Some(gone) = self.remove_request(request) else { return };
        self.queue(Transmit::Finish { stream: gone.stream });
        self.let_go(gone.stream);
        let ok = SubscribeOk::from_parameters(ok.parameters, ok.properties);
        self.events.push_back(Event::TrackStatusOk { request, ok });
    }

    pub(super) fn handle_fetch_ok(&mut self, request: RequestId, ok: FetchOk) {
        self.events.push_back(Event::FetchOk { request, ok: Box::new(ok) });
        self.accepted(request, None);
        self.end_fetch(request);
    }

    pub(super) fn begin_fetched(&mut self, stream: StreamId, request: RequestId, mut reader: FetchReader, fin: bool) {
        let Some(fetching) = self.requests.get_mut(&request).and_then(|entry| entry.fetching()) else {
            return self.discard_opened(stream, fin, ResetCode::Cancelled);
        };
        if fetching.stream.is_some() || fetching.ended {
            return self.fail(Violation::protocol("a second stream for one FETCH"));
        }
        fetching.stream = Some(stream);
        reader.expect(fetching.order);
        self.streams.insert(stream, Stream::Fetched { request, reader });
        self.read_fetched(stream, fin);
    }

    /// Everything that is whole. What is held of the stream must not be counted as unfinished when this is called.
    pub(super) fn read_fetched(&mut self, stream: StreamId, fin: bool) {
        let Some(Stream::Fetched { request, reader }) = self.streams.get_mut(&stream) else { return };
        let request = *request;
        loop {
            match reader.read(self.limits.object_bytes) {
                Ok(Some(fetched)) => self.events.push_back(Event::Fetched { request, fetched }),
                Ok(None) => break,
                Err(violation) => return self.fail(violation),
            }
        }
        if fin {
            return match reader.finish() {
                Ok(()) => self.fetched_ended(stream, request, None),
                Err(violation) => self.fail(violation),
            };
        }
        let held = reader.held();
        self.unfinished_bytes += held;
        if held > 0 {
            self.watch_stalls();
        }
        if self.unfinished_bytes > constants::UNFINISHED_BYTES {
            self.counters.stopped += 1;
            self.discard(stream, ResetCode::ExcessiveLoad);
            self.note_fetch_end(request, Some(ResetCode::ExcessiveLoad as u64));
        }
    }

    pub(super) fn fetched_ended(&mut self, stream: StreamId, request: RequestId, reset: Option<u64>) {
        self.streams.remove(&stream);
        self.note_fetch_end(request, reset);
    }

    fn note_fetch_end(&mut self, request: RequestId, reset: Option<u64>) {
        if let Some(fetching) = self.requests.get_mut(&request).and_then(|entry| entry.fetching()) {
            fetching.stream = None;
            fetching.ended = true;
        }
        self.events.push_back(Event::FetchEnd { request, reset });
        self.end_fetch(request);
    }

    /// A fetch of ours is over when it was answered and everything came.
    fn end_fetch(&mut self, request: RequestId) {
        let over = self.requests.get(&request).is_some_and(|entry| {
            entry.phase == Phase::Accepted && matches!(&entry.kind, Kind::Fetch(fetching) if fetching.ended)
        });
        if over && let Some(gone) = self.remove_request(request) {
            self.end_our_half(gone.stream);
            self.let_go(gone.stream);
        }
    }

    // ---- asked by the peer ----

    pub(super) fn peer_fetches(&mut self, stream: StreamId, request: RequestId, fetch: Fetch, parameters: Parameters) {
        if let Some(refusal) = self.unjoinable(&fetch) {
            return self.refuse(stream, refusal);
        }
        let fetching = Fetching::new(parameters.group_order, parameters.priority);
        let (order, tokens, fill_timeout) = (fetching.order, parameters.tokens, parameters.fill_timeout);
        self.peer_asks(
            stream,
            request,
            Kind::Fetch(fetching),
            Event::Fetch { request, fetch, order, fill_timeout, tokens },
        );
    }

    /// A joining fetch belongs to a subscription of the peer, or to an accepted PUBLISH of ours, that forwards (§10.12.2).
    fn unjoinable(&self, fetch: &Fetch) -> Option<RequestError> {
        let (Fetch::RelativeJoining { request, .. } | Fetch::AbsoluteJoining { request, .. }) = fetch else {
            return None;
        };
        let joined = self.requests.get(&RequestId(*request)).filter(|entry| match entry.ours {
            true => entry.phase == Phase::Accepted,
            false => entry.phase != Phase::Ended,
        });
        let (code, reason) = match joined.map(|entry| &entry.kind) {
            Some(Kind::Publication(publication)) if publication.forward => return None,
            Some(Kind::Publication(_)) => (RequestErrorCode::InvalidRange, "the joined subscription does not forward"),
            _ => (RequestErrorCode::InvalidJoiningRequestId, "no subscription of this session has that Request ID"),
        };
        Some(error(code, reason))
    }

    /// FETCH_OK and all of its objects. What the stream can't say (a status, an order that is not the fetch's) is left out.
    pub fn answer_fetch(&mut self, request: RequestId, ok: FetchOk, items: impl IntoIterator<Item = Fetched>) {
        let Some(asked) = self.asked(request) else { return };
        let Kind::Fetch(fetching) = &asked.kind else { return };
        let (bidi, order, urgency) = (asked.stream, fetching.order, fetching.priority);
        let mut data = BytesMut::new();
        varint::put(&mut data, FETCH_HEADER);
        varint::put(&mut data, request.0);
        let mut writer = FetchedObjects::new(order);
        for item in items {
            writer.encode(&item, &mut data);
        }
        if !self.send(bidi, &Message::FetchOk(ok)) {
            let reason = "the answer is longer than 65535 bytes";
            self.reject(request, error(RequestErrorCode::InternalError, reason));
            return self.events.push_back(Event::Fulfilled { request });
        }
        self.accepted(request, None);
        let stream = self.send_whole(request, priority::data(urgency, DEFAULT_PRIORITY), data.freeze());
        if let Some(Kind::Fetch(fetching)) = self.requests.get_mut(&request).map(|entry| &mut entry.kind) {
            fetching.stream = Some(stream);
        }
    }

    /// The link took the last byte of a fetch stream.
    pub(super) fn fetch_written(&mut self, request: RequestId) {
        let entry = self.requests.get_mut(&request).filter(|entry| !entry.ours);
        let Some(Kind::Fetch(fetching)) = entry.map(|entry| &mut entry.kind) else { return };
        fetching.stream = None;
        if let Some(gone) = self.remove_request(request) {
            self.queue(Transmit::Finish { stream: gone.stream });
            self.let_go(gone.stream);
            self.events.push_back(Event::Fulfilled { request });
        }
    }

    /// Takes back what the link has not taken of an answered FETCH. Its own stream is reset too: the peer can't tell whose the other
    /// is when that did not get as far as its header.
    pub fn reset_fetch(&mut self, request: RequestId, code: ResetCode) {
        let entry = self.requests.get(&request).filter(|entry| !entry.ours);
        let Some(Kind::Fetch(Fetching { stream: Some(stream), .. })) = entry.map(|entry| &entry.kind) else { return };
        let code = code as u64;
        self.drop_outbound(*stream, code);
        if let Some(entry) = self.requests.get(&request) {
            self.queue(Transmit::Reset { stream: entry.stream, code });
        }
        if let Some(gone) = self.remove_request(request) {
            self.let_go(gone.stream);
        }
    }

    /// STOP_SENDING on a data stream of ours: of a subscription it ends one subgroup, of a FETCH all of it.
    pub(super) fn data_stopped(&mut self, stream: StreamId, code: u64) {
        let Some(request) = self.outbound.get(&stream).map(|outbound| outbound.request) else { return };
        self.drop_outbound(stream, code);
        let Some(entry) = self.requests.get(&request).filter(|entry| matches!(entry.kind, Kind::Fetch(_))) else {
            return;
        };
        let asked = entry.stream;
        self.withdrawn(request);
        self.queue(Transmit::Finish { stream: asked });
        self.let_go(asked);
    }

    /// TRACK_STATUS is answered like a SUBSCRIBE, and over.
    pub fn answer_track_status(&mut self, request: RequestId, ok: SubscribeOk) {
        if !self.asked(request).is_some_and(|asked| matches!(asked.kind, Kind::Status)) {
            return;
        }
        let Some(gone) = self.remove_request(request) else { return };
        let parameters = Parameters { largest: ok.largest, ..Parameters::default() };
        let properties = ok.track_properties();
        self.send(gone.stream, &Message::RequestOk(RequestOk { parameters, properties }));
        self.queue(Transmit::Finish { stream: gone.stream });
        self.let_go(gone.stream);
    }

    /// A track under an accepted SUBSCRIBE_TRACKS that can't be published to this peer.
    pub fn publish_blocked(&mut self, request: RequestId, blocked: PublishBlocked) {
        let tracks = self
            .requests
            .get(&request)
            .is_some_and(|entry| !entry.ours && entry.phase == Phase::Accepted && matches!(entry.kind, Kind::Tracks));
        if tracks {
            self.say(request, &Message::PublishBlocked(blocked));
        }
    }
}
