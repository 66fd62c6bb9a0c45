//! A transfer by a second leg: two dialogs, one call, and audio from phone to phone.

use std::time::Duration;

use clutchcall::call::TransferMode;
use serde_json::{Value, json};

use crate::common::{Bench, wait_for};
use crate::engine::{bench_with, beside, originate};
use crate::phones::Phones;
use crate::rig::{Far, Traffic, case};

const TO: &str = "+15557654321";
/// It stays until it is hung up.
const STAYS: &str = "15000";

/// A far side that two calls reach, and the phones behind it.
async fn far(scenario: &str, phones: &Phones, keys: &[(&str, &str)]) -> Far {
    let port = phones.port();
    let mut all = vec![("calls", "2"), ("far_port", &*port)];
    all.extend_from_slice(keys);
    let usual = [
        ("code", "405"),
        ("phrase", "Method Not Allowed"),
        ("first_ms", STAYS),
        ("second_ms", STAYS),
        ("ring_ms", "1"),
        ("second_code", "486"),
        ("second_phrase", "Busy Here"),
        ("far_type", "0"),
        ("far_codec", "PCMU"),
    ];
    let given = |name: &str| keys.iter().any(|(key, _)| *key == name);
    all.extend(usual.into_iter().filter(|(name, _)| !given(name)));
    Far::start(scenario, &all).await
}

fn transfer(bench: &Bench, sid: &str, to: &str) -> crate::common::Answer {
    bench.post("voice.calls.transfer", &json!({"orgId": "org_a", "sid": sid, "to": to}))
}

fn answered(bench: &Bench) -> String {
    let sid = originate(bench);
    bench.wait(&sid, &["in_progress"]);
    sid
}

/// With the figures of the line, which come last.
fn ended(bench: &Bench, sid: &str) -> Value {
    bench.ended(sid);
    wait_for(|| Some(bench.row(sid)).filter(|row| row["rtp"].is_object()))
}

/// The two INVITEs, and what was said in each dialog.
fn dialogs(traffic: &Traffic) -> [String; 2] {
    let mut ids: Vec<_> = traffic.ours("INVITE").iter().map(|invite| invite.header("Call-ID").to_owned()).collect();
    ids.dedup();
    ids.try_into().expect("two dialogs")
}

fn byes(traffic: &Traffic, call_id: &str) -> usize {
    traffic.ours("BYE").iter().filter(|bye| bye.header("Call-ID") == call_id).count()
}

/// A REFER that is refused, or none at all; then each phone hears the other's bytes, and our BYE ends both.
#[test]
fn two_phones_hear_each_other_byte_by_byte() {
    case(async || {
        for (nth, mode, code, phrase, referred) in [
            (40, TransferMode::Auto, "405", "Method Not Allowed", 1),
            (41, TransferMode::Auto, "603", "Decline", 1),
            (42, TransferMode::Bridge, "405", "Method Not Allowed", 0),
        ] {
            let mut phones = Phones::new();
            let far = far("two_legs", &phones, &[("code", code), ("phrase", phrase)]).await;
            let bench = bench_with(&far, nth, |sip| sip.transfer_mode = mode);
            let (phones, row) = beside(move || {
                let sid = answered(&bench);
                phones.talk_until(|lines| lines.len() == 1 && lines[0].heard.len() >= 10);
                let told = transfer(&bench, &sid, TO).data();
                assert_eq!(told, json!({"ok": true, "state": "accepted"}));
                phones.talk_until(|lines| {
                    lines.len() == 2 && lines[0].heard_of(1).len() >= 100 && lines[1].heard_of(0).len() >= 100
                });
                let row = bench.row(&sid);
                assert_eq!((&row["status"], &row["transferredTo"]), (&json!("in_progress"), &json!(TO)), "{row}");
                bench.hangup(&sid).data();
                (phones, ended(&bench, &sid))
            })
            .await;
            for (line, other) in [(0, 1), (1, 0)] {
                let numbers = phones.lines[line].heard_of(other);
                assert!(numbers.windows(2).all(|pair| pair[1] > pair[0]), "in order, and none twice: {numbers:?}");
                // What is not heard is a surplus that was given away, and no more.
                let missing = numbers.last().unwrap() - numbers[0] + 1 - numbers.len();
                assert!(missing <= 12, "{missing} of {numbers:?}");
            }
            let leg = &row["legs"][0];
            assert_eq!(
                (&row["endReason"], &row["endedBy"], &row["rtp"]["codec"]),
                (&json!("transferred"), &json!("local"), &json!("PCMU"))
            );
            assert_eq!((&leg["to"], &leg["state"], &leg["q850"]), (&json!(TO), &json!("ended"), &json!(16)), "{row}");
            assert_eq!((&row["transfer"]["mode"], &row["transfer"]["state"]), (&json!("bridge"), &json!("completed")));
            let traffic = far.played().await;
            let [first, second] = dialogs(&traffic);
            assert_eq!((row["sipCallId"].as_str(), leg["sipCallId"].as_str()), (Some(&*first), Some(&*second)));
            assert_eq!(traffic.each("REFER").len(), referred);
            assert!(byes(&traffic, &first) >= 1 && byes(&traffic, &second) >= 1);
        }
    });
}

