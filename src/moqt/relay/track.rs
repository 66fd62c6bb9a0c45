//! One track inside the relay: where it comes from, where it goes, and which objects are passing now.

use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::cache::Kept;
use super::constants;
use super::flows::Flows;
use super::limits::Limits;
use super::offers::Offer;
use super::rights::Lease;
use crate::moqt::FullTrackName;
use crate::moqt::message::{
    DEFAULT_PRIORITY, Filter, GroupOrder, Location, PublishDone, Subscribe, SubscribeOk, TrackProperties,
};
use crate::moqt::properties::{self, kind};
use crate::moqt::session::{RequestId, SubgroupId};

/// How a source stands.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Our SUBSCRIBE is not answered yet.
    Asked,
    Live,
    /// It said PUBLISH_DONE; streams that it counted may still be on their way.
    Ending(PublishDone),
}

/// A session that publishes the track: it answers our SUBSCRIBE, or it said PUBLISH.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) key: u64,
    pub(super) request: RequestId,
    /// Another relay may keep our SUBSCRIBE until somebody publishes there.
    pub(super) held: bool,
    /// It said PUBLISH: the request is the peer's and stays when nobody listens.
    pub(super) pushed: bool,
    pub(super) lease: Option<Lease>,
    /// The FORWARD that it was told last.
    pub(super) forward: bool,
    pub(super) state: State,
    /// Subgroup streams seen so far, to compare with PUBLISH_DONE's count.
    pub(super) streams: u64,
    /// When it must have answered, or its last streams must have come.
    pub(super) until: Option<Instant>,
}

impl Source {
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked)
    }
}

/// A peer's SUBSCRIBE without an answer yet.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) key: u64,
    pub(super) request: RequestId,
    pub(super) filter: Option<Filter>,
    pub(super) forward: bool,
    /// It asked to be held until somebody publishes.
    pub(super) rendezvous: bool,
    /// The session, if it is another relay's.
    pub(super) relay: Option<u64>,
    pub(super) until: Instant,
}

impl Waiting {
    pub(super) fn new(key: u64, request: RequestId, subscribe: &Subscribe, longest: Duration, now: Instant) -> Self {
        let asked = subscribe.rendezvous_timeout.filter(|t| !t.is_zero());
        let hold = asked.map_or(constants::ANSWER_TIMEOUT, |t| t.min(longest));
        let (filter, forward) = (subscribe.filter, subscribe.forward);
        Self { key, request, filter, forward, rendezvous: asked.is_some(), relay: None, until: now + hold }
    }
}

/// A peer's accepted SUBSCRIBE.
pub(super) struct Subscriber {
    pub(super) key: u64,
    pub(super) request: RequestId,
    /// The session, if it is another relay's: what came from it does not go back.
    pub(super) relay: Option<u64>,
    /// It wants objects now.
    pub(super) forward: bool,
    /// The largest object when its objects began to flow: where a joining fetch ends (§5.1).
    pub(super) joining: Option<Location>,
    start: Location,
    end: Location,
    /// Its open streams, by the run they carry.
    pub(super) open: Vec<(u64, SubgroupId)>,
    pub(super) backlog: Backlog,
    /// Bounds of that backlog: bytes, age, and the bytes of all its session's.
    pub(super) backlog_bytes: usize,
    pub(super) backlog_age: Duration,
    pub(super) session_backlog_bytes: usize,
}

impl Subscriber {
    pub(super) fn new(waiting: &Waiting, largest: Option<Location>, limits: &Limits) -> Self {
        let Waiting { key, request, relay, forward, filter, .. } = *waiting;
        let mut subscriber = Self::pushed((key, request, relay), forward, largest, limits);
        subscriber.narrow(filter, largest);
        subscriber
    }

    /// It accepted our PUBLISH, of everything from now on.
    pub(super) fn pushed(
        (key, request, relay): (u64, RequestId, Option<u64>),
        forward: bool,
        largest: Option<Location>,
        limits: &Limits,
    ) -> Self {
        let (start, end) = range(None, largest);
        Self {
            key,
            request,
            relay,
            forward,
            joining: largest,
            start,
            end,
            open: Vec::new(),
            backlog: Backlog::default(),
            backlog_bytes: limits.backlog_bytes,
            backlog_age: limits.backlog_age,
            session_backlog_bytes: limits.session_backlog_bytes,
        }
    }

    /// A new filter, counted from what has passed by now.
    pub(super) fn narrow(&mut self, filter: Option<Filter>, largest: Option<Location>) {
        (self.start, self.end) = range(filter, largest);
    }

