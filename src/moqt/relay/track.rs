//! One track inside the relay: where it comes from, where it goes, and which objects are passing now.

use std::collections::VecDeque;
use std::time::Instant;

use super::backlog::Backlog;
use super::constants;
use super::rights::Lease;
use crate::moqt::few::FewMap;
use crate::moqt::message::{Filter, GroupOrder, Location, PublishDone, Subscribe, SubscribeOk, TrackProperties};
use crate::moqt::session::{RequestId, StreamId, SubgroupId};
use crate::moqt::{FullTrackName, Object, SubgroupHeader};

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
    /// It said PUBLISH: the request is the peer's and stays when nobody listens.
    pub(super) pushed: bool,
    pub(super) lease: Option<Lease>,
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
    /// It asked to be held until somebody publishes.
    pub(super) rendezvous: bool,
    pub(super) until: Instant,
}

impl Waiting {
    pub(super) fn new(key: u64, request: RequestId, subscribe: &Subscribe, now: Instant) -> Self {
        let asked = subscribe.rendezvous_timeout.filter(|t| !t.is_zero());
        let hold = asked.map_or(constants::ANSWER_TIMEOUT, |t| t.min(constants::RENDEZVOUS_MAX));
        Self { key, request, filter: subscribe.filter, rendezvous: asked.is_some(), until: now + hold }
    }
}

/// A peer's accepted SUBSCRIBE.
pub(super) struct Subscriber {
    pub(super) key: u64,
    pub(super) request: RequestId,
    start: Location,
    end: Location,
    /// Its open streams, by the flow they continue.
    pub(super) open: Vec<(FlowId, SubgroupId)>,
    pub(super) backlog: Backlog,
    pub(super) backlog_bytes: usize,
}

impl Subscriber {
    pub(super) fn new(waiting: &Waiting, largest: Option<Location>, backlog_bytes: usize) -> Self {
        let (start, end) = range(waiting.filter, largest);
        let Waiting { key, request, .. } = *waiting;
        Self { key, request, start, end, open: Vec::new(), backlog: Backlog::default(), backlog_bytes }
    }

    /// A new filter, counted from what has passed by now.
    pub(super) fn narrow(&mut self, filter: Option<Filter>, largest: Option<Location>) {
        (self.start, self.end) = range(filter, largest);
    }

    pub(super) fn wants(&self, at: Location) -> bool {
        self.start <= at && at <= self.end
    }
}

/// What a subscription filter lets through (§5.1.2): both ends pass.
fn range(filter: Option<Filter>, largest: Option<Location>) -> (Location, Location) {
    filter.unwrap_or(Filter::AbsoluteStart(Location::default())).range(largest)
}

/// One incoming subgroup stream.
pub(super) type FlowId = (u64, StreamId);

/// A subgroup on its way through.
pub(super) struct Flow {
    pub(super) header: SubgroupHeader,
    /// `false`: another source brings the same subgroup.
    pub(super) feeding: bool,
    /// Some object passed already: a stream opened now does not begin with the subgroup's first.
    pub(super) begun: bool,
    /// The least object id that has not passed.
    pub(super) next: u64,
}

pub(super) struct Track {
    pub(super) name: FullTrackName,
    pub(super) sources: Vec<Source>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) subscribers: Vec<Subscriber>,
    pub(super) flows: FewMap<FlowId, Flow>,
    properties: TrackProperties,
    group_order: Option<GroupOrder>,
    largest: Option<Location>,
    /// Subgroups that passed, whole or in part, with the source that brought them and the next object id.
    passed: VecDeque<(u64, (u64, u64), u64)>,
    /// Datagrams that passed, with their source.
    datagrams: VecDeque<(u64, Location)>,
}

