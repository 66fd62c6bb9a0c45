//! What goes up and what goes down.

use super::*;

#[test]
fn a_packet_of_the_calls_codec_goes_up_as_it_is_at_once() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    assert_eq!(stage.leg.params(), Params::new(audio::Codec::G711Ulaw, None, 1, 20).unwrap());
    let mut last: Option<Instant> = None;
    for n in 0..100u32 {
        let payload = vec![n as u8; 160];
        let heard = frames(stage.say(0, (n * 160).wrapping_sub(8000), &payload));
        assert_eq!(heard.len(), 1, "packet {n}");
        assert_eq!(heard[0].0, payload);
        assert!(last.is_none_or(|last| heard[0].1 == last + TICK), "frames lie 20 ms apart, whatever the packets did");
        last = Some(heard[0].1);
        stage.now += Duration::from_millis(u64::from(17 + n % 7));
    }
    let line = stage.leg.line().unwrap();
    assert_eq!((line.packets_received, line.packets_lost, line.bytes_received), (100, 0, 16_000));
    assert!(line.mos.is_some_and(|mos| mos > 4.3) && line.jitter_ms > 0.0, "{line:?}");
}

#[test]
fn packets_of_any_length_become_frames_of_20_ms() {
    for packet_ms in [10u32, 20, 30, 40, 60] {
        let mut stage = Stage::new(Codec::Pcma, Settings::default());
        let size = packet_ms * 8;
        let (mut heard, mut sent) = (Vec::new(), Vec::new());
        for n in 0..1200 / packet_ms {
            let payload: Vec<u8> = (0..size).map(|byte| (n * size + byte) as u8).collect();
            stage.now += Duration::from_millis(packet_ms.into());
            heard.extend(frames(stage.say(8, n * size, &payload)));
            sent.extend(payload);
        }
        assert_eq!(heard.len(), 60, "{packet_ms} ms");
        assert!(heard.windows(2).all(|pair| pair[1].1 == pair[0].1 + TICK));
        let bytes: Vec<u8> = heard.iter().flat_map(|(frame, _)| frame.to_vec()).collect();
        assert_eq!(bytes, sent, "{packet_ms} ms");
    }
}

#[test]
fn opus_of_20_ms_passes_and_other_lengths_are_made_so() {
    for (frame_ms, passes) in [(20u8, true), (10, false), (40, false), (60, false)] {
        let mut stage = Stage::new(Codec::Opus, Settings::default());
        let packets = opus(8000, frame_ms, 1200 / usize::from(frame_ms));
        let mut heard = Vec::new();
        for (n, packet) in packets.iter().enumerate() {
            stage.now += Duration::from_millis(frame_ms.into());
            heard.extend(frames(stage.say(111, n as u32 * u32::from(frame_ms) * 48, packet)));
        }
        assert_eq!(heard.len(), 60, "{frame_ms} ms");
        assert!(heard.windows(2).all(|pair| pair[1].1 == pair[0].1 + TICK));
        let same = heard.iter().map(|(frame, _)| frame).eq(packets.iter());
        assert_eq!(same, passes, "{frame_ms} ms");
        let (mut decoder, mut samples) = (Decoder::new(Params::CALL).unwrap(), Vec::new());
        heard.iter().for_each(|(frame, _)| decoder.decode(Some(frame), &mut samples).unwrap());
        assert_eq!(samples.len(), 60 * 960);
        let energy = samples[24_000..].iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / 33_600.0;
        assert!(energy.sqrt() > 4000.0, "a tone of 9000: {}", energy.sqrt());
    }
}

#[test]
fn another_codec_that_was_agreed_on_is_transcoded_to_the_calls() {
    let peer = Peer::new();
    let mut negotiated = peer.offers(Codec::Pcmu);
    negotiated.receive_types = vec![(0, Codec::Pcmu), (8, Codec::Pcma), (111, Codec::Opus)];
    let mut stage = Stage::with(peer, negotiated, Settings::default());
    assert_eq!(frames(stage.say(0, 0, &[0x80; 160]))[0].0, [0x80; 160][..]);
    let heard = frames(stage.say(8, 160, &[0xaa; 160]));
    let wanted = audio::g711::ulaw_encode(audio::g711::alaw_decode(0xaa));
    assert_eq!(heard[0].0, [wanted; 160][..]);
    let packets = opus(8000, 20, 10);
    let count: usize = (0..10)
        .map(|n| frames(stage.say(111, n as u32 * 960, &packets[n])).iter().filter(|f| f.0.len() == 160).count())
        .sum();
    assert_eq!(count, 10);
    assert_eq!(frames(stage.say(0, 2000, &[0x81; 160]))[0].0, [0x81; 160][..]);
}

#[test]
fn the_far_end_hears_without_a_pause_and_silence_where_nothing_is_said() {
    for (codec, silence, step) in
        [(Codec::Pcmu, Some(0xffu8), 160), (Codec::Pcma, Some(0xd5), 160), (Codec::Opus, None, 960)]
    {
        let mut stage = Stage::new(codec, Settings::default());
        let spoken: Frame = vec![0x11; 160].into();
        let said: Vec<Option<&Frame>> = (0..50).map(|n| (n % 5 != 4).then_some(&spoken)).collect();
        said.iter().for_each(|frame| drop(stage.tick(*frame)));
        let packets: Vec<_> = (0..50).map(|_| stage.peer.hear()).collect();
        assert!(packets[0].0.marker && packets[1..].iter().all(|(header, _)| !header.marker));
        for pair in packets.windows(2) {
            assert_eq!(pair[1].0.sequence, pair[0].0.sequence.wrapping_add(1));
            assert_eq!(pair[1].0.timestamp, pair[0].0.timestamp.wrapping_add(step));
        }
        for ((_, payload), frame) in packets.iter().zip(said) {
            match (frame, silence) {
                (Some(frame), _) => assert_eq!(&payload[..], &frame[..]),
                (None, Some(silence)) => assert_eq!(payload[..], [silence; 160]),
                (None, None) => {
                    let (mut decoder, mut samples) = (Decoder::new(Params::CALL).unwrap(), Vec::new());
                    decoder.decode(Some(payload), &mut samples).unwrap();
                    assert!(samples.len() == 960 && samples.iter().all(|sample| sample.abs() < 50));
                }
            }
        }
    }
}

