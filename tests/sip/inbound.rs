//! Calls that come in: SIPp calls a whole engine, whose config, API and records say what becomes of them.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use clutchcall::call::{EndReason, EndedBy, Reject, Status};
use clutchcall::engine::config::{Challenge, Config, Inbound, InboundRule, Secret, Then, Trunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use clutchcall::sip::digest::Algorithm;
use serde_json::{Value, json};

use crate::common::{Bench, wait_for};
use crate::engine::beside;
use crate::rig::{Caller, Far, Traffic, case, free_port, towards};

const RTP_FROM: u16 = 22_000;
const NUMBER: &str = "+15550001234";

/// An engine that is called, and where.
pub(crate) struct Called {
    pub(crate) bench: Bench,
    pub(crate) at: SocketAddr,
    /// Where its caller sits.
    pub(crate) from: u16,
}

pub(crate) fn rule(number: &str, then: Then) -> InboundRule {
    InboundRule { number: number.parse().unwrap(), org: "org_a".to_owned(), then, max_duration: None }
}

pub(crate) fn echo() -> Then {
    Then::Answer { agent: "echo".to_owned() }
}

pub(crate) fn notify() -> Then {
    Then::Notify { ring_timeout_s: 30 }
}

impl Called {
    /// Each test has RTP ports of its own.
    pub(crate) fn new(nth: u16, then: Then) -> Self {
        Self::with(nth, |trunk| trunk.inbound.rules = vec![rule("*", then)])
    }

    pub(crate) fn with(nth: u16, change: impl FnOnce(&mut Trunk)) -> Self {
        Self::configured(nth, |_| {}, change)
    }

    pub(crate) fn configured(nth: u16, configure: impl FnOnce(&mut Config), change: impl FnOnce(&mut Trunk)) -> Self {
        let (from, port) = (free_port(), free_port());
        let mut sip = towards(Transport::Udp, from);
        sip.internal_sip_ip = "127.0.0.1".parse().unwrap();
        sip.source_pbx_port = port;
        sip.rtp_ports = RTP_FROM + nth * 20..=RTP_FROM + nth * 20 + 19;
        let mut trunk = Trunk { kind: TrunkKind::Sip(Box::new(sip)), channel_limit: 2, ..Trunk::default() };
        trunk.inbound = Inbound::default();
        change(&mut trunk);
        let bench = Bench::with(|config| {
            configure(config);
            config.trunks.insert("carrier".to_owned(), trunk);
        });
        Self { bench, at: SocketAddr::from(([127, 0, 0, 1], port)), from }
    }

    pub(crate) fn call(&self, scenario: &str) -> Far {
        self.call_with(scenario, &[])
    }

    pub(crate) fn call_with(&self, scenario: &str, keys: &[(&str, &str)]) -> Far {
        let keys: Vec<_> = keys.iter().copied().chain([("number", NUMBER)]).collect();
        Far::calls(scenario, self.from, self.at, &keys)
    }

    pub(crate) fn rows(&self) -> Vec<Value> {
        self.bench.get("voice.calls.list", &json!({"orgId": "org_a"})).data()["calls"].as_array().unwrap().clone()
    }

    /// The only call there is, once it is there.
    pub(crate) fn row(&self) -> Value {
        let row = wait_for(|| self.rows().into_iter().next());
        assert_eq!(self.rows().len(), 1);
        row
    }

    pub(crate) fn until(&self, statuses: &[&str]) -> Value {
        self.bench.wait(self.row()["sid"].as_str().unwrap(), statuses)
    }

    /// Answers or refuses a call that rings.
    pub(crate) fn decide(&self, procedure: &str, input: &Value) {
        self.bench.post(procedure, input).data();
    }

    pub(crate) fn ended(&self) -> Value {
        self.until(&["completed", "failed", "no_answer"])
    }
}

/// Status, end reason, who ended it, SIP code and Q.850 cause.
#[track_caller]
fn assert_end(row: &Value, end: (&str, &str, &str, Option<u16>, u8)) {
    let (status, reason, by, code, q850) = end;
    let is = (&row["status"], &row["endReason"], &row["endedBy"], &row["sipCode"], &row["q850"]);
    let wanted = (&json!(status), &json!(reason), &json!(by), &json!(code), &json!(q850));
    assert_eq!(is, wanted, "{row}");
    assert_eq!(
        (&row["direction"], &row["to"], &row["from"]),
        (&json!("inbound"), &json!(NUMBER), &json!("+15558675309"))
    );
}

/// The call of a scenario to its end: what its caller saw, and its row.
pub(crate) async fn to_its_end(called: Called, scenario: &str, keys: &[(&str, &str)]) -> (Traffic, Value, Called) {
    let far = called.call_with(scenario, keys);
    let traffic = far.played().await;
    let (row, called) = beside(move || (called.ended(), called)).await;
    (traffic, row, called)
}

#[test]
fn an_agent_answers_and_is_heard() {
    case(async || {
        // It gives back every packet of ours, which never pause, and hangs up after a while.
        let (traffic, row, called) = to_its_end(Called::new(0, echo()), "caller_leaves", &[]).await;
        assert_end(&row, ("completed", "normal", "remote", None, 16));
        assert_eq!((&row["agent"], &row["trunkId"]), (&json!("echo"), &json!("carrier")));
        assert!(row["answeredAt"].is_string());
        for (code, least) in [("SIP/2.0 100", 1), ("SIP/2.0 180", 1), ("SIP/2.0 200", 2)] {
            assert!(traffic.ours(code).len() >= least, "{code}: {traffic:?}");
        }
        let ok = traffic.ours("SIP/2.0 200")[0];
        assert_eq!(ok.header("Content-Type"), "application/sdp");
        assert_eq!(ok.header("Contact"), format!("<sip:{}>", called.at));
        assert_eq!(ok.header("To"), traffic.ours("SIP/2.0 180")[0].header("To"), "one dialog");
        assert_eq!(ok.header("Call-ID"), row["sipCallId"].as_str().unwrap());
        assert!(traffic.ours("BYE").is_empty());
        let row = beside(move || wait_for(|| Some(called.row()).filter(|row| row["rtp"].is_object()))).await;
        let packets = |name: &str| row["rtp"][name].as_u64().unwrap();
        assert!(packets("packetsSent") >= 3 && packets("packetsReceived") >= 3, "{row}");
    });
}

#[test]
fn the_api_answers_and_hangs_up() {
    case(async || {
        let called = Called::new(1, notify());
        let far = called.call("caller_stays");
        let row = beside(move || {
            let row = called.until(&["ringing"]);
            let sid = row["sid"].as_str().unwrap().to_owned();
            let ringing = called.bench.get("voice.calls.list", &json!({"status": "ringing"})).data();
            assert_eq!(ringing["calls"][0]["sid"], json!(sid), "whoever asks for ringing calls finds it");
            called.decide("voice.calls.answer", &json!({"sid": sid, "agent": "echo"}));
            called.bench.wait(&sid, &["in_progress"]);
            let again = called.bench.post("voice.calls.answer", &json!({"sid": sid}));
            assert!(again.error(409, "CONFLICT").contains("answered already"));
            called.bench.hangup(&sid).data();
            called.ended()
        })
        .await;
        assert_end(&row, ("completed", "normal", "local", None, 16));
        assert_eq!(row["agent"], "echo");
        let bye = far.played().await;
        let bye = bye.our("BYE");
        assert!(bye.text.starts_with("BYE sip:caller@127.0.0.1:"), "{}", bye.text);
        assert!(bye.header("Reason").starts_with("Q.850;cause=16"));
        assert!(bye.header("To").ends_with(";tag=caller"), "{}", bye.text);
    });
}

/// The 200 of the first who answered is on its way, and her agent stays.
#[test]
fn who_answers_second_is_told_so_before_the_ack() {
    case(async || {
        let called = Called::new(45, notify());
        let far = called.call("caller_never_acks");
        let (row, far) = beside(move || {
            let sid = called.until(&["ringing"])["sid"].clone();
            called.bench.post("voice.calls.answer", &json!({"sid": sid, "agent": "echo"})).data();
            for body in [json!({"sid": sid, "agent": "echo"}), json!({"sid": sid})] {
                let second = called.bench.post("voice.calls.answer", &body);
                assert!(second.error(409, "CONFLICT").contains("answered already"), "{second:?}");
            }
            assert_eq!(called.row()["status"], "ringing", "nobody has acknowledged anything");
            wait_for(|| (!far.traffic().ours("SIP/2.0 200").is_empty()).then_some(()));
            called.bench.hangup(sid.as_str().unwrap()).data();
            (called.ended(), far)
        })
        .await;
        assert_end(&row, ("failed", "canceled", "local", None, 31));
        assert_eq!((&row["agent"], row.get("answeredAt")), (&json!("echo"), None), "{row}");
        // No BYE comes before the ACK (RFC 3261 §15).
        let traffic = far.traffic();
        assert!(traffic.ours("BYE").is_empty() && !traffic.ours("SIP/2.0 200").is_empty(), "{traffic:?}");
    });
}

#[test]
fn the_api_refuses() {
    case(async || {
        for (nth, reason, code, end) in [
            (2, json!("busy"), "486", ("failed", "busy", "local", Some(486), 17)),
            (3, Value::Null, "603", ("failed", "declined", "local", Some(603), 21)),
        ] {
            let called = Called::new(nth, notify());
            let far = called.call_with("caller_refused", &[("code", code)]);
            let row = beside(move || {
                let sid = called.until(&["ringing"])["sid"].clone();
                let wrong = called.bench.post("voice.calls.reject", &json!({"sid": sid, "reason": "bored"}));
                assert!(wrong.error(400, "BAD_REQUEST").contains("busy, declined, unavailable"));
                called.decide("voice.calls.reject", &json!({"sid": sid, "reason": reason}));
                called.ended()
            })
            .await;
            assert_end(&row, end);
            far.played().await;
        }
    });
}

#[test]
fn a_rule_refuses_and_says_so_again_without_asking() {
    case(async || {
        let called = Called::new(4, Then::Reject(Reject::Busy));
        let (traffic, row, called) = to_its_end(called, "caller_repeats", &[("code", "486")]).await;
        assert_end(&row, ("failed", "busy", "local", Some(486), 17));
        let numbers: Vec<_> = traffic.ours("SIP/2.0 486").iter().map(|answer| answer.header("CSeq")).collect();
        assert!(numbers.contains(&"1 INVITE") && numbers.contains(&"2 INVITE"), "{numbers:?}");
        assert_eq!(called.rows().len(), 1, "one call, however often it is tried");
    });
}

#[test]
fn nobody_answers() {
    case(async || {
        let called = Called::new(5, Then::Notify { ring_timeout_s: 5 });
        let (_, row, _) = to_its_end(called, "caller_refused", &[("code", "480")]).await;
        assert_end(&row, ("no_answer", "ring_timeout", "system", Some(480), 19));
    });
}

#[test]
fn the_caller_gives_up() {
    let elsewhere = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"";
    let twice = format!("{elsewhere}\n    Reason: Q.850;cause=16");
    let everywhere = "Reason: SIP;cause=600;text=\"Busy, everywhere\", Q.850;cause=0";
    case(async || {
        for (nth, scenario, header, reason, q850) in [
            (6, "caller_gives_up", "Reason: Q.850;cause=0", "canceled", 31),
            (7, "caller_in_a_hurry", "X-Reason: none", "canceled", 31),
            (40, "caller_gives_up", "Reason: Q.850;cause=18;text=\"No user responding\"", "canceled", 18),
            (41, "caller_gives_up", everywhere, "canceled", 17),
            (42, "caller_gives_up", elsewhere, "answered_elsewhere", 26),
            (43, "caller_gives_up", &*twice, "answered_elsewhere", 16),
            (44, "caller_in_a_hurry", elsewhere, "answered_elsewhere", 26),
        ] {
            let (traffic, row, _) = to_its_end(Called::new(nth, notify()), scenario, &[("reason", header)]).await;
            assert_end(&row, ("no_answer", reason, "remote", None, q850));
            let tags: Vec<_> = ["SIP/2.0 180", "SIP/2.0 487"].map(|code| traffic.ours(code)[0].header("To")).into();
            assert_eq!(tags[0], tags[1], "one dialog");
        }
    });
}

#[test]
fn a_caller_without_a_description_gets_ours() {
    case(async || {
        let (traffic, row, _) = to_its_end(Called::new(8, echo()), "caller_wants_offer", &[]).await;
        assert_end(&row, ("completed", "normal", "remote", None, 16));
        let offer = &traffic.ours("SIP/2.0 200")[0].text;
        assert!(offer.contains("m=audio ") && offer.contains("PCMA/8000") && offer.contains("opus/48000"), "{offer}");
    });
}

#[test]
fn no_codec_in_common() {
    case(async || {
        let (_, row, _) = to_its_end(Called::new(9, echo()), "caller_other_codec", &[]).await;
        assert_end(&row, ("failed", "codec_mismatch", "system", Some(488), 79));
        assert_eq!(row["answeredAt"], Value::Null);
    });
}

#[test]
fn what_is_demanded_and_not_there_is_named() {
    case(async || {
        let called = Called::new(10, echo());
        let traffic = called.call("caller_required").played().await;
        assert_eq!(traffic.our("SIP/2.0 420").header("Unsupported"), "100rel");
        assert_eq!(called.rows(), Vec::<Value>::new());
    });
}

#[test]
fn a_number_that_no_rule_has_and_a_trunk_that_is_full() {
    case(async || {
        let called = Called::with(11, |trunk| {
            trunk.channel_limit = 1;
            trunk.inbound.rules = vec![rule("+1555000????", notify()), rule("+1*", echo())];
        });
        let far = Far::calls("caller_refused", called.from, called.at, &[("number", "+4930123"), ("code", "404")]);
        far.played().await;
        assert_eq!(called.rows(), Vec::<Value>::new());
        let first = called.call_with("caller_refused", &[("code", "603")]);
        let (called, row) = beside(move || {
            let row = called.until(&["ringing"]);
            (called, row)
        })
        .await;
        let second = Far::calls("caller_refused", free_port(), called.at, &[("number", NUMBER), ("code", "486")]);
        assert!(!second.played().await.our("SIP/2.0 486").header("Retry-After").is_empty());
        called.decide("voice.calls.reject", &json!({"sid": row["sid"]}));
        first.played().await;
        let metrics = called.bench.metrics();
        assert!(metrics.contains("clutchcall_arrivals_turned_away_total 2\n"), "{metrics}");
        assert!(metrics.contains("clutchcall_arrivals_total 1\n"), "{metrics}");
    });
}

#[test]
fn an_engine_that_is_full_says_when_to_come_again() {
    case(async || {
        let full = |config: &mut Config| config.limits.calls = 1;
        let called = Called::configured(46, full, |trunk| trunk.inbound.rules = vec![rule("*", notify())]);
        let first = called.call_with("caller_refused", &[("code", "603")]);
        let (called, row) = beside(move || {
            let row = called.until(&["ringing"]);
            (called, row)
        })
        .await;
        let second = Far::calls("caller_refused", free_port(), called.at, &[("number", NUMBER), ("code", "503")]);
        assert_eq!(second.played().await.our("SIP/2.0 503").header("Retry-After"), "10");
        assert_eq!(called.row()["sid"], row["sid"], "a call that is turned away has no record");
        called.decide("voice.calls.reject", &json!({"sid": row["sid"]}));
        first.played().await;
    });
}

#[test]
fn an_engine_that_ends_refuses_who_rings() {
    case(async || {
        let called = Called::new(12, notify());
        let far = called.call_with("caller_refused", &[("code", "503")]);
        let row = beside(move || {
            let sid = called.until(&["ringing"])["sid"].as_str().unwrap().to_owned();
            let Bench { engine, state } = called.bench;
            engine.shutdown();
            // Its record is read by another one.
            Bench::at(state, |_| {}).row(&sid)
        })
        .await;
        assert_end(&row, ("failed", "server_shutdown", "system", Some(503), 41));
        far.played().await.our("SIP/2.0 503");
    });
}

#[test]
fn an_announcement_is_played_and_the_call_is_hung_up() {
    case(async || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("closed.wav");
        write_wav(&file, 4000);
        let called = Called::new(13, Then::Play { audio_file: file });
        let (traffic, row, called) = to_its_end(called, "caller_stays", &[]).await;
        assert_end(&row, ("completed", "normal", "system", None, 16));
        traffic.our("BYE");
        let row = beside(move || wait_for(|| Some(called.row()).filter(|row| row["rtp"].is_object()))).await;
        assert!(row["rtp"]["packetsSent"].as_u64().unwrap() >= 25, "half a second of it: {row}");
    });
}

