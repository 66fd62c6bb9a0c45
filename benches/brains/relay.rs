//! One object from a publisher's session to a subscriber's, as a relay forwards it: bytes in at one session, bytes out at
//! another. Four sessions, and links that carry everything at once and cost nothing that is measured.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clutchcall::moqt::message::{Setup, Subscribe, SubscribeOk};
use clutchcall::moqt::session::{Config, Limits, RequestId, Role, SubgroupId};
use clutchcall::moqt::{Dir, Draft, Event, FullTrackName, Session, StreamId, SubgroupHeader, TrackNamespace, Transmit};
use criterion::Criterion;

use crate::{measure, object};

const HEADER: SubgroupHeader = SubgroupHeader {
    group: 1_700_000_000_000,
    subgroup: 0,
    priority: None,
    properties: true,
    end_of_group: false,
    first_object: true,
};

/// A client and a server session, and how each names the other's streams.
struct Link {
    client: Session,
    server: Session,
    to_server: HashMap<StreamId, StreamId>,
    to_client: HashMap<StreamId, StreamId>,
}

fn session(role: Role, now: Instant) -> Session {
    let limits = Limits {
        setup_timeout: Duration::from_secs(5),
        requests: 16,
        object_bytes: 64 * 1024,
        pending_bytes: 32 * 1024,
        pending_time: Duration::from_millis(500),
    };
    Session::new(Config { role, draft: Draft::D18, setup: Setup::default(), limits }, now)
}

/// Moves what one session has to say into the other.
fn carry(
    from: &mut Session,
    to: &mut Session,
    names: &mut HashMap<StreamId, StreamId>,
    back: &mut HashMap<StreamId, StreamId>,
    now: Instant,
) {
    while let Some(transmit) = from.poll_transmit() {
        match transmit {
            Transmit::Open { stream, dir, .. } => {
                let name = to.accept_stream(dir);
                names.insert(stream, name);
                if dir == Dir::Bi {
                    back.insert(name, stream);
                }
            }
            Transmit::Data { stream, data } => {
                from.handle_written(stream, data.len());
                to.handle_data(names[&stream], data, false, now);
            }
            other => unreachable!("nothing ends here: {other:?}"),
        }
    }
}

impl Link {
    fn new(now: Instant) -> Self {
        let (client, server) = (session(Role::Client, now), session(Role::Server, now));
        Self { client, server, to_server: HashMap::new(), to_client: HashMap::new() }
    }

    fn settle(&mut self, now: Instant) {
        for _ in 0..3 {
            carry(&mut self.client, &mut self.server, &mut self.to_server, &mut self.to_client, now);
            carry(&mut self.server, &mut self.client, &mut self.to_client, &mut self.to_server, now);
        }
    }

    /// One side subscribes and the other begins to send: the request, and the subgroup it is sent in.
    fn subscribed(&mut self, subscriber: Role, now: Instant) -> (RequestId, SubgroupId) {
        let request = self.side(subscriber).subscribe(subscribe());
        self.settle(now);
        let publisher = if subscriber == Role::Client { Role::Server } else { Role::Client };
        let other = self.side(publisher);
        let asked = std::iter::from_fn(|| other.poll_event()).find(|event| matches!(event, Event::Subscribe { .. }));
        assert!(asked.is_some(), "the subscription arrived");
        other.accept_subscribe(request, SubscribeOk::default());
        let subgroup = other.open_subgroup(request, &HEADER).expect("it is wanted");
        other.send_object(subgroup, &object(0));
        self.settle(now);
        while self.side(subscriber).poll_event().is_some() {}
        (request, subgroup)
    }

    fn side(&mut self, role: Role) -> &mut Session {
        if role == Role::Client { &mut self.client } else { &mut self.server }
    }
}

fn subscribe() -> Subscribe {
    let namespace = TrackNamespace::new(["voice", "CA0123456789", "uplink"]).expect("three fields");
    Subscribe::new(FullTrackName::new(namespace, "audio").expect("short"))
}

/// The bytes of the next object on the publisher's stream, as they reach the relay.
fn next_chunk(publisher: &mut Session, subgroup: SubgroupId, id: u64) -> (StreamId, Bytes) {
    publisher.send_object(subgroup, &object(id));
    match publisher.poll_transmit() {
        Some(Transmit::Data { stream, data }) => {
            publisher.handle_written(stream, data.len());
            (stream, data)
        }
        other => unreachable!("one object is one chunk: {other:?}"),
    }
}

pub(crate) fn forward(criterion: &mut Criterion) {
    let now = Instant::now();
    let (mut up, mut down) = (Link::new(now), Link::new(now));
    up.settle(now);
    down.settle(now);
    let (_, from) = up.subscribed(Role::Server, now);
    let (_, to) = down.subscribed(Role::Client, now);
    let mut id = 0;
    measure(criterion, "session: write and read one object", || {
        id += 1;
        let (stream, data) = next_chunk(&mut up.client, from, id);
        // The next figure, less this one, is what the second half of a relay costs.
        up.server.handle_data(up.to_server[&stream], data, false, now);
        while up.server.poll_event().is_some() {}
    });
    measure(criterion, "session: write, read, write to the next", || {
        id += 1;
        let (stream, data) = next_chunk(&mut up.client, from, id);
        up.server.handle_data(up.to_server[&stream], data, false, now);
        while let Some(event) = up.server.poll_event() {
            if let Event::Object { object, .. } = event {
                down.server.send_object(to, &object);
            }
        }
        let Some(Transmit::Data { stream, data }) = down.server.poll_transmit() else { unreachable!("one object") };
        down.server.handle_written(stream, data.len());
    });
}
