//! Draft 16 under a session of later drafts: a layer that turns its one control stream into request streams, and back.
//!
//! The session has one state machine, in which each request has a bidirectional stream. In draft 16 requests, their answers and
//! their ends stand on one control stream, named by Request IDs, under a credit of ids (MAX_REQUEST_ID); integers are QUIC's. A
//! [`Topology`] sits between link and session: every request of either side is a stream that only the session sees, and what it
//! says there goes to the control stream in draft 16's words. SUBSCRIBE_NAMESPACE has a stream of its own in both; data streams and
//! datagrams keep their names and change their integers.
//!
//! It belongs to its session, holds what is not whole (one message; of data at most [`UNFINISHED_BYTES`]) and what waits for
//! credit, and judges only what the session can't see: ids, credit, and who opens the control stream. What draft 16 says
//! in one message and we in two (SUBSCRIBE_NAMESPACE for tracks) has its own form here, and so have the objects of a FETCH.
//!
//! Section numbers here are those of draft-ietf-moq-transport-16.

mod arriving;
mod data;
mod fetched;
mod leaving;
mod message;
mod parameters;
mod wire;

pub use message::{Control, Withdrawal};

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::error::{CloseCode, ResetCode, Violation};
use super::message::{GroupOrder, Kind, Message};
use super::session::{Dir, StreamId, Transmit};
use super::stream::Input;
use super::version::Draft;

/// Bytes of objects that are not whole, over all streams.
const UNFINISHED_BYTES: usize = 4 * 1024 * 1024;
/// Request IDs that a peer may use beyond those it used; each request takes two numbers.
const CREDIT: u64 = 2 * 1024;
/// Requests of ours that may wait for credit.
const BLOCKED: usize = 4096;
/// What the control stream may hold that its link has not taken: a peer can make us answer and take no answer.
const UNTAKEN_BYTES: usize = 1024 * 1024;
/// Finished data streams that may still be reset.
const FINISHED: usize = 256;

/// What the session is told.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// A stream of the peer that the link does not know.
    Accept(StreamId, Dir),
    Data(StreamId, Bytes, bool),
    Reset(StreamId, u64),
    Stop(StreamId, u64),
    Datagram(Bytes),
    /// Its data left the link.
    Written(StreamId, usize),
    Fail(Violation),
}

/// A request stream that the session has.
struct Request {
    id: u64,
    ours: bool,
    kind: Kind,
    /// The stream is there on the wire too: SUBSCRIBE_NAMESPACE, whatever it asks for.
    real: bool,
    answered: bool,
    /// Of a FETCH.
    order: GroupOrder,
    /// REQUEST_UPDATEs of the peer without an answer, in order.
    updates: VecDeque<u64>,
    input: Input,
}

/// See the module's contract.
pub(crate) struct Topology {
    client: bool,
    max_object: usize,
    /// The control stream, as the link names it.
    control: Option<StreamId>,
    control_input: Input,
    /// What we said before the client opened it.
    early: BytesMut,
    /// The control streams, as the session names them.
    our_control: Option<StreamId>,
    peer_control: Option<StreamId>,

    requests: HashMap<StreamId, Request>,
    by_id: HashMap<u64, StreamId>,
    /// REQUEST_UPDATEs of ours without an answer.
    our_updates: HashMap<u64, StreamId>,
    /// Bidirectional streams that have said nothing: of the session with their priority, of the peer.
    opened: HashMap<StreamId, i32>,
    undecided: HashMap<StreamId, Input>,

    /// The first id that we may not use, and the first that the peer may not.
    credit: u64,
    allowed: u64,
    blocked: VecDeque<(u64, Bytes)>,

    inbound: HashMap<StreamId, data::Stream>,
    unfinished: usize,
    outbound: HashMap<StreamId, data::Stream>,
    finished: VecDeque<StreamId>,

    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) deliveries: VecDeque<Delivery>,
    /// Of each stream of the link: bytes it was given, for which bytes of which stream of the session.
    ledger: HashMap<StreamId, VecDeque<(usize, StreamId, usize)>>,
    /// Bytes of the control stream in it.
    untaken: usize,
}

impl Topology {
    pub(crate) fn new(client: bool, max_object: usize) -> Self {
        Self {
            client,
            max_object,
            control: None,
            control_input: Input::default(),
            early: BytesMut::new(),
            our_control: None,
            peer_control: None,
            requests: HashMap::new(),
            by_id: HashMap::new(),
            our_updates: HashMap::new(),
            opened: HashMap::new(),
            undecided: HashMap::new(),
            credit: 0,
            allowed: CREDIT,
            blocked: VecDeque::new(),
            inbound: HashMap::new(),
            unfinished: 0,
            outbound: HashMap::new(),
            finished: VecDeque::new(),
            transmits: VecDeque::new(),
            deliveries: VecDeque::new(),
            ledger: HashMap::new(),
            untaken: 0,
        }
    }

