//! Provisional answers that have to arrive (RFC 3262): to callers who demand it, and from far sides who ask us for the word.

use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::phone::Phone;

use crate::callers::called;
use crate::rig::{Caller, Far, Traffic, case, free_port};
use crate::simulated::brief;

const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));

/// What was said to the caller, and by her, in its order: codes and methods, repeated ones once.
fn lines(traffic: &Traffic) -> Vec<String> {
    let mut lines: Vec<String> = traffic.all().iter().map(|message| message.text.clone()).collect();
    lines.dedup();
    lines.iter().map(|text| text.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_180_is_repeated_until_its_prack_and_no_other() {
    case(async || {
        let (mut callee, far) = called("caller_pracks", &[("pause_ms", "600")]).await;
        callee.until_heard(&far, "SIP/2.0 200").await;
        callee.pick_up();
        callee.settled().await;
        assert_eq!((callee.ending(), callee.legs), (NORMAL, 1));
        let traffic = far.played().await;
        let rings = traffic.our("SIP/2.0 180");
        assert_eq!(rings.header("Require"), "100rel");
        assert!((1..1 << 31).contains(&rings.header("RSeq").parse::<u32>().unwrap()));
        assert!(rings.text.ends_with("\n\n"), "without a description: {}", rings.text);
        assert!(traffic.ours("SIP/2.0 180").len() >= 3, "at 50 and 150 ms, too");
        // One may cross the PRACK; none comes behind the answer to it.
        let told = lines(&traffic);
        let answer = told.iter().position(|line| line == "SIP/2.0 200").unwrap();
        assert!(!told[answer..].contains(&"SIP/2.0 180".to_owned()), "{told:?}");
        assert!(traffic.our("SIP/2.0 481").header("CSeq").ends_with("PRACK"));
        assert!(traffic.ours("SIP/2.0 200").iter().all(|message| message.lacks("RSeq")));
    });
}

/// §3: with a 5xx, after 64·T1.
#[test]
fn a_call_whose_180_is_never_acknowledged_is_refused() {
    case(async || {
        let (mut callee, far) = called("caller_pracks_never", &[]).await;
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::NoAnswer, EndReason::Canceled, None, Some(31)));
        assert_eq!(callee.record().ended_by, Some(EndedBy::Remote));
        let traffic = far.played().await;
        traffic.our("SIP/2.0 180");
        assert!(traffic.ours("SIP/2.0 180").len() >= 5, "it was not repeated to the end: {traffic:?}");
        traffic.our("SIP/2.0 504");
    });
}

/// §3: what has no description in it holds up no answer, and its PRACK is well behind one.
#[test]
fn who_answers_before_the_prack_is_heard_at_once() {
    case(async || {
        let (mut callee, far) = called("caller_answered_before_her_prack", &[]).await;
        callee.until_heard(&far, "SIP/2.0 180").await;
        callee.pick_up();
        callee.settled().await;
        assert_eq!((callee.ending(), callee.legs), (NORMAL, 1));
        let traffic = far.played().await;
        let order: Vec<&str> = traffic.each("SIP/2.0 200").iter().map(|message| message.header("CSeq")).collect();
        assert_eq!(order, ["1 INVITE", "2 PRACK", "9 BYE"]);
    });
}

/// RFC 3261 §13.2.1: our offer would have to be in the 180, and its answer in the PRACK.
#[test]
fn a_caller_without_a_description_hears_no_180() {
    case(async || {
        let (mut callee, far) = called("caller_wants_offer_reliably", &[]).await;
        callee.pick_up();
        callee.settled().await;
        assert_eq!((callee.ending(), callee.legs), (NORMAL, 1));
        assert!(far.played().await.ours("SIP/2.0 180").is_empty());
    });
}

/// §3: no 200 before what has a description in it has arrived.
#[test]
fn an_answer_waits_for_the_prack_of_what_was_described_before() {
    case(async || {
        let folder = tempfile::tempdir().unwrap();
        let phone = Phone::open(brief(folder.path()), ([127, 0, 0, 1], 0).into()).await.unwrap();
        let keys = [("number", "+15550009004"), ("pause_ms", "1500")];
        let far = Far::calls("caller_pracks_183", free_port(), phone.address(), &keys);
        let traffic = far.played().await;
        let rings = traffic.our("SIP/2.0 183");
        assert_eq!((rings.header("Require"), rings.header("Content-Type")), ("100rel", "application/sdp"));
        let order: Vec<&str> = traffic.each("SIP/2.0 200").iter().map(|message| message.header("CSeq")).collect();
        assert_eq!(order, ["2 PRACK", "1 INVITE", "9 BYE"]);
        let body = |text: &str| text.split_once("\n\n").unwrap().1.to_owned();
        assert_eq!(body(&traffic.each("SIP/2.0 200")[1].text), body(&rings.text));
    });
}

/// We offer nothing of the kind; a far side that asks for it all the same is given its word: to its Contact, by the Routes of the answer
/// that asks for it, the nearest first (§4, RFC 3261 §12.1.2).
#[test]
fn a_far_side_that_wants_a_prack_has_one() {
    case(async || {
        let routes = "Record-Route: <sip:far.invalid;lr>, <sip:p;x=1%23@[local_ip]:[local_port];lr>";
        let far = Far::start("wants_prack", &[("contact", "sip:far@127.0.0.1:9"), ("routes", routes)]).await;
        let nearest = format!("<sip:p;x=1%23@127.0.0.1:{};lr>", far.port);
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        let traffic = far.played().await;
        assert!(
            traffic.our("INVITE").lacks("Supported") || !traffic.our("INVITE").header("Supported").contains("100rel")
        );
        for method in ["PRACK", "ACK"] {
            let request = traffic.our(method);
            assert_eq!(request.line(), format!("{method} sip:far@127.0.0.1:9 SIP/2.0"));
            let routes = request.text.lines().filter_map(|line| line.strip_prefix("Route: "));
            assert_eq!(routes.collect::<Vec<_>>(), [&nearest, "<sip:far.invalid;lr>"], "{method}");
        }
    });
}

/// The same without a proxy in between.
#[test]
fn a_prack_without_routes_goes_to_the_contact() {
    case(async || {
        let keys = [("contact", "sip:far@[local_ip]:[local_port]"), ("routes", "Server: far")];
        let far = Far::start("wants_prack", &keys).await;
        let contact = format!("PRACK sip:far@127.0.0.1:{} SIP/2.0", far.port);
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        let traffic = far.played().await;
        assert_eq!(traffic.our("PRACK").line(), contact);
        assert!(traffic.our("PRACK").lacks("Route"));
    });
}
