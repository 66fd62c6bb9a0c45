//! One published track: whom it is served to, over whatever links, and how a frame reaches them.
//!
//! All subscriptions share one numbering; each has an open stream of its own. One that does not take the track as fast as
//! it is spoken loses its stream and goes on with a later group; the others don't notice. The track outlives its links:
//! the pool adds and removes subscriptions, the numbering goes on.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::stamp::{Clock, Numbering, Place, TIMESCALE};
use super::{Delivery, LeaseId, PublishTrack, Wires, Written};
use crate::moqt::message::{Filter, GroupOrder, Location, PublishDone, SubscribeOk, TrackProperties};
use crate::moqt::properties::{kind, with_number};
use crate::moqt::session::{RequestId, SubgroupId};
use crate::moqt::{FullTrackName, Object, PublishDoneCode, ResetCode, Session, Status, SubgroupHeader};
use crate::net::LinkId;

/// Publisher priority of audio; everything else has 128 (§"Priorities": lower is more urgent).
const PRIORITY: u8 = 64;
/// Properties of the datagram profile: what is older than this is not worth sending.
const DELIVERY_TIMEOUT_MS: u64 = 400;
/// A subscription is behind when its link holds more of it than this much time makes, within these bytes.
const BEHIND: Duration = Duration::from_secs(2);
const BEHIND_BYTES_LEAST: usize = 8 * 1024;
const BEHIND_BYTES_MOST: usize = 128 * 1024;
/// What an object costs beside its payload, about.
const OBJECT_OVERHEAD: usize = 16;

/// One accepted SUBSCRIBE.
#[derive(Debug)]
struct Served {
    link: LinkId,
    request: RequestId,
    forward: bool,
    open: Option<SubgroupId>,
    /// The stream before, which may be on its way.
    before: Option<SubgroupId>,
    /// It lost its stream and waits for the next group.
    behind: bool,
    /// Datagrams that its link has dropped, as last seen.
    dropped: u64,
    /// The path gives no answer: what is written would only be held up.
    quiet: bool,
    start: Location,
    end: Location,
}

pub(super) struct Publisher {
    pub(super) lease: LeaseId,
    pub(super) name: FullTrackName,
    /// A link is up, whether somebody listens there or not.
    pub(super) online: bool,
    delivery: Delivery,
    frame_us: u32,
    waits: bool,
    properties: TrackProperties,
    numbering: Numbering,
    served: Vec<Served>,
    /// Where END_OF_TRACK stands, and the object before it.
    ended: Option<(Place, Option<Location>)>,
    /// Datagrams dropped by links since [`Publisher::take_dropped`].
    dropped: u64,
}

/// How one frame went over one subscription.
enum Passed {
    Sent,
    Behind,
    No,
}

