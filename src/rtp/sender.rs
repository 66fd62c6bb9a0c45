//! One stream that goes: sequence and timestamp go on whatever is said, silence and keys included.
//!
//! It is asked once per tick with one frame; packets hold what the peer asked for (10 to 60 ms), where the codec can be cut
//! anywhere. Who cuts and joins frames of another codec himself takes the steps of a tick one by one. A tick that did not come,
//! and time in which nothing was sent, are a step of the timestamp and a marker (RFC 3551 §4.1), never a gap in the sequence.
//! While a key is pressed its events take the place of audio.

use std::time::{Duration, Instant};

use super::dtmf::{Key, Keypad, Pressed, Stroke};
use super::packet::Header;
use super::rtcp::SenderInfo;

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub payload_type: u8,
    /// Of timestamps, Hz.
    pub clock: u32,
    /// Type and clock of telephone events.
    pub events: Option<(u8, u32)>,
    /// Which keys the peer takes as events, a bit for each ([`Key::bit`]).
    pub keys: u16,
    /// Of one packet; only where `bytes_per_ms` says how a frame is cut.
    pub packet_ms: u8,
    /// `None`: one frame is one packet, or somebody else joins them (Opus).
    pub bytes_per_ms: Option<u8>,
}

#[derive(Clone, Debug)]
pub struct Sender {
    outgoing: Outgoing,
    ssrc: u32,
    sequence: u16,
    /// Of the first byte that waits, or of the next frame.
    timestamp: u32,
    marker: bool,
    waiting: Vec<u8>,
    keypad: Keypad,
    last: Option<Instant>,
    packets: u32,
    octets: u32,
    packets_before: u32,
    buffer: Vec<u8>,
}

