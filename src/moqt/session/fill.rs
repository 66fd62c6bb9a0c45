//! Fill fetch streams (since draft 20): FILL_PARAMETERS on a subscription ask for what was published before it.
//!
//! A session keeps no objects, so every fill fails, in the way that the drafts give: its stream is opened and reset behind the
//! FETCH_HEADER, and the subscription goes on. A fill whose range is empty has no stream.

use bytes::BytesMut;

use super::requests::Kind;
use super::{Dir, RequestId, Session, Transmit, priority};
use crate::moqt::error::ResetCode;
use crate::moqt::message::{Filter, Location, Parameters};
use crate::moqt::stream::FETCH_HEADER;
use crate::moqt::varint;

/// From where on a subscription that begins is to be filled.
pub(super) fn wanted(parameters: &Parameters) -> Option<Filter> {
    let fill = parameters.fill.as_ref()?;
    // Without a filter of its own it has the subscription's.
    Some(fill.filter.or(parameters.filter).unwrap_or(Filter::AbsoluteStart(Location::default())))
}

impl Session {
    /// The publication's objects begin behind `largest`; a fill was asked for by `request` itself or by an update of it.
    pub(super) fn fail_fill(&mut self, request: RequestId, asked_by: u64, filter: Filter, largest: Location) {
        let Some(Kind::Publication(publication)) = self.requests.get_mut(&request).map(|entry| &mut entry.kind) else {
            return;
        };
        let (start, end) = filter.range(Some(largest));
        if !publication.forward || start > largest.min(end) {
            return;
        }
        publication.streams += 1;
        let stream = self.open(Dir::Uni, priority::REQUEST);
        let mut header = BytesMut::new();
        varint::put(&mut header, FETCH_HEADER);
        varint::put(&mut header, asked_by);
        self.queue(Transmit::Data { stream, data: header.freeze() });
        self.queue(Transmit::Reset { stream, code: ResetCode::InternalError as u64 });
    }
}
