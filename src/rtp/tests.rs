//! Receiver, sender and reports against each other, and against crates that read and write RTP and RTCP on their own.
#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::dtmf::{Event, Key, Press, Stroke};
use super::report::{INTERVAL, Reports, ntp};
use super::rtcp::{self, ReportBlock, Rtcp, SenderInfo};
use super::{Header, Outgoing, Packet, Received, Receiver, Sender, Stream};

const MS: Duration = Duration::from_millis(1);
const TICK: Duration = Duration::from_millis(20);
const PCMU_OUT: Outgoing = Outgoing {
    payload_type: 0,
    clock: 8000,
    events: Some((101, 8000)),
    keys: 0xffff,
    packet_ms: 20,
    bytes_per_ms: Some(8),
};
const OPUS_OUT: Outgoing = Outgoing {
    payload_type: 96,
    clock: 48_000,
    events: Some((97, 48_000)),
    keys: 0xffff,
    packet_ms: 20,
    bytes_per_ms: None,
};

fn pcmu() -> Stream {
    Stream { types: vec![(0, 8000)], events: Some((101, 8000)), noise: Some(13) }
}

fn packet(payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header { marker: false, payload_type, sequence, timestamp, ssrc: 7 }.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn handle<'a>(receiver: &mut Receiver, bytes: &'a [u8], now: Instant) -> Option<Received<'a>> {
    receiver.handle(&Packet::parse(bytes).unwrap(), now, |_| ())
}

/// Ticks a sender and gives what it sent as header and payload.
fn tick(sender: &mut Sender, frame: &[u8], at: Instant) -> Vec<(Header, Vec<u8>)> {
    let mut sent = Vec::new();
    sender.tick(frame, 20, at, |bytes| {
        let packet = Packet::parse(bytes).unwrap();
        sent.push((packet.header, packet.payload.to_vec()));
    });
    sent
}

#[test]
fn payloads_come_out_numbered_and_late_ones_too() {
    let now = Instant::now();
    let mut receiver = Receiver::new(pcmu(), now);
    let bytes = packet(0, 65_535, u32::MAX - 159, &[1]);
    let first = handle(&mut receiver, &bytes, now).unwrap();
    let begin = first.audio.unwrap();
    assert_eq!((first.number, begin.payload, first.begins), (65_535, &[1][..], true));
    let bytes = packet(0, 1, 160, &[3]);
    let third = handle(&mut receiver, &bytes, now).unwrap();
    let after = |received: Received<'_>| received.audio.unwrap().timestamp - begin.timestamp;
    assert_eq!((third.number, after(third), third.begins), (65_537, 320, false));
    let bytes = packet(0, 0, 0, &[2]);
    let second = handle(&mut receiver, &bytes, now).unwrap();
    assert_eq!((second.number, after(second)), (65_536, 160));
    assert_eq!(handle(&mut receiver, &bytes, now), None, "twice");
    assert_eq!((receiver.totals().packets, receiver.totals().lost), (3, 0));
}

#[test]
fn types_that_nobody_agreed_on_are_refused_and_counted() {
    let now = Instant::now();
    let mut receiver = Receiver::new(pcmu(), now);
    assert_eq!(handle(&mut receiver, &packet(8, 1, 0, &[0; 160]), now), None);
    assert_eq!(handle(&mut receiver, &packet(14, 2, 0, &[0]), now), None);
    assert_eq!((receiver.wrong_type(), receiver.ssrc(), receiver.totals().packets), (2, None, 0));
    receiver.set_stream(Stream { types: vec![(8, 8000), (96, 48_000)], ..pcmu() });
    let (first, second) = (packet(8, 3, 0, &[0; 160]), packet(96, 4, 7, &[0; 9]));
    assert!(handle(&mut receiver, &first, now).is_some_and(|received| received.begins));
    let received = handle(&mut receiver, &second, now).unwrap();
    assert_eq!((received.audio.unwrap().payload_type, received.begins), (96, true), "timestamps of another clock");
}

