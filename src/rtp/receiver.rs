//! One stream that comes: packets of the right source and type, in numbers that never wrap, and what a report says of them.
//!
//! Whose packets come here is the latch's word ([`latch`](super::latch)): a packet with another SSRC than the last one's begins a
//! new stream. Telephone events are split off and told; packets are handed out in the order of their arrival, late ones too: who
//! wants them in order has a buffer.

use std::time::Instant;

use super::dtmf::{Listener, Press};
use super::packet::Packet;
use super::rtcp::ReportBlock;
use super::sequence::{Arrival, Sequence, Totals};

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Each payload type that may come, with the clock of its timestamps in Hz; the one to expect first.
    pub types: Vec<(u8, u32)>,
    /// Type and clock of telephone events.
    pub events: Option<(u8, u32)>,
    /// Type of comfort noise (RFC 3389).
    pub noise: Option<u8>,
}

impl Stream {
    fn clock(&self) -> u32 {
        self.types.first().map_or(8000, |(_, clock)| *clock)
    }

    fn clock_of(&self, payload_type: u8) -> Option<u32> {
        self.types.iter().find(|(known, _)| *known == payload_type).map(|(_, clock)| *clock)
    }

    fn events_clock(&self) -> u32 {
        self.events.map_or(8000, |(_, clock)| clock)
    }
}

/// One packet of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Its sequence number, without wrap.
    pub number: u64,
    /// The stream has begun anew: numbers and timestamps have nothing to do with those before.
    pub begins: bool,
    /// `None`: an event, which was told, or comfort noise, which is silence. It has its place in the order of packets.
    pub audio: Option<Audio<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audio<'a> {
    pub payload_type: u8,
    /// Without wrap.
    pub timestamp: u64,
    pub payload: &'a [u8],
}

/// A step of the timestamp that is so much longer than the time that passed, or backwards, is a clock that has jumped: no network hurries
/// a packet, and what it delays stays behind its timestamp.
const JUMP_MS: i64 = 200;
/// Timestamps begin here, so that late ones have one too.
const FIRST: u64 = 1 << 32;

#[derive(Clone, Debug)]
pub struct Receiver {
    stream: Stream,
    /// Of the timestamps that come now.
    clock: u32,
    ssrc: Option<u32>,
    sequence: Sequence,
    listener: Listener,
    timestamp: Option<u64>,
    /// The next payload is the first of its stream.
    begun: bool,
    /// Arrival and timestamp of the last packet, in timestamp units, and the jitter sixteenfold (RFC 3550 §A.8).
    last: Option<(i64, i64)>,
    jitter16: u64,
    worst_jitter: u32,
    epoch: Instant,
    /// Of streams before this one.
    before: Totals,
    /// Since the start.
    wrong_type: u64,
    octets: u64,
}

impl Receiver {
    pub fn new(stream: Stream, now: Instant) -> Self {
        Self {
            clock: stream.clock(),
            ssrc: None,
            sequence: Sequence::new(1),
            listener: Listener::new(stream.events_clock()),
            stream,
            timestamp: None,
            begun: true,
            last: None,
            jitter16: 0,
            worst_jitter: 0,
            epoch: now,
            before: Totals::default(),
            wrong_type: 0,
            octets: 0,
        }
    }

    /// Other types from now on; the source may be the same.
    pub fn set_stream(&mut self, stream: Stream) {
        if stream.events_clock() != self.stream.events_clock() {
            self.listener.reset(stream.events_clock());
        }
        self.stream = stream;
    }

    /// Whether packets of this type are wanted; others are counted. Asked before a packet may teach the latch anything.
    pub fn takes(&mut self, payload_type: u8) -> bool {
        let wanted = self.is_event(payload_type)
            || self.stream.noise == Some(payload_type)
            || self.stream.clock_of(payload_type).is_some();
        self.wrong_type += u64::from(!wanted);
        wanted
    }

