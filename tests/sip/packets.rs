//! What goes through on the wire while a call is up: every length of packet, strangers, garbage, silence; and no ports for one.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clutchcall::audio::{Codec, Params};
use clutchcall::client::Delivered;
use clutchcall::engine::config::SipTrunk;
use clutchcall::rtp::Header;
use serde_json::{Value, json};

use crate::common::{Bench, wait_for};
use crate::engine::{Attached, attach, bench_with, beside, originate};
use crate::phones::{FRAME, Line, Phones, SILENCE, frame};
use crate::rig::{Far, LIMIT, Traffic, case, free_ports};

/// What the bridge says is no phone's.
const BRIDGE: usize = 9;

async fn far(scenario: &str, phones: &Phones, ptime: &str, calls: &str) -> Far {
    Far::start(scenario, &[("calls", calls), ("far_port", &phones.port()), ("ptime", ptime)]).await
}

/// A bridge on a call in the phone's own codec.
struct Ear {
    attached: Attached,
    heard: Vec<u8>,
    said: usize,
}

impl Ear {
    fn attach(bench: &Bench, sid: &str) -> Self {
        let params = Params::new(Codec::G711Ulaw, None, 1, 20).unwrap();
        Self { attached: attach(bench, sid, params, 1024), heard: Vec::new(), said: 0 }
    }

    /// Takes what came, and keeps half a second of speech on its way.
    fn go_on(&mut self) {
        while let Some(delivered) = self.attached.ring.pop() {
            if let Delivered::Frame { payload, .. } = delivered {
                self.heard.extend_from_slice(&payload);
            }
        }
        while self.attached.bridge.queued_us() < 500_000 {
            self.attached.bridge.publish(Bytes::from(frame(BRIDGE, self.said)), None).unwrap();
            self.said += 1;
        }
    }
}

/// How many of the bridge's frames the phone has heard, whole and in order. Between them is silence and nothing else.
fn frames_in(line: &Line) -> usize {
    let mut numbers = Vec::new();
    line.runs().for_each(|run| frames_of(&run, &mut numbers));
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    numbers.len()
}

fn frames_of(run: &[u8], numbers: &mut Vec<usize>) {
    let mut at = 0;
    while at < run.len() {
        let head = run.get(at..at + 4).filter(|head| usize::from(head[0]) == BRIDGE + 1);
        let number = head.map(|head| usize::from(head[1]) << 8 | usize::from(head[2]));
        match number.filter(|number| run[at..].starts_with(&frame(BRIDGE, *number))) {
            Some(number) => {
                numbers.push(number);
                at += FRAME;
            }
            // The last one may be cut.
            None if run.len() - at < FRAME => return,
            None => {
                assert_eq!(run[at], SILENCE, "at {at}, behind {:?}", numbers.last());
                at += 1;
            }
        }
    }
}

#[test]
fn packets_of_every_length_go_through_byte_by_byte() {
    case(async || {
        for (nth, ms) in [(50, 10), (51, 20), (52, 30), (53, 40), (54, 60usize)] {
            let mut phones = Phones::new();
            let far = far("phone", &phones, &ms.to_string(), "1").await;
            let bench = bench_with(&far, nth, |_| {});
            let (phones, ear, row) = beside(move || {
                let sid = originate(&bench);
                bench.wait(&sid, &["in_progress"]);
                let mut ear = Ear::attach(&bench, &sid);
                let begun = Instant::now();
                let speech: Vec<u8> = (0..4096).flat_map(|number| frame(0, number)).collect();
                while ear.heard.len() < 60 * FRAME || frames_in(&phones.lines[0]) < 60 {
                    assert!(begun.elapsed() < LIMIT, "{} bytes came of {ms} ms", ear.heard.len());
                    let line = phones.hear();
                    let said = phones.lines[line].said.len();
                    phones.say(line, &speech[said..said + 8 * ms]);
                    ear.go_on();
                }
                bench.hangup(&sid).data();
                bench.ended(&sid);
                (phones, ear, wait_for(|| Some(bench.row(&sid)).filter(|row| row["rtp"].is_object())))
            })
            .await;
            let line = &phones.lines[0];
            assert!(line.heard.iter().all(|payload| payload.len() == 8 * ms), "packets of {ms} ms");
            // Who attaches late hears the rest; of that, all.
            let from =
                line.said.chunks(FRAME).position(|said| *said == ear.heard[..FRAME]).expect("it was said") * FRAME;
            assert!(line.said[from..].starts_with(&ear.heard), "{ms} ms: a byte is missing, or another");
            assert_eq!(row["rtp"]["packetsLost"], 0, "{row}");
            far.played().await;
        }
    });
}

