//! What changes while a call is up: codecs, lengths, agreements, clocks.

use super::*;
use crate::audio::Limits;
use crate::sip::OpusWishes;

#[test]
fn no_frame_of_the_old_codec_goes_out_under_the_new_ones_number() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    let old: Frame = vec![0x11; 160].into();
    stage.tick(Some(&old));
    stage.peer.hear();
    stage.line.update(&stage.peer.offers(Codec::Pcma));
    // This one was made before anybody knew.
    assert_eq!(stage.tick(Some(&old)), [Heard::Retuned]);
    let (header, payload) = stage.peer.hear();
    assert_eq!((header.payload_type, payload), (8, vec![0xd5; 160]), "silence in the new codec");
    let new: Frame = vec![0x22; 160].into();
    stage.tick(Some(&new));
    assert_eq!(stage.peer.hear().1, new);
    // The same codec under the same number: nothing is lost.
    stage.line.update(&stage.peer.offers(Codec::Pcma));
    stage.tick(Some(&new));
    assert_eq!(stage.peer.hear().1, new);
}

#[test]
fn of_any_number_of_agreements_the_newest_counts() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    for _ in 0..500 {
        stage.line.update(&stage.peer.offers(Codec::Pcmu));
    }
    let moved = Peer::new();
    stage.line.update(&moved.offers(Codec::Pcma));
    assert_eq!(stage.tick(None), [Heard::Retuned]);
    let (header, payload) = moved.hear();
    assert_eq!((header.payload_type, payload), (8, vec![0xd5; 160]));
    // Keys that were pressed beside them are sent as well.
    stage.line.update(&moved.offers(Codec::Pcma));
    stage.line.press(&crate::rtp::dtmf::strokes("5").unwrap(), 40).unwrap();
    stage.tick(None);
    assert_eq!(moved.hear().0.payload_type, 101);
}

#[test]
fn whoever_changes_codec_and_length_with_each_packet_has_one_recoder_per_codec() {
    let peer = Peer::new();
    let mut negotiated = peer.offers(Codec::Pcmu);
    negotiated.receive_types = vec![(0, Codec::Pcmu), (8, Codec::Pcma), (111, Codec::Opus)];
    let mut stage = Stage::with(peer, negotiated, Settings::default());
    let lengths: Vec<Frame> = [10u8, 20, 40, 60].into_iter().map(|ms| opus(48_000, ms, 1).remove(0)).collect();
    let mut heard = 0;
    for n in 0..200u32 {
        stage.now += TICK;
        heard += stage.say(111, n * 960, &lengths[n as usize % 4]).len();
        heard += stage.say(8, n * 160, &[0xaa; 160]).len();
        heard += stage.say(0, n * 160, &[0x81; 160]).len();
    }
    assert!(heard >= 600, "{heard} frames");
    assert_eq!(stage.leg.codecs_made(), 2, "of PCMA and of Opus");
    assert_eq!(stage.leg.line().unwrap().packets_refused, 0);
}

#[test]
fn opus_of_changing_lengths_lies_right_in_time_and_begins_afresh_behind_a_hole() {
    let mut stage = Stage::new(Codec::Opus, Settings::default());
    let packets = |ms: u8| opus(48_000, ms, 1).remove(0);
    let (forty, ten, twenty) = (packets(40), packets(10), packets(20));
    let at = |heard: &[(Frame, Instant)]| heard.iter().map(|(_, at)| *at).collect::<Vec<_>>();
    let start = stage.now;
    assert_eq!(at(&frames(stage.say(111, 0, &forty))), [start, start + TICK]);
    assert_eq!(frames(stage.say(111, 1920, &ten)), [], "half a frame");
    // The other half never comes.
    stage.peer.sequence = stage.peer.sequence.wrapping_add(1);
    stage.now += TICK * 4;
    assert_eq!(at(&frames(stage.say(111, 3840, &forty))), [start + TICK * 4, start + TICK * 5]);
    let (frame, when) = frames(stage.say(111, 5760, &twenty)).remove(0);
    assert_eq!((frame, when), (twenty, start + TICK * 6), "one of the call's own length is not touched");
    assert_eq!(stage.leg.codecs_made(), 1);
}

