//! Calls that came in and are sent on: by REFER, over a second leg, and what is said to both phones when they end.

use clutchcall::call::TransferMode;
use clutchcall::engine::config::{CallerId, Config, Trunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use serde_json::{Value, json};

use crate::called::{Called, NUMBER, assert_end, notify, rule};
use crate::common::{Answer, Bench, wait_for};
use crate::engine::beside;
use crate::rig::{Far, case, free_port};

const TO: &str = "+15557654321";
const CALLER: &str = "+15558675309";

fn called(nth: u16, mode: TransferMode, change: impl FnOnce(&mut Trunk)) -> Called {
    Called::with(nth, |trunk| {
        trunk.inbound.rules = vec![rule("*", notify())];
        let TrunkKind::Sip(sip) = &mut trunk.kind else { panic!("it is one") };
        sip.transfer_mode = mode;
        change(trunk);
    })
}

/// Who calls sits beside the phone that the trunk leads to.
fn calls(called: &Called, scenario: &str, keys: &[(&str, &str)]) -> Far {
    let keys: Vec<_> = keys.iter().copied().chain([("number", NUMBER)]).collect();
    Far::calls(scenario, free_port(), called.at, &keys)
}

/// Where the second leg goes.
async fn second(called: &Called, scenario: &str) -> Far {
    Far::at(Transport::Udp, called.from, scenario, &[]).await
}

/// The call rings, and is answered by the API.
fn answered(called: &Called) -> String {
    let sid = called.until(&["ringing"])["sid"].as_str().unwrap().to_owned();
    called.decide("voice.calls.answer", &json!({"sid": sid, "agent": "echo"}));
    called.until(&["in_progress"]);
    sid
}

fn transfer(called: &Called, sid: &str) -> Answer {
    called.bench.post("voice.calls.transfer", &json!({"orgId": "org_a", "sid": sid, "to": TO}))
}

/// As a file has them.
fn caller_ids(ids: &[&str]) -> Vec<CallerId> {
    let text = format!("state = \"s\"\n[trunks.t]\nkind = \"phone\"\ncaller_ids = {ids:?}");
    let config = Config::from_toml(&text, std::path::Path::new("/"), std::iter::empty()).unwrap();
    config.trunks["t"].caller_ids.clone()
}

fn accepted() -> Value {
    json!({"ok": true, "state": "accepted"})
}

#[test]
fn a_caller_is_referred_and_hung_up() {
    case(async || {
        let called = called(49, TransferMode::Auto, |_| {});
        let far = calls(&called, "caller_is_referred", &[("outcome", "200 OK")]);
        let row = beside(move || {
            let sid = answered(&called);
            assert_eq!(transfer(&called, &sid).data(), accepted());
            called.ended()
        })
        .await;
        assert_end(&row, ("completed", "transferred", "local", None, 16));
        let (mode, state) = (&row["transfer"]["mode"], &row["transfer"]["state"]);
        assert_eq!((mode, state, &row["transferredTo"]), (&json!("refer"), &json!("completed"), &json!(TO)), "{row}");
        let traffic = far.played().await;
        let refer = traffic.our("REFER");
        assert!(refer.line().starts_with("REFER sip:caller@127.0.0.1:"), "{}", refer.text);
        assert!(refer.header("Refer-To").starts_with(&format!("<sip:{TO}@127.0.0.1")), "{}", refer.text);
        // By the number that was called.
        assert!(refer.header("Referred-By").starts_with(&format!("<sip:{NUMBER}@127.0.0.1")), "{}", refer.text);
        assert!(refer.header("To").ends_with(";tag=caller"), "{}", refer.text);
        assert_eq!(refer.header("Call-ID"), row["sipCallId"].as_str().unwrap());
        traffic.our("BYE");
    });
}

#[test]
fn a_caller_who_comes_to_nobody_has_her_agent_again() {
    case(async || {
        let called = called(50, TransferMode::Auto, |_| {});
        let far = calls(&called, "caller_is_referred", &[("outcome", "486 Busy Here")]);
        let row = beside(move || {
            let sid = answered(&called);
            assert_eq!(transfer(&called, &sid).data(), accepted());
            let row = wait_for(|| Some(called.row()).filter(|row| row["transfer"]["state"] == "failed"));
            assert_eq!((&row["status"], &row["agent"]), (&json!("in_progress"), &json!("echo")), "{row}");
            called.bench.hangup(&sid).data();
            called.ended()
        })
        .await;
        assert_end(&row, ("completed", "normal", "local", None, 16));
        assert_eq!((&row["transfer"]["sipCode"], row.get("transferredTo")), (&json!(486), None), "{row}");
        far.played().await.our("BYE");
    });
}

/// A second leg shows the caller where the trunk may, else the number that she called, else the first that it may show.
#[test]
fn a_second_leg_shows_what_its_trunk_may_show() {
    case(async || {
        for (nth, ids, shown) in [
            (51, &[][..], CALLER),
            (52, &["+1555867*"], CALLER),
            (53, &["+4930*", "+1555000*"], NUMBER),
            (54, &["+4930*", "+49301234", "+49305678"], "+49301234"),
        ] {
            let called = called(nth, TransferMode::Bridge, |trunk| {
                trunk.caller_ids = caller_ids(ids);
            });
            let other = second(&called, "our_bye").await;
            let far = calls(&called, "caller_stays", &[]);
            let row = beside(move || {
                let sid = answered(&called);
                assert_eq!(transfer(&called, &sid).data(), accepted());
                called.bench.hangup(&sid).data();
                called.ended()
            })
            .await;
            assert_end(&row, ("completed", "transferred", "local", None, 16));
            let leg = &row["legs"][0];
            assert_eq!((&leg["to"], &leg["state"]), (&json!(TO), &json!("ended")), "{row}");
            let traffic = other.played().await;
            let invite = traffic.our("INVITE");
            assert!(invite.header("From").starts_with(&format!("<sip:{shown}@127.0.0.1")), "{}", invite.text);
            assert_eq!(invite.header("Call-ID"), leg["sipCallId"].as_str().unwrap());
            traffic.our("BYE");
            far.played().await.our("BYE");
        }
    });
}

#[test]
fn a_second_leg_that_may_show_no_number_is_not_dialled() {
    case(async || {
        let called = called(55, TransferMode::Bridge, |trunk| trunk.caller_ids = caller_ids(&["+4930*"]));
        let far = calls(&called, "caller_stays", &[]);
        let row = beside(move || {
            let sid = answered(&called);
            assert!(transfer(&called, &sid).error(409, "CONFLICT").contains("403"));
            assert_eq!(called.row()["status"], "in_progress");
            called.bench.hangup(&sid).data();
            called.ended()
        })
        .await;
        assert_end(&row, ("completed", "normal", "local", None, 16));
        let leg = &row["legs"][0];
        assert_eq!((&leg["state"], &leg["q850"], leg.get("sipCallId")), (&json!("failed"), &json!(21), None), "{row}");
        far.played().await.our("BYE");
    });
}

/// The one that rings is taken back, and whoever waits for the transfer is told.
#[test]
fn a_call_that_is_hung_up_takes_back_the_leg_that_rings() {
    case(async || {
        let called = called(56, TransferMode::Bridge, |_| {});
        let other = second(&called, "rings").await;
        let far = calls(&called, "caller_stays", &[]);
        let row = beside(move || {
            let sid = answered(&called);
            std::thread::scope(|scope| {
                let asked = scope.spawn(|| transfer(&called, &sid));
                wait_for(|| Some(called.row()).filter(|row| row["legs"][0]["state"] == "ringing"));
                called.bench.hangup(&sid).data();
                let told = asked.join().unwrap().error(409, "CONFLICT");
                assert!(told.contains("has ended"), "{told}");
            });
            called.ended()
        })
        .await;
        assert_end(&row, ("completed", "normal", "local", None, 16));
        let leg = &row["legs"][0];
        assert_eq!((&leg["state"], &leg["q850"]), (&json!("failed"), &json!(31)), "{row}");
        assert_eq!((&row["transfer"]["state"], row.get("transferredTo")), (&json!("failed"), None), "{row}");
        let traffic = other.played().await;
        assert_eq!(traffic.our("CANCEL").header("Call-ID"), leg["sipCallId"].as_str().unwrap());
        assert!(traffic.ours("BYE").is_empty());
        far.played().await.our("BYE");
    });
}

/// An engine that ends hangs up who called in, and the second leg too.
#[test]
fn an_engine_ends_under_a_call_that_was_sent_on() {
    case(async || {
        let called = called(57, TransferMode::Bridge, |_| {});
        let other = second(&called, "our_bye").await;
        let far = calls(&called, "caller_stays", &[]);
        let row = beside(move || {
            let sid = answered(&called);
            assert_eq!(transfer(&called, &sid).data(), accepted());
            let Bench { engine, state } = called.bench;
            engine.shutdown();
            // Its record is read by another one.
            Bench::at(state, |_| {}).row(&sid)
        })
        .await;
        assert_end(&row, ("completed", "server_shutdown", "system", None, 16));
        let leg = &row["legs"][0];
        assert_eq!((&leg["state"], &leg["q850"]), (&json!("ended"), &json!(16)), "{row}");
        // What both lines were like is said last, and is there, too.
        assert_eq!([&row["rtp"]["codec"], &leg["rtp"]["codec"]], [&json!("PCMU"); 2], "{row}");
        far.played().await.our("BYE");
        other.played().await.our("BYE");
    });
}
