//! Objects: aliases, data before its alias, late data, subgroups, datagrams, backlog.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::control::code;
use super::lone::{Lone, none, subgroup};
use super::pair::{self, Conditions, Pair, Rng};
use super::requests::{asked, subscribe_message, subscribe_ok};
use super::smoke::{object, subscribe, subscribed, track};
use crate::moqt::error::{CloseCode, ResetCode};
use crate::moqt::message::{Message, PublishDone, PublishOk, SubscribeOk, TrackProperties};
use crate::moqt::object::encode_datagram;
use crate::moqt::properties::Writer;
use crate::moqt::session::{Event, RequestId, Role, StreamId, Transmit, constants};
use crate::moqt::{Object, SubgroupHeader};

pub(super) const HEADER: SubgroupHeader = SubgroupHeader {
    group: 1,
    subgroup: 0,
    priority: None,
    properties: false,
    end_of_group: false,
    first_object: true,
};

pub(super) fn datagram(alias: u64, object: &Object) -> Bytes {
    let mut out = BytesMut::new();
    encode_datagram(alias, object, &mut out).unwrap();
    out.freeze()
}

/// A client whose SUBSCRIBE was answered with this alias.
fn subscriber(alias: u64) -> (Lone, RequestId, StreamId) {
    let mut lone = Lone::new(Role::Client);
    let (request, stream) = asked(&mut lone);
    lone.say(stream, &subscribe_ok(alias));
    lone.events.clear();
    (lone, request, stream)
}

#[test]
fn objects_arrive_whole_in_order_however_they_are_cut() {
    for seed in 0..25 {
        let mut pair = Pair::new(Conditions::rough(seed));
        let request = subscribed(&mut pair, "audio");
        let mut rng = Rng(seed);
        let mut sent = Vec::new();
        for group in 0..4 {
            let header = SubgroupHeader { group, properties: true, ..HEADER };
            let stream = pair.server.open_subgroup(request, &header).unwrap();
            for id in 0..20 {
                let len = rng.below(300) as usize;
                let properties = Writer::default().number(0x10, rng.next() >> 2).finish();
                let object = Object { group, id: 3 * id, payload: rng.bytes(len), properties, ..Object::default() };
                pair.server.send_object(stream, &object);
                sent.push(object);
            }
            pair.server.finish_subgroup(stream);
            pair.step(pair.now + Duration::from_millis(3));
        }
        pair.settle();
        let mut got: Vec<Object> = Vec::new();
        let mut ends = 0;
        for event in &pair.client_events {
            match event {
                Event::Object { object, .. } => {
                    assert!(
                        got.iter().rev().find(|before| before.group == object.group).is_none_or(|b| b.id < object.id)
                    );
                    got.push(object.clone());
                }
                Event::SubgroupEnd { reset: None, .. } => ends += 1,
                _ => {}
            }
        }
        got.sort_by_key(|object| (object.group, object.id));
        assert_eq!((got, ends, pair.closed.clone()), (sent, 4, None));
        assert_eq!(pair.server.backlog(request), 0);
    }
}

#[test]
fn payloads_are_slices_of_the_chunk_that_brought_them() {
    let (mut lone, ..) = subscriber(3);
    let chunk = subgroup(3, &HEADER, &[object(1, 0, "first payload"), object(1, 1, "second payload")]);
    lone.uni(chunk.clone(), false);
    let range = chunk.as_ptr_range();
    let inside = lone.events.iter().filter_map(|event| match event {
        Event::Object { object, .. } => Some(range.contains(&object.payload.as_ptr())),
        _ => None,
    });
    assert_eq!(inside.collect::<Vec<_>>(), [true, true]);
}

#[test]
fn each_accepted_subscription_has_an_alias_of_its_own() {
    let mut lone = Lone::new(Role::Server);
    let mut aliases = Vec::new();
    for id in 0..5 {
        let stream = lone.request(&subscribe_message(2 * id));
        lone.session.accept_subscribe(RequestId(2 * id), SubscribeOk::default());
        match lone.said(stream)[..] {
            [Message::SubscribeOk { alias, .. }] => aliases.push(alias),
            _ => panic!("no answer"),
        }
    }
    lone.session.publish(track("p"), TrackProperties::default(), Vec::new());
    let stream = lone.opened();
    match lone.said(stream)[..] {
        [Message::Publish { alias, .. }] => aliases.push(alias),
        _ => panic!("no PUBLISH"),
    }
    let unique: std::collections::BTreeSet<_> = aliases.iter().collect();
    assert_eq!(unique.len(), 6);
}