/// So many samples at 8 kHz.
fn write_wav(path: &Path, samples: u32) {
    let mut bytes = clutchcall::audio::wav::header(8000, 1, samples * 2).to_vec();
    bytes.extend((0..samples).flat_map(|n| ((n as i16 % 40) * 500).to_le_bytes()));
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn who_is_no_trunks_is_dropped() {
    case(async || {
        let called = Called::new(14, echo());
        let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
        let us = stranger.local_addr().unwrap();
        let invite = format!(
            "INVITE sip:{NUMBER}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bKstranger\r\n\
             From: <sip:+15558675309@127.0.0.1>;tag=1\r\nTo: <sip:{NUMBER}@{to}>\r\nCall-ID: 1@stranger\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:x@{us}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
            to = called.at
        );
        stranger.send_to(invite.as_bytes(), called.at).unwrap();
        // Behind it in the same socket: when this one is answered the stranger has been heard.
        let (_, row, called) = to_its_end(called, "caller_leaves", &[]).await;
        assert_end(&row, ("completed", "normal", "remote", None, 16));
        assert_eq!(called.rows().len(), 1);
        stranger.set_nonblocking(true).unwrap();
        assert!(stranger.recv(&mut [0; 2000]).is_err(), "nothing was said to a stranger");
    });
}

fn challenged(nth: u16, change: impl FnOnce(&mut Trunk)) -> Called {
    Called::with(nth, |trunk| {
        trunk.inbound.rules = vec![rule("*", echo())];
        trunk.inbound.challenge = Some(Challenge {
            username: "pbx".to_owned(),
            password: Secret::new("p4ss"),
            // All that SIPp knows.
            algorithms: vec![Algorithm::Md5],
        });
        change(trunk);
    })
}

#[test]
fn who_knows_the_password_is_let_in_from_anywhere() {
    case(async || {
        // Its calls come from an address that the trunk does not have.
        let called = challenged(15, |trunk| {
            let TrunkKind::Sip(sip) = &mut trunk.kind else { panic!("it is one") };
            sip.sbc_ip = Some("192.0.2.1".parse().unwrap());
        });
        let keys = [("user", "pbx"), ("pass", "p4ss")];
        let (traffic, row, _) = to_its_end(called, "caller_proves_itself", &keys).await;
        assert_end(&row, ("completed", "normal", "remote", None, 16));
        let challenge = traffic.our("SIP/2.0 401").header("WWW-Authenticate");
        assert!(challenge.contains("realm=\"clutchcall\"") && challenge.contains("qop=\"auth\""), "{challenge}");
    });
}

#[test]
fn who_guesses_the_password_is_refused() {
    case(async || {
        for (nth, user, pass) in [(16, "pbx", "guess"), (17, "nobody", "p4ss")] {
            let called = challenged(nth, |_| {});
            let far = called.call_with("caller_guesses", &[("code", "403"), ("user", user), ("pass", pass)]);
            far.played().await;
            assert_eq!(called.rows(), Vec::<Value>::new());
            let metrics = called.bench.metrics();
            assert!(metrics.contains("clutchcall_sip_dropped_total{what=\"wrong_password\"} 1\n"), "{metrics}");
        }
    });
}

/// By a clock of its own: 64·T1 passes within a test.
#[test]
fn a_200_that_is_never_acknowledged() {
    case(async || {
        let from = free_port();
        let mut callee = Caller::idle(towards(Transport::Udp, from)).await;
        callee.trunk.receive_as("carrier", &Inbound { rules: vec![rule("*", notify())], ..Inbound::default() });
        let far = Far::calls("caller_never_acks", from, callee.address, &[("number", NUMBER)]);
        callee.is_called().await;
        callee.pick_up();
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::Failed, EndReason::NoAck, None, Some(102)));
        assert_eq!((callee.record().ended_by, callee.legs), (Some(EndedBy::System), 0));
        let traffic = far.played().await;
        let answers = traffic.ours("SIP/2.0 200");
        assert!(answers.len() >= 5, "it was not repeated: {answers:?}");
        traffic.our("BYE");
    });
}

#[test]
fn a_hangup_waits_for_the_acknowledgement() {
    case(async || {
        let from = free_port();
        let mut callee = Caller::idle(towards(Transport::Udp, from)).await;
        callee.trunk.receive_as("carrier", &Inbound { rules: vec![rule("*", notify())], ..Inbound::default() });
        let far = Far::calls("caller_stays", from, callee.address, &[("number", NUMBER)]);
        callee.is_called().await;
        callee.pick_up();
        callee.hangup();
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::Failed, EndReason::Canceled, None, Some(31)));
        far.played().await.our("BYE");
    });
}