impl Publisher {
    pub(super) fn new(lease: LeaseId, track: PublishTrack, clock: Clock) -> Self {
        let PublishTrack { track: name, delivery, frame_us, waits, properties } = track;
        let mut pairs = with_number(&properties.0, kind::TIMESCALE, TIMESCALE);
        if delivery == Delivery::Datagram {
            pairs = with_number(&pairs, kind::OBJECT_DELIVERY_TIMEOUT, DELIVERY_TIMEOUT_MS);
        }
        Self {
            lease,
            name,
            online: false,
            delivery,
            frame_us: frame_us.max(1),
            waits,
            properties: TrackProperties(pairs),
            numbering: Numbering::new(delivery, frame_us, clock),
            served: Vec::new(),
            ended: None,
            dropped: 0,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn subscribers(&self) -> usize {
        self.served.len()
    }

    pub(super) fn is_served_on(&self, link: LinkId) -> bool {
        self.served.iter().any(|served| served.link == link)
    }

    pub(super) fn largest(&self) -> Option<Location> {
        self.ended.map_or(self.numbering.largest(), |(_, largest)| largest)
    }

    /// Answers a SUBSCRIBE; an ended track says so at once. `false`: the filter ends before the live edge.
    pub(super) fn serve(
        &mut self,
        session: &mut Session,
        (link, request): (LinkId, RequestId),
        forward: bool,
        filter: Option<Filter>,
    ) -> bool {
        let largest = self.largest();
        let Some((start, end)) = range(filter, largest) else { return false };
        let group_order = match self.delivery {
            Delivery::Stream => GroupOrder::Ascending,
            Delivery::Datagram => GroupOrder::Descending,
        };
        let properties = self.properties.clone();
        session.accept_subscribe(
            request,
            SubscribeOk { expires: None, largest, group_order: Some(group_order), properties },
        );
        if self.served.iter().any(|other| other.link != link) {
            // A relay takes one group from one link only. The link before may be dead, so the next frame begins another.
            self.numbering.roll();
        }
        let mut served = Served {
            link,
            request,
            forward,
            open: None,
            before: None,
            behind: false,
            dropped: 0,
            quiet: false,
            start,
            end,
        };
        match self.ended {
            Some((place, _)) => served.end(session, place),
            None => self.served.push(served),
        }
        true
    }

    /// The peer withdrew its SUBSCRIBE.
    pub(super) fn drop_request(&mut self, link: LinkId, request: RequestId) {
        self.served.retain(|served| (served.link, served.request) != (link, request));
    }

    /// The path to a link went quiet, or speaks again. What it holds back is not to come out later: frames are left out until
    /// it speaks, and then a new group begins; where they wait for it, nothing changes.
    pub(super) fn set_quiet(&mut self, session: &mut Session, link: LinkId, quiet: bool) {
        if self.waits {
            return;
        }
        for served in self.served.iter_mut().filter(|served| served.link == link && served.quiet != quiet) {
            served.quiet = quiet;
            served.fall_behind(session);
            if let Some(before) = served.before.take() {
                session.abandon_subgroup(before, ResetCode::TooFarBehind as u64);
            }
            self.numbering.roll();
        }
    }

    pub(super) fn drop_link(&mut self, link: LinkId) {
        self.served.retain(|served| served.link != link);
    }

    /// REQUEST_UPDATE on a subscription. Its open stream was reset when it is not to be forwarded: objects that are left out
    /// must not look like a whole group (§"Closing Subgroup Streams").
    pub(super) fn update(
        &mut self,
        session: &mut Session,
        (link, request): (LinkId, RequestId),
        forward: bool,
        filter: Option<Filter>,
    ) {
        let largest = self.largest();
        for served in self.served.iter_mut().filter(|s| (s.link, s.request) == (link, request)) {
            served.forward = forward;
            if let Some(open) = served.open.take_if(|_| !forward) {
                session.reset_subgroup(open, ResetCode::Cancelled as u64);
            }
            if filter.is_some() {
                // A range that is over ends with the next frame.
                (served.start, served.end) = range(filter, largest).unwrap_or((served.start, Location::default()));
            }
        }
    }

    /// One frame to everybody who listens. `stamp` makes its properties, if anybody does.
    pub(super) fn write(
        &mut self,
        links: &mut impl Wires,
        stamp: impl FnOnce() -> Bytes,
        payload: Bytes,
        now: Instant,
    ) -> Written {
        if !self.online {
            return Written::Offline;
        }
        let limit = self.behind_bytes(payload.len());
        let mut content = Some((stamp, payload));
        let mut object: Option<(Object, Place)> = None;
        let (mut sent, mut behind, mut lost) = (false, false, 0);
        for served in self.served.iter_mut().filter(|served| served.forward) {
            let Some(session) = links.session(served.link) else { continue };
            let (backlog, dropped) = session.held(served.request);
            lost += dropped - std::mem::replace(&mut served.dropped, dropped);
            if served.quiet || backlog > limit {
                served.fall_behind(session);
                behind = true;
                continue;
            }
            let (object, place) = object.get_or_insert_with(|| {
                let place = self.numbering.next(now);
                let (properties, payload) =
                    content.take().map(|(stamp, payload)| (stamp(), payload)).unwrap_or_default();
                (frame(place, self.delivery, properties, payload), place)
            });
            let passed = match self.delivery {
                Delivery::Stream => served.stream(session, object, *place),
                Delivery::Datagram => served.datagram(session, object, *place),
            };
            sent |= matches!(passed, Passed::Sent);
            behind |= matches!(passed, Passed::Behind);
        }
        self.dropped += lost;
        if object.is_some() {
            self.drop_satisfied(links);
        }
        match (sent, behind) {
            (true, _) => Written::Sent,
            (false, true) => {
                self.numbering.roll();
                Written::Behind
            }
            (false, false) => Written::Unheard,
        }
    }

    /// Datagrams written before that waited too long for room on a link.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// [`BEHIND`] of frames like this one.
    fn behind_bytes(&self, payload: usize) -> usize {
        let frames = (BEHIND.as_micros() as usize).div_ceil(self.frame_us as usize);
        (frames * (payload + OBJECT_OVERHEAD)).clamp(BEHIND_BYTES_LEAST, BEHIND_BYTES_MOST)
    }

    /// Ends subscriptions whose filter's last group has passed.
    fn drop_satisfied(&mut self, links: &mut impl Wires) {
        let Some(largest) = self.numbering.largest() else { return };
        self.served.retain(|served| {
            let over = served.end.group < largest.group;
            let Some(session) = links.session(served.link).filter(|_| over) else { return !over };
            // Since draft 20 the subscriber may still widen it.
            if session.draft().ends_subscriptions() {
                session.end_publication(served.request, done(PublishDoneCode::SubscriptionEnded, "the range is over"));
                return false;
            }
            true
        });
    }

    /// END_OF_TRACK and PUBLISH_DONE to everybody; whoever subscribes later hears it too.
    pub(super) fn end(&mut self, links: &mut impl Wires, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        let largest = self.numbering.largest();
        let place = self.numbering.end(now);
        self.ended = Some((place, largest));
        for mut served in self.served.drain(..) {
            if let Some(session) = links.session(served.link) {
                served.end(session, place);
            }
        }
    }

    /// Stops serving on `link` without an end of the track. Returns the requests whose last words are on their way.
    pub(super) fn leave(&mut self, session: &mut Session, link: LinkId) -> Vec<RequestId> {
        let left: Vec<_> = self.served.iter().filter(|s| s.link == link).map(|s| s.request).collect();
        for request in &left {
            session.end_publication(*request, done(PublishDoneCode::GoingAway, "the publisher left"));
        }
        self.drop_link(link);
        left
    }

    /// The subscriptions by link and request.
    pub(super) fn requests(&self) -> impl Iterator<Item = (LinkId, RequestId)> {
        self.served.iter().map(|served| (served.link, served.request))
    }
}

impl Served {
    fn fall_behind(&mut self, session: &mut Session) {
        if let Some(open) = self.open.take() {
            session.reset_subgroup(open, ResetCode::TooFarBehind as u64);
        }
        self.behind = true;
    }

    fn wants(&self, at: Location) -> bool {
        self.start <= at && at <= self.end
    }

    fn stream(&mut self, session: &mut Session, object: &Object, place: Place) -> Passed {
        if self.behind && !place.first {
            return Passed::Behind;
        }
        self.behind = false;
        if place.first
            && let Some(before) = self.open.take()
        {
            session.finish_subgroup(before);
            self.before = Some(before);
        }
        if !self.wants(place.at) {
            return Passed::No;
        }
        let Some(open) = self.open.or_else(|| session.open_subgroup(self.request, &header(place, true))) else {
            return Passed::No;
        };
        session.send_object(open, object);
        self.open = Some(open).filter(|_| !place.last);
        if place.last {
            session.finish_subgroup(open);
            self.before = Some(open);
        }
        Passed::Sent
    }

    fn datagram(&mut self, session: &mut Session, object: &Object, place: Place) -> Passed {
        self.behind = false;
        if !self.wants(place.at) {
            return Passed::No;
        }
        match session.send_datagram(self.request, object) {
            Ok(()) => Passed::Sent,
            Err(_) => self.stream(session, object, place),
        }
    }

    /// The last object, and the word that it was the last.
    fn end(&mut self, session: &mut Session, place: Place) {
        let Location { group, object: id } = place.at;
        let end = Object { group, id, priority: Some(PRIORITY), status: Status::EndOfTrack, ..Object::default() };
        if place.first
            && let Some(before) = self.open.take()
        {
            session.finish_subgroup(before);
        }
        if let Some(open) = self.open.take().or_else(|| session.open_subgroup(self.request, &header(place, false))) {
            session.send_object(open, &end);
            session.finish_subgroup(open);
        }
        session.end_publication(self.request, done(PublishDoneCode::TrackEnded, "the track has ended"));
    }
}

fn frame(place: Place, delivery: Delivery, properties: Bytes, payload: Bytes) -> Object {
    let Location { group, object: id } = place.at;
    let (priority, end_of_group) = (Some(PRIORITY), delivery == Delivery::Datagram);
    Object { group, id, priority, properties, payload, end_of_group, ..Object::default() }
}

fn header(place: Place, properties: bool) -> SubgroupHeader {
    let priority = Some(PRIORITY);
    let group = place.at.group;
    SubgroupHeader { group, subgroup: 0, priority, properties, end_of_group: true, first_object: place.first }
}

fn done(code: PublishDoneCode, reason: &str) -> PublishDone {
    PublishDone { code: code as u64, streams: 0, reason: reason.to_owned() }
}

/// What a filter lets through (§5.1.2), both ends included; what was said before is not kept. `None`: nothing of it is still to come.
fn range(filter: Option<Filter>, largest: Option<Location>) -> Option<(Location, Location)> {
    let (start, end) = filter.unwrap_or(Filter::LargestObject).range(largest);
    let next = Filter::LargestObject.range(largest).0;
    largest.is_none_or(|largest| largest.group <= end.group).then_some((start.max(next), end))
}
