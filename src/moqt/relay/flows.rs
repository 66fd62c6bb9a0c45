//! Which objects of a track are passing, and who brings them: several publishers, each object once.
//!
//! A **flow** is one incoming subgroup stream. A **run** is what subscribers see of a subgroup: one stream each. A run has one
//! feeder at a time. Another publisher's flow of the same subgroup takes it over as soon as it brings exactly the next object,
//! or when the feeder is reset; where its object is not provably the next, the run is broken off and a new one begins
//! (§"Relays": what is forwarded on an open stream must be the next of its subgroup). A single publisher never gets that far.

use std::collections::VecDeque;

use super::constants;
use crate::moqt::few::FewMap;
use crate::moqt::message::Location;
use crate::moqt::session::StreamId;
use crate::moqt::{Object, Status, SubgroupHeader};

/// One incoming subgroup stream: session and stream.
pub(super) type FlowId = (u64, StreamId);

struct Flow {
    header: SubgroupHeader,
    /// `false`: another source brings the same subgroup.
    feeding: bool,
    /// The run that it feeds.
    run: u64,
    /// It got the run of a feeder that was reset, and has brought nothing to it.
    inherited: bool,
    /// Some object passed already: a stream opened now does not begin with the subgroup's first.
    begun: bool,
    /// The least object id that has not passed.
    next: u64,
}

/// A subgroup that passed, whole or in part.
struct Passed {
    key: u64,
    subgroup: (u64, u64),
    next: u64,
    whole: bool,
}

/// How an object goes on.
pub(super) struct Passing {
    /// Of the stream that carries it where none is open.
    pub(super) header: SubgroupHeader,
    pub(super) run: u64,
    /// A run that ends here because this object is not provably its next.
    pub(super) broken: Option<u64>,
    /// It was another publisher's until now.
    pub(super) taken_over: bool,
}

#[derive(Default)]
pub(super) struct Flows {
    flows: FewMap<FlowId, Flow>,
    runs: u64,
    passed: VecDeque<Passed>,
    /// Datagrams that passed, with their source.
    datagrams: VecDeque<(u64, Location)>,
    /// What a source said is the last object of its newest ended group, and of the track.
    group_end: Option<(u64, Location)>,
    track_end: Option<(u64, Location)>,
}

impl Flow {
    fn subgroup(&self) -> (u64, u64) {
        (self.header.group, self.header.subgroup)
    }

    /// The other stream's bytes could stand on this one's.
    fn continues(&self, other: &Flow) -> bool {
        SubgroupHeader { first_object: self.header.first_object, ..other.header } == self.header
    }
}

impl Flows {
    pub(super) fn open(&mut self, id: FlowId, header: SubgroupHeader) {
        let flow = Flow { header, feeding: false, run: 0, inherited: false, begun: false, next: 0 };
        self.flows.insert(id, flow);
        self.try_feed(id);
    }

    fn new_run(&mut self) -> u64 {
        self.runs += 1;
        self.runs
    }

    fn rival(&self, id: FlowId) -> Option<FlowId> {
        let subgroup = self.flows.get(&id)?.subgroup();
        let rival = |(other, flow): &(&FlowId, &Flow)| other.0 != id.0 && flow.feeding && flow.subgroup() == subgroup;
        self.flows.iter().find(rival).map(|(other, _)| *other)
    }

    /// Makes a flow the feeder of its subgroup unless another source is.
    fn try_feed(&mut self, id: FlowId) {
        if self.flows.len() > 1 && self.rival(id).is_some() {
            return;
        }
        let run = self.new_run();
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let passed = self.passed.iter().filter(|passed| passed.key != id.0 && passed.subgroup == flow.subgroup());
        let next = passed.map(|passed| passed.next).max();
        (flow.feeding, flow.run, flow.next, flow.begun) = (true, run, next.unwrap_or(0), next.is_some());
    }

    /// How this object goes on; `None`: another source brought it already.
    pub(super) fn admit(&mut self, id: FlowId, object: &Object) -> Option<Passing> {
        let (mut broken, mut taken_over) = (None, false);
        if !self.flows.get(&id)?.feeding {
            match self.rival(id) {
                Some(rival) => (broken, taken_over) = (self.take_over(id, rival, object)?, true),
                None => self.try_feed(id),
            }
        }
        let flow = self.flows.get_mut(&id).filter(|flow| flow.feeding && object.id >= flow.next)?;
        if std::mem::take(&mut flow.inherited) && object.id != flow.next {
            broken = Some(flow.run);
            self.runs += 1;
            flow.run = self.runs;
        }
        let first_object = flow.header.first_object && !flow.begun;
        flow.begun = true;
        flow.next = object.id.saturating_add(1);
        let header = SubgroupHeader { subgroup: object.subgroup, first_object, ..flow.header };
        Some(Passing { header, run: flow.run, broken, taken_over })
    }

