//! Descriptions in the shapes that known peers send, in words of our own, and what they come to.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::sip::format::Coding;

pub(super) fn local(codecs: &[Codec]) -> Local {
    Local { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), port: 10_000, codecs: codecs.to_vec(), ptime_ms: 20 }
}

pub(super) fn lines(text: &[&str]) -> Vec<u8> {
    text.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect()
}

/// A PBX that knows G.711 and Opus, with one event clock, as a callee.
pub(super) const PBX: &[&str] = &[
    "v=0",
    "o=- 3947202 3947204 IN IP4 198.51.100.7",
    "s=A PBX",
    "c=IN IP4 198.51.100.7",
    "t=0 0",
    "m=audio 18250 RTP/AVP 8 0 101",
    "a=rtpmap:8 PCMA/8000",
    "a=rtpmap:0 PCMU/8000",
    "a=rtpmap:101 telephone-event/8000",
    "a=fmtp:101 0-16",
    "a=ptime:20",
    "a=maxptime:140",
    "a=sendrecv",
];

/// A carrier's media server: session-level attributes, a silence suppression line, its RTCP port spelled out.
pub(super) const CARRIER: &[&str] = &[
    "v=0",
    "o=root 1181520316 1181520316 IN IP4 203.0.113.20",
    "s=Media Gateway",
    "c=IN IP4 203.0.113.20",
    "b=AS:84",
    "t=0 0",
    "a=sendrecv",
    "m=audio 15008 RTP/AVP 0 101",
    "a=rtpmap:0 PCMU/8000",
    "a=rtpmap:101 telephone-event/8000",
    "a=fmtp:101 0-16",
    "a=silenceSupp:off - - - -",
    "a=ptime:20",
    "a=rtcp:15009 IN IP4 203.0.113.20",
];

/// A switch of another carrier: the connection below its stream, 30 ms, no map for the static numbers.
pub(super) const SWITCH: &[&str] = &[
    "v=0",
    "o=Switch 1735689600 1735689601 IN IP4 203.0.113.99",
    "s=-",
    "t=0 0",
    "m=audio 30522 RTP/AVP 9 0 8 18 120",
    "c=IN IP4 203.0.113.98",
    "a=rtpmap:18 G729/8000",
    "a=fmtp:18 annexb=no",
    "a=rtpmap:120 telephone-event/8000",
    "a=ptime:30",
];

/// A desktop phone: Opus with wishes, events of its clock, a video stream beside, ICE that we don't speak.
pub(super) const DESKPHONE: &[&str] = &[
    "v=0",
    "o=- 811 21 IN IP4 192.0.2.77",
    "s=a phone",
    "c=IN IP4 192.0.2.77",
    "t=0 0",
    "a=tool:phone 1.0",
    "m=audio 27202 RTP/AVP 96 0 97 101",
    "a=rtpmap:96 opus/48000/2",
    "a=fmtp:96 stereo=1; sprop-stereo=0; maxplaybackrate=16000; maxaveragebitrate=24000; useinbandfec=1;usedtx=1; cbr=1",
    "a=rtpmap:0 PCMU/8000/1",
    "a=rtpmap:97 telephone-event/48000",
    "a=fmtp:97 0-15",
    "a=rtpmap:101 telephone-event/8000",
    "a=candidate:1 1 UDP 2130706431 192.0.2.77 27202 typ host",
    "a=rtcp-mux",
    "a=ptime:20",
    "m=video 27204 RTP/AVP 99",
    "a=rtpmap:99 H264/90000",
];

fn answered(body: &[&str], codecs: &[Codec]) -> (String, Negotiated) {
    let mut negotiation = Negotiation::new(local(codecs), 7);
    let answer = negotiation.handle_offer(&lines(body)).unwrap();
    (answer, negotiation.agreed().unwrap().clone())
}

#[test]
fn our_offer_word_for_word() {
    let mut negotiation = Negotiation::new(local(&[Codec::Opus, Codec::Pcmu, Codec::Pcma]), 7);
    let expected = lines(&[
        "v=0",
        "o=- 7 1 IN IP4 192.0.2.10",
        "s=-",
        "c=IN IP4 192.0.2.10",
        "t=0 0",
        "m=audio 10000 RTP/AVP 111 0 8 102 101",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 useinbandfec=1",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:102 telephone-event/48000",
        "a=fmtp:102 0-15",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        "a=maxptime:60",
        "a=sendrecv",
    ]);
    assert_eq!(negotiation.offer().unwrap(), String::from_utf8(expected).unwrap());
}

