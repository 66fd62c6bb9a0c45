//! RTP, RTCP and telephone events: what anybody may send to a port of a call.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Choices;
use crate::jitter::{Buffer, Pulled, Rules};
use crate::rtp::dtmf::{Event, Key, Listener};
use crate::rtp::framing::Framer;
use crate::rtp::report::Reports;
use crate::rtp::rtcp;
use crate::rtp::{Header, Outgoing, Packet, Receiver, Sender, Stream};

const PLACES: usize = 8;
const FRAME: usize = 160;

fn stream() -> Stream {
    Stream { types: vec![(0, 8000), (8, 8000), (96, 48_000)], events: Some((101, 8000)), noise: Some(13) }
}

/// Datagrams behind each other, each with its length before it, into one leg's chain.
pub(super) fn rtp(data: &[u8]) {
    let mut choices = Choices(data);
    let wait = Duration::from_millis(u64::from(choices.byte() % 64));
    let mut now = Instant::now();
    let mut receiver = Receiver::new(stream(), now);
    let mut buffer = Buffer::new(Rules { wait, capacity: PLACES });
    let mut framer = Framer::new(FRAME, 0xff);
    let mut next = None;
    while !choices.0.is_empty() {
        now += Duration::from_millis(u64::from(choices.byte()));
        let length = usize::from(choices.byte()).min(choices.0.len());
        let (datagram, rest) = choices.0.split_at(length);
        choices.0 = rest;
        let Ok(packet) = Packet::parse(datagram) else { continue };
        let mut written = Vec::new();
        packet.write(&mut written);
        assert_eq!(Packet::parse(&written), Ok(packet), "what was read is written as it was");
        let Some(received) = receiver.handle(&packet, now, |_| ()) else { continue };
        if received.begins {
            buffer.clear();
            framer.clear();
            next = None;
        }
        let (timestamp, payload) = received.audio.map_or((0, &[][..]), |audio| (audio.timestamp, audio.payload));
        buffer.insert(received.number, timestamp, Bytes::copy_from_slice(payload), now);
        while let Some(pulled) = buffer.pull(now) {
            let (first, count) = match pulled {
                Pulled::Item { number, timestamp, item } => {
                    framer.push(item, timestamp, |_, frame| assert_eq!(frame.len(), FRAME));
                    (number, 1)
                }
                Pulled::Missing { first, count } => (first, count),
            };
            assert!(next.is_none_or(|next| next == first), "in order, and nothing unsaid");
            next = Some(first + count);
        }
        assert!(buffer.len() <= PLACES);
    }
    let totals = receiver.totals();
    assert!(totals.packets <= totals.expected);
}

