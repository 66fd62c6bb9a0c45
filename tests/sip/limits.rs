//! What a trunk bears, in a whole engine: its breaker, its new calls per second, how long a call may last.

use clutchcall::call::TransferMode;
use clutchcall::engine::config::{Trunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use serde_json::{Value, json};

use crate::common::{Answer, Bench, wait_for};
use crate::engine::{bench_with, beside, originate};
use crate::rig::{Far, Message, Traffic, case, towards};

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

fn two_trunks(far: &Far, ports: u16, max_cps: usize) -> Bench {
    let trunk = |first: u16, max_cps| {
        let mut sip = towards(Transport::Udp, far.port);
        sip.rtp_ports = first..=first + 19;
        sip.transfer_mode = TransferMode::Bridge;
        Trunk { kind: TrunkKind::Sip(Box::new(sip)), channel_limit: 10, max_cps, ..Trunk::default() }
    };
    Bench::with(|config| {
        config.trunks.insert("carrier".to_owned(), trunk(ports, max_cps));
        config.trunks.insert("other".to_owned(), trunk(ports + 20, 1000));
    })
}

/// Whom each request of a method was for, in order of the wire.
fn callees(traffic: &Traffic, method: &str) -> Vec<String> {
    let number = |message: &&Message| message.header("To").split(['@', ':']).nth(1).unwrap().to_owned();
    traffic.each(method).iter().map(number).collect()
}

/// A call over a trunk to a number, which may ring so long.
fn call(bench: &Bench, trunk: &str, to: &str, ring_timeout_s: u32) -> Answer {
    let body = json!({"to": to, "from": "+15558675309", "trunkId": trunk, "ringTimeoutSec": ring_timeout_s});
    bench.post("voice.calls.originate", &body)
}

fn waiting(bench: &Bench) -> u64 {
    let trunks = bench.get("voice.trunks.list", &json!({"orgId": "org_a"})).data();
    let carrier = trunks["trunks"].as_array().unwrap().iter().find(|trunk| trunk["trunkId"] == "carrier").unwrap();
    carrier["waitingCalls"].as_u64().unwrap()
}

/// It rings as long as it may from the moment on in which it was asked for: it is given up before one that was asked for later, over a trunk
/// of the same far side that lets it ring at once.
#[test]
fn a_call_waits_for_its_turn_under_max_cps_and_its_wait_is_ring_time() {
    case(async || {
        let far = Far::start("rings", &[("calls", "4")]).await;
        let bench = two_trunks(&far, 25_520, 1);
        let (far, rows) = beside(move || {
            let dialled = |trunk, to: &str, ring_timeout_s| {
                let row = call(&bench, trunk, to, ring_timeout_s).data();
                assert_eq!(row["status"], "dialing", "{row}");
                row["sid"].as_str().unwrap().to_owned()
            };
            let numbers = ["+15550000001", "+15550000002"];
            numbers.iter().for_each(|number| drop(dialled("carrier", number, 5)));
            let between: Vec<_> = (0..4).map(|_| dialled("carrier", "+15550000003", 8)).collect();
            let waits = dialled("carrier", "+15550000004", 8);
            // Nobody waits longer than he may ring.
            let refused = call(&bench, "carrier", "+15550000005", 5);
            assert!(refused.error(429, "TOO_MANY_REQUESTS").contains("max_cps"), "{refused:?}");
            let after = refused.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect("it says when");
            assert!(after.parse::<u32>().unwrap() >= 1, "{refused:?}");
            // Who goes leaves his turn to nobody.
            between.iter().for_each(|sid| drop(bench.hangup(sid).data()));
            wait_for(|| (callees(&far.traffic(), "INVITE").len() == 2).then_some(()));
            assert_eq!((waiting(&bench), &bench.row(&waits)["sipCallId"]), (1, &Value::Null));
            let other = dialled("other", "+15550000006", 8);
            (far, [waits, other].map(|sid| bench.ended(&sid)))
        })
        .await;
        for row in rows {
            let end = ["status", "endReason", "endedBy", "q850"].map(|name| row[name].clone());
            assert_eq!(end, [json!("no_answer"), json!("ring_timeout"), json!("system"), json!(19)], "{row}");
        }
        let traffic = far.played().await;
        let [first, second, waited, other] = [1, 2, 4, 6].map(|nth| format!("+1555000000{nth}"));
        assert_eq!(callees(&traffic, "INVITE"), [&*first, &*second, &*other, &*waited]);
        assert_eq!(callees(&traffic, "CANCEL")[2..], [&*waited, &*other]);
    });
}

/// Behind a call that was asked for before the transfer, and waits.
#[test]
fn a_second_leg_waits_for_its_turn_under_max_cps() {
    case(async || {
        let mut keys = KEYS;
        keys[0].1 = "3";
        let far = Far::start("second_refuses", &keys).await;
        let bench = two_trunks(&far, 25_560, 1);
        let row = beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            let between = call(&bench, "carrier", "+155576543210", 20).data();
            let body = json!({"orgId": "org_a", "sid": sid, "to": "+15557654321"});
            bench.post("voice.calls.transfer", &body).error(409, "CONFLICT");
            let between = bench.ended(between["sid"].as_str().unwrap());
            assert_eq!((&between["endReason"], &between["sipCode"]), (&json!("busy"), &json!(486)), "{between}");
            bench.hangup(&sid).data();
            bench.ended(&sid)
        })
        .await;
        let leg = &row["legs"][0];
        assert_eq!((&leg["state"], &leg["sipCode"]), (&json!("failed"), &json!(486)), "{row}");
        assert_eq!(callees(&far.played().await, "INVITE"), ["+15550001234", "+155576543210", "+15557654321"]);
    });
}

#[test]
fn a_call_lasts_as_long_as_the_api_says() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let bench = bench_with(&far, 0, |sip| sip.rtp_ports = 25_600..=25_619);
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
