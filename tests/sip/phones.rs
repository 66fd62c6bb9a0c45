//! Phones of the test's own: RTP at one socket behind SIPp's signalling. Legs are told apart by where our packets come from.
//!
//! A phone says a packet for each one that it hears, so that our clock drives it and nothing sleeps.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use clutchcall::rtp::{Header, Packet};

use crate::rig::LIMIT;

const PCMU: u8 = 0;
const PCMA: u8 = 8;
/// What we send while nobody speaks.
pub(crate) const SILENCE: u8 = 0xff;
const PCMA_SILENCE: u8 = 0xd5;
const EVENTS: u8 = 101;
const COMFORT_NOISE: u8 = 13;
/// Bytes of a frame of the call.
pub(crate) const FRAME: usize = 160;

pub(crate) struct Phones {
    socket: UdpSocket,
    payload_type: u8,
    pub(crate) lines: Vec<Line>,
}

/// One leg, as its phone sees it.
pub(crate) struct Line {
    /// Where our packets come from, and its own go.
    pub(crate) ours: SocketAddr,
    /// Payloads, as they came.
    pub(crate) heard: Vec<Vec<u8>>,
    /// Which of them begin anew (the marker): what came before may have been cut by ticks that did not come.
    begins: Vec<usize>,
    /// Codes of keys that were let go of, in the order in which they came, each once.
    pub(crate) keys: Vec<u8>,
    pub(crate) said: Vec<u8>,
    last_event: Option<u32>,
    sequence: u16,
}

impl Phones {
    pub(crate) fn new() -> Self {
        Self::speaking(PCMU)
    }

    pub(crate) fn of_pcma() -> Self {
        Self::speaking(PCMA)
    }

    fn speaking(payload_type: u8) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self { socket, payload_type, lines: Vec::new() }
    }

    /// What stands in the SDP.
    pub(crate) fn port(&self) -> String {
        self.socket.local_addr().unwrap().port().to_string()
    }

    /// The next packet of ours; which leg's it is.
    pub(crate) fn hear(&mut self) -> usize {
        self.heard_within(LIMIT).expect("a packet of ours within the limit")
    }

    /// `None`: nothing came.
    pub(crate) fn heard_within(&mut self, limit: Duration) -> Option<usize> {
        let mut bytes = [0; 2048];
        self.socket.set_read_timeout(Some(limit)).unwrap();
        loop {
            let (length, from) = self.socket.recv_from(&mut bytes).ok()?;
            let packet = Packet::parse(&bytes[..length]).expect("ours is RTP");
            let at = self.lines.iter().position(|line| line.ours == from).unwrap_or_else(|| {
                self.lines.push(Line {
                    ours: from,
                    heard: Vec::new(),
                    begins: Vec::new(),
                    keys: Vec::new(),
                    said: Vec::new(),
                    last_event: None,
                    sequence: 0,
                });
                self.lines.len() - 1
            });
            let line = &mut self.lines[at];
            if packet.header.payload_type == self.payload_type {
                if packet.header.marker {
                    line.begins.push(line.heard.len());
                }
                line.heard.push(packet.payload.to_vec());
                return Some(at);
            }
            // The first of the three packets that end it.
            let ends = packet.header.payload_type == EVENTS && packet.payload[1] & 0x80 != 0;
            if ends && line.last_event.replace(packet.header.timestamp) != Some(packet.header.timestamp) {
                line.keys.push(packet.payload[0]);
            }
        }
    }

    /// A packet of this line's phone, a sample per byte.
    pub(crate) fn say(&mut self, line: usize, payload: &[u8]) {
        self.send(line, self.payload_type, payload);
        self.lines[line].said.extend_from_slice(payload);
    }

    /// Its key of 100 ms, at the end of which it is seen for the first time (RFC 4733 §2.5.1.4).
    pub(crate) fn press(&mut self, line: usize, code: u8) {
        (0..3).for_each(|_| self.send(line, EVENTS, &[code, 0x8a, 0x03, 0x20]));
    }

    fn send(&mut self, line: usize, payload_type: u8, payload: &[u8]) {
        let Line { ours, said, sequence, .. } = &mut self.lines[line];
        let (marker, timestamp) = (*sequence == 0, said.len() as u32);
        let header = Header { marker, payload_type, sequence: *sequence, timestamp, ssrc: line as u32 + 1 };
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        bytes.extend_from_slice(payload);
        self.socket.send_to(&bytes, *ours).unwrap();
        *sequence += 1;
    }

    /// Comfort noise (RFC 3389) in the place of this line's next frame.
    pub(crate) fn be_quiet(&mut self, line: usize) {
        self.send(line, COMFORT_NOISE, &[64]);
        let said = &mut self.lines[line].said;
        said.resize(said.len() + FRAME, SILENCE);
    }

    /// Frames of this line's phone that never arrive.
    pub(crate) fn lose(&mut self, line: usize, count: u16) {
        let line = &mut self.lines[line];
        line.said.resize(line.said.len() + usize::from(count) * FRAME, SILENCE);
        line.sequence += count;
    }

    /// The next frame of this line's phone.
    pub(crate) fn say_on(&mut self, line: usize) {
        let number = self.lines[line].said.len() / FRAME;
        self.say(line, &frame(line, number));
    }

    /// Each phone says its next frame whenever it hears one, until this is so.
    pub(crate) fn talk_until(&mut self, is_enough: impl Fn(&[Line]) -> bool) {
        let begun = Instant::now();
        while !is_enough(&self.lines) {
            assert!(
                begun.elapsed() < LIMIT,
                "heard {:?}",
                self.lines.iter().map(|l| l.heard.len()).collect::<Vec<_>>()
            );
            let line = self.hear();
            self.say_on(line);
        }
    }
}

/// One that nobody else says: the phone, its number, and noise.
pub(crate) fn frame(line: usize, number: usize) -> Vec<u8> {
    let noise = |at: usize| (at * 7 + number * 13 + line * 101) as u8;
    let mut frame: Vec<u8> = (0..FRAME).map(noise).collect();
    frame[..4].copy_from_slice(&[line as u8 + 1, (number >> 8) as u8, number as u8, 0x5a]);
    frame
}

impl Line {
    /// What was heard without a break, run by run.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Vec<u8>> {
        let ends = self.begins.iter().copied().chain([self.heard.len()]);
        let begins = [0].into_iter().chain(self.begins.iter().copied());
        begins.zip(ends).map(|(from, to)| self.heard[from..to].concat())
    }

    /// The numbers of the other phone's frames among what was heard; anything else but silence fails.
    pub(crate) fn heard_of(&self, other: usize) -> Vec<usize> {
        let numbers = self
            .heard
            .iter()
            .filter(|payload| payload[..] != [SILENCE; FRAME] && payload[..] != [PCMA_SILENCE; FRAME])
            .map(|payload| {
                let number = usize::from(payload[1]) << 8 | usize::from(payload[2]);
                assert_eq!(*payload, frame(other, number), "not a byte is another");
                number
            });
        numbers.collect()
    }
}
