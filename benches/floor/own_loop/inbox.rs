//! Reads packets in batches (`recvmmsg`, with GRO where the kernel has it) and hands them out one by one.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};

use crate::child::{SYSCALLS, count};

const BLOCK_BYTES: usize = 64 << 10;
/// The largest packet a path of MTU 1500 brings, with room.
const PACKET_BYTES: usize = 1500;

/// One packet off the wire.
pub(super) struct Received {
    pub(super) from: SocketAddr,
    pub(super) to: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) bytes: BytesMut,
}

pub(super) struct Inbox {
    memory: Vec<u8>,
    each: usize,
    meta: [RecvMeta; BATCH_SIZE],
    messages: usize,
    message: usize,
    offset: usize,
    arena: bool,
    block: BytesMut,
}

impl Inbox {
    pub(super) fn new(gro_segments: usize, arena: bool) -> Self {
        let each = PACKET_BYTES * gro_segments.max(1);
        Self {
            memory: vec![0; each * BATCH_SIZE],
            each,
            meta: [RecvMeta::default(); BATCH_SIZE],
            messages: 0,
            message: 0,
            offset: 0,
            arena,
            block: BytesMut::new(),
        }
    }

    /// `false`: nothing is there.
    pub(super) fn fill(&mut self, state: &UdpSocketState, socket: BorrowedFd<'_>) -> io::Result<bool> {
        let mut parts = self.memory.chunks_mut(self.each);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(parts.next().expect("one part per message")));
        count(&SYSCALLS, 1);
        (self.messages, self.message, self.offset) = (0, 0, 0);
        match state.recv((&socket).into(), &mut slices, &mut self.meta) {
            Ok(messages) => self.messages = messages,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// The last batch was short, so the socket was empty then. What came later raises a new edge: no second look is needed.
    pub(super) fn was_the_last(&self) -> bool {
        self.messages < BATCH_SIZE
    }

    pub(super) fn next(&mut self) -> Option<Received> {
        if self.message == self.messages {
            return None;
        }
        let meta = &self.meta[self.message];
        let from = self.message * self.each + self.offset;
        let end = meta.len.min(self.offset + meta.stride);
        let packet = &self.memory[from..from + (end - self.offset)];
        let bytes = if self.arena { cut(&mut self.block, packet) } else { BytesMut::from(packet) };
        let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
        let received = Received { from: meta.addr, to: meta.dst_ip, ecn, bytes };
        self.offset = end;
        if self.offset >= meta.len {
            (self.message, self.offset) = (self.message + 1, 0);
        }
        Some(received)
    }
}

fn cut(block: &mut BytesMut, packet: &[u8]) -> BytesMut {
    if block.capacity() < packet.len() {
        block.reserve(BLOCK_BYTES);
    }
    block.extend_from_slice(packet);
    block.split()
}
