//! What one turn has to send, in as few system calls and messages as the kernel allows.
//!
//! Lone packets of different connections to one address, equal in size, leave as one segmented message (`UDP_SEGMENT`), and all messages of a
//! turn in one `sendmmsg` (decision 0001). Packets of one connection keep their order. What the kernel's buffer does not take
//! stays here, first in line, and nothing is added until there is room. Belongs to [`socket`](super::socket).
#![allow(unsafe_code)] // `sendmmsg` has no safe face; all it points at lives in `Messages` and `packets` until the call returns.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::UdpSocketState;

use super::Counters;

/// UDP_MAX_SEGMENTS of the kernel, and the largest IPv4 payload with room for headers.
const MAX_SEGMENTS: usize = 64;
const MAX_MESSAGE_BYTES: usize = 65_000;
/// Packets collected before they are sent within a turn.
pub(super) const FULL: usize = 512;
/// Buffers kept for the next turn.
const SPARES: usize = FULL;
/// ECT(0), as nearly every packet is marked (RFC 9000 §13.4).
const ECT0: u32 = 2;

struct Packet {
    transmit: Transmit,
    bytes: Vec<u8>,
    /// The only packet of its connection in this turn, so that its place among the others is free.
    alone: bool,
}

pub(super) struct Outbox {
    packets: Vec<Packet>,
    spare: Vec<Vec<u8>>,
    link_began: usize,
    messages: Messages,
    /// The socket marks by itself, so that a message needs no control data for it.
    marks: bool,
    /// Several source addresses are possible: each message says its own.
    names_source: bool,
    /// The kernel or the device refused a segmented message.
    no_segments: bool,
}

/// The arrays that `sendmmsg` reads.
#[derive(Default)]
struct Messages {
    pieces: Vec<libc::iovec>,
    addresses: Vec<socket2::SockAddr>,
    controls: Vec<[u64; 8]>,
    headers: Vec<libc::mmsghdr>,
    /// How many packets each message holds.
    runs: Vec<usize>,
}

// SAFETY: the pointers inside are only followed during `Outbox::flush`, which fills all arrays anew.
unsafe impl Send for Messages {}

impl Outbox {
    pub(super) fn new(socket: BorrowedFd<'_>, local: IpAddr) -> Self {
        let socket = socket2::SockRef::from(&socket);
        // A socket of IPv6 that talks to IPv4 needs both.
        let (v4, v6) = (socket.set_tos_v4(ECT0), socket.set_tclass_v6(ECT0));
        Self {
            packets: Vec::new(),
            spare: Vec::new(),
            link_began: 0,
            messages: Messages::default(),
            marks: if local.is_ipv6() { v4.is_ok() && v6.is_ok() } else { v4.is_ok() },
            names_source: local.is_unspecified(),
            no_segments: false,
        }
    }

    /// What is pushed from now on belongs to another connection.
    pub(super) fn begin_link(&mut self) {
        self.link_began = self.packets.len();
    }

