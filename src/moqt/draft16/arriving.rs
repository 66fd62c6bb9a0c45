//! From the link to the session.

use bytes::Bytes;

use super::parameters::only;
use super::{CREDIT, Control, Delivery, Topology, UNFINISHED_BYTES, Withdrawal, data, message, reset_in};
use crate::moqt::error::{CloseCode, RequestErrorCode, ResetCode, Violation};
use crate::moqt::message::{Kind, Message, Parameters, RequestError, RequestOk, Scopes};
use crate::moqt::session::{Dir, StreamId, Transmit};
use crate::moqt::stream::Input;

impl Topology {
    /// The peer opened a stream; the session knows it when this says so.
    pub(crate) fn accept(&mut self, stream: StreamId, dir: Dir) -> bool {
        match dir {
            Dir::Uni => drop(self.inbound.insert(stream, data::Stream::new(&data::IN))),
            Dir::Bi => drop(self.undecided.insert(stream, Input::default())),
        }
        dir == Dir::Uni
    }

    /// `ids` counts the streams of the peer that have a name.
    pub(crate) fn data(&mut self, stream: StreamId, chunk: Bytes, fin: bool, ids: &mut u64) {
        if self.control == Some(stream) {
            self.control_input.push(chunk);
            self.read_control(fin, ids);
        } else if let Some(input) = self.undecided.get_mut(&stream) {
            input.push(chunk);
            self.decide(stream, fin, ids);
        } else if let Some(request) = self.requests.get_mut(&stream) {
            request.input.push(chunk);
            self.read_listing(stream, fin);
        } else {
            self.data_stream(stream, chunk, fin);
        }
    }

    fn data_stream(&mut self, stream: StreamId, chunk: Bytes, fin: bool) {
        let Some(reader) = self.inbound.get_mut(&stream) else { return };
        let before = reader.held();
        let (by_id, requests) = (&self.by_id, &self.requests);
        let order = |id: u64| by_id.get(&id).and_then(|of| Some(requests.get(of)?.order));
        let read = reader.push(chunk, self.max_object, order);
        let held = reader.held();
        let finished = if fin { reader.finish() } else { Ok(()) };
        self.unfinished = (self.unfinished + held).saturating_sub(before);
        match read.and_then(|data| finished.map(|()| data)) {
            Ok(data) => {
                if fin {
                    self.inbound.remove(&stream);
                }
                if fin || !data.is_empty() {
                    self.deliveries.push_back(Delivery::Data(stream, data, fin));
                }
            }
            Err(violation) => return self.fail(violation),
        }
        if self.unfinished > UNFINISHED_BYTES && self.inbound.remove(&stream).is_some() {
            self.unfinished -= held;
            let code = ResetCode::Cancelled as u64;
            self.transmits.push_back(Transmit::Stop { stream, code });
            self.deliveries.push_back(Delivery::Reset(stream, code));
        }
    }

    /// The first message tells what a bidirectional stream of the peer is.
    fn decide(&mut self, stream: StreamId, fin: bool, ids: &mut u64) {
        let Some(input) = self.undecided.get(&stream) else { return };
        match Control::decode(input.bytes()) {
            Ok(Some((Control::Setup { from_client: true, .. }, _))) if !self.client && self.control.is_none() => {
                self.control = Some(stream);
                self.control_input = self.undecided.remove(&stream).unwrap_or_default();
                let early = std::mem::take(&mut self.early).freeze();
                if !early.is_empty() {
                    self.write(early, None);
                }
                self.read_control(fin, ids);
            }
            Ok(Some((
                Control::Request(
                    ref asked @ (Message::SubscribeNamespace { id, .. } | Message::SubscribeTracks { id, .. }),
                ),
                _,
            ))) => {
                let kind = asked.kind();
                if !self.may_use(id) {
                    return;
                }
                let input = self.undecided.remove(&stream).unwrap_or_default();
                self.add(stream, id, false, kind, true);
                self.deliveries.push_back(Delivery::Accept(stream, Dir::Bi));
                if let Some(request) = self.requests.get_mut(&stream) {
                    request.input = input;
                }
                self.read_listing(stream, fin);
            }
            Ok(Some(_)) => {
                self.fail(Violation::protocol("a stream that begins with neither SETUP nor SUBSCRIBE_NAMESPACE"))
            }
            Ok(None) if fin => drop(self.undecided.remove(&stream)),
            Ok(None) => {}
            Err(violation) => self.fail(violation),
        }
    }

