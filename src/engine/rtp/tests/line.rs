//! Addresses, holds, keys, reports, limits, ports.

use super::*;
use crate::rtp::dtmf::{MOST_STROKES, strokes};

#[test]
fn strangers_and_garbage_are_refused_and_counted() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    assert_eq!(stage.say(0, 0, &[1; 160]).len(), 1);
    stage.now += Duration::from_secs(3);
    let stranger = socket();
    for n in 0..50 {
        let spoofed = stage.peer.packet(0, n * 160, &[9; 160]);
        stage.peer.sequence = stage.peer.sequence.wrapping_sub(1);
        stage.deliver(&stranger, &spoofed);
    }
    assert_eq!((stage.heard(), stage.leg.line().unwrap().packets_refused), (vec![], 50));
    // From the right address: no RTP, no bytes, too many bytes, a type that nobody agreed on.
    let from = stage.peer.rtp.try_clone().unwrap();
    let huge = stage.peer.packet(0, 0, &vec![1; 30_000]);
    let wrong = stage.peer.packet(96, 0, &[1; 160]);
    stage.peer.sequence = stage.peer.sequence.wrapping_sub(2);
    for bytes in [&[0u8; 40][..], b"", b"OPTIONS sip:x SIP/2.0\r\n", &huge, &wrong] {
        stage.deliver(&from, bytes);
    }
    assert_eq!((stage.heard(), stage.leg.line().unwrap().packets_refused), (vec![], 55));
    assert_eq!(stage.say(0, 160, &[2; 160]).len(), 1, "the call goes on");
    stage.tick(None);
    assert!(stage.peer.hear().1.len() == 160 && stage.seen() == 57);
}

#[test]
fn a_phone_behind_a_nat_is_heard_and_answered_where_it_is() {
    let peer = Peer::new();
    let elsewhere = socket();
    let negotiated = Negotiated { remote: Some(elsewhere.local_addr().unwrap()), ..peer.offers(Codec::Pcmu) };
    for symmetric in [true, false] {
        let peer = Peer { rtp: peer.rtp.try_clone().unwrap(), rtcp: peer.rtcp.try_clone().unwrap(), ..peer };
        let mut stage = Stage::with(peer, negotiated.clone(), Settings { symmetric, ..Settings::default() });
        stage.tick(None);
        assert!(stage.peer.hears_nothing(), "nothing goes to an address that was neither signalled nor learned");
        let heard: usize = (0..5).map(|n| stage.say(0, n * 160, &[1; 160]).len()).sum();
        assert_eq!(heard, if symmetric { 3 } else { 0 });
        stage.tick(None);
        match symmetric {
            true => assert_eq!(stage.peer.hear().1.len(), 160),
            false => assert!(stage.peer.hears_nothing()),
        }
    }
}

#[test]
fn a_reinvite_moves_the_port_the_codec_and_the_packets() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    stage.say(0, 0, &[1; 160]);
    stage.tick(None);
    let before = stage.peer.hear().0;
    let old = std::mem::replace(&mut stage.peer, Peer { ssrc: 7, ..Peer::new() });
    stage.line.update(&Negotiated { ptime_ms: 20, ..stage.peer.offers(Codec::Opus) });
    assert_eq!(stage.tick(Some(&opus(48_000, 20, 1)[0])), [Heard::Retuned]);
    assert_eq!(stage.leg.params(), Params::CALL);
    let after = stage.peer.hear().0;
    assert_eq!((after.payload_type, after.ssrc, after.marker), (111, before.ssrc, true));
    assert_eq!(after.sequence, before.sequence.wrapping_add(1), "the sequence goes on");
    let packet = &opus(48_000, 20, 1)[0];
    assert_eq!(frames(stage.say(111, 5, packet)), [(packet.clone(), stage.now)]);
    stage.now += Duration::from_secs(3);
    stage.say(111, 965, packet);
    let mut stale = old;
    let bytes = stale.packet(111, 160, packet);
    stage.deliver(&stale.rtp, &bytes);
    assert_eq!(
        (stage.heard(), stage.leg.line().unwrap().packets_refused),
        (vec![], 1),
        "the old address is a stranger's"
    );
}

