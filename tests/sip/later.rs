//! What a far end asks for in mid-call, and what we ask of it.

use clutchcall::call::{EndReason, EndedBy, Status, TransferMode, TransferState};

use crate::rig::{Caller, Far, Traffic, case};

const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));

async fn to_its_end(scenario: &str) -> (Caller, Traffic) {
    let far = Far::start(scenario, &[]).await;
    let mut caller = Caller::dial(&far).await;
    caller.settled().await;
    let traffic = far.played().await;
    (caller, traffic)
}

#[test]
fn a_far_end_holds_and_moves() {
    case(async || {
        let (caller, traffic) = to_its_end("holds").await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        let mut answers = traffic.ours("SIP/2.0 200");
        answers.retain(|answer| answer.header("CSeq").ends_with("INVITE"));
        answers.dedup_by_key(|answer| answer.header("CSeq").to_owned());
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(|answer| answer.header("Contact").starts_with("<sip:127.0.0.1:")));
        // One session, in its next version (RFC 3264 §8).
        let origin = |text: &str| text.lines().find(|line| line.starts_with("o=")).unwrap().to_owned();
        assert_ne!(origin(&answers[0].text), origin(&answers[1].text));
    });
}

#[test]
fn a_far_end_asks_for_our_offer() {
    case(async || {
        let (caller, _) = to_its_end("asks_for_offer").await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
    });
}

#[test]
fn an_offer_of_ours_that_nobody_answers_is_taken_back() {
    case(async || {
        // It would answer 491 to the next re-INVITE otherwise.
        let (caller, traffic) = to_its_end("leaves_our_offer").await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        assert!(traffic.ours("SIP/2.0 491").is_empty());
    });
}

#[test]
fn an_answer_of_ours_is_never_acknowledged() {
    case(async || {
        let (caller, traffic) = to_its_end("never_acks").await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Normal, None, Some(102)));
        let answers = traffic.ours("SIP/2.0 200");
        assert!(answers.len() >= 3, "it was not repeated: {answers:?}");
    });
}

async fn transferred(scenario: &str, code: &str, phrase: &str) -> (Far, Caller) {
    let far = Far::start(scenario, &[("code", code), ("phrase", phrase)]).await;
    let mut caller = Caller::dial(&far).await;
    caller.until(Status::InProgress).await;
    caller.transfer(TransferMode::Refer);
    (far, caller)
}

#[test]
fn a_transfer_that_comes_through() {
    case(async || {
        let (far, mut caller) = transferred("refers", "200", "OK").await;
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Transferred, None, Some(16)));
        assert_eq!(caller.record().transfer.as_ref().unwrap().state, TransferState::Completed);
        let traffic = far.played().await;
        assert!(traffic.our("REFER").header("Refer-To").starts_with("<sip:+15557654321@127.0.0.1:"));
    });
}

#[test]
fn a_far_end_that_leaves_without_a_word_is_transferred() {
    case(async || {
        let (far, mut caller) = transferred("refers_and_leaves", "", "").await;
        caller.settled().await;
        assert_eq!(caller.record().end_reason, Some(EndReason::Transferred));
        far.played().await;
    });
}

#[test]
fn a_transfer_that_does_not_come_through() {
    case(async || {
        let (far, mut caller) = transferred("refers", "603", "Decline").await;
        caller.until_transfer(TransferState::Failed).await;
        assert_eq!(caller.record().transfer.as_ref().unwrap().sip_code, Some(603));
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Local)));
        far.played().await;
    });
}

#[test]
fn a_transfer_that_is_refused() {
    case(async || {
        for (code, phrase) in [("603", "Decline"), ("405", "Method Not Allowed")] {
            let (far, mut caller) = transferred("stays", code, phrase).await;
            caller.until_transfer(TransferState::Failed).await;
            assert_eq!(caller.record().transfer.as_ref().unwrap().sip_code, Some(code.parse().unwrap()));
            caller.hangup();
            caller.settled().await;
            assert_eq!(caller.ending(), NORMAL);
            far.played().await;
        }
    });
}

/// What is not acknowledged is kept, and kept once per call.
#[test]
fn a_second_change_before_the_first_is_acknowledged_is_told_to_wait() {
    case(async || {
        let (caller, traffic) = to_its_end("asks_twice").await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        assert_eq!(traffic.our("SIP/2.0 491").header("CSeq"), "2 INVITE");
    });
}

#[test]
fn a_change_that_demands_what_is_not_there_is_refused() {
    case(async || {
        let (caller, traffic) = to_its_end("demands").await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        assert_eq!(traffic.our("SIP/2.0 420").header("Unsupported"), "precondition");
    });
}

/// OPTIONS as a sign of life, a REFER that we do not follow, a message, events that nobody asked for: the call goes on.
#[test]
fn what_is_none_of_the_calls_is_answered_by_the_rfc_and_ends_nothing() {
    case(async || {
        let (caller, traffic) = to_its_end("asks_other_things").await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        assert_eq!((caller.record().ended_by, &caller.record().transfer), (Some(EndedBy::Remote), &None));
        assert!(traffic.ours("BYE").is_empty() && traffic.each("INVITE").len() == 1, "{traffic:?}");
    });
}