#[test]
fn comfort_noise_has_its_place_and_is_no_audio() {
    let now = Instant::now();
    let mut receiver = Receiver::new(pcmu(), now);
    let (said, noise, later) = (packet(0, 1, 0, &[0; 160]), packet(13, 2, 160, &[64]), packet(0, 3, 4000, &[0; 160]));
    let timestamp = |received: Option<Received<'_>>| received.unwrap().audio.map(|audio| audio.timestamp);
    let begun = timestamp(handle(&mut receiver, &said, now)).unwrap();
    assert_eq!(timestamp(handle(&mut receiver, &noise, now)), None);
    assert_eq!(timestamp(handle(&mut receiver, &later, now)), Some(begun + 4000));
    assert_eq!((receiver.totals().packets, receiver.totals().lost, receiver.wrong_type()), (3, 0, 0));
    // Beside Opus it is nobody's: its clock is 8000 Hz.
    receiver.set_stream(Stream { noise: None, ..pcmu() });
    assert_eq!((handle(&mut receiver, &packet(13, 4, 4160, &[64]), now), receiver.wrong_type()), (None, 1));
}

#[test]
fn events_are_split_off_and_count_as_packets() {
    let (now, mut heard) = (Instant::now(), Vec::new());
    let mut receiver = Receiver::new(pcmu(), now);
    let event = Event { code: 4, end: true, volume: 10, duration: 800 };
    for sequence in 10..13 {
        let bytes = packet(101, sequence, 4000, &event.bytes());
        let packet = Packet::parse(&bytes).unwrap();
        let received = receiver.handle(&packet, now, |press| heard.push(press)).unwrap();
        assert_eq!((received.number, received.begins, received.audio), (u64::from(sequence), sequence == 10, None));
    }
    let key = Key::from_char('4').unwrap();
    assert_eq!(heard, [Press { key, ended: None }, Press { key, ended: Some(100) }]);
    assert_eq!((receiver.totals().packets, receiver.jitter()), (3, 0));
}

#[test]
fn another_ssrc_begins_a_stream_and_totals_go_on() {
    let now = Instant::now();
    let mut receiver = Receiver::new(pcmu(), now);
    for sequence in [1, 2, 5] {
        handle(&mut receiver, &packet(0, sequence, u32::from(sequence) * 160, &[0; 160]), now);
    }
    let mut bytes = packet(0, 60_000, 5, &[9]);
    bytes[11] = 8;
    let received = handle(&mut receiver, &bytes, now).unwrap();
    assert!(received.begins);
    let totals = receiver.totals();
    assert_eq!((totals.packets, totals.expected, totals.lost, totals.gaps), (4, 6, 2, 1));
    assert_eq!(receiver.ssrc(), Some(8));
    assert_eq!(receiver.report(None).unwrap().lost, 0, "of this source");
}

#[test]
fn a_sender_that_begins_anew_with_its_ssrc_says_so() {
    let now = Instant::now();
    let mut receiver = Receiver::new(pcmu(), now);
    for sequence in [100, 101, 103] {
        handle(&mut receiver, &packet(0, sequence, 0, &[0]), now);
    }
    assert_eq!(handle(&mut receiver, &packet(0, 30_000, 77, &[0]), now), None);
    let bytes = packet(0, 30_001, 237, &[0]);
    assert!(handle(&mut receiver, &bytes, now).unwrap().begins);
    let totals = receiver.totals();
    assert_eq!((totals.packets, totals.expected, totals.lost, totals.gaps), (4, 5, 1, 1), "the leg's go on");
    assert_eq!(receiver.report(None).unwrap().lost, 0, "of this stretch");
}

#[test]
fn keys_of_a_sender_that_begins_anew_with_its_ssrc_are_heard() {
    let (now, mut heard) = (Instant::now(), Vec::new());
    let mut receiver = Receiver::new(pcmu(), now);
    let mut press = |sequence, timestamp, code| {
        let bytes = packet(101, sequence, timestamp, &Event { code, end: true, volume: 10, duration: 800 }.bytes());
        receiver.handle(&Packet::parse(&bytes).unwrap(), now, |press| {
            heard.extend(press.ended.and(Some(press.key.as_char())))
        });
    };
    press(100, 4_000_000, 1);
    // Two in a row are believed.
    (30_000..30_003).for_each(|sequence| press(sequence, 1600, 2));
    press(30_003, 3200, 3);
    assert_eq!(heard, ['1', '2', '3']);
}

