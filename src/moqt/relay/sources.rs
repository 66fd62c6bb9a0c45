//! The upstream half: asking publishers, what they answer, and what happens when they end or vanish.

use std::time::{Duration, Instant};

use super::directory::Announcement;
use super::flows::FlowId;
use super::track::{Source, State, Track};
use super::{Core, Role, Sessions, constants, refusal};
use crate::moqt::message::{PublishDone, RequestError, Subscribe, SubscribeOk};
use crate::moqt::session::RequestId;
use crate::moqt::{FullTrackName, PublishDoneCode, RequestErrorCode, ResetCode};

impl Core {
    /// Sends our SUBSCRIBE to a publisher, once per session and track. `hold`: another relay may keep it for so long.
    pub(super) fn ask(
        &mut self,
        sessions: &mut dyn Sessions,
        id: u64,
        publisher: &Announcement,
        hold: Option<Duration>,
        now: Instant,
    ) {
        let key = publisher.key;
        let Some(track) = self.tracks.get_mut(&id).filter(|track| !track.has_source(key)) else { return };
        let peer = self.peers.get_mut(&key).filter(|peer| !peer.leaving);
        let (Some(session), Some(peer)) = (sessions.session(key), peer) else { return };
        let subscribe = Subscribe { rendezvous_timeout: hold, ..upstream_subscribe(&track.name) };
        let request = session.subscribe(subscribe);
        let until = now + hold.unwrap_or_default() + constants::ANSWER_TIMEOUT;
        self.deadlines.insert((until, key, request));
        peer.requests.insert(request, Role::Source { track: id });
        let lease = publisher.lease.clone();
        let (state, until) = (State::Asked, Some(until));
        track.sources.push(Source {
            key,
            request,
            held: hold.is_some(),
            pushed: false,
            lease,
            forward: true,
            state,
            streams: 0,
            until,
        });
    }

    pub(super) fn handle_subscribe_ok(
        &mut self,
        sessions: &mut dyn Sessions,
        key: u64,
        request: RequestId,
        ok: SubscribeOk,
    ) {
        let Some(id) = self.source_track(key, request) else { return };
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let begins = !track.is_live();
        track.describe(ok);
        track.refusals = 0;
        let Some(source) = track.source(key, request) else { return };
        source.state = State::Live;
        if let Some(until) = source.until.take() {
            self.deadlines.remove(&(until, key, request));
        }
        self.answer_all(sessions, id);
        if begins {
            self.offer_all(sessions, id);
        }
    }