/// A process that was stopped, or a machine that slept: what was said meanwhile lies in the socket.
#[test]
fn who_did_not_listen_does_not_take_the_far_end_for_silent() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    stage.say(0, 0, &[1; 160]);
    for n in 1..4u32 {
        let bytes = stage.peer.packet(0, n * 160, &[n as u8; 160]);
        stage.peer.rtp.send_to(&bytes, (HERE, stage.port)).unwrap();
    }
    stage.now += Duration::from_secs(600);
    let heard = frames(stage.tick(None));
    assert_eq!(heard.iter().map(|(frame, _)| frame[0]).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((0..50 * 14).flat_map(|_| stage.tick(None)).count(), 0);
    assert_eq!((0..50 * 2).flat_map(|_| stage.tick(None)).collect::<Vec<_>>(), [Heard::Silent]);
}

#[test]
fn a_far_clock_that_steps_moves_no_frame_away_from_now() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    let mut timestamp = 0u32;
    for n in 0..60u32 {
        stage.now += TICK;
        // An hour ahead, then a day back, then across the wrap.
        timestamp = match n {
            20 => timestamp.wrapping_add(3600 * 8000),
            40 => timestamp.wrapping_sub(24 * 3600 * 8000),
            _ => timestamp.wrapping_add(160),
        };
        let heard = frames(stage.say(0, timestamp, &[n as u8; 160]));
        assert_eq!((heard.len(), heard[0].1), (1, stage.now), "packet {n}");
    }
    let line = stage.leg.line().unwrap();
    assert_eq!((line.packets_lost, line.jitter_ms), (0, 0.0));
}

#[test]
fn what_the_far_end_bears_of_opus_is_known_and_may_change() {
    let peer = Peer::new();
    let wishes = |max_average_bitrate| OpusWishes { max_average_bitrate, constant: true, ..OpusWishes::default() };
    let negotiated = Negotiated { opus: Some(wishes(Some(12_000))), ..peer.offers(Codec::Opus) };
    let mut stage = Stage::with(peer, negotiated.clone(), Settings::default());
    let limits = Limits { bitrate: Some(12_000), constant: true, ..Limits::default() };
    assert_eq!((stage.leg.params(), stage.leg.limits()), (Params::CALL, limits));
    assert_eq!(stage.tick(None), []);
    assert_eq!(stage.peer.hear().1.len(), 30, "silence keeps to it");
    // The same once more is no news; less is, and no frame is lost to it.
    stage.line.update(&negotiated);
    assert_eq!(stage.tick(None), []);
    stage.peer.hear();
    stage.line.update(&Negotiated { opus: Some(wishes(Some(8000))), ..negotiated });
    let packet = opus(48_000, 20, 1).remove(0);
    assert_eq!(stage.tick(Some(&packet)), [Heard::Retuned]);
    assert_eq!((stage.peer.hear().1, stage.leg.limits().bitrate), (packet.to_vec(), Some(8000)));
    stage.tick(None);
    assert_eq!(stage.peer.hear().1.len(), 20);
    stage.line.update(&stage.peer.offers(Codec::Pcmu));
    assert_eq!(stage.tick(None), [Heard::Retuned]);
    assert_eq!(stage.leg.limits(), Limits::default(), "G.711 has none");
}

#[test]
fn keys_that_are_pressed_on_hold_wait_for_its_end() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    let offered = stage.peer.offers(Codec::Pcmu);
    stage.line.update(&Negotiated { direction: Direction::RecvOnly, ..offered.clone() });
    stage.tick(None);
    stage.line.press(&crate::rtp::dtmf::strokes("5").unwrap(), 40).unwrap();
    (0..50).for_each(|_| assert_eq!(stage.tick(None), []));
    assert!(stage.peer.hears_nothing());
    stage.line.update(&offered);
    (0..5).for_each(|_| assert_eq!(stage.tick(None), []));
    let packets: Vec<_> = (0..5).map(|_| stage.peer.hear()).collect();
    let ends =
        packets.iter().filter(|(header, payload)| header.payload_type == 101 && Event::parse(payload).unwrap().end);
    assert_eq!((packets[0].0.payload_type, ends.count(), packets[4].0.payload_type), (101, 3, 0), "once, then audio");
}