#[test]
fn jitter_as_rfc_3550_a_8_counts_it() {
    let start = Instant::now();
    let mut receiver = Receiver::new(pcmu(), start);
    // In time: none.
    for n in 0..10u16 {
        handle(&mut receiver, &packet(0, n, u32::from(n) * 160, &[0; 160]), start + TICK * u32::from(n));
    }
    assert_eq!(receiver.jitter(), 0);
    // One packet 16 ms late: 128 units, of which a sixteenth counts; the next one in time counts as much again.
    handle(&mut receiver, &packet(0, 10, 1600, &[0; 160]), start + TICK * 10 + MS * 16);
    assert_eq!(receiver.jitter(), 8);
    handle(&mut receiver, &packet(0, 11, 1760, &[0; 160]), start + TICK * 11);
    assert_eq!((receiver.jitter(), receiver.jitter_ms()), (15, 1.875));
    // Always 10 ms early or late: the difference is 160 units each time, and so is the jitter in the end.
    for n in 12..200u16 {
        let late = MS * u32::from(n % 2 * 20);
        handle(&mut receiver, &packet(0, n, u32::from(n) * 160, &[0; 160]), start + TICK * u32::from(n) + late);
    }
    assert!((158..=160).contains(&receiver.jitter()), "{}", receiver.jitter());
    assert_eq!(receiver.report(None).unwrap().jitter, receiver.jitter());
}

/// A peer that joins another call into this one goes on with that one's timestamps.
#[test]
fn a_clock_that_jumps_is_no_jitter_and_a_late_packet_is() {
    for jump in [400u32 * 8, 0x5000_0000, 0u32.wrapping_sub(9000 * 8)] {
        let start = Instant::now();
        let mut receiver = Receiver::new(pcmu(), start);
        for n in 0..20u16 {
            let timestamp = (u32::from(n) * 160).wrapping_add(if n >= 10 { jump } else { 0 });
            handle(&mut receiver, &packet(0, n, timestamp, &[0; 160]), start + TICK * u32::from(n));
        }
        assert_eq!((receiver.jitter(), receiver.worst_jitter_ms()), (0, 0.0), "{jump:x}");
    }
    // Silence that is not sent is a step of both clocks; what was held up for two seconds is jitter.
    let start = Instant::now();
    let mut receiver = Receiver::new(pcmu(), start);
    handle(&mut receiver, &packet(0, 0, 0, &[0; 160]), start);
    handle(&mut receiver, &packet(0, 1, 40_000, &[0; 160]), start + MS * 5000);
    assert_eq!(receiver.jitter(), 0);
    handle(&mut receiver, &packet(0, 2, 40_160, &[0; 160]), start + MS * 7020);
    assert_eq!(receiver.jitter(), 16_000 / 16);
}

#[test]
fn sequence_and_timestamp_go_on_and_only_the_first_packet_is_marked() {
    let (mut sender, start) = (Sender::new(PCMU_OUT, 0x1234_5678_9abc_def0), Instant::now());
    let sent: Vec<_> = (0..5).flat_map(|n| tick(&mut sender, &[n as u8; 160], start + TICK * n)).collect();
    assert_eq!(sent.iter().map(|(header, _)| header.marker).collect::<Vec<_>>(), [true, false, false, false, false]);
    for pair in sent.windows(2) {
        assert_eq!(pair[1].0.sequence, pair[0].0.sequence.wrapping_add(1));
        assert_eq!(pair[1].0.timestamp, pair[0].0.timestamp.wrapping_add(160));
        assert_eq!(pair[1].0.ssrc, sender.ssrc());
    }
    assert_eq!(sender.sent(), (5, 800));
}

