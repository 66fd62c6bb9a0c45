//! A whole engine with a SIP trunk in its config: what is asked over HTTP reaches the wire, and the record tells of it.

use clutchcall::engine::config::{SipTrunk, Trunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use serde_json::json;

use crate::common::Bench;
use crate::rig::{Far, case, towards};

const RTP_FROM: u16 = 21_000;

/// Each test has ports of its own.
pub(crate) fn bench(far: &Far, nth: u16) -> Bench {
    bench_with(far, nth, |_| {})
}

pub(crate) fn bench_with(far: &Far, nth: u16, change: impl FnOnce(&mut SipTrunk)) -> Bench {
    let mut sip = towards(Transport::Udp, far.port);
    sip.rtp_ports = RTP_FROM + nth * 20..=RTP_FROM + nth * 20 + 19;
    change(&mut sip);
    let trunk = Trunk { kind: TrunkKind::Sip(Box::new(sip)), channel_limit: 4, ..Trunk::default() };
    Bench::with(|config| drop(config.trunks.insert("carrier".to_owned(), trunk)))
}

pub(crate) fn originate(bench: &Bench) -> String {
    let body = json!({"orgId": "org_a", "to": "+15550001234", "from": "+15558675309", "trunkId": "carrier"});
    let row = bench.post("voice.calls.originate", &body).data();
    assert_eq!(row["status"], "dialing");
    row["sid"].as_str().unwrap().to_owned()
}

/// Blocking, beside the runtime that waits for SIPp.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[test]
fn a_call_from_http_to_the_wire_and_back() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let bench = bench(&far, 0);
        let row = beside(move || {
            let sid = originate(&bench);
            let row = bench.wait(&sid, &["in_progress"]);
            assert!(row["sipCallId"].is_string(), "{row}");
            bench.hangup(&sid).data();
            bench.row(&sid)
        })
        .await;
        let text = |name: &str| row[name].as_str().unwrap();
        assert_eq!((text("status"), text("endReason"), text("endedBy")), ("completed", "normal", "local"));
        assert_eq!(far.played().await.our("BYE").header("Call-ID"), text("sipCallId"));
    });
}

#[test]
fn packets_go_both_ways() {
    case(async || {
        // It gives back every packet of ours, which never pause, and hangs up after a while.
        let far = Far::start("far_bye", &[]).await;
        let bench = bench(&far, 1);
        let row = beside(move || {
            let sid = originate(&bench);
            bench.ended(&sid);
            crate::common::wait_for(|| Some(bench.row(&sid)).filter(|row| row["rtp"].is_object()))
        })
        .await;
        assert_eq!(
            (&row["status"], &row["endedBy"], &row["rtp"]["codec"]),
            (&json!("completed"), &json!("remote"), &json!("PCMU"))
        );
        let packets = |name: &str| row["rtp"][name].as_u64().unwrap();
        assert!(packets("packetsSent") >= 3 && packets("packetsReceived") >= 3, "{row}");
        far.played().await;
    });
}

#[test]
fn the_carrier_refuses() {
    case(async || {
        let keys = [("code", "486"), ("phrase", "Busy Here"), ("extra", "Reason: Q.850;cause=17")];
        let far = Far::start("refuses", &keys).await;
        let bench = bench(&far, 2);
        let row = beside(move || {
            let sid = originate(&bench);
            bench.ended(&sid)
        })
        .await;
        assert_eq!(
            (&row["status"], &row["endReason"], &row["sipCode"], &row["q850"]),
            (&json!("failed"), &json!("busy"), &json!(486), &json!(17))
        );
        far.played().await;
    });
}

#[test]
fn an_engine_that_ends_says_goodbye() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let bench = bench(&far, 3);
        beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            // Its calls end with it.
            drop(bench);
        })
        .await;
        far.played().await.our("BYE");
    });
}
