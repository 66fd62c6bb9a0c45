//! Offer and answer in every order that RFC 3264 allows, and between two of us.

use proptest::prelude::*;

use super::shapes::{CARRIER, DESKPHONE, PBX, lines, local};
use super::*;

fn called(body: &[u8], codecs: &[Codec]) -> Negotiation {
    let mut negotiation = Negotiation::new(local(codecs), 7);
    negotiation.handle_offer(body).unwrap();
    negotiation
}

/// An offer or answer of a far end that speaks PCMU: address, port, and what else its stream says.
fn pcmu(address: &str, port: u16, more: &str) -> Vec<u8> {
    let (origin, connection) = (format!("o=- 5 6 IN IP4 {address}"), format!("c=IN IP4 {address}"));
    let stream = format!("m=audio {port} RTP/AVP 0 101");
    let events = "a=rtpmap:101 telephone-event/8000";
    lines(&["v=0", &origin, "s=-", &connection, "t=0 0", &stream, events, more])
}

fn version(body: &str) -> u64 {
    Description::read(body.as_bytes()).unwrap().version
}

#[test]
fn hold_by_direction() {
    for (said, ours, on_hold) in [
        ("a=sendonly", Direction::RecvOnly, false),
        ("a=recvonly", Direction::SendOnly, true),
        ("a=inactive", Direction::Inactive, true),
        ("a=sendrecv", Direction::SendRecv, false),
        ("a=ptime:20", Direction::SendRecv, false),
    ] {
        let mut negotiation = called(&pcmu("192.0.2.1", 4000, "a=sendrecv"), &[Codec::Pcmu]);
        let answer = negotiation.handle_offer(&pcmu("192.0.2.1", 4000, said)).unwrap();
        assert!(answer.contains(&format!("a={}\r\n", ours.as_str())), "{said}: {answer}");
        let agreed = negotiation.agreed().unwrap();
        assert_eq!((agreed.direction, agreed.is_on_hold()), (ours, on_hold), "{said}");
    }
}

#[test]
fn hold_by_an_address_of_zeros() {
    let mut negotiation = called(&pcmu("192.0.2.1", 4000, "a=sendrecv"), &[Codec::Pcmu]);
    let answer = negotiation.handle_offer(&pcmu("0.0.0.0", 4000, "a=sendrecv")).unwrap();
    assert!(answer.contains("a=recvonly\r\n"), "{answer}");
    let agreed = negotiation.agreed().unwrap();
    assert_eq!((agreed.direction, agreed.remote), (Direction::RecvOnly, None));
    negotiation.handle_offer(&pcmu("192.0.2.1", 4000, "a=sendrecv")).unwrap();
    assert_eq!(negotiation.agreed().unwrap().direction, Direction::SendRecv);
}

#[test]
fn we_put_the_far_end_on_hold_and_take_it_off() {
    let mut negotiation = called(&pcmu("192.0.2.1", 4000, "a=sendrecv"), &[Codec::Pcmu]);
    assert!(negotiation.offer_hold(true).unwrap().contains("a=sendonly\r\n"));
    negotiation.handle_answer(&pcmu("192.0.2.1", 4000, "a=recvonly")).unwrap();
    assert_eq!(negotiation.agreed().unwrap().direction, Direction::SendOnly);
    assert!(negotiation.offer_hold(false).unwrap().contains("a=sendrecv\r\n"));
    negotiation.handle_answer(&pcmu("192.0.2.1", 4000, "a=sendrecv")).unwrap();
    assert_eq!(negotiation.agreed().unwrap().direction, Direction::SendRecv);
}

#[test]
fn a_refused_offer_of_ours_leaves_what_was_agreed() {
    let mut negotiation = called(&pcmu("192.0.2.1", 4000, "a=sendrecv"), &[Codec::Pcmu]);
    let before = negotiation.agreed().cloned();
    negotiation.offer_from("192.0.2.200".parse().unwrap(), 12_000).unwrap();
    negotiation.roll_back();
    assert_eq!(negotiation.agreed().cloned(), before);
    let next = negotiation.offer().unwrap();
    assert!(next.contains("c=IN IP4 192.0.2.10\r\n") && next.contains("m=audio 10000 "), "{next}");
}

