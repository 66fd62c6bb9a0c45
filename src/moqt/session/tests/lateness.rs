//! Delivery timeouts: what waits for too long is reset, and nothing else is.

use std::time::Duration;

use super::data::HEADER;
use super::lone::Lone;
use super::smoke::{object, track};
use crate::moqt::ResetCode;
use crate::moqt::message::{Message, Parameters, SubscribeOk, TrackProperties, UpdateOk};
use crate::moqt::properties::Writer;
use crate::moqt::session::{RequestId, Role, StreamId, SubgroupId, Transmit};

const REQUEST: RequestId = RequestId(0);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A server with one subscriber, and a subgroup under way. Timeouts of both sides for objects and for subgroups, in milliseconds.
fn publisher(subscriber: (u64, u64), of_track: (u64, u64)) -> (Lone, SubgroupId) {
    let mut lone = Lone::new(Role::Server);
    let some = |millis| Some(ms(millis)).filter(|timeout| !timeout.is_zero());
    let parameters = Parameters {
        object_delivery_timeout: some(subscriber.0),
        subgroup_delivery_timeout: some(subscriber.1),
        ..Parameters::default()
    };
    lone.request(&Message::Subscribe { id: 0, track: track("audio"), parameters });
    let properties = TrackProperties(Writer::default().number(0x02, of_track.0).number(0x06, of_track.1).finish());
    lone.session.accept_subscribe(REQUEST, SubscribeOk { properties, ..SubscribeOk::default() });
    let subgroup = lone.session.open_subgroup(REQUEST, &HEADER).unwrap();
    lone.drain();
    let stream = StreamId(subgroup.0);
    let header: usize = bytes_on(&lone, stream);
    lone.session.handle_written(stream, header);
    (lone, subgroup)
}

fn bytes_on(lone: &Lone, on: StreamId) -> usize {
    let bytes = lone.sent.iter().map(|transmit| match transmit {
        Transmit::Data { stream, data } if *stream == on => data.len(),
        _ => 0,
    });
    bytes.sum()
}

fn is_reset(lone: &mut Lone, subgroup: SubgroupId) -> bool {
    lone.was_sent(&Transmit::Reset { stream: StreamId(subgroup.0), code: ResetCode::DeliveryTimeout as u64 })
}

#[test]
fn an_object_that_the_link_does_not_take_in_time_resets_its_subgroup() {
    let (mut lone, subgroup) = publisher((200, 0), (0, 0));
    lone.session.send_object(subgroup, &object(1, 0, "late"));
    assert_eq!(lone.session.poll_timeout(), Some(lone.now), "the link is to tell the time");
    lone.pass(ms(0));
    assert_eq!(lone.session.poll_timeout(), Some(lone.now + ms(200)));
    lone.pass(ms(199));
    assert!(!is_reset(&mut lone, subgroup));
    lone.pass(ms(1));
    assert!(is_reset(&mut lone, subgroup));
    assert_eq!((lone.session.backlog(REQUEST), lone.session.counters().timed_out), (0, 1));
    let sent = bytes_on(&lone, StreamId(subgroup.0));
    lone.session.send_object(subgroup, &object(1, 1, "never"));
    lone.drain();
    assert_eq!(bytes_on(&lone, StreamId(subgroup.0)), sent, "the rest of the subgroup is never sent");
    assert!(lone.session.open_subgroup(REQUEST, &HEADER).is_some(), "the next group is");
}

#[test]
fn what_the_link_took_is_not_late() {
    let (mut lone, subgroup) = publisher((200, 0), (0, 0));
    let stream = StreamId(subgroup.0);
    let before = bytes_on(&lone, stream);
    lone.session.send_object(subgroup, &object(1, 0, "one"));
    lone.drain();
    let first = bytes_on(&lone, stream) - before;
    lone.pass(ms(150));
    lone.session.send_object(subgroup, &object(1, 1, "two"));
    lone.pass(ms(0));
    // All of the first and a part of the second.
    lone.session.handle_written(stream, first + 1);
    lone.pass(ms(199));
    assert!(!is_reset(&mut lone, subgroup));
    lone.pass(ms(1));
    assert!(is_reset(&mut lone, subgroup));
}

#[test]
fn of_two_timeouts_the_shorter_holds_and_zero_is_none() {
    for (subscriber, of_track, expected) in
        [(200, 100, Some(100)), (100, 200, Some(100)), (0, 300, Some(300)), (300, 0, Some(300)), (0, 0, None)]
    {
        let (mut lone, subgroup) = publisher((subscriber, 0), (of_track, 0));
        lone.session.send_object(subgroup, &object(1, 0, "x"));
        lone.pass(ms(0));
        let due = lone.session.poll_timeout().map(|at| at - lone.now);
        assert_eq!(due, expected.map(ms), "{subscriber} and {of_track}");
        assert_eq!(lone.session.delivery_timeout(REQUEST), expected.map(ms));
    }
}

#[test]
fn a_subgroup_has_a_time_of_its_own_from_its_end() {
    let (mut lone, subgroup) = publisher((0, 500), (0, 0));
    lone.session.send_object(subgroup, &object(1, 0, "x"));
    lone.drain();
    lone.pass(ms(5_000));
    assert!(!is_reset(&mut lone, subgroup));
    lone.session.finish_subgroup(subgroup);
    lone.pass(ms(0));
    lone.pass(ms(499));
    assert!(!is_reset(&mut lone, subgroup));
    lone.pass(ms(1));
    assert!(is_reset(&mut lone, subgroup));
    assert_eq!(lone.session.poll_timeout(), None, "nothing is left to wait for");
}

#[test]
fn an_update_changes_what_begins_after_it() {
    let (mut lone, first) = publisher((200, 0), (0, 0));
    // The second stream that the peer opened; the first is its control stream.
    let request_stream = StreamId(3);
    let parameters = Parameters { object_delivery_timeout: Some(ms(50)), ..Parameters::default() };
    lone.say(request_stream, &Message::RequestUpdate { id: 2, parameters });
    lone.session.accept_update(REQUEST, UpdateOk::default());
    let second = lone.session.open_subgroup(REQUEST, &HEADER).unwrap();
    for subgroup in [first, second] {
        lone.session.send_object(subgroup, &object(1, 0, "x"));
    }
    lone.pass(ms(0));
    lone.pass(ms(50));
    assert!(is_reset(&mut lone, second) && !is_reset(&mut lone, first));
}

/// A relay's session may have heard nothing for long when somebody else's object is sent on it.
#[test]
fn an_object_on_a_session_that_was_quiet_has_its_whole_time() {
    let (mut lone, subgroup) = publisher((200, 0), (0, 0));
    lone.session.send_object(subgroup, &object(1, 0, "x"));
    lone.pass(ms(60_000));
    assert!(!is_reset(&mut lone, subgroup));
    lone.pass(ms(200));
    assert!(is_reset(&mut lone, subgroup));
}
