//! [`RtpLeg`]: one call's sockets on an audio thread.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use super::inward::Inward;
use super::line::{Ear, RtpLine, line};
use super::outward::Outward;
use super::ports::{Pair, random};
use super::{Direction, Negotiated, Settings};
use crate::audio::{self, Frame, Limits, Params};
use crate::engine::leg::{Heard, Leg, Line, SOCKETS};
use crate::rtp::dtmf::{Key, Stroke};
use crate::rtp::latch::{Latch, Verdict};
use crate::rtp::quality::{self, Conditions, Equipment};
use crate::rtp::report::{Reports, ntp};
use crate::rtp::{Packet, packet};

const RTP: usize = 0;
const RTCP: usize = 1;
/// Datagrams read at one time; the rest is read at the next tick, for a flood on one port must not stop the others.
pub(super) const MOST_AT_ONCE: usize = 64;
/// More than any packet of audio: 60 ms of G.711 are 492 bytes.
const MESSAGE_BYTES: usize = 2048;
/// What may lie in a socket from before the call was answered.
const MOST_EARLY: usize = 1024;
/// Frame and codec, beside what was measured: mouth to ear.
const G711_DELAY_MS: f64 = 20.0;
const OPUS_DELAY_MS: f64 = 26.5;

/// One call's audio over RTP.
pub struct RtpLeg {
    pair: Pair,
    ear: Ear,
    settings: Settings,
    negotiated: Negotiated,
    latch: Latch,
    inward: Inward,
    outward: Outward,
    reports: Reports,
    /// Where the far end's reports come from.
    rtcp_source: Option<SocketAddr>,
    heard: VecDeque<Heard>,
    silence: Silence,
    /// The socket may hold more than was read.
    more: [bool; SOCKETS],
    spoiled: u64,
    unsent: u64,
    /// What was told last of the far end's losses, in percent.
    loss: u8,
    /// The wall clock at a moment of ours; from there it goes by the monotonic one.
    wall: (Instant, Duration),
    buffer: Vec<u8>,
}

impl RtpLeg {
    /// For an answered call. What came before (early media) is thrown away.
    pub fn new(negotiated: &Negotiated, pair: Pair, settings: Settings) -> (Self, RtpLine) {
        let (now, seed) = (Instant::now(), random());
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (line, ear) = line();
        let outward = Outward::new(negotiated, seed, settings.fill);
        discard(&pair.rtp);
        discard(&pair.rtcp);
        let leg = Self {
            ear,
            settings,
            latch: Latch::new(negotiated.remote, settings.symmetric),
            inward: Inward::new(negotiated, &settings, now),
            reports: Reports::new(outward.sender.ssrc(), format!("{:016x}", random()), now),
            outward,
            rtcp_source: None,
            heard: VecDeque::new(),
            silence: Silence::new(now),
            more: [false; SOCKETS],
            spoiled: 0,
            unsent: 0,
            loss: 0,
            wall: (now, unix),
            buffer: Vec::new(),
            negotiated: negotiated.clone(),
            pair,
        };
        (leg, line)
    }

    /// What the trunk has said. `true`: the codec is another one now.
    fn handle_words(&mut self, now: Instant) -> bool {
        let retuned = self.ear.agreed().is_some_and(|negotiated| self.update(&negotiated, now));
        while let Some((stroke, duration_ms)) = self.ear.press() {
            if !self.outward.sender.press(stroke, duration_ms) {
                self.ear.begun(1);
                tracing::warn!("a key can't be sent: the far end takes no events, or too many wait");
            }
        }
        retuned
    }

    fn update(&mut self, negotiated: &Negotiated, now: Instant) -> bool {
        let limits = self.limits();
        self.latch.reopen(negotiated.remote, now);
        let retuned = self.inward.update(negotiated);
        let waited = self.outward.sender.strokes_waiting();
        self.outward.update(negotiated);
        self.ear.begun(waited - self.outward.sender.strokes_waiting());
        if negotiated.remote_rtcp != self.negotiated.remote_rtcp || negotiated.remote != self.negotiated.remote {
            self.rtcp_source = None;
        }
        self.silence.restart(now);
        self.negotiated = negotiated.clone();
        self.loss = self.expected_loss();
        if retuned || self.limits() != limits {
            self.heard.push_back(Heard::Retuned);
        }
        retuned
    }

