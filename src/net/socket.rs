//! One UDP socket: big buffers, batches in (recvmmsg, GRO) and out (`outbox`), counted.
//!
//! Never blocks. What the kernel does not take at once waits in the outbox; nothing should be added until [`Socket::is_writable`] again.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use bytes::BytesMut;
use quinn_proto::Transmit;
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Type};

use super::Counters;
use super::outbox::{self, Outbox};

/// The kernel's default of 208 KiB loses packets in bursts beyond some 600 busy connections.
const KERNEL_BUFFER_BYTES: usize = 4 << 20;
/// Messages per receiving call.
const BATCH: usize = 32;
/// Receiving calls per turn: a flood must not starve timers and the app.
const CALLS_PER_TURN: usize = 16;
/// The largest UDP payload we say we take; one GRO message holds up to 64 KiB of them.
const MESSAGE_BYTES: usize = 64 << 10;

pub(super) struct Socket {
    pub(super) io: mio::net::UdpSocket,
    state: UdpSocketState,
    buffer: Vec<u8>,
    local: SocketAddr,
    writable: bool,
    outbox: Outbox,
}

/// Where a packet came from, and to which of our addresses.
#[derive(Clone, Copy)]
pub(super) struct Received {
    pub(super) from: SocketAddr,
    pub(super) to: Option<IpAddr>,
    pub(super) ecn: Option<quinn_proto::EcnCodepoint>,
}

impl Socket {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        for set in [socket2::Socket::set_recv_buffer_size, socket2::Socket::set_send_buffer_size] {
            if let Err(error) = set(&socket, KERNEL_BUFFER_BYTES) {
                tracing::warn!(%error, "can't ask for a UDP buffer of 4 MiB");
            }
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let io = mio::net::UdpSocket::from_std(socket.into());
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        let local = io.local_addr()?;
        let outbox = Outbox::new(io.as_fd(), local.ip());
        Ok(Self { io, state, buffer: vec![0; BATCH * MESSAGE_BYTES], local, writable: true, outbox })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// As this socket must be told of it: an IPv6 socket knows IPv4 peers by their mapped address.
    pub(super) fn reach(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.local.is_ipv6() => {
                SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
            }
            other => other,
        }
    }

    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    pub(super) fn set_writable(&mut self) {
        self.writable = true;
    }

    /// Takes what has arrived. `true`: there may be more.
    pub(super) fn receive(&mut self, counters: &mut Counters, mut each: impl FnMut(&Received, BytesMut)) -> bool {
        for _ in 0..CALLS_PER_TURN {
            let mut metas = [RecvMeta::default(); BATCH];
            let mut chunks = self.buffer.chunks_exact_mut(MESSAGE_BYTES);
            let mut slices: [IoSliceMut<'_>; BATCH] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            counters.recv_calls += 1;
            let count = match self.state.recv(UdpSockRef::from(&self.io), &mut slices, &mut metas) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // An ICMP error of some other peer: the next call goes on.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
                Err(error) => {
                    tracing::debug!(%error, "receiving failed");
                    return false;
                }
            };
            for (meta, slice) in metas.iter().zip(&slices).take(count) {
                let received = Received { from: meta.addr, to: meta.dst_ip, ecn: meta.ecn.map(into_proto) };
                let mut rest = BytesMut::from(&slice[..meta.len]);
                while !rest.is_empty() {
                    let packet = rest.split_to(meta.stride.clamp(1, rest.len()));
                    counters.packets_in += 1;
                    each(&received, packet);
                }
            }
            // Fewer than asked for: the queue was empty. What comes later is a new edge for the poll.
            if count < BATCH {
                return false;
            }
        }
        true
    }

    /// An empty buffer for a transmit.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.outbox.buffer()
    }

    /// The buffer was not needed.
    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        self.outbox.give_back(buffer);
    }

    /// What follows belongs to another connection.
    pub(super) fn begin_link(&mut self) {
        self.outbox.begin_link();
    }

    pub(super) fn push(&mut self, transmit: Transmit, bytes: Vec<u8>, counters: &mut Counters) {
        self.outbox.push(transmit, bytes);
        if self.outbox.len() >= outbox::FULL {
            self.flush(counters);
        }
    }

    pub(super) fn flush(&mut self, counters: &mut Counters) {
        if self.writable && self.outbox.len() > 0 {
            self.writable = self.outbox.flush(&self.state, self.io.as_fd(), counters);
        }
    }
}

fn into_proto(ecn: quinn_udp::EcnCodepoint) -> quinn_proto::EcnCodepoint {
    match ecn {
        quinn_udp::EcnCodepoint::Ect0 => quinn_proto::EcnCodepoint::Ect0,
        quinn_udp::EcnCodepoint::Ect1 => quinn_proto::EcnCodepoint::Ect1,
        quinn_udp::EcnCodepoint::Ce => quinn_proto::EcnCodepoint::Ce,
    }
}
