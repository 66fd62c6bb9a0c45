//! Whatever a peer sends, nothing panics, nothing grows without bound, and a closed session stays closed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::lone::{Lone, bytes, none, subgroup};
use super::pair::Rng;
use super::requests::{subscribe_message, subscribe_ok};
use super::smoke::{object, subscribe, track};
use crate::moqt::message::{
    Message, PublishDone, PublishOk, RequestError, SubscribeOk, TrackProperties, Update, UpdateOk,
};
use crate::moqt::session::{Dir, Event, Role, StreamId};
use crate::moqt::{RequestErrorCode, SubgroupHeader, TrackNamespace};

/// A well-formed message of any kind, mostly sensible.
fn message(rng: &mut Rng) -> Message {
    let id = rng.below(40);
    let prefix = TrackNamespace::new(["voice"]).unwrap();
    let suffix = TrackNamespace::new([["a", "b"][rng.below(2) as usize]]).unwrap();
    let properties = TrackProperties::default();
    match rng.below(14) {
        0 => subscribe_message(id),
        1 => subscribe_ok(rng.below(6)),
        2 => Message::Publish { id, track: track("p"), alias: rng.below(6), parameters: none(), properties },
        3 => Message::PublishNamespace { id, namespace: prefix, parameters: none() },
        4 => Message::SubscribeNamespace { id, prefix, parameters: none() },
        5 => Message::RequestOk(Default::default()),
        6 => Message::RequestError(RequestError::new(RequestErrorCode::DoesNotExist, "no")),
        7 => Message::PublishDone(PublishDone { code: 2, streams: rng.below(3), reason: String::new() }),
        8 => Message::RequestUpdate { id, parameters: none() },
        9 => Message::Namespace(suffix),
        10 => Message::NamespaceDone(suffix),
        11 => Message::Setup(Default::default()),
        12 => Message::TrackStatus { id, track: track("t"), parameters: none() },
        _ => Message::SubscribeTracks { id, prefix, parameters: none() },
    }
}

/// Bytes of a stream: good ones, then perhaps spoiled.
fn chunk(rng: &mut Rng) -> Bytes {
    let mut data = match rng.below(4) {
        0 => {
            let len = rng.below(60) as usize;
            BytesMut::from(&rng.bytes(len)[..])
        }
        1 => BytesMut::from(
            &subgroup(rng.below(6), &SubgroupHeader::default(), &[object(0, 0, "a"), object(0, 1, "b")])[..],
        ),
        _ => BytesMut::from(&bytes(&message(rng))[..]),
    };
    match rng.below(5) {
        0 if !data.is_empty() => {
            let at = rng.below(data.len() as u64) as usize;
            data[at] ^= 1 << rng.below(8);
        }
        1 => data.truncate(rng.below(data.len() as u64 + 1) as usize),
        _ => {}
    }
    data.freeze()
}

/// The application of a session that answers and sends at random.
fn answer(lone: &mut Lone, rng: &mut Rng) {
    for event in std::mem::take(&mut lone.events) {
        match event {
            Event::Subscribe { request, .. } if rng.below(4) > 0 => {
                lone.session.accept_subscribe(request, SubscribeOk::default());
                if let Some(id) = lone.session.open_subgroup(request, &SubgroupHeader::default()) {
                    lone.session.send_object(id, &object(0, 0, "x"));
                }
            }
            Event::Publish { request, .. } if rng.below(4) > 0 => {
                lone.session
                    .accept_publish(request, PublishOk { forward: true, priority: 128, filter: None, expires: None });
            }
            Event::PublishNamespace { request, .. } | Event::SubscribeNamespace { request, .. } => {
                lone.session.accept(request);
            }
            Event::Subscribe { request, .. } | Event::Publish { request, .. } => {
                lone.session.reject(request, RequestError::new(RequestErrorCode::Uninterested, ""));
            }
            Event::SubscribeOk { request, .. } if rng.below(3) == 0 => lone.session.cancel(request),
            Event::SubscribeOk { request, .. } => _ = lone.session.update(request, Update::default()),
            Event::Update { request, .. } => match rng.below(4) {
                0 => {}
                1 => lone.session.reject_update(request, RequestError::new(RequestErrorCode::Unauthorized, "")),
                _ => lone.session.accept_update(request, UpdateOk::default()),
            },
            Event::Closed { .. } => lone.events.push(event),
            _ => {}
        }
    }
}

fn turn(lone: &mut Lone, streams: &mut Vec<StreamId>, rng: &mut Rng) {
    let known = streams.get(rng.below(streams.len() as u64) as usize).copied();
    match (rng.below(12), known) {
        (0 | 1, _) | (_, None) => streams.push(lone.session.accept_stream(Dir::Bi)),
        (2 | 3, _) => streams.push(lone.session.accept_stream(Dir::Uni)),
        (4, Some(stream)) => lone.session.handle_reset(stream, rng.next(), lone.now),
        (5, Some(stream)) => lone.session.handle_stopped(stream, rng.next(), lone.now),
        (6, _) => lone.session.handle_datagram(chunk(rng), lone.now),
        (7, _) => {
            lone.session.subscribe(subscribe("audio"));
            lone.drain();
            streams.push(lone.opened());
        }
        (8, _) => lone.pass(Duration::from_millis(rng.below(900))),
        (9, Some(stream)) => lone.session.handle_written(stream, rng.below(500) as usize),
        (_, Some(stream)) => {
            let fin = rng.below(8) == 0;
            lone.session.handle_data(stream, chunk(rng), fin, lone.now);
        }
    }
}

#[test]
fn garbage_never_panics() {
    for seed in 0..3000 {
        let mut rng = Rng(seed);
        let role = if seed % 2 == 0 { Role::Client } else { Role::Server };
        let mut lone = Lone::new(role);
        let mut streams = Vec::new();
        for _ in 0..120 {
            turn(&mut lone, &mut streams, &mut rng);
            lone.drain();
            if lone.session.is_closed() {
                break;
            }
            answer(&mut lone, &mut rng);
        }
        lone.closed();
    }
}

#[test]
fn random_bytes_on_any_stream_never_panic() {
    for seed in 0..5000 {
        let mut rng = Rng(seed);
        let mut lone = Lone::early(super::pair::config(Role::Server));
        let len = rng.below(200) as usize;
        let data = rng.bytes(len);
        match rng.below(3) {
            0 => lone.data(lone.control, data, rng.below(2) == 0),
            1 => _ = lone.uni(data, rng.below(2) == 0),
            _ => {
                lone.set_up();
                lone.session.handle_datagram(data.clone(), lone.now);
                let stream = lone.session.accept_stream(Dir::Bi);
                lone.data(stream, data, rng.below(2) == 0);
            }
        }
        lone.drain();
    }
}