/// The trunk prefers PCMU, the first phone had nothing but PCMA: so the second one is asked for PCMA first.
#[test]
fn the_second_leg_is_offered_the_codec_of_the_first_one_first() {
    case(async || {
        let mut phones = Phones::of_pcma();
        let far = far("two_legs", &phones, &[("far_type", "8"), ("far_codec", "PCMA")]).await;
        let bench = bench_with(&far, 48, |sip| sip.transfer_mode = TransferMode::Bridge);
        let row = beside(move || {
            let sid = answered(&bench);
            transfer(&bench, &sid, TO).data();
            phones.talk_until(|lines| {
                lines.len() == 2 && lines.iter().enumerate().all(|(at, line)| line.heard_of(1 - at).len() >= 50)
            });
            bench.hangup(&sid).data();
            ended(&bench, &sid)
        })
        .await;
        assert_eq!(row["rtp"]["codec"], "PCMA", "{row}");
        let traffic = far.played().await;
        let mut invites = traffic.ours("INVITE");
        invites.dedup_by_key(|invite| invite.header("Call-ID").to_owned());
        let media = invites.iter().map(|invite| invite.text.lines().find(|line| line.starts_with("m=")).unwrap());
        let first: Vec<&str> = media.map(|line| line.split(' ').nth(3).unwrap()).collect();
        assert_eq!(first, ["0", "8"]);
    });
}

/// What is lost on the way from the second phone is lost in its leg's figures alone.
#[test]
fn each_leg_has_figures_of_its_own() {
    case(async || {
        let mut phones = Phones::new();
        let far = far("two_legs", &phones, &[]).await;
        let bench = bench_with(&far, 25, |sip| sip.transfer_mode = TransferMode::Bridge);
        let (phones, row) = beside(move || {
            let sid = answered(&bench);
            phones.talk_until(|lines| lines.len() == 1 && lines[0].heard.len() >= 30);
            transfer(&bench, &sid, TO).data();
            phones.talk_until(|lines| lines.len() == 2 && lines[0].heard_of(1).len() >= 50);
            phones.lose(1, 3);
            phones.talk_until(|lines| lines[0].heard_of(1).len() >= 100);
            assert_eq!(bench.row(&sid)["legs"][0].get("rtp"), None, "they come with the end");
            bench.hangup(&sid).data();
            (phones, ended(&bench, &sid))
        })
        .await;
        let (own, second) = (&row["rtp"], &row["legs"][0]["rtp"]);
        assert_eq!((&own["codec"], &second["codec"]), (&json!("PCMU"), &json!("PCMU")), "{row}");
        assert_eq!((&own["packetsLost"], &second["packetsLost"]), (&json!(0), &json!(3)), "{row}");
        let figure = |of: &Value, name: &str| of[name].as_f64().unwrap_or_else(|| panic!("no {name} in {row}"));
        for (of, line) in [(own, &phones.lines[0]), (second, &phones.lines[1])] {
            assert!(figure(of, "packetsSent") >= line.heard.len() as f64, "{row}");
            assert!(figure(of, "packetsReceived") >= 50.0 && figure(of, "jitterMs") >= 0.0, "{row}");
            assert_eq!(figure(of, "bytesReceived"), figure(of, "packetsReceived") * 160.0);
        }
        assert!(figure(own, "packetsSent") > figure(second, "packetsSent"), "the first leg was there before: {row}");
        assert!(figure(second, "mos") < figure(own, "mos"), "{row}");
        let traffic = far.played().await;
        let [first, second] = dialogs(&traffic);
        assert!(byes(&traffic, &first) >= 1 && byes(&traffic, &second) >= 1);
    });
}

