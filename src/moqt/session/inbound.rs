//! Data as it arrives: subgroup streams and datagrams of our subscriptions, and what is not known to be theirs yet.

use bytes::Bytes;

use super::aliases::Owner;
use super::requests::{Kind, Request};
use super::streams::{Held, Stream};
use super::{Event, RequestId, Session, StreamId, Transmit, constants};
use crate::moqt::error::{ResetCode, Violation};
use crate::moqt::object::decode_datagram;
use crate::moqt::stream::{Opened, SubgroupReader};

impl Session {
    pub(super) fn uni_data(&mut self, stream: StreamId, data: Bytes, fin: bool) {
        match self.streams.get_mut(&stream) {
            Some(Stream::Subgroup { reader, .. }) => {
                self.unfinished_bytes -= reader.held();
                reader.push(data);
                self.read_subgroup(stream, fin);
            }
            Some(Stream::Fetched { reader, .. }) => {
                self.unfinished_bytes -= reader.held();
                reader.push(data);
                self.read_fetched(stream, fin);
            }
            Some(Stream::Unknown(reader)) => {
                reader.push(data);
                match reader.open() {
                    Ok(Some(opened)) => self.uni_opened(stream, opened, fin),
                    Ok(None) if fin => match reader.finish() {
                        Ok(()) => drop(self.streams.remove(&stream)),
                        Err(violation) => self.fail(violation),
                    },
                    // Before SETUP its own time counts.
                    Ok(None) if self.is_set_up => self.watch_stalls(),
                    Ok(None) => {}
                    Err(violation) => self.fail(violation),
                }
            }
            Some(Stream::Held(held)) => {
                held.reader.push(data);
                held.fin |= fin;
                let bytes = held.reader.held();
                self.hold(stream, bytes);
            }
            Some(Stream::Discarded) if fin => drop(self.streams.remove(&stream)),
            _ => {}
        }
    }

    fn uni_opened(&mut self, stream: StreamId, opened: Opened, fin: bool) {
        match opened {
            Opened::Control(_) if std::mem::replace(&mut self.has_peer_control, true) => {
                self.fail(Violation::protocol("a second control stream"));
            }
            Opened::Control(reader) => {
                self.streams.insert(stream, Stream::Control(reader));
                self.read_control(stream, fin);
            }
            Opened::Subgroup { alias, reader } => match self.delivery(alias) {
                Delivery::To(request) => self.begin_subgroup(stream, request, reader, fin),
                Delivery::Late => {
                    self.counters.late_streams += 1;
                    self.discard_opened(stream, fin, ResetCode::Cancelled);
                }
                Delivery::Later => {
                    let bytes = reader.held();
                    self.streams.insert(stream, Stream::Held(Held { alias, reader, fin }));
                    self.hold(stream, bytes);
                }
            },
            Opened::Fetch { request, reader } => self.begin_fetched(stream, RequestId(request), reader, fin),
            Opened::Padding => match fin {
                true => drop(self.streams.remove(&stream)),
                false => drop(self.streams.insert(stream, Stream::Discarded)),
            },
        }
    }

    pub(super) fn discard_opened(&mut self, stream: StreamId, fin: bool, code: ResetCode) {
        if fin {
            self.streams.remove(&stream);
        } else {
            self.discard(stream, code);
        }
    }

    fn hold(&mut self, stream: StreamId, bytes: usize) {
        if !self.aliases.hold_stream(stream, bytes, self.now) {
            self.counters.unknown_streams += 1;
            self.discard(stream, ResetCode::ExcessiveLoad);
        }
    }

    fn delivery(&self, alias: u64) -> Delivery {
        match self.aliases.owner(alias) {
            Owner::Retired => Delivery::Late,
            Owner::Unknown => Delivery::Later,
            Owner::Request(request) => match self.requests.get(&request) {
                Some(Request { kind: Kind::Subscription(subscription), .. }) if subscription.delivers => {
                    Delivery::To(request)
                }
                _ => Delivery::Later,
            },
        }
    }

    fn begin_subgroup(&mut self, stream: StreamId, request: RequestId, reader: SubgroupReader, fin: bool) {
        if let Some(Request { kind: Kind::Subscription(subscription), .. }) = self.requests.get_mut(&request) {
            subscription.open.push(stream);
        }
        self.events.push_back(Event::Subgroup { request, stream, header: *reader.header() });
        self.streams.insert(stream, Stream::Subgroup { request, reader });
        self.read_subgroup(stream, fin);
    }