    /// The far end says nothing any more. On hold it may, whatever its direction allows.
    fn is_silent(&mut self, now: Instant) -> bool {
        if self.negotiated.direction != Direction::SendRecv || !self.silence.is_over(&self.settings, now) {
            return false;
        }
        // It may be us who did not listen: a process that was stopped finds all that was said meanwhile in its socket.
        self.receive(RTP, now);
        self.silence.is_over(&self.settings, now) && self.silence.tell()
    }

    fn handle(&mut self, socket: usize, bytes: &[u8], from: SocketAddr, now: Instant) {
        // RTCP may also come to RTP's port (RFC 5761).
        if socket == RTCP || packet::is_rtcp(bytes) {
            return self.handle_rtcp(bytes, from, now);
        }
        let Some(packet) = Packet::parse(bytes).ok().filter(|_| bytes.len() < MESSAGE_BYTES) else {
            self.spoiled += 1;
            return;
        };
        let header = packet.header;
        if !self.inward.receiver.takes(header.payload_type) {
            return;
        }
        if matches!(self.latch.check(from, header.ssrc, now), Verdict::Accept | Verdict::Switch) {
            self.silence.heard(now);
            self.inward.handle(&packet, self.negotiated.direction.receives(), now, &mut self.heard);
        }
    }

    /// Of the machine that the audio comes from, or that was signalled.
    fn handle_rtcp(&mut self, bytes: &[u8], from: SocketAddr, now: Instant) {
        let known = self.latch.locked().or(self.negotiated.remote);
        if known.is_none_or(|known| known.ip() != from.ip()) {
            self.spoiled += 1;
            return;
        }
        let (source, ntp) = (self.inward.receiver.ssrc(), self.ntp(now));
        match self.reports.handle(bytes, source, now, ntp) {
            Ok(()) => {
                if self.settings.symmetric {
                    self.rtcp_source = Some(from);
                }
                let loss = self.expected_loss();
                if std::mem::replace(&mut self.loss, loss) != loss {
                    self.heard.push_back(Heard::Loss(loss));
                }
            }
            Err(error) => tracing::debug!(%from, %error, "no RTCP"),
        }
    }

    /// In percent, where the far end reads what packets repeat (RFC 7587 §6.1: useinbandfec).
    fn expected_loss(&self) -> u8 {
        let reads = self.negotiated.opus.is_some_and(|wishes| wishes.in_band_fec);
        if reads { self.reports.expected_loss() } else { 0 }
    }

    fn ntp(&self, now: Instant) -> u64 {
        let (at, unix) = self.wall;
        ntp(unix + now.saturating_duration_since(at))
    }

    fn handle_report(&mut self, now: Instant, is_last: bool) {
        let clock = (now, self.ntp(now));
        self.buffer.clear();
        let (receiver, sender) = (&mut self.inward.receiver, &mut self.outward.sender);
        match is_last {
            true => self.reports.write_bye(receiver, sender, clock, &mut self.buffer),
            false => self.reports.write(receiver, sender, clock, &mut self.buffer),
        }
        let above = |address: SocketAddr| SocketAddr::new(address.ip(), address.port().saturating_add(1));
        let target = self.rtcp_source.or(self.negotiated.remote_rtcp).or(self.latch.target().map(above));
        if let Some(target) = target.filter(|target| !target.ip().is_unspecified()) {
            self.unsent += u64::from(self.pair.rtcp.send_to(&self.buffer, target).is_err());
        }
    }

    fn send(&mut self, frame: Option<&Frame>, now: Instant) {
        let Some(target) = self.latch.target().filter(|target| !target.ip().is_unspecified()) else { return };
        let (socket, unsent) = (&self.pair.rtp, &mut self.unsent);
        let waited = self.outward.sender.strokes_waiting();
        self.outward.push(frame, now, |bytes| {
            if let Err(error) = socket.send_to(bytes, target) {
                *unsent += 1;
                if *unsent == 1 {
                    tracing::warn!(%target, %error, "RTP can't be sent");
                }
            }
        });
        self.ear.begun(waited - self.outward.sender.strokes_waiting());
    }

    #[cfg(test)]
    pub(super) fn codecs_made(&self) -> usize {
        self.inward.codecs_made()
    }

    fn mos(&self) -> Option<f64> {
        let totals = self.inward.receiver.totals();
        let (equipment, delay_ms) = match self.inward.params().codec {
            audio::Codec::Opus => (Equipment::OPUS, OPUS_DELAY_MS),
            _ => (Equipment::G711, G711_DELAY_MS),
        };
        let round_trip_ms = self.reports.round_trip().map_or(0.0, |trip| trip.as_secs_f64() * 1000.0);
        let jitter_ms = self.inward.receiver.jitter_ms();
        let loss = totals.lost as f64 / totals.expected.max(1) as f64;
        let conditions = Conditions::measured(round_trip_ms, jitter_ms, delay_ms, loss, totals.gaps, totals.lost);
        (totals.packets > 0).then(|| quality::mos(quality::rating(equipment, conditions)))
    }
}