#[test]
fn a_moved_far_end() {
    let mut negotiation = called(&pcmu("192.0.2.1", 4000, "a=sendrecv"), &[Codec::Pcmu]);
    negotiation.handle_offer(&pcmu("198.51.100.2", 5002, "a=sendrecv")).unwrap();
    let agreed = negotiation.agreed().unwrap();
    assert_eq!(agreed.remote, Some("198.51.100.2:5002".parse().unwrap()));
    assert_eq!(agreed.remote_rtcp, Some("198.51.100.2:5003".parse().unwrap()));
}

#[test]
fn an_invite_without_a_body_gets_our_offer_and_its_ack_answers() {
    let mut negotiation = Negotiation::new(local(&[Codec::Opus, Codec::Pcmu, Codec::Pcma]), 7);
    assert!(negotiation.offer().unwrap().contains("m=audio 10000 RTP/AVP 111 0 8 "));
    let agreed = negotiation.handle_answer(&pcmu("192.0.2.1", 4000, "a=sendrecv")).unwrap();
    assert_eq!(agreed.codec, Codec::Pcmu);
    // And so does a re-INVITE without one: what is in use comes first, under its number.
    let again = negotiation.offer().unwrap();
    assert!(again.contains("m=audio 10000 RTP/AVP 0 111 8 "), "{again}");
    negotiation.handle_answer(&pcmu("192.0.2.1", 4000, "a=sendrecv")).unwrap();
}

#[test]
fn an_ack_without_the_answer_is_an_error() {
    let mut negotiation = Negotiation::new(local(&[Codec::Pcmu]), 7);
    negotiation.offer().unwrap();
    assert!(matches!(negotiation.handle_answer(b""), Err(Refused::Unreadable(_))));
    assert!(negotiation.is_offering());
}

#[test]
fn a_number_keeps_its_meaning_for_the_life_of_the_dialog() {
    let mut negotiation = called(&lines(DESKPHONE), &[Codec::Opus, Codec::Pcmu]);
    let offer = negotiation.offer().unwrap();
    assert!(offer.contains("m=audio 10000 RTP/AVP 96 0 97 101\r\n"), "{offer}");
    assert!(offer.contains("m=video 0 RTP/AVP 99\r\n"), "{offer}");
}

#[test]
fn our_numbers_make_way_for_theirs() {
    let body = lines(&[
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.1",
        "s=-",
        "c=IN IP4 192.0.2.1",
        "t=0 0",
        "m=audio 4000 RTP/AVP 101 111",
        "a=rtpmap:101 opus/48000/2",
        "a=rtpmap:111 telephone-event/48000",
    ]);
    let mut negotiation = called(&body, &[Codec::Opus, Codec::Pcmu]);
    let offer = negotiation.offer().unwrap();
    assert!(offer.contains("m=audio 10000 RTP/AVP 101 0 111 96\r\n"), "{offer}");
    assert!(offer.contains("a=rtpmap:96 telephone-event/8000\r\n"), "{offer}");
}

#[test]
fn an_answer_with_numbers_of_its_own() {
    let mut negotiation = Negotiation::new(local(&[Codec::Opus]), 7);
    negotiation.offer().unwrap();
    let body = lines(&[
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.1",
        "s=-",
        "c=IN IP4 192.0.2.1",
        "t=0 0",
        "m=audio 4000 RTP/AVP 120 121",
        "a=rtpmap:120 OPUS/48000/2",
        "a=rtpmap:121 telephone-event/48000",
    ]);
    let agreed = negotiation.handle_answer(&body).unwrap();
    assert_eq!((agreed.send_type, &agreed.receive_types[..]), (120, &[(111, Codec::Opus)][..]));
    assert_eq!(
        agreed.events,
        Some(Events { send_type: 121, receive_type: 102, clock_rate: 48_000, keys: Events::ALL_KEYS })
    );
}