    /// Every object that is whole. What is held of the stream must not be counted as unfinished when this is called.
    fn read_subgroup(&mut self, stream: StreamId, fin: bool) {
        let Some(Stream::Subgroup { request, reader }) = self.streams.get_mut(&stream) else { return };
        let request = *request;
        loop {
            match reader.read(self.limits.object_bytes) {
                Ok(Some(object)) => {
                    self.events.push_back(Event::Object { request, stream: Some(stream), object });
                }
                Ok(None) => break,
                Err(violation) => return self.fail(violation),
            }
        }
        if fin {
            match reader.finish() {
                Ok(()) => self.subgroup_ended(stream, request, None),
                Err(violation) => self.fail(violation),
            }
            return;
        }
        let held = reader.held();
        self.unfinished_bytes += held;
        if held > 0 {
            self.watch_stalls();
        }
        if self.unfinished_bytes > constants::UNFINISHED_BYTES {
            self.counters.stopped += 1;
            self.discard(stream, ResetCode::ExcessiveLoad);
            self.note_end(stream, request, Some(ResetCode::ExcessiveLoad as u64));
        }
    }

    pub(super) fn uni_reset(&mut self, stream: StreamId, code: u64) {
        match self.streams.get(&stream) {
            Some(Stream::Subgroup { request, reader }) => {
                let request = *request;
                self.unfinished_bytes -= reader.held();
                self.subgroup_ended(stream, request, Some(code));
            }
            Some(Stream::Fetched { request, reader }) => {
                let request = *request;
                self.unfinished_bytes -= reader.held();
                self.fetched_ended(stream, request, Some(code));
            }
            Some(Stream::Held(_)) => {
                self.aliases.forget_stream(stream);
                self.streams.remove(&stream);
            }
            _ => drop(self.streams.remove(&stream)),
        }
    }

    fn subgroup_ended(&mut self, stream: StreamId, request: RequestId, reset: Option<u64>) {
        self.streams.remove(&stream);
        self.note_end(stream, request, reset);
    }

    fn note_end(&mut self, stream: StreamId, request: RequestId, reset: Option<u64>) {
        if let Some(Request { kind: Kind::Subscription(subscription), .. }) = self.requests.get_mut(&request) {
            subscription.open.retain(|open| *open != stream);
        }
        self.events.push_back(Event::SubgroupEnd { request, stream, reset });
    }

    /// STOP_SENDING; what arrives until the peer obeys is dropped.
    pub(super) fn discard(&mut self, stream: StreamId, code: ResetCode) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        let fin = match std::mem::replace(entry, Stream::Discarded) {
            Stream::Subgroup { reader, .. } => {
                self.unfinished_bytes -= reader.held();
                false
            }
            Stream::Fetched { reader, .. } => {
                self.unfinished_bytes -= reader.held();
                false
            }
            Stream::Held(held) => {
                self.aliases.forget_stream(stream);
                held.fin
            }
            _ => false,
        };
        if fin {
            self.streams.remove(&stream);
        } else {
            self.queue(Transmit::Stop { stream, code: code as u64 });
        }
    }

    /// Streams of this alias, oldest first.
    fn held_of(&self, alias: u64) -> Vec<StreamId> {
        let mut held = self.aliases.held_streams();
        held.retain(|id| matches!(self.streams.get(id), Some(Stream::Held(held)) if held.alias == alias));
        held
    }

    /// The alias is known and wanted: what was held for it is delivered.
    pub(super) fn release(&mut self, alias: u64, request: RequestId) {
        for stream in self.held_of(alias) {
            self.aliases.forget_stream(stream);
            if let Some(Stream::Held(held)) = self.streams.remove(&stream) {
                self.begin_subgroup(stream, request, held.reader, held.fin);
            }
        }
        let objects = self.aliases.take_datagrams(alias);
        self.events.extend(objects.into_iter().map(|object| Event::Object { request, stream: None, object }));
    }

    /// The alias is not wanted: what was held for it is late.
    pub(super) fn discard_held(&mut self, alias: u64) {
        for stream in self.held_of(alias) {
            self.counters.late_streams += 1;
            self.discard(stream, ResetCode::Cancelled);
        }
        self.counters.late_datagrams += self.aliases.take_datagrams(alias).len() as u64;
    }

    pub(super) fn datagram_arrived(&mut self, data: &Bytes) {
        let (alias, object) = match decode_datagram(data) {
            Ok(Some(datagram)) => datagram,
            Ok(None) => return,
            Err(violation) => return self.fail(violation),
        };
        match self.delivery(alias) {
            Delivery::To(request) => self.events.push_back(Event::Object { request, stream: None, object }),
            Delivery::Late => self.counters.late_datagrams += 1,
            Delivery::Later if self.aliases.hold_datagram(alias, object, self.now) => {}
            Delivery::Later => self.counters.unknown_datagrams += 1,
        }
    }
}

/// What becomes of data with an alias.
enum Delivery {
    To(RequestId),
    /// Nobody named the alias, or it is a PUBLISH that is not answered.
    Later,
    Late,
}
