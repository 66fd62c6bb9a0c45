//! What a session knows of each request, ours and the peer's.

use std::collections::{HashSet, VecDeque};

use super::fill::Wanted;
use super::lateness::Timeouts;
use super::past::Fetching;
use super::renewals::Sent;
use super::updates::PeerUpdate;
use super::{StreamId, priority};
use crate::moqt::SubgroupHeader;
use crate::moqt::message::{DEFAULT_PRIORITY, Filter, GroupOrder, TrackProperties, Update};
use crate::moqt::name::{FullTrackName, TrackNamespace};
use crate::moqt::properties;

pub(super) struct Request {
    pub(super) stream: StreamId,
    pub(super) ours: bool,
    pub(super) phase: Phase,
    pub(super) kind: Kind,
    /// REQUEST_UPDATEs of the peer without an answer, and ours; what waits to be sent as one.
    pub(super) updates: VecDeque<PeerUpdate>,
    pub(super) sent_updates: VecDeque<Sent>,
    pub(super) next_update: Option<Box<Update>>,
    /// A GOAWAY came on its stream, or was said there: there is only one of each (§10.4).
    pub(super) goaway: bool,
    pub(super) sent_away: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Asked,
    Accepted,
    /// The publisher said PUBLISH_DONE; late streams are still taken.
    Ended,
}

pub(super) enum Kind {
    /// Objects come: our SUBSCRIBE or the peer's PUBLISH.
    Subscription(Subscription),
    /// Objects go: the peer's SUBSCRIBE or our PUBLISH.
    Publication(Publication),
    Announcement,
    /// SUBSCRIBE_NAMESPACE with the suffixes that are announced now: those that we heard of, or told.
    Listing(HashSet<TrackNamespace>),
    Fetch(Fetching),
    /// TRACK_STATUS.
    Status,
    /// SUBSCRIBE_TRACKS.
    Tracks,
}

pub(super) struct Subscription {
    pub(super) track: FullTrackName,
    pub(super) alias: Option<u64>,
    /// Objects become events; before, they are held.
    pub(super) delivers: bool,
    pub(super) open: Vec<StreamId>,
    /// As the publisher was told last, or as its PUBLISH began.
    pub(super) forward: bool,
    /// The FORWARD that waits until an update may be sent.
    pub(super) next_forward: Option<bool>,
    /// The track said so: it can be asked for a new group.
    pub(super) dynamic_groups: bool,
    /// Its fill fetch stream, where we asked for one.
    pub(super) fill: Option<Box<Fetching>>,
}

pub(super) struct Publication {
    pub(super) alias: u64,
    pub(super) forward: bool,
    pub(super) subscriber_priority: u8,
    pub(super) publisher_priority: u8,
    /// Of its groups: the subscriber's, else the publisher's.
    pub(super) group_order: Option<GroupOrder>,
    /// Groups have their places around this one.
    pub(super) middle_group: u64,
    /// From a REQUEST_UPDATE that came before our answer.
    pub(super) filter: Option<Filter>,
    /// What is to be filled when we answer.
    pub(super) fill: Option<Wanted>,
    /// Fill fetch streams that the link has not taken whole.
    pub(super) fills: Vec<StreamId>,
    /// Streams opened ever: PUBLISH_DONE says it.
    pub(super) streams: u64,
    pub(super) open: Vec<StreamId>,
    /// Bytes that the link has not reported as written.
    pub(super) backlog: usize,
    /// Datagrams that the link dropped.
    pub(super) dropped: u64,
    pub(super) timeouts: Timeouts,
}

impl Subscription {
    pub(super) fn new(track: FullTrackName, alias: Option<u64>) -> Self {
        let (delivers, open, dynamic_groups) = (false, Vec::new(), false);
        Self { track, alias, delivers, open, forward: true, next_forward: None, dynamic_groups, fill: None }
    }
}

impl Publication {
    pub(super) fn new(forward: bool, subscriber_priority: u8) -> Self {
        Self {
            alias: 0,
            forward,
            subscriber_priority,
            publisher_priority: DEFAULT_PRIORITY,
            group_order: None,
            middle_group: 0,
            filter: None,
            fill: None,
            fills: Vec::new(),
            streams: 0,
            open: Vec::new(),
            backlog: 0,
            dropped: 0,
            timeouts: Timeouts::default(),
        }
    }

    pub(super) fn describe(&mut self, alias: u64, properties: &TrackProperties) {
        self.alias = alias;
        self.timeouts.describe(properties);
        let default = properties::number(&properties.0, properties::kind::DEFAULT_PUBLISHER_PRIORITY);
        self.publisher_priority = default.and_then(|value| u8::try_from(value).ok()).unwrap_or(DEFAULT_PRIORITY);
        let order = properties::number(&properties.0, properties::kind::DEFAULT_GROUP_ORDER);
        self.group_order = self.group_order.or_else(|| GroupOrder::from_code(order?).ok());
    }

    /// Of a subgroup's stream: the subscriber's priority, the publisher's, and the group's place (§7.2).
    pub(super) fn urgency(&self, header: &SubgroupHeader) -> i32 {
        let publisher = header.priority.unwrap_or(self.publisher_priority);
        priority::in_order(self.subscriber_priority, publisher, self.behind(header.group))
    }

    /// How many places behind the middle one a group is sent.
    pub(super) fn behind(&self, group: u64) -> i64 {
        let later = group.wrapping_sub(self.middle_group).cast_signed();
        if self.group_order == Some(GroupOrder::Descending) { later.saturating_neg() } else { later }
    }
}

impl Request {
    pub(super) fn new(stream: StreamId, ours: bool, kind: Kind) -> Self {
        Self {
            stream,
            ours,
            phase: Phase::Asked,
            kind,
            updates: VecDeque::new(),
            sent_updates: VecDeque::new(),
            next_update: None,
            goaway: false,
            sent_away: false,
        }
    }

    /// What a fetch stream with this request's id brings: of our FETCH, or of a subscription of ours that is to be filled.
    pub(super) fn fetching(&mut self) -> Option<&mut Fetching> {
        match &mut self.kind {
            Kind::Fetch(fetching) if self.ours => Some(fetching),
            Kind::Subscription(subscription) if self.ours => subscription.fill.as_deref_mut(),
            _ => None,
        }
    }

    pub(super) fn publication(&self) -> Option<&Publication> {
        match &self.kind {
            Kind::Publication(publication) => Some(publication),
            _ => None,
        }
    }
}
