//! SUBSCRIBE_TRACKS and FORWARD over real links and shards: what is published is offered wherever it came in, and rests until it is taken.

use clutchcall::moqt::Event;
use clutchcall::moqt::message::{PublishOk, UpdateOk};
use clutchcall::moqt::session::RequestId;

use super::rig::{Answer, Client, Link, Relay, namespace_of, object, track_of};
use super::rules::over_all;

const UPLINK: &str = "voice/CA1/uplink";
const CALL: &str = "voice/CA1";
const OK: PublishOk = PublishOk { forward: true, priority: 128, filter: None, expires: None };

/// Waits until the publisher is told to forward, or not to, and says yes.
fn told(publisher: &Link<'_>, publication: RequestId, wanted: bool) {
    publisher.on("a REQUEST_UPDATE", |event| match event {
        Event::Update { request, update } if *request == publication => {
            assert_eq!(update.forward, Some(wanted));
            Some(())
        }
        _ => None,
    });
    publisher.session(move |session| session.accept_update(publication, UpdateOk::default()));
}

fn publish(publisher: &Link<'_>) -> RequestId {
    let publication = publisher.session(|session| session.publish(track_of(UPLINK), Default::default(), vec![]));
    assert_eq!(publisher.answered(publication), Answer::Ok);
    // Nobody takes it yet: its answer said FORWARD 0.
    publisher.on("FORWARD 0", |event| match event {
        Event::Updated { request, forward: false, .. } if *request == publication => Some(()),
        _ => None,
    });
    publication
}

fn interest(recorder: &Link<'_>) {
    let request = recorder.session(|session| session.subscribe_tracks(namespace_of(CALL), true, vec![]));
    assert_eq!(recorder.answered(request), Answer::Ok);
}

fn offered(recorder: &Link<'_>) -> RequestId {
    recorder.on("an offer", |event| match event {
        Event::Publish { request, publish } => {
            assert_eq!(publish.track, track_of(UPLINK));
            Some(*request)
        }
        _ => None,
    })
}

#[test]
fn a_track_is_offered_wherever_it_is_published_and_rests_until_it_is_taken() {
    over_all(|speaks, hears| {
        let (relay, client, other) = (Relay::start(), Client::start(), Client::start());
        let publisher = client.connect(&relay, speaks, vec![relay.token(&[UPLINK], &[])]);
        let recorder = other.connect(&relay, hears, vec![relay.token(&[], &[CALL, UPLINK])]);
        interest(&recorder);
        let publication = publish(&publisher);
        let offer = offered(&recorder);
        recorder.session(move |session| session.accept_publish(offer, OK));
        told(&publisher, publication, true);
        let subgroup = publisher.open(publication, 1);
        publisher.send(subgroup, object(1, 0, &b"hello"[..]));
        assert_eq!(&recorder.object(offer).payload[..], b"hello");
        recorder.session(move |session| session.cancel(offer));
        told(&publisher, publication, false);
        // Another recorder comes when it is there already.
        let late = other.connect(&relay, hears, vec![relay.token(&[], &[CALL, UPLINK])]);
        interest(&late);
        let offer = offered(&late);
        late.session(move |session| session.accept_publish(offer, OK));
        told(&publisher, publication, true);
        let subgroup = publisher.open(publication, 2);
        publisher.send(subgroup, object(2, 0, &b"again"[..]));
        assert_eq!(&late.object(offer).payload[..], b"again");
        publisher.close();
        late.done(offer);
    });
}
