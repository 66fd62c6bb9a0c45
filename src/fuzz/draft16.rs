//! The control stream of draft 16. Its data and its topology are behind the target `session`, which takes every draft.

use bytes::{Bytes, BytesMut};

use crate::moqt::draft16::{Control, Withdrawal};
use crate::moqt::message::{Fetch, Filter, Message, Parameters, RequestError, Setup, SubscribeOk, Token};
use crate::moqt::{FullTrackName, RequestErrorCode, TrackNamespace, properties};

/// What was read is written and read as the same.
pub(super) fn control(data: &[u8]) {
    let mut bytes = Bytes::copy_from_slice(data);
    while let Ok(Some((control, taken))) = Control::decode(&bytes) {
        assert!(taken <= bytes.len());
        let _ = bytes.split_to(taken);
        let mut out = BytesMut::new();
        if control.encode(&mut out).is_err() {
            continue;
        }
        let out = out.freeze();
        let (read, taken) = Control::decode(&out).expect("what we write can be read").expect("it is whole");
        assert_eq!(taken, out.len());
        let mut twice = BytesMut::new();
        read.encode(&mut twice).expect("it was written before");
        assert_eq!(twice, out, "writing is stable");
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let namespace = TrackNamespace::new(["voice", "CA1", "uplink"]).expect("a namespace");
    let track = FullTrackName::new(namespace.clone(), "audio").expect("a name");
    let tokens = vec![Token { kind: 0, value: Bytes::from_static(b"jwt") }];
    let parameters =
        Parameters { tokens: tokens.clone(), filter: Some(Filter::LargestObject), ..Parameters::default() };
    let described = SubscribeOk::default().parameters();
    let timescale = crate::moqt::message::TrackProperties(properties::timescale(1_000_000));
    let controls = [
        Control::Setup { from_client: true, setup: Setup { tokens, ..Setup::default() }, max_request: 256 },
        Control::Request(Message::Subscribe { id: 0, track: track.clone(), parameters: parameters.clone() }),
        Control::Request(Message::Publish {
            id: 2,
            track,
            alias: 1,
            parameters: described.clone(),
            properties: timescale.clone(),
        }),
        Control::Request(Message::SubscribeNamespace {
            id: 4,
            prefix: namespace.clone(),
            parameters: described.clone(),
        }),
        Control::Request(Message::SubscribeTracks {
            id: 10,
            prefix: namespace.clone(),
            parameters: parameters.clone(),
        }),
        Control::Update { of: 0, update: Message::RequestUpdate { id: 6, parameters } },
        Control::Answer {
            to: 0,
            answer: Message::SubscribeOk { alias: 1, parameters: described, properties: timescale },
        },
        Control::Answer { to: 0, answer: Message::RequestError(RequestError::new(RequestErrorCode::Timeout, "late")) },
        Control::Withdraw { request: 0, kind: Withdrawal::PublishNamespaceCancel(1) },
        Control::Withdraw { request: 0, kind: Withdrawal::FetchCancel },
        Control::Request(Message::Fetch {
            id: 8,
            fetch: Fetch::RelativeJoining { request: 0, groups: 1 },
            parameters: Parameters::default(),
        }),
        Control::Namespace(namespace),
        Control::MaxRequestId(300),
    ];
    let encoded = |control: &Control| {
        let mut out = BytesMut::new();
        control.encode(&mut out).expect("a short message");
        out.to_vec()
    };
    controls.iter().map(encoded).collect()
}
