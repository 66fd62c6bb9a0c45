//! Objects on their way through: never parsed, never held back, never reordered within a stream.

use std::time::Instant;

use super::track::{FlowId, Track};
use super::{Core, Counters, Role, Sessions, constants};
use crate::moqt::message::{Filter, Location};
use crate::moqt::session::RequestId;
use crate::moqt::{Object, PublishDoneCode, ResetCode, StreamId, SubgroupHeader};

/// A subscription, by session and request.
type Who = (u64, RequestId);

impl Core {
    pub(super) fn handle_subgroup(&mut self, (key, request): Who, stream: StreamId, header: SubgroupHeader) {
        let Some(id) = self.source_track(key, request) else { return };
        let Some(track) = self.tracks.get_mut(&id) else { return };
        if let Some(source) = track.source(key, request) {
            source.streams += 1;
        }
        track.open_flow((key, stream), header);
    }

    pub(super) fn handle_object(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): Who,
        stream: Option<StreamId>,
        object: &Object,
        now: Instant,
    ) {
        let Some(id) = self.source_track(key, request) else { return };
        let Some(track) = self.tracks.get_mut(&id) else { return };
        self.counters.objects_in += 1;
        let at = Location { group: object.group, object: object.id };
        let behind = match stream {
            Some(stream) => match track.admit((key, stream), object) {
                Some(header) => track.forward(sessions, ((key, stream), &header), object, &mut self.counters, now),
                None => return self.counters.duplicates += 1,
            },
            None if !track.admit_datagram(key, at) => return self.counters.duplicates += 1,
            None => {
                track.forward_datagram(sessions, object, &mut self.counters);
                Vec::new()
            }
        };
        track.saw(at);
        for who in behind {
            self.counters.too_far_behind += 1;
            self.end_subscription(sessions, id, who, PublishDoneCode::TooFarBehind);
            self.rest(sessions, id);
        }
    }

    pub(super) fn handle_subgroup_end(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): Who,
        stream: StreamId,
        reset: Option<u64>,
    ) {
        let Some(id) = self.source_track(key, request) else { return };
        let Some(track) = self.tracks.get_mut(&id) else { return };
        track.end_flow(sessions, (key, stream), reset.map(reset_code));
        self.end_if_complete(sessions, id, key, request);
    }

    /// A subscriber changed its mind. Its session has reset what was open when it wants nothing any more.
    pub(super) fn handle_updated(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): Who,
        forward: bool,
        filter: Option<Filter>,
    ) {
        let Some(Role::Subscription { track, .. }) = self.peers.get(&key).and_then(|p| p.requests.get(&request)) else {
            return;
        };
        let Some(track) = self.tracks.get_mut(track) else { return };
        let largest = track.largest();
        let Some(subscriber) = track.subscribers.iter_mut().find(|s| (s.key, s.request) == (key, request)) else {
            return;
        };
        if filter.is_some() {
            subscriber.narrow(filter, largest);
        }
        // What is left out of an open stream, for either reason, forbids its FIN (§11.4.3).
        if let (Some(session), true) = (sessions.session(key), !forward || filter.is_some()) {
            for (_, subgroup) in subscriber.open.drain(..) {
                session.reset_subgroup(subgroup, ResetCode::Cancelled as u64);
            }
        }
    }
}

impl Track {
    /// One object of a stream to every subscriber that wants it; returns those that have fallen too far behind.
    fn forward(
        &mut self,
        sessions: &mut dyn Sessions,
        (flow, header): (FlowId, &SubgroupHeader),
        object: &Object,
        counters: &mut Counters,
        now: Instant,
    ) -> Vec<Who> {
        let at = Location { group: object.group, object: object.id };
        let mut behind = Vec::new();
        for subscriber in self.subscribers.iter_mut().filter(|subscriber| subscriber.wants(at)) {
            let Some(session) = sessions.session(subscriber.key) else { continue };
            // Before the stream is opened: its header is handed over with the object.
            let before = session.backlog(subscriber.request);
            let open = subscriber.open.iter().find(|(id, _)| *id == flow).map(|(_, subgroup)| *subgroup);
            let Some(subgroup) = open.or_else(|| {
                let subgroup = session.open_subgroup(subscriber.request, header)?;
                subscriber.open.push((flow, subgroup));
                Some(subgroup)
            }) else {
                continue;
            };
            session.send_object(subgroup, object);
            let after = session.backlog(subscriber.request);
            counters.objects_out += 1;
            counters.bytes_out += object.payload.len() as u64;
            let age = subscriber.backlog.hand(before, after, now);
            if after > subscriber.backlog_bytes || age > constants::BACKLOG_AGE {
                behind.push((subscriber.key, subscriber.request));
            }
        }
        behind
    }

    fn forward_datagram(&mut self, sessions: &mut dyn Sessions, object: &Object, counters: &mut Counters) {
        let at = Location { group: object.group, object: object.id };
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.wants(at)) {
            let Some(session) = sessions.session(subscriber.key) else { continue };
            match session.send_datagram(subscriber.request, object) {
                Ok(()) => {
                    counters.objects_out += 1;
                    counters.bytes_out += object.payload.len() as u64;
                }
                Err(_) => counters.datagrams_too_large += 1,
            }
        }
    }
}

/// A publisher's reset code, as far as it is one of the draft's.
fn reset_code(code: u64) -> u64 {
    let known = [
        ResetCode::Cancelled,
        ResetCode::DeliveryTimeout,
        ResetCode::SessionClosed,
        ResetCode::GoingAway,
        ResetCode::TooFarBehind,
        ResetCode::ExpiredAuthToken,
        ResetCode::ExcessiveLoad,
        ResetCode::MalformedTrack,
    ];
    known.into_iter().map(|known| known as u64).find(|known| *known == code).unwrap_or(ResetCode::InternalError as u64)
}