#[test]
fn one_alias_for_two_tracks_closes() {
    let (mut lone, ..) = subscriber(3);
    lone.session.subscribe(subscribe("video"));
    let stream = lone.opened();
    lone.say(stream, &subscribe_ok(3));
    assert_eq!(lone.closed(), code(CloseCode::DuplicateTrackAlias));

    let (mut lone, ..) = subscriber(3);
    let properties = TrackProperties::default();
    lone.request(&Message::Publish { id: 1, track: track("video"), alias: 3, parameters: none(), properties });
    assert_eq!(lone.closed(), code(CloseCode::DuplicateTrackAlias));
}

#[test]
fn an_alias_is_free_again_when_its_subscription_is_over() {
    let (mut lone, request, stream) = subscriber(3);
    lone.say(stream, &Message::PublishDone(PublishDone { code: 2, streams: 0, reason: String::new() }));
    let next = lone.session.subscribe(subscribe("video"));
    let stream = lone.opened();
    lone.say(stream, &subscribe_ok(3));
    lone.uni(subgroup(3, &HEADER, &[object(1, 0, "x")]), true);
    let owner = lone.events.iter().find_map(|event| match event {
        Event::Object { request, .. } => Some(*request),
        _ => None,
    });
    assert_eq!((owner, lone.closed()), (Some(next), None));
    assert_ne!(request, next);
    // The first one's end does not take the alias away.
    lone.pass(constants::LATE_STREAMS);
    lone.events.clear();
    lone.uni(subgroup(3, &HEADER, &[object(1, 1, "y")]), true);
    assert_eq!(lone.objects(), [(1, 1)]);
}

#[test]
fn data_before_its_alias_is_held_and_delivered() {
    let mut lone = Lone::new(Role::Client);
    let (request, stream) = asked(&mut lone);
    let data = subgroup(9, &HEADER, &[object(1, 0, "a"), object(1, 1, "b")]);
    let whole = lone.uni(subgroup(9, &SubgroupHeader { group: 2, ..HEADER }, &[object(2, 0, "c")]), true);
    let cut = lone.uni(data.slice(..5), false);
    lone.session.handle_datagram(datagram(9, &object(5, 0, "d")), lone.now);
    lone.drain();
    assert!(lone.events.is_empty() && lone.sent.iter().all(|transmit| !matches!(transmit, Transmit::Stop { .. })));
    lone.say(stream, &subscribe_ok(9));
    lone.data(cut, data.slice(5..), true);
    assert!(matches!(lone.events[0], Event::SubscribeOk { .. }));
    assert_eq!(lone.objects(), [(2, 0), (5, 0), (1, 0), (1, 1)]);
    assert!(lone.events.contains(&Event::SubgroupEnd { request, stream: whole, reset: None }));
    assert_eq!(lone.session.counters(), Default::default());
}

#[test]
fn data_of_a_publish_waits_for_the_answer() {
    for accept in [true, false] {
        let mut lone = Lone::new(Role::Server);
        let properties = TrackProperties::default();
        lone.request(&Message::Publish { id: 0, track: track("a"), alias: 4, parameters: none(), properties });
        let stream = lone.uni(subgroup(4, &HEADER, &[object(1, 0, "x")]), false);
        assert!(lone.objects().is_empty());
        if accept {
            lone.session
                .accept_publish(RequestId(0), PublishOk { forward: true, priority: 128, filter: None, expires: None });
            lone.drain();
            assert_eq!(lone.objects(), [(1, 0)]);
        } else {
            lone.session.reject(
                RequestId(0),
                crate::moqt::message::RequestError::new(crate::moqt::RequestErrorCode::Uninterested, ""),
            );
            assert!(lone.was_sent(&Transmit::Stop { stream, code: ResetCode::Cancelled as u64 }));
            lone.uni(subgroup(4, &HEADER, &[object(1, 1, "y")]), true);
            assert!(lone.objects().is_empty());
            assert_eq!(lone.session.counters().late_streams, 2);
        }
    }
}

#[test]
fn data_that_nobody_names_is_dropped_after_its_time() {
    let mut lone = Lone::new(Role::Client);
    let stream = lone.uni(subgroup(9, &HEADER, &[object(1, 0, "a")]), false);
    lone.session.handle_datagram(datagram(9, &object(5, 0, "d")), lone.now);
    let until = lone.session.poll_timeout().unwrap();
    assert_eq!(until - lone.now, pair::limits().pending_time);
    lone.pass(pair::limits().pending_time);
    assert!(lone.was_sent(&Transmit::Stop { stream, code: ResetCode::Cancelled as u64 }));
    let counters = lone.session.counters();
    assert_eq!((counters.unknown_streams, counters.unknown_datagrams), (1, 1));
    assert_eq!(lone.session.poll_timeout(), None);
    // What still comes on the stream is dropped, and its end clears it.
    lone.data(stream, Bytes::from_static(b"more"), true);
    assert!(lone.session.is_idle() && lone.closed().is_none());
}

