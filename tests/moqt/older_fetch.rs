//! Fetch streams of draft 16 against the same foreign codec: whole sessions write for it, and read what it writes.
//!
//! Ranges are not among them: it reads a payload length behind their place, which aiomoqt and we do not (docs/moqt.md).

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clutchcall::moqt::draft16::Control;
use clutchcall::moqt::fetched::Fetched;
use clutchcall::moqt::message::{Fetch, FetchOk, GroupOrder, Location, Message, Parameters, Setup, TrackProperties};
use clutchcall::moqt::properties::{Writer, timestamp};
use clutchcall::moqt::session::{Config, Limits, RequestId, Role, StreamId};
use clutchcall::moqt::{Dir, Draft, Event, FullTrackName, Object, Session, TrackNamespace, Transmit};
use moqtap_codec::draft16::data_stream::{
    FetchHeader, FetchObjectHeader, FetchObjectLocation, FetchObjectReader, FetchObjectWriter,
};
use moqtap_codec::varint::VarInt;

use super::generate::Rng;

const ROUNDS: u64 = 300;

fn range() -> Fetch {
    let track = FullTrackName::new(TrackNamespace::new(["voice"]).unwrap(), "audio").unwrap();
    Fetch::Standalone { track, start: Location::default(), end: Location { group: u64::MAX >> 2, object: 0 } }
}

fn ok() -> FetchOk {
    let (end, parameters) = (Location { group: 9, object: 0 }, Parameters::default());
    FetchOk { end_of_track: false, end, parameters, properties: TrackProperties::default() }
}

/// A session that has the other side's SETUP, its control stream, and the time.
fn session(role: Role) -> (Session, StreamId, Instant) {
    let limits = Limits {
        setup_timeout: Duration::from_secs(5),
        requests: 64,
        object_bytes: 65_536,
        pending_bytes: 32_768,
        pending_time: Duration::from_millis(500),
    };
    let now = Instant::now();
    let mut session = Session::new(Config { role, draft: Draft::D16, setup: Setup::default(), limits }, now);
    let control = match role {
        Role::Client => match session.poll_transmit() {
            Some(Transmit::Open { stream, .. }) => stream,
            other => panic!("{other:?}"),
        },
        Role::Server => session.accept_stream(Dir::Bi),
    };
    let setup = Control::Setup { from_client: role == Role::Server, setup: Setup::default(), max_request: 100 };
    say(&mut session, control, &setup, now);
    (session, control, now)
}

fn say(session: &mut Session, stream: StreamId, control: &Control, now: Instant) {
    let mut data = BytesMut::new();
    control.encode(&mut data).unwrap();
    session.handle_data(stream, data.freeze(), false, now);
}

/// Objects in the order of a fetch, at places of all lengths.
fn objects(rng: &mut Rng, order: GroupOrder) -> Vec<Object> {
    let mut places: Vec<_> = (0..1 + rng.below(8)).map(|_| rng.location()).collect();
    let near: Vec<_> = places.iter().map(|at| Location { object: at.object + 1, ..*at }).collect();
    places.extend(near);
    places.sort_unstable();
    places.dedup();
    if order == GroupOrder::Descending {
        places.sort_by_key(|at| (std::cmp::Reverse(at.group), at.object));
    }
    let subgroups = [0, 1, 2, rng.number()];
    let mut object = |at: Location| {
        let properties = match rng.below(3) {
            0 => Bytes::new(),
            1 => timestamp(rng.number()),
            _ => Writer::default().number(0x02, rng.number()).bytes(0x77, &rng.bytes(30)).finish(),
        };
        let (subgroup, priority) = (subgroups[rng.below(4) as usize], Some([128, 7][rng.below(2) as usize]));
        let payload = rng.bytes(200);
        Object { group: at.group, id: at.object, subgroup, priority, properties, payload, ..Object::default() }
    };
    places.into_iter().map(&mut object).collect()
}

fn order(rng: &mut Rng) -> GroupOrder {
    if rng.flip() { GroupOrder::Ascending } else { GroupOrder::Descending }
}

/// The extension block of draft 16 for these properties: the same pairs with QUIC's integers.
fn extensions(properties: &Bytes) -> Vec<u8> {
    let (mut out, mut last) = (Vec::new(), 0);
    let number = |out: &mut Vec<u8>, value: u64| VarInt::from_u64(value).unwrap().encode(out);
    for (key, value) in clutchcall::moqt::properties::pairs(properties).map(Result::unwrap) {
        number(&mut out, key - last);
        last = key;
        match value {
            clutchcall::moqt::properties::Value::Number(value) => number(&mut out, value),
            clutchcall::moqt::properties::Value::Bytes(value) => {
                number(&mut out, value.len() as u64);
                out.extend_from_slice(&value);
            }
        }
    }
    out
}

