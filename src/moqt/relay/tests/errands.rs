//! FETCH at an edge, of what passed the relay in charge before anybody listened here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::cache::Told::{self, Object as Here, Unknown};
use super::cache::{at, short};
use super::edges::Net;
use super::world::{audio, header, named, object, uplink};
use crate::moqt::message::{Fetch, Filter, GroupOrder, Message, Parameters, Subscribe};
use crate::moqt::relay::{CacheLimits, constants};
use crate::moqt::session::{RequestId, Role};
use crate::moqt::{Dir, Draft, Event, Object, RequestErrorCode};

const REST: u64 = u64::MAX;

fn all() -> Fetch {
    Fetch::Standalone { track: audio(), start: at(1, 0), end: Fetch::TO_LARGEST }
}

impl Net {
    fn fetch(&mut self, user: usize, fetch: Fetch, order: Option<GroupOrder>) -> RequestId {
        let request = self.links[user].pair.client.fetch(fetch, order, Vec::new());
        self.settle();
        request
    }

    fn told(&self, user: usize, request: RequestId) -> Vec<Told> {
        let told = self.links[user].heard.iter().filter_map(|event| match event {
            Event::Fetched { request: of, fetched } if *of == request => Some(short(fetched)),
            _ => None,
        });
        told.collect()
    }

    fn refused(&self, user: usize, request: RequestId) -> Option<u64> {
        self.links[user].heard.iter().find_map(|event| match event {
            Event::RequestError { request: of, error } if *of == request => Some(error.code),
            _ => None,
        })
    }

    fn is_over(&self, user: usize, request: RequestId) -> bool {
        let over = |event: &Event| matches!(event, Event::FetchEnd { request: of, .. } if *of == request);
        self.links[user].heard.iter().any(over) || self.refused(user, request).is_some()
    }

    /// Core 0 has heard groups 1 to 3 of a publisher; its edge, core 1, knows of nothing.
    fn with_a_past(sister: bool) -> (Self, usize) {
        let mut net = Self::star(2, sister);
        let publisher = net.publisher(0);
        let listener = net.user(0);
        net.subscribe(listener, None);
        (1..4).for_each(|group| net.say(publisher, group));
        (net, publisher)
    }

    fn counted(&self) -> (u64, u64) {
        (self.cores[1].counters().errands, self.cores[1].counters().errands_in_vain)
    }

    fn assert_nothing_runs(&self) {
        assert!(self.cores.iter().all(|core| core.counters().fetching == 0 && core.runs_no_errand()));
    }
}

/// Each group has one object here, and nobody told its end.
fn past() -> Vec<Told> {
    vec![Here(1, 0), Unknown(1, REST), Here(2, 0), Unknown(2, REST), Here(3, 0)]
}

#[test]
fn what_an_edge_has_not_seen_is_asked_of_the_relay_in_charge() {
    for sister in [true, false] {
        let (mut net, publisher) = Net::with_a_past(sister);
        let user = net.user(1);
        let (up, down) = (net.fetch(user, all(), None), net.fetch(user, all(), Some(GroupOrder::Descending)));
        assert_eq!(net.told(user, up), past(), "sister {sister}");
        let turned = [Here(3, 0), Here(2, 0), Unknown(2, REST), Here(1, 0), Unknown(1, REST)];
        assert_eq!(net.told(user, down), turned);
        // The same where the track flows, but has begun later; what is known here whole is asked of nobody.
        net.subscribe(user, None);
        net.say(publisher, 4);
        let mixed = net.fetch(user, all(), None);
        let expected: Vec<Told> = past().into_iter().chain([Unknown(3, REST), Here(4, 0)]).collect();
        assert_eq!(net.told(user, mixed), expected);
        assert_eq!(net.counted(), (3, 0));
        let here = Fetch::Standalone { track: audio(), start: at(4, 0), end: Fetch::TO_LARGEST };
        let here = net.fetch(user, here, None);
        assert_eq!(net.told(user, here), [Here(4, 0)]);
        assert_eq!(net.counted(), (3, 0));
        net.assert_nothing_runs();
    }
}

#[test]
fn the_first_subscriber_of_an_edge_joins_what_was_before() {
    for sister in [true, false] {
        let (mut net, publisher) = Net::with_a_past(sister);
        let user = net.user(1);
        let session = &mut net.links[user].pair.client;
        let live = Subscribe { filter: Some(Filter::LargestObject), ..Subscribe::new(audio()) };
        let joined = session.subscribe(live);
        // It waits for the subscription, which waits for the relay in charge.
        let join = session.fetch(Fetch::RelativeJoining { request: joined.0, groups: 1 }, None, Vec::new());
        net.settle();
        net.say(publisher, 4);
        assert_eq!(net.told(user, join), [Here(2, 0), Unknown(2, REST), Here(3, 0)], "sister {sister}");
        assert_eq!(net.groups(user), [4]);
        net.assert_nothing_runs();
    }
}

