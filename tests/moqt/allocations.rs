//! What an object costs on its way through two sessions, in allocations: counted, so that the hot path stays one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clutchcall::moqt::message::{Message, Parameters, Setup, SubscribeOk, Token, TrackProperties};
use clutchcall::moqt::relay;
use clutchcall::moqt::session::{Config, Limits, RequestId, Role, StreamId};
use clutchcall::moqt::subgroup::{Objects, encode_header};
use clutchcall::moqt::{
    Dir, Draft, Event, FullTrackName, Object, RequestErrorCode, Session, SubgroupHeader, TrackNamespace, Transmit,
};

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    pub(super) static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is a thread-local number without a destructor.
#[allow(unsafe_code, reason = "an allocator can't be written without it")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn config(role: Role) -> Config {
    let limits = Limits {
        setup_timeout: Duration::from_secs(5),
        requests: 64,
        object_bytes: 65_536,
        pending_bytes: 32_768,
        pending_time: Duration::from_millis(500),
    };
    Config { role, draft: Draft::D18, setup: Setup::default(), limits }
}

fn say(session: &mut Session, stream: StreamId, message: &Message, now: Instant) {
    let mut data = BytesMut::new();
    message.encode(Draft::D18, &mut data).unwrap();
    session.handle_data(stream, data.freeze(), false, now);
}

fn drain(session: &mut Session) {
    while session.poll_transmit().is_some() {}
    while session.poll_event().is_some() {}
}

fn track() -> FullTrackName {
    FullTrackName::new(TrackNamespace::new(["voice", "CA1", "uplink"]).unwrap(), "audio").unwrap()
}

/// A session that was asked for a track and serves it, and one that asked for it under alias 0.
fn sessions(now: Instant) -> (Session, Session) {
    let setup = Message::Setup(Setup::default());
    let mut publisher = Session::new(config(Role::Server), now);
    let control = publisher.accept_stream(Dir::Uni);
    say(&mut publisher, control, &setup, now);
    let stream = publisher.accept_stream(Dir::Bi);
    say(&mut publisher, stream, &Message::Subscribe { id: 0, track: track(), parameters: Parameters::default() }, now);
    publisher.accept_subscribe(RequestId(0), SubscribeOk::default());
    publisher.set_max_datagram(Some(1200));

    let mut subscriber = Session::new(config(Role::Server), now);
    let control = subscriber.accept_stream(Dir::Uni);
    say(&mut subscriber, control, &setup, now);
    let stream = subscriber.accept_stream(Dir::Bi);
    let properties = TrackProperties::default();
    let publish = Message::Publish { id: 0, track: track(), alias: 0, parameters: Parameters::default(), properties };
    say(&mut subscriber, stream, &publish, now);
    let ok = clutchcall::moqt::message::PublishOk { forward: true, priority: 128, filter: None, expires: None };
    subscriber.accept_publish(RequestId(0), ok);
    drain(&mut publisher);
    drain(&mut subscriber);
    (publisher, subscriber)
}

/// 20 ms of Opus with a timestamp.
fn frame(id: u64) -> Object {
    let properties = clutchcall::moqt::properties::timestamp(20_000 * id);
    Object { group: 1, id, properties, payload: Bytes::from(vec![id as u8; 80]), ..Object::default() }
}

const HEADER: SubgroupHeader =
    SubgroupHeader { group: 1, subgroup: 0, priority: None, properties: true, end_of_group: false, first_object: true };

/// One object per chunk, as a link brings them.
fn chunks(count: u64) -> Vec<Bytes> {
    let mut writer = Objects::new(HEADER);
    let chunk = |id| {
        let mut out = BytesMut::new();
        if id == 0 {
            encode_header(0, &HEADER, &mut out);
        }
        writer.encode(&frame(id), &mut out).unwrap();
        out.freeze()
    };
    (0..count).map(chunk).collect()
}

#[test]
fn an_object_that_arrives_whole_allocates_nothing() {
    let now = Instant::now();
    let (_, mut subscriber) = sessions(now);
    let stream = subscriber.accept_stream(Dir::Uni);
    let chunks = chunks(1000);
    let mut objects = 0;
    let mut before = 0;
    for (at, chunk) in chunks.iter().enumerate() {
        if at == 100 {
            before = COUNT.get();
        }
        subscriber.handle_data(stream, chunk.clone(), false, now);
        while let Some(event) = subscriber.poll_event() {
            objects += u64::from(matches!(event, Event::Object { .. }));
        }
    }
    assert_eq!((objects, COUNT.get() - before), (1000, 0));
}