/// RFC 4733 §2.4.1, §7.1.1.
#[test]
fn keys_that_the_far_end_names_in_offer_and_answer() {
    let all = Events::ALL_KEYS;
    for (fmtp, keys) in [
        ("a=fmtp:101 0-15", all),
        ("a=fmtp:101 0-11", 0x0fff),
        ("a=fmtp:101 0-11,16", 0x0fff),
        ("a=fmtp:101 0-9, 11 ,32-36", 0x0bff),
        ("a=fmtp:101 events=\"0-15,66\"", all),
        ("a=fmtp:101 15", 0x8000),
        ("a=fmtp:101 66,70", 0),
        ("a=fmtp:101 5-3", all),
        ("a=fmtp:101 0-300", all),
        ("a=fmtp:101 all", all),
        ("a=fmtp:101 ", all),
        ("a=sendrecv", all),
    ] {
        let body = lines(&[
            "v=0",
            "o=- 1 1 IN IP4 192.0.2.1",
            "s=-",
            "c=IN IP4 192.0.2.1",
            "t=0 0",
            "m=audio 4000 RTP/AVP 0 101",
            "a=rtpmap:101 telephone-event/8000",
            fmtp,
        ]);
        let offering = called(&body, &[Codec::Pcmu]);
        let mut answering = Negotiation::new(local(&[Codec::Pcmu]), 7);
        answering.offer().unwrap();
        let answered = answering.handle_answer(&body).unwrap().events;
        for events in [offering.agreed().unwrap().events, answered] {
            assert_eq!(events, Some(Events { send_type: 101, receive_type: 101, clock_rate: 8000, keys }), "{fmtp}");
        }
    }
}

#[test]
fn an_answer_without_maps_means_what_the_offer_said() {
    let mut negotiation = Negotiation::new(local(&[Codec::Opus, Codec::Pcmu]), 7);
    negotiation.offer().unwrap();
    let body = lines(&["v=0", "o=- 1 1 IN IP4 192.0.2.1", "c=IN IP4 192.0.2.1", "m=audio 4000 RTP/AVP 111 102"]);
    let agreed = negotiation.handle_answer(&body).unwrap();
    assert_eq!((agreed.codec, agreed.events.map(|events| events.clock_rate)), (Codec::Opus, Some(48_000)));
}

#[test]
fn an_answer_with_several_codecs_sends_the_first_and_takes_all() {
    let mut negotiation = Negotiation::new(local(&[Codec::Pcmu, Codec::Pcma]), 7);
    negotiation.offer().unwrap();
    let agreed = negotiation.handle_answer(&lines(PBX)).unwrap();
    assert_eq!(agreed.codec, Codec::Pcma);
    assert_eq!(agreed.receive_types, [(8, Codec::Pcma), (0, Codec::Pcmu)]);
}

#[test]
fn a_codec_that_we_did_not_offer_is_no_answer() {
    let mut negotiation = Negotiation::new(local(&[Codec::Pcma]), 7);
    negotiation.offer().unwrap();
    assert_eq!(negotiation.handle_answer(&lines(CARRIER)), Err(Refused::NoCommonCodec));
    assert_eq!(negotiation.agreed(), None);
}

#[test]
fn what_is_refused_and_with_which_code() {
    let offer = |stream: &str| {
        let body = lines(&["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0", stream]);
        let mut negotiation = Negotiation::new(local(&[Codec::Pcmu]), 7);
        negotiation.handle_offer(&body).map_err(|refused| refused.sip_code())
    };
    assert!(offer("m=audio 4000 RTP/AVPF 0").is_ok());
    assert_eq!(offer("m=audio 4000 RTP/SAVP 0"), Err(488));
    assert_eq!(offer("m=audio 0 RTP/AVP 0"), Err(488));
    assert_eq!(offer("m=video 4000 RTP/AVP 0"), Err(488));
    assert_eq!(offer("m=audio 4000 RTP/AVP 18 9"), Err(488));
    let mut negotiation = Negotiation::new(local(&[Codec::Pcmu]), 7);
    assert_eq!(negotiation.handle_offer(b"garbage").unwrap_err().sip_code(), 400);
    assert_eq!(negotiation.handle_offer(&vec![0; 20_000]).unwrap_err().sip_code(), 413);
    negotiation.offer().unwrap();
    assert_eq!(negotiation.handle_offer(&lines(PBX)).unwrap_err().sip_code(), 491);
}

