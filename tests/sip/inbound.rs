//! Calls that come in: SIPp calls a whole engine, whose config, API and records say what becomes of them.

use std::path::Path;

use clutchcall::call::{EndReason, EndedBy, Reject, Status};
use clutchcall::engine::config::{Inbound, Then};
use clutchcall::engine::sip::Transport;
use serde_json::{Value, json};

use crate::called::{Called, NUMBER, assert_end, echo, notify, rule, to_its_end};
use crate::common::{Bench, wait_for};
use crate::engine::beside;
use crate::rig::{Caller, Far, case, free_port, towards};

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
        let (traffic, row, _) = to_its_end(Called::new(9, echo()), "caller_other_codec", &[]).await;
        // RFC 3261 §13.3.1.3.
        assert_eq!(traffic.our("SIP/2.0 488").header("Warning"), "305 clutchcall \"Incompatible media format\"");
        assert_end(&row, ("failed", "codec_mismatch", "system", Some(488), 79));
        assert_eq!(row["answeredAt"], Value::Null);
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