fn packet(payload_type: u8, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let timestamp = u32::from(sequence) * 160;
    Header { marker: sequence == 0, payload_type, sequence, timestamp, ssrc: 7 }.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn joined(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let mut seed = vec![20];
    for datagram in datagrams {
        seed.extend_from_slice(&[20, datagram.len() as u8]);
        seed.extend_from_slice(datagram);
    }
    seed
}

pub(super) fn rtp_seeds() -> Vec<Vec<u8>> {
    let speech: Vec<_> = [0, 1, 3, 2, 9, 40_000, 40_001].map(|n| packet(0, n, &[0x7f; 160])).into();
    let uneven: Vec<_> = (0..6).map(|n| packet(0, n, &[0x55; 80])).collect();
    let event = Event { code: 5, end: true, volume: 10, duration: 800 };
    let full =
        [0xb1, 0x00, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 1, 2, 3, 4, 0xbe, 0xde, 0, 1, 9, 9, 9, 9, 0xd5, 0xd5, 0, 0, 3];
    vec![joined(&speech), joined(&uneven), joined(&[packet(101, 1, &event.bytes()), full.to_vec()])]
}

/// A compound packet: reports may be made of it, and what is understood is written as it was read.
pub(super) fn rtcp(data: &[u8]) {
    let mut written = Vec::new();
    let mut blocks_seen = Vec::new();
    let parsed = rtcp::parse(data, |packet| match packet {
        rtcp::Rtcp::Report { ssrc, sender, blocks } => {
            let block = blocks.iter().next();
            blocks_seen.extend(block);
            rtcp::write_report(ssrc, sender.as_ref(), block.as_ref(), &mut written);
        }
        rtcp::Rtcp::Cname { ssrc, cname } => rtcp::write_cname(ssrc, cname, &mut written),
        rtcp::Rtcp::Bye { ssrc } => rtcp::write_bye(ssrc, &mut written),
    });
    let now = Instant::now();
    let outgoing =
        Outgoing { payload_type: 0, clock: 8000, events: None, keys: 0, packet_ms: 20, bytes_per_ms: Some(8) };
    let ssrc = blocks_seen.first().map_or(1, |block| block.ssrc);
    let mut reports = Reports::new(ssrc, "fuzz".to_owned(), now);
    assert_eq!(reports.handle(data, None, now, u64::MAX).is_ok(), parsed.is_ok());
    let (mut sender, mut receiver) = (Sender::new(outgoing, 1), Receiver::new(stream(), now));
    let mut report = Vec::new();
    reports.write(&mut receiver, &mut sender, (now, 0), &mut report);
    assert!(rtcp::parse(&report, |_| ()).is_ok());
    if !written.is_empty() {
        let (mut again, mut blocks) = (0, Vec::new());
        let reread = rtcp::parse(&written, |packet| {
            again += 1;
            if let rtcp::Rtcp::Report { blocks: found, .. } = packet {
                blocks.extend(found.iter());
            }
        });
        assert!(reread.is_ok() && again > 0);
        assert_eq!(blocks, blocks_seen);
    }
}

pub(super) fn rtcp_seeds() -> Vec<Vec<u8>> {
    let block = rtcp::ReportBlock { ssrc: 1, fraction_lost: 9, lost: -3, last_sr: 5, ..Default::default() };
    let info = rtcp::SenderInfo { ntp: 1 << 40, rtp_timestamp: 160, packets: 3, octets: 480 };
    let (mut full, mut empty) = (Vec::new(), Vec::new());
    rtcp::write_report(2, Some(&info), Some(&block), &mut full);
    rtcp::write_cname(2, b"someone@192.0.2.1", &mut full);
    rtcp::write_bye(2, &mut full);
    rtcp::write_report(2, None, None, &mut empty);
    vec![full, empty, vec![0xa1, 201, 0, 8, 0, 0, 0, 1]]
}

/// Events with their timestamps: every press that begins ends, once, and nothing else is told.
pub(super) fn dtmf(data: &[u8]) {
    let mut choices = Choices(data);
    let clock = [8000, 48_000][usize::from(choices.byte() & 1)];
    let (mut listener, mut now) = (Listener::new(clock), Instant::now());
    let mut held: Option<Key> = None;
    let mut heard = |press: crate::rtp::dtmf::Press| match press.ended {
        None => assert!(held.replace(press.key).is_none(), "one after the other"),
        Some(_) => assert_eq!(held.take(), Some(press.key)),
    };
    while !choices.0.is_empty() {
        now += Duration::from_millis(u64::from(choices.byte()));
        let timestamp = u32::from_be_bytes([choices.byte(), choices.byte(), choices.byte(), choices.byte()]);
        let length = usize::from(choices.byte() % 8).min(choices.0.len());
        let (payload, rest) = choices.0.split_at(length);
        choices.0 = rest;
        if let Some(event) = Event::parse(payload) {
            assert_eq!(Event::parse(&event.bytes()), Some(event));
        }
        listener.handle(timestamp, payload, now, &mut heard);
        listener.handle_timeout(now, &mut heard);
    }
    listener.handle_timeout(now + Duration::from_secs(60), &mut heard);
    assert_eq!(held, None, "what began has ended");
}

pub(super) fn dtmf_seeds() -> Vec<Vec<u8>> {
    let mut seed = vec![0];
    for (timestamp, code, end, duration) in [(160u32, 1u8, false, 160u16), (160, 1, true, 320), (9000, 11, true, 800)] {
        seed.push(20);
        seed.extend_from_slice(&timestamp.to_be_bytes());
        seed.push(4);
        seed.extend_from_slice(&Event { code, end, volume: 10, duration }.bytes());
    }
    vec![seed]
}