#[test]
fn keys_go_from_phone_to_phone() {
    case(async || {
        let mut phones = Phones::new();
        let far = far("two_legs", &phones, &[]).await;
        let bench = bench_with(&far, 49, |sip| sip.transfer_mode = TransferMode::Bridge);
        beside(move || {
            let sid = answered(&bench);
            transfer(&bench, &sid, TO).data();
            phones.talk_until(|lines| lines.len() == 2 && lines.iter().all(|line| line.said.len() > 1000));
            phones.press(0, 5);
            phones.talk_until(|lines| lines[1].keys == [5]);
            phones.press(1, 11);
            phones.talk_until(|lines| lines[0].keys == [11]);
            // Neither hears its own.
            assert_eq!((&phones.lines[0].keys[..], &phones.lines[1].keys[..]), (&[11][..], &[5][..]));
            bench.hangup(&sid).data();
            ended(&bench, &sid);
        })
        .await;
        far.played().await;
    });
}

/// The second phone has no telephone events: what the first one presses reaches it as INFO, and what it signals the first one as an event.
#[test]
fn keys_of_a_phone_without_events_go_as_info() {
    case(async || {
        let mut phones = Phones::new();
        let far = far("second_by_info", &phones, &[]).await;
        let bench = bench_with(&far, 32, |sip| sip.transfer_mode = TransferMode::Bridge);
        let row = beside(move || {
            let sid = answered(&bench);
            transfer(&bench, &sid, TO).data();
            phones.talk_until(|lines| lines.len() == 2 && lines.iter().all(|line| line.said.len() > 1000));
            phones.press(0, 5);
            phones.talk_until(|lines| lines[0].keys == [7]);
            assert_eq!(phones.lines[1].keys, Vec::<u8>::new());
            bench.hangup(&sid).data();
            ended(&bench, &sid)
        })
        .await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("transferred")), "{row}");
        let traffic = far.played().await;
        let info = traffic.our("INFO");
        assert_eq!(info.header("Call-ID"), row["legs"][0]["sipCallId"].as_str().unwrap());
        assert!(info.text.trim_end().ends_with("\n\nSignal=5\nDuration=100"), "{}", info.text);
        assert!(traffic.ours("SIP/2.0 200").iter().any(|answer| answer.header("CSeq") == "1 INFO"), "{traffic:?}");
    });
}

/// Whoever of the two hangs up: the other one is hung up, once.
#[test]
fn either_phone_ends_both() {
    case(async || {
        for (nth, keys, second_leaves) in [(43, ("second_ms", "300"), true), (44, ("first_ms", "3000"), false)] {
            let phones = Phones::new();
            let far = far("two_legs", &phones, &[keys]).await;
            let bench = bench_with(&far, nth, |sip| sip.transfer_mode = TransferMode::Auto);
            let row = beside(move || {
                let sid = answered(&bench);
                transfer(&bench, &sid, TO).data();
                let row = ended(&bench, &sid);
                drop(phones);
                row
            })
            .await;
            assert_eq!((&row["status"], &row["endedBy"]), (&json!("completed"), &json!("remote")), "{row}");
            assert_eq!(
                (&row["endReason"], &row["transfer"]["state"]),
                (&json!("transferred"), &json!("completed")),
                "{row}"
            );
            assert_eq!((&row["transferredTo"], &row["legs"][0]["state"]), (&json!(TO), &json!("ended")), "{row}");
            let traffic = far.played().await;
            let [first, second] = dialogs(&traffic);
            let expected = if second_leaves { [1, 0] } else { [0, 1] };
            assert_eq!([byes(&traffic, &first), byes(&traffic, &second)].map(|count| count.min(1)), expected);
        }
    });
}

