//! Legs against a peer of the test's own: real packets on loopback, ticks by hand. [`sound`] is what is heard, [`lengths`] how long packets
//! of Opus are, [`turns`] what changes in between, [`line`] all the rest.
#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

mod lengths;
mod line;
mod sound;
mod turns;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Codec, Direction, Events, Negotiated, Pair, Ports, RtpLeg, RtpLine, Settings, Talks};
use crate::audio::{self, Decoder, Encoder, Frame, Params};
use crate::engine::leg::{Heard, Leg};
use crate::rtp::dtmf::Event;
use crate::rtp::rtcp::{self, Rtcp};
use crate::rtp::{Header, Packet};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TICK: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(10);

fn ports() -> Ports {
    Ports::new(HERE, 20_000..=29_999).unwrap()
}

/// A far end.
struct Peer {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    ssrc: u32,
    sequence: u16,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((HERE, 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

impl Peer {
    fn new() -> Self {
        Self { rtp: socket(), rtcp: socket(), ssrc: 0x5150, sequence: 65_530 }
    }

    fn offers(&self, codec: Codec) -> Negotiated {
        let (number, events) = match codec {
            Codec::Pcmu => (0, Events { send_type: 101, receive_type: 101, clock_rate: 8000, keys: Events::ALL_KEYS }),
            Codec::Pcma => (8, Events { send_type: 101, receive_type: 101, clock_rate: 8000, keys: Events::ALL_KEYS }),
            Codec::Opus => {
                (111, Events { send_type: 110, receive_type: 112, clock_rate: 48_000, keys: Events::ALL_KEYS })
            }
        };
        Negotiated {
            remote: Some(self.rtp.local_addr().unwrap()),
            remote_rtcp: Some(self.rtcp.local_addr().unwrap()),
            codec,
            send_type: number,
            receive_types: vec![(number, codec)],
            ptime_ms: 20,
            direction: Direction::SendRecv,
            events: Some(events),
            opus: None,
        }
    }

    fn packet(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let (sequence, ssrc) = (self.sequence, self.ssrc);
        self.sequence = sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        Header { marker: false, payload_type, sequence, timestamp, ssrc }.write(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// The next packet of ours.
    fn hear(&self) -> (Header, Vec<u8>) {
        let mut bytes = [0; 2048];
        let (length, _) = self.rtp.recv_from(&mut bytes).expect("a packet within the limit");
        let packet = Packet::parse(&bytes[..length]).unwrap();
        (packet.header, packet.payload.to_vec())
    }

    /// Nothing is on its way: loopback delivers within the sending call.
    fn hears_nothing(&self) -> bool {
        self.rtp.set_nonblocking(true).unwrap();
        let nothing = self.rtp.recv_from(&mut [0; 1]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.rtp.set_nonblocking(false).unwrap();
        nothing
    }
}

/// A leg and what it told.
struct Stage {
    leg: RtpLeg,
    line: RtpLine,
    port: u16,
    now: Instant,
    peer: Peer,
}

impl Stage {
    fn new(codec: Codec, settings: Settings) -> Self {
        let peer = Peer::new();
        let negotiated = peer.offers(codec);
        Self::with(peer, negotiated, settings)
    }

    fn with(peer: Peer, negotiated: Negotiated, settings: Settings) -> Self {
        let pair = ports().open().unwrap();
        let port = pair.port();
        let (leg, line) = RtpLeg::new(&negotiated, pair, settings);
        Self { leg, line, port, now: Instant::now(), peer }
    }

    fn seen(&self) -> u64 {
        let line = self.leg.line().unwrap();
        line.packets_received + line.packets_refused + line.packets_late
    }

    /// Sends to the leg and lets it read.
    fn deliver(&mut self, from: &UdpSocket, bytes: &[u8]) {
        from.send_to(bytes, (HERE, self.port)).unwrap();
        self.read(0);
    }

    /// Once there is something to read.
    fn read(&mut self, socket: usize) {
        let sockets = self.leg.sockets();
        let mut poll = [PollFd::new(sockets[socket].as_ref().unwrap(), PollFlags::IN)];
        let limit = Timespec::try_from(LIMIT).unwrap();
        assert_eq!(rustix::event::poll(&mut poll, Some(&limit)), Ok(1), "a datagram within the limit");
        self.leg.receive(socket, self.now);
    }

    fn say(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) -> Vec<Heard> {
        let (bytes, socket) = (self.peer.packet(payload_type, timestamp, payload), self.peer.rtp.try_clone().unwrap());
        self.deliver(&socket, &bytes);
        self.heard()
    }

    fn heard(&mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.leg.poll_heard()).collect()
    }

    fn tick(&mut self, frame: Option<&Frame>) -> Vec<Heard> {
        self.now += TICK;
        self.leg.push(frame, self.now);
        self.heard()
    }
}

fn frames(heard: Vec<Heard>) -> Vec<(Frame, Instant)> {
    let frame = |heard| match heard {
        Heard::Frame { frame, at } => (frame, at),
        other => panic!("{other:?} is no frame"),
    };
    heard.into_iter().map(frame).collect()
}

fn opus(rate: u32, frame_ms: u8, count: usize) -> Vec<Frame> {
    let params = Params { sample_rate: rate, frame_ms, ..Params::CALL };
    let mut encoder = Encoder::new(params).unwrap();
    let sample = |n: usize| (9000.0 * (n as f64 * 440.0 * std::f64::consts::TAU / f64::from(rate)).sin()) as i16;
    let size = params.samples();
    (0..count)
        .map(|at| encoder.encode(&(at * size..(at + 1) * size).map(sample).collect::<Vec<_>>()).unwrap())
        .collect()
}
