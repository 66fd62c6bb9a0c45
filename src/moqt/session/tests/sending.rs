//! Objects as they leave: subgroups, datagrams, backlog, and the count in PUBLISH_DONE.

use std::time::Duration;

use bytes::Bytes;

use super::data::{HEADER, datagram};
use super::lone::{Lone, none, subgroup};
use super::pair::{Conditions, Pair};
use super::requests::subscribe_message;
use super::smoke::{object, subscribed, track};
use crate::moqt::message::{GroupOrder, Message, Parameters, PublishDone, SubscribeOk, TrackProperties};
use crate::moqt::properties::Writer;
use crate::moqt::session::{Event, RequestId, Role, StreamId, SubgroupId, TooLarge, Transmit, priority};
use crate::moqt::{Object, Status, SubgroupHeader};

/// A server with one accepted SUBSCRIBE.
fn publisher() -> (Lone, RequestId) {
    let mut lone = Lone::new(Role::Server);
    lone.request(&subscribe_message(0));
    lone.session.accept_subscribe(RequestId(0), SubscribeOk::default());
    lone.drain();
    lone.sent.clear();
    (lone, RequestId(0))
}

fn data_on(lone: &Lone, on: StreamId) -> Vec<Bytes> {
    let data = lone.sent.iter().filter_map(|transmit| match transmit {
        Transmit::Data { stream, data } if *stream == on => Some(data.clone()),
        _ => None,
    });
    data.collect()
}

#[test]
fn objects_sent_between_two_polls_leave_as_one_chunk() {
    let (mut lone, request) = publisher();
    let id = lone.session.open_subgroup(request, &HEADER).unwrap();
    let stream = StreamId(id.0);
    for n in 0..3 {
        lone.session.send_object(id, &object(1, n, "abc"));
    }
    lone.drain();
    lone.session.send_object(id, &object(1, 3, "abc"));
    lone.session.finish_subgroup(id);
    lone.drain();
    assert_eq!(data_on(&lone, stream).len(), 2);
    assert_eq!(lone.sent.last(), Some(&Transmit::Finish { stream }));
    let opened = Transmit::Open { stream, dir: crate::moqt::Dir::Uni, priority: priority::data(128, 128) };
    assert_eq!(lone.sent.first(), Some(&opened));
    let expected = subgroup(0, &HEADER, &(0..4).map(|n| object(1, n, "abc")).collect::<Vec<_>>());
    assert_eq!(data_on(&lone, stream).concat(), expected);
}

#[test]
fn the_tracks_default_priority_counts_where_a_header_names_none() {
    let mut lone = Lone::new(Role::Server);
    lone.request(&subscribe_message(0));
    let properties = TrackProperties(Writer::default().number(0x0e, 64).finish());
    lone.session.accept_subscribe(RequestId(0), SubscribeOk { properties, ..SubscribeOk::default() });
    lone.session.open_subgroup(RequestId(0), &HEADER);
    lone.session.open_subgroup(RequestId(0), &SubgroupHeader { priority: Some(1), ..HEADER });
    lone.drain();
    let opens: Vec<i32> = lone
        .sent
        .iter()
        .filter_map(|transmit| match transmit {
            Transmit::Open { priority, .. } => Some(*priority),
            _ => None,
        })
        .collect();
    assert_eq!(opens, [priority::data(128, 64), priority::data(128, 1)]);
}

/// The priorities of the streams that were opened, or moved, in order.
fn urgencies(lone: &mut Lone) -> Vec<i32> {
    lone.drain();
    let urgency = |transmit: Transmit| match transmit {
        Transmit::Open { priority, .. } | Transmit::Priority { priority, .. } => Some(priority),
        _ => None,
    };
    lone.sent.drain(..).filter_map(urgency).collect()
}

/// A server's subscription of this order: its subscriber's or its publisher's word.
fn ordered(asked: Option<GroupOrder>, preferred: Option<GroupOrder>) -> Lone {
    let mut lone = Lone::new(Role::Server);
    let parameters = Parameters { group_order: asked, ..none() };
    lone.request(&Message::Subscribe { id: 0, track: track("audio"), parameters });
    let ok = SubscribeOk { group_order: preferred, ..SubscribeOk::default() };
    lone.session.accept_subscribe(RequestId(0), ok);
    urgencies(&mut lone);
    lone
}