    /// An empty buffer for the next transmit.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(2_048))
    }

    pub(super) fn give_back(&mut self, bytes: Vec<u8>) {
        keep(&mut self.spare, bytes);
    }

    pub(super) fn push(&mut self, transmit: Transmit, bytes: Vec<u8>) {
        let alone = self.link_began == self.packets.len() && transmit.segment_size.is_none();
        if !alone {
            self.packets[self.link_began..].iter_mut().for_each(|packet| packet.alone = false);
        }
        self.packets.push(Packet { transmit, bytes, alone });
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// `false`: the kernel's buffer is full, and the rest waits here.
    pub(super) fn flush(&mut self, state: &UdpSocketState, socket: BorrowedFd<'_>, counters: &mut Counters) -> bool {
        self.link_began = 0;
        let alike = |packet: &Packet| (packet.transmit.destination, packet.transmit.size, packet.transmit.src_ip);
        if self.packets.len() > 1 {
            self.packets.sort_by_key(|packet| packet.alone.then(|| alike(packet)));
        }
        let mut done = 0;
        let mut room = true;
        while room && done < self.packets.len() {
            let count = self.packets[done..].iter().take_while(|packet| self.may_batch(packet)).count();
            (done, room) = match count {
                0 | 1 => self.send_one(done, state, socket, counters),
                _ => self.send_batch(done, count, state, socket, counters),
            };
        }
        for packet in self.packets.drain(..done) {
            keep(&mut self.spare, packet.bytes);
        }
        room
    }

    fn may_batch(&self, packet: &Packet) -> bool {
        cfg!(target_os = "linux") && self.marks && packet.transmit.ecn == Some(EcnCodepoint::Ect0)
    }

    /// The number of packets done, and whether there is room for more.
    fn send_one(
        &self,
        at: usize,
        state: &UdpSocketState,
        socket: BorrowedFd<'_>,
        counters: &mut Counters,
    ) -> (usize, bool) {
        let Packet { transmit, bytes, .. } = &self.packets[at];
        let out = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: bytes.get(..transmit.size).unwrap_or_default(),
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        counters.send_calls += 1;
        match state.send((&socket).into(), &out) {
            Ok(()) => {
                counters.packets_out += segments(transmit);
                (at + 1, true)
            }
            // The only error it reports is a full buffer.
            Err(_) => (at, false),
        }
    }

    /// `count` packets from `from` on, in one call if the kernel likes them all.
    fn send_batch(
        &mut self,
        from: usize,
        count: usize,
        state: &UdpSocketState,
        socket: BorrowedFd<'_>,
        counters: &mut Counters,
    ) -> (usize, bool) {
        let together = if self.no_segments { 1 } else { MAX_SEGMENTS.min(state.max_gso_segments()) };
        self.messages.fill(&mut self.packets[from..from + count], together, self.names_source);
        let (mut done, mut at) = (from, 0);
        while at < self.messages.headers.len() {
            counters.send_calls += 1;
            match self.messages.send(at, socket) {
                Ok(sent) => {
                    let runs = &self.messages.runs[at..at + sent];
                    let packets = runs.iter().sum::<usize>();
                    counters.packets_out +=
                        self.packets[done..done + packets].iter().map(|packet| segments(&packet.transmit)).sum::<u64>();
                    (done, at) = (done + packets, at + sent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (done, false),
                // No segmentation here: this and all later messages go packet by packet.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) && !self.no_segments => {
                    tracing::info!(%error, "no segmented UDP messages on this path");
                    self.no_segments = true;
                    return self.send_one(done, state, socket, counters);
                }
                // Belongs to the first message: a probe larger than the path, or an address out of reach. It is lost.
                Err(error) => {
                    tracing::debug!(%error, "a packet was not sent");
                    (done, at) = (done + self.messages.runs[at], at + 1);
                }
            }
        }
        (done, true)
    }
}

impl Messages {
    /// One message per transmit, or per `together` lone packets of one size to one address.
    fn fill(&mut self, packets: &mut [Packet], together: usize, names_source: bool) {
        self.pieces.clear();
        self.addresses.clear();
        self.controls.clear();
        self.headers.clear();
        self.runs.clear();
        let piece = |packet: &mut Packet| libc::iovec {
            iov_base: packet.bytes.as_mut_ptr().cast(),
            iov_len: packet.transmit.size.min(packet.bytes.len()),
        };
        self.pieces.extend(packets.iter_mut().map(piece));
        // No array may move once a message points into it.
        self.addresses.reserve(packets.len());
        self.controls.reserve(packets.len());
        let mut from = 0;
        while from < packets.len() {
            let run = run(&packets[from..], together);
            let first = &packets[from].transmit;
            let segment = if run > 1 { Some(first.size) } else { first.segment_size };
            self.message(first, from..from + run, segment, first.src_ip.filter(|_| names_source));
            self.runs.push(run);
            from += run;
        }
    }

    fn message(
        &mut self,
        transmit: &Transmit,
        pieces: std::ops::Range<usize>,
        segment: Option<usize>,
        source: Option<IpAddr>,
    ) {
        self.addresses.push(transmit.destination.into());
        self.controls.push([0; 8]);
        let (Some(address), Some(control)) = (self.addresses.last(), self.controls.last_mut()) else { return };
        // SAFETY: `mmsghdr` is plain integers and pointers. The control buffer is aligned, zeroed, and holds
        // CMSG_SPACE(2) + CMSG_SPACE(20) = 24 + 40 bytes, the most that is written.
        self.headers.push(unsafe {
            let mut message: libc::mmsghdr = zeroed();
            let header = &mut message.msg_hdr;
            header.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_namelen = address.len();
            header.msg_iovlen = pieces.len() as _;
            header.msg_iov = self.pieces[pieces].as_mut_ptr();
            let mut entry = control.as_mut_ptr().cast::<libc::cmsghdr>();
            let mut used = 0;
            if let Some(segment) = segment {
                used += put(&mut entry, libc::SOL_UDP, libc::UDP_SEGMENT, segment as u16);
            }
            match source {
                Some(IpAddr::V4(ip)) => {
                    let spec = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                    let zero = libc::in_addr { s_addr: 0 };
                    let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec, ipi_addr: zero };
                    used += put(&mut entry, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
                }
                Some(IpAddr::V6(ip)) => {
                    let info =
                        libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: libc::in6_addr { s6_addr: ip.octets() } };
                    used += put(&mut entry, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
                }
                None => {}
            }
            if used > 0 {
                header.msg_control = control.as_mut_ptr().cast();
                header.msg_controllen = used as _;
            }
            message
        });
    }

    fn send(&mut self, at: usize, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let headers = &mut self.headers[at..];
        // SAFETY: the messages point into `self` and the outbox's packets, which stay as they are until the call returns.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as _, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Writes one control message and moves on behind it; the bytes used.
///
/// # Safety
/// `entry` points to CMSG_SPACE(size of `value`) writable bytes, aligned for `cmsghdr`.
unsafe fn put<T>(entry: &mut *mut libc::cmsghdr, level: i32, kind: i32, value: T) -> usize {
    // SAFETY: as the caller promises; the payload may be unaligned for `T`.
    unsafe {
        let space = libc::CMSG_SPACE(size_of::<T>() as _) as usize;
        (**entry).cmsg_level = level;
        (**entry).cmsg_type = kind;
        (**entry).cmsg_len = libc::CMSG_LEN(size_of::<T>() as _) as _;
        libc::CMSG_DATA(*entry).cast::<T>().write_unaligned(value);
        *entry = entry.byte_add(space);
        space
    }
}

fn keep(spare: &mut Vec<Vec<u8>>, mut bytes: Vec<u8>) {
    if spare.len() < SPARES {
        bytes.clear();
        spare.push(bytes);
    }
}

/// How many packets from the first on can be one segmented message.
fn run(packets: &[Packet], together: usize) -> usize {
    let Some(first) = packets.first().filter(|first| first.alone) else { return 1 };
    let limit = together.min(MAX_MESSAGE_BYTES / first.transmit.size.max(1)).max(1);
    let same = |packet: &&Packet| {
        let (one, other) = (&packet.transmit, &first.transmit);
        packet.alone && one.destination == other.destination && one.size == other.size && one.src_ip == other.src_ip
    };
    packets.iter().take(limit).take_while(same).count()
}

fn segments(transmit: &Transmit) -> u64 {
    transmit.segment_size.map_or(1, |size| transmit.size.div_ceil(size.max(1)) as u64)
}