#[test]
fn data_that_nobody_names_is_held_within_a_bound() {
    let mut lone = Lone::new(Role::Client);
    let payload: &'static str = "0123456789012345678901234567890123456789012345678901234567890123456789";
    let objects: Vec<Object> = (0..100).map(|id| object(1, id, payload)).collect();
    let chunk = subgroup(9, &HEADER, &objects);
    for _ in 0..10 {
        lone.uni(chunk.clone(), false);
    }
    let held = pair::limits().pending_bytes / chunk.len();
    assert_eq!(lone.session.counters().unknown_streams, 10 - held as u64);
    let stops = lone.sent.iter().filter(|transmit| matches!(transmit, Transmit::Stop { .. })).count();
    assert_eq!(stops, 10 - held);
    for id in 0..1000 {
        lone.session.handle_datagram(datagram(9, &object(2, id, payload)), lone.now);
    }
    let dropped = lone.session.counters().unknown_datagrams;
    assert!(dropped > 900 && dropped < 1000, "{dropped}");
    // A stream that grows while it waits is stopped as well.
    let mut lone = Lone::new(Role::Client);
    let stream = lone.uni(chunk.clone(), false);
    for _ in 0..10 {
        lone.data(stream, Bytes::from(vec![0; 8000]), false);
    }
    assert_eq!(lone.session.counters().unknown_streams, 1);
    assert!(lone.was_sent(&Transmit::Stop { stream, code: ResetCode::ExcessiveLoad as u64 }));
}

#[test]
fn the_time_of_early_data_counts_from_setup() {
    let mut lone = Lone::early(pair::config(Role::Client));
    let (_, stream) = asked(&mut lone);
    lone.uni(subgroup(9, &HEADER, &[object(1, 0, "a")]), true);
    lone.pass(Duration::from_secs(2));
    lone.set_up();
    lone.pass(pair::limits().pending_time - Duration::from_millis(1));
    lone.say(stream, &subscribe_ok(9));
    assert_eq!(lone.objects(), [(1, 0)]);
}

/// Streams that begin something and do not go on: half a header, half an object, half a fetched thing; and what waits for nothing.
#[test]
fn what_a_data_stream_began_it_ends_in_time() {
    const STEP: Duration = constants::DATA_TIMEOUT;
    let whole = subgroup(7, &SubgroupHeader::default(), &[object(0, 0, "whole"), object(0, 1, "half")]);
    let cut = |len: usize| whole.slice(..len);
    let first = subgroup(7, &SubgroupHeader::default(), &[object(0, 0, "whole")]).len();
    for (bytes, stalls) in [(cut(1), true), (cut(whole.len() - 2), true), (cut(first), false), (whole.clone(), false)] {
        let mut lone = Lone::new(Role::Client);
        lone.session.subscribe(subscribe("audio"));
        let stream = lone.opened();
        lone.say(stream, &subscribe_ok(7));
        lone.uni(bytes.clone(), false);
        lone.pass(STEP);
        lone.pass(STEP - Duration::from_millis(1));
        assert_eq!(lone.closed(), None);
        lone.pass(Duration::from_millis(1));
        assert_eq!(lone.closed(), stalls.then_some(CloseCode::DataStreamTimeout as u64), "{} bytes", bytes.len());
    }
}

/// One object after the other, each of them unfinished at every look.
#[test]
fn a_slow_stream_that_goes_on_is_left_alone() {
    let mut lone = Lone::new(Role::Client);
    lone.session.subscribe(subscribe("audio"));
    let stream = lone.opened();
    lone.say(stream, &subscribe_ok(7));
    let objects: Vec<_> = (0..6).map(|id| object(0, id, "frame")).collect();
    let bytes = subgroup(7, &SubgroupHeader::default(), &objects);
    let one = bytes.len() / objects.len();
    let data = lone.uni(bytes.slice(..one), false);
    for n in 1..6 {
        lone.pass(constants::DATA_TIMEOUT);
        lone.data(data, bytes.slice(n * one..(n + 1) * one), false);
        assert_eq!(lone.closed(), None, "{n}");
    }
    // Unfinished still; it ends, and nothing is waited for.
    lone.data(data, bytes.slice(6 * one..), true);
    lone.pass(constants::DATA_TIMEOUT);
    lone.pass(constants::DATA_TIMEOUT);
    assert_eq!((lone.closed(), lone.session.poll_timeout(), lone.objects().len()), (None, None, 6));
}