#[test]
fn what_the_relay_in_charge_refuses_is_refused() {
    let (mut net, _) = Net::with_a_past(true);
    let user = net.user(1);
    let nowhere = Fetch::Standalone { track: named(uplink(), "other"), start: at(0, 0), end: at(9, 0) };
    let beyond = Fetch::Standalone { track: audio(), start: at(9, 0), end: at(9, 0) };
    for (fetch, code) in [(nowhere, RequestErrorCode::DoesNotExist), (beyond, RequestErrorCode::InvalidRange)] {
        let request = net.fetch(user, fetch, None);
        assert_eq!(net.refused(user, request), Some(code as u64));
    }
    assert_eq!(net.counted(), (2, 2));
    net.assert_nothing_runs();
}

#[test]
fn who_may_not_hear_it_makes_nobody_ask() {
    let (mut net, _) = Net::with_a_past(false);
    let user = net.nobody(1);
    let request = net.fetch(user, all(), None);
    assert_eq!(net.refused(user, request), Some(RequestErrorCode::Unauthorized as u64));
    assert_eq!(net.counted(), (0, 0));
}

/// The relay in charge says nothing, or is gone: what is known here is the answer.
#[test]
fn an_errand_that_brings_nothing_ends_in_time() {
    for dies in [false, true] {
        let (mut net, publisher) = Net::with_a_past(false);
        let (listener, stranger) = (net.user(1), net.user(1));
        net.subscribe(listener, None);
        net.say(publisher, 4);
        net.links[0].pair.stall(Role::Server, true);
        let elsewhere = Fetch::Standalone { track: named(uplink(), "other"), start: at(0, 0), end: at(9, 0) };
        let (known, unknown) = (net.fetch(listener, all(), None), net.fetch(stranger, elsewhere, None));
        assert!(!net.is_over(listener, known) && !net.is_over(stranger, unknown));
        match dies {
            true => net.kill(0),
            false => net.run_for(constants::ERRAND),
        }
        net.settle();
        let code = if dies { RequestErrorCode::DoesNotExist } else { RequestErrorCode::Timeout };
        assert_eq!(net.refused(stranger, unknown), Some(code as u64));
        match dies {
            // Its track went with it.
            true => assert_eq!(net.refused(listener, known), Some(RequestErrorCode::DoesNotExist as u64)),
            false => assert_eq!(net.told(listener, known), [Unknown(3, REST), Here(4, 0)]),
        }
        assert_eq!(net.counted(), (2, 2));
        assert!(net.cores[1].runs_no_errand());
    }
}

#[test]
fn whoever_gives_up_takes_his_errand_back() {
    for dies in [false, true] {
        let (mut net, _) = Net::with_a_past(true);
        let user = net.user(1);
        net.links[0].pair.stall(Role::Server, true);
        let request = net.fetch(user, all(), None);
        assert!(net.cores[0].counters().fetching > 0);
        match dies {
            true => net.kill(user),
            false => net.links[user].pair.client.cancel(request),
        }
        net.settle();
        net.links[0].pair.stall(Role::Server, false);
        net.settle();
        net.assert_nothing_runs();
        assert_eq!(net.counted(), (1, 0));
    }
}

#[test]
fn an_errand_that_brings_too_much_is_dropped() {
    let (mut net, publisher) = Net::with_a_past(true);
    net.cores[0].set_cache(CacheLimits { track_bytes: 1 << 20, ..CacheLimits::default() });
    let upstream = net.asked(publisher)[0];
    let subgroup = net.links[publisher].pair.client.open_subgroup(upstream, &header(9)).unwrap();
    for id in 0..20 {
        let payload = Bytes::from(vec![7; 30_000]);
        net.links[publisher].pair.client.send_object(subgroup, &Object { payload, ..object(9, id) });
        net.settle();
    }
    let user = net.user(1);
    let request = net.fetch(user, all(), None);
    assert_eq!(net.refused(user, request), Some(RequestErrorCode::ExcessiveLoad as u64));
    assert_eq!(net.counted(), (1, 1));
    net.assert_nothing_runs();
}

/// FILL_TIMEOUT is the peer's word on how long others may be asked; 0: not at all (§10.2.5).
#[test]
fn a_fetch_without_time_asks_nobody() {
    for (fill_timeout, errands) in [(None, 1), (Some(Duration::from_millis(500)), 1), (Some(Duration::ZERO), 0)] {
        let (mut net, _) = Net::with_a_past(true);
        let user = net.user(1);
        let parameters = Parameters { fill_timeout, ..Parameters::default() };
        let mut asked = BytesMut::new();
        Message::Fetch { id: 0, fetch: all(), parameters }.encode(Draft::D18, &mut asked).unwrap();
        let now = net.links[user].pair.now;
        let server = &mut net.links[user].pair.server;
        let stream = server.accept_stream(Dir::Bi);
        server.handle_data(stream, asked.freeze(), false, now);
        net.settle();
        assert_eq!(net.counted(), (errands, 0), "{fill_timeout:?}");
    }
}