#[test]
fn it_reads_what_we_write() {
    for seed in 0..ROUNDS {
        let rng = &mut Rng(seed);
        let (mut session, control, now) = session(Role::Server);
        let order = order(rng);
        let parameters = Parameters { group_order: Some(order), ..Parameters::default() };
        say(&mut session, control, &Control::Request(Message::Fetch { id: 0, fetch: range(), parameters }), now);
        let items: Vec<_> = objects(rng, order).into_iter().map(|object| (object, rng.below(4) == 0)).collect();
        let told =
            items.iter().map(|(object, datagram)| Fetched::Object { object: object.clone(), datagram: *datagram });
        session.answer_fetch(RequestId(0), ok(), told.collect::<Vec<_>>());
        let (mut stream, mut bytes) = (None, Vec::new());
        while let Some(transmit) = session.poll_transmit() {
            match transmit {
                Transmit::Open { stream: opened, dir: Dir::Uni, .. } => stream = Some(opened),
                Transmit::Data { stream: of, data } if Some(of) == stream => bytes.extend_from_slice(&data),
                _ => {}
            }
        }
        let (mut unread, mut reader) = (&bytes[..], FetchObjectReader::new());
        assert_eq!(FetchHeader::decode(&mut unread).unwrap().request_id.into_inner(), 0);
        for (object, datagram) in items {
            let header = FetchObjectHeader::decode(&mut unread).unwrap();
            let at = reader.resolve(&header).unwrap();
            let expected = (object.group, object.id, Some(object.subgroup).filter(|_| !datagram), object.priority);
            assert_eq!((at.group_id, at.object_id, at.subgroup_id, at.publisher_priority), expected);
            assert_eq!(header.extensions.unwrap_or_default(), extensions(&object.properties));
            let (payload, rest) = unread.split_at(header.payload_length.into_inner() as usize);
            assert_eq!(payload, object.payload);
            unread = rest;
        }
        assert!(unread.is_empty(), "seed {seed}");
    }
}

/// Its writer leaves out whatever the flags allow it to.
#[test]
fn we_read_what_it_writes() {
    for seed in 0..ROUNDS {
        let rng = &mut Rng(seed);
        let (mut session, control, now) = session(Role::Client);
        let order = order(rng);
        let request = session.fetch(range(), Some(order), Vec::new());
        while session.poll_transmit().is_some() {}
        say(&mut session, control, &Control::Answer { to: request.0, answer: Message::FetchOk(ok()) }, now);
        let objects = objects(rng, order);
        let (mut bytes, mut writer) = (Vec::new(), FetchObjectWriter::new());
        FetchHeader { request_id: VarInt::from_u64(request.0).unwrap() }.encode(&mut bytes);
        for object in &objects {
            let extensions = extensions(&object.properties);
            let described = !extensions.is_empty() || rng.flip();
            let flags = rng.below(4) | if described { 0x20 } else { 0 };
            let original = FetchObjectHeader {
                serialization_flags: VarInt::from_u64(flags).unwrap(),
                group_id: None,
                subgroup_id: None,
                object_id: None,
                publisher_priority: None,
                extensions: described.then_some(extensions),
                payload_length: VarInt::from_u64(object.payload.len() as u64).unwrap(),
            };
            let location = FetchObjectLocation {
                group_id: object.group,
                subgroup_id: Some(object.subgroup),
                object_id: object.id,
                publisher_priority: object.priority,
                end_of_range: None,
            };
            writer.write_object_header(&original, &location, &mut bytes).unwrap();
            bytes.extend_from_slice(&object.payload);
        }
        let stream = session.accept_stream(Dir::Uni);
        let chunk = 1 + rng.below(bytes.len() as u64) as usize;
        for piece in bytes.chunks(chunk) {
            session.handle_data(stream, Bytes::copy_from_slice(piece), false, now);
        }
        session.handle_data(stream, Bytes::new(), true, now);
        let mut events: Vec<_> = std::iter::from_fn(|| session.poll_event()).collect();
        assert_eq!(events.pop(), Some(Event::FetchEnd { request, reset: None }), "seed {seed}");
        let heard = events.into_iter().filter_map(|event| match event {
            Event::Fetched { fetched: Fetched::Object { object, datagram: false }, .. } => Some(object),
            _ => None,
        });
        assert_eq!(heard.collect::<Vec<_>>(), objects, "seed {seed}");
        assert!(!session.is_closed());
    }
}
