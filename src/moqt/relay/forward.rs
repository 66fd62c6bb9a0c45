//! Objects on their way through: never parsed, never held back, never reordered within a stream.

use std::time::Instant;

use super::flows::Passing;
use super::track::Track;
use super::{Core, Counters, Role, Sessions};
use crate::moqt::message::{Filter, Location};
use crate::moqt::session::RequestId;
use crate::moqt::{Object, PublishDoneCode, ResetCode, StreamId, SubgroupHeader};

/// A subscription, by session and request.
type Who = (u64, RequestId);

/// By which bound a subscriber is too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Bytes,
    Age,
    Session,
}

impl Core {
    pub(super) fn handle_subgroup(&mut self, (key, request): Who, stream: StreamId, header: SubgroupHeader) {
        let Some(id) = self.source_track(key, request) else { return };
        let Some(track) = self.tracks.get_mut(&id) else { return };
        if let Some(source) = track.source(key, request) {
            source.streams += 1;
        }
        track.flows.open((key, stream), header);
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
        if !track.flows.is_sound(key, at, object) {
            return self.end_malformed(sessions, id, key, request);
        }
        let several = track.sources.len() > 1;
        let behind = match stream {
            Some(stream) => match track.flows.admit((key, stream), object) {
                Some(passing) => track.forward(sessions, (key, &passing), object, &mut self.counters, now),
                None => return self.counters.duplicates += 1,
            },
            None if !track.flows.admit_datagram(key, at, several) => return self.counters.duplicates += 1,
            None => {
                track.forward_datagram(sessions, key, object, &mut self.counters);
                Vec::new()
            }
        };
        self.cache.keep(&mut track.kept, object, stream.is_none(), &mut self.counters, now);
        track.saw(at);
        let bounded = track.bounded;
        for (who, why) in behind {
            self.end_behind(sessions, id, who, why);
        }
        if bounded {
            self.end_satisfied(sessions, id);
        }
    }

    /// A subscription whose filter's last group has passed is over (§10.11) until draft 18; since then its subscriber may still widen it.
    fn end_satisfied(&mut self, sessions: &mut dyn Sessions, id: u64) {
        let Some(track) = self.tracks.get(&id) else { return };
        let Some(largest) = track.largest() else { return };
        let over = track.subscribers.iter().filter(|subscriber| subscriber.is_satisfied(largest));
        let over: Vec<Who> = over.map(|subscriber| (subscriber.key, subscriber.request)).collect();
        for (key, request) in over {
            if sessions.session(key).is_some_and(|session| session.draft().ends_subscriptions()) {
                self.end_subscription(sessions, id, (key, request), PublishDoneCode::SubscriptionEnded);
                self.rest(sessions, id);
            }
        }
    }

    /// Ends a subscription that its link does not take. When it is the session as a whole that holds too much, the widest of
    /// its subscriptions makes room, whoever brought the last byte.
    fn end_behind(&mut self, sessions: &mut dyn Sessions, id: u64, (key, request): Who, why: Behind) {
        let mut ended = (id, request);
        match why {
            Behind::Bytes => self.counters.behind_bytes += 1,
            Behind::Age => self.counters.behind_age += 1,
            Behind::Session => {
                self.counters.behind_session += 1;
                if let (Some(session), Some(peer)) = (sessions.session(key), self.peers.get(&key)) {
                    let served = peer.requests.iter().filter_map(|(request, role)| match role {
                        Role::Subscription { track, held: false } => Some((*track, *request)),
                        _ => None,
                    });
                    ended = served.max_by_key(|(_, request)| (session.backlog(*request), *request)).unwrap_or(ended);
                }
            }
        }
        self.counters.too_far_behind += 1;
        self.end_subscription(sessions, ended.0, (key, ended.1), PublishDoneCode::TooFarBehind);
        self.rest(sessions, ended.0);
    }

    pub(super) fn handle_subgroup_end(
        &mut self,
        sessions: &mut dyn Sessions,
        (key, request): Who,
        stream: StreamId,
        reset: Option<u64>,
        now: Instant,
    ) {
        let Some(id) = self.source_track(key, request) else { return };
        let Some(track) = self.tracks.get_mut(&id) else { return };
        if reset.is_none()
            && let Some(end) = track.flows.end_of_group((key, stream))
        {
            self.cache.keep_end(&mut track.kept, end, &mut self.counters, now);
        }
        track.end_flow(sessions, (key, stream), reset.map(reset_code));
        if track.bounded {
            self.end_satisfied(sessions, id);
        }
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
        let id = match self.peers.get(&key).and_then(|p| p.requests.get(&request)) {
            Some(Role::Subscription { track, .. }) => *track,
            _ => return,
        };
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let largest = track.largest();
        let Some(subscriber) = track.subscribers.iter_mut().find(|s| (s.key, s.request) == (key, request)) else {
            return;
        };
        if forward && !subscriber.forward {
            subscriber.joining = largest;
        }
        subscriber.forward = forward;
        if filter.is_some() {
            subscriber.narrow(filter, largest);
        }
        // What is left out of an open stream, for either reason, forbids its FIN (§11.4.3).
        if let (Some(session), true) = (sessions.session(key), !forward || filter.is_some()) {
            for (_, subgroup) in subscriber.open.drain(..) {
                session.reset_subgroup(subgroup, ResetCode::Cancelled as u64);
            }
        }
        track.note_bounds();
        self.steer(sessions, id);
    }
}

impl Track {
    /// One object of a stream to every subscriber that wants it; returns those that have fallen too far behind.
    fn forward(
        &mut self,
        sessions: &mut dyn Sessions,
        (from, passing): (u64, &Passing),
        object: &Object,
        counters: &mut Counters,
        now: Instant,
    ) -> Vec<(Who, Behind)> {
        let at = Location { group: object.group, object: object.id };
        let mut behind = Vec::new();
        counters.taken_over += u64::from(passing.taken_over);
        if let Some(broken) = passing.broken {
            self.end_run(sessions, broken, Some(ResetCode::InternalError as u64));
        }
        let Passing { header, run, .. } = passing;
        for subscriber in self.subscribers.iter_mut().filter(|s| s.wants(at) && s.relay != Some(from)) {
            let Some(session) = sessions.session(subscriber.key) else { continue };
            // Before the stream is opened: its header is handed over with the object.
            let before = session.backlog(subscriber.request);
            let open = subscriber.open.iter().find(|(id, _)| id == run).map(|(_, subgroup)| *subgroup);
            let Some(subgroup) = open.or_else(|| {
                let subgroup = session.open_subgroup(subscriber.request, header)?;
                subscriber.open.push((*run, subgroup));
                Some(subgroup)
            }) else {
                continue;
            };
            session.send_object(subgroup, object);
            let after = session.backlog(subscriber.request);
            counters.objects_out += 1;
            counters.bytes_out += object.payload.len() as u64;
            let age = subscriber.backlog.hand(before, after, now);
            let why = if after > subscriber.backlog_bytes {
                Behind::Bytes
            } else if age > subscriber.backlog_age {
                Behind::Age
            } else if session.unwritten() > subscriber.session_backlog_bytes {
                Behind::Session
            } else {
                continue;
            };
            behind.push(((subscriber.key, subscriber.request), why));
        }
        behind
    }

    fn forward_datagram(&mut self, sessions: &mut dyn Sessions, from: u64, object: &Object, counters: &mut Counters) {
        let at = Location { group: object.group, object: object.id };
        for subscriber in self.subscribers.iter().filter(|s| s.wants(at) && s.relay != Some(from)) {
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