    fn fail(&mut self, violation: Violation) {
        self.deliveries.push_back(Delivery::Fail(violation));
    }

    /// A message of the session's form on one of its streams.
    fn tell(&mut self, stream: StreamId, message: &Message, fin: bool) {
        let mut data = BytesMut::new();
        match message.encode(Draft::D16, &mut data) {
            Ok(()) => self.deliveries.push_back(Delivery::Data(stream, data.freeze(), fin)),
            // Longer in our form than 65535 bytes: nobody can hear it.
            Err(_) => self.fail(Violation::protocol("a message longer than this endpoint takes")),
        }
    }

    /// A message on the control stream; `for_bytes` of a stream of the session are said by it.
    fn say(&mut self, control: &Control, for_bytes: Option<(StreamId, usize)>) {
        let mut data = BytesMut::new();
        if control.encode(&mut data).is_ok() {
            self.write(data.freeze(), for_bytes);
        }
    }

    fn write(&mut self, data: Bytes, for_bytes: Option<(StreamId, usize)>) {
        let Some(stream) = self.control else { return self.early.extend_from_slice(&data) };
        self.write_on(stream, data, for_bytes);
    }

    fn write_on(&mut self, stream: StreamId, data: Bytes, for_bytes: Option<(StreamId, usize)>) {
        if self.control == Some(stream) {
            self.untaken += data.len();
            if self.untaken > UNTAKEN_BYTES {
                return self.fail(Violation::new(CloseCode::InternalError, "the control stream is not read"));
            }
        }
        let (of, bytes) = for_bytes.unwrap_or((stream, 0));
        self.ledger.entry(stream).or_default().push_back((data.len(), of, bytes));
        self.transmits.push_back(Transmit::Data { stream, data });
    }

    fn add(&mut self, stream: StreamId, id: u64, ours: bool, kind: Kind, real: bool) {
        let (order, updates) = (GroupOrder::Ascending, VecDeque::new());
        let request = Request { id, ours, kind, real, answered: false, order, updates, input: Input::default() };
        self.requests.insert(stream, request);
        self.by_id.insert(id, stream);
    }

    /// The order of a FETCH's groups, without which its stream can't be told in another form.
    fn set_order(&mut self, stream: StreamId, order: Option<GroupOrder>) {
        if let (Some(request), Some(order)) = (self.requests.get_mut(&stream), order) {
            request.order = order;
        }
    }

    /// The request is over on the wire.
    fn close(&mut self, stream: StreamId) {
        if let Some(gone) = self.requests.remove(&stream) {
            self.by_id.remove(&gone.id);
            self.our_updates.retain(|_, of| *of != stream);
        }
    }

    /// Data streams with something that is not whole, and how far they have come.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = (StreamId, u64)> {
        self.inbound.iter().filter_map(|(id, stream)| Some((*id, stream.unfinished()?)))
    }

    pub(crate) fn holds_unfinished(&self) -> bool {
        self.unfinished > 0
    }

    /// The link took bytes off its queue.
    pub(crate) fn written(&mut self, stream: StreamId, mut bytes: usize) {
        let Some(ledger) = self.ledger.get_mut(&stream) else { return };
        while let Some((left, of, inner)) = ledger.front_mut() {
            let taken = bytes.min(*left);
            *left -= taken;
            bytes -= taken;
            if self.control == Some(stream) {
                self.untaken -= taken;
            }
            if *left > 0 {
                break;
            }
            self.deliveries.push_back(Delivery::Written(*of, *inner));
            ledger.pop_front();
        }
        if ledger.is_empty() {
            self.ledger.remove(&stream);
        }
    }
}

/// Codes of later drafts that this one lacks, or has for something else (§14.4.4).
fn reset_out(code: u64) -> u64 {
    const UNKNOWN_OBJECT_STATUS: u64 = ResetCode::UnknownObjectStatus as u64;
    match code {
        UNKNOWN_OBJECT_STATUS => 0x4,
        0x4 | 0x5 | 0x7 | 0x9 => ResetCode::Cancelled as u64,
        other => other,
    }
}

fn reset_in(code: u64) -> u64 {
    if code == 0x4 { ResetCode::UnknownObjectStatus as u64 } else { code }
}