impl Track {
    pub(super) fn new(name: FullTrackName) -> Self {
        Self {
            name,
            sources: Vec::new(),
            waiting: Vec::new(),
            subscribers: Vec::new(),
            flows: FewMap::default(),
            properties: TrackProperties::default(),
            group_order: None,
            largest: None,
            passed: VecDeque::new(),
            datagrams: VecDeque::new(),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.sources.iter().any(|source| !source.is_asked())
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.subscribers.is_empty() || !self.waiting.is_empty()
    }

    pub(super) fn is_unused(&self) -> bool {
        self.sources.is_empty() && !self.is_wanted()
    }

    pub(super) fn source(&mut self, key: u64, request: RequestId) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| (source.key, source.request) == (key, request))
    }

    pub(super) fn has_source(&self, key: u64) -> bool {
        self.sources.iter().any(|source| source.key == key)
    }

    pub(super) fn has_subscriber(&self, key: u64) -> bool {
        self.subscribers.iter().any(|s| s.key == key) || self.waiting.iter().any(|w| w.key == key)
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

    pub(super) fn largest(&self) -> Option<Location> {
        self.largest
    }

    pub(super) fn saw(&mut self, at: Location) {
        self.largest = self.largest.max(Some(at));
    }

    /// A subgroup has one feeder: the source that began it, until that one fails.
    pub(super) fn open_flow(&mut self, id: FlowId, header: SubgroupHeader) {
        self.flows.insert(id, Flow { header, feeding: false, begun: false, next: 0 });
        self.try_feed(id);
    }

    /// Makes a flow the feeder of its subgroup unless another source is, or has brought it whole.
    fn try_feed(&mut self, id: FlowId) {
        let Some(subgroup) = self.flows.get(&id).map(|flow| (flow.header.group, flow.header.subgroup)) else { return };
        let rival = |(other, flow): (&FlowId, &Flow)| {
            other.0 != id.0 && flow.feeding && (flow.header.group, flow.header.subgroup) == subgroup
        };
        let passed = self.passed.iter().filter(|(key, passed, _)| *key != id.0 && *passed == subgroup);
        let next = passed.map(|(.., next)| *next).max();
        let free = !self.flows.iter().any(rival) && next != Some(u64::MAX);
        if let Some(flow) = self.flows.get_mut(&id).filter(|_| free) {
            flow.feeding = true;
            flow.next = next.unwrap_or(0);
            flow.begun = next.is_some();
        }
    }

    /// `whole`: it ended by FIN; another source need not bring it again.
    pub(super) fn close_flow(&mut self, id: FlowId, whole: bool) {
        let Some(flow) = self.flows.remove(&id) else { return };
        if flow.feeding {
            let next = if whole { u64::MAX } else { flow.next };
            self.passed.push_back((id.0, (flow.header.group, flow.header.subgroup), next));
            if self.passed.len() > constants::REMEMBERED {
                self.passed.pop_front();
            }
        }
    }

    /// The header of the stream that carries this object on; `None`: another source brought it already.
    pub(super) fn admit(&mut self, id: FlowId, object: &Object) -> Option<SubgroupHeader> {
        if !self.flows.get(&id)?.feeding {
            self.try_feed(id);
        }
        let flow = self.flows.get_mut(&id).filter(|flow| flow.feeding && object.id >= flow.next)?;
        let first_object = flow.header.first_object && !flow.begun;
        flow.begun = true;
        flow.next = object.id.saturating_add(1);
        Some(SubgroupHeader { subgroup: object.subgroup, first_object, ..flow.header })
    }

    /// `false`: another source brought this datagram already.
    pub(super) fn admit_datagram(&mut self, key: u64, at: Location) -> bool {
        if self.sources.len() > 1 && self.datagrams.iter().any(|(other, seen)| *other != key && *seen == at) {
            return false;
        }
        if self.datagrams.len() == constants::REMEMBERED {
            self.datagrams.pop_front();
        }
        self.datagrams.push_back((key, at));
        true
    }

    pub(super) fn flows_of(&self, key: u64) -> Vec<FlowId> {
        self.flows.keys().filter(|id| id.0 == key).copied().collect()
    }

    /// Removes a source, its flows being closed, and forgets what it brought whole: a publisher that comes back may number
    /// as it likes. What it brought in part stays known while somebody else can bring the rest.
    pub(super) fn remove_source(&mut self, key: u64, request: RequestId) -> Option<Source> {
        let at = self.sources.iter().position(|source| (source.key, source.request) == (key, request))?;
        let source = self.sources.remove(at);
        let last = self.sources.is_empty();
        self.passed.retain(|(other, _, next)| !last && (*other != key || *next != u64::MAX));
        self.datagrams.retain(|(other, _)| *other != key);
        Some(source)
    }
}