    /// FORWARD upstream follows the subscribers (§"Forward Handling"): each publisher is told when the first of those whom it feeds
    /// wants objects, and when none does any more. An unanswered SUBSCRIBE has said FORWARD 1, and is looked at once it is answered.
    pub(super) fn steer(&mut self, sessions: &mut dyn Sessions, id: u64) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        for at in 0..track.sources.len() {
            let Source { key, request, forward, ref state, .. } = track.sources[at];
            let wanted = track.is_heard_from(key);
            if forward == wanted || !matches!(state, State::Live) {
                continue;
            }
            track.sources[at].forward = wanted;
            if let Some(session) = sessions.session(key) {
                session.update_forward(request, wanted);
            }
        }
    }

    pub(super) fn answer_all(&mut self, sessions: &mut dyn Sessions, id: u64) {
        let waiting = self.tracks.get_mut(&id).map(|track| std::mem::take(&mut track.waiting));
        for waiting in waiting.unwrap_or_default() {
            match self.tracks.get_mut(&id) {
                Some(track) if !track.is_live_for(waiting.relay) => track.waiting.push(waiting),
                _ => self.answer(sessions, id, &waiting),
            }
        }
        self.rest(sessions, id);
    }

    /// A publisher has no such track: another may, and whoever asked to be held goes on waiting.
    pub(super) fn handle_refused(
        &mut self,
        sessions: &mut dyn Sessions,
        key: u64,
        request: RequestId,
        error: &RequestError,
    ) {
        if let Some(id) = self.source_track(key, request) {
            let code = passed_on(error.code);
            self.remove_source(sessions, id, key, request, ResetCode::InternalError);
            self.without_source(sessions, id, code, PublishDoneCode::InternalError);
            self.ask_later(id, error);
        }
    }

    /// Whoever announced a namespace may publish a track of it later, without another word: as long as somebody is held for it,
    /// publishers that had it not are asked again, at growing distances. Nobody is asked twice for what it waits for itself.
    fn ask_later(&mut self, id: u64, error: &RequestError) {
        let (Some(track), Some(now)) = (self.tracks.get_mut(&id), self.now) else { return };
        let passes = [RequestErrorCode::DoesNotExist, RequestErrorCode::ExcessiveLoad, RequestErrorCode::InternalError];
        if !passes.iter().any(|code| *code as u64 == error.code) || !track.waiting.iter().any(|w| w.rendezvous) {
            return;
        }
        let pause = (constants::ASK_STEP * (1 << track.refusals.min(8))).min(constants::ASK_MAX);
        track.refusals += 1;
        let again = now + pause.max(error.retry_after.unwrap_or_default());
        let held = track.waiting.iter().filter(|w| w.rendezvous && again < w.until);
        self.deadlines.extend(held.map(|w| (again, w.key, w.request)));
    }

    /// The time of a held subscription is over, or that of asking again on its behalf.
    pub(super) fn held_is_due(
        &mut self,
        sessions: &mut dyn Sessions,
        id: u64,
        (key, request): (u64, RequestId),
        now: Instant,
    ) {
        let Some(track) = self.tracks.get(&id) else { return };
        let held = track.waiting.iter().find(|w| (w.key, w.request) == (key, request));
        let Some((until, relay)) = held.map(|waiting| (waiting.until, waiting.relay)) else { return };
        if until <= now {
            return self.give_up(sessions, id, key, request);
        }
        for publisher in self.directory.publishers(&track.name) {
            if Some(publisher.key) != relay && publisher.key != key {
                self.ask(sessions, id, &publisher, None, now);
            }
        }
    }

    pub(super) fn handle_publish_done(
        &mut self,
        sessions: &mut dyn Sessions,
        key: u64,
        request: RequestId,
        done: PublishDone,
        now: Instant,
    ) {
        let Some(id) = self.source_track(key, request) else { return };
        let Some(source) = self.tracks.get_mut(&id).and_then(|track| track.source(key, request)) else { return };
        let until = now + constants::LATE_STREAMS;
        source.state = State::Ending(done);
        source.until = Some(until);
        self.deadlines.insert((until, key, request));
        self.end_if_complete(sessions, id, key, request);
    }

    /// PUBLISH_DONE may overtake streams that it counts (§"PUBLISH_DONE"): it is passed on behind them.
    pub(super) fn end_if_complete(&mut self, sessions: &mut dyn Sessions, id: u64, key: u64, request: RequestId) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let flowing = track.flows.has(key);
        let complete = |source: &mut Source| match &source.state {
            State::Ending(done) => !flowing && source.streams >= done.streams,
            _ => false,
        };
        if track.source(key, request).is_some_and(complete) {
            self.end_source(sessions, id, key, request);
        }
    }

    fn end_source(&mut self, sessions: &mut dyn Sessions, id: u64, key: u64, request: RequestId) {
        let code = match self.tracks.get_mut(&id).and_then(|t| t.source(key, request)).map(|s| &s.state) {
            Some(State::Ending(done)) => done_code(done.code),
            _ => PublishDoneCode::InternalError,
        };
        self.remove_source(sessions, id, key, request, ResetCode::InternalError);
        self.without_source(sessions, id, RequestErrorCode::DoesNotExist, code);
    }

    /// `at` has come: an answer that is missing still, or streams that will not come any more.
    pub(super) fn source_is_late(
        &mut self,
        sessions: &mut dyn Sessions,
        id: u64,
        (key, request): (u64, RequestId),
        at: Instant,
    ) {
        let source = self.tracks.get_mut(&id).and_then(|track| track.source(key, request));
        let Some(source) = source.filter(|source| source.until == Some(at)) else { return };
        if !source.is_asked() {
            return self.end_source(sessions, id, key, request);
        }
        if let Some(session) = sessions.session(key) {
            session.cancel(request);
        }
        self.remove_source(sessions, id, key, request, ResetCode::InternalError);
        self.without_source(sessions, id, RequestErrorCode::Timeout, PublishDoneCode::InternalError);
    }

    /// The publisher's session, or its PUBLISH, ended without PUBLISH_DONE.
    pub(super) fn lose_source(&mut self, sessions: &mut dyn Sessions, id: u64, key: u64, request: RequestId) {
        let (reset, done) = match self.draining {
            Some(_) => (ResetCode::GoingAway, PublishDoneCode::GoingAway),
            None => (ResetCode::SessionClosed, PublishDoneCode::InternalError),
        };
        self.remove_source(sessions, id, key, request, reset);
        self.without_source(sessions, id, RequestErrorCode::DoesNotExist, done);
    }

    /// The publisher broke the rules of the track: nobody downstream can know what of it is true.
    pub(super) fn end_malformed(&mut self, sessions: &mut dyn Sessions, id: u64, key: u64, request: RequestId) {
        self.counters.malformed_tracks += 1;
        if let Some(session) = sessions.session(key) {
            session.cancel(request);
        }
        self.reset_fetches(sessions, id, ResetCode::MalformedTrack);
        self.remove_source(sessions, id, key, request, ResetCode::MalformedTrack);
        let ended: Vec<_> = self.tracks.get(&id).into_iter().flat_map(|track| &track.subscribers).collect();
        let ended: Vec<_> = ended.into_iter().map(|s| (s.key, s.request)).collect();
        for who in ended {
            self.end_subscription(sessions, id, who, PublishDoneCode::MalformedTrack);
        }
        self.without_source(sessions, id, RequestErrorCode::MalformedTrack, PublishDoneCode::MalformedTrack);
        self.rest(sessions, id);
    }

    /// We end it: somebody newer speaks.
    pub(super) fn cancel_source(&mut self, sessions: &mut dyn Sessions, id: u64, key: u64, request: RequestId) {
        if let Some(session) = sessions.session(key) {
            session.cancel(request);
        }
        self.remove_source(sessions, id, key, request, ResetCode::Cancelled);
        self.without_source(sessions, id, RequestErrorCode::DoesNotExist, PublishDoneCode::InternalError);
    }

    /// Takes a source out; what it was in the middle of is reset downstream.
    fn remove_source(&mut self, sessions: &mut dyn Sessions, id: u64, key: u64, request: RequestId, code: ResetCode) {
        self.forget(key, request);
        let Some(track) = self.tracks.get_mut(&id) else { return };
        for flow in track.flows.of(key) {
            track.end_flow(sessions, flow, Some(code as u64));
        }
        let namespace = track.name.namespace.clone();
        let Some(source) = track.remove_source(key, request) else { return };
        if track.sources.is_empty() {
            self.cache.free(&mut track.kept);
        }
        if let Some(until) = source.until {
            self.deadlines.remove(&(until, key, request));
        }
        if source.pushed {
            self.withdraw_up(sessions, &namespace, (key, request));
        }
    }

    /// When no publisher is left: subscribers are told by `done`, those who did not ask to be held by `error`.
    fn without_source(&mut self, sessions: &mut dyn Sessions, id: u64, error: RequestErrorCode, done: PublishDoneCode) {
        let Some(track) = self.tracks.get(&id) else { return };
        let alone = |relay: Option<u64>| !track.has_source_for(relay);
        let ended = track.subscribers.iter().filter(|s| alone(s.relay));
        let ended: Vec<_> = ended.map(|s| (s.key, s.request)).collect();
        let refused = track.waiting.iter().filter(|w| !w.rendezvous && alone(w.relay));
        let refused: Vec<_> = refused.map(|w| (w.key, w.request)).collect();
        for (key, request) in ended {
            self.end_subscription(sessions, id, (key, request), done);
        }
        for (key, request) in refused {
            if let Some(session) = sessions.session(key) {
                session.reject(request, refusal(error));
            }
            self.drop_waiting(id, key, request);
        }
        self.rest(sessions, id);
    }

    /// PUBLISH_DONE to one subscriber; what it has open is reset.
    pub(super) fn end_subscription(
        &mut self,
        sessions: &mut dyn Sessions,
        id: u64,
        (key, request): (u64, RequestId),
        code: PublishDoneCode,
    ) {
        self.forget(key, request);
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let Some(at) = track.subscribers.iter().position(|s| (s.key, s.request) == (key, request)) else { return };
        let subscriber = track.subscribers.remove(at);
        let Some(session) = sessions.session(key) else { return };
        let reset = match code {
            PublishDoneCode::TooFarBehind => ResetCode::TooFarBehind,
            PublishDoneCode::Expired => ResetCode::ExpiredAuthToken,
            PublishDoneCode::MalformedTrack => ResetCode::MalformedTrack,
            PublishDoneCode::GoingAway => ResetCode::GoingAway,
            _ => ResetCode::Cancelled,
        };
        for (_, subgroup) in subscriber.open {
            session.reset_subgroup(subgroup, reset as u64);
        }
        session
            .end_publication(request, PublishDone { code: code as u64, streams: 0, reason: reason(code).to_owned() });
    }

    /// Nobody may want the track any more: the upstream subscriptions end with the last subscriber, and a PUBLISH rests with
    /// FORWARD 0 when nobody wants objects.
    pub(super) fn rest(&mut self, sessions: &mut dyn Sessions, id: u64) {
        let Some(track) = self.tracks.get(&id) else { return };
        // A user's PUBLISH stays; another relay's is there for those who want tracks of the namespace.
        let stays = |source: &Source| {
            source.pushed && (self.relay(source.key).is_none() || self.interests.has_user(&track.name.namespace))
        };
        let over = |source: &&Source| !stays(source) && !track.is_wanted_from(source.key);
        let asked: Vec<_> = track.sources.iter().filter(over).map(|source| (source.key, source.request)).collect();
        for (key, request) in asked {
            if let Some(session) = sessions.session(key) {
                session.cancel(request);
            }
            self.remove_source(sessions, id, key, request, ResetCode::Cancelled);
        }
        self.end_offers(sessions, id);
        self.steer(sessions, id);
        self.tidy(id);
    }
}

