//! Data as it leaves: subgroup streams, datagrams, and how much of them the link still holds.
//!
//! Objects of one stream that are sent between two calls of [`Session::poll_transmit`] share a buffer and leave as one chunk.

use bytes::{Bytes, BytesMut};

use super::lateness::Ages;
use super::requests::{Kind, Phase, Publication};
use super::streams::Stream;
use super::{Dir, RequestId, Session, StreamId, SubgroupId, TooLarge, Transmit, constants};
use crate::moqt::error::ResetCode;
use crate::moqt::object::{Object, SubgroupHeader, encode_datagram};
use crate::moqt::subgroup::{Objects, encode_header};

/// What waits for the link.
pub(super) enum Queued {
    Ready(Transmit),
    /// The bytes of this stream's buffer.
    Flush(StreamId),
}

/// A subgroup stream of ours, until the link wrote all of it.
pub(super) struct Outbound {
    pub(super) request: RequestId,
    pub(super) objects: Objects,
    buffer: BytesMut,
    /// A flush is queued.
    queued: bool,
    /// Bytes that the link has not reported as written, the buffer's included.
    unwritten: usize,
    finished: bool,
    /// It was written at once: of a FETCH or a fill, and no part of a publication's backlog.
    whole: bool,
    pub(super) ages: Option<Box<Ages>>,
}

impl Session {
    // ---- media of a publication of ours (accepted SUBSCRIBE of the peer, or our accepted PUBLISH) ----

    /// Opens a subgroup stream. `None` when the request is unknown, ended, or not forwarding.
    pub fn open_subgroup(&mut self, request: RequestId, header: &SubgroupHeader) -> Option<SubgroupId> {
        self.place_groups(request, header.group);
        let publication = self.publication(request).filter(|publication| publication.forward)?;
        let (alias, priority) = (publication.alias, publication.urgency(header));
        let stream = self.open(Dir::Uni, priority);
        let mut buffer = BytesMut::with_capacity(constants::SUBGROUP_BUFFER);
        encode_header(alias, header, &mut buffer);
        let unwritten = buffer.len();
        let publication = self.publication(request)?;
        publication.streams += 1;
        publication.open.push(stream);
        publication.backlog += unwritten;
        let objects = Objects::new(*header);
        let ages = Ages::new(publication.timeouts, unwritten);
        let timed = usize::from(ages.is_some());
        let (queued, finished, whole) = (true, false, false);
        let outbound = Outbound { request, objects, buffer, queued, unwritten, finished, whole, ages };
        self.timed += timed;
        self.outbound.insert(stream, outbound);
        self.unwritten += unwritten;
        self.transmits.push_back(Queued::Flush(stream));
        Some(SubgroupId(stream.0))
    }

    /// Groups are ordered among those of their subscription that wait, and are all alike to others: where nothing waits the next group
    /// is the middle one again, else an old subscription would be sent behind a new one for ever.
    fn place_groups(&mut self, request: RequestId, group: u64) {
        let Some(publication) = self.publication(request).filter(|publication| publication.backlog == 0) else {
            return;
        };
        let far = publication.behind(group).unsigned_abs() > constants::GROUPS_IN_PLACE;
        if publication.open.is_empty() {
            publication.middle_group = group;
        } else if far {
            publication.middle_group = group;
            self.priority_changed(request);
        }
    }

    /// Appends an object to an open subgroup; ids must grow. Unknown subgroups do nothing (the peer may have stopped it). An object
    /// that the stream can't say resets it: its end would be a lie.
    pub fn send_object(&mut self, subgroup: SubgroupId, object: &Object) {
        let stream = StreamId(subgroup.0);
        let Some(outbound) = self.outbound.get_mut(&stream).filter(|outbound| !outbound.finished) else { return };
        let before = outbound.buffer.len();
        if outbound.objects.encode(object, &mut outbound.buffer).is_err() {
            self.counters.unsendable += 1;
            return self.drop_outbound(stream, ResetCode::InternalError as u64);
        }
        let bytes = outbound.buffer.len() - before;
        outbound.unwritten += bytes;
        self.unwritten += bytes;
        if let Some(ages) = &mut outbound.ages {
            ages.sent(bytes);
        }
        let (request, queued) = (outbound.request, std::mem::replace(&mut outbound.queued, true));
        if !queued {
            self.transmits.push_back(Queued::Flush(stream));
        }
        if let Some(publication) = self.publication(request) {
            publication.backlog += bytes;
        }
    }

    pub fn finish_subgroup(&mut self, subgroup: SubgroupId) {
        self.finish(StreamId(subgroup.0));
    }

    pub(super) fn finish(&mut self, stream: StreamId) {
        let Some(outbound) = self.outbound.get_mut(&stream).filter(|outbound| !outbound.finished) else { return };
        outbound.finished = true;
        if let Some(ages) = &mut outbound.ages {
            ages.finished();
        }
        let request = outbound.request;
        if outbound.unwritten == 0 {
            self.take_outbound(stream);
        }
        self.queue(Transmit::Finish { stream });
        self.close_stream(request, stream);
    }

    pub fn reset_subgroup(&mut self, subgroup: SubgroupId, code: u64) {
        let stream = StreamId(subgroup.0);
        if self.outbound.get(&stream).is_some_and(|outbound| !outbound.finished) {
            self.drop_outbound(stream, code);
        }
    }

    /// Resets a subgroup's stream also when it was finished: what is still on its way is not to arrive late. A stream that has
    /// arrived whole stays so.
    pub fn abandon_subgroup(&mut self, subgroup: SubgroupId, code: u64) {
        let stream = StreamId(subgroup.0);
        match self.outbound.contains_key(&stream) {
            true => self.drop_outbound(stream, code),
            false => self.queue(Transmit::Reset { stream, code }),
        }
    }