#[test]
fn an_offer_of_g711_alone_has_one_event_clock() {
    let offer = Negotiation::new(local(&[Codec::Pcma]), 7).offer().unwrap();
    assert!(offer.contains("m=audio 10000 RTP/AVP 8 101\r\n") && !offer.contains("48000"), "{offer}");
}

#[test]
fn a_pbx_calls() {
    let (answer, agreed) = answered(PBX, &[Codec::Pcmu, Codec::Pcma]);
    let expected = lines(&[
        "v=0",
        "o=- 7 1 IN IP4 192.0.2.10",
        "s=-",
        "c=IN IP4 192.0.2.10",
        "t=0 0",
        "m=audio 10000 RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        "a=maxptime:60",
        "a=sendrecv",
    ]);
    assert_eq!(answer, String::from_utf8(expected).unwrap());
    let expected = Negotiated {
        remote: Some("198.51.100.7:18250".parse().unwrap()),
        remote_rtcp: Some("198.51.100.7:18251".parse().unwrap()),
        codec: Codec::Pcmu,
        send_type: 0,
        receive_types: vec![(0, Codec::Pcmu)],
        ptime_ms: 20,
        direction: Direction::SendRecv,
        events: Some(Events { send_type: 101, receive_type: 101, clock_rate: 8000, keys: Events::ALL_KEYS }),
        opus: None,
    };
    assert_eq!(agreed, expected);
}

#[test]
fn a_carrier_answers_with_one_codec() {
    let mut negotiation = Negotiation::new(local(&[Codec::Opus, Codec::Pcmu]), 7);
    negotiation.offer().unwrap();
    let agreed = negotiation.handle_answer(&lines(CARRIER)).unwrap();
    assert_eq!((agreed.codec, agreed.send_type, agreed.direction), (Codec::Pcmu, 0, Direction::SendRecv));
    assert_eq!(agreed.remote_rtcp, Some("203.0.113.20:15009".parse().unwrap()));
    assert_eq!(agreed.events.unwrap().clock_rate, 8000);
    assert_eq!((agreed.opus, agreed.is_on_hold()), (None, false));
}

#[test]
fn a_switch_with_its_connection_below_and_30_ms() {
    let (answer, agreed) = answered(SWITCH, &[Codec::Pcma, Codec::Pcmu]);
    assert_eq!((agreed.codec, agreed.ptime_ms), (Codec::Pcma, 30));
    assert_eq!(agreed.remote, Some("203.0.113.98:30522".parse().unwrap()));
    assert!(answer.contains("m=audio 10000 RTP/AVP 8 120\r\n"), "{answer}");
}

#[test]
fn a_deskphone_with_opus_and_a_video_beside() {
    let (answer, agreed) = answered(DESKPHONE, &[Codec::Opus, Codec::Pcmu]);
    assert_eq!((agreed.codec, agreed.send_type), (Codec::Opus, 96));
    assert_eq!(
        agreed.events,
        Some(Events { send_type: 97, receive_type: 97, clock_rate: 48_000, keys: Events::ALL_KEYS })
    );
    let wishes = OpusWishes {
        max_playback_rate: 16_000,
        max_average_bitrate: Some(24_000),
        in_band_fec: true,
        dtx: true,
        stereo: true,
        constant: true,
    };
    assert_eq!(agreed.opus, Some(wishes));
    assert!(answer.contains("m=audio 10000 RTP/AVP 96 97\r\n"), "{answer}");
    assert!(answer.ends_with("m=video 0 RTP/AVP 99\r\n"), "{answer}");
    assert!(!answer.contains("rtcp-mux"), "{answer}");
    // With G.711 the events are those of its clock.
    let (_, agreed) = answered(DESKPHONE, &[Codec::Pcmu]);
    assert_eq!(
        agreed.events,
        Some(Events { send_type: 101, receive_type: 101, clock_rate: 8000, keys: Events::ALL_KEYS })
    );
}

