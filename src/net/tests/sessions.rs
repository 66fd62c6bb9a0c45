//! Sessions over every carrier: the same words must arrive.

use bytes::Bytes;

use super::node::{Node, pattern, subscribed};
use crate::moqt::message::PublishDone;
use crate::moqt::session::{RequestId, Role};
use crate::moqt::{Draft, Drafts, Event, Object, SubgroupHeader};
use crate::net::tls::Identity;
use crate::net::{Down, LinkId, Trust, Wire, port};

/// Two workers and the link between them, as each names it.
struct Line {
    client: Node,
    near: LinkId,
    server: Node,
    far: LinkId,
}

fn line(wire: Wire) -> Line {
    let identity = Identity::ephemeral();
    let (client, server) = (Node::client(), Node::server(&identity));
    let trust = Trust::Hashes(vec![identity.certificate_hash()]);
    let near = match wire {
        Wire::RawQuic => client.dial("moqt", server.address, trust),
        Wire::WebTransport => client.dial("https", server.address, trust),
        Wire::Port => {
            let (here, there) = port();
            server.attach(there, Role::Server);
            client.attach(here, Role::Client)
        }
    };
    let (up, peer) = client.up();
    assert_eq!((up, peer.wire, peer.accepted), (near, wire, false));
    let (far, peer) = server.up();
    assert_eq!((peer.wire, peer.accepted, peer.address.is_some()), (wire, true, wire != Wire::Port));
    let path = (wire == Wire::WebTransport).then(|| "/live?x=1".to_owned());
    assert_eq!(peer.path, path);
    let setup = server.setup();
    if wire == Wire::RawQuic {
        assert_eq!(setup.path.as_deref(), Some("/live?x=1"));
        assert_eq!(setup.authority, Some(format!("localhost:{}", server.address.port())));
    } else {
        assert_eq!((setup.path, setup.authority), (None, None));
    }
    let setup = client.setup();
    if wire != Wire::Port {
        assert_eq!(setup.implementation.as_deref(), Some("test server"));
    }
    Line { client, near, server, far }
}

impl Line {
    fn subscribed(&self, name: &'static str) -> RequestId {
        subscribed((&self.client, self.near), (&self.server, self.far), name)
    }

    fn next_object(&self) -> Object {
        self.client.moqt("an object", |event| match event {
            Event::Object { object, .. } => Some(object.clone()),
            _ => None,
        })
    }
}

fn object(group: u64, id: u64, payload: Bytes) -> Object {
    Object { group, id, payload, ..Object::default() }
}

fn header(group: u64) -> SubgroupHeader {
    SubgroupHeader { group, first_object: true, ..SubgroupHeader::default() }
}

fn frames_arrive(wire: Wire) {
    let line = line(wire);
    let request = line.subscribed("audio");
    let far = line.far;
    for group in 0..3 {
        let subgroup = line.server.with(move |links, _| {
            let session = links.session(far).expect("live");
            session.open_subgroup(request, &header(group)).expect("forwarding")
        });
        for id in 0..3 {
            let payload = pattern(160 + id as usize);
            let sent = payload.clone();
            line.server.with(move |links, _| {
                links.session(far).expect("live").send_object(subgroup, &object(group, id, sent));
            });
            let got = line.next_object();
            assert_eq!((got.group, got.id, got.payload), (group, id, payload));
        }
        line.server.with(move |links, _| links.session(far).expect("live").finish_subgroup(subgroup));
        let reset = line.client.moqt("the end of a subgroup", |event| match event {
            Event::SubgroupEnd { reset, .. } => Some(*reset),
            _ => None,
        });
        assert_eq!(reset, None);
    }
    for group in 3..6 {
        line.server.with(move |links, _| {
            let session = links.session(far).expect("live");
            session.send_datagram(request, &object(group, 0, pattern(960))).expect("fits");
        });
        let got = line.next_object();
        assert_eq!((got.group, got.payload), (group, pattern(960)));
    }
    let done = PublishDone { code: 2, streams: 0, reason: "over".into() };
    line.server.with(move |links, _| links.session(far).expect("live").end_publication(request, done));
    let done = line.client.moqt("PUBLISH_DONE", |event| match event {
        Event::PublishDone { done, .. } => Some(done.clone()),
        _ => None,
    });
    assert_eq!((done.code, done.streams), (2, 3));
}

/// The last object of a stream and the first of the next one, in one packet.
fn a_new_stream_does_not_overtake(wire: Wire) {
    let line = line(wire);
    let request = line.subscribed("audio");
    let far = line.far;
    let mut subgroup = line.server.with(move |links, _| {
        let session = links.session(far).expect("live");
        let subgroup = session.open_subgroup(request, &header(0)).expect("forwarding");
        session.send_object(subgroup, &object(0, 0, pattern(80)));
        subgroup
    });
    assert_eq!(line.next_object().group, 0);
    for group in 1..20 {
        subgroup = line.server.with(move |links, _| {
            let session = links.session(far).expect("live");
            session.send_object(subgroup, &object(group - 1, 1, pattern(80)));
            session.finish_subgroup(subgroup);
            let next = session.open_subgroup(request, &header(group)).expect("forwarding");
            session.send_object(next, &object(group, 0, pattern(80)));
            next
        });
        let got = [line.next_object(), line.next_object()].map(|object| (object.group, object.id));
        assert_eq!(got, [(group - 1, 1), (group, 0)]);
    }
}

