//! One session against bytes that the test writes: what a careful peer would never send.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::pair;
use crate::moqt::message::{Message, Parameters, Setup};
use crate::moqt::session::{Config, Dir, Event, Role, Session, StreamId, Transmit};
use crate::moqt::stream::ControlReader;
use crate::moqt::subgroup::{Objects, encode_header};
use crate::moqt::version::Draft;
use crate::moqt::{Object, SubgroupHeader};

pub(super) struct Lone {
    pub(super) session: Session,
    pub(super) now: Instant,
    /// The peer's control stream.
    pub(super) control: StreamId,
    pub(super) sent: Vec<Transmit>,
    pub(super) events: Vec<Event>,
}

pub(super) fn bytes(message: &Message) -> Bytes {
    bytes_in(Draft::D18, message)
}

pub(super) fn bytes_in(draft: Draft, message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(draft, &mut out).unwrap();
    out.freeze()
}

/// A subgroup stream's bytes.
pub(super) fn subgroup(alias: u64, header: &SubgroupHeader, objects: &[Object]) -> Bytes {
    let mut out = BytesMut::new();
    encode_header(alias, header, &mut out);
    let mut writer = Objects::new(*header);
    objects.iter().for_each(|object| writer.encode(object, &mut out).unwrap());
    out.freeze()
}

impl Lone {
    /// Before the peer's SETUP.
    pub(super) fn early(config: Config) -> Self {
        let mut lone = Self::early_kept(config);
        lone.sent.clear();
        lone
    }

    /// The same with what the session has said already.
    pub(super) fn early_kept(config: Config) -> Self {
        let now = Instant::now();
        let mut session = Session::new(config, now);
        let control = session.accept_stream(Dir::Uni);
        let mut lone = Self { session, now, control, sent: Vec::new(), events: Vec::new() };
        lone.drain();
        lone
    }

    pub(super) fn new(role: Role) -> Self {
        Self::of(Draft::D18, role)
    }

    pub(super) fn of(draft: Draft, role: Role) -> Self {
        let mut lone = Self::early(Config { draft, ..pair::config(role) });
        lone.set_up();
        lone.events.clear();
        lone
    }

    pub(super) fn set_up(&mut self) {
        self.say(self.control, &Message::Setup(Setup::default()));
    }

    pub(super) fn drain(&mut self) {
        self.sent.extend(std::iter::from_fn(|| self.session.poll_transmit()));
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
    }

    pub(super) fn say(&mut self, stream: StreamId, message: &Message) {
        self.data(stream, bytes_in(self.session.draft(), message), false);
    }

    pub(super) fn data(&mut self, stream: StreamId, data: Bytes, fin: bool) {
        self.session.handle_data(stream, data, fin, self.now);
        self.drain();
    }

    /// A new bidirectional stream with this message.
    pub(super) fn request(&mut self, message: &Message) -> StreamId {
        let stream = self.session.accept_stream(Dir::Bi);
        self.say(stream, message);
        stream
    }

    pub(super) fn uni(&mut self, data: Bytes, fin: bool) -> StreamId {
        let stream = self.session.accept_stream(Dir::Uni);
        self.data(stream, data, fin);
        stream
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
        self.drain();
    }

    /// The bidirectional stream that the session opened last.
    pub(super) fn opened(&mut self) -> StreamId {
        self.drain();
        let opened = self.sent.iter().rev().find_map(|transmit| match transmit {
            Transmit::Open { stream, dir: Dir::Bi, .. } => Some(*stream),
            _ => None,
        });
        opened.unwrap()
    }

    /// The messages that the session wrote on a stream.
    pub(super) fn said(&mut self, on: StreamId) -> Vec<Message> {
        self.drain();
        let mut reader = ControlReader::new(self.session.draft());
        for transmit in &self.sent {
            match transmit {
                Transmit::Data { stream, data } if *stream == on => reader.push(data.clone()),
                _ => {}
            }
        }
        std::iter::from_fn(|| reader.read().unwrap()).collect()
    }

    pub(super) fn was_sent(&mut self, transmit: &Transmit) -> bool {
        self.drain();
        self.sent.contains(transmit)
    }

    /// The code of a REQUEST_ERROR that is the only answer on a stream, with its FIN.
    pub(super) fn refusal(&mut self, stream: StreamId) -> Option<u64> {
        let fin = self.was_sent(&Transmit::Finish { stream });
        match &self.said(stream)[..] {
            [Message::RequestError(error)] if fin => Some(error.code),
            _ => None,
        }
    }

    /// How the session closed itself: one transmit and one event, the last of each.
    pub(super) fn closed(&mut self) -> Option<u64> {
        self.drain();
        let sent = match self.sent.last() {
            Some(Transmit::Close { code, .. }) => Some(*code),
            _ => None,
        };
        let told = match self.events.last() {
            Some(Event::Closed { code, .. }) => Some(*code),
            _ => None,
        };
        assert_eq!(sent, told);
        assert_eq!(self.session.is_closed(), sent.is_some());
        sent
    }

    pub(super) fn objects(&self) -> Vec<(u64, u64)> {
        let objects = self.events.iter().filter_map(|event| match event {
            Event::Object { object, .. } => Some((object.group, object.id)),
            _ => None,
        });
        objects.collect()
    }
}

pub(super) fn none() -> Parameters {
    Parameters::default()
}