#[test]
fn an_encrypted_stream_beside_a_plain_one_is_refused_in_its_place() {
    let body = lines(&[
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.1",
        "s=-",
        "c=IN IP4 192.0.2.1",
        "t=3034423619 3042462419",
        "m=audio 4000 RTP/SAVP 0",
        "m=audio 4002 RTP/AVP 0",
    ]);
    let mut negotiation = Negotiation::new(local(&[Codec::Pcmu]), 7);
    let answer = negotiation.handle_offer(&body).unwrap();
    let (refused, ours) = (answer.find("m=audio 0 RTP/SAVP 0\r\n"), answer.find("m=audio 10000 RTP/AVP 0\r\n"));
    assert!(refused.is_some() && refused < ours, "{answer}");
    assert!(answer.contains("t=3034423619 3042462419\r\n"), "{answer}");
    // Our next offer keeps both places, and its answer is found in the second.
    negotiation.offer().unwrap();
    let agreed = negotiation.handle_answer(&body).unwrap();
    assert_eq!(agreed.remote.map(|remote| remote.port()), Some(4002));
}

#[test]
fn versions_grow_with_each_change_and_with_nothing_else() {
    let mut negotiation = Negotiation::new(local(&[Codec::Pcmu]), 7);
    let offer = negotiation.offer().unwrap();
    negotiation.handle_answer(&pcmu("192.0.2.1", 4000, "a=sendrecv")).unwrap();
    let same = negotiation.refresh().unwrap();
    negotiation.handle_answer(&pcmu("192.0.2.1", 4000, "a=sendrecv")).unwrap();
    assert_eq!((version(&offer), &offer), (1, &same));
    let held = negotiation.handle_offer(&pcmu("192.0.2.1", 4000, "a=inactive")).unwrap();
    let held_again = negotiation.handle_offer(&pcmu("192.0.2.1", 4000, "a=inactive")).unwrap();
    assert_eq!((version(&held), &held), (2, &held_again));
    let back = negotiation.handle_offer(&pcmu("192.0.2.1", 4000, "a=sendrecv")).unwrap();
    assert_eq!(version(&back), 3);
}

#[test]
fn the_codec_in_use_stays_when_the_far_end_offers_all_again() {
    let mut negotiation = Negotiation::new(local(&[Codec::Pcmu, Codec::Pcma]), 7);
    negotiation.offer().unwrap();
    negotiation.handle_answer(&lines(PBX)).unwrap();
    let answer = negotiation.handle_offer(&lines(PBX)).unwrap();
    assert!(answer.contains("m=audio 10000 RTP/AVP 8 101\r\n"), "{answer}");
}

#[test]
fn an_early_answer_is_heard_and_the_final_one_counts() {
    let mut negotiation = Negotiation::new(local(&[Codec::Pcmu]), 7);
    negotiation.offer().unwrap();
    negotiation.handle_early_answer(&pcmu("192.0.2.1", 4000, "a=sendrecv")).unwrap();
    assert_eq!(negotiation.early().unwrap().remote.unwrap().port(), 4000);
    assert_eq!(negotiation.agreed(), None);
    // Another fork answers.
    let agreed = negotiation.handle_answer(&pcmu("192.0.2.2", 5000, "a=sendrecv")).unwrap();
    assert_eq!(agreed.remote.unwrap().port(), 5000);
    assert_eq!(negotiation.early(), None);
}

#[test]
fn a_final_answer_without_a_body_is_the_early_one() {
    let mut negotiation = Negotiation::new(local(&[Codec::Pcmu]), 7);
    negotiation.offer().unwrap();
    negotiation.handle_early_answer(&pcmu("192.0.2.1", 4000, "a=sendrecv")).unwrap();
    assert_eq!(negotiation.handle_answer(b"").unwrap().remote.unwrap().port(), 4000);
    assert_eq!(negotiation.handle_answer(b""), Err(Refused::NoOffer));
}