    /// The stream of a SUBSCRIBE_NAMESPACE, of either side.
    fn read_listing(&mut self, stream: StreamId, fin: bool) {
        loop {
            let Some(request) = self.requests.get_mut(&stream) else { return };
            let (control, taken) = match Control::decode(request.input.bytes()) {
                Ok(Some(read)) => read,
                Ok(None) => break,
                Err(violation) => return self.fail(violation),
            };
            request.input.drop_front(taken);
            let (ours, id) = (request.ours, request.id);
            match control {
                Control::Request(mut asked) if !ours && asked.asks() == Some(id) => {
                    if let Some(parameters) = asked.asking_parameters() {
                        let Parameters { tokens, token_aliases, forward, .. } = std::mem::take(parameters);
                        *parameters = Parameters { tokens, token_aliases, forward, ..Parameters::default() };
                    }
                    self.tell(stream, &asked, false);
                }
                Control::Answer { to, answer } if ours && to == id => {
                    self.tell(stream, &within(&answer, Scopes::NAMESPACE_OK), false);
                }
                Control::Namespace(suffix) if ours => self.tell(stream, &Message::Namespace(suffix), false),
                Control::NamespaceDone(suffix) if ours => self.tell(stream, &Message::NamespaceDone(suffix), false),
                _ => return self.fail(Violation::protocol("a message that this request can't have here")),
            }
        }
        if fin {
            self.close(stream);
            self.deliveries.push_back(Delivery::Data(stream, Bytes::new(), true));
        }
    }

    fn read_control(&mut self, fin: bool, ids: &mut u64) {
        loop {
            match Control::decode(self.control_input.bytes()) {
                Ok(Some((control, taken))) => {
                    self.control_input.drop_front(taken);
                    self.control(control, ids);
                }
                Ok(None) => break,
                Err(violation) => return self.fail(violation),
            }
            if matches!(self.deliveries.back(), Some(Delivery::Fail(_))) {
                return;
            }
        }
        if fin {
            self.fail(Violation::protocol("a control stream that ends"));
        }
    }

    fn control(&mut self, control: Control, ids: &mut u64) {
        let Some(peer_control) = self.peer_control else {
            return match control {
                Control::Setup { from_client, setup, max_request } if from_client != self.client => {
                    let stream = self.fresh(Dir::Uni, ids);
                    self.peer_control = Some(stream);
                    self.tell(stream, &Message::Setup(setup), false);
                    self.grant(max_request);
                }
                _ => self.fail(Violation::protocol("a control stream that does not begin with the peer's SETUP")),
            };
        };
        match control {
            Control::GoAway(uri) => self.tell(peer_control, &message::goaway(uri), false),
            Control::MaxRequestId(id) if id > self.credit => self.grant(id),
            Control::MaxRequestId(_) => self.fail(Violation::protocol("a MAX_REQUEST_ID that does not grow")),
            // Credit grows with use, whether somebody asks or not.
            Control::RequestsBlocked(_) => {}
            Control::Request(request) => self.request(request, ids),
            Control::Update { of, update } => self.update(of, update),
            Control::PublishOk { to, ok } => self.answer(to, &Message::RequestOk(ok)),
            Control::Answer { to, answer } => self.answer(to, &answer),
            Control::Withdraw { request, kind } => self.withdraw(request, kind),
            Control::Setup { .. } | Control::Namespace(_) | Control::NamespaceDone(_) => {
                self.fail(Violation::protocol("a message that does not belong on a control stream"));
            }
        }
    }

    fn fresh(&mut self, dir: Dir, ids: &mut u64) -> StreamId {
        let stream = StreamId(*ids * 2 + 1);
        *ids += 1;
        self.deliveries.push_back(Delivery::Accept(stream, dir));
        stream
    }

    fn grant(&mut self, credit: u64) {
        self.credit = credit;
        while let Some((_, data)) = self.blocked.pop_front_if(|(id, _)| *id < credit) {
            self.write(data, None);
        }
    }

    /// The session sees to parity and repetition.
    fn may_use(&mut self, id: u64) -> bool {
        if id >= self.allowed {
            self.fail(Violation::new(CloseCode::TooManyRequests, "a Request ID beyond MAX_REQUEST_ID"));
            return false;
        }
        if id + CREDIT / 2 >= self.allowed {
            self.allowed = id + CREDIT;
            self.say(&Control::MaxRequestId(self.allowed), None);
        }
        true
    }

