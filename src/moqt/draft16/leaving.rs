//! From the session to the link.

use bytes::{Bytes, BytesMut};

use super::{BLOCKED, Control, Delivery, FINISHED, Topology, Withdrawal, data, reset_out};
use crate::moqt::error::{PublishDoneCode, RequestErrorCode};
use crate::moqt::message::{Kind, Message, PublishDone, RequestError};
use crate::moqt::session::{Dir, StreamId, Transmit};
use crate::moqt::version::Draft;

impl Topology {
    /// One thing that the session has to do, in draft 16's way; what comes of it is in `transmits`.
    pub(crate) fn transmit(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Open { stream, dir: Dir::Uni, priority } if self.our_control.is_none() => {
                self.our_control = Some(stream);
                if self.client {
                    self.control = Some(stream);
                    self.transmits.push_back(Transmit::Open { stream, dir: Dir::Bi, priority });
                }
            }
            Transmit::Open { stream, dir: Dir::Uni, .. } => {
                self.outbound.insert(stream, data::Stream::new(&data::OUT));
                self.transmits.push_back(transmit);
            }
            Transmit::Open { stream, dir: Dir::Bi, priority } => drop(self.opened.insert(stream, priority)),
            Transmit::Data { stream, data } => self.leave(stream, data),
            Transmit::Finish { stream } => self.finish(stream),
            Transmit::Reset { stream, code } => self.leave_reset(stream, code),
            Transmit::Stop { stream, code } => self.leave_stop(stream, code),
            Transmit::Datagram { request, data } => {
                // Ours are whole.
                if let Ok(data) = data::OUT.datagram(&data) {
                    self.transmits.push_back(Transmit::Datagram { request, data });
                }
            }
            Transmit::Priority { stream, .. } if self.outbound.contains_key(&stream) => {
                self.transmits.push_back(transmit)
            }
            Transmit::Priority { .. } => {}
            Transmit::Close { .. } => self.transmits.push_back(transmit),
        }
    }

    fn leave(&mut self, stream: StreamId, mut data: Bytes) {
        if let Some(writer) = self.outbound.get_mut(&stream) {
            let bytes = data.len();
            let (by_id, requests) = (&self.by_id, &self.requests);
            let order = |id: u64| by_id.get(&id).and_then(|of| Some(requests.get(of)?.order));
            // Ours are sound, and as large as they may be.
            let data = writer.push(data, usize::MAX, order).unwrap_or_default();
            return self.write_on(stream, data, Some((stream, bytes)));
        }
        while let Ok(Some((message, taken))) = Message::decode(Draft::D16, &data) {
            let _ = data.split_to(taken);
            if self.our_control == Some(stream) {
                self.leave_control(message);
            } else if self.requests.contains_key(&stream) {
                self.leave_request(stream, message, taken);
            } else if let Some(priority) = self.opened.remove(&stream) {
                self.ask(stream, priority, message);
            }
        }
    }

    fn leave_control(&mut self, message: Message) {
        let control = match message {
            Message::Setup(setup) => Control::Setup { from_client: self.client, setup, max_request: self.allowed },
            Message::GoAway { goaway, .. } => Control::GoAway(goaway.uri),
            _ => return,
        };
        self.say(&control, None);
    }

    /// The first message of a stream of ours.
    fn ask(&mut self, stream: StreamId, priority: i32, mut message: Message) {
        let Some(id) = message.asks() else { return };
        let kind = message.kind();
        let order = message.asking_parameters().and_then(|parameters| parameters.group_order);
        let control = Control::Request(message);
        let mut data = BytesMut::new();
        if control.encode(&mut data).is_err() {
            let error = RequestError::new(RequestErrorCode::NotSupported, "draft 16 can't say this request");
            return self.tell(stream, &Message::RequestError(error), true);
        }
        let real = matches!(kind, Kind::SubscribeNamespace | Kind::SubscribeTracks);
        self.add(stream, id, true, kind, real);
        self.set_order(stream, order);
        if real {
            self.transmits.push_back(Transmit::Open { stream, dir: Dir::Bi, priority });
            return self.write_on(stream, data.freeze(), None);
        }
        self.spend(id, data.freeze());
    }

    /// What takes a Request ID waits until the peer allows it.
    fn spend(&mut self, id: u64, data: Bytes) {
        if id < self.credit && self.blocked.is_empty() {
            return self.write(data, None);
        }
        // Before SETUP nothing is known of the credit.
        if self.blocked.is_empty() && self.peer_control.is_some() {
            self.say(&Control::RequestsBlocked(self.credit), None);
        }
        if self.blocked.len() < BLOCKED {
            self.blocked.push_back((id, data));
        } else if let Some(stream) = self.by_id.get(&id).copied() {
            self.close(stream);
            let error = RequestError::new(RequestErrorCode::ExcessiveLoad, "the peer allows no more requests");
            self.tell(stream, &Message::RequestError(error), true);
        }
    }

    /// Another message on a request's stream, of `bytes` in the session's form.
    fn leave_request(&mut self, stream: StreamId, message: Message, bytes: usize) {
        let Some(request) = self.requests.get_mut(&stream) else { return };
        let (id, real, kind, for_bytes) = (request.id, request.real, request.kind, Some((stream, bytes)));
        let control = match message {
            Message::RequestUpdate { id: update, .. } => {
                self.our_updates.insert(update, stream);
                let mut data = BytesMut::new();
                if (Control::Update { of: id, update: message }).encode(&mut data).is_ok() {
                    self.spend(update, data.freeze());
                }
                return self.deliveries.push_back(Delivery::Written(stream, bytes));
            }
            Message::Namespace(suffix) => Control::Namespace(suffix),
            Message::NamespaceDone(suffix) => Control::NamespaceDone(suffix),
            // Later drafts move single requests, and say which tracks they don't offer.
            Message::GoAway { .. } | Message::PublishBlocked(_) => {
                return self.deliveries.push_back(Delivery::Written(stream, bytes));
            }
            Message::PublishDone(_) => Control::Answer { to: id, answer: message },
            answer => {
                let first = !request.ours && !std::mem::replace(&mut request.answered, true);
                let to = if first { Some(id) } else { request.updates.pop_front() };
                match (to, answer) {
                    (None, _) => return,
                    (Some(to), Message::RequestOk(ok)) if first && kind == Kind::Publish => {
                        Control::PublishOk { to, ok }
                    }
                    (Some(to), answer) => Control::Answer { to, answer },
                }
            }
        };
        let over = match &control {
            Control::Answer { to, answer: Message::RequestError(_) | Message::Redirected { .. } } => *to == id,
            Control::Answer { answer: Message::PublishDone(_), .. } => true,
            Control::Answer { answer: Message::RequestOk(_), .. } => kind == Kind::TrackStatus,
            _ => false,
        };
        let mut data = BytesMut::new();
        if control.encode(&mut data).is_ok() {
            // An update stands on the control stream, and so does its answer.
            let of_update = matches!(&control, Control::Answer { to, .. } if *to != id);
            let on = if real && !of_update { Some(stream) } else { self.control };
            match on {
                Some(on) => self.write_on(on, data.freeze(), for_bytes),
                None => self.write(data.freeze(), for_bytes),
            }
        }
        if over && !real {
            self.close(stream);
            // Nothing more comes on a stream that is not there.
            self.deliveries.push_back(Delivery::Data(stream, Bytes::new(), true));
        }
    }

    fn finish(&mut self, stream: StreamId) {
        let real = self.requests.get(&stream).is_some_and(|request| request.real);
        if self.outbound.remove(&stream).is_some() {
            if self.finished.len() == FINISHED {
                self.finished.pop_front();
            }
            self.finished.push_back(stream);
        } else if !real {
            match self.requests.get(&stream).map(|request| request.kind) {
                None => return,
                // Everything was said on its data stream.
                Some(Kind::Fetch) => self.close(stream),
                // With an answer it is over already: this one ends for an update that was refused.
                Some(_) => self.withdrawn(stream),
            }
            // Nothing more comes on a stream that is not there.
            return self.deliveries.push_back(Delivery::Data(stream, Bytes::new(), true));
        }
        self.transmits.push_back(Transmit::Finish { stream });
    }

    fn leave_reset(&mut self, stream: StreamId, code: u64) {
        self.opened.remove(&stream);
        let finished = self.finished.iter().position(|finished| *finished == stream);
        let was_data = self.outbound.remove(&stream).is_some() || finished.is_some();
        if let Some(at) = finished {
            self.finished.remove(at);
        }
        let real = self.requests.get(&stream).is_some_and(|request| request.real);
        if was_data || real {
            self.ledger.remove(&stream);
            self.transmits.push_back(Transmit::Reset { stream, code: reset_out(code) });
        } else {
            self.withdrawn(stream);
        }
    }

    fn leave_stop(&mut self, stream: StreamId, code: u64) {
        let real = self.requests.get(&stream).is_some_and(|request| request.real);
        if real || self.inbound.contains_key(&stream) {
            self.transmits.push_back(Transmit::Stop { stream, code: reset_out(code) });
            self.close(stream);
        } else {
            self.withdrawn(stream);
        }
    }

    /// The session gave up a request that is a stream only there.
    fn withdrawn(&mut self, stream: StreamId) {
        let Some(request) = self.requests.get(&stream) else { return };
        let (id, ours, kind, request_answered) = (request.id, request.ours, request.kind, request.answered);
        self.close(stream);
        // Its number is used up all the same: the peer counts them.
        let is_blocked = self.blocked.iter().any(|(blocked, _)| *blocked == id);
        let done = || {
            let reason = "the publisher gave up".to_owned();
            let streams = PublishDone::unknown_streams(Draft::D16);
            Message::PublishDone(PublishDone { code: PublishDoneCode::InternalError as u64, streams, reason })
        };
        let withdraw = |kind| Control::Withdraw { request: id, kind };
        let control = match (kind, ours) {
            (Kind::Subscribe, true) | (Kind::Publish, false) => withdraw(Withdrawal::Unsubscribe),
            (Kind::Publish, true) | (Kind::Subscribe, false) => Control::Answer { to: id, answer: done() },
            (Kind::Fetch, true) => withdraw(Withdrawal::FetchCancel),
            // Its data is taken back with its stream; without an answer that is one.
            (Kind::Fetch, false) if !request_answered => {
                let error = RequestError::new(RequestErrorCode::InternalError, "the publisher gave up");
                Control::Answer { to: id, answer: Message::RequestError(error) }
            }
            (Kind::PublishNamespace, true) => withdraw(Withdrawal::PublishNamespaceDone),
            (Kind::PublishNamespace, false) => {
                withdraw(Withdrawal::PublishNamespaceCancel(RequestErrorCode::InternalError as u64))
            }
            _ => return,
        };
        let mut data = BytesMut::new();
        if control.encode(&mut data).is_ok() {
            match is_blocked {
                // Not before what it is about.
                true => self.blocked.push_back((id, data.freeze())),
                false => self.write(data.freeze(), None),
            }
        }
    }
}
