//! Transfers that are told of out of order, or not at all, and where they lead.

use clutchcall::call::{EndReason, Status, TransferMode, TransferState};
use clutchcall::engine::config;
use clutchcall::engine::sip::Transport;
use serde_json::json;

use crate::engine::{bench_with, beside, originate};
use crate::rig::{Caller, Far, Message, Wishes, case, towards};

/// RFC 6665 §4.1.2.4: a NOTIFY may overtake the answer to what it is about.
#[test]
fn a_transfer_whose_outcome_comes_before_its_202() {
    case(async || {
        let far = Far::start("notifies_first", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.transfer(TransferMode::Auto);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Transferred, None, Some(16)));
        assert_eq!(caller.record().transfer.as_ref().unwrap().state, TransferState::Completed);
        far.played().await.our("BYE");
    });
}

#[test]
fn a_transfer_of_which_nothing_is_heard_gives_way_to_another() {
    case(async || {
        let far = Far::start("forgets_to_notify", &[]).await;
        let mut caller = Caller::with(&far, Wishes { ring_timeout_s: Some(2), ..Wishes::default() }).await;
        caller.until(Status::InProgress).await;
        caller.transfer(TransferMode::Refer);
        caller.until_transfer(TransferState::Unknown).await;
        caller.transfer_to("+15557650000", TransferMode::Refer);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Transferred, None, Some(16)));
        assert_eq!(caller.record().transferred_to.as_deref(), Some("+15557650000"));
        let traffic = far.played().await;
        let mut refers = traffic.ours("REFER");
        refers.dedup_by_key(|refer| refer.header("CSeq").to_owned());
        assert_eq!(refers.len(), 2);
        assert!(refers[1].header("Refer-To").starts_with("<sip:+15557650000@"));
    });
}

#[test]
fn a_number_is_written_as_the_trunk_says() {
    case(async || {
        let far = Far::start("far_bye", &[]).await;
        let port = far.port;
        let number_template = "sip:00{digits}@{trunk_host};user=phone".parse().unwrap();
        let settings = config::SipTrunk { number_template, ..towards(Transport::Udp, far.port) };
        let mut caller = Caller::idle(settings).await;
        caller.place(20);
        caller.settled().await;
        assert_eq!((caller.record().end_reason, &*caller.record().to), (Some(EndReason::Normal), "+15550001234"));
        let traffic = far.played().await;
        let line = traffic.our("INVITE").line();
        assert_eq!(line, format!("INVITE sip:0015550001234@127.0.0.1:{port};user=phone SIP/2.0"));
    });
}

/// By the API, while its outcome is not known: the same target joins, another is a conflict; the record has what became of it.
#[test]
fn a_refer_is_asked_for_joined_and_told_of() {
    case(async || {
        let far = Far::start("refers_late", &[]).await;
        let bench = bench_with(&far, 21, |sip| sip.transfer_mode = TransferMode::Auto);
        let row = beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            let asked = |to: &str| bench.post("voice.calls.transfer", &json!({"orgId": "org_a", "sid": sid, "to": to}));
            let accepted = json!({"ok": true, "state": "accepted"});
            assert_eq!(asked("+15557654321").data(), accepted);
            assert_eq!(asked("+15557654321").data(), accepted, "who asks for the same joins");
            asked("+15550000000").error(409, "CONFLICT");
            let row = bench.row(&sid);
            assert_eq!(
                (&row["status"], &row["transfer"]["state"]),
                (&json!("in_progress"), &json!("accepted")),
                "{row}"
            );
            bench.ended(&sid)
        })
        .await;
        assert_eq!((&row["status"], &row["endReason"]), (&json!("completed"), &json!("transferred")), "{row}");
        let (mode, state) = (&row["transfer"]["mode"], &row["transfer"]["state"]);
        assert_eq!(
            (mode, state, &row["transferredTo"]),
            (&json!("refer"), &json!("completed"), &json!("+15557654321"))
        );
        let traffic = far.played().await;
        traffic.our("REFER");
        traffic.our("BYE");
    });
}

#[test]
fn a_transfer_to_an_agent_says_nothing_to_the_far_end() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let bench = bench_with(&far, 22, |_| {});
        let row = beside(move || {
            let sid = originate(&bench);
            bench.wait(&sid, &["in_progress"]);
            bench.post("voice.calls.transfer", &json!({"orgId": "org_a", "sid": sid, "agent": "echo"})).data();
            let row = bench.row(&sid);
            assert_eq!(
                (&row["status"], &row["agent"], row.get("transfer")),
                (&json!("in_progress"), &json!("echo"), None)
            );
            bench.hangup(&sid).data();
            bench.ended(&sid)
        })
        .await;
        assert_eq!((&row["endReason"], &row["agent"]), (&json!("normal"), &json!("echo")), "{row}");
        let traffic = far.played().await;
        for method in ["INVITE", "ACK", "BYE"] {
            traffic.our(method);
        }
        let others = |message: &&Message| {
            message.is_ours && !["INVITE", "ACK ", "BYE "].iter().any(|begins| message.text.starts_with(begins))
        };
        assert_eq!(traffic.all().iter().filter(others).count(), 0, "{traffic:?}");
    });
}

#[test]
fn where_a_transfer_leads_is_written_as_the_trunk_says() {
    case(async || {
        let far = Far::start("refers", &[("code", "200"), ("phrase", "OK")]).await;
        let refer_to = "sip:{to}@transfer.invalid;user=phone".parse().unwrap();
        let settings = config::SipTrunk { refer_to, ..towards(Transport::Udp, far.port) };
        let mut caller = Caller::idle(settings).await;
        caller.place(20);
        caller.until(Status::InProgress).await;
        caller.transfer(TransferMode::Refer);
        caller.settled().await;
        assert_eq!(caller.record().end_reason, Some(EndReason::Transferred));
        let traffic = far.played().await;
        assert_eq!(traffic.our("REFER").header("Refer-To"), "<sip:+15557654321@transfer.invalid;user=phone>");
    });
}
