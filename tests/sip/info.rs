//! Keys as SIP INFO, for far sides without telephone events: which way they go, one at a time, and what is said where nobody takes them.

use clutchcall::call::{EndReason, Status};
use clutchcall::engine::config::{DtmfMode, SipTrunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use serde_json::{Value, json};

use crate::called::{Called, notify, rule};
use crate::common::{Answer, Bench, wait_for};
use crate::engine::{bench_with, beside, originate_with};
use crate::rig::{Caller, Far, Traffic, case, towards};

const ALLOWS: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO";
const ALLOWS_NONE: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS";
const PLAIN: &str = "0";
const WITH_EVENTS: &str = "0 101";
const OK: (&str, &str) = ("200", "OK");

async fn far((allow, formats): (&str, &str), (code, phrase): (&str, &str)) -> Far {
    let keys = [("allow", allow), ("formats", formats), ("code", code), ("phrase", phrase)];
    Far::start("hears_info", &keys).await
}

fn answered(bench: &Bench, digits: Option<&str>) -> String {
    let sid = originate_with(bench, &json!({"sendDigits": digits}));
    bench.wait(&sid, &["in_progress"]);
    sid
}

fn press(bench: &Bench, sid: &str, digits: &str) -> Answer {
    bench.post("voice.calls.sendDtmf", &json!({"sid": sid, "digits": digits, "durationMs": 100}))
}

fn hung_up(bench: &Bench, sid: &str) -> Value {
    assert_eq!(bench.row(sid)["status"], "in_progress", "keys end no call");
    bench.hangup(sid).data();
    let row = bench.ended(sid);
    assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")), "{row}");
    row
}

fn told(traffic: &Traffic, call_id: &Value) -> Vec<String> {
    told_to("far", traffic, call_id)
}

/// What each INFO of ours to this tag holds. No two were under way at the same time.
fn told_to(tag: &str, traffic: &Traffic, call_id: &Value) -> Vec<String> {
    let tag = format!(";tag={tag}");
    let (mut told, mut under_way) = (Vec::new(), None);
    for message in traffic.all().iter().filter(|message| !message.is_response_of_ours()) {
        let number = message.header("CSeq");
        if message.is_ours && number.ends_with(" INFO") && under_way != Some(number) {
            assert_eq!(under_way.replace(number), None, "before it was answered: {traffic:?}");
            assert_eq!(message.header("Content-Type"), "application/dtmf-relay");
            assert_eq!(json!(message.header("Call-ID")), *call_id);
            assert!(message.header("To").ends_with(&tag), "{}", message.text);
            told.push(message.text.split_once("\n\n").unwrap().1.trim().to_owned());
        } else if !message.is_ours && under_way == Some(number) {
            under_way = None;
        }
    }
    told
}

#[test]
fn keys_go_as_info_one_at_a_time() {
    case(async || {
        for (nth, mode, says) in
            [(26, DtmfMode::Auto, (ALLOWS, PLAIN)), (27, DtmfMode::Info, (ALLOWS_NONE, WITH_EVENTS))]
        {
            let far = far(says, OK).await;
            let bench = bench_with(&far, nth, |sip| sip.dtmf_mode = mode);
            let (row, far) = beside(move || {
                let sid = answered(&bench, Some("1#"));
                press(&bench, &sid, "4w2A").data();
                wait_for(|| far.traffic().ours("INFO").last()?.text.contains("Signal=A").then_some(()));
                (hung_up(&bench, &sid), far)
            })
            .await;
            let keys = [("1", 160), ("#", 160), ("4", 100), ("2", 100), ("A", 100)];
            let expected = keys.map(|(key, ms)| format!("Signal={key}\nDuration={ms}"));
            assert_eq!(told(&far.played().await, &row["sipCallId"]), expected, "{mode:?}");
        }
    });
}

#[test]
fn a_far_side_that_takes_no_info_is_asked_once() {
    case(async || {
        for (nth, code, phrase) in [(28, "415", "Unsupported Media Type"), (29, "405", "Method Not Allowed")] {
            let far = far((ALLOWS, PLAIN), (code, phrase)).await;
            let bench = bench_with(&far, nth, |_| {});
            let row = beside(move || {
                let sid = answered(&bench, None);
                for digits in ["12", "3"] {
                    let refused = press(&bench, &sid, digits);
                    assert!(refused.error(409, "CONFLICT").contains(code), "{refused:?}");
                }
                hung_up(&bench, &sid)
            })
            .await;
            assert_eq!(told(&far.played().await, &row["sipCallId"]), ["Signal=1\nDuration=100"]);
        }
    });
}

/// Neither events nor INFO, or no INFO by the trunk's own word.
#[test]
fn nothing_is_sent_to_a_far_side_that_takes_no_keys() {
    case(async || {
        for (nth, mode, allow) in [(30, DtmfMode::Auto, ALLOWS_NONE), (31, DtmfMode::Rfc2833, ALLOWS)] {
            let far = far((allow, PLAIN), OK).await;
            let bench = bench_with(&far, nth, |sip| sip.dtmf_mode = mode);
            let row = beside(move || {
                let sid = answered(&bench, Some("1"));
                let refused = press(&bench, &sid, "2");
                assert!(refused.error(409, "CONFLICT").contains("takes no telephone events"), "{refused:?}");
                hung_up(&bench, &sid)
            })
            .await;
            assert_eq!(told(&far.played().await, &row["sipCallId"]), Vec::<String>::new(), "{mode:?}");
        }
    });
}

#[test]
fn an_info_that_nobody_answers_is_told() {
    case(async || {
        let far = Far::start("deaf_to_info", &[("allow", ALLOWS), ("formats", PLAIN)]).await;
        let settings = SipTrunk { dtmf_mode: DtmfMode::Auto, ..towards(Transport::Udp, far.port) };
        let mut caller = Caller::idle(settings).await;
        caller.place(20);
        caller.until(Status::InProgress).await;
        let refused = caller.press("12").await.unwrap_err();
        assert!(refused.contains("does not answer"), "{refused}");
        assert!(caller.press("3").await.is_err(), "one is under way still");
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Normal, None, Some(16)));
        let traffic = far.played().await;
        let info = traffic.our("INFO");
        assert!(info.text.trim_end().ends_with("Signal=1\nDuration=100"), "none behind it: {}", info.text);
    });
}

