//! Ports that nobody takes between being named and being bound.
//!
//! They lie below those that the kernel gives out by itself. Each process has a block of them while it lives: whoever has bound the
//! block's first port has the block, so that test programs of several worktrees run beside each other.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

const FIRST: u16 = 10_000;
const BLOCKS: u16 = 10;
/// Of a block: so many runs that whoever was given one has bound it, on a slow machine too, before it is tried for somebody else, which
/// binds it for a moment.
const PORTS: u16 = 2_000;
/// What is given at a time: SIPp's RTP port has its neighbours, and a trunk has a range.
const RUN: u16 = 20;

static BLOCK: LazyLock<Block> = LazyLock::new(Block::take);

struct Block {
    /// Whose block it is.
    _mark: UdpSocket,
    first: u16,
    /// Runs, so far.
    given: AtomicU16,
}

impl Block {
    fn take() -> Self {
        let mut blocks = (0..BLOCKS).map(|nth| FIRST + nth * PORTS);
        let taken = blocks.find_map(|first| Some((first, UdpSocket::bind((Ipv4Addr::LOCALHOST, first)).ok()?)));
        let (first, mark) = taken.expect("fewer than ten test programs at a time");
        Self { _mark: mark, first, given: AtomicU16::new(0) }
    }

    /// The next run that is free, the longest unused first. The block's own port is in none.
    fn run(&self) -> u16 {
        let runs = PORTS / RUN - 1;
        let next = || self.first + RUN + self.given.fetch_add(1, Relaxed) % runs * RUN;
        let is_free = |&port: &u16| {
            let binds = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
            (port..port + RUN).all(binds) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        };
        std::iter::repeat_with(next).take(usize::from(runs)).find(is_free).expect("a free run of ports")
    }
}

/// An even one that nobody else has, or listens at.
pub(crate) fn free_port() -> u16 {
    BLOCK.run()
}

/// So many, for RTP.
pub(crate) fn free_ports(count: u16) -> RangeInclusive<u16> {
    assert!(count <= RUN, "a run has {RUN}");
    let first = BLOCK.run();
    first..=first + count - 1
}

/// Whether somebody has bound this port of 127.0.0.1 (TCP: listens at it). The kernel's own table says so; binding it to see would
/// take it from whoever is about to.
pub(crate) fn is_taken(is_tcp: bool, port: u16) -> bool {
    let (table, state) = if is_tcp { ("/proc/net/tcp", "0A") } else { ("/proc/net/udp", "07") };
    let table = std::fs::read_to_string(table).expect("Linux says who listens where");
    let place = format!("{:08X}:{port:04X}", u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets()));
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some(&place) && fields.nth(1) == Some(state)
    })
}