/// From the live edge, forwarding (draft 18 §"Forward Handling" asks it of every new subscription; [`Core::steer`] says later what
/// became of it): what single subscribers filter is their own affair (§"Subscriber Interactions").
fn upstream_subscribe(track: &FullTrackName) -> Subscribe {
    Subscribe::live(track.clone())
}

/// A publisher's refusal, as far as it concerns the subscriber too.
pub(super) fn passed_on(code: u64) -> RequestErrorCode {
    let known = [
        RequestErrorCode::Timeout,
        RequestErrorCode::NotSupported,
        RequestErrorCode::GoingAway,
        RequestErrorCode::ExcessiveLoad,
        RequestErrorCode::InvalidRange,
        RequestErrorCode::MalformedTrack,
        RequestErrorCode::UnsupportedExtension,
        RequestErrorCode::InternalError,
    ];
    known.into_iter().find(|known| *known as u64 == code).unwrap_or(RequestErrorCode::DoesNotExist)
}

/// A publisher's code, as far as it speaks of the track and not of its own dealings with us.
fn done_code(code: u64) -> PublishDoneCode {
    let known = [
        PublishDoneCode::TrackEnded,
        PublishDoneCode::SubscriptionEnded,
        PublishDoneCode::GoingAway,
        PublishDoneCode::Expired,
        PublishDoneCode::MalformedTrack,
    ];
    known.into_iter().find(|known| *known as u64 == code).unwrap_or(PublishDoneCode::InternalError)
}