/// A caller without telephone events, or a trunk of `info`: the INFO goes to whoever called, within her dialog.
#[test]
fn keys_go_as_info_to_a_caller() {
    case(async || {
        for (nth, mode, (allow, formats)) in
            [(23, DtmfMode::Auto, (ALLOWS, PLAIN)), (24, DtmfMode::Info, (ALLOWS_NONE, WITH_EVENTS))]
        {
            let called = Called::with(nth, |trunk| {
                trunk.inbound.rules = vec![rule("*", notify())];
                let TrunkKind::Sip(sip) = &mut trunk.kind else { panic!("a SIP trunk") };
                sip.dtmf_mode = mode;
            });
            let keys = [("allow", allow), ("formats", formats), ("code", "200"), ("phrase", "OK")];
            let far = called.call_with("caller_hears_info", &keys);
            let (row, far) = beside(move || {
                let sid = called.until(&["ringing"])["sid"].as_str().unwrap().to_owned();
                called.decide("voice.calls.answer", &json!({"sid": sid}));
                called.until(&["in_progress"]);
                press(&called.bench, &sid, "5w#").data();
                wait_for(|| far.traffic().ours("INFO").last()?.text.contains("Signal=#").then_some(()));
                (hung_up(&called.bench, &sid), far)
            })
            .await;
            let told = told_to("caller", &far.played().await, &row["sipCallId"]);
            assert_eq!(told, ["Signal=5\nDuration=100", "Signal=#\nDuration=100"], "{mode:?}");
        }
    });
}
