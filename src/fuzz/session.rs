//! A whole session against streams that say anything, with an application that takes and refuses by turns.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::Choices;
use crate::moqt::fetched::Fetched;
use crate::moqt::message::{
    Fetch, FetchOk, Location, Parameters, PublishOk, RequestError, Setup, SubscribeOk, TrackProperties, Update,
    UpdateOk,
};
use crate::moqt::session::{Config, Limits, RequestId, Role, StreamId};
use crate::moqt::{Dir, Draft, Event, Object, RequestErrorCode, Session, SubgroupHeader, Transmit};

const LIMITS: Limits = Limits {
    setup_timeout: Duration::from_secs(5),
    requests: 8,
    object_bytes: 64 * 1024,
    pending_bytes: 32 * 1024,
    pending_time: Duration::from_millis(500),
};
/// Nothing that comes from outside makes a session queue more than this at once.
const QUEUED: usize = 4096;

/// Each step is a byte that says what happens, one that says on which stream, one for a length, and the data.
#[allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
pub(super) fn session(data: &[u8]) {
    let mut choices = Choices(data);
    let (first, draft) = (choices.byte(), choices.byte());
    let role = if first & 1 == 0 { Role::Server } else { Role::Client };
    let draft = Draft::ALL[usize::from(draft) % Draft::ALL.len()];
    let mut now = Instant::now();
    let mut session = Session::new(Config { role, draft, setup: Setup::default(), limits: LIMITS }, now);
    session.set_max_datagram(Some(1200));
    let ours = session.subscribe(crate::moqt::message::Subscribe::live(super::moqt::track()));
    let (start, end) = (Location::default(), Fetch::TO_LARGEST);
    session.fetch(Fetch::Standalone { track: super::moqt::track(), start, end }, None, Vec::new());
    let mut streams = Vec::new();
    while !choices.0.is_empty() {
        let (what, on, len) = (choices.byte(), choices.byte(), usize::from(choices.byte()));
        let taken = len.min(choices.0.len());
        let (part, rest) = choices.0.split_at(taken);
        choices.0 = rest;
        step(&mut session, &mut streams, (what, on), part, now);
        if what & 0x80 != 0 {
            now += Duration::from_millis(u64::from(on) * 10);
            session.handle_timeout(now);
        }
        drain(&mut session, ours);
    }
}

fn step(session: &mut Session, streams: &mut Vec<StreamId>, (what, on): (u8, u8), part: &[u8], now: Instant) {
    let data = Bytes::copy_from_slice(part);
    let known = streams.get(usize::from(on) % streams.len().max(1)).copied();
    match (what & 7, known) {
        (0, _) => {
            let stream = session.accept_stream(if on & 1 == 0 { Dir::Bi } else { Dir::Uni });
            streams.push(stream);
            session.handle_data(stream, data, false, now);
        }
        (1 | 2, Some(stream)) => session.handle_data(stream, data, what & 7 == 2, now),
        (3, Some(stream)) => session.handle_reset(stream, u64::from(on), now),
        (4, Some(stream)) => session.handle_stopped(stream, u64::from(on), now),
        // A stream of ours: what the peer answers, or stops.
        (5, _) => session.handle_data(StreamId(u64::from(on & 0x0e)), data, false, now),
        (6, _) => session.handle_stopped(StreamId(u64::from(on & 0x0e)), 1, now),
        _ => session.handle_datagram(data, now),
    }
}

fn drain(session: &mut Session, ours: RequestId) {
    let mut queued = 0;
    while let Some(transmit) = session.poll_transmit() {
        queued += 1;
        if let Transmit::Data { stream, data } = transmit {
            session.handle_written(stream, data.len());
        }
    }
    assert!(queued < QUEUED);
    while let Some(event) = session.poll_event() {
        match event {
            Event::Subscribe { request, .. } if request.0 & 2 == 0 => {
                session.accept_subscribe(request, SubscribeOk::default());
                if let Some(id) = session.open_subgroup(request, &SubgroupHeader::default()) {
                    session.send_object(id, &Object { payload: Bytes::from_static(b"x"), ..Object::default() });
                    session.finish_subgroup(id);
                }
            }
            Event::Publish { request, .. } if request.0 & 2 == 0 => {
                session
                    .accept_publish(request, PublishOk { forward: true, priority: 128, filter: None, expires: None });
            }
            Event::PublishNamespace { request, .. } | Event::SubscribeNamespace { request, .. } => {
                session.accept(request)
            }
            Event::Subscribe { request, .. } | Event::Publish { request, .. } => {
                session.reject(request, RequestError::new(RequestErrorCode::Uninterested, ""));
            }
            Event::Fetch { request, .. } if request.0 & 2 == 0 => {
                let (end, parameters) = (Location { group: 1, object: 0 }, Parameters::default());
                let properties = TrackProperties::default();
                let items = [Fetched::Unknown(Location::default())];
                session.answer_fetch(request, FetchOk { end_of_track: false, end, parameters, properties }, items);
            }
            Event::Fetch { request, .. } => {
                session.reject(request, RequestError::new(RequestErrorCode::InvalidRange, ""));
            }
            Event::Update { request, .. } if request.0 & 4 == 0 => session.accept_update(request, UpdateOk::default()),
            Event::Update { request, .. } => {
                session.reject_update(request, RequestError::new(RequestErrorCode::Unauthorized, ""));
            }
            Event::SubscribeOk { request, .. } => _ = session.update(request, Update::default()),
            Event::Object { request, .. } if request == ours => session.cancel(ours),
            _ => {}
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut setup = BytesMut::new();
    let message = crate::moqt::message::Message::Setup(Setup::default());
    message.encode(Draft::D18, &mut setup).expect("a short SETUP");
    let at = Draft::ALL.iter().position(|draft| *draft == Draft::D18).unwrap_or(0) as u8;
    let begin = |role: u8| [&[role, at, 0, 1, setup.len() as u8][..], &setup].concat();
    let with = |begin: Vec<u8>, step: &[u8], data: &[u8]| [&begin[..], step, &[data.len() as u8], data].concat();
    let asked = super::moqt::message_seeds().into_iter().filter(|seed| seed[0] == at);
    let mut seeds: Vec<_> = asked.map(|seed| with(begin(0), &[0, 0], &seed[2..])).collect();
    seeds.push(with(begin(1), &[7, 0], &super::moqt::datagram_seeds()[0]));
    seeds.push(with(begin(1), &[0, 1], &super::moqt::uni_stream_seeds()[0][2..]));
    seeds
}