    /// The flow brings the next object before the rival does: it feeds from here on. `None`: it does not.
    fn take_over(&mut self, id: FlowId, rival: FlowId, object: &Object) -> Option<Option<u64>> {
        let (flow, other) = (self.flows.get(&id)?, self.flows.get(&rival)?);
        if object.id != other.next {
            return None;
        }
        let (same, run, next) = (flow.continues(other), other.run, other.next);
        self.flows.get_mut(&rival)?.feeding = false;
        let mine = if same { run } else { self.new_run() };
        let flow = self.flows.get_mut(&id)?;
        (flow.feeding, flow.run, flow.next, flow.begun, flow.inherited) = (true, mine, next, true, false);
        Some((!same).then_some(run))
    }

    /// A flow ended. Returns the run that ends with it downstream, if one does.
    pub(super) fn close(&mut self, id: FlowId, whole: bool) -> Option<u64> {
        let gone = self.flows.remove(&id).filter(|flow| flow.feeding)?;
        if !whole {
            let heir = |(other, flow): &(&FlowId, &mut Flow)| {
                other.0 != id.0 && !flow.feeding && flow.subgroup() == gone.subgroup() && flow.continues(&gone)
            };
            if let Some((_, heir)) = self.flows.iter_mut().find(heir) {
                (heir.feeding, heir.run, heir.next, heir.begun) = (true, gone.run, gone.next, gone.begun);
                heir.inherited = true;
                return None;
            }
        }
        self.passed.push_back(Passed { key: id.0, subgroup: gone.subgroup(), next: gone.next, whole });
        if self.passed.len() > constants::REMEMBERED {
            self.passed.pop_front();
        }
        Some(gone.run)
    }

    /// Where a group ends if this flow, which fed its last objects, ends by FIN now: nothing is at that place or behind it.
    pub(super) fn end_of_group(&self, id: FlowId) -> Option<Location> {
        let flow = self.flows.get(&id).filter(|flow| flow.header.end_of_group && flow.feeding && flow.begun)?;
        Some(Location { group: flow.header.group, object: flow.next })
    }

    /// The last object of the track, as far as a source has said it.
    pub(super) fn track_end(&self) -> Option<Location> {
        self.track_end.map(|(_, end)| end)
    }

    /// `false`: another source brought this datagram already.
    pub(super) fn admit_datagram(&mut self, key: u64, at: Location, several: bool) -> bool {
        if several && self.datagrams.iter().any(|(other, seen)| *other != key && *seen == at) {
            return false;
        }
        if self.datagrams.len() == constants::REMEMBERED {
            self.datagrams.pop_front();
        }
        self.datagrams.push_back((key, at));
        true
    }

    /// `false`: the source contradicts what it said before: an object behind the end of its group or track
    /// (§"Malformed Tracks").
    pub(super) fn is_sound(&mut self, key: u64, at: Location, object: &Object) -> bool {
        let of_key = |end: Option<(u64, Location)>| end.filter(|(other, _)| *other == key).map(|(_, end)| end);
        let beyond_group = of_key(self.group_end).is_some_and(|end| end.group == at.group && at.object > end.object);
        if beyond_group || of_key(self.track_end).is_some_and(|end| at > end) {
            return false;
        }
        match object.status {
            Status::Normal if !object.end_of_group => {}
            Status::Normal | Status::EndOfGroup => self.group_end = Some((key, at)),
            Status::EndOfTrack => self.track_end = Some((key, at)),
        }
        true
    }

    pub(super) fn of(&self, key: u64) -> Vec<FlowId> {
        self.flows.keys().filter(|id| id.0 == key).copied().collect()
    }

    pub(super) fn has(&self, key: u64) -> bool {
        self.flows.keys().any(|id| id.0 == key)
    }

    /// A source is gone, its flows being closed. What it brought whole is forgotten: a publisher that comes back may number as
    /// it likes. What it brought in part stays known while somebody else can bring the rest.
    pub(super) fn forget(&mut self, key: u64, last: bool) {
        self.passed.retain(|passed| !last && (passed.key != key || !passed.whole));
        self.datagrams.retain(|(other, _)| *other != key);
        self.group_end = self.group_end.filter(|(other, _)| *other != key);
        self.track_end = self.track_end.filter(|(other, _)| *other != key);
    }
}