fn open(lone: &mut Lone, group: u64) -> SubgroupId {
    lone.session.open_subgroup(RequestId(0), &SubgroupHeader { group, ..HEADER }).unwrap()
}

/// §7.2: of one subscription's streams of equal priority the group order decides; the subscriber's word before the publisher's.
#[test]
fn groups_of_equal_priority_have_the_order_of_their_subscription() {
    use GroupOrder::{Ascending, Descending};
    let orders = [None, Some(Ascending), Some(Descending)];
    for (asked, preferred) in orders.into_iter().flat_map(|asked| orders.map(|preferred| (asked, preferred))) {
        let mut lone = ordered(asked, preferred);
        for group in [1_795_362_135, 1_795_362_134, 1_795_362_137] {
            open(&mut lone, group);
        }
        let sent = urgencies(&mut lone);
        let ascending = asked.or(preferred) != Some(Descending);
        let in_order = if ascending { [sent[1], sent[0], sent[2]] } else { [sent[2], sent[0], sent[1]] };
        assert!(in_order.is_sorted_by(|a, b| a > b), "{asked:?} {preferred:?}: {sent:?}");
        // No group outweighs a priority.
        let urgent = SubgroupHeader { group: 0, priority: Some(127), ..HEADER };
        lone.session.open_subgroup(RequestId(0), &urgent).unwrap();
        let more = urgencies(&mut lone);
        assert!(more.iter().all(|urgent| sent.iter().all(|other| urgent > other)), "{more:?}");
    }
    assert_eq!(priority::in_order(255, 255, i64::MAX), -i32::MAX);
    assert!(priority::in_order(0, 0, i64::MIN) < priority::REQUEST);
    assert!(priority::in_order(7, 8, i64::MAX) > priority::in_order(7, 9, i64::MIN));
}

/// Subscriptions are alike to each other, however long they last.
#[test]
fn a_group_beside_nothing_that_waits_has_the_place_of_every_other() {
    let mut lone = ordered(None, None);
    for group in 0..1000 {
        let id = open(&mut lone, group);
        lone.session.finish_subgroup(id);
        assert_eq!(urgencies(&mut lone), [priority::data(128, 128)], "{group}");
        let bytes = lone.session.unwritten();
        lone.session.handle_written(StreamId(id.0), bytes);
    }
    // Each is open until the next one is: now and then they move together, and keep their order.
    let mut before = open(&mut lone, 1000);
    let mut latest = urgencies(&mut lone)[0];
    for group in 1001..2000 {
        let bytes = lone.session.unwritten();
        lone.session.handle_written(StreamId(before.0), bytes);
        let next = open(&mut lone, group);
        let told = urgencies(&mut lone);
        assert!(told.len() <= 2 && told.last() < told.first().filter(|_| told.len() > 1).or(Some(&latest)), "{told:?}");
        latest = told[told.len() - 1];
        assert!(latest - priority::data(128, 128) >= -65, "{group}: {latest}");
        lone.session.finish_subgroup(before);
        before = next;
    }
}

#[test]
fn the_backlog_is_what_the_link_has_not_written() {
    let (mut lone, request) = publisher();
    let id = lone.session.open_subgroup(request, &HEADER).unwrap();
    let stream = StreamId(id.0);
    lone.session.send_object(id, &object(1, 0, "abcdef"));
    let total = lone.session.backlog(request);
    assert_eq!(total, subgroup(0, &HEADER, &[object(1, 0, "abcdef")]).len());
    // Nothing was handed to the link: it can't have written it.
    lone.session.handle_written(stream, total);
    assert_eq!(lone.session.backlog(request), total);
    lone.drain();
    lone.session.handle_written(stream, 4);
    assert_eq!(lone.session.backlog(request), total - 4);
    lone.session.finish_subgroup(id);
    lone.session.handle_written(stream, total - 4);
    assert_eq!(lone.session.backlog(request), 0);
    let second = lone.session.open_subgroup(request, &HEADER).unwrap();
    lone.session.send_object(second, &object(1, 0, "abcdef"));
    lone.session.reset_subgroup(second, 5);
    assert_eq!(lone.session.backlog(request), 0);
    assert!(lone.was_sent(&Transmit::Reset { stream: StreamId(second.0), code: 5 }));
    assert_eq!(lone.session.backlog(RequestId(77)), 0);
}