#[test]
fn packets_are_as_long_as_the_peer_wants_them() {
    for (packet_ms, packets) in [(10u8, 60), (20, 30), (30, 20), (40, 15), (60, 10)] {
        let outgoing = Outgoing { packet_ms, ..PCMU_OUT };
        let (mut sender, start) = (Sender::new(outgoing, 9), Instant::now());
        let frame = |n: u32| -> Vec<u8> { (0..160).map(|byte| (n * 160 + byte) as u8).collect() };
        let sent: Vec<_> = (0..30).flat_map(|n| tick(&mut sender, &frame(n), start + TICK * n)).collect();
        assert_eq!(sent.len(), packets, "{packet_ms} ms");
        let step = u32::from(packet_ms) * 8;
        assert!(sent.windows(2).all(|pair| pair[1].0.timestamp == pair[0].0.timestamp.wrapping_add(step)));
        let bytes: Vec<u8> = sent.iter().flat_map(|(_, payload)| payload.clone()).collect();
        assert_eq!(bytes, (0..4800u32).map(|byte| byte as u8).collect::<Vec<_>>());
    }
    let (mut sender, start) = (Sender::new(Outgoing { packet_ms: 60, ..OPUS_OUT }, 9), Instant::now());
    let sent: Vec<_> = (0..3).flat_map(|n| tick(&mut sender, &[1, 2, 3], start + TICK * n)).collect();
    assert_eq!((sent.len(), sent[2].0.timestamp.wrapping_sub(sent[0].0.timestamp)), (3, 1920), "Opus is not cut");
}

#[test]
fn time_in_which_nothing_was_sent_is_a_step_of_the_timestamp_and_a_marker() {
    let (mut sender, start) = (Sender::new(PCMU_OUT, 1), Instant::now());
    let first = tick(&mut sender, &[0; 160], start).remove(0).0;
    let second = tick(&mut sender, &[0; 160], start + TICK * 51).remove(0).0;
    assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 51 * 160);
    assert_eq!((second.sequence, second.marker), (first.sequence.wrapping_add(1), true));
}

#[test]
fn keys_take_the_place_of_audio_and_time_goes_on() {
    for (outgoing, clock) in [(PCMU_OUT, 8u32), (OPUS_OUT, 48)] {
        let (mut sender, start) = (Sender::new(outgoing, 1), Instant::now());
        let first = tick(&mut sender, &[0; 160], start).remove(0).0;
        assert!(sender.press(Stroke::Key(Key::from_char('1').unwrap()), 100));
        let mut sent: Vec<_> = (1..12).flat_map(|n| tick(&mut sender, &[0; 160], start + TICK * n)).collect();
        let events: Vec<_> = sent.extract_if(.., |(header, _)| header.payload_type != outgoing.payload_type).collect();
        assert_eq!(events.len(), 5 + 2);
        assert!(events.iter().all(|(header, _)| header.timestamp == first.timestamp.wrapping_add(20 * clock)));
        assert_eq!(events.iter().filter(|(header, _)| header.marker).count(), 1);
        assert_eq!(Event::parse(&events[6].1).unwrap().duration as u32, 100 * clock);
        let next = sent[0].0;
        assert_eq!(next.timestamp.wrapping_sub(first.timestamp), 20 * clock * (1 + 7));
        assert_eq!((next.marker, next.sequence.wrapping_sub(first.sequence)), (true, 8));
    }
    let mut deaf = Sender::new(Outgoing { events: None, ..PCMU_OUT }, 1);
    assert!(!deaf.press(Stroke::Key(Key::from_char('1').unwrap()), 100), "the peer takes none");
}

/// As whoever joins frames himself does it: what he holds back goes ahead of a key, and of time in which nothing was sent.
#[test]
fn a_tick_in_steps_is_a_tick() {
    let start = Instant::now();
    let (mut whole, mut stepped) = (Sender::new(OPUS_OUT, 3), Sender::new(OPUS_OUT, 3));
    let mut broken_off = Vec::new();
    for n in (0..4).chain(20..40) {
        if n == 22 {
            for sender in [&mut whole, &mut stepped] {
                assert!(sender.press(Stroke::Key(Key::from_char('1').unwrap()), 60));
            }
        }
        let (at, mut sent) = (start + TICK * n, Vec::new());
        if stepped.breaks_off(20, at) {
            broken_off.push(n);
        }
        let mut send = |bytes: &[u8]| {
            let packet = Packet::parse(bytes).unwrap();
            sent.push((packet.header, packet.payload.to_vec()));
        };
        if stepped.begin(20, at, &mut send) {
            stepped.say(&[n as u8], 20, &mut send);
        }
        assert_eq!(sent, tick(&mut whole, &[n as u8], at), "tick {n}");
    }
    assert_eq!(broken_off, [20, 22, 23, 24, 25, 26]);
    // Packets that are longer or shorter than a tick.
    let (mut sender, mut stamps) = (Sender::new(OPUS_OUT, 3), Vec::new());
    for ms in [60, 10, 20] {
        sender.say(&[1], ms, |bytes| stamps.push(Packet::parse(bytes).unwrap().header.timestamp));
    }
    assert_eq!([stamps[1].wrapping_sub(stamps[0]), stamps[2].wrapping_sub(stamps[1])], [2880, 480]);
}