    /// Its last group has passed, and all that it began.
    pub(super) fn is_satisfied(&self, largest: Location) -> bool {
        self.end.group < largest.group && self.open.is_empty()
    }

    pub(super) fn wants(&self, at: Location) -> bool {
        self.start <= at && at <= self.end
    }
}

/// What a subscription filter lets through (§5.1.2): both ends pass.
fn range(filter: Option<Filter>, largest: Option<Location>) -> (Location, Location) {
    filter.unwrap_or(Filter::AbsoluteStart(Location::default())).range(largest)
}

pub(super) struct Track {
    pub(super) name: FullTrackName,
    pub(super) sources: Vec<Source>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) subscribers: Vec<Subscriber>,
    /// Some of them have a last group.
    pub(super) bounded: bool,
    pub(super) offers: Vec<Offer>,
    pub(super) flows: Flows,
    /// Its latest objects.
    pub(super) kept: Kept,
    /// Running fetches, by session and request.
    pub(super) fetches: Vec<(u64, RequestId)>,
    properties: TrackProperties,
    group_order: Option<GroupOrder>,
    largest: Option<Location>,
    /// How often in a row publishers said that they have no such track.
    pub(super) refusals: u32,
}

impl Track {
    pub(super) fn new(name: FullTrackName) -> Self {
        Self {
            name,
            sources: Vec::new(),
            waiting: Vec::new(),
            subscribers: Vec::new(),
            bounded: false,
            offers: Vec::new(),
            flows: Flows::default(),
            kept: Kept::default(),
            fetches: Vec::new(),
            properties: TrackProperties::default(),
            group_order: None,
            largest: None,
            refusals: 0,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.sources.iter().any(|source| !source.is_asked())
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.subscribers.is_empty() || !self.waiting.is_empty()
    }

    pub(super) fn is_unused(&self) -> bool {
        self.sources.is_empty() && !self.is_wanted() && self.offers.is_empty()
    }

    pub(super) fn source(&mut self, key: u64, request: RequestId) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| (source.key, source.request) == (key, request))
    }

    pub(super) fn has_source(&self, key: u64) -> bool {
        self.sources.iter().any(|source| source.key == key)
    }

    /// Also one that has not answered our PUBLISH, or whom we have not answered (§5.1).
    pub(super) fn has_subscriber(&self, key: u64) -> bool {
        self.subscribers.iter().any(|s| s.key == key)
            || self.waiting.iter().any(|w| w.key == key)
            || self.offers.iter().any(|offer| offer.key == key)
    }

    /// What the first live source says about the track is passed on unchanged; never a LARGEST_OBJECT that did not exist.
    pub(super) fn describe(&mut self, ok: SubscribeOk) {
        if !self.is_live() {
            (self.properties, self.group_order) = (ok.properties, ok.group_order);
        }
        self.largest = self.largest.max(ok.largest);
    }

    pub(super) fn ok(&self) -> SubscribeOk {
        SubscribeOk {
            expires: None,
            largest: self.largest,
            group_order: self.group_order,
            properties: self.properties.clone(),
        }
    }

    pub(super) fn note_bounds(&mut self) {
        self.bounded = self.subscribers.iter().any(|subscriber| subscriber.end.group < u64::MAX);
    }

    pub(super) fn largest(&self) -> Option<Location> {
        self.largest
    }

    /// How long its publisher lets its objects be kept (§12.3).
    pub(super) fn cache_duration(&self) -> Option<Duration> {
        properties::number(&self.properties.0, kind::MAX_CACHE_DURATION).map(Duration::from_millis)
    }

    /// The priority of objects that have none of their own.
    pub(super) fn priority(&self) -> u8 {
        let default = properties::number(&self.properties.0, kind::DEFAULT_PUBLISHER_PRIORITY);
        default.and_then(|priority| u8::try_from(priority).ok()).unwrap_or(DEFAULT_PRIORITY)
    }

    pub(super) fn saw(&mut self, at: Location) {
        self.largest = self.largest.max(Some(at));
    }

    /// Removes a source whose flows are closed.
    pub(super) fn remove_source(&mut self, key: u64, request: RequestId) -> Option<Source> {
        let at = self.sources.iter().position(|source| (source.key, source.request) == (key, request))?;
        let source = self.sources.remove(at);
        self.flows.forget(key, self.sources.is_empty());
        Some(source)
    }
}
