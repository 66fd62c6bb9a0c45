//! The streams of one connection: a session's names for them on one side, QUIC's on the other.
//!
//! What the connection refuses (no stream credit, no flow control, full send window) waits here, in order, per stream; the session
//! learns with [`Session::handle_written`] what was taken, so its backlog is the truth. Nothing is copied: chunks go through as they are.
//! A WebTransport stream differs by the header it starts with, which the session never sees.

use std::collections::VecDeque;

use bytes::Bytes;
use quinn_proto::{Connection, VarInt, WriteError};

use super::transport::{SEND_WINDOW_MAX, SEND_WINDOW_MIN};
use crate::moqt::Session;
use crate::moqt::few::FewMap;
use crate::moqt::session::{Dir, StreamId};

/// A stream as QUIC names it.
pub(super) type WireId = quinn_proto::StreamId;

struct Stream {
    /// `None`: waits for the peer to allow another stream.
    wire: Option<WireId>,
    priority: i32,
    queue: VecDeque<Bytes>,
    /// Bytes at the head of the queue that are ours, not the session's.
    header: usize,
    finish: bool,
    /// Which halves are still open.
    sends: bool,
    receives: bool,
}

pub(super) struct Streams {
    by_name: FewMap<StreamId, Stream>,
    by_wire: FewMap<WireId, StreamId>,
    /// Streams that wait for credit, bidirectional and unidirectional.
    opening: [VecDeque<StreamId>; 2],
    /// What a stream of ours starts with, by direction (WebTransport, draft-ietf-webtrans-http3 §4.2–4.3).
    headers: [Bytes; 2],
    send_window: u64,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            by_name: FewMap::default(),
            by_wire: FewMap::default(),
            opening: Default::default(),
            headers: Default::default(),
            send_window: SEND_WINDOW_MIN,
        }
    }

    /// Before the first stream is opened.
    pub(super) fn set_headers(&mut self, headers: [Bytes; 2]) {
        self.headers = headers;
    }

    pub(super) fn name(&self, wire: WireId) -> Option<StreamId> {
        self.by_wire.get(&wire).copied()
    }

    /// The peer's stream `wire` is the session's `name`.
    pub(super) fn accept(&mut self, wire: WireId, name: StreamId) {
        let sends = wire.dir() == quinn_proto::Dir::Bi;
        let stream = Stream {
            wire: Some(wire),
            priority: 0,
            queue: VecDeque::new(),
            header: 0,
            finish: false,
            sends,
            receives: true,
        };
        self.by_wire.insert(wire, name);
        self.by_name.insert(name, stream);
    }

    pub(super) fn open(&mut self, connection: &mut Connection, name: StreamId, dir: Dir, priority: i32) {
        let header = self.headers[index(dir)].clone();
        let stream = Stream {
            wire: None,
            priority,
            header: header.len(),
            queue: if header.is_empty() { VecDeque::new() } else { [header].into() },
            finish: false,
            sends: true,
            receives: dir == Dir::Bi,
        };
        self.by_name.insert(name, stream);
        self.opening[index(dir)].push_back(name);
        self.open_waiting(connection, dir);
    }

    /// What was written keeps its place in its stream; the whole stream is sent earlier or later.
    pub(super) fn prioritise(&mut self, connection: &mut Connection, name: StreamId, priority: i32) {
        let Some(stream) = self.by_name.get_mut(&name) else { return };
        stream.priority = priority;
        if let Some(wire) = stream.wire {
            // A stream that is closed meanwhile has no turn any more.
            let _ = connection.send_stream(wire).set_priority(priority);
        }
    }

    /// Opens what waits for credit, in the order in which the session opened it.
    fn open_waiting(&mut self, connection: &mut Connection, dir: Dir) -> Vec<StreamId> {
        let mut opened = Vec::new();
        while let Some(&name) = self.opening[index(dir)].front() {
            let Some(stream) = self.by_name.get_mut(&name) else {
                self.opening[index(dir)].pop_front();
                continue;
            };
            let Some(wire) = connection.streams().open(wire_dir(dir)) else { break };
            self.opening[index(dir)].pop_front();
            if stream.priority != 0 {
                let _ = connection.send_stream(wire).set_priority(stream.priority);
            }
            stream.wire = Some(wire);
            self.by_wire.insert(wire, name);
            opened.push(name);
        }
        opened
    }

    /// The peer allows more streams.
    pub(super) fn available(&mut self, connection: &mut Connection, session: &mut Session, dir: Dir) {
        for name in self.open_waiting(connection, dir) {
            self.write(connection, session, name);
        }
    }

    pub(super) fn data(&mut self, connection: &mut Connection, session: &mut Session, name: StreamId, data: Bytes) {
        let Some(stream) = self.by_name.get_mut(&name).filter(|stream| stream.sends && !stream.finish) else { return };
        let waits = stream.queue.len() > usize::from(stream.header > 0);
        stream.queue.push_back(data);
        if !waits {
            self.write(connection, session, name);
        }
    }

    pub(super) fn finish(&mut self, connection: &mut Connection, session: &mut Session, name: StreamId) {
        let Some(stream) = self.by_name.get_mut(&name).filter(|stream| stream.sends) else { return };
        stream.finish = true;
        self.write(connection, session, name);
    }

    /// Hands over what waits, as far as the connection takes it.
    pub(super) fn write(&mut self, connection: &mut Connection, session: &mut Session, name: StreamId) {
        let Some(stream) = self.by_name.get_mut(&name).filter(|stream| stream.sends) else { return };
        let Some(wire) = stream.wire else { return };
        let mut taken = 0;
        while !stream.queue.is_empty() {
            match connection.send_stream(wire).write_chunks(stream.queue.make_contiguous()) {
                Ok(written) => {
                    stream.queue.drain(..written.chunks);
                    taken += written.bytes;
                }
                Err(WriteError::Blocked) => {
                    if !widen(connection, &mut self.send_window) {
                        break;
                    }
                }
                // The event that says so follows.
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => break,
            }
        }
        let ours = taken.min(stream.header);
        stream.header -= ours;
        if taken > ours {
            session.handle_written(name, taken - ours);
        }
        if stream.finish && stream.queue.is_empty() && connection.send_stream(wire).finish().is_err() {
            self.sent(wire);
        }
    }

    /// RESET_STREAM by us. A stream that never got credit is forgotten.
    pub(super) fn reset(&mut self, connection: &mut Connection, name: StreamId, code: u64) {
        let Some(stream) = self.by_name.get_mut(&name).filter(|stream| stream.sends) else { return };
        stream.queue.clear();
        match stream.wire {
            Some(wire) => {
                let _ = connection.send_stream(wire).reset(varint(code));
                self.sent(wire);
            }
            None => {
                self.by_name.remove(&name);
            }
        }
    }

    /// STOP_SENDING by us.
    pub(super) fn stop(&mut self, connection: &mut Connection, name: StreamId, code: u64) {
        let Some(stream) = self.by_name.get_mut(&name).filter(|stream| stream.receives) else { return };
        stream.receives = false;
        if let Some(wire) = stream.wire {
            let _ = connection.recv_stream(wire).stop(varint(code));
            self.forget_if_done(wire, name);
        }
    }

    /// STOP_SENDING by the peer: what waits is dropped, and the stream reset with his code (RFC 9000 §3.5).
    pub(super) fn stopped(&mut self, connection: &mut Connection, wire: WireId, code: VarInt) -> Option<StreamId> {
        let name = self.name(wire)?;
        let _ = connection.send_stream(wire).reset(code);
        if let Some(stream) = self.by_name.get_mut(&name) {
            stream.queue.clear();
        }
        self.sent(wire);
        Some(name)
    }

    /// Our half is over: everything acknowledged, or reset.
    pub(super) fn sent(&mut self, wire: WireId) {
        if let Some(name) = self.name(wire) {
            if let Some(stream) = self.by_name.get_mut(&name) {
                stream.sends = false;
            }
            self.forget_if_done(wire, name);
        }
    }

    /// The peer's half is over.
    pub(super) fn received(&mut self, wire: WireId) {
        if let Some(name) = self.name(wire) {
            if let Some(stream) = self.by_name.get_mut(&name) {
                stream.receives = false;
            }
            self.forget_if_done(wire, name);
        }
    }

    fn forget_if_done(&mut self, wire: WireId, name: StreamId) {
        if self.by_name.get(&name).is_some_and(|stream| !stream.sends && !stream.receives) {
            self.by_name.remove(&name);
            self.by_wire.remove(&wire);
        }
    }
}

/// A congestion window that grows past half of the send window gets a wider one; `true`: it did. A dead path has a small one, so
/// that old audio does not pile up inside the transport where nobody can drop it.
fn widen(connection: &mut Connection, send_window: &mut u64) -> bool {
    let wanted = (2 * connection.congestion_state().window()).clamp(SEND_WINDOW_MIN, SEND_WINDOW_MAX);
    if wanted <= *send_window {
        return false;
    }
    *send_window = wanted;
    connection.set_send_window(wanted);
    true
}

fn index(dir: Dir) -> usize {
    match dir {
        Dir::Bi => 0,
        Dir::Uni => 1,
    }
}

fn wire_dir(dir: Dir) -> quinn_proto::Dir {
    match dir {
        Dir::Bi => quinn_proto::Dir::Bi,
        Dir::Uni => quinn_proto::Dir::Uni,
    }
}

/// Codes beyond 62 bits do not exist on the wire.
pub(super) fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}
