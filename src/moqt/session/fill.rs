//! What drafts 20 and later can ask for beside live objects: fill fetch streams, and filters by range, which are refused.
//!
//! FILL_PARAMETERS on a subscription, or on an update of it, ask for what was published before. A session keeps no objects: the
//! application is told of a fill when its subscription is answered ([`Event::Fill`]), and says what there is, or that it fails, in
//! the way that the drafts give: the stream is opened and reset behind its FETCH_HEADER, and the subscription goes on. A fill whose
//! range is empty has no stream, and nobody hears of it.
//!
//! Asked by us ([`Session::subscribe_filled`]) what it brings are events of the subscription: [`Event::Fetched`], one
//! [`Event::FetchEnd`]. They may come before [`Event::SubscribeOk`], and never, when there is nothing to fill. We ask with SUBSCRIBE
//! only, so that a fetch stream with the id of an update is nobody's.

use std::time::Duration;

use bytes::BytesMut;

use super::past::Fetching;
use super::requests::{Kind, error};
use super::{Dir, Event, RequestId, Session, Transmit, priority};
use crate::moqt::error::{RequestErrorCode, ResetCode};
use crate::moqt::fetched::{Fetched, FetchedObjects};
use crate::moqt::message::{
    DEFAULT_PRIORITY, Filter, GroupOrder, Location, Message, Parameters, RequestError, Subscribe,
};
use crate::moqt::stream::FETCH_HEADER;
use crate::moqt::varint;

/// What a fill fetch stream is to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The subscription.
    pub request: RequestId,
    /// First and last place, both included: no further than where the subscription begins.
    pub range: (Location, Location),
    pub order: GroupOrder,
    /// How long the answer may wait for others.
    pub timeout: Option<Duration>,
    priority: u8,
    /// The request that asked for it: the subscription, or an update of it.
    asked_by: u64,
}

/// A fill as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    filter: Filter,
    order: GroupOrder,
    timeout: Option<Duration>,
    priority: u8,
}

/// From where on a subscription that begins is to be filled.
pub(super) fn wanted(parameters: &Parameters) -> Option<Wanted> {
    let fill = parameters.fill.as_ref()?;
    // Without a filter of its own it has the subscription's.
    let filter = fill.filter.or(parameters.filter).unwrap_or(Filter::AbsoluteStart(Location::default()));
    let order = fill.group_order.unwrap_or(GroupOrder::Ascending);
    let priority = fill.priority.or(parameters.priority).unwrap_or(DEFAULT_PRIORITY);
    Some(Wanted { filter, order, timeout: fill.fill_timeout, priority })
}

/// Why a request that begins so is refused.
pub(super) fn unserved_of(message: &Message) -> Option<RequestError> {
    match message {
        Message::Subscribe { parameters, .. } | Message::Fetch { parameters, .. } => unserved(parameters, true),
        Message::SubscribeTracks { parameters, .. } => unserved(parameters, false),
        _ => None,
    }
}

/// The same of an update.
pub(super) fn unserved_by(kind: &Kind, parameters: &Parameters) -> Option<RequestError> {
    unserved(parameters, !matches!(kind, Kind::Tracks))
}

/// We announce no MAX_FILTER_RANGES.
fn unserved(parameters: &Parameters, may_fill: bool) -> Option<RequestError> {
    if !parameters.range_filters.is_empty() {
        return Some(error(RequestErrorCode::InvalidFilter, "this endpoint takes no filters by range"));
    }
    let fills = parameters.fill.is_some() && !may_fill;
    fills.then(|| error(RequestErrorCode::NotSupported, "this endpoint fills no subscriptions"))
}

impl Session {
    /// SUBSCRIBE with FILL_PARAMETERS: beside what comes live, what was before it from `from` on, in ascending order. A draft that
    /// can't say it ([`Draft::fills_subscriptions`](crate::moqt::Draft::fills_subscriptions)) subscribes without: there a FETCH joins.
    pub fn subscribe_filled(&mut self, subscribe: Subscribe, from: Filter) -> RequestId {
        let parameters = Parameters { filter: Some(from), ..Parameters::default() };
        let fill = self.draft.fills_subscriptions().then(|| (Box::new(Fetching::new(None, None)), parameters));
        self.subscribe_with(subscribe, fill)
    }

    /// The publication's objects begin behind `largest`; a fill was asked for by `request` itself or by an update of it.
    pub(super) fn ask_fill(&mut self, request: RequestId, asked_by: u64, wanted: Wanted, largest: Location) {
        let Wanted { filter, order, timeout, priority } = wanted;
        let (start, end) = filter.range(Some(largest));
        let range = (start, largest.min(end));
        let forwards = self.requests.get(&request).and_then(|entry| entry.publication()).is_some_and(|p| p.forward);
        if forwards && range.0 <= range.1 {
            self.events.push_back(Event::Fill(Fill { request, range, order, timeout, priority, asked_by }));
        }
    }

    /// Everything that there is of the range. A subscription that is over is not filled.
    pub fn fill(&mut self, fill: Fill, items: impl IntoIterator<Item = Fetched>) {
        if !self.count_fill(fill) {
            return;
        }
        let mut data = header(fill);
        let mut writer = FetchedObjects::new(fill.order);
        for item in items {
            writer.encode(&item, &mut data);
        }
        let stream = self.send_whole(fill.request, priority::data(fill.priority, DEFAULT_PRIORITY), data.freeze());
        if let Some(Kind::Publication(publication)) = self.requests.get_mut(&fill.request).map(|entry| &mut entry.kind)
        {
            publication.fills.push(stream);
        }
    }

    pub fn fail_fill(&mut self, fill: Fill) {
        if self.count_fill(fill) {
            let stream = self.open(Dir::Uni, priority::REQUEST);
            self.queue(Transmit::Data { stream, data: header(fill).freeze() });
            self.queue(Transmit::Reset { stream, code: ResetCode::InternalError as u64 });
        }
    }

    /// PUBLISH_DONE counts its stream. `false`: there is no subscription to fill.
    fn count_fill(&mut self, fill: Fill) -> bool {
        match self.requests.get_mut(&fill.request).map(|entry| &mut entry.kind) {
            Some(Kind::Publication(publication)) => {
                publication.streams += 1;
                true
            }
            _ => false,
        }
    }
}

fn header(fill: Fill) -> BytesMut {
    let mut header = BytesMut::new();
    varint::put(&mut header, FETCH_HEADER);
    varint::put(&mut header, fill.asked_by);
    header
}