#[test]
fn keys_that_wait_are_not_pressed_for_who_takes_events_no_more_and_then_again() {
    let (mut sender, start) = (Sender::new(PCMU_OUT, 1), Instant::now());
    (0..3).for_each(|_| assert!(sender.press(Stroke::Key(Key::from_char('1').unwrap()), 100)));
    tick(&mut sender, &[0; 160], start);
    sender.set_outgoing(Outgoing { events: None, ..PCMU_OUT });
    assert_eq!((sender.strokes_waiting(), sender.has_keys()), (0, false));
    sender.set_outgoing(PCMU_OUT);
    let sent: Vec<_> = (1..30).flat_map(|n| tick(&mut sender, &[0; 160], start + TICK * n)).collect();
    assert!(sent.len() == 29 && sent.iter().all(|(header, _)| header.payload_type == 0), "audio alone");
}

/// RFC 4733 §2.4.1: an event that the peer has not named is not sent.
#[test]
fn keys_that_the_peer_does_not_name_are_not_pressed() {
    let digits = Outgoing { keys: 0x0fff, ..PCMU_OUT };
    let (mut sender, start) = (Sender::new(digits, 1), Instant::now());
    let stroke = |letter| Stroke::Key(Key::from_char(letter).unwrap());
    assert_eq!("0#AD".chars().map(|key| sender.press(stroke(key), 40)).collect::<Vec<_>>(), [true, true, false, false]);
    assert!(sender.press(Stroke::Pause { ms: 20 }, 40));
    // They were named when they were typed, and are not when their turn comes.
    let mut sender = Sender::new(PCMU_OUT, 1);
    "A1B".chars().for_each(|key| assert!(sender.press(stroke(key), 40)));
    sender.set_outgoing(digits);
    assert_eq!(sender.strokes_waiting(), 1);
    let sent: Vec<_> = (0..20).flat_map(|n| tick(&mut sender, &[0; 160], start + TICK * n)).collect();
    let events = sent.iter().filter(|(header, _)| header.payload_type == 101);
    let codes: Vec<_> = events.map(|(_, payload)| Event::parse(payload).unwrap().code).collect();
    assert_eq!(codes, [1; 4]);
}

#[test]
fn another_codec_goes_on_in_the_sequence() {
    let (mut sender, start) = (Sender::new(Outgoing { packet_ms: 30, ..PCMU_OUT }, 5), Instant::now());
    assert_eq!(tick(&mut sender, &[0; 160], start), []);
    sender.set_outgoing(OPUS_OUT);
    let (header, payload) = tick(&mut sender, &[7, 7], start + TICK).remove(0);
    assert_eq!((header.payload_type, header.marker, &payload[..]), (96, true, &[7, 7][..]));
}

/// RFC 3550 §6.4.1, figure 2, with its own numbers: 6.125 s there and back.
#[test]
fn the_round_trip_of_the_rfcs_example() {
    let now = Instant::now();
    let block = ReportBlock { ssrc: 7, last_sr: 0xb705_2000, delay_since_last_sr: 0x0005_4000, ..Default::default() };
    let mut bytes = Vec::new();
    rtcp::write_report(1, None, Some(&block), &mut bytes);
    let mut reports = Reports::new(7, "us".into(), now);
    reports.handle(&bytes, None, now, 0xb710_8000 << 16).unwrap();
    assert_eq!(reports.round_trip(), Some(Duration::from_millis(6125)));
    assert_eq!(reports.told(), Some(&block));
    // A block on somebody else, and one of a clock that can't be.
    let stranger = ReportBlock { ssrc: 8, ..block };
    bytes.clear();
    rtcp::write_report(1, None, Some(&stranger), &mut bytes);
    reports.handle(&bytes, None, now, 0).unwrap();
    assert_eq!((reports.round_trip(), reports.counts()), (Some(Duration::from_millis(6125)), (2, 0)));
    assert!(reports.handle(&[1, 2, 3], None, now, 0).is_err());
    assert_eq!(reports.counts(), (2, 1));
}

