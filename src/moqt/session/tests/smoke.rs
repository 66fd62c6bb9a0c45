//! The thin line through a session: ask, answer, send, end.

use bytes::Bytes;

use super::pair::{Conditions, Pair};
use crate::moqt::message::{PublishDone, Subscribe, SubscribeOk};
use crate::moqt::session::{Event, RequestId, Role};
use crate::moqt::{FullTrackName, Object, SubgroupHeader, TrackNamespace};

pub(super) fn track(name: &'static str) -> FullTrackName {
    FullTrackName::new(TrackNamespace::new(["voice", "CA1", "uplink"]).unwrap(), name).unwrap()
}

pub(super) fn subscribe(name: &'static str) -> Subscribe {
    Subscribe::new(track(name))
}

/// The client subscribes, the server accepts: the request as each side knows it is the same id.
pub(super) fn subscribed(pair: &mut Pair, name: &'static str) -> RequestId {
    let request = pair.client.subscribe(subscribe(name));
    pair.settle();
    let asked = pair.find(Role::Server, |event| match event {
        Event::Subscribe { request, .. } => Some(*request),
        _ => None,
    });
    assert_eq!(asked, Some(request));
    pair.server.accept_subscribe(request, SubscribeOk::default());
    pair.settle();
    let ok = |event: &Event| matches!(event, Event::SubscribeOk { request: ok, .. } if *ok == request).then_some(());
    assert_eq!(pair.find(Role::Client, ok), Some(()));
    request
}

pub(super) fn object(group: u64, id: u64, payload: &'static str) -> Object {
    Object { group, id, payload: Bytes::from_static(payload.as_bytes()), ..Object::default() }
}

#[test]
fn a_track_is_asked_for_sent_and_ended() {
    for seed in 0..20 {
        let mut pair = Pair::new(Conditions::rough(seed));
        let request = subscribed(&mut pair, "audio");
        let header = SubgroupHeader { group: 7, first_object: true, ..SubgroupHeader::default() };
        let subgroup = pair.server.open_subgroup(request, &header).unwrap();
        for id in 0..3 {
            pair.server.send_object(subgroup, &object(7, id, "frame"));
        }
        pair.server.end_publication(request, PublishDone { code: 2, streams: 0, reason: "end".into() });
        pair.settle();
        let done = |event: &Event| match event {
            Event::PublishDone { done, .. } => Some(done.clone()),
            _ => None,
        };
        let done = pair.find(Role::Client, done).unwrap();
        assert_eq!((done.code, done.streams), (2, 1));
        let ids: Vec<u64> = pair
            .client_events
            .iter()
            .filter_map(|event| match event {
                Event::Object { object, .. } => Some(object.id),
                _ => None,
            })
            .collect();
        assert_eq!(ids, [0, 1, 2]);
        let last = pair.client_events.back();
        assert!(matches!(last, Some(Event::SubgroupEnd { reset: None, .. })), "{last:?}");
        assert_eq!(pair.closed, None);
    }
}
