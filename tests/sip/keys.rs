//! Keys over a SIP trunk, through a whole engine: what the far end presses reaches a bridge, and what a user presses reaches the far end.
//!
//! The far side's signalling is SIPp's, its audio a socket of the test's own.

use std::net::{SocketAddr, UdpSocket};

use clutchcall::audio::Params;
use clutchcall::call::TransferMode;
use clutchcall::call::control::Dtmf;
use clutchcall::client::Delivered;
use clutchcall::engine::config::DtmfMode;
use clutchcall::ring::RingReceiver;
use clutchcall::rtp::dtmf::Event;
use clutchcall::rtp::{Header, Packet};
use serde_json::json;

use crate::common::{Bench, LIMIT, wait_for};
use crate::engine::{Attached, attach, bench_with, beside, originate, originate_with};
use crate::rig::{Far, Message, case};

/// Telephone events, as the scenarios agree on them.
const EVENTS: u8 = 101;
const RING_KEYS: usize = 64;

fn bench(far: &Far, nth: u16) -> Bench {
    bench_with(far, nth, |sip| sip.transfer_mode = TransferMode::Refer)
}

/// The far end's audio.
struct Audio {
    socket: UdpSocket,
    us: Option<SocketAddr>,
    sequence: u16,
}

impl Audio {
    fn open() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self { socket, us: None, sequence: 1 }
    }

    fn port(&self) -> String {
        self.socket.local_addr().unwrap().port().to_string()
    }

    fn hear(&mut self) -> (Header, Vec<u8>) {
        let mut bytes = [0; 2048];
        let (length, from) = self.socket.recv_from(&mut bytes).expect("a packet within the limit");
        self.us = Some(from);
        let packet = Packet::parse(&bytes[..length]).unwrap();
        (packet.header, packet.payload.to_vec())
    }

    fn say(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        let header = Header { marker: false, payload_type, sequence: self.sequence, timestamp, ssrc: 7 };
        header.write(&mut bytes);
        bytes.extend_from_slice(payload);
        self.sequence += 1;
        self.socket.send_to(&bytes, self.us.expect("it has heard us")).unwrap();
    }

    /// A key of 100 ms, its end three times.
    fn press(&mut self, code: u8, timestamp: u32) {
        for (end, duration) in [(false, 160), (false, 480), (true, 800), (true, 800), (true, 800)] {
            self.say(EVENTS, timestamp, &Event { code, end, volume: 10, duration }.bytes());
        }
    }

    /// What was pressed for it, in order: keys, and how long each was.
    fn pressed(&mut self, count: usize) -> Vec<(char, u32)> {
        let mut ends: Vec<(u32, Event, usize)> = Vec::new();
        while ends.iter().filter(|(_, _, times)| *times == 3).count() < count {
            let (header, payload) = self.hear();
            let event = Event::parse(&payload).filter(|event| header.payload_type == EVENTS && event.end);
            let Some(event) = event else { continue };
            match ends.iter_mut().find(|(timestamp, ..)| *timestamp == header.timestamp) {
                Some((_, _, times)) => *times += 1,
                None => ends.push((header.timestamp, event, 1)),
            }
        }
        let key = |code| clutchcall::rtp::dtmf::Key::from_code(code).unwrap().as_char();
        ends.iter().map(|(_, event, _)| (key(event.code), u32::from(event.duration) / 8)).collect()
    }
}

struct Hearing {
    attached: Attached,
    keys: RingReceiver<Delivered>,
}

impl Hearing {
    /// A bridge that is told of keys.
    fn begin(bench: &Bench, sid: &str) -> Self {
        let attached = attach(bench, sid, Params::CALL, 1);
        let (ring, keys) = attached.client.runtime().delivery().ring(RING_KEYS);
        attached.bridge.hear_keys(ring).unwrap();
        Self { attached, keys }
    }

    fn key(&self) -> Dtmf {
        wait_for(|| match self.keys.pop()? {
            Delivered::Dtmf(dtmf) => Some(dtmf),
            other => panic!("no key: {other:?}"),
        })
    }

    /// Nothing follows but the end.
    fn ended(&self) {
        wait_for(|| match self.keys.pop()? {
            Delivered::Closed => Some(()),
            other => panic!("no end: {other:?}"),
        });
    }