#[test]
fn our_packets_are_as_long_as_the_far_end_wants_them() {
    for packet_ms in [10u8, 30, 40, 60] {
        let peer = Peer::new();
        let negotiated = Negotiated { ptime_ms: packet_ms, ..peer.offers(Codec::Pcmu) };
        let mut stage = Stage::with(peer, negotiated, Settings::default());
        (0..60u8).for_each(|n| drop(stage.tick(Some(&vec![n; 160].into()))));
        let packets: Vec<_> = (0..1200 / u32::from(packet_ms)).map(|_| stage.peer.hear().1).collect();
        assert!(packets.iter().all(|payload| payload.len() == usize::from(packet_ms) * 8), "{packet_ms} ms");
        let bytes: Vec<u8> = packets.concat();
        assert!(bytes.chunks(160).enumerate().all(|(n, frame)| frame == [n as u8; 160]));
    }
}

#[test]
fn what_came_before_the_answer_is_thrown_away() {
    let mut peer = Peer::new();
    let negotiated = peer.offers(Codec::Pcmu);
    let pair = ports().open().unwrap();
    for n in 0..20 {
        let early = peer.packet(0, n * 160, &[9; 160]);
        peer.rtp.send_to(&early, (HERE, pair.port())).unwrap();
    }
    let port = pair.port();
    let (leg, line) = RtpLeg::new(&negotiated, pair, Settings::default());
    let mut stage = Stage { leg, line, port, now: Instant::now(), peer };
    assert_eq!(frames(stage.say(0, 20 * 160, &[1; 160])).len(), 1);
    assert_eq!(stage.leg.line().unwrap().packets_received, 1);
}

#[test]
fn a_packet_is_waited_for_only_where_the_trunk_says_so() {
    let reorder = Duration::from_millis(20);
    for (settings, late) in [(Settings::default(), 1), (Settings { reorder, ..Settings::default() }, 0)] {
        let mut stage = Stage::new(Codec::Pcmu, settings);
        let packets: Vec<_> = (0..4u32).map(|n| stage.peer.packet(0, n * 160, &[n as u8; 160])).collect();
        let socket = stage.peer.rtp.try_clone().unwrap();
        for n in [0, 2, 1, 3] {
            stage.deliver(&socket, &packets[n]);
        }
        let order: Vec<u8> = frames(stage.heard()).iter().map(|(frame, _)| frame[0]).collect();
        assert_eq!(order, if late == 1 { vec![0, 2, 3] } else { vec![0, 1, 2, 3] });
        assert_eq!(stage.leg.line().unwrap().packets_late, late);
        // One that never comes holds the next up until the wait is over.
        let (_lost, behind) = (stage.peer.packet(0, 4 * 160, &[4; 160]), stage.peer.packet(0, 5 * 160, &[5; 160]));
        stage.deliver(&socket, &behind);
        assert_eq!(stage.heard().len(), late as usize);
        assert_eq!(stage.tick(None).len(), 1 - late as usize);
        assert_eq!(stage.leg.line().unwrap().packets_lost, 1);
    }
}

#[test]
fn a_far_end_that_sends_back_our_own_ssrc_is_heard() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    let frame: Frame = vec![0x33; 160].into();
    for _ in 0..20 {
        stage.tick(Some(&frame));
        let mut bytes = [0; 2048];
        let (length, _) = stage.peer.rtp.recv_from(&mut bytes).unwrap();
        let socket = stage.peer.rtp.try_clone().unwrap();
        stage.deliver(&socket, &bytes[..length]);
        assert_eq!(frames(stage.heard())[0].0, frame);
    }
}

#[test]
fn spoiled_opus_is_counted_and_passed_over() {
    let mut stage = Stage::new(Codec::Opus, Settings::default());
    assert_eq!(stage.say(111, 0, &[0x1b, 0x3f]), []);
    assert_eq!(stage.say(111, 960, &[]), []);
    let packet = &opus(48_000, 20, 1)[0];
    assert_eq!(frames(stage.say(111, 1920, packet)).len(), 1);
    assert_eq!(stage.leg.line().unwrap().packets_refused, 2);
}

#[test]
fn a_flood_is_read_in_portions() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    for n in 0..200u32 {
        let bytes = stage.peer.packet(0, n * 160, &[1; 160]);
        stage.peer.rtp.send_to(&bytes, (HERE, stage.port)).unwrap();
    }
    stage.read(0);
    let mut portions = vec![stage.heard().len()];
    while portions.iter().sum::<usize>() < 200 {
        // The tick reads on where there was more; a machine that was slow to deliver has a new edge for it.
        let portion = stage.tick(None).len();
        if portion == 0 {
            stage.read(0);
        }
        portions.push(portion + stage.heard().len());
    }
    assert!(portions.iter().all(|portion| *portion <= crate::engine::rtp::leg::MOST_AT_ONCE), "{portions:?}");
    assert!(portions.len() >= 4);
}
