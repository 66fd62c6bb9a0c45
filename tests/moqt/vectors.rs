//! Golden vectors: `tests/data/moqt/vectors.toml`, each with the source that its bytes come from.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clutchcall::moqt::message::{
    Filter, Location, Message, Parameters, PublishDone, RequestError, RequestOk, Setup, Token, TrackProperties,
};
use clutchcall::moqt::object::{decode_datagram, encode_datagram};
use clutchcall::moqt::stream::{Opened, UniReader};
use clutchcall::moqt::{Draft, FullTrackName, Object, SubgroupHeader, TrackNamespace, properties, varint};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    vector: Vec<Vector>,
    varint: Vec<Varint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    kind: String,
    source: String,
    hex: String,
    same: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Varint {
    source: String,
    hex: String,
    value: String,
    same: bool,
}

fn file() -> File {
    toml::from_str(include_str!("../data/moqt/vectors.toml")).unwrap()
}

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
    assert!(digits.len().is_multiple_of(2), "{hex}");
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn uplink() -> TrackNamespace {
    TrackNamespace::new(["voice", "CA1", "uplink"]).unwrap()
}

fn message(name: &str) -> Message {
    match name {
        "setup" => Message::Setup(Setup {
            tokens: vec![Token { kind: 0, value: Bytes::from_static(b"T") }],
            implementation: Some("x/1".into()),
            ..Setup::default()
        }),
        "publish_namespace" => {
            Message::PublishNamespace { id: 0, namespace: uplink(), parameters: Parameters::default() }
        }
        "subscribe" => Message::Subscribe {
            id: 0,
            track: FullTrackName::new(uplink(), "audio").unwrap(),
            parameters: Parameters {
                rendezvous_timeout: Some(Duration::from_millis(5000)),
                forward: Some(true),
                filter: Some(Filter::LargestObject),
                ..Parameters::default()
            },
        },
        "subscribe_ok" => Message::SubscribeOk {
            alias: 2,
            parameters: Parameters {
                expires: Some(Duration::ZERO),
                largest: Some(Location { group: 100, object: 3 }),
                ..Parameters::default()
            },
            properties: TrackProperties(properties::timescale(1_000_000)),
        },
        _ => another(name),
    }
}

fn another(name: &str) -> Message {
    let (parameters, prefix) = (Parameters::default(), TrackNamespace::new(["voice"]).unwrap());
    let track = FullTrackName::new(uplink(), "audio").unwrap();
    match name {
        "publish_done" => Message::PublishDone(PublishDone { code: 2, streams: 3, reason: "end".into() }),
        "request_ok" => Message::RequestOk(RequestOk::default()),
        // The interval on the wire is one more than it means.
        "request_error" => {
            let retry_after = Some(Duration::from_millis(999));
            Message::RequestError(RequestError { code: 0x10, retry_after, reason: "no".into() })
        }
        "request_update" => {
            Message::RequestUpdate { id: 2, parameters: Parameters { forward: Some(false), ..parameters } }
        }
        "namespace" => Message::Namespace(TrackNamespace::new(["CA1"]).unwrap()),
        "subscribe_namespace" => Message::SubscribeNamespace { id: 4, prefix, parameters },
        "subscribe_tracks" => Message::SubscribeTracks { id: 4, prefix, parameters },
        "publish" => Message::Publish {
            id: 2,
            track,
            alias: 7,
            parameters: Parameters { forward: Some(true), ..parameters },
            properties: TrackProperties(properties::timescale(1_000_000)),
        },
        "track_status" => Message::TrackStatus { id: 0, track, parameters },
        _ => panic!("what does {name} mean?"),
    }
}

fn object(group: u64, subgroup: u64) -> Object {
    Object {
        group,
        subgroup,
        priority: Some(128),
        properties: properties::timestamp(20_000),
        payload: Bytes::from_static(b"ab"),
        ..Object::default()
    }
}

fn check_message(vector: &Vector, wire: &Bytes) {
    let expected = message(&vector.name);
    assert_eq!(Message::decode(Draft::D18, wire), Ok(Some((expected.clone(), wire.len()))), "{}", vector.source);
    let mut ours = BytesMut::new();
    expected.encode(Draft::D18, &mut ours).unwrap();
    assert_eq!(ours == *wire, vector.same, "{}: {ours:?}", vector.name);
}

fn check_datagram(vector: &Vector, wire: &Bytes) {
    let expected = Object { end_of_group: true, ..object(7, 0) };
    assert_eq!(decode_datagram(wire), Ok(Some((2, expected.clone()))), "{}", vector.source);
    let mut ours = BytesMut::new();
    encode_datagram(2, &expected, &mut ours).unwrap();
    assert_eq!(ours == *wire, vector.same, "{}: {ours:?}", vector.name);
}

fn check_subgroup(vector: &Vector, wire: &Bytes) {
    let mut reader = UniReader::new(Draft::D18);
    reader.push(wire.clone());
    let Ok(Some(Opened::Subgroup { alias: 2, mut reader })) = reader.open() else { panic!("{}", vector.source) };
    let group = 1_795_362_135;
    let header =
        SubgroupHeader { group, priority: Some(128), properties: true, first_object: true, ..Default::default() };
    assert_eq!(*reader.header(), header);
    assert_eq!(reader.read(100), Ok(Some(object(group, 0))));
    assert_eq!((reader.read(100), reader.finish()), (Ok(None), Ok(())));
}

#[test]
fn foreign_bytes_mean_what_they_mean() {
    for vector in file().vector {
        let wire = bytes(&vector.hex);
        match vector.kind.as_str() {
            "message" => check_message(&vector, &wire),
            "datagram" => check_datagram(&vector, &wire),
            "subgroup" => check_subgroup(&vector, &wire),
            kind => panic!("an unknown kind: {kind}"),
        }
    }
}

#[test]
fn the_drafts_integers() {
    for vector in file().varint {
        let (wire, value) = (bytes(&vector.hex), vector.value.parse().unwrap());
        assert_eq!(varint::read(&wire), Some((value, wire.len())), "{}", vector.source);
        let mut ours = BytesMut::new();
        varint::put(&mut ours, value);
        assert_eq!(ours == wire, vector.same, "{}", vector.hex);
    }
}
