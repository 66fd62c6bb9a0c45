//! FETCH in both roles (§10.12, §10.13, §11.4.4): a request, its answer, and one stream of objects that belongs to it.

use bytes::BytesMut;

use super::outbound::Told;
use super::requests::{Fetching, Kind, Phase, Publication, Request, error};
use super::streams::Stream;
use super::{Event, RequestId, Session, StreamId, SubgroupId, Transmit, constants, priority};
use crate::moqt::error::{RequestErrorCode, ResetCode, Violation};
use crate::moqt::fetched::{self, Fetched};
use crate::moqt::message::{Fetch, FetchOk, FetchRequest, Message, Parameters, RequestError};
use crate::moqt::stream::FetchReader;

impl Session {
    // ---- we fetch ----

    /// Answered by [`Event::FetchOk`]; objects are [`Event::Fetched`], and [`Event::FetchEnd`] is their end. A joining fetch names the
    /// number of a [`RequestId`] of [`Session::subscribe`].
    pub fn fetch(&mut self, fetch: FetchRequest) -> RequestId {
        let parameters = fetch.parameters();
        let kind = Kind::Fetching(Fetching { order: fetch.group_order, stream: None, ended: false });
        self.request(kind, |id| Message::Fetch { id, fetch: fetch.fetch, parameters })
    }

    pub(super) fn handle_fetch_ok(&mut self, request: RequestId, ok: FetchOk) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        entry.phase = Phase::Accepted;
        self.events.push_back(Event::FetchOk { request, ok: Box::new(ok) });
        self.fetch_done(request);
    }

    pub(super) fn begin_fetch(&mut self, stream: StreamId, request: RequestId, reader: FetchReader, fin: bool) {
        match self.requests.get_mut(&request) {
            Some(Request { ours: true, kind: Kind::Fetching(fetching), .. }) => {
                if fetching.stream.replace(stream).is_some() {
                    return self.fail(Violation::protocol("a second stream for one fetch"));
                }
                let reader = reader.in_order(fetching.order);
                self.streams.insert(stream, Stream::Fetch { request, reader });
                self.read_fetch(stream, fin);
            }
            // It was cancelled or refused meanwhile.
            None if request.0 < self.next_request && request.0 % 2 == self.next_request % 2 => {
                self.counters.late_streams += 1;
                self.discard_opened(stream, fin, ResetCode::Cancelled);
            }
            _ => self.fail(Violation::protocol("objects of a fetch that was never asked for")),
        }
    }

    /// Every item that is whole. What is held of the stream must not be counted as unfinished when this is called.
    pub(super) fn read_fetch(&mut self, stream: StreamId, fin: bool) {
        let Some(Stream::Fetch { request, reader }) = self.streams.get_mut(&stream) else { return };
        let request = *request;
        loop {
            match reader.read(self.limits.object_bytes) {
                Ok(Some(item)) => self.events.push_back(Event::Fetched { request, item }),
                Ok(None) => break,
                Err(violation) => return self.fail(violation),
            }
        }
        if fin {
            return match reader.finish() {
                Ok(()) => self.fetch_ended(stream, request, None),
                Err(violation) => self.fail(violation),
            };
        }
        self.unfinished_bytes += reader.held();
        if self.unfinished_bytes > constants::UNFINISHED_BYTES {
            self.counters.stopped += 1;
            self.discard(stream, ResetCode::ExcessiveLoad);
            self.note_fetch_end(request, Some(ResetCode::ExcessiveLoad as u64));
        }
    }

    pub(super) fn fetch_ended(&mut self, stream: StreamId, request: RequestId, reset: Option<u64>) {
        self.streams.remove(&stream);
        self.note_fetch_end(request, reset);
    }

    fn note_fetch_end(&mut self, request: RequestId, reset: Option<u64>) {
        if let Some(Request { kind: Kind::Fetching(fetching), .. }) = self.requests.get_mut(&request) {
            fetching.ended = true;
        }
        self.events.push_back(Event::FetchEnd { request, reset });
        self.fetch_done(request);
    }

    /// Over when both the answer and the end of the objects are here.
    fn fetch_done(&mut self, request: RequestId) {
        let Some(entry) = self.requests.get(&request) else { return };
        if entry.phase == Phase::Accepted
            && matches!(&entry.kind, Kind::Fetching(fetching) if fetching.ended)
            && let Some(gone) = self.remove_request(request)
        {
            self.end_our_half(gone.stream);
            self.let_go(gone.stream);
        }
    }

    // ---- the peer fetches ----

    pub(super) fn peer_fetches(&mut self, stream: StreamId, request: RequestId, fetch: Fetch, parameters: Parameters) {
        if let Some(refusal) = self.cannot_join(&fetch) {
            return self.refuse(stream, refusal);
        }
        let fetch = FetchRequest::from_parameters(fetch, parameters);
        let kind = Kind::Serving(Publication::new(true, fetch.priority));
        self.peer_asks(stream, request, kind, Event::Fetch { request, fetch: Box::new(fetch) });
    }

    fn cannot_join(&self, fetch: &Fetch) -> Option<RequestError> {
        let (Fetch::RelativeJoining { request, .. } | Fetch::AbsoluteJoining { request, .. }) = fetch else {
            return None;
        };
        match self.requests.get(&RequestId(*request)) {
            Some(Request { ours: false, kind: Kind::Publication(joined), .. }) => (!joined.forward)
                .then(|| error(RequestErrorCode::InvalidRange, "the subscription to join does not forward objects")),
            _ => Some(error(RequestErrorCode::InvalidJoiningRequestId, "there is no such subscription to join")),
        }
    }

    /// FETCH_OK, and the stream for the objects: [`Session::send_object`] in the order that was asked for (statuses are not told
    /// there), then [`Session::finish_subgroup`], or [`Session::reset_subgroup`] when the rest can't be had. With either of them
    /// the request is over. `None`: unknown, or cancelled.
    pub fn accept_fetch(&mut self, request: RequestId, fetch: &FetchRequest, ok: FetchOk) -> Option<SubgroupId> {
        let asked = self.asked(request)?;
        let Kind::Serving(serving) = &asked.kind else { return None };
        let (stream, subscriber) = (asked.stream, serving.subscriber_priority);
        if !self.send(stream, &Message::FetchOk(ok)) {
            let reason = "the answer is longer than 65535 bytes";
            self.reject(request, error(RequestErrorCode::InternalError, reason));
            return None;
        }
        self.accepted(request);
        let mut buffer = BytesMut::with_capacity(constants::SUBGROUP_BUFFER);
        fetched::encode_header(request.0, &mut buffer);
        let priority = priority::data(subscriber, crate::moqt::message::DEFAULT_PRIORITY);
        self.open_outbound(request, priority, Told::Fetch(Fetched::new(fetch.group_order)), buffer)
    }

    /// The stream of a fetch that was accepted has ended, one way or the other.
    pub(super) fn fetch_served(&mut self, request: RequestId) {
        if !matches!(self.requests.get(&request), Some(Request { kind: Kind::Serving(_), .. })) {
            return;
        }
        if let Some(gone) = self.remove_request(request) {
            self.queue(Transmit::Finish { stream: gone.stream });
            self.let_go(gone.stream);
        }
    }
}