/// RFC 7587 §6.1: packets repeat those before for who reads that, and as long as he loses some.
#[test]
fn what_the_far_end_loses_is_told_where_it_reads_what_packets_repeat() {
    let report = |ours: u32, highest_sequence: u32, fraction_lost: u8| {
        let block = rtcp::ReportBlock { ssrc: ours, fraction_lost, highest_sequence, ..Default::default() };
        let mut bytes = Vec::new();
        rtcp::write_report(0x5150, None, Some(&block), &mut bytes);
        bytes
    };
    for in_band_fec in [true, false] {
        let peer = Peer::new();
        let wishes = OpusWishes { in_band_fec, ..OpusWishes::default() };
        let negotiated = Negotiated { opus: Some(wishes), ..peer.offers(Codec::Opus) };
        let mut stage = Stage::with(peer, negotiated.clone(), Settings::default());
        stage.say(111, 0, &opus(48_000, 20, 1)[0]);
        stage.tick(None);
        let ours = stage.peer.hear().0.ssrc;
        let rtcp = stage.peer.rtcp.try_clone().unwrap();
        let told = |stage: &mut Stage, highest, lost| {
            rtcp.send_to(&report(ours, highest, lost), (HERE, stage.port + 1)).unwrap();
            stage.read(1);
            (stage.heard(), stage.leg.limits().loss)
        };
        let known = |percent| if in_band_fec { (vec![Heard::Loss(percent)], percent) } else { (vec![], 0) };
        assert_eq!(told(&mut stage, 250, 0), (vec![], 0));
        assert_eq!(told(&mut stage, 500, 51), known(14), "a fifth, believed by five sevenths");
        assert_eq!(told(&mut stage, 500, 255).0, [], "of no packet more");
        assert_eq!(told(&mut stage, 100_500, 0), known(0));
        assert_eq!(told(&mut stage, 200_500, 26), known(10));
        // He reads it no more.
        let deaf = OpusWishes { in_band_fec: false, ..wishes };
        stage.line.update(&Negotiated { opus: Some(deaf), ..negotiated });
        assert_eq!(stage.tick(None), if in_band_fec { vec![Heard::Retuned] } else { vec![] });
        assert_eq!(stage.leg.limits().loss, 0);
    }
}

/// RFC 4733 §2.4.1.
#[test]
fn keys_that_the_far_end_does_not_name_go_nowhere() {
    let peer = Peer::new();
    let offered = peer.offers(Codec::Pcmu);
    let digits = Events { keys: 0x0fff, ..offered.events.unwrap() };
    let named = Negotiated { events: Some(digits), ..offered.clone() };
    let mut stage = Stage::with(peer, named.clone(), Settings::default());
    // Of the other leg of a transfer, one by one.
    assert_eq!("A9D*".chars().map(|key| stage.leg.press(key, 40)).collect::<Vec<_>>(), [false, true, false, true]);
    // Of a user, while a re-INVITE takes some away.
    stage.line.update(&offered);
    stage.tick(None);
    stage.line.press(&crate::rtp::dtmf::strokes("B1C").unwrap(), 40).unwrap();
    stage.line.update(&named);
    (0..30).for_each(|_| drop(stage.tick(None)));
    let packets = (0..31).map(|_| stage.peer.hear()).filter(|(header, _)| header.payload_type == 101);
    let mut codes: Vec<u8> = packets.map(|(_, payload)| Event::parse(&payload).unwrap().code).collect();
    codes.dedup();
    assert_eq!(codes, [9, 10, 1]);
    // None of them waits for ever.
    assert!(stage.line.press(&crate::rtp::dtmf::strokes(&"1".repeat(64)).unwrap(), 40).is_ok());
}