/// Two legs over a path of 30 ms each way, 10 % lost one way.
#[test]
fn two_ends_tell_each_other_loss_and_round_trip() {
    let start = Instant::now();
    let unix = Duration::from_secs(1_700_000_000);
    let clock = |now: Instant| ntp(unix + now.saturating_duration_since(start));
    let (mut ours, mut theirs) = (Sender::new(PCMU_OUT, 77), Sender::new(PCMU_OUT, 78));
    let (mut our_ear, mut their_ear) = (Receiver::new(pcmu(), start), Receiver::new(pcmu(), start));
    let mut our_reports = Reports::new(ours.ssrc(), "a".into(), start);
    let mut their_reports = Reports::new(theirs.ssrc(), "b".into(), start);
    let (path, mut on_their_way) = (MS * 30, VecDeque::new());
    for n in 0..1500u32 {
        let now = start + TICK * n;
        ours.tick(&[0; 160], 20, now, |bytes| {
            if n % 10 != 9 {
                handle(&mut their_ear, bytes, now + path);
            }
        });
        theirs.tick(&[0; 160], 20, now, |bytes| assert!(handle(&mut our_ear, bytes, now + path).is_some()));
        let due = |(at, _, _): &mut (Instant, bool, Vec<u8>)| *at <= now;
        while let Some((at, is_ours, bytes)) = on_their_way.pop_front_if(due) {
            match is_ours {
                true => their_reports.handle(&bytes, their_ear.ssrc(), at, clock(at)).unwrap(),
                false => our_reports.handle(&bytes, our_ear.ssrc(), at, clock(at)).unwrap(),
            }
        }
        let mut bytes = Vec::new();
        if our_reports.poll_timeout() <= now {
            our_reports.write(&mut our_ear, &mut ours, (now, clock(now)), &mut bytes);
            on_their_way.push_back((now + path, true, std::mem::take(&mut bytes)));
        }
        if their_reports.poll_timeout() <= now {
            their_reports.write(&mut their_ear, &mut theirs, (now, clock(now)), &mut bytes);
            on_their_way.push_back((now + path, false, bytes));
        }
    }
    for reports in [&our_reports, &their_reports] {
        let trip = reports.round_trip().unwrap().as_millis();
        assert!((59..=61).contains(&trip), "{trip} ms");
    }
    let told = our_reports.told().unwrap();
    assert!((24..=26).contains(&told.fraction_lost), "{} of 256", told.fraction_lost);
    assert!((120..=150).contains(&told.lost), "{}", told.lost);
    assert_eq!(their_reports.told().unwrap().lost, 0);
    assert!(our_reports.poll_timeout() > start + TICK * 1500 - INTERVAL);
}

#[test]
fn a_leg_that_never_sent_is_a_receiver_and_its_end_a_bye() {
    let now = Instant::now();
    let (mut sender, mut receiver) = (Sender::new(PCMU_OUT, 3), Receiver::new(pcmu(), now));
    let mut reports = Reports::new(sender.ssrc(), "c".into(), now);
    let mut bytes = Vec::new();
    reports.write_bye(&mut receiver, &mut sender, (now, 1), &mut bytes);
    let (mut kinds, ssrc) = (Vec::new(), sender.ssrc());
    rtcp::parse(&bytes, |packet| {
        kinds.push(match packet {
            Rtcp::Report { sender: None, ssrc: of, blocks } => (1, of, blocks.iter().count()),
            Rtcp::Cname { ssrc: of, cname } => (2, of, cname.len()),
            Rtcp::Bye { ssrc: of } => (3, of, 0),
            other => panic!("{other:?}"),
        });
    })
    .unwrap();
    assert_eq!(kinds, [(1, ssrc, 0), (2, ssrc, 1), (3, ssrc, 0)]);
}