#[test]
fn packets_are_as_long_as_the_far_end_and_the_codec_allow() {
    for (codec, wanted, most, ms) in [
        (Codec::Pcmu, 20, None, 20),
        (Codec::Pcmu, 30, None, 30),
        (Codec::Opus, 30, None, 20),
        (Codec::Opus, 60, Some(40), 40),
        (Codec::Pcma, 40, Some(30), 30),
        (Codec::Pcmu, 200, None, 60),
        (Codec::Pcmu, 5, None, 10),
        (Codec::Opus, 1, Some(1), 10),
        (Codec::Pcmu, u32::MAX, Some(u32::MAX), 60),
    ] {
        assert_eq!(codec.ptime_ms(wanted, most), ms, "{codec:?} {wanted} {most:?}");
    }
}

fn codecs() -> impl Strategy<Value = Vec<Codec>> {
    Just(Codec::ALL.to_vec()).prop_shuffle().prop_flat_map(|all| (1..=all.len()).prop_map(move |n| all[..n].to_vec()))
}

#[derive(Clone, Debug)]
enum Move {
    Ours(u8),
    Theirs(u8),
}

proptest! {
    /// Two of us agree: the same codec, each sending what the other takes, and opposite directions.
    #[test]
    fn two_of_us_agree_or_have_nothing_in_common(a in codecs(), b in codecs(), moves in prop::collection::vec(
        prop_oneof![any::<u8>().prop_map(Move::Ours), any::<u8>().prop_map(Move::Theirs)], 1..6)) {
        let (mut one, mut other) = (Negotiation::new(local(&a), 1), Negotiation::new(local(&b), 2));
        for step in moves {
            let (from, to, how) = match step {
                Move::Ours(how) => (&mut one, &mut other, how),
                Move::Theirs(how) => (&mut other, &mut one, how),
            };
            let offer = match how % 4 {
                0 => from.offer_hold(true),
                1 => from.offer_hold(false),
                2 => from.offer_from("192.0.2.99".parse().unwrap(), 20_000 + u16::from(how)),
                _ => from.offer(),
            }.unwrap();
            let Ok(answer) = to.handle_offer(offer.as_bytes()) else {
                prop_assert!(!a.iter().any(|codec| b.contains(codec)));
                from.roll_back();
                continue;
            };
            from.handle_answer(answer.as_bytes()).unwrap();
            let (here, there) = (from.agreed().unwrap(), to.agreed().unwrap());
            prop_assert_eq!(here.codec, there.codec);
            prop_assert!(there.receive_types.contains(&(here.send_type, here.codec)));
            prop_assert!(here.receive_types.contains(&(there.send_type, there.codec)));
            prop_assert_eq!(here.direction.sends(), there.direction.receives());
            prop_assert_eq!(here.direction.receives(), there.direction.sends());
            prop_assert_eq!(here.events.map(|e| (e.send_type, e.clock_rate)), there.events.map(|e| (e.receive_type, e.clock_rate)));
        }
    }

    /// Lines of a description in any order and number.
    #[test]
    fn no_body_panics(picks in prop::collection::vec((0usize..3, 0usize..20, any::<u8>()), 0..40)) {
        let mut body = b"v=0\r\n".to_vec();
        for (shape, line, byte) in picks {
            let shape = [PBX, CARRIER, DESKPHONE][shape];
            body.extend_from_slice(shape[line % shape.len()].as_bytes());
            if byte < 40 { body.push(byte); }
            body.extend_from_slice(b"\r\n");
        }
        let mut negotiation = Negotiation::new(local(&Codec::ALL), 7);
        if negotiation.handle_offer(&body).is_ok() {
            prop_assert!(negotiation.agreed().is_some());
        }
        negotiation.roll_back();
        negotiation.offer().unwrap();
        drop(negotiation.handle_answer(&body));
    }
}