#[test]
fn late_data_of_a_cancelled_subscription_is_discarded_at_once() {
    let (mut lone, request, _) = subscriber(3);
    let open = lone.uni(subgroup(3, &HEADER, &[object(1, 0, "a")]), false);
    lone.session.cancel(request);
    assert!(lone.was_sent(&Transmit::Stop { stream: open, code: ResetCode::Cancelled as u64 }));
    lone.events.clear();
    lone.data(open, Bytes::from_static(b"\x00\x01x"), false);
    let late = lone.uni(subgroup(3, &HEADER, &[object(1, 1, "b")]), false);
    assert!(lone.was_sent(&Transmit::Stop { stream: late, code: ResetCode::Cancelled as u64 }));
    lone.session.handle_datagram(datagram(3, &object(5, 0, "d")), lone.now);
    lone.drain();
    let counters = lone.session.counters();
    assert_eq!((counters.late_streams, counters.late_datagrams), (1, 1));
    assert_eq!((lone.events.len(), lone.session.poll_timeout()), (0, None));
    lone.session.handle_reset(open, 1, lone.now);
    lone.session.handle_reset(late, 1, lone.now);
    assert!(lone.session.is_idle());
}

#[test]
fn streams_that_publish_done_overtook_are_delivered_for_a_while() {
    let (mut lone, request, stream) = subscriber(3);
    lone.say(stream, &Message::PublishDone(PublishDone { code: 2, streams: 2, reason: String::new() }));
    lone.data(stream, Bytes::new(), true);
    lone.uni(subgroup(3, &HEADER, &[object(1, 0, "a")]), true);
    assert_eq!(lone.objects(), [(1, 0)]);
    lone.pass(constants::LATE_STREAMS);
    lone.uni(subgroup(3, &HEADER, &[object(1, 1, "b")]), true);
    assert_eq!((lone.objects().len(), lone.session.counters().late_streams), (1, 1));
    assert!(lone.events.iter().all(|event| !matches!(event, Event::Cancelled { .. })));
    assert!(lone.session.is_idle(), "{request:?}");
}

#[test]
fn an_object_too_large_or_cut_short_closes() {
    let (mut lone, ..) = subscriber(3);
    let mut start = BytesMut::from(&subgroup(3, &HEADER, &[])[..]);
    start.extend_from_slice(&[0]);
    crate::moqt::varint::put(&mut start, pair::limits().object_bytes as u64 + 1);
    lone.uni(start.freeze(), false);
    assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation));

    let (mut lone, ..) = subscriber(3);
    let data = subgroup(3, &HEADER, &[object(1, 0, "abc")]);
    lone.uni(data.slice(..data.len() - 1), true);
    assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation));
}

#[test]
fn unfinished_objects_are_bounded_over_all_streams() {
    let (mut lone, ..) = subscriber(3);
    let mut start = BytesMut::from(&subgroup(3, &HEADER, &[])[..]);
    start.extend_from_slice(&[0]);
    crate::moqt::varint::put(&mut start, 60_000);
    start.resize(start.len() + 50_000, 0);
    let start = start.freeze();
    let streams: Vec<StreamId> = (0..100).map(|_| lone.uni(start.clone(), false)).collect();
    let stopped = lone.session.counters().stopped as usize;
    assert_eq!(stopped, 100 - constants::UNFINISHED_BYTES / start.len());
    let ended = lone.events.iter().filter(|event| matches!(event, Event::SubgroupEnd { reset: Some(9), .. })).count();
    assert_eq!(ended, stopped);
    // Ended streams give back their room.
    streams.iter().for_each(|stream| lone.session.handle_reset(*stream, 0, lone.now));
    lone.uni(start, false);
    assert_eq!(lone.session.counters().stopped as usize, stopped);
}

#[test]
fn a_reset_is_told_with_its_code() {
    let (mut lone, request, _) = subscriber(3);
    let stream = lone.uni(subgroup(3, &HEADER, &[object(1, 0, "a")]), false);
    lone.session.handle_reset(stream, 2, lone.now);
    lone.drain();
    assert_eq!(lone.events.last(), Some(&Event::SubgroupEnd { request, stream, reset: Some(2) }));
}

#[test]
fn empty_and_padding_streams_and_datagrams_are_nothing() {
    let (mut lone, ..) = subscriber(3);
    lone.uni(Bytes::new(), true);
    let padding = lone.uni(Bytes::from_static(&[0xf0, 0x13, 0x2b, 0x3e, 0x28, 0, 0]), false);
    lone.data(padding, Bytes::from(vec![0; 5000]), true);
    lone.session.handle_datagram(Bytes::from_static(&[0xf0, 0x13, 0x2b, 0x3e, 0x29, 0, 0]), lone.now);
    // A subgroup named by its first object, and there is none.
    lone.uni(Bytes::from_static(&[0x12, 3, 1, 128]), true);
    assert_eq!((lone.closed(), lone.events.len()), (None, 0));
    lone.uni(Bytes::from_static(&[0x3f, 0]), false);
    assert_eq!(lone.closed(), code(CloseCode::ProtocolViolation));
}
