//! A whole engine with a SIP trunk in its config: what is asked over HTTP reaches the wire, and the record tells of it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clutchcall::audio::Params;
use clutchcall::call::wire::BridgeRole;
use clutchcall::client::options::Surroundings;
use clutchcall::client::{Arguments, Bridge, BridgeSpec, Client, Clock, Delivered, Options, Unclaimed};
use clutchcall::engine::config::{SipTrunk, Trunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use clutchcall::ring::RingReceiver;
use clutchcall::tracks::Delivery;
use serde_json::{Value, json};

use crate::common::{Bench, KEY};
use crate::rig::{Far, LIMIT, Traffic, case, towards};

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
    originate_with(bench, &json!({}))
}

/// `more`: fields beside the plainest.
pub(crate) fn originate_with(bench: &Bench, more: &Value) -> String {
    let mut body = json!({"orgId": "org_a", "to": "+15550001234", "from": "+15558675309", "trunkId": "carrier"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let row = bench.post("voice.calls.originate", &body).data();
    assert_eq!(row["status"], "dialing");
    row["sid"].as_str().unwrap().to_owned()
}

/// A bridge on a call, and the last `frames` of what it hears.
pub(crate) fn attach(bench: &Bench, sid: &str, params: Params, frames: usize) -> Attached {
    let arguments = Arguments {
        base_url: Some(bench.engine.base_url().to_owned()),
        api_key: Some(KEY.to_owned()),
        org_id: Some("org_a".to_owned()),
        ..Arguments::default()
    };
    let surroundings = Surroundings { variable: &|_| None, dev_state: None };
    let client = Client::new(Options::resolve(arguments, &surroundings).unwrap()).unwrap();
    let (role, delivery, sid) = (BridgeRole::Server, Delivery::Stream, sid.to_owned());
    let spec = BridgeSpec { sid, role, params, delivery, clock: Clock { at: Instant::now(), us: 0 } };
    let (sender, ring) = client.runtime().delivery().ring(frames);
    let bridge = client.attach(spec, sender, &mut || false).map(Unclaimed::claim).unwrap();
    Attached { bridge, ring, client }
}

pub(crate) struct Attached {
    pub(crate) bridge: Bridge,
    pub(crate) ring: RingReceiver<Delivered>,
    pub(crate) client: Client,
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
fn headers_and_a_name_of_the_users_reach_the_wire() {
    case(async || {
        let far = Far::start("far_bye", &[]).await;
        let bench = bench(&far, 4);
        beside(move || {
            let body = json!({
                "orgId": "org_a", "to": "+15550001234", "from": "+15558675309", "trunkId": "carrier",
                "headers": {"X-Order": "7; a=\"b\", <c>", "x-lower": "Zoë"}, "callerName": "The \"Best\" \\o/, Inc."
            });
            let row = bench.post("voice.calls.originate", &body).data();
            let row = bench.ended(row["sid"].as_str().unwrap());
            assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")));
            assert!(row.get("headers").is_none() && row.get("callerName").is_none(), "{row}");
        })
        .await;
        let traffic = far.played().await;
        let invite = traffic.our("INVITE");
        assert_eq!(invite.header("X-Order"), "7; a=\"b\", <c>");
        assert_eq!(invite.header("x-lower"), "Zoë");
        let from = invite.header("From");
        assert!(from.starts_with("\"The \\\"Best\\\" \\\\o/, Inc.\" <sip:+15558675309@127.0.0.1"), "{from}");
        // Of the call's INVITE alone.
        assert!(traffic.our("ACK").lacks("X-Order"));
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

/// Says something to the port of our INVITE, packet by packet, until nobody wants it any more.
async fn speak(far: &Far) -> tokio::task::JoinHandle<()> {
    let begun = std::time::Instant::now();
    let port = loop {
        let traffic = far.traffic();
        let invite = traffic.ours("INVITE").first().map(|invite| invite.text.clone());
        if let Some(text) = invite.filter(|_| traffic.has_sent("SIP/2.0 183")) {
            let audio = text.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap().to_owned();
            break audio.split(' ').next().unwrap().parse::<u16>().unwrap();
        }
        assert!(begun.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    tokio::spawn(async move {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for nth in 0u16.. {
            let mut packet = vec![0x80, 0];
            packet.extend(nth.to_be_bytes());
            packet.extend((u32::from(nth) * 160).to_be_bytes());
            packet.extend([0, 0, 0, 7]);
            packet.extend([0x55; 160]);
            // The port may be closed already.
            let _ = socket.send_to(&packet, ("127.0.0.1", port)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

/// A call whose far side speaks before it answers, and its record once its packets are counted.
async fn heard_early(scenario: &str, nth: u16, early_media: bool) -> (serde_json::Value, Traffic) {
    let far = Far::start(scenario, &[]).await;
    let bench = bench_with(&far, nth, |sip| sip.early_media = early_media);
    let sid = Arc::new(OnceLock::new());
    let calling = {
        let sid = Arc::clone(&sid);
        tokio::task::spawn_blocking(move || {
            sid.set(originate(&bench)).unwrap();
            bench
        })
    };
    let speaking = speak(&far).await;
    let bench = calling.await.unwrap();
    let row = beside(move || {
        let sid = sid.get().unwrap();
        bench.ended(sid);
        let is_counted = |row: &serde_json::Value| !early_media || row["rtp"].is_object();
        crate::common::wait_for(|| Some(bench.row(sid)).filter(is_counted))
    })
    .await;
    speaking.abort();
    (row, far.played().await)
}

#[test]
fn what_is_said_before_the_answer_is_heard_and_answers_nothing() {
    case(async || {
        let (row, traffic) = heard_early("early_only", 5, true).await;
        assert_eq!(
            (&row["status"], &row["endReason"], &row["sipCode"], &row["q850"]),
            (&json!("no_answer"), &json!("remote_timeout"), &json!(480), &json!(18))
        );
        assert!(row.get("answeredAt").is_none(), "{row}");
        assert!(row["rtp"]["packetsReceived"].as_u64().unwrap() >= 3, "{row}");
        assert_eq!(row["rtp"]["packetsSent"], 0);
        traffic.our("INVITE");
        assert!(traffic.ours("BYE").is_empty());
    });
}

#[test]
fn the_leg_that_listened_goes_on_after_the_answer() {
    case(async || {
        let (row, traffic) = heard_early("early", 6, true).await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("normal")));
        let packets = |name: &str| row["rtp"][name].as_u64().unwrap();
        assert!(packets("packetsReceived") >= 3 && packets("packetsSent") >= 3, "{row}");
        let ringing = row["startedAt"].as_str().unwrap() < row["answeredAt"].as_str().unwrap();
        assert!(ringing, "{row}");
        traffic.our("ACK");
    });
}

#[test]
fn without_the_option_nothing_is_heard_before_the_answer() {
    case(async || {
        let (row, _) = heard_early("early_only", 7, false).await;
        assert_eq!(row["status"], "no_answer");
        assert!(row.get("rtp").is_none(), "{row}");
    });
}