    /// The uplink flows: what was asked for together with it is there too.
    fn flows(&self) {
        wait_for(|| (self.attached.bridge.stats().frames_in > 10).then_some(()));
    }
}

#[test]
fn keys_of_the_far_end_reach_a_bridge() {
    case(async || {
        let mut audio = Audio::open();
        let far = Far::start("our_bye", &[("media_port", &audio.port())]).await;
        let bench = bench(&far, 34);
        let row = beside(move || {
            let sid = originate(&bench);
            let hearing = Hearing::begin(&bench, &sid);
            bench.wait(&sid, &["in_progress"]);
            let mut timestamp = 0;
            while hearing.attached.bridge.stats().frames_in <= 10 {
                audio.hear();
                timestamp += 160;
                audio.say(0, timestamp, &[0xff; 160]);
            }
            for (n, code) in [1u8, 2, 2, 10, 11].into_iter().enumerate() {
                audio.press(code, timestamp + 1600 * (n as u32 + 1));
            }
            let keys: Vec<Dtmf> = (0..5).map(|_| hearing.key()).collect();
            assert_eq!(keys.iter().map(|key| key.digit).collect::<String>(), "122*#");
            assert!(keys.iter().all(|key| (key.duration_ms, key.source.as_str()) == (100, "rfc4733")), "{keys:?}");
            assert_eq!(hearing.attached.bridge.stats().keys, 5);
            bench.hangup(&sid).data();
            hearing.ended();
            wait_for(|| Some(bench.row(&sid)).filter(|row| row["rtp"].is_object()))
        })
        .await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")));
        far.played().await;
    });
}

#[test]
fn keys_of_a_user_reach_the_far_end() {
    case(async || {
        let mut audio = Audio::open();
        let far = Far::start("our_bye", &[("media_port", &audio.port())]).await;
        let bench = bench(&far, 35);
        let row = beside(move || {
            let sid = originate_with(&bench, &json!({"sendDigits": "W1#"}));
            bench.wait(&sid, &["in_progress"]);
            assert_eq!(audio.pressed(2), [('1', 160), ('#', 160)], "what came with the call");
            let press = |digits: &str, ms: u32| {
                bench.post("voice.calls.sendDtmf", &json!({"sid": sid, "digits": digits, "durationMs": ms}))
            };
            press("42wA", 100).data();
            assert_eq!(audio.pressed(3), [('4', 100), ('2', 100), ('A', 100)]);
            let many = "1".repeat(60);
            press(&many, 40).data();
            let refused = press("123456789", 40).error(409, "CONFLICT");
            assert!(refused.contains("would wait"), "{refused}");
            for wrong in ["1 2", "1,2", "", "+"] {
                press(wrong, 100).error(400, "BAD_REQUEST");
            }
            press("1", 39).error(400, "BAD_REQUEST");
            press("1", 4001).error(400, "BAD_REQUEST");
            bench.hangup(&sid).data();
            press("1", 100).error(409, "CONFLICT");
            bench.row(&sid)
        })
        .await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")));
        far.played().await;
    });
}

/// RFC 4733 §2.4.1: an event that the far end has not named is not sent; whoever asks for one is told so.
#[test]
fn keys_that_the_far_end_does_not_name_are_refused() {
    case(async || {
        for (nth, mode, allow) in
            [(260, DtmfMode::Auto, "INVITE, ACK, BYE"), (261, DtmfMode::Rfc2833, "INVITE, ACK, BYE, INFO")]
        {
            let mut audio = Audio::open();
            let far = far_of_digits(&audio, allow).await;
            let bench = bench_with(&far, nth, |sip| sip.dtmf_mode = mode);
            let row = beside(move || {
                // Those that come with the call are for the log alone.
                let sid = originate_with(&bench, &json!({"sendDigits": "A"}));
                bench.wait(&sid, &["in_progress"]);
                let press = |digits: &str| {
                    bench.post("voice.calls.sendDtmf", &json!({"sid": sid, "digits": digits, "durationMs": 100}))
                };
                for digits in ["A", "12d", "B3"] {
                    let refused = press(digits).error(409, "CONFLICT");
                    assert!(refused.contains("digits has") && refused.contains("(0123456789*#)"), "{refused}");
                    assert!(refused.contains("dtmf_mode"), "{refused}");
                }
                press("4w#").data();
                assert_eq!(audio.pressed(2), [('4', 100), ('#', 100)], "nothing of those that were refused");
                bench.hangup(&sid).data();
                bench.row(&sid)
            })
            .await;
            assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")), "{row}");
            assert!(far.played().await.ours("INFO").is_empty(), "{mode:?}");
        }
    });
}

