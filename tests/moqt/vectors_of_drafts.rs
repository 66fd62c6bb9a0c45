//! Golden vectors of drafts 16, 20 and 22: `tests/data/moqt/drafts.toml`, each with the source that its bytes come from.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clutchcall::moqt::draft16::{Control, Withdrawal};
use clutchcall::moqt::message::{
    Fetch, FetchOk, Filter, GoAway, Location, Message, Parameters, PublishBlocked, PublishDone, RequestError,
    RequestOk, Setup, TrackProperties,
};
use clutchcall::moqt::{Draft, FullTrackName, TrackNamespace, properties};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    vector: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    draft: u64,
    name: String,
    source: String,
    hex: String,
    same: bool,
}

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<char> = hex.chars().collect();
    assert!(digits.len().is_multiple_of(2), "{hex}");
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn namespace(fields: &[&'static str]) -> TrackNamespace {
    TrackNamespace::new(fields.iter().copied()).unwrap()
}

fn audio() -> FullTrackName {
    FullTrackName::new(namespace(&["voice", "CA1", "uplink"]), "audio").unwrap()
}

const fn at(group: u64, object: u64) -> Location {
    Location { group, object }
}

fn filter(name: &str) -> Filter {
    match name {
        "next" => Filter::LargestObject,
        "none" | "zero" => Filter::AbsoluteStart(at(0, 0)),
        "relative" => Filter::NewestGroups(3),
        "next_group" => Filter::NextGroupStart,
        "absolute" => Filter::AbsoluteStart(at(300, 2)),
        "group_end" => Filter::AbsoluteRange { start: at(300, 2), end_group: 310 },
        "range" => Filter::LocationRange { start: at(300, 2), end: at(310, 5) },
        name => panic!("what does {name} mean?"),
    }
}

/// Of drafts 20 and 22.
fn message(name: &str) -> Message {
    let fetch = |start, end| Message::Fetch {
        id: 4,
        fetch: Fetch::Standalone { track: audio(), start, end },
        parameters: Parameters::default(),
    };
    match name {
        "fetch_range" => fetch(at(7, 0), at(9, 5)),
        "fetch_all" => fetch(at(7, 1), Fetch::TO_LARGEST),
        "fetch_ok" => Message::FetchOk(FetchOk {
            end_of_track: true,
            end: at(9, 5),
            parameters: Parameters::default(),
            properties: TrackProperties::default(),
        }),
        "goaway" => {
            let timeout = Some(Duration::from_secs(1));
            Message::GoAway { goaway: GoAway { uri: "moqt://r".into(), timeout }, request: None }
        }
        "request_update_prefix" => Message::RequestUpdate {
            id: 2,
            parameters: Parameters { namespace_prefix: Some(namespace(&["voice"])), ..Parameters::default() },
        },
        "publish_done" => Message::PublishDone(PublishDone {
            code: 2,
            streams: PublishDone::unknown_streams(Draft::D22),
            reason: "end".into(),
        }),
        "publish_skipped" => {
            Message::PublishBlocked(PublishBlocked { suffix: namespace(&["CA1"]), name: Bytes::from_static(b"audio") })
        }
        "subscribe_fill" => {
            let fill = Parameters { filter: Some(Filter::NewestGroups(1)), ..Parameters::default() };
            let filter = Some(Filter::LargestObject);
            let parameters = Parameters { filter, fill: Some(Box::new(fill)), ..Parameters::default() };
            Message::Subscribe { id: 0, track: audio(), parameters }
        }
        name => {
            let filter = Some(filter(name.strip_prefix("subscribe_").unwrap()));
            Message::Subscribe { id: 0, track: audio(), parameters: Parameters { filter, ..Parameters::default() } }
        }
    }
}

/// Of draft 16.
fn control(name: &str) -> Control {
    let none = Parameters::default;
    let forward = |forward| Parameters { forward: Some(forward), ..none() };
    let withdraw = |request, kind| Control::Withdraw { request, kind };
    let prefix = || namespace(&["voice"]);
    let tracks = |parameters| Control::Request(Message::SubscribeTracks { id: 4, prefix: prefix(), parameters });
    // Both are one request, which says FORWARD in our form.
    let both =
        |wanted| Control::Request(Message::SubscribeNamespace { id: 4, prefix: prefix(), parameters: forward(wanted) });
    let timescale = TrackProperties(properties::timescale(1_000_000));
    match name {
        "client_setup" | "server_setup" => {
            let from_client = name == "client_setup";
            let setup = Setup { implementation: from_client.then(|| "x/1".into()), ..Setup::default() };
            Control::Setup { from_client, setup, max_request: 256 }
        }
        "subscribe" => {
            let parameters = Parameters { filter: Some(Filter::LargestObject), ..forward(true) };
            Control::Request(Message::Subscribe { id: 0, track: audio(), parameters })
        }
        "subscribe_range" => {
            let filter = Some(Filter::AbsoluteRange { start: at(300, 2), end_group: 310 });
            Control::Request(Message::Subscribe { id: 0, track: audio(), parameters: Parameters { filter, ..none() } })
        }
        "subscribe_ok" => {
            let parameters = Parameters { expires: Some(Duration::ZERO), largest: Some(at(100, 3)), ..none() };
            Control::Answer { to: 0, answer: Message::SubscribeOk { alias: 2, parameters, properties: timescale } }
        }
        "publish" => Control::Request(Message::Publish {
            id: 2,
            track: audio(),
            alias: 7,
            parameters: forward(true),
            properties: timescale,
        }),
        "publish_ok" => {
            Control::PublishOk { to: 2, ok: RequestOk { parameters: forward(true), ..RequestOk::default() } }
        }
        // TOO_FAR_BEHIND, which was 6.
        "publish_done" => {
            let done = PublishDone { code: 5, streams: 3, reason: "end".into() };
            Control::Answer { to: 0, answer: Message::PublishDone(done) }
        }
        "publish_namespace" => {
            Control::Request(Message::PublishNamespace { id: 0, namespace: audio().namespace, parameters: none() })
        }
        "publish_namespace_done" => withdraw(0, Withdrawal::PublishNamespaceDone),
        "publish_namespace_cancel" => withdraw(0, Withdrawal::PublishNamespaceCancel(1)),
        "unsubscribe" => withdraw(6, Withdrawal::Unsubscribe),
        "fetch_cancel" => withdraw(6, Withdrawal::FetchCancel),
        "request_ok" => Control::Answer { to: 0, answer: Message::RequestOk(RequestOk::default()) },
        "request_error" => {
            let error = RequestError { code: 0x10, retry_after: Some(Duration::from_millis(999)), reason: "no".into() };
            Control::Answer { to: 0, answer: Message::RequestError(error) }
        }
        "request_update" => {
            Control::Update { of: 0, update: Message::RequestUpdate { id: 4, parameters: forward(false) } }
        }
        "subscribe_namespace" => {
            Control::Request(Message::SubscribeNamespace { id: 4, prefix: namespace(&["voice"]), parameters: none() })
        }
        "subscribe_tracks" => tracks(none()),
        "subscribe_tracks_paused" => tracks(forward(false)),
        "subscribe_both" => both(true),
        "subscribe_both_paused" => both(false),
        "namespace" => Control::Namespace(namespace(&["CA1"])),
        "goaway" => Control::GoAway("moqt://r".into()),
        name => panic!("what does {name} mean?"),
    }
}

#[test]
fn foreign_bytes_mean_what_they_mean() {
    let file: File = toml::from_str(include_str!("../data/moqt/drafts.toml")).unwrap();
    for Vector { draft, name, source, hex, same } in file.vector {
        let (wire, mut ours) = (bytes(&hex), BytesMut::new());
        if draft == 16 {
            let expected = control(&name);
            assert_eq!(Control::decode(&wire), Ok(Some((expected.clone(), wire.len()))), "{source} {name}");
            expected.encode(&mut ours).unwrap();
        } else {
            let (draft, expected) = (Draft::from_alpn(format!("moqt-{draft}").as_bytes()).unwrap(), message(&name));
            assert_eq!(Message::decode(draft, &wire), Ok(Some((expected.clone(), wire.len()))), "{source} {name}");
            expected.encode(draft, &mut ours).unwrap();
        }
        assert_eq!(ours == wire, same, "{source} {name}: {ours:?}");
    }
}