#[test]
fn a_second_phone_that_is_busy_leaves_the_call_as_it_was() {
    case(async || {
        let mut phones = Phones::new();
        let far = far("second_refuses", &phones, &[]).await;
        let bench = bench_with(&far, 45, |sip| sip.transfer_mode = TransferMode::Auto);
        let row = beside(move || {
            let sid = answered(&bench);
            let refused = transfer(&bench, &sid, TO);
            assert!(refused.error(409, "CONFLICT").contains("486"), "{refused:?}");
            let row = bench.row(&sid);
            assert_eq!((&row["status"], &row["transfer"]["state"]), (&json!("in_progress"), &json!("failed")), "{row}");
            let before = phones.lines.first().map_or(0, |line| line.heard.len());
            phones.talk_until(|lines| lines.len() == 1 && lines[0].heard.len() >= before + 20);
            bench.hangup(&sid).data();
            ended(&bench, &sid)
        })
        .await;
        let leg = &row["legs"][0];
        assert_eq!(
            (&leg["state"], &leg["sipCode"], &leg["q850"]),
            (&json!("failed"), &json!(486), &json!(17)),
            "{row}"
        );
        assert_eq!(
            (&row["endReason"], row.get("transferredTo"), leg.get("rtp")),
            (&json!("normal"), None, None),
            "{row}"
        );
        assert!(row["rtp"]["packetsReceived"].as_u64().unwrap() >= 20, "{row}");
        far.played().await;
    });
}

#[test]
fn who_asks_for_the_same_target_joins_and_another_is_a_conflict() {
    case(async || {
        let phones = Phones::new();
        let far = far("two_legs", &phones, &[("ring_ms", "3000")]).await;
        let bench = bench_with(&far, 46, |sip| sip.transfer_mode = TransferMode::Bridge);
        beside(move || {
            let sid = answered(&bench);
            std::thread::scope(|scope| {
                let first = scope.spawn(|| transfer(&bench, &sid, TO).data());
                wait_for(|| Some(bench.row(&sid)).filter(|row| row["legs"][0]["state"] == "ringing"));
                let same = scope.spawn(|| transfer(&bench, &sid, TO).data());
                transfer(&bench, &sid, "+15550000000").error(409, "CONFLICT");
                let accepted = json!({"ok": true, "state": "accepted"});
                assert_eq!([first.join().unwrap(), same.join().unwrap()], [accepted.clone(), accepted]);
            });
            // Joined is joined: this call goes nowhere else.
            transfer(&bench, &sid, TO).error(409, "CONFLICT");
            bench.hangup(&sid).data();
            assert_eq!(ended(&bench, &sid)["legs"].as_array().unwrap().len(), 1);
            drop(phones);
        })
        .await;
        dialogs(&far.played().await);
    });
}

/// The second phone says something, and then nothing any more.
#[test]
fn a_second_phone_that_falls_silent_ends_the_call() {
    case(async || {
        let mut phones = Phones::new();
        let far = far("two_legs", &phones, &[]).await;
        let bench = bench_with(&far, 47, |sip| {
            sip.transfer_mode = TransferMode::Bridge;
            sip.media_timeout = Some(Duration::from_secs(2));
        });
        let row = beside(move || {
            let sid = answered(&bench);
            phones.talk_until(|lines| lines.len() == 1);
            transfer(&bench, &sid, TO).data();
            phones.talk_until(|lines| lines.len() == 2 && lines[0].heard_of(1).len() >= 10);
            while bench.row(&sid)["status"] == "in_progress" {
                if phones.heard_within(Duration::from_millis(100)) == Some(0) {
                    phones.say_on(0);
                }
            }
            ended(&bench, &sid)
        })
        .await;
        assert_eq!(
            (&row["endReason"], &row["endedBy"], &row["q850"]),
            (&json!("media_timeout"), &json!("system"), &json!(31)),
            "{row}"
        );
        let traffic = far.played().await;
        let [first, second] = dialogs(&traffic);
        assert!(byes(&traffic, &first) >= 1 && byes(&traffic, &second) >= 1);
    });
}
