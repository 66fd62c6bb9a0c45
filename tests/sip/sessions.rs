//! Session timers (RFC 4028), by SIPp. A session's seconds pass as fast as T1 is shorter than RFC 3261's.

use std::time::Duration;

use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::config;
use clutchcall::engine::sip::Transport;

use crate::called::{Called, echo, to_its_end as called_to_its_end};
use crate::callers::called;
use crate::rig::{Caller, Far, Traffic, case, towards};

const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));
const EXPIRED: (Status, EndReason, Option<u16>, Option<u8>) =
    (Status::Completed, EndReason::SessionExpired, None, Some(102));
/// 90 s are 3.6.
const T1: Duration = Duration::from_millis(20);

async fn dialled(scenario: &str) -> (Far, Caller) {
    let far = Far::start(scenario, &[]).await;
    let mut caller = Caller::at(T1, towards(Transport::Udp, far.port)).await;
    caller.place(20);
    (far, caller)
}

async fn to_its_end(scenario: &str) -> (Caller, Traffic) {
    let (far, mut caller) = dialled(scenario).await;
    caller.settled().await;
    let traffic = far.played().await;
    (caller, traffic)
}

#[test]
fn an_invite_says_what_we_want() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        let traffic = far.played().await;
        let invite = traffic.our("INVITE");
        let said = ["Supported", "Session-Expires", "Min-SE"].map(|name| invite.header(name));
        assert_eq!(said, ["timer", "1800", "90"]);
    });
}

#[test]
fn nobody_who_wants_no_timer_asks_for_one() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let settings = config::SipTrunk { session_expires: None, ..towards(Transport::Udp, far.port) };
        let mut caller = Caller::idle(settings).await;
        caller.place(20);
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        let traffic = far.played().await;
        let invite = traffic.our("INVITE");
        assert!(invite.lacks("Session-Expires") && invite.lacks("Min-SE"), "{}", invite.text);
        assert_eq!(invite.header("Supported"), "timer");
    });
}

#[test]
fn a_far_side_that_wants_longer_sessions_is_asked_again() {
    case(async || {
        let (far, mut caller) = dialled("too_short").await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        let traffic = far.played().await;
        let mut invites = traffic.ours("INVITE");
        invites.dedup_by_key(|invite| invite.header("CSeq").to_owned());
        assert_eq!(invites.len(), 2);
        assert_eq!(invites[0].header("Call-ID"), invites[1].header("Call-ID"));
        assert_eq!(caller.record().sip_code, None);
    });
}

#[test]
fn a_far_side_that_is_never_content_is_asked_twice_more() {
    case(async || {
        let (caller, traffic) = to_its_end("too_short_always").await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::CarrierError, Some(422), Some(41)));
        let mut invites = traffic.ours("INVITE");
        invites.dedup_by_key(|invite| invite.header("CSeq").to_owned());
        assert_eq!(invites.len(), 3);
    });
}

/// RFC 4028 §7.4, of a session that runs: its refresh is asked for again, with the larger interval.
#[test]
fn a_far_side_that_wants_longer_sessions_later_is_asked_again() {
    case(async || {
        let (caller, traffic) = to_its_end("too_short_later").await;
        assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Remote)));
        assert_eq!(traffic.each("UPDATE").len(), 2);
        assert!(traffic.ours("BYE").is_empty());
    });
}

#[test]
fn we_refresh_by_update() {
    case(async || {
        let (caller, traffic) = to_its_end("takes_updates").await;
        assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Remote)));
        let updates = traffic.ours("UPDATE");
        assert!(updates.iter().all(|update| update.header("Content-Length") == "0"), "{updates:?}");
        // To where the answer to the first one says that it is (RFC 3261 §12.2.1.2).
        assert!(updates.last().unwrap().line().starts_with("UPDATE sip:moved@127.0.0.1:"), "{updates:?}");
    });
}

#[test]
fn we_refresh_by_re_invite_where_there_is_no_update() {
    case(async || {
        let (caller, traffic) = to_its_end("takes_invites").await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        let mut invites = traffic.ours("INVITE");
        invites.dedup_by_key(|invite| invite.header("CSeq").to_owned());
        // The same description, in the same version (§7.4).
        let described = |text: &str| text.split_once("\n\n").unwrap().1.to_owned();
        assert_eq!(described(&invites[0].text), described(&invites[1].text));
        assert!(invites[1].header("To").ends_with(";tag=far") && traffic.ours("UPDATE").is_empty());
    });
}