#[test]
fn a_phone_that_answers_opus_with_events_of_the_other_clock() {
    let mut negotiation = Negotiation::new(local(&[Codec::Opus, Codec::Pcmu]), 7);
    negotiation.offer().unwrap();
    let body = lines(&[
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.77",
        "s=-",
        "c=IN IP4 192.0.2.77",
        "t=0 0",
        "m=audio 4000 RTP/AVP 111 101",
        "a=rtpmap:111 opus/48000/2",
        "a=rtpmap:101 telephone-event/8000",
    ]);
    let agreed = negotiation.handle_answer(&body).unwrap();
    assert_eq!(
        agreed.events,
        Some(Events { send_type: 101, receive_type: 101, clock_rate: 8000, keys: Events::ALL_KEYS })
    );
}

#[test]
fn a_body_in_another_charset_with_short_lines_is_read() {
    let mut body = lines(&["v=0", "o=x 1 1 IN IP4 192.0.2.1"]);
    body.extend(b"s=M\xfcller\n\nb=nonsense\nk=\n");
    body.extend(b"c=IN IP4 192.0.2.1  \nm=audio 4000 RTP/AVP 0\n");
    let read = Description::read(&body).unwrap();
    assert_eq!(read.streams[0].remote(), Some("192.0.2.1:4000".parse().unwrap()));
    assert_eq!(read.streams[0].payloads[0].coding, Coding::Audio(Codec::Pcmu));
}

/// RFC 8866 §5.2 and §5.9 are kept by most; nobody's call hangs on it.
#[test]
fn a_wrong_origin_or_time_ends_no_call() {
    for (nth, line) in [
        (1, "o=A Gateway 7 7 IN IP4 198.51.100.7"),
        (1, "o=- 7 -7 IN IP4 198.51.100.7"),
        (1, "o=- 7 99999999999999999999 IN IP4 198.51.100.7"),
        (1, "o=- 7 7 IN IP4"),
        (1, "o="),
        (4, "t=0"),
        (4, "t=-1 0"),
        (4, "t=now"),
        (5, "m=audio  18250   RTP/AVP 8 0 101"),
    ] {
        let mut body = PBX.to_vec();
        body[nth] = line;
        let read = Description::read(&lines(&body)).unwrap_or_else(|error| panic!("{line}: {error}"));
        let stream = &read.streams[0];
        assert_eq!((stream.port, stream.payloads.len(), &*stream.proto), (18250, 3, "RTP/AVP"), "{line}");
    }
}

#[test]
fn what_can_stand_behind_a_connection() {
    let read = |connection: &str| {
        let body = lines(&["v=0", "o=x 1 1 IN IP4 192.0.2.1", "s=-", connection, "t=0 0", "m=audio 4000 RTP/AVP 0"]);
        let stream = Description::read(&body).unwrap().streams.remove(0);
        (stream.remote(), stream.is_blackholed)
    };
    assert_eq!(read("c=IN IP4 192.0.2.9/127"), (Some("192.0.2.9:4000".parse().unwrap()), false));
    assert_eq!(read("c=IN IP6 2001:db8::9"), (Some("[2001:db8::9]:4000".parse().unwrap()), false));
    assert_eq!(read("c=IN IP4 media.example.com"), (None, false));
    assert_eq!(read("c=IN IP4 239.1.1.1/16"), (None, false));
    assert_eq!(read("c=IN IP4 0.0.0.0"), (None, true));
    assert_eq!(read("a=nothing"), (None, false));
}

#[test]
fn bodies_beyond_the_bounds_are_refused_unread() {
    let long = vec![b'a'; sdp::MAX_BYTES + 1];
    assert_eq!(Description::read(&long), Err(SdpError::TooLong(sdp::MAX_BYTES + 1)));
    assert_eq!(Description::read("a=x\n".repeat(513).as_bytes()), Err(SdpError::TooManyLines));
    let many = format!("v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\n{}", "m=audio 4000 RTP/AVP 0\r\n".repeat(17));
    assert_eq!(Description::read(many.as_bytes()), Err(SdpError::TooManyStreams));
    for nothing in [&b""[..], b"hello", b"v=1\r\n", b"\xff\xff", b"v=0\r\nm=audio x RTP/AVP 0\r\n"] {
        assert!(matches!(Description::read(nothing), Err(SdpError::Malformed(_))), "{nothing:?}");
    }
}
