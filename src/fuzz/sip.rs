//! What a far end of a SIP trunk sends and we read ourselves: descriptions, and values of headers; and what name servers say of it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::sip::dice::Dice;
use crate::sip::session_timer::Settings;
use crate::sip::srv::{self, Service};
use crate::sip::{Codec, Local, Negotiation, Refer, SessionTimer, contact, digest, dns, info, reason, uri};

/// Bodies in a row, parted by two zeros, as offers and answers of one dialog: each may follow any other. The first byte has two
/// bits for each.
pub(super) fn sdp(data: &[u8]) {
    let Some((order, mut rest)) = data.split_first() else { return };
    let mut order = *order;
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let local = Local { address, port: 10_000, codecs: Codec::ALL.to_vec(), ptime_ms: 20 };
    let mut ours = Negotiation::new(local.clone(), 1);
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == [0, 0]).unwrap_or(rest.len());
        let body = &rest[..end];
        rest = rest.get(end + 2..).unwrap_or_default();
        let before = ours.agreed().cloned();
        let how = order % 4;
        order = order.rotate_right(2);
        let is_fine = match how {
            0 => ours.handle_offer(body).map(|answer| answered(&local, body, &answer)).is_ok(),
            1 => ours.handle_early_answer(body).is_ok(),
            2 => {
                drop(ours.offer());
                ours.handle_answer(body).is_ok()
            }
            _ => {
                drop(ours.offer_hold(true));
                let is_fine = ours.handle_answer(body).is_ok();
                ours.roll_back();
                is_fine
            }
        };
        if !is_fine {
            assert_eq!(ours.agreed().cloned(), before, "what is refused changes nothing");
        }
        if let Some(agreed) = ours.agreed() {
            assert!(agreed.receive_types.first().is_some_and(|(_, codec)| *codec == agreed.codec));
            assert!((10..=60).contains(&agreed.ptime_ms) && agreed.send_type < 128);
            let limits = agreed.limits();
            assert!((8000..=48_000).contains(&limits.playback_rate));
            assert!(limits.bitrate.is_none_or(|bits| (6000..=510_000).contains(&bits)));
        }
    }
}

/// Our answer is one that whoever made the offer could read: one codec of his, in the place of his stream.
fn answered(local: &Local, offer: &[u8], answer: &str) {
    let read = |body: &[u8]| crate::sip::Description::read(body).expect("it was read before, or written by us");
    let (offer, answer) = (read(offer), read(answer.as_bytes()));
    assert_eq!(offer.streams.len(), answer.streams.len());
    let open: Vec<_> = answer.streams.iter().filter(|stream| stream.port != 0).collect();
    assert!(matches!(open[..], [stream] if stream.port == local.port));
    for (offered, answered) in offer.streams.iter().zip(&answer.streams) {
        assert!(offered.media.eq_ignore_ascii_case(&answered.media));
        let of_offer = |payload: &crate::sip::sdp::Payload| offered.payloads.iter().any(|p| p.number == payload.number);
        assert!(answered.payloads.iter().all(of_offer));
    }
}

pub(super) fn sdp_seeds() -> Vec<Vec<u8>> {
    let pbx = "v=0\r\no=- 1 2 IN IP4 198.51.100.7\r\ns=x\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 18250 RTP/AVP 8 0 101\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=rtcp:18300 IN IP4 198.51.100.8\r\na=sendonly\r\n";
    let phone = "v=0\r\no=- 1 3 IN IP6 2001:db8::1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 99\r\nm=audio 4000 RTP/AVP 96 97\r\n\
        c=IN IP6 2001:db8::1\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 maxplaybackrate=16000;maxaveragebitrate=20000;cbr=1;usedtx=1\r\n\
        a=rtpmap:97 telephone-event/48000\r\na=inactive\r\n";
    let both = |order: u8| [&[order][..], pbx.as_bytes(), b"\x00\x00", phone.as_bytes()].concat();
    vec![both(0), both(0b0100), both(0b0010), both(0b1111)]
}