#[test]
fn a_subgroup_that_the_peer_stops_is_reset_and_takes_nothing_more() {
    let (mut lone, request) = publisher();
    let id = lone.session.open_subgroup(request, &HEADER).unwrap();
    lone.drain();
    lone.session.handle_stopped(StreamId(id.0), 1, lone.now);
    lone.drain();
    assert_eq!(lone.sent.last(), Some(&Transmit::Reset { stream: StreamId(id.0), code: 1 }));
    let sent = lone.sent.len();
    lone.session.send_object(id, &object(1, 0, "x"));
    lone.session.finish_subgroup(id);
    lone.session.reset_subgroup(id, 0);
    lone.session.send_object(SubgroupId(999), &object(1, 0, "x"));
    lone.drain();
    assert_eq!((lone.sent.len(), lone.session.backlog(request)), (sent, 0));
}

#[test]
fn an_object_that_the_stream_can_not_say_resets_it() {
    let ended = Object { status: Status::EndOfTrack, payload: Bytes::from_static(b"x"), id: 9, ..Object::default() };
    let with_properties = Object { properties: Bytes::from_static(&[0x10, 1]), id: 9, ..object(1, 9, "x") };
    for wrong in [object(1, 3, "again"), ended, with_properties] {
        let (mut lone, request) = publisher();
        let id = lone.session.open_subgroup(request, &HEADER).unwrap();
        lone.session.send_object(id, &object(1, 3, "x"));
        lone.session.send_object(id, &wrong);
        assert!(lone.was_sent(&Transmit::Reset { stream: StreamId(id.0), code: 0 }), "{wrong:?}");
        assert_eq!((lone.session.counters().unsendable, lone.session.backlog(request)), (1, 0));
    }
}

#[test]
fn publish_done_counts_every_stream_and_finishes_open_ones() {
    let (mut lone, request) = publisher();
    let done = lone.session.open_subgroup(request, &HEADER).unwrap();
    lone.session.finish_subgroup(done);
    let reset = lone.session.open_subgroup(request, &HEADER).unwrap();
    lone.session.reset_subgroup(reset, 1);
    let open = lone.session.open_subgroup(request, &HEADER).unwrap();
    lone.session.send_object(open, &Object { status: Status::EndOfTrack, ..object(1, 0, "") });
    lone.session.end_publication(request, PublishDone { code: 2, streams: 99, reason: "over".into() });
    let fin = lone.was_sent(&Transmit::Finish { stream: StreamId(open.0) });
    // The peer opened the session's first bidirectional stream, its control stream before: the request's is number 3.
    let said = lone.said(StreamId(3));
    assert_eq!(said, [Message::PublishDone(PublishDone { code: 2, streams: 3, reason: "over".into() })]);
    assert!(fin && lone.sent.last() == Some(&Transmit::Finish { stream: StreamId(3) }));
    assert_eq!(lone.session.open_subgroup(request, &HEADER), None);
}

#[test]
fn datagrams_travel_or_are_too_large() {
    let mut pair = Pair::new(Conditions { loss: 30, jitter: Duration::from_millis(20), ..Conditions::default() });
    let request = subscribed(&mut pair, "audio");
    for group in 0..100 {
        assert_eq!(pair.server.send_datagram(request, &object(group, 0, "opus")), Ok(()));
    }
    pair.settle();
    let groups: Vec<u64> = pair
        .client_events
        .iter()
        .filter_map(|event| match event {
            Event::Object { stream: None, object, .. } if &object.payload[..] == b"opus" => Some(object.group),
            _ => None,
        })
        .collect();
    assert!(groups.len() > 40 && groups.len() < 90 && groups.windows(2).any(|pair| pair[0] > pair[1]), "{groups:?}");
    let fits = |len: usize| Object { payload: Bytes::from(vec![0; len]), ..Object::default() };
    assert_eq!(pair.server.send_datagram(request, &fits(1200)), Err(TooLarge));
    let overhead = datagram(0, &fits(1000)).len() - 1000;
    assert_eq!(pair.server.send_datagram(request, &fits(1200 - overhead)), Ok(()));
    assert_eq!(pair.server.send_datagram(request, &fits(1201 - overhead)), Err(TooLarge));
    pair.server.set_max_datagram(None);
    assert_eq!(pair.server.send_datagram(request, &fits(1)), Err(TooLarge));
    assert_eq!(pair.server.send_datagram(RequestId(55), &fits(1)), Ok(()));
}
