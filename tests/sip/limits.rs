//! What a trunk bears, in a whole engine: its breaker, its new calls per second, how long a call may last.

use clutchcall::call::TransferMode;
use clutchcall::engine::config::{Trunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use serde_json::{Value, json};

use crate::common::Bench;
use crate::engine::{bench_with, beside, originate};
use crate::rig::{Far, case, towards};

/// Of two calls the first is answered, the second refused.
const KEYS: [(&str, &str); 9] = [
    ("calls", "2"),
    ("far_port", "9"),
    ("code", "405"),
    ("phrase", "Method Not Allowed"),
    ("first_ms", "15000"),
    ("second_code", "486"),
    ("second_phrase", "Busy Here"),
    ("far_type", "0"),
    ("far_codec", "PCMU"),
];

fn asked() -> Value {
    json!({"orgId": "org_a", "to": "+15550001234", "from": "+15558675309", "trunkId": "carrier"})
}

/// 5xx in a row open the breaker; a 503 says for how long; a call that comes through closes it.
#[test]
fn a_far_side_that_fails_call_after_call_is_left_alone_until_it_takes_one() {
    case(async || {
        let keys = [("calls", "2"), ("code", "503"), ("phrase", "Service Unavailable"), ("extra", "Retry-After: 6")];
        let far = Far::start("refuses", &keys).await;
        let port = far.port;
        let mut sip = towards(Transport::Udp, port);
        sip.rtp_ports = 25_500..=25_519;
        (sip.breaker_failures, sip.breaker) = (2, std::time::Duration::from_secs(1));
        let trunk = Trunk { kind: TrunkKind::Sip(Box::new(sip)), channel_limit: 4, ..Trunk::default() };
        let bench = Bench::with(|config| drop(config.trunks.insert("carrier".to_owned(), trunk)));
        let bench = beside(move || {
            for _ in 0..2 {
                let row = bench.ended(&originate(&bench));
                assert_eq!((&row["endReason"], &row["sipCode"]), (&json!("carrier_error"), &json!(503)), "{row}");
            }
            let refused = bench.post("voice.calls.originate", &asked());
            assert_eq!(refused.status, 503, "{refused:?}");
            let after = refused.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect("it says when");
            // By itself the breaker asks for a second.
            assert!(after.parse::<u32>().unwrap() > 1, "as the far side asked: {refused:?}");
            let dialled = json!({"trunk_id": "carrier", "to": "+15550001234", "call_from": "+15558675309"});
            let refused = bench.post("telephony.originate", &dialled).data();
            assert_eq!(refused["error_code"], 4, "the vendor's number of an open breaker: {refused}");
            bench
        })
        .await;
        assert_eq!(far.played().await.ours("INVITE").iter().filter(|invite| invite.lacks("Authorization")).count(), 2);
        let far = Far::at(Transport::Udp, port, "far_bye", &[]).await;
        let (row, bench) = beside(move || {
            let taken = crate::common::wait_for(|| {
                let answer = bench.post("voice.calls.originate", &asked());
                (answer.status == 200).then(|| answer.data())
            });
            (bench.ended(taken["sid"].as_str().unwrap()), bench)
        })
        .await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")), "{row}");
        far.played().await;
        // It is closed: the next one is tried, though nobody is there.
        beside(move || originate(&bench)).await;
    });
}

#[test]
fn a_second_leg_waits_for_its_turn_under_max_cps() {
    case(async || {
        let far = Far::start("second_refuses", &KEYS).await;
        let mut sip = towards(Transport::Udp, far.port);
        sip.rtp_ports = 25_520..=25_539;
        sip.transfer_mode = TransferMode::Bridge;
        let trunk = Trunk { kind: TrunkKind::Sip(Box::new(sip)), channel_limit: 4, max_cps: 1, ..Trunk::default() };
        let bench = Bench::with(|config| drop(config.trunks.insert("carrier".to_owned(), trunk)));
        let row = beside(move || {
            let begun = std::time::Instant::now();
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            let body = json!({"orgId": "org_a", "sid": sid, "to": "+15557654321"});
            let refused = bench.post("voice.calls.transfer", &body);
            // A second has two INVITEs otherwise.
            assert!(begun.elapsed() >= std::time::Duration::from_secs(1), "{refused:?}");
            refused.error(409, "CONFLICT");
            bench.hangup(&sid).data();
            bench.ended(&sid)
        })
        .await;
        let leg = &row["legs"][0];
        assert_eq!((&leg["state"], &leg["sipCode"]), (&json!("failed"), &json!(486)), "{row}");
        far.played().await;
    });
}

#[test]
fn a_call_lasts_as_long_as_the_api_says() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let bench = bench_with(&far, 0, |sip| sip.rtp_ports = 25_540..=25_559);
        let row = beside(move || {
            let mut body = asked();
            body["maxDurationSec"] = json!(1);
            let row = bench.post("voice.calls.originate", &body).data();
            bench.ended(row["sid"].as_str().unwrap())
        })
        .await;
        let said = ["status", "endReason", "endedBy", "q850"].map(|name| row[name].clone());
        assert_eq!(said, [json!("completed"), json!("max_duration"), json!("system"), json!(16)], "{row}");
        assert!(far.played().await.our("BYE").header("Reason").starts_with("Q.850;cause=16"));
    });
}