/// What a stranger says to both ports of a line.
fn pester(stranger: &UdpSocket, rtp: SocketAddr, n: u16) {
    let rtcp = SocketAddr::new(rtp.ip(), rtp.port() + 1);
    let mut spoofed = Vec::new();
    // The phone's own SSRC and numbers, from elsewhere.
    let (sequence, timestamp) = (n.wrapping_mul(3), u32::from(n) * 160);
    Header { marker: false, payload_type: 0, sequence, timestamp, ssrc: 1 }.write(&mut spoofed);
    spoofed.extend_from_slice(&[0x55; FRAME]);
    // RTCP that promises more than it holds, and a BYE of the phone's own source.
    let reports = [&[0x81, 200, 0xff, 0xff, 0, 0, 0, 1][..], &[0x81, 203, 0, 1, 0, 0, 0, 1]];
    let garbage = [&spoofed[..], b"", b"\x80", &[0xff; 1400], b"INVITE sip:x SIP/2.0\r\n\r\n"];
    for bytes in garbage.into_iter().chain(reports) {
        stranger.send_to(bytes, rtp).unwrap();
        stranger.send_to(bytes, rtcp).unwrap();
    }
}

#[test]
fn strangers_and_garbage_on_a_live_call_are_nobody_to_it() {
    case(async || {
        let mut phones = Phones::new();
        let far = far("phone", &phones, "20", "1").await;
        let bench = bench_with(&far, 55, |_| {});
        let (said, heard, row) = beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            let mut ear = Ear::attach(&bench, &sid);
            phones.talk_until(|lines| lines.len() == 1 && lines[0].heard.len() > 3);
            let rtp = phones.lines[0].ours;
            let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
            let begun = Instant::now();
            let mut n = 0u16;
            while ear.heard.len() < 100 * FRAME {
                assert!(begun.elapsed() < LIMIT, "{} bytes came", ear.heard.len());
                // No flood: what a stopped thread of ours finds in its socket is all of it.
                if n.is_multiple_of(5) {
                    pester(&stranger, rtp, n);
                }
                n += 1;
                let line = phones.hear();
                phones.say_on(line);
                ear.go_on();
            }
            bench.hangup(&sid).data();
            bench.ended(&sid);
            let row = wait_for(|| Some(bench.row(&sid)).filter(|row| row["rtp"].is_object()));
            (phones.lines.remove(0).said, ear.heard, row)
        })
        .await;
        let from = said.chunks(FRAME).position(|frame| *frame == heard[..FRAME]).expect("the phone said it") * FRAME;
        assert!(said[from..].starts_with(&heard), "nothing of a stranger is in it, and nothing is missing");
        assert_eq!((&row["endReason"], &row["rtp"]["packetsLost"]), (&json!("normal"), &json!(0)), "{row}");
        let received = row["rtp"]["packetsReceived"].as_u64().unwrap() as usize;
        assert!(received * FRAME <= said.len(), "{received} of {}", said.len() / FRAME);
        far.played().await;
    });
}

/// Re-INVITEs whose bodies are no descriptions, or want what we don't have, are refused; the call goes on as before.
#[test]
fn a_far_end_that_babbles_keeps_its_call() {
    case(async || {
        let mut phones = Phones::new();
        let far = far("babbles", &phones, "20", "1").await;
        let bench = bench_with(&far, 56, |_| {});
        let row = beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            phones.talk_until(|lines| lines.len() == 1 && lines[0].heard.len() > 100);
            bench.hangup(&sid).data();
            bench.ended(&sid)
        })
        .await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")), "{row}");
        far.played().await;
    });
}