/// The same far end, which takes SIP INFO besides.
#[test]
fn keys_that_the_far_end_does_not_name_go_as_info() {
    case(async || {
        let mut audio = Audio::open();
        let far = far_of_digits(&audio, "INVITE, ACK, BYE, INFO").await;
        let bench = bench_with(&far, 262, |_| {});
        beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            let press = |digits: &str| {
                bench.post("voice.calls.sendDtmf", &json!({"sid": sid, "digits": digits, "durationMs": 100})).data();
            };
            press("7");
            assert_eq!(audio.pressed(1), [('7', 100)]);
            press("A5");
            press("8");
            assert_eq!(audio.pressed(1), [('8', 100)], "its A and 5 were no telephone events");
            bench.hangup(&sid).data();
            assert_eq!(bench.ended(&sid)["endReason"], json!("normal"));
        })
        .await;
        let traffic = far.played().await;
        let told = |info: &&Message| info.text.split_once("\n\n").unwrap().1.trim().to_owned();
        let told: Vec<_> = traffic.each("INFO").iter().map(told).collect();
        assert_eq!(told, ["Signal=A\nDuration=100", "Signal=5\nDuration=100"]);
    });
}

/// Its telephone events are 0 to 11: no A, B, C and D.
async fn far_of_digits(audio: &Audio, allow: &str) -> Far {
    let (formats, port) = ("0 101\n    a=fmtp:101 0-11", audio.port());
    let keys = [("allow", allow), ("formats", formats), ("code", "200"), ("phrase", "OK"), ("media_port", &*port)];
    Far::start("hears_info", &keys).await
}

/// Of whoever has no carrier.
#[test]
fn keys_of_the_simulated_phone_reach_a_bridge() {
    let bench = Bench::new();
    let sid = bench.originate("+15550009014");
    let hearing = Hearing::begin(&bench, &sid);
    let keys: Vec<Dtmf> = (0..4).map(|_| hearing.key()).collect();
    assert_eq!(keys.iter().map(|key| key.digit).collect::<String>(), "123#");
    assert!(keys.iter().all(|key| (key.duration_ms, key.source.as_str()) == (160, "rfc4733")), "{keys:?}");
    bench.hangup(&sid).data();
    hearing.ended();
}

/// A far end without telephone events signals its keys by INFO, and can't be sent any.
#[test]
fn keys_that_are_signalled_reach_a_bridge() {
    case(async || {
        let far = Far::start("presses", &[]).await;
        let bench = bench(&far, 36);
        let row = beside(move || {
            let sid = originate(&bench);
            let hearing = Hearing::begin(&bench, &sid);
            bench.wait(&sid, &["in_progress"]);
            let refused = bench.post("voice.calls.sendDtmf", &json!({"sid": sid, "digits": "1"}));
            assert!(refused.error(409, "CONFLICT").contains("takes no telephone events"));
            hearing.flows();
            bench.post("voice.calls.transfer", &json!({"sid": sid, "to": "+15557654321"}));
            let keys: Vec<Dtmf> = (0..3).map(|_| hearing.key()).collect();
            let told: Vec<(char, u32)> = keys.iter().map(|key| (key.digit, key.duration_ms)).collect();
            assert_eq!(told, [('5', 250), ('#', 160), ('*', 100)]);
            assert!(keys.iter().all(|key| key.source == "info"), "{keys:?}");
            bench.hangup(&sid).data();
            hearing.ended();
            bench.row(&sid)
        })
        .await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")));
        let traffic = far.played().await;
        let refused = traffic.our("SIP/2.0 415");
        assert!(refused.header("Accept").contains("application/dtmf-relay"), "{}", refused.text);
    });
}
