//! Delivery timeouts (§10.2.3, §10.2.4): what has waited for too long is not sent any more.
//!
//! OBJECT_DELIVERY_TIMEOUT runs from when an object was sent here until the link has taken its last byte; SUBGROUP_DELIVERY_TIMEOUT from
//! the end of a subgroup until the link has taken all of it (what the peer has acknowledged is not known here, so a subgroup counts
//! as delivered a little early). When either is over the stream is reset with DELIVERY_TIMEOUT and nothing more of the subgroup
//! is sent. Publisher and subscriber may each set them; of two the shorter holds. Where nobody does, nothing is remembered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{RequestId, Session, StreamId};
use crate::moqt::error::ResetCode;
use crate::moqt::message::{Parameters, TrackProperties};
use crate::moqt::properties::{self, kind};

/// The timeouts of one publication. Zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeouts {
    publisher: (Option<Duration>, Option<Duration>),
    subscriber: (Option<Duration>, Option<Duration>),
}

impl Timeouts {
    pub(super) fn asked(parameters: &Parameters) -> Self {
        let mut timeouts = Self::default();
        timeouts.ask(parameters.object_delivery_timeout, parameters.subgroup_delivery_timeout);
        timeouts
    }

    /// What an update leaves out stays.
    pub(super) fn ask(&mut self, object: Option<Duration>, subgroup: Option<Duration>) {
        self.subscriber = (object.or(self.subscriber.0), subgroup.or(self.subscriber.1));
    }

    pub(super) fn describe(&mut self, track: &TrackProperties) {
        let millis = |kind| properties::number(&track.0, kind).map(Duration::from_millis);
        self.publisher = (millis(kind::OBJECT_DELIVERY_TIMEOUT), millis(kind::SUBGROUP_DELIVERY_TIMEOUT));
    }

    pub(super) fn object(&self) -> Option<Duration> {
        shorter(self.publisher.0, self.subscriber.0)
    }

    fn subgroup(&self) -> Option<Duration> {
        shorter(self.publisher.1, self.subscriber.1)
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).filter(|timeout| !timeout.is_zero()).min()
}

/// How old what a stream has not given away is. Only where there is a timeout.
pub(super) struct Ages {
    object: Option<Duration>,
    subgroup: Option<Duration>,
    /// Bytes of the stream so far, and how many of them the link took.
    queued: u64,
    taken: u64,
    /// Where each object ends that the link has not taken whole, and since when it waits: known with the next call of the link, for
    /// who sends here may know a later time than our own link has told.
    objects: VecDeque<(u64, Option<Instant>)>,
    finished: Option<Option<Instant>>,
}

impl Ages {
    pub(super) fn new(timeouts: Timeouts, header: usize) -> Option<Box<Self>> {
        let (object, subgroup) = (timeouts.object(), timeouts.subgroup());
        if object.is_none() && subgroup.is_none() {
            return None;
        }
        let objects = VecDeque::new();
        Some(Box::new(Self { object, subgroup, queued: header as u64, taken: 0, objects, finished: None }))
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.queued += bytes as u64;
        if self.object.is_some() {
            self.objects.push_back((self.queued, None));
        }
    }

    pub(super) fn taken(&mut self, bytes: usize) {
        self.taken += bytes as u64;
        while self.objects.pop_front_if(|(end, _)| *end <= self.taken).is_some() {}
    }

    pub(super) fn finished(&mut self) {
        self.finished = Some(None);
    }

    /// What was sent since the last call of the link waits from now on.
    fn begin(&mut self, now: Instant) {
        self.objects
            .iter_mut()
            .rev()
            .map_while(|(_, since)| since.is_none().then_some(since))
            .for_each(|since| *since = Some(now));
        self.finished = self.finished.map(|since| since.or(Some(now)));
    }

    /// `now`: the time of what has not begun to wait, which the link is to tell.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let end =
            |since: Option<Instant>, timeout: Duration| since.map_or(Some(now), |since| since.checked_add(timeout));
        let object = self.objects.front().zip(self.object).and_then(|((_, since), timeout)| end(*since, timeout));
        let subgroup = self.finished.zip(self.subgroup).and_then(|(since, timeout)| end(since, timeout));
        object.into_iter().chain(subgroup).min()
    }
}

impl Session {
    /// After how long datagrams of this publication are not sent any more.
    pub fn delivery_timeout(&self, request: RequestId) -> Option<Duration> {
        self.requests.get(&request)?.publication()?.timeouts.object()
    }

    pub(super) fn next_late(&self) -> Option<Instant> {
        if self.timed == 0 {
            return None;
        }
        self.outbound.values().filter_map(|outbound| outbound.ages.as_ref()?.deadline(self.now)).min()
    }

    pub(super) fn drop_late(&mut self) {
        if self.timed == 0 {
            return;
        }
        let now = self.now;
        let mut late: Vec<StreamId> = Vec::new();
        for (stream, outbound) in self.outbound.iter_mut() {
            let Some(ages) = &mut outbound.ages else { continue };
            ages.begin(now);
            if ages.deadline(now).is_some_and(|at| at <= now) {
                late.push(*stream);
            }
        }
        for stream in late {
            self.counters.timed_out += 1;
            self.drop_outbound(stream, ResetCode::DeliveryTimeout as u64);
        }
    }
}