impl Leg for RtpLeg {
    fn params(&self) -> Params {
        self.inward.params()
    }

    fn limits(&self) -> Limits {
        Limits { loss: self.loss, ..self.negotiated.limits() }
    }

    fn push(&mut self, frame: Option<&Frame>, now: Instant) {
        let retuned = self.handle_words(now);
        // A frame of the old codec is noise in the new one.
        let frame = frame.filter(|_| !retuned);
        for socket in [RTP, RTCP] {
            if self.more[socket] {
                self.receive(socket, now);
            }
        }
        self.inward.handle_timeout(now, &mut self.heard);
        if self.negotiated.direction.sends() {
            self.send(frame, now);
        }
        if self.reports.poll_timeout() <= now {
            self.handle_report(now, false);
        }
        if self.is_silent(now) {
            self.heard.push_back(Heard::Silent);
        }
    }

    fn press(&mut self, key: char, duration_ms: u32) -> bool {
        let key = Key::from_char(key).filter(|_| self.settings.presses);
        let is_pressed = key.is_some_and(|key| self.outward.sender.press(Stroke::Key(key), duration_ms));
        // The trunk has not said it, and it waits among those that it has.
        self.ear.typed(usize::from(is_pressed));
        is_pressed
    }

    fn sockets(&self) -> [Option<BorrowedFd<'_>>; SOCKETS] {
        [Some(self.pair.rtp.as_fd()), Some(self.pair.rtcp.as_fd())]
    }

    fn receive(&mut self, socket: usize, now: Instant) {
        let mut bytes = [0; MESSAGE_BYTES];
        self.more[socket] = true;
        for _ in 0..MOST_AT_ONCE {
            let source = if socket == RTP { &self.pair.rtp } else { &self.pair.rtcp };
            match source.recv_from(&mut bytes) {
                Ok((length, from)) => self.handle(socket, &bytes[..length], from, now),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::debug!(%error, "receiving RTP failed");
                    }
                    self.more[socket] = false;
                    return;
                }
            }
        }
    }

    fn poll_heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn line(&self) -> Option<Line> {
        let receiver = &self.inward.receiver;
        let (totals, (late, spoiled)) = (receiver.totals(), self.inward.late_and_spoiled());
        let (packets_sent, bytes_sent) = self.outward.sender.sent();
        Some(Line {
            codec: self.negotiated.codec.as_str(),
            packets_received: totals.packets,
            packets_sent: packets_sent.into(),
            bytes_received: receiver.octets(),
            bytes_sent: bytes_sent.into(),
            packets_lost: totals.lost,
            packets_late: late,
            packets_refused: self.latch.refused() + self.spoiled + spoiled + receiver.wrong_type(),
            jitter_ms: receiver.worst_jitter_ms(),
            round_trip_ms: self.reports.round_trip().map(|trip| trip.as_secs_f64() * 1000.0),
            far_packets_lost: self.reports.told().map(|told| told.lost.max(0) as u64),
            mos: self.mos(),
        })
    }
}

impl Drop for RtpLeg {
    fn drop(&mut self) {
        self.handle_report(Instant::now(), true);
        if self.unsent > 0 {
            tracing::debug!(packets = self.unsent, "packets of a call were not sent");
        }
    }
}

/// How long nothing has come.
struct Silence {
    /// Since then the far end is expected to speak.
    since: Instant,
    last: Option<Instant>,
    told: bool,
}

impl Silence {
    fn new(now: Instant) -> Self {
        Self { since: now, last: None, told: false }
    }

    fn heard(&mut self, now: Instant) {
        (self.last, self.told) = (Some(now), false);
    }

    /// After a hold, or a move, its patience begins anew.
    fn restart(&mut self, now: Instant) {
        (self.since, self.told) = (now, false);
    }

    fn is_over(&self, settings: &Settings, now: Instant) -> bool {
        let limit = if self.last.is_some() { settings.not_heard } else { settings.never_heard };
        let since = self.last.map_or(self.since, |last| last.max(self.since));
        !self.told && limit.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
    }

    /// Once is enough.
    fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }
}

fn discard(socket: &UdpSocket) {
    let mut bytes = [0; 1];
    for _ in 0..MOST_EARLY {
        if socket.recv_from(&mut bytes).is_err() {
            return;
        }
    }
}