#[test]
fn on_hold_nothing_is_sent_nothing_goes_up_and_nobody_is_missed() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    stage.say(0, 0, &[1; 160]);
    stage.tick(None);
    stage.peer.hear();
    let mut held = stage.peer.offers(Codec::Pcmu);
    held.direction = Direction::Inactive;
    held.remote = Some(([0, 0, 0, 0], 9).into());
    stage.line.update(&held);
    for _ in 0..50 * 60 {
        assert_eq!(stage.tick(None), []);
    }
    assert!(stage.peer.hears_nothing());
    assert_eq!(stage.say(0, 160, &[1; 160]), [], "what comes nevertheless is not heard");
    let resumed = stage.peer.offers(Codec::Pcmu);
    stage.line.update(&resumed);
    stage.tick(None);
    let (header, _) = stage.peer.hear();
    assert!(header.marker, "RFC 3551 §4.1: a new beginning");
    assert_eq!(frames(stage.say(0, 320, &[2; 160])).len(), 1);
    let mut music = stage.peer.offers(Codec::Pcmu);
    music.direction = Direction::RecvOnly;
    stage.line.update(&music);
    assert_eq!(stage.tick(None), []);
    assert!(stage.peer.hears_nothing());
    assert_eq!(frames(stage.say(0, 480, &[3; 160])).len(), 1, "music on hold is heard");
}

#[test]
fn silence_is_told_once_after_the_trunks_time() {
    let seconds =
        |stage: &mut Stage, seconds: u32| -> Vec<Heard> { (0..seconds * 50).flat_map(|_| stage.tick(None)).collect() };
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    assert_eq!(seconds(&mut stage, 29), []);
    assert_eq!(seconds(&mut stage, 20), [Heard::Silent], "30 s without any");
    stage.say(0, 0, &[1; 160]);
    assert_eq!(seconds(&mut stage, 14), []);
    assert_eq!(seconds(&mut stage, 20), [Heard::Silent], "15 s after some");
    let never = Settings { never_heard: None, not_heard: None, ..Settings::default() };
    assert_eq!(seconds(&mut Stage::new(Codec::Pcmu, never), 60), []);
}

#[test]
fn keys_go_both_ways_at_both_clocks() {
    for (codec, clock) in [(Codec::Pcmu, 8u32), (Codec::Opus, 48)] {
        let mut stage = Stage::new(codec, Settings::default());
        let negotiated = stage.peer.offers(codec);
        let events = negotiated.events.unwrap();
        let mut told = Vec::new();
        for (end, ms) in [(false, 20), (false, 40), (true, 60), (true, 60), (true, 60)] {
            let event = Event { code: 11, end, volume: 10, duration: (ms * clock) as u16 };
            told.extend(stage.say(events.receive_type, 4000, &event.bytes()));
        }
        assert_eq!(told, [Heard::Key { key: '#', ended_ms: None }, Heard::Key { key: '#', ended_ms: Some(60) }]);
        let many = strokes(&"1".repeat(MOST_STROKES)).unwrap();
        assert!(stage.line.press(&[&many[..], &many[..1]].concat(), 100).unwrap_err().contains("wait"));
        stage.line.press(&strokes("1*").unwrap(), 100).unwrap();
        (0..20).for_each(|_| drop(stage.tick(None)));
        let packets: Vec<_> = (0..20).map(|_| stage.peer.hear()).collect();
        let sent: Vec<_> = packets.iter().filter(|(header, _)| header.payload_type == events.send_type).collect();
        let codes: BTreeSet<_> = sent.iter().map(|(header, payload)| (header.timestamp, payload[0])).collect();
        assert_eq!(codes.into_iter().map(|(_, code)| code).collect::<BTreeSet<_>>(), BTreeSet::from([1, 10]));
        let ends = sent.iter().filter(|(_, payload)| Event::parse(payload).unwrap().end);
        assert!(
            ends.clone().count() == 6
                && ends.clone().all(|(_, p)| Event::parse(p).unwrap().duration as u32 == 100 * clock)
        );
        let audio = packets.iter().filter(|(header, _)| header.payload_type == negotiated.send_type).count();
        assert_eq!(audio + sent.len(), 20);
        // One that is not the trunk's waits like the others, and takes none of their room once it is through.
        assert!(stage.leg.press('7', 40));
        assert!(stage.line.press(&many, 40).is_err(), "there is room for 63");
        (0..10).for_each(|_| drop(stage.tick(None)));
        stage.line.press(&many, 40).unwrap();
        // Who takes events no more has none waiting.
        stage.tick(None);
        stage.line.update(&Negotiated { events: None, ..negotiated.clone() });
        stage.tick(None);
        stage.line.update(&negotiated);
        stage.line.press(&many, 40).unwrap();
    }
}