/// Far more than any window or queue: it waits, in order, and the backlog tells.
fn bulk_waits_in_order(wire: Wire) {
    const OBJECTS: u64 = 256;
    const BYTES: usize = 48 << 10;
    let line = line(wire);
    let request = line.subscribed("bulk");
    let far = line.far;
    let backlog = line.server.with(move |links, _| {
        let session = links.session(far).expect("live");
        let subgroup = session.open_subgroup(request, &header(0)).expect("forwarding");
        for id in 0..OBJECTS {
            session.send_object(subgroup, &object(0, id, pattern(BYTES + id as usize)));
        }
        session.finish_subgroup(subgroup);
        session.backlog(request)
    });
    assert!(backlog >= OBJECTS as usize * BYTES, "{backlog}");
    for id in 0..OBJECTS {
        let got = line.next_object();
        assert!(got.id == id && got.payload == pattern(BYTES + id as usize), "object {id} is damaged");
    }
    line.client.moqt("the end", |event| matches!(event, Event::SubgroupEnd { reset: None, .. }).then_some(()));
    let left = line.server.with(move |links, _| links.session(far).expect("live").backlog(request));
    assert_eq!(left, 0);
}

fn resets_and_stops_cross(wire: Wire) {
    let line = line(wire);
    let request = line.subscribed("audio");
    let (near, far) = (line.near, line.far);
    let subgroup = line.server.with(move |links, _| {
        let session = links.session(far).expect("live");
        let subgroup = session.open_subgroup(request, &header(0)).expect("forwarding");
        session.send_object(subgroup, &object(0, 0, pattern(10)));
        subgroup
    });
    line.next_object();
    line.server.with(move |links, _| links.session(far).expect("live").reset_subgroup(subgroup, 5));
    let reset = line.client.moqt("a reset", |event| match event {
        Event::SubgroupEnd { reset, .. } => Some(*reset),
        _ => None,
    });
    assert_eq!(reset, Some(5));
    line.client.with(move |links, _| links.session(near).expect("live").cancel(request));
    let cancelled = line.server.moqt("a cancel", |event| match event {
        Event::Cancelled { request } => Some(*request),
        _ => None,
    });
    assert_eq!(cancelled, request);
}

fn close_codes_cross(wire: Wire) {
    let Line { client, near, server, far } = line(wire);
    client.with(move |links, _| links.close(near, 0x10, "enough"));
    assert_eq!(client.down(near), Down::Local { code: 0x10, reason: "enough".into() });
    assert_eq!(server.down(far), Down::Peer { code: 0x10, reason: "enough".into() });
    assert!(client.with(move |links, _| links.session(near).is_none()));

    let Line { client, near, mut server, .. } = line(wire);
    server.stop();
    let down = client.down(near);
    assert_eq!(down, Down::Peer { code: 0, reason: String::new() });
}

macro_rules! over {
    ($($wire:ident: $module:ident),*) => {$(
        mod $module {
            use super::Wire;

            #[test]
            fn frames_arrive() {
                super::frames_arrive(Wire::$wire);
            }
            #[test]
            fn a_new_stream_does_not_overtake() {
                super::a_new_stream_does_not_overtake(Wire::$wire);
            }
            #[test]
            fn bulk_waits_in_order() {
                super::bulk_waits_in_order(Wire::$wire);
            }
            #[test]
            fn resets_and_stops_cross() {
                super::resets_and_stops_cross(Wire::$wire);
            }
            #[test]
            fn close_codes_cross() {
                super::close_codes_cross(Wire::$wire);
            }
        }
    )*};
}

over!(RawQuic: raw, WebTransport: webtransport, Port: a_port);

#[test]
fn a_dropped_end_is_the_end() {
    let client = Node::client();
    let (here, there) = port();
    let near = client.attach(here, Role::Client);
    client.up();
    drop(there);
    assert_eq!(client.down(near), Down::Reset);
}

/// The server's order decides; the client says what there is to choose from.
#[test]
fn the_draft_is_one_that_both_speak() {
    let identity = Identity::ephemeral();
    let server = Node::server(&identity);
    for scheme in ["moqt", "https"] {
        for (offer, agreed) in [(&["22"][..], Draft::D22), (&["20", "22"], Draft::D22), (&["20", "18"], Draft::D18)] {
            let numbers: Vec<String> = offer.iter().map(|number| (*number).to_owned()).collect();
            let drafts = Drafts::from_numbers(&numbers).expect("known drafts");
            let client = Node::client();
            let trust = Trust::Hashes(vec![identity.certificate_hash()]);
            let url = format!("{scheme}://localhost:{}/", server.address.port());
            let near = client.dial_with(&url, server.address, trust, drafts);
            let far = server.up().0;
            client.setup();
            for (node, link) in [(&client, near), (&server, far)] {
                let draft = node.with(move |links, _| links.session(link).expect("live").draft());
                assert_eq!(draft, agreed, "{scheme} {offer:?}");
            }
            subscribed((&client, near), (&server, far), "audio");
        }
    }
}