/// A call with these limits; the phone says `frames`, and then only listens until `until`.
async fn listening(nth: u16, frames: usize, change: fn(&mut SipTrunk), until: fn(&Value, usize) -> bool) -> Value {
    let mut phones = Phones::new();
    let far = far("phone", &phones, "20", "1").await;
    let bench = bench_with(&far, nth, change);
    let row = beside(move || {
        let sid = originate(&bench);
        bench.wait(&sid, &["in_progress"]);
        if frames > 0 {
            phones.talk_until(|lines| lines.len() == 1 && lines[0].said.len() >= frames * FRAME);
        }
        let (begun, before) = (Instant::now(), phones.lines.first().map_or(0, |line| line.heard.len()));
        loop {
            assert!(begun.elapsed() < LIMIT, "{}", bench.row(&sid));
            phones.heard_within(Duration::from_millis(100));
            let heard = phones.lines.first().map_or(0, |line| line.heard.len());
            let row = bench.row(&sid);
            if until(&row, heard - before) {
                bench.hangup(&sid).data();
                return bench.ended(&sid);
            }
        }
    })
    .await;
    far.played().await;
    row
}

#[test]
fn a_phone_that_is_not_heard_ends_its_call_in_the_trunks_time() {
    case(async || {
        fn ended(row: &Value, _heard: usize) -> bool {
            row["status"] == "completed"
        }
        const SHORT: Option<Duration> = Some(Duration::from_secs(1));
        let never = listening(57, 0, |sip| sip.media_timeout_initial = SHORT, ended).await;
        let no_more = listening(58, 20, |sip| sip.media_timeout = SHORT, ended).await;
        for row in [never, no_more] {
            assert_eq!(
                (&row["endReason"], &row["endedBy"], &row["q850"]),
                (&json!("media_timeout"), &json!("system"), &json!(31)),
                "{row}"
            );
        }
        // Each limit is its own, and none is none: four seconds of ours.
        let longer = |row: &Value, heard: usize| row["status"] != "in_progress" || heard >= 200;
        let other = listening(59, 20, |sip| sip.media_timeout_initial = Some(Duration::from_secs(3)), longer).await;
        let off = |sip: &mut SipTrunk| (sip.media_timeout, sip.media_timeout_initial) = (None, None);
        let none = listening(60, 20, off, longer).await;
        for row in [other, none] {
            assert_eq!((&row["endReason"], &row["endedBy"]), (&json!("normal"), &json!("local")), "{row}");
        }
    });
}

/// The far side's second re-INVITE is answered: the call is held no more.
fn is_back(traffic: &Traffic) -> bool {
    traffic.ours("SIP/2.0 200").iter().any(|answer| answer.header("CSeq") == "2 INVITE")
}

/// Its phone speaks whenever it hears us, so not on hold, which lasts longer than the trunk bears silence. After it, it speaks for a
/// while, and then no more.
async fn held(nth: u16, hold: &str, answer: &str) -> Value {
    const SHORT: Option<Duration> = Some(Duration::from_secs(2));
    let mut phones = Phones::new();
    let port = phones.port();
    let ports = [("far_port", &*port), ("new_port", &*port)];
    let keys = [ports[0], ports[1], ("hold", hold), ("answer", answer), ("held_ms", "4000"), ("cause", "cause=16")];
    let far = Arc::new(Far::start("holds_silently", &keys).await);
    let bench = bench_with(&far, nth, |sip| (sip.media_timeout, sip.media_timeout_initial) = (SHORT, SHORT));
    let seen = Arc::clone(&far);
    let row = beside(move || {
        let (sid, begun) = (originate(&bench), Instant::now());
        // Looks of a tenth of a second in a row in which nothing of ours came.
        let (mut silent, mut longest) = (0, 0);
        while !is_back(&seen.traffic()) {
            assert!(begun.elapsed() < LIMIT, "{}", bench.row(&sid));
            match phones.heard_within(Duration::from_millis(100)) {
                Some(line) => {
                    silent = 0;
                    phones.say_on(line);
                }
                None => silent += 1,
            }
            longest = longest.max(silent);
        }
        assert!(longest > 20, "on hold it hears nothing, and says nothing for longer than the trunk bears: {longest}");
        let heard = |lines: &[Line]| lines.first().map_or(0, |line| line.heard.len());
        let before = heard(&phones.lines);
        phones.talk_until(|lines| heard(lines) >= before + 50);
        bench.ended(&sid)
    })
    .await;
    Arc::into_inner(far).expect("nobody looks at it any more").played().await.our("BYE");
    row
}