proptest! {
    #[test]
    fn rtp_is_read_and_written_as_another_crate_does(
        marker: bool, payload_type in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32,
        csrcs in proptest::collection::vec(any::<u32>(), 0..15),
        extension in proptest::option::of((any::<u16>(), 0usize..20)),
        payload in proptest::collection::vec(any::<u8>(), 0..500),
        padding in 0u8..40,
    ) {
        let extension = extension.map(|(profile, words)| (profile, vec![0x5a; words * 4]));
        let mut builder = rtp_types::RtpPacketBuilder::<&[u8], &[u8]>::new()
            .marker_bit(marker).payload_type(payload_type).sequence_number(sequence).timestamp(timestamp).ssrc(ssrc)
            .payload(&payload[..]);
        if padding > 0 {
            builder = builder.padding(padding);
        }
        for csrc in &csrcs {
            builder = builder.add_csrc(*csrc);
        }
        if let Some((profile, bytes)) = &extension {
            builder = builder.extension(*profile, &bytes[..]);
        }
        let bytes = builder.write(&mut rtp_types::RtpPacketWriterVec::default()).unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.header, Header { marker, payload_type, sequence, timestamp, ssrc });
        prop_assert_eq!(packet.csrcs().collect::<Vec<_>>(), csrcs);
        prop_assert_eq!(packet.extension.map(|found| (found.profile, found.bytes.to_vec())), extension);
        prop_assert_eq!((packet.payload, packet.padding), (&payload[..], padding));
        let mut again = Vec::new();
        packet.write(&mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn what_one_reader_of_rtp_takes_the_other_takes(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let theirs = rtp_types::RtpPacket::parse(&bytes);
        match Packet::parse(&bytes) {
            Ok(ours) => {
                let theirs = theirs.unwrap();
                prop_assert_eq!(ours.payload, theirs.payload());
            }
            Err(_) => prop_assert!(theirs.is_err()),
        }
    }

    #[test]
    fn rtcp_is_read_by_another_crate(
        ssrc: u32, of: u32, ntp: u64, words: [u32; 6], lost in -0x80_0000i32..0x7f_ffff, fraction_lost: u8,
        cname in "[a-z@.]{1,40}",
    ) {
        let [rtp_timestamp, packets, octets, highest_sequence, jitter, last_sr] = words;
        let info = SenderInfo { ntp, rtp_timestamp, packets, octets };
        let block =
            ReportBlock { ssrc: of, fraction_lost, lost, highest_sequence, jitter, last_sr, delay_since_last_sr: 5 };
        let mut bytes = Vec::new();
        rtcp::write_report(ssrc, Some(&info), Some(&block), &mut bytes);
        rtcp::write_cname(ssrc, cname.as_bytes(), &mut bytes);
        rtcp::write_bye(ssrc, &mut bytes);
        let mut kinds = 0;
        for packet in rtcp_types::Compound::parse(&bytes).unwrap() {
            match packet.unwrap() {
                rtcp_types::Packet::Sr(sr) => {
                    let found = (sr.ssrc(), sr.ntp_timestamp(), sr.rtp_timestamp(), sr.packet_count(), sr.octet_count());
                    prop_assert_eq!(found, (ssrc, ntp, rtp_timestamp, packets, octets));
                    let theirs = sr.report_blocks().next().unwrap();
                    let found = (theirs.ssrc(), theirs.fraction_lost(), theirs.cumulative_lost());
                    prop_assert_eq!(found, (of, fraction_lost, lost as u32 & 0xff_ffff));
                    let found = (theirs.extended_sequence_number(), theirs.interarrival_jitter());
                    prop_assert_eq!(found, (highest_sequence, jitter));
                }
                rtcp_types::Packet::Sdes(sdes) => {
                    let chunk = sdes.chunks().next().unwrap();
                    prop_assert_eq!(chunk.ssrc(), ssrc);
                    prop_assert_eq!(chunk.items().next().unwrap().value(), cname.as_bytes());
                }
                rtcp_types::Packet::Bye(bye) => prop_assert_eq!(bye.ssrcs().next(), Some(ssrc)),
                other => prop_assert!(false, "{:?}", other),
            }
            kinds += 1;
        }
        prop_assert_eq!(kinds, 3);
    }
}