/// RFC 3261 §12.2.1.2.
#[test]
fn what_follows_a_refresh_goes_to_where_its_answer_came_from() {
    case(async || {
        let (far, mut caller) = dialled("moves_its_contact").await;
        caller.until_heard_times(&far, "ACK", 3).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Local)));
        let traffic = far.played().await;
        let of = |method| {
            traffic.each(method).into_iter().map(|message| message.line().split('@').next().unwrap().to_owned())
        };
        assert_eq!(of("ACK").collect::<Vec<_>>(), ["ACK sip:far", "ACK sip:moved", "ACK sip:moved"]);
        assert_eq!(of("INVITE").collect::<Vec<_>>()[1..], ["INVITE sip:far", "INVITE sip:moved"]);
        assert_eq!(of("BYE").collect::<Vec<_>>(), ["BYE sip:moved"]);
    });
}

#[test]
fn we_refresh_by_re_invite_where_an_update_is_refused_as_such() {
    case(async || {
        for code in ["405", "501"] {
            let far = Far::start("refuses_updates", &[("code", code)]).await;
            let mut caller = Caller::at(T1, towards(Transport::Udp, far.port)).await;
            caller.place(20);
            caller.settled().await;
            assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
            let traffic = far.played().await;
            let mut invites = traffic.ours("INVITE");
            invites.dedup_by_key(|invite| invite.header("CSeq").to_owned());
            assert_eq!((traffic.each("UPDATE").len(), invites.len()), (1, 2), "{code}");
        }
    });
}

#[test]
fn a_far_end_that_refreshes_no_more_is_hung_up() {
    case(async || {
        let (caller, traffic) = to_its_end("refreshes_once").await;
        assert_eq!((caller.ending(), caller.record().ended_by), (EXPIRED, Some(EndedBy::System)));
        assert!(traffic.ours("UPDATE").is_empty());
    });
}

#[test]
fn a_session_that_is_too_short_for_us_is_refused() {
    case(async || {
        let (caller, traffic) = to_its_end("shortens").await;
        assert_eq!(caller.ending(), NORMAL);
        assert_eq!(traffic.our("SIP/2.0 422").header("Min-SE"), "90");
    });
}

#[test]
fn a_far_end_that_knows_the_call_no_more_is_hung_up() {
    case(async || {
        // RFC 4028 §10: of a far end that answers 408 itself as of one that has no such call.
        for (code, phrase) in [("481", "Call/Transaction Does Not Exist"), ("408", "Request Timeout")] {
            let far = Far::start("forgets", &[("code", code), ("phrase", phrase)]).await;
            let mut caller = Caller::at(T1, towards(Transport::Udp, far.port)).await;
            caller.place(20);
            caller.settled().await;
            assert_eq!((caller.ending(), caller.record().ended_by), (EXPIRED, Some(EndedBy::System)), "{code}");
            assert_eq!(far.played().await.each("UPDATE").len(), 1);
        }
    });
}

#[test]
fn a_far_end_that_holds_the_call_and_dies_does_not_keep_it() {
    case(async || {
        let (caller, traffic) = to_its_end("holds_and_dies").await;
        assert_eq!((caller.ending(), caller.record().ended_by), (EXPIRED, Some(EndedBy::System)));
        assert!(traffic.ours("UPDATE").len() >= 3, "it was not repeated: {traffic:?}");
    });
}

#[test]
fn a_caller_refreshes_her_call() {
    case(async || {
        let (traffic, row, _) = called_to_its_end(Called::new(18, echo()), "caller_keeps_time", &[]).await;
        assert_eq!((&row["status"], &row["endReason"]), (&"completed".into(), &"normal".into()));
        assert!(traffic.ours("UPDATE").is_empty() && traffic.ours("BYE").is_empty());
    });
}

#[test]
fn a_caller_whose_session_is_too_short_is_told_so() {
    case(async || {
        let called = Called::new(19, echo());
        let traffic = called.call_with("caller_too_short", &[("expires", "30")]).played().await;
        assert_eq!(traffic.our("SIP/2.0 422").header("Min-SE"), "90");
        assert!(called.rows().is_empty());
    });
}

#[test]
fn a_caller_has_us_refresh_her_call() {
    case(async || {
        let (mut callee, far) = called("caller_has_us_keep_time", &[]).await;
        callee.pick_up();
        callee.settled().await;
        assert_eq!((callee.ending(), callee.record().ended_by), (NORMAL, Some(EndedBy::Remote)));
        assert_eq!(far.played().await.each("UPDATE").len(), 1);
    });
}

/// RFC 3261 §14.1 and §14.2.
#[test]
fn both_ask_for_a_change_at_once() {
    case(async || {
        let (caller, traffic) = to_its_end("asks_at_once").await;
        assert_eq!((caller.ending(), caller.legs), (NORMAL, 1));
        assert_eq!(traffic.our("SIP/2.0 491").header("CSeq"), "1 INVITE");
        let mut invites = traffic.ours("INVITE");
        invites.dedup_by_key(|invite| invite.header("CSeq").to_owned());
        assert_eq!(invites.len(), 3, "it is asked again");
    });
}