fn reports(peer: &Peer) -> (Vec<u8>, Vec<&'static str>) {
    let mut bytes = [0; 1500];
    let (length, _) = peer.rtcp.recv_from(&mut bytes).expect("a report within the limit");
    let mut kinds = Vec::new();
    rtcp::parse(&bytes[..length], |packet| {
        kinds.push(match packet {
            Rtcp::Report { sender: Some(_), .. } => "SR",
            Rtcp::Report { .. } => "RR",
            Rtcp::Cname { .. } => "SDES",
            Rtcp::Bye { .. } => "BYE",
        });
    })
    .unwrap();
    (bytes[..length].to_vec(), kinds)
}

#[test]
fn reports_go_out_every_five_seconds_and_a_bye_at_the_end() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    for n in 0..50 * 16u32 {
        if n % 10 != 9 {
            stage.say(0, n * 160, &[1; 160]);
        } else {
            stage.peer.sequence = stage.peer.sequence.wrapping_add(1);
        }
        stage.tick(None);
    }
    let mut lost = 0;
    for _ in 0..3 {
        let (bytes, kinds) = reports(&stage.peer);
        assert_eq!(kinds, ["SR", "SDES"]);
        rtcp::parse(&bytes, |packet| {
            if let Rtcp::Report { blocks, sender, .. } = packet {
                let block = blocks.iter().next().expect("one on what comes");
                assert_eq!((block.ssrc, sender.unwrap().octets), (stage.peer.ssrc, sender.unwrap().packets * 160));
                assert!((20..=31).contains(&block.fraction_lost), "a tenth of 256: {}", block.fraction_lost);
                lost = block.lost;
            }
        })
        .unwrap();
    }
    assert!(lost > 30, "{lost}");
    let line = stage.leg.line().unwrap();
    assert!(line.packets_lost >= 79 && line.mos.is_some_and(|mos| mos < 3.0), "{line:?}");
    let peer = stage.peer;
    drop(stage.leg);
    let last = std::iter::repeat_with(|| reports(&peer).1).find(|kinds| kinds.contains(&"BYE")).unwrap();
    assert_eq!(last.last(), Some(&"BYE"));
}

#[test]
fn what_the_far_end_reports_is_heard_and_answered_where_it_came_from() {
    let mut stage = Stage::new(Codec::Pcmu, Settings::default());
    stage.say(0, 0, &[1; 160]);
    stage.tick(None);
    let ours = stage.peer.hear().0.ssrc;
    let report = |lost| {
        let block = rtcp::ReportBlock { ssrc: ours, lost, ..Default::default() };
        let mut bytes = Vec::new();
        rtcp::write_report(0x5150, None, Some(&block), &mut bytes);
        bytes
    };
    let moved = socket();
    moved.send_to(&report(7), (HERE, stage.port + 1)).unwrap();
    stage.read(1);
    assert_eq!(stage.leg.line().unwrap().far_packets_lost, Some(7));
    (0..50 * 6).for_each(|_| drop(stage.tick(None)));
    let mut bytes = [0; 1500];
    assert!(moved.recv_from(&mut bytes).is_ok_and(|(length, _)| length > 28));
    // RTCP on RTP's port (RFC 5761), and garbage.
    let socket = stage.peer.rtp.try_clone().unwrap();
    stage.deliver(&socket, &report(9));
    moved.send_to(&[0x80, 200, 0xff, 0xff, 1], (HERE, stage.port + 1)).unwrap();
    stage.read(1);
    assert_eq!(stage.leg.line().unwrap().far_packets_lost, Some(9));
}

#[test]
fn a_pair_is_bound_even_and_odd_and_rests_after_its_call() {
    let ports = Ports::new(HERE, 30_000..=30_011).unwrap();
    let pairs: Vec<Pair> = std::iter::from_fn(|| ports.open().ok()).collect();
    assert!(!pairs.is_empty() && pairs.iter().all(|pair| pair.port() % 2 == 0 && pair.address().ip() == HERE));
    for pair in &pairs {
        let rtcp = pair.rtcp.local_addr().unwrap();
        assert_eq!(rtcp, SocketAddr::new(HERE, pair.port() + 1));
    }
    assert_eq!(ports.taken(), pairs.len());
    drop(pairs);
    let error = ports.open().unwrap_err();
    assert!(error.contains("30000") && error.contains("rest"), "{error}");
    assert!(ports.exhausted() > 0 && ports.taken() == 0);
    let error = Ports::new(HERE, 30_001..=30_002).unwrap_err();
    assert!(error.contains("wider"), "{error}");
}