#[test]
fn nobody_is_missed_on_hold_and_after_it_again() {
    case(async || {
        for (nth, hold, answer) in [(62, "sendonly", "recvonly"), (63, "inactive", "inactive")] {
            let row = held(nth, hold, answer).await;
            assert_eq!(
                (&row["endReason"], &row["endedBy"], &row["q850"]),
                (&json!("media_timeout"), &json!("system"), &json!(31)),
                "{hold}: {row}"
            );
        }
    });
}

/// For three times as long as a silent one would be borne.
#[test]
fn a_phone_that_sends_comfort_noise_is_there() {
    case(async || {
        let mut phones = Phones::new();
        let far = far("phone", &phones, "20", "1").await;
        let bench = bench_with(&far, 33, |sip| sip.media_timeout = Some(Duration::from_secs(1)));
        let row = beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            phones.talk_until(|lines| lines.len() == 1 && lines[0].said.len() >= 20 * FRAME);
            for _ in 0..150 {
                let line = phones.hear();
                phones.be_quiet(line);
            }
            phones.talk_until(|lines| lines[0].said.len() >= 200 * FRAME);
            assert_eq!(bench.row(&sid)["status"], "in_progress");
            bench.hangup(&sid).data();
            bench.ended(&sid);
            let row = wait_for(|| Some(bench.row(&sid)).filter(|row| row["rtp"].is_object()));
            let metrics = bench.metrics();
            assert!(metrics.contains("clutchcall_rtp_packets_total{what=\"refused\"} 0\n"), "{metrics}");
            row
        })
        .await;
        assert_eq!((&row["endReason"], &row["rtp"]["packetsLost"]), (&json!("normal"), &json!(0)), "{row}");
        assert!(row["rtp"]["packetsReceived"].as_u64().unwrap() >= 190, "{row}");
        far.played().await;
    });
}

#[test]
fn without_ports_a_call_is_refused_and_the_others_go_on() {
    case(async || {
        let mut phones = Phones::new();
        let far = far("phone", &phones, "20", "2").await;
        let bench = bench_with(&far, 61, |sip| sip.rtp_ports = free_ports(4));
        beside(move || {
            let sids = [originate(&bench), originate(&bench)];
            sids.iter().for_each(|sid| drop(bench.wait(sid, &["in_progress"])));
            let body = json!({"orgId": "org_a", "to": "+15550001234", "from": "+15558675309", "trunkId": "carrier"});
            for _ in 0..20 {
                let refused = bench.post("voice.calls.originate", &body);
                let message = refused.error(503, "SERVICE_UNAVAILABLE");
                assert!(message.contains("RTP ports") && message.contains("rtp_end_port"), "{message}");
                assert!(refused.head.contains("retry-after: "), "{}", refused.head);
            }
            // Nothing of theirs is lost, and no channel.
            phones.talk_until(|lines| lines.len() == 2 && lines.iter().all(|line| line.heard.len() > 50));
            assert_eq!(
                bench.metrics().lines().find(|line| line.starts_with("clutchcall_calls_active ")),
                Some("clutchcall_calls_active 2")
            );
            for sid in &sids {
                bench.hangup(sid).data();
                let row = wait_for(|| Some(bench.row(sid)).filter(|row| row["rtp"].is_object()));
                assert_eq!((&row["endReason"], &row["rtp"]["packetsLost"]), (&json!("normal"), &json!(0)), "{row}");
            }
        })
        .await;
        far.played().await;
    });
}