#[test]
fn an_object_that_is_sent_allocates_a_fraction() {
    let now = Instant::now();
    let (mut publisher, _) = sessions(now);
    let subgroup = publisher.open_subgroup(RequestId(0), &HEADER).unwrap();
    let frames: Vec<Object> = (0..1000).map(frame).collect();
    // A transport keeps what it sent until it is acknowledged: the last 16 chunks here.
    let mut kept = std::collections::VecDeque::with_capacity(32);
    let mut before = 0;
    for (at, object) in frames.iter().enumerate() {
        if at == 100 {
            before = COUNT.get();
        }
        publisher.send_object(subgroup, object);
        while let Some(transmit) = publisher.poll_transmit() {
            if let Transmit::Data { stream, data } = transmit {
                publisher.handle_written(stream, data.len());
                kept.push_back(data);
            }
        }
        if kept.len() > 16 {
            kept.pop_front();
        }
    }
    let per_object = (COUNT.get() - before) as f64 / 900.0;
    assert!(per_object <= 0.25, "{per_object} allocations per object");
    assert_eq!(publisher.backlog(RequestId(0)), 0);
}

#[test]
fn a_datagram_that_is_sent_allocates_a_fraction() {
    let now = Instant::now();
    let (mut publisher, _) = sessions(now);
    let frames: Vec<Object> = (0..1000).map(frame).collect();
    let mut before = 0;
    for (at, object) in frames.iter().enumerate() {
        if at == 100 {
            before = COUNT.get();
        }
        publisher.send_datagram(RequestId(0), object).unwrap();
        while publisher.poll_transmit().is_some() {}
    }
    let per_object = (COUNT.get() - before) as f64 / 900.0;
    assert!(per_object <= 0.1, "{per_object} allocations per datagram");
}

/// Everything is allowed.
struct Open;

impl relay::Rights for Open {
    fn may_publish(&self, _: &TrackNamespace) -> bool {
        true
    }
    fn may_subscribe(&self, _: &TrackNamespace) -> bool {
        true
    }
    fn lease(&self) -> Option<&relay::Lease> {
        None
    }
}

impl relay::Gate for Open {
    fn rights(&mut self, _: &Token, _: Instant) -> Result<Arc<dyn relay::Rights>, RequestErrorCode> {
        Ok(Arc::new(Open))
    }
}

struct Peers(Vec<Session>);

impl relay::Sessions for Peers {
    fn session(&mut self, key: u64) -> Option<&mut Session> {
        self.0.get_mut(key as usize)
    }
}

/// A relay core with one publisher (session 0, which said PUBLISH) and subscribers.
fn relay(subscribers: u64, now: Instant) -> (relay::Core, Peers) {
    let mut core = relay::Core::new(Box::new(Open));
    let mut peers = Peers(Vec::new());
    for key in 0..=subscribers {
        let mut session = Session::new(config(Role::Server), now);
        let control = session.accept_stream(Dir::Uni);
        say(&mut session, control, &Message::Setup(Setup::default()), now);
        let stream = session.accept_stream(Dir::Bi);
        let (parameters, properties) = (Parameters::default(), TrackProperties::default());
        let request = match key {
            0 => Message::Publish { id: 0, track: track(), alias: 0, parameters, properties },
            _ => Message::Subscribe { id: 0, track: track(), parameters },
        };
        say(&mut session, stream, &request, now);
        peers.0.push(session);
        core.insert(key, vec![Arc::new(Open)], relay::Limits::default(), now);
        while let Some(event) = peers.0[key as usize].poll_event() {
            core.handle_event(&mut peers, key, event, now);
        }
    }
    peers.0.iter_mut().for_each(drain);
    (core, peers)
}

/// Allocations of forwarding the objects from `warm` on.
fn forwarded(core: &mut relay::Core, peers: &mut Peers, count: u64, warm: usize, now: Instant) -> u64 {
    let stream = peers.0[0].accept_stream(Dir::Uni);
    let mut before = 0;
    for (at, chunk) in chunks(count).into_iter().enumerate() {
        if at == warm {
            before = COUNT.get();
        }
        peers.0[0].handle_data(stream, chunk, false, now);
        while let Some(event) = peers.0[0].poll_event() {
            core.handle_event(peers, 0, event, now);
        }
        for session in &mut peers.0 {
            while let Some(transmit) = session.poll_transmit() {
                if let Transmit::Data { stream, data } = transmit {
                    session.handle_written(stream, data.len());
                }
            }
        }
    }
    COUNT.get() - before
}

#[test]
fn a_forwarded_object_allocates_a_fraction_per_subscriber() {
    const SUBSCRIBERS: u64 = 10;
    let now = Instant::now();
    let (mut core, mut peers) = relay(SUBSCRIBERS, now);
    let per_object = forwarded(&mut core, &mut peers, 1000, 100, now) as f64 / 900.0;
    assert_eq!(core.counters().objects_out, 1000 * SUBSCRIBERS);
    assert!(per_object <= 0.25 * SUBSCRIBERS as f64, "{per_object} allocations per object");
}

#[test]
fn an_object_that_is_kept_allocates_nothing_more() {
    let now = Instant::now();
    let counts = [0, relay::CacheLimits::default().bytes].map(|bytes| {
        let (mut core, mut peers) = relay(1, now);
        core.set_cache(relay::CacheLimits { bytes, ..relay::CacheLimits::default() });
        // Until the track has all that it may have.
        let count = forwarded(&mut core, &mut peers, 3000, 1000, now);
        assert_eq!(core.counters().cache_bytes > 0, bytes > 0);
        count
    });
    assert_eq!(counts[0], counts[1]);
}
