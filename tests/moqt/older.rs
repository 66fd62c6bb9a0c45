//! Draft 16 against the same foreign codec: its control stream has messages of its own.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use clutchcall::moqt::draft16::{Control, Withdrawal};
use clutchcall::moqt::message::{GoAway, Message, Parameters, PublishDone, RequestOk, Setup};
use clutchcall::moqt::{Draft, FullTrackName, TrackNamespace};
use moqtap_codec::draft16::message::ControlMessage;

use super::generate::{self, Rng};

const KINDS: u64 = 16;

/// What draft 16 can say of a message.
fn older(rng: &mut Rng, which: u64) -> Control {
    let to = rng.number();
    match which % KINDS {
        0 => match generate::message(rng, Draft::D18, 0) {
            Message::Setup(setup) => {
                let setup = Setup { max_token_cache: setup.max_token_cache >> 1, ..setup };
                Control::Setup { from_client: rng.flip(), setup, max_request: rng.number() }
            }
            other => panic!("{other:?}"),
        },
        1 => match generate::message(rng, Draft::D18, 1) {
            Message::GoAway { goaway: GoAway { uri, .. }, .. } => Control::GoAway(uri),
            other => panic!("{other:?}"),
        },
        2 => Control::MaxRequestId(to),
        3 => Control::RequestsBlocked(to),
        4 => Control::Update { of: to, update: narrowed(generate::message(rng, Draft::D18, 5)) },
        5 => {
            let Message::RequestOk(ok) = narrowed(generate::message(rng, Draft::D18, 2)) else {
                panic!("no REQUEST_OK")
            };
            Control::PublishOk { to, ok }
        }
        6 => Control::Withdraw { request: to, kind: withdrawal(rng) },
        7 => match generate::message(rng, Draft::D18, 17) {
            Message::Namespace(suffix) if rng.flip() => Control::Namespace(suffix),
            Message::Namespace(suffix) => Control::NamespaceDone(suffix),
            other => panic!("{other:?}"),
        },
        which @ 8..=12 => {
            let which = [3, 7, 10, 13, 2][which as usize - 8];
            let answer = match narrowed(generate::message(rng, Draft::D18, which)) {
                Message::RequestOk(RequestOk { parameters: Parameters { largest, .. }, properties }) => {
                    Message::RequestOk(RequestOk {
                        parameters: Parameters { largest, ..Parameters::default() },
                        properties,
                    })
                }
                Message::PublishDone(done) => Message::PublishDone(PublishDone { code: done.code, ..done }),
                other => other,
            };
            Control::Answer { to, answer }
        }
        _ => {
            let which = [6, 9, 12, 14, 15, 8][rng.below(6) as usize];
            Control::Request(narrowed(generate::message(rng, Draft::D18, which)))
        }
    }
}

fn withdrawal(rng: &mut Rng) -> Withdrawal {
    match rng.below(4) {
        0 => Withdrawal::Unsubscribe,
        1 => Withdrawal::PublishNamespaceDone,
        2 => Withdrawal::PublishNamespaceCancel(rng.below(0x33)),
        _ => Withdrawal::FetchCancel,
    }
}

/// Without what this draft lacks.
fn narrowed(mut message: Message) -> Message {
    match &mut message {
        Message::Subscribe { track, parameters, .. } | Message::TrackStatus { track, parameters, .. } => {
            named(track);
            narrow(parameters);
        }
        Message::Publish { track, parameters, .. } => {
            named(track);
            narrow(parameters);
        }
        Message::PublishNamespace { namespace, parameters, .. } => {
            *namespace = named_space(namespace);
            narrow(parameters);
        }
        Message::Fetch { fetch, parameters, .. } => {
            if let clutchcall::moqt::message::Fetch::Standalone { track, .. } = fetch {
                named(track);
            }
            narrow(parameters);
        }
        Message::RequestUpdate { parameters, .. } | Message::RequestOk(RequestOk { parameters, .. }) => {
            narrow(parameters);
        }
        _ => {}
    }
    message
}

fn narrow(parameters: &mut Parameters) {
    let least = Duration::from_millis(1);
    parameters.object_delivery_timeout = parameters.object_delivery_timeout.map(|time| time.max(least));
    parameters.subgroup_delivery_timeout = None;
    parameters.rendezvous_timeout = None;
    parameters.fill_timeout = None;
    parameters.namespace_prefix = None;
}

/// Tracks are in a namespace here.
fn named(track: &mut FullTrackName) {
    track.namespace = named_space(&track.namespace);
}

fn named_space(namespace: &TrackNamespace) -> TrackNamespace {
    TrackNamespace::new(["voice"]).unwrap().join(namespace).unwrap()
}

#[test]
fn every_message() {
    for seed in 0..KINDS * 500 {
        let control = older(&mut Rng(seed), seed);
        let mut ours = BytesMut::new();
        control.encode(&mut ours).unwrap();
        let mut unread = &ours[..];
        let read = ControlMessage::decode(&mut unread).unwrap_or_else(|error| panic!("{error:?}: {control:?}"));
        assert!(!unread.has_remaining());
        let mut back = Vec::new();
        read.encode(&mut back).unwrap();
        assert_eq!(ours, back, "{control:?}");
        let back = Bytes::from(back);
        assert_eq!(Control::decode(&back), Ok(Some((control, back.len()))));
    }
}

/// One flipped bit: nothing panics, and what both read takes as many bytes.
#[test]
fn spoiled_messages() {
    let mut both = 0;
    for seed in 0..KINDS * 2000 {
        let mut rng = Rng(seed);
        let mut wire = BytesMut::new();
        older(&mut rng, seed).encode(&mut wire).unwrap();
        let at = rng.below(wire.len() as u64) as usize;
        wire[at] ^= 1 << rng.below(8);
        let wire = wire.freeze();
        let Ok(Some((control, taken))) = Control::decode(&wire) else { continue };
        let mut unread = &wire[..];
        let Ok(_) = ControlMessage::decode(&mut unread) else { continue };
        assert_eq!(taken, wire.len() - unread.remaining(), "{control:?}");
        both += 1;
    }
    assert!(both > 10_000, "{both}");
}