/// Values of headers, the bodies of a NOTIFY and an INFO, and what is read of a datagram before the SIP crate reads it.
pub(super) fn sip_text(data: &[u8]) {
    crate::engine::sip::fuzz(data);
    let mut refer = Refer::default();
    let _ = refer.handle_notify(data, None);
    for kind in ["application/dtmf-relay", "application/dtmf"] {
        if let info::Info::Key { key, duration_ms } = info::read(Some(kind), data) {
            assert!(matches!(key, '0'..='9' | '*' | '#' | 'A'..='D') && duration_ms <= 60_000);
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(read) = reason::q850([text]) {
        let again = reason::header(read.cause, read.text.as_deref().unwrap_or_default());
        assert_eq!(reason::q850([again.as_str()]).map(|read| read.cause), Some(read.cause));
    }
    if let Some(user) = uri::user_of(text) {
        assert_eq!(uri::user_of(&uri::at(&user, "h")), Some(user));
    }
    if let Some(target) = uri::redirected(text, &["h".to_owned()], 0) {
        assert_eq!(uri::host_of(&target).as_deref(), Some("h"));
    }
    for contact in contact::by_preference([text]) {
        assert!(text.contains(contact.uri));
    }
    if let Ok(template) = text.parse::<uri::Template>() {
        let filled = template.fill("+1 \r\n@;?x", "h");
        assert!(!filled.contains([' ', '\r', '\n']));
    }
    assert!(text.ends_with(uri::plainly_named(text)));
    authorization(text);
    session_timer(text);
}

/// What a caller says who was challenged: of nothing that he says without our nonce he is believed.
fn authorization(text: &str) {
    for (name, value) in digest::parameters(text) {
        assert!(!name.contains('=') && text.contains(value));
    }
    let Some(answer) = digest::Answer::parse(text) else { return };
    thread_local! {
        static START: Instant = Instant::now();
    }
    let now = START.with(|start| *start);
    let account = digest::Account { username: &answer.username, password: "secret", realm: "realm" };
    let verdict = digest::Challenger::new(&[7; 32], now).judge(&answer, "INVITE", account, now);
    assert_ne!(verdict, digest::Verdict::Right);
}

fn session_timer(text: &str) {
    thread_local! {
        static START: Instant = Instant::now();
    }
    let now = START.with(|start| *start);
    let mut timer = SessionTimer::new(Settings { expires_s: Some(1800), min_se_s: 90 });
    let (first, second) = text.split_once('\n').map_or((text, None), |(first, second)| (first, Some(second)));
    let _ = timer.handle_too_small(first);
    timer.handle_answer(Some(first), now);
    assert!(timer.poll_timeout().is_none_or(|at| at - now >= Duration::from_secs(30)));
    let _ = timer.handle_request(Some(first), second, true, now);
    assert!(timer.poll_timeout().is_none_or(|at| at - now >= Duration::from_secs(30)));
}

pub(super) fn sip_text_seeds() -> Vec<Vec<u8>> {
    [
        "Q.850;cause=16;text=\"Normal call clearing\", SIP;cause=200",
        "\"Bob\" <sip:+1-555;phone-context=x@[2001:db8::1]:5060;transport=tcp>;tag=1",
        "tel:+1(555)123-4567;ext=1",
        "sip:{digits}@{trunk_host};user=phone",
        "1800;refresher=uac\n90",
        "SIP/2.0 200 OK\r\n",
        "Signal=5\r\nDuration=160\r\n",
        "Digest username=\"u\", realm=\"realm\", nonce=\"n\", uri=\"sip:h\", response=\"0\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c\"",
        "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, qop=\"auth,auth-int\", opaque=\"o\", stale=TRUE",
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\ni: a@b\r\nl: 2\r\n\r\nv=0\r\n",
        "BYE sip:u@h SIP/2.0\r\nCall-ID : a@b\r\nCSeq: 1 BYE\r\n\r\nv=0\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Asked is one name under one number; seeds are answers to that. What is a name may be asked for.
pub(super) fn dns(data: &[u8]) {
    const NAME: &str = "_sip._udp.example.com";
    if let Some(text) = std::str::from_utf8(data).ok().filter(|text| text.len() < 300)
        && let Some(bytes) = dns::question(text, 1)
    {
        assert!(bytes.len() < 512);
        assert_eq!(dns::read(&bytes, text, 1), Err(dns::Unread::Foreign), "a question is no answer");
    }
    let Ok((Service::At(records), _)) = dns::read(data, NAME, 7) else { return };
    assert!((1..=srv::MOST_RECORDS).contains(&records.len()));
    assert!(records.iter().all(|record| record.port != 0 && !record.target.contains(char::is_control)));
    let ordered = srv::ordered(records.clone(), &mut Dice::new(data.len() as u64));
    assert_eq!(ordered.len(), records.len());
    assert!(ordered.is_sorted_by_key(|record| record.priority));
}

pub(super) fn dns_seeds() -> Vec<Vec<u8>> {
    const ASKED: &[u8] = b"\x04_sip\x04_udp\x07example\x03com\0\0\x21\0\x01";
    let head = |answers: u8, rcode: u8| [0, 7, 0x81, 0x80 | rcode, 0, 1, 0, answers, 0, 0, 0, 0];
    let two = b"\xc0\x0c\0\x21\0\x01\0\0\0\x78\0\x0c\0\x0a\0\x3c\x13\xc4\x03sbc\xc0\x16\
        \xc0\x0c\0\x21\0\x01\0\0\0\x78\0\x0c\0\x0a\0\x28\x13\xd8\x03two\xc0\x16";
    let alias = b"\xc0\x0c\0\x05\0\x01\0\0\0\x78\0\x04\x01x\xc0\x16\
        \xc0\x33\0\x21\0\x01\0\0\0\x78\0\x0c\0\x0a\0\x3c\x13\xc4\x03sbc\xc0\x16";
    let not_offered = b"\xc0\x0c\0\x21\0\x01\0\0\0\x78\0\x07\0\0\0\0\0\0\0";
    vec![
        [&head(2, 0)[..], ASKED, two].concat(),
        [&head(2, 0)[..], ASKED, alias].concat(),
        [&head(1, 0)[..], ASKED, not_offered].concat(),
        [&head(0, 3)[..], ASKED].concat(),
        b"_sip._udp.example.com".to_vec(),
    ]
}
