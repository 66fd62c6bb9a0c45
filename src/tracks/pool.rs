//! Routes, leases and links: see the contract in [`crate::tracks`].

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    Counters, DialId, Event, LeaseId, PublishTrack, RouteId, RouteKind, Supply, Tokens, TrackId, Wires, Written,
};
use crate::moqt::FullTrackName;
use crate::net::{LinkEvent, LinkId};

/// All tracks of one worker.
pub struct Pool {
    _private: (),
}

#[allow(unused_variables, clippy::todo)]
impl Pool {
    /// `seed` for jitter; `unix` is the wall clock's reading at `now`, from which group numbers grow.
    pub fn new(seed: u64, now: Instant, unix: Duration) -> Self {
        todo!()
    }

    pub fn route(&mut self, kind: RouteKind) -> RouteId {
        todo!()
    }

    /// A place on a link of the route; [`Event::WantDial`] follows when there is none. `tokens` go with every request of
    /// the lease, for links that others dialled.
    pub fn lease(&mut self, route: RouteId, tokens: Tokens, now: Instant) -> LeaseId {
        todo!()
    }

    /// Fresh tokens for the requests to come.
    pub fn renew(&mut self, lease: LeaseId, tokens: Tokens) {
        todo!()
    }

    /// Announces the track's namespace and serves its subscribers, on this link and every later one.
    pub fn publish(&mut self, links: &mut impl Wires, lease: LeaseId, track: PublishTrack, now: Instant) -> TrackId {
        todo!()
    }

    /// Subscribes from the live edge, holding out for a publisher, on this link and every later one.
    pub fn subscribe(&mut self, links: &mut impl Wires, lease: LeaseId, track: FullTrackName, now: Instant) -> TrackId {
        todo!()
    }

    /// One frame of a published track.
    pub fn write(
        &mut self,
        links: &mut impl Wires,
        track: TrackId,
        timestamp_us: u64,
        payload: Bytes,
        now: Instant,
    ) -> Written {
        todo!()
    }

    /// Ends a published track for good: END_OF_TRACK, then PUBLISH_DONE TRACK_ENDED. Unknown tracks do nothing.
    pub fn end(&mut self, links: &mut impl Wires, track: TrackId, now: Instant) {
        todo!()
    }

    /// Withdraws one track without saying that it ended; the lease stays.
    pub fn close(&mut self, links: &mut impl Wires, track: TrackId) {
        todo!()
    }

    /// Withdraws all tracks of the lease and gives its place back; a link that nobody leases is closed once its last words are out.
    pub fn release(&mut self, links: &mut impl Wires, lease: LeaseId, now: Instant) {
        todo!()
    }

    /// The answer to [`Event::WantDial`]. An error is a text for [`Event::State`]; the next attempt asks again.
    pub fn supply(&mut self, links: &mut impl Wires, id: DialId, supply: Result<Supply, String>, now: Instant) {
        todo!()
    }

    /// An event of a link. Links that are not the pool's are ignored.
    pub fn handle_event(&mut self, links: &mut impl Wires, link: LinkId, event: LinkEvent, now: Instant) {
        todo!()
    }

    pub fn handle_timeout(&mut self, links: &mut impl Wires, now: Instant) {
        todo!()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    pub fn counters(&self) -> Counters {
        todo!()
    }

    /// The pool's own words while its app ends: every link is closed with NO_ERROR.
    pub fn shutdown(&mut self, links: &mut impl Wires) {
        todo!()
    }
}
