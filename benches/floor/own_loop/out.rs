//! What one turn has to send, and three ways of sending it.
#![allow(unsafe_code)] // `sendmmsg` has no safe face; all it points at lives in this struct until the call returns.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use quinn_proto::Transmit;
use quinn_udp::UdpSocketState;

use crate::child::{PACKETS, SYSCALLS, count};
use crate::options::Sending;

/// UDP_MAX_SEGMENTS of the kernel, and the largest IPv4 payload with room for headers.
const MAX_SEGMENTS: usize = 64;
const MAX_MESSAGE_BYTES: usize = 65_000;
/// ECT(0), as quinn marks every packet (RFC 9000 §13.4).
const ECT0: u32 = 2;

struct Packet {
    transmit: Transmit,
    bytes: Vec<u8>,
    /// The only packet of its link in this turn, so that its place among the others is free.
    alone: bool,
}

pub(super) struct Out {
    sending: Sending,
    packets: Vec<Packet>,
    spare: Vec<Vec<u8>>,
    current: Vec<u8>,
    link_began: usize,
    wires: Wires,
}

/// The arrays `sendmmsg` reads.
#[derive(Default)]
struct Wires {
    pieces: Vec<libc::iovec>,
    addresses: Vec<socket2::SockAddr>,
    controls: Vec<[u64; 3]>,
    messages: Vec<libc::mmsghdr>,
}

impl Out {
    pub(super) fn new(sending: Sending, socket: BorrowedFd<'_>) -> io::Result<Self> {
        if sending != Sending::One {
            // Once for all packets, instead of a control message for each.
            socket2::SockRef::from(&socket).set_tos_v4(ECT0)?;
        }
        let wires = Wires::default();
        Ok(Self { sending, packets: Vec::new(), spare: Vec::new(), current: Vec::new(), link_began: 0, wires })
    }

    pub(super) fn begin_link(&mut self) {
        self.link_began = self.packets.len();
    }

    /// An empty buffer for the next transmit.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        self.current.clear();
        &mut self.current
    }

    pub(super) fn answer(&mut self) -> &mut Vec<u8> {
        self.buffer()
    }

    pub(super) fn push(&mut self, transmit: &Transmit) {
        let next = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(2048));
        let bytes = std::mem::replace(&mut self.current, next);
        let alone = self.link_began == self.packets.len() && transmit.segment_size.is_none();
        if !alone {
            self.packets[self.link_began..].iter_mut().for_each(|packet| packet.alone = false);
        }
        self.packets.push(Packet { transmit: copy(transmit), bytes, alone });
    }

    pub(super) fn push_answer(&mut self, transmit: &Transmit) {
        self.begin_link();
        self.push(transmit);
    }

    pub(super) fn flush(&mut self, state: &UdpSocketState, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.packets.is_empty() {
            return Ok(());
        }
        match self.sending {
            Sending::One => self.send_each(state, socket),
            Sending::Many => self.send_many(socket, 1),
            Sending::Segmented => {
                self.packets
                    .sort_by_key(|packet| packet.alone.then_some((packet.transmit.destination, packet.transmit.size)));
                self.send_many(socket, MAX_SEGMENTS)
            }
        }?;
        self.spare.extend(self.packets.drain(..).map(|packet| packet.bytes));
        Ok(())
    }

    fn send_each(&self, state: &UdpSocketState, socket: BorrowedFd<'_>) -> io::Result<()> {
        for Packet { transmit, bytes, .. } in &self.packets {
            count(&SYSCALLS, 1);
            count(&PACKETS, segments(transmit));
            let sent = state.send(
                (&socket).into(),
                &quinn_udp::Transmit {
                    destination: transmit.destination,
                    ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
                    contents: &bytes[..transmit.size],
                    segment_size: transmit.segment_size,
                    src_ip: transmit.src_ip,
                },
            );
            match sent {
                // A full socket buffer loses the packet, as the network may.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn send_many(&mut self, socket: BorrowedFd<'_>, together: usize) -> io::Result<()> {
        self.wires.fill(&mut self.packets, together);
        let messages = &mut self.wires.messages;
        let mut at = 0;
        while at < messages.len() {
            count(&SYSCALLS, 1);
            // SAFETY: the messages point into `wires` and `packets`, which stay as they are until the call returns.
            let sent = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), messages[at..].as_mut_ptr(), (messages.len() - at) as _, 0)
            };
            match sent {
                // Errors belong to the first message, e.g. a probe larger than the path; it is lost, the others go on.
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::InvalidInput => {
                    return Err(io::Error::last_os_error());
                }
                -1 => at += 1,
                sent => at += sent as usize,
            }
        }
        Ok(())
    }
}

impl Wires {
    /// Builds one message per transmit, or per `together` lone packets of one size to one address.
    fn fill(&mut self, packets: &mut [Packet], together: usize) {
        self.pieces.clear();
        self.addresses.clear();
        self.controls.clear();
        self.messages.clear();
        self.pieces.extend(
            packets.iter_mut().map(|packet| libc::iovec {
                iov_base: packet.bytes.as_mut_ptr().cast(),
                iov_len: packet.transmit.size,
            }),
        );
        // No array may move once a message points into it.
        self.addresses.reserve(packets.len());
        self.controls.reserve(packets.len());
        let mut from = 0;
        while from < packets.len() {
            let run = alike(&packets[from..], together);
            let first = &packets[from].transmit;
            count(&PACKETS, segments(first) * run);
            let segment = if run > 1 { Some(first.size) } else { first.segment_size };
            self.message(first.destination, from, run, segment);
            from += run;
        }
    }

    fn message(&mut self, to: SocketAddr, from: usize, pieces: usize, segment: Option<usize>) {
        self.addresses.push(to.into());
        self.controls.push([0; 3]);
        let (Some(address), Some(control)) = (self.addresses.last(), self.controls.last_mut()) else { return };
        // SAFETY: `mmsghdr` is plain integers and pointers. The control buffer has CMSG_SPACE(2) = 24 aligned bytes.
        self.messages.push(unsafe {
            let mut message: libc::mmsghdr = zeroed();
            let header = &mut message.msg_hdr;
            header.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_namelen = address.len();
            header.msg_iov = self.pieces[from..from + pieces].as_mut_ptr();
            header.msg_iovlen = pieces as _;
            if let Some(segment) = segment {
                header.msg_control = control.as_mut_ptr().cast();
                header.msg_controllen = size_of::<[u64; 3]>() as _;
                let entry = libc::CMSG_FIRSTHDR(header);
                (*entry).cmsg_level = libc::SOL_UDP;
                (*entry).cmsg_type = libc::UDP_SEGMENT;
                (*entry).cmsg_len = libc::CMSG_LEN(2) as _;
                libc::CMSG_DATA(entry).cast::<u16>().write_unaligned(segment as u16);
            }
            message
        });
    }
}

/// How many packets from the first on can be one segmented message.
fn alike(packets: &[Packet], together: usize) -> usize {
    let first = &packets[0];
    if !first.alone {
        return 1;
    }
    let limit = together.min(MAX_MESSAGE_BYTES / first.transmit.size.max(1)).max(1);
    let same = |packet: &&Packet| {
        packet.alone
            && packet.transmit.destination == first.transmit.destination
            && packet.transmit.size == first.transmit.size
    };
    packets.iter().take(limit).take_while(same).count()
}

fn segments(transmit: &Transmit) -> usize {
    transmit.segment_size.map_or(1, |size| transmit.size.div_ceil(size))
}

fn copy(transmit: &Transmit) -> Transmit {
    Transmit { ..*transmit }
}