impl Sender {
    /// `seed`: SSRC, first sequence number and first timestamp come of it (RFC 3550 §5.1: random).
    pub fn new(outgoing: Outgoing, seed: u64) -> Self {
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            outgoing,
            ssrc: (seed >> 32) as u32 ^ seed as u32,
            sequence: (mixed >> 48) as u16,
            timestamp: mixed as u32,
            marker: true,
            waiting: Vec::new(),
            keypad: keypad(outgoing),
            last: None,
            packets: 0,
            octets: 0,
            packets_before: 0,
            buffer: Vec::new(),
        }
    }

    /// Other types from the next packet on. What waits for the end of its packet is dropped where it can't go with the rest, and so are
    /// keys where the peer takes events no more: pressed minutes later they would answer another question.
    pub fn set_outgoing(&mut self, outgoing: Outgoing) {
        if outgoing.payload_type != self.outgoing.payload_type || outgoing.clock != self.outgoing.clock {
            self.waiting.clear();
            self.marker = true;
        }
        let (events, clock) = (outgoing.events, outgoing.clock);
        match events {
            None => self.keypad.clear(),
            Some(_) => self.keypad.retain(|key| outgoing.keys & key.bit() != 0),
        }
        self.keypad.set_clocks(events.map_or(clock, |(_, clock)| clock), clock);
        self.outgoing = outgoing;
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Packets and payload octets so far; both wrap.
    pub fn sent(&self) -> (u32, u32) {
        (self.packets, self.octets)
    }

    /// `false`: the peer takes no events, or not this one, or too many strokes wait.
    pub fn press(&mut self, stroke: Stroke, duration_ms: u32) -> bool {
        let takes = |key: Key| self.outgoing.keys & key.bit() != 0;
        let is_taken = self.outgoing.events.is_some() && stroke.key().is_none_or(takes);
        is_taken && self.keypad.press(stroke, duration_ms)
    }

    /// Strokes that have not begun.
    pub fn strokes_waiting(&self) -> usize {
        self.keypad.waiting()
    }

    /// Keys are pressed or wait.
    pub fn has_keys(&self) -> bool {
        !self.keypad.is_idle()
    }

    /// One frame of `frame_ms`, at the time of its tick; `send` gets each packet that is complete by now.
    pub fn tick(&mut self, frame: &[u8], frame_ms: u8, at: Instant, mut send: impl FnMut(&[u8])) {
        if !self.begin(frame_ms, at, &mut send) {
            return;
        }
        let Some(bytes_per_ms) = self.outgoing.bytes_per_ms else {
            return self.say(frame, u32::from(frame_ms), &mut send);
        };
        let size = usize::from(bytes_per_ms) * usize::from(self.outgoing.packet_ms.max(1));
        if self.waiting.is_empty() && frame.len() == size {
            return self.packet(frame, self.units(u32::from(self.outgoing.packet_ms)), &mut send);
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.extend_from_slice(frame);
        let whole = waiting.len() / size * size;
        for payload in waiting[..whole].chunks_exact(size) {
            self.packet(payload, self.units(u32::from(self.outgoing.packet_ms)), &mut send);
        }
        waiting.drain(..whole);
        self.waiting = waiting;
    }

    /// The next tick begins a key, goes on with it, or comes late: what waits outside for the rest of its packet has to go ahead of it.
    pub fn breaks_off(&self, frame_ms: u8, at: Instant) -> bool {
        self.missing(frame_ms, at) > 0 || self.outgoing.events.is_some() && self.keypad.is_due()
    }

    /// A tick without its audio. `false`: a key has taken its place.
    pub fn begin(&mut self, frame_ms: u8, at: Instant, mut send: impl FnMut(&[u8])) -> bool {
        let step = self.units(u32::from(frame_ms));
        match self.missing(frame_ms, at) {
            0 => {}
            missing => self.skip(step.wrapping_mul(missing)),
        }
        self.last = Some(at);
        let Some((kind, _)) = self.outgoing.events else { return true };
        let Some(pressed) = self.keypad.tick(self.timestamp, u32::from(frame_ms)) else { return true };
        self.send_event(kind, pressed, &mut send);
        self.skip(step);
        false
    }

    /// One packet of audio, as long as it says.
    pub fn say(&mut self, payload: &[u8], ms: u32, mut send: impl FnMut(&[u8])) {
        self.packet(payload, self.units(ms), &mut send);
    }

    /// What an SR says now; `None`: nothing was sent since the last one.
    pub fn info(&mut self, ntp: u64, now: Instant) -> Option<SenderInfo> {
        if self.packets == self.packets_before {
            return None;
        }
        self.packets_before = self.packets;
        let since = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let units = since.as_micros() as u64 * u64::from(self.outgoing.clock) / 1_000_000;
        let rtp_timestamp = self.timestamp.wrapping_add(units as u32);
        Some(SenderInfo { ntp, rtp_timestamp, packets: self.packets, octets: self.octets })
    }

    fn units(&self, ms: u32) -> u32 {
        ms * (self.outgoing.clock / 1000)
    }

    /// Ticks that did not come: a stall, or a hold.
    fn missing(&self, frame_ms: u8, at: Instant) -> u32 {
        let frame = Duration::from_millis(u64::from(frame_ms.max(1)));
        let frames = self.last.map_or(0, |last| at.saturating_duration_since(last).as_micros() / frame.as_micros());
        (frames as u32).saturating_sub(1)
    }

    /// Time without audio; what waits is dropped with it.
    fn skip(&mut self, units: u32) {
        let dropped = match self.outgoing.bytes_per_ms {
            Some(bytes) => self.units(1) * self.waiting.len() as u32 / u32::from(bytes.max(1)),
            None => 0,
        };
        self.waiting.clear();
        self.timestamp = self.timestamp.wrapping_add(units).wrapping_add(dropped);
        self.marker = true;
    }

    fn packet(&mut self, payload: &[u8], units: u32, send: &mut impl FnMut(&[u8])) {
        let header = Header {
            marker: std::mem::take(&mut self.marker),
            payload_type: self.outgoing.payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        self.timestamp = self.timestamp.wrapping_add(units);
        self.write(header, payload, send);
    }

    fn send_event(&mut self, payload_type: u8, pressed: Pressed, send: &mut impl FnMut(&[u8])) {
        let Pressed { marker, timestamp, event } = pressed;
        let header = Header { marker, payload_type, sequence: self.sequence, timestamp, ssrc: self.ssrc };
        self.write(header, &event.bytes(), send);
    }

    fn write(&mut self, header: Header, payload: &[u8], send: &mut impl FnMut(&[u8])) {
        self.buffer.clear();
        header.write(&mut self.buffer);
        self.buffer.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        send(&self.buffer);
    }
}

fn keypad(outgoing: Outgoing) -> Keypad {
    Keypad::new(outgoing.events.map_or(outgoing.clock, |(_, clock)| clock), outgoing.clock)
}