    /// `None`: it is not wanted, or came before. `heard` is told of events.
    pub fn handle<'a>(&mut self, packet: &Packet<'a>, now: Instant, heard: impl FnMut(Press)) -> Option<Received<'a>> {
        let header = packet.header;
        let clock = self.stream.clock_of(header.payload_type);
        if !self.takes(header.payload_type) {
            return None;
        }
        if self.ssrc != Some(header.ssrc) {
            self.begin(header.ssrc);
        }
        let number = match self.sequence.update(header.sequence) {
            Arrival::Next { number, .. } | Arrival::Late { number } => number,
            Arrival::Restart { number } => {
                // Its reports begin anew (RFC 3550 §A.1); the leg's totals go on.
                (self.timestamp, self.last, self.begun) = (None, None, true);
                self.listener.reset(self.stream.events_clock());
                number
            }
            Arrival::Duplicate | Arrival::Stray | Arrival::Probation => return None,
        };
        self.octets += packet.payload.len() as u64;
        let mut audio = None;
        if self.is_event(header.payload_type) {
            self.listener.handle(header.timestamp, packet.payload, now, heard);
        } else if let Some(clock) = clock {
            if clock != self.clock {
                // Timestamps of another clock are another story (RFC 7160).
                self.clock = clock;
                self.forget_time();
            }
            let timestamp = self.extend(header.timestamp);
            self.note_jitter(timestamp, now);
            audio = Some(Audio { payload_type: header.payload_type, timestamp, payload: packet.payload });
        }
        Some(Received { number, begins: std::mem::take(&mut self.begun), audio })
    }

    fn is_event(&self, payload_type: u8) -> bool {
        self.stream.events.is_some_and(|(kind, _)| kind == payload_type)
    }

    /// Presses whose end was lost.
    pub fn handle_timeout(&mut self, now: Instant, heard: impl FnMut(Press)) {
        self.listener.handle_timeout(now, heard);
    }

    /// The source of now.
    pub fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    /// Interarrival jitter in units of the timestamp.
    pub fn jitter(&self) -> u32 {
        u32::try_from(self.jitter16 >> 4).unwrap_or(u32::MAX)
    }

    pub fn jitter_ms(&self) -> f64 {
        f64::from(self.jitter()) * 1000.0 / f64::from(self.clock.max(1))
    }

    /// The greatest that a report has told.
    pub fn worst_jitter_ms(&self) -> f64 {
        f64::from(self.worst_jitter.max(self.jitter())) * 1000.0 / f64::from(self.clock.max(1))
    }

    /// Over all streams of the leg.
    pub fn totals(&self) -> Totals {
        self.before + self.sequence.totals()
    }

    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Packets of a type that nobody agreed on.
    pub fn wrong_type(&self) -> u64 {
        self.wrong_type
    }

    /// The block of a report on this stream; `sr`: the middle of the last SR's NTP time, and how long ago it came.
    pub fn report(&mut self, sr: Option<(u32, u32)>) -> Option<ReportBlock> {
        let ssrc = self.ssrc.filter(|_| self.sequence.expected() > 0)?;
        let (last_sr, delay_since_last_sr) = sr.unwrap_or_default();
        self.worst_jitter = self.worst_jitter.max(self.jitter());
        Some(ReportBlock {
            ssrc,
            fraction_lost: self.sequence.fraction_lost(),
            lost: i32::try_from(self.sequence.lost()).unwrap_or(i32::MAX),
            highest_sequence: self.sequence.newest() as u32,
            jitter: self.jitter(),
            last_sr,
            delay_since_last_sr,
        })
    }

    fn begin(&mut self, ssrc: u32) {
        self.before = self.totals();
        self.ssrc = Some(ssrc);
        self.sequence = Sequence::new(1);
        self.listener.reset(self.stream.events_clock());
        self.forget_time();
    }

    fn forget_time(&mut self) {
        (self.timestamp, self.last, self.jitter16, self.begun) = (None, None, 0, true);
    }

    fn extend(&mut self, timestamp: u32) -> u64 {
        let extended = match self.timestamp {
            None => FIRST + u64::from(timestamp),
            Some(last) => last.saturating_add_signed(i64::from(timestamp.wrapping_sub(last as u32) as i32)),
        };
        self.timestamp = Some(self.timestamp.map_or(extended, |last| last.max(extended)));
        extended
    }

    /// RFC 3550 §A.8. All packets of an event share a timestamp and would look like jitter.
    fn note_jitter(&mut self, timestamp: u64, now: Instant) {
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        let arrival = (micros * u64::from(self.clock) / 1_000_000) as i64;
        let Some((arrived, stamped)) = self.last.replace((arrival, timestamp as i64)) else { return };
        let (passed, step) = (arrival - arrived, timestamp as i64 - stamped);
        let jump = JUMP_MS * i64::from(self.clock) / 1000;
        if step - passed > jump || step < -jump {
            return;
        }
        self.jitter16 = (self.jitter16 + passed.abs_diff(step)).saturating_sub((self.jitter16 + 8) >> 4);
    }
}