#[test]
fn ports_that_others_hold_are_passed_over() {
    let taken = (0..).find_map(|n| {
        let port = 31_000 + n * 2;
        UdpSocket::bind((HERE, port + 1)).ok().map(|socket| (port, socket))
    });
    let (port, _socket) = taken.unwrap();
    let ports = Ports::new(HERE, port..=port + 9).unwrap();
    let open: Vec<u16> = (0..4).filter_map(|_| ports.open().ok()).map(|pair| pair.port()).collect();
    assert!(!open.is_empty() && !open.contains(&port), "{open:?}");
    let nowhere = Ports::new(([192, 0, 2, 7]).into(), 31_000..=31_010).unwrap().open().unwrap_err();
    assert!(nowhere.contains("192.0.2.7"), "{nowhere}");
}

#[test]
fn a_talk_keeps_ports_descriptions_and_leg_in_step() {
    let talks = |codecs| Talks { ports: ports(), address: HERE, codecs, ptime_ms: 20, settings: Settings::default() };
    let (mut ours, mut theirs) =
        (talks(vec![Codec::Opus, Codec::Pcmu]).open().unwrap(), talks(vec![Codec::Pcmu, Codec::Opus]).open().unwrap());
    let offer = ours.offer().unwrap();
    assert!(ours.leg().is_none() && ours.press(&strokes("1").unwrap(), 100).is_err(), "nobody has answered");
    let answer = theirs.handle_offer(offer.as_bytes()).unwrap();
    ours.handle_answer(answer.as_bytes()).unwrap();
    let (mut one, mut other) = (ours.leg().unwrap(), theirs.leg().unwrap());
    assert!(ours.leg().is_none(), "once");
    assert_eq!(one.params(), other.params());
    let mut now = Instant::now();
    let mut heard = |one: &mut RtpLeg, other: &mut RtpLeg, frame: &Frame| -> Vec<Heard> {
        now += TICK;
        one.push(Some(frame), now);
        other.receive(0, now);
        std::iter::from_fn(|| other.poll_heard()).collect()
    };
    let is_g711 = one.params().codec == audio::Codec::G711Ulaw;
    let frame: Frame = if is_g711 { vec![3; 160].into() } else { opus(48_000, 20, 1).remove(0) };
    assert_eq!(frames(heard(&mut one, &mut other, &frame))[0].0, frame);
    assert_eq!(frames(heard(&mut other, &mut one, &frame))[0].0, frame);
    // The far side holds us, by a re-INVITE; then asks for an offer of ours.
    let hold = theirs.negotiation().offer_hold(true).unwrap();
    let answer = ours.handle_offer(hold.as_bytes()).unwrap();
    theirs.handle_answer(answer.as_bytes()).unwrap();
    assert_eq!(heard(&mut one, &mut other, &frame), [], "held: nothing of ours goes");
    let offer = ours.handle_offer(b"").unwrap();
    assert!(theirs.handle_offer(b"v=nonsense").is_err());
    let answer = theirs.handle_offer(offer.as_bytes()).unwrap();
    ours.handle_answer(answer.as_bytes()).unwrap();
    ours.press(&strokes("5").unwrap(), 100).unwrap();
    // All of what is typed goes as telephone events, or nothing.
    let answer = theirs.handle_offer(ours.offer().unwrap().as_bytes()).unwrap().replace("0-15", "0-9,11");
    ours.handle_answer(answer.as_bytes()).unwrap();
    assert_eq!((ours.takes(&strokes("5w#").unwrap()), ours.press(&strokes("9").unwrap(), 100)), (Ok(()), Ok(())));
    for wrong in ["1*", "A", "wD"] {
        let refused = ours.press(&strokes(wrong).unwrap(), 100).unwrap_err();
        assert!(refused.contains("(0123456789#)") && refused.contains("dtmf_mode"), "{refused}");
    }
    let answer = theirs.handle_offer(ours.offer().unwrap().as_bytes()).unwrap().replace("0-15", "36");
    ours.handle_answer(answer.as_bytes()).unwrap();
    assert!(ours.press(&strokes("1").unwrap(), 100).unwrap_err().contains("takes no telephone events"));
}