    /// Resets a stream, finished or not; what the link has of it no longer counts.
    pub(super) fn drop_outbound(&mut self, stream: StreamId, code: u64) {
        let Some(gone) = self.take_outbound(stream) else { return };
        self.unwritten -= gone.unwritten;
        if let Some(publication) = self.publication(gone.request).filter(|_| !gone.whole) {
            publication.backlog -= gone.unwritten;
        }
        self.close_stream(gone.request, stream);
        self.queue(Transmit::Reset { stream, code });
    }

    /// A stream that is written whole at once, and ends.
    pub(super) fn send_whole(&mut self, request: RequestId, priority: i32, data: Bytes) -> StreamId {
        let stream = self.open(Dir::Uni, priority);
        let (objects, buffer, unwritten) = (Objects::new(SubgroupHeader::default()), BytesMut::new(), data.len());
        let (queued, finished, whole, ages) = (false, true, true, None);
        let outbound = Outbound { request, objects, buffer, queued, unwritten, finished, whole, ages };
        self.outbound.insert(stream, outbound);
        self.unwritten += unwritten;
        self.queue(Transmit::Data { stream, data });
        self.queue(Transmit::Finish { stream });
        stream
    }

    fn take_outbound(&mut self, stream: StreamId) -> Option<Outbound> {
        let gone = self.outbound.remove(&stream)?;
        self.timed -= usize::from(gone.ages.is_some());
        Some(gone)
    }

    fn close_stream(&mut self, request: RequestId, stream: StreamId) {
        if let Some(publication) = self.publication(request) {
            publication.open.retain(|open| *open != stream);
            publication.fills.retain(|open| *open != stream);
        }
    }

    /// An object as a datagram. A publication that is over or does not forward sends nothing.
    pub fn send_datagram(&mut self, request: RequestId, object: &Object) -> Result<(), TooLarge> {
        let Some(publication) = self.publication(request).filter(|publication| publication.forward) else {
            return Ok(());
        };
        let alias = publication.alias;
        let max = self.max_datagram.ok_or(TooLarge)?;
        if object.payload.len() + object.properties.len() > max {
            return Err(TooLarge);
        }
        if self.datagrams.capacity() < max {
            self.datagrams.reserve(max.max(constants::DATAGRAM_BUFFER));
        }
        if encode_datagram(alias, object, &mut self.datagrams).is_err() {
            self.counters.unsendable += 1;
            return Ok(());
        }
        if self.datagrams.len() > max {
            self.datagrams.clear();
            return Err(TooLarge);
        }
        let data = self.datagrams.split().freeze();
        self.queue(Transmit::Datagram { request, data });
        Ok(())
    }

    /// An accepted publication whose objects are wanted now.
    pub fn is_forwarding(&self, request: RequestId) -> bool {
        let entry = self.requests.get(&request).filter(|entry| entry.phase == Phase::Accepted);
        entry.and_then(|entry| entry.publication()).is_some_and(|publication| publication.forward)
    }

    /// Bytes of the publication's streams that the session or its link still holds.
    pub fn backlog(&self, request: RequestId) -> usize {
        self.held(request).0
    }

    /// [`Session::backlog`], and datagrams of the publication that its link dropped.
    pub fn held(&self, request: RequestId) -> (usize, u64) {
        match self.requests.get(&request).map(|entry| &entry.kind) {
            Some(Kind::Publication(publication)) => (publication.backlog, publication.dropped),
            _ => (0, 0),
        }
    }

    /// A datagram waited too long for its link, or does not fit it any more.
    pub fn handle_dropped(&mut self, request: RequestId) {
        if let Some(publication) = self.publication(request) {
            publication.dropped += 1;
        }
    }

    /// Bytes of all subgroup streams that the session or its link still holds, of ended publications too.
    pub fn unwritten(&self) -> usize {
        self.unwritten
    }

    fn publication(&mut self, request: RequestId) -> Option<&mut Publication> {
        let entry = self.requests.get_mut(&request).filter(|entry| entry.phase == Phase::Accepted)?;
        match &mut entry.kind {
            Kind::Publication(publication) => Some(publication),
            _ => None,
        }
    }

    pub(super) fn written(&mut self, stream: StreamId, bytes: usize) {
        let Some(outbound) = self.outbound.get_mut(&stream) else {
            if let Some(Stream::Request(state)) = self.streams.get_mut(&stream) {
                state.unwritten = state.unwritten.saturating_sub(bytes);
            }
            return;
        };
        // Never more than the link was given: the buffer is still here.
        let bytes = bytes.min(outbound.unwritten - outbound.buffer.len());
        outbound.unwritten -= bytes;
        self.unwritten -= bytes;
        if let Some(ages) = &mut outbound.ages {
            ages.taken(bytes);
        }
        let (request, whole) = (outbound.request, outbound.whole);
        let done = outbound.finished && outbound.unwritten == 0;
        if done {
            self.take_outbound(stream);
        }
        match self.publication(request) {
            Some(publication) if !whole => publication.backlog -= bytes,
            Some(_) if done => self.close_stream(request, stream),
            None if done => self.fetch_written(request),
            _ => {}
        }
    }

    /// The bytes that a queued flush stands for; `None` when the stream was reset meanwhile.
    pub(super) fn take_buffer(&mut self, stream: StreamId) -> Option<Bytes> {
        let outbound = self.outbound.get_mut(&stream)?;
        outbound.queued = false;
        Some(outbound.buffer.split().freeze()).filter(|data| !data.is_empty())
    }
}