fn reason(code: PublishDoneCode) -> &'static str {
    match code {
        PublishDoneCode::TrackEnded => "the publisher ended the track",
        PublishDoneCode::TooFarBehind => "this subscriber does not take the track as fast as it comes",
        PublishDoneCode::SubscriptionEnded => "the last group of the filter has passed",
        PublishDoneCode::InternalError => "the publisher is gone",
        PublishDoneCode::Expired => "the token that allowed it has expired",
        PublishDoneCode::Unauthorized => "the token that allowed it was revoked",
        PublishDoneCode::MalformedTrack => "the publisher broke the rules of its track",
        _ => "the publisher ended the subscription",
    }
}

impl Track {
    /// Ends a flow, and what it fed downstream as it ended upstream.
    pub(super) fn end_flow(&mut self, sessions: &mut dyn Sessions, flow: FlowId, reset: Option<u64>) {
        if let Some(run) = self.flows.close(flow, reset.is_none()) {
            self.end_run(sessions, run, reset);
        }
    }

    pub(super) fn end_run(&mut self, sessions: &mut dyn Sessions, run: u64, reset: Option<u64>) {
        for subscriber in &mut self.subscribers {
            let Some(at) = subscriber.open.iter().position(|(id, _)| *id == run) else { continue };
            let (_, subgroup) = subscriber.open.swap_remove(at);
            let Some(session) = sessions.session(subscriber.key) else { continue };
            match reset {
                None => session.finish_subgroup(subgroup),
                Some(code) => session.reset_subgroup(subgroup, code),
            }
        }
    }
}
