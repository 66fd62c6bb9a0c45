//! What MoQT reads from the network, without a session around it.

use bytes::{Bytes, BytesMut};

use super::Choices;
use crate::moqt::authorization::Form;
use crate::moqt::message::{Fetch, Filter, Location, Message, Parameters, Setup, Subscribe, Token};
use crate::moqt::object::{decode_datagram, encode_datagram};
use crate::moqt::stream::{ControlReader, Opened, UniReader};
use crate::moqt::subgroup::{Objects, encode_header};
use crate::moqt::{Draft, FullTrackName, Object, Status, SubgroupHeader, TrackNamespace, properties as props};

/// More than any parser here may hold of something unfinished: a control message of 65535 bytes, an object of [`OBJECT`].
const HELD: usize = 70 * 1024;
const OBJECT: usize = 64 * 1024;

fn draft(choices: &mut Choices<'_>) -> Draft {
    let all = Draft::ALL;
    all[usize::from(choices.byte()) % all.len()]
}

/// The input in pieces, as a path may deliver it.
fn chunks(choices: &mut Choices<'_>) -> Vec<Bytes> {
    let size = usize::from(choices.byte()) + 1;
    choices.0.chunks(size).map(Bytes::copy_from_slice).collect()
}

/// A control or request stream, in any draft, in any pieces. What was read is written and read as the same.
pub(super) fn message(data: &[u8]) {
    let mut choices = Choices(data);
    let draft = draft(&mut choices);
    let mut reader = ControlReader::new(draft);
    for chunk in chunks(&mut choices) {
        reader.push(chunk);
        loop {
            match reader.read() {
                Ok(Some(message)) => again(draft, &message),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(reader.held() < HELD);
    }
    let _ = reader.finish();
}

fn again(draft: Draft, message: &Message) {
    let mut out = BytesMut::new();
    if message.encode(draft, &mut out).is_err() {
        return;
    }
    let out = out.freeze();
    let read = Message::decode(draft, &out).expect("what we write can be read");
    let (read, taken) = read.expect("what we write is whole");
    assert_eq!(taken, out.len());
    let mut twice = BytesMut::new();
    read.encode(draft, &mut twice).expect("it was written before");
    assert_eq!(twice, out, "writing is stable");
}

pub(super) fn message_seeds() -> Vec<Vec<u8>> {
    let name = track();
    let parameters =
        Parameters { tokens: vec![token()], forward: Some(true), priority: Some(3), ..Parameters::default() };
    let messages = [
        Message::Setup(Setup { tokens: vec![token()], implementation: Some("x/1".to_owned()), ..Setup::default() }),
        Message::Subscribe { id: 0, track: name.clone(), parameters: parameters.clone() },
        Message::Subscribe {
            id: 2,
            track: name.clone(),
            parameters: Subscribe {
                filter: Some(Filter::AbsoluteRange { start: at(3, 4), end_group: 9 }),
                ..Subscribe::live(name.clone())
            }
            .parameters(),
        },
        Message::SubscribeOk {
            alias: 2,
            parameters: Parameters { largest: Some(at(100, 3)), ..Parameters::default() },
            properties: crate::moqt::message::TrackProperties(props::timescale(1_000_000)),
        },
        Message::Fetch {
            id: 4,
            fetch: Fetch::Standalone { track: name.clone(), start: at(1, 0), end: at(5, 0) },
            parameters: parameters.clone(),
        },
        Message::PublishNamespace { id: 6, namespace: name.namespace.clone(), parameters: parameters.clone() },
        Message::SubscribeNamespace { id: 8, prefix: name.namespace.clone(), parameters },
        Message::Namespace(name.namespace),
    ];
    let mut seeds = Vec::new();
    for (at, draft) in Draft::ALL.into_iter().enumerate() {
        for message in &messages {
            let mut out = BytesMut::from(&[at as u8, 255][..]);
            if message.encode(draft, &mut out).is_ok() {
                seeds.push(out.to_vec());
            }
        }
    }
    seeds
}

/// A unidirectional stream of any kind, in any pieces.
pub(super) fn uni_stream(data: &[u8]) {
    let mut choices = Choices(data);
    let mut unknown = UniReader::new(draft(&mut choices));
    let mut opened = None;
    for chunk in chunks(&mut choices) {
        match &mut opened {
            None => {
                unknown.push(chunk);
                match unknown.open() {
                    Ok(found) => opened = found,
                    Err(_) => return,
                }
                assert!(unknown.held() < HELD);
            }
            Some(Opened::Subgroup { reader, .. }) => reader.push(chunk),
            Some(_) => return,
        }
        if let Some(Opened::Subgroup { reader, .. }) = &mut opened {
            while let Ok(Some(object)) = reader.read(OBJECT) {
                assert!(object.payload.len() <= OBJECT && object.properties.len() <= OBJECT);
            }
        }
    }
    match opened {
        Some(Opened::Subgroup { reader, .. }) => drop(reader.finish()),
        Some(_) => {}
        None => drop(unknown.finish()),
    }
}

pub(super) fn uni_stream_seeds() -> Vec<Vec<u8>> {
    let header = SubgroupHeader { group: 7, properties: true, end_of_group: true, ..SubgroupHeader::default() };
    let seed = |header: SubgroupHeader| {
        let mut out = BytesMut::from(&[0, 255][..]);
        encode_header(2, &header, &mut out);
        let mut objects = Objects::new(header);
        for id in 0..3 {
            let properties = if header.properties { props::timestamp(20_000 * id) } else { Bytes::new() };
            let object =
                Object { group: 7, id, properties, payload: Bytes::from_static(b"frame"), ..Object::default() };
            objects.encode(&object, &mut out).expect("a good object");
        }
        let end = Object { group: 7, id: 3, status: Status::EndOfTrack, ..Object::default() };
        objects.encode(&end, &mut out).expect("a good object");
        out.to_vec()
    };
    let control = message_seeds().swap_remove(0);
    vec![
        seed(header),
        seed(SubgroupHeader { subgroup: 5, priority: Some(9), properties: false, ..header }),
        control,
        vec![0, 9, 5, 3, 1],
    ]
}

/// An object that could be read is written and read as the same.
pub(super) fn datagram(data: &[u8]) {
    let Ok(Some((alias, object))) = decode_datagram(&Bytes::copy_from_slice(data)) else { return };
    let mut out = BytesMut::new();
    encode_datagram(alias, &object, &mut out).expect("what was read can be said");
    assert_eq!(decode_datagram(&out.freeze()), Ok(Some((alias, object))));
}

pub(super) fn datagram_seeds() -> Vec<Vec<u8>> {
    let object = Object {
        group: 7,
        payload: Bytes::from_static(b"ab"),
        properties: props::timestamp(20_000),
        end_of_group: true,
        ..Object::default()
    };
    let plain = Object { id: 3, priority: Some(4), properties: Bytes::new(), end_of_group: false, ..object.clone() };
    let status = Object { payload: Bytes::new(), status: Status::EndOfGroup, ..plain.clone() };
    let seed = |object: &Object| {
        let mut out = BytesMut::new();
        encode_datagram(2, object, &mut out).expect("a good object");
        out.to_vec()
    };
    vec![seed(&object), seed(&plain), seed(&status)]
}

/// A walk ends, and finds what a search finds.
pub(super) fn properties(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let mut numbers = std::collections::BTreeMap::new();
    for pair in props::pairs(&bytes) {
        match pair {
            Ok((kind, props::Value::Number(value))) => drop(numbers.entry(kind).or_insert(value)),
            // A search looks into it as well.
            Ok((props::kind::IMMUTABLE, _)) => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
    // Each is looked for from the front: all of many would take longer than they are worth.
    for (kind, value) in numbers.into_iter().take(8) {
        assert_eq!(props::number(&bytes, kind), Some(value));
    }
    let _ = crate::tracks::stamp::timestamp_us(&bytes, 1_000_000);
}

pub(super) fn properties_seeds() -> Vec<Vec<u8>> {
    let many = props::Writer::default().number(0x08, 1_000_000).bytes(0x0b, b"inside").number(0x10, u64::MAX).finish();
    vec![props::timestamp(20_000).to_vec(), many.to_vec(), Vec::new()]
}

/// The Token structure.
pub(super) fn authorization(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(read) = Form::decode(&bytes) else { return };
    let mut out = BytesMut::new();
    read.encode(&mut out);
    assert_eq!(Form::decode(&out.freeze()), Ok(read));
}

pub(super) fn authorization_seeds() -> Vec<Vec<u8>> {
    vec![vec![3, 0, b'T'], vec![1, 7, 0, b'T'], vec![2, 7], vec![0, 7]]
}

fn token() -> Token {
    Token { kind: 0, value: Bytes::from_static(b"T") }
}

fn at(group: u64, object: u64) -> Location {
    Location { group, object }
}

pub(super) fn track() -> FullTrackName {
    let namespace = TrackNamespace::new(["voice", "CA1", "uplink"]).expect("a short namespace");
    FullTrackName::new(namespace, "audio").expect("a short name")
}