    fn request(&mut self, mut request: Message, ids: &mut u64) {
        let kind = request.kind();
        let id = match &mut request {
            Message::PublishNamespace { id, parameters, .. } | Message::TrackStatus { id, parameters, .. } => {
                parameters.forward = None;
                *id
            }
            Message::Subscribe { id, .. } | Message::Publish { id, .. } | Message::Fetch { id, .. } => *id,
            _ => return self.fail(Violation::protocol("SUBSCRIBE_NAMESPACE on the control stream")),
        };
        if !self.may_use(id) {
            return;
        }
        let stream = self.fresh(Dir::Bi, ids);
        self.add(stream, id, false, kind, false);
        self.set_order(stream, request.asking_parameters().and_then(|parameters| parameters.group_order));
        self.tell(stream, &request, false);
    }

    fn refuse(&mut self, to: u64, code: RequestErrorCode, reason: &str) {
        let answer = Message::RequestError(RequestError::new(code, reason));
        self.say(&Control::Answer { to, answer }, None);
    }

    fn update(&mut self, of: u64, update: Message) {
        let Message::RequestUpdate { id, .. } = update else { return };
        if !self.may_use(id) {
            return;
        }
        let stream = self.by_id.get(&of).copied();
        match stream.and_then(|stream| Some((stream, self.requests.get_mut(&stream)?))) {
            // Later drafts have no such update, and there is nothing in it that could be changed.
            Some((_, request)) if request.kind == Kind::TrackStatus => {
                self.refuse(id, RequestErrorCode::NotSupported, "a status can't be changed");
            }
            Some((stream, request)) => {
                request.updates.push_back(id);
                self.tell(stream, &update, false);
            }
            // It may have ended while the update was on its way.
            None => self.refuse(id, RequestErrorCode::DoesNotExist, "the request is over"),
        }
    }

    /// About a request that is over, it comes late.
    fn answer(&mut self, to: u64, answer: &Message) {
        if let Some(stream) = self.our_updates.remove(&to) {
            return self.tell(stream, &within(answer, Scopes::REQUEST_UPDATE_OK), false);
        }
        let Some(stream) = self.by_id.get(&to).copied() else { return };
        let status = self.requests.get(&stream).is_some_and(|request| request.kind == Kind::TrackStatus);
        let publish = self.requests.get(&stream).is_some_and(|request| request.kind == Kind::Publish);
        let answer = &match (publish, status) {
            (true, _) => answer.clone(),
            (_, true) => within(answer, Scopes::TRACK_STATUS_OK),
            _ => within(answer, Scopes::NAMESPACE_OK),
        };
        let last = matches!(answer, Message::RequestError(_) | Message::PublishDone(_));
        if last {
            self.close(stream);
        }
        self.tell(stream, answer, last);
    }

    fn withdraw(&mut self, request: u64, _: Withdrawal) {
        let Some(stream) = self.by_id.get(&request).copied() else { return };
        self.close(stream);
        self.deliveries.push_back(Delivery::Reset(stream, ResetCode::Cancelled as u64));
    }

    // ---- how streams end ----

    pub(crate) fn reset(&mut self, stream: StreamId, code: u64) {
        if self.control == Some(stream) {
            return self.fail(Violation::protocol("a control stream that ends"));
        }
        self.undecided.remove(&stream);
        if let Some(gone) = self.inbound.remove(&stream) {
            self.unfinished -= gone.held();
            self.deliveries.push_back(Delivery::Reset(stream, reset_in(code)));
        } else if self.requests.contains_key(&stream) {
            self.close(stream);
            self.deliveries.push_back(Delivery::Reset(stream, code));
        }
    }

    pub(crate) fn stopped(&mut self, stream: StreamId, code: u64) {
        if self.control == Some(stream) {
            return self.fail(Violation::protocol("a control stream that ends"));
        }
        self.deliveries.push_back(Delivery::Stop(stream, reset_in(code)));
    }

    pub(crate) fn datagram(&mut self, datagram: &Bytes) {
        match data::IN.datagram(datagram) {
            Ok(datagram) => self.deliveries.push_back(Delivery::Datagram(datagram)),
            Err(violation) => self.fail(violation),
        }
    }
}

/// A REQUEST_OK without the parameters that stand there though they belong elsewhere (§9.2.2).
fn within(answer: &Message, scopes: Scopes) -> Message {
    match answer {
        Message::RequestOk(ok) => {
            Message::RequestOk(RequestOk { parameters: only(&ok.parameters, scopes), ..ok.clone() })
        }
        other => other.clone(),
    }
}
