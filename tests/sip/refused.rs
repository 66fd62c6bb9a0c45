//! Calls that are refused, or that nobody answers.

use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::sip::Transport;

use crate::rig::{Caller, Far, Wishes, case};

type Ending = (Status, EndReason, Option<u16>, Option<u8>);

async fn refused(scenario: &str, (code, phrase, extra): (&str, &str, &str), want: Ending) {
    let far = Far::start(scenario, &[("code", code), ("phrase", phrase), ("extra", extra)]).await;
    let mut caller = Caller::dial(&far).await;
    caller.settled().await;
    assert_eq!((caller.ending(), caller.legs), (want, 0), "{code} {phrase}");
    assert_eq!((caller.record().ended_by, caller.record().answered_ms), (Some(EndedBy::Remote), None));
    assert_eq!(caller.record().sip_phrase.as_deref(), Some(phrase));
    let traffic = far.played().await;
    let (invite, ack) = (traffic.our("INVITE"), traffic.our("ACK"));
    // Of the same transaction, since it is no 2xx (RFC 3261 §17.1.1.3).
    assert_eq!(invite.header("Via"), ack.header("Via"));
}

#[test]
fn final_answers() {
    case(async || {
        const NONE: &str = "X-Of-The-Carrier: none";
        let failed = |reason, code, q850| (Status::Failed, reason, Some(code), Some(q850));
        let told = "Reason: Q.850;cause=17;text=\"User busy\"";
        refused("refuses", ("486", "Busy Here", told), failed(EndReason::Busy, 486, 17)).await;
        refused("refuses", ("603", "Declined", NONE), failed(EndReason::Declined, 603, 21)).await;
        refused("refuses", ("404", "No Such Number", NONE), failed(EndReason::NotFound, 404, 1)).await;
        let later = "Retry-After: 120";
        refused("refuses", ("503", "Service Unavailable", later), failed(EndReason::CarrierError, 503, 41)).await;
        let limit = "Concurrent call limit exceeded";
        refused("refuses", ("503", limit, later), failed(EndReason::CarrierLimit, 503, 34)).await;
        let cause = "Reason: SIP;cause=200;text=\"x\", Q.850;cause=34";
        refused("refuses", ("503", "Busy", cause), failed(EndReason::CarrierError, 503, 34)).await;
        refused("refuses", ("480", "Off", "Reason: Q.850;cause=0"), failed(EndReason::Unavailable, 480, 18)).await;
        let rang = (Status::NoAnswer, EndReason::RemoteTimeout, Some(480), Some(18));
        refused("rings_then_refuses", ("480", "Nobody Home", NONE), rang).await;
        let cause = (Status::NoAnswer, EndReason::RemoteTimeout, Some(500), Some(19));
        refused("refuses", ("500", "Timer", "Reason: Q.850;cause=19"), cause).await;
    });
}

/// Those that carriers say less often, row by row of docs/states.md.
#[test]
fn rarer_final_answers() {
    case(async || {
        const NONE: &str = "X-Of-The-Carrier: none";
        const SPENT: &str = "Reason: Q.850;cause=88;text=\"Incompatible destination\"";
        use EndReason::{Busy, CodecMismatch, Declined, InvalidNumber, NotFound, Unavailable};
        for (code, phrase, extra, reason, q850) in [
            (600, "Busy Everywhere", NONE, Busy, 17),
            (607, "Unwanted", NONE, Declined, 21),
            (604, "Does Not Exist Anywhere", NONE, NotFound, 1),
            (410, "Gone", NONE, NotFound, 22),
            (484, "Address Incomplete", NONE, InvalidNumber, 28),
            (488, "Not Acceptable Here", "Warning: 304 carrier \"Media type not available\"", CodecMismatch, 79),
            (488, "Not Acceptable Here", SPENT, CodecMismatch, 88),
            (606, "Not Acceptable", NONE, CodecMismatch, 79),
            (415, "Unsupported Media Type", "Accept: application/isup", CodecMismatch, 79),
            (408, "Request Timeout", NONE, Unavailable, 102),
        ] {
            let want = (Status::Failed, reason, Some(code), Some(q850));
            refused("refuses", (&code.to_string(), phrase, extra), want).await;
        }
        // Once it has rung, nobody came to the phone.
        for (code, phrase) in [(408, "Request Timeout"), (487, "Request Terminated")] {
            let want = (Status::NoAnswer, EndReason::RemoteTimeout, Some(code), Some(18));
            refused("rings_then_refuses", (&code.to_string(), phrase, NONE), want).await;
        }
    });
}

/// A phrase, and headers ahead of those that count, in Latin-1: RFC 3261 §7.3.1 has UTF-8 alone, exchanges have not.
#[test]
fn a_refusal_in_latin_1_is_one() {
    for transport in [Transport::Udp, Transport::Tcp] {
        case(async || {
            let keys = [("code", "486"), ("phrase", "Nicht verfügbar"), ("extra", "Warning: 399 h \"für jetzt\"")];
            let far = Far::over(transport, "refuses", &keys).await;
            let mut caller = Caller::dial(&far).await;
            caller.settled().await;
            assert_eq!(caller.ending(), (Status::Failed, EndReason::Busy, Some(486), Some(17)));
            assert_eq!(caller.record().sip_phrase.as_deref(), Some("Nicht verf?gbar"));
            far.played().await.our("ACK");
        });
    }
}

#[test]
fn nobody_says_a_word() {
    case(async || {
        let far = Far::start("silent", &[]).await;
        let mut caller = Caller::with(&far, Wishes { ring_timeout_s: Some(5), ..Wishes::default() }).await;
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::NoResponse, None, Some(18)));
        assert_eq!(caller.record().ended_by, Some(EndedBy::System));
        let traffic = far.played().await;
        assert!(traffic.ours("CANCEL").is_empty());
        // T1, doubled each time, until 64·T1: 6 repetitions. The last one is due a T1 before the end; a machine that is late with
        // the others has no time left for it.
        let sent = traffic.ours("INVITE").len();
        assert!((5..=7).contains(&sent), "sent {sent} times");
        traffic.our("INVITE");
    });
}

#[test]
fn a_100_is_no_answer_for_ever() {
    case(async || {
        let far = Far::start("only_trying", &[]).await;
        let mut caller = Caller::with(&far, Wishes { ring_timeout_s: Some(5), ..Wishes::default() }).await;
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::NoAnswer, EndReason::RingTimeout, None, Some(18)));
        assert_eq!((caller.record().ended_by, caller.record().ringing_ms), (Some(EndedBy::System), None));
        far.played().await.our("CANCEL");
    });
}

#[test]
fn it_rings_too_long() {
    case(async || {
        let far = Far::start("rings", &[]).await;
        let mut caller = Caller::with(&far, Wishes { ring_timeout_s: Some(5), ..Wishes::default() }).await;
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::NoAnswer, EndReason::RingTimeout, None, Some(19)));
        assert_eq!(caller.record().ended_by, Some(EndedBy::System));
        far.played().await.our("CANCEL");
    });
}

#[test]
fn a_far_side_sends_the_call_on_within_its_own_house() {
    case(async || {
        let far = Far::start("moves", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Normal, None, Some(16)));
        let traffic = far.played().await;
        let invites = traffic.ours("INVITE");
        let second = invites.last().unwrap();
        // The one that it may follow, though the far side likes the other more.
        assert!(second.text.starts_with("INVITE sip:moved1@127.0.0.1:"), "{}", second.text);
        assert_eq!(second.header("Call-ID"), invites[0].header("Call-ID"));
    });
}

#[test]
fn a_far_side_that_sends_the_call_on_and_on_is_followed_twice() {
    case(async || {
        let far = Far::start("moves_for_ever", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::Redirected, Some(302), None));
        let mut invites: Vec<String> = far.played().await.ours("INVITE").iter().map(|invite| invite.line()).collect();
        invites.dedup();
        assert_eq!(invites.len(), 3, "{invites:?}");
    });
}

#[test]
fn nobody_is_led_to_somebody_else() {
    case(async || {
        let contact = ("extra", "Contact: <sip:1@evil.invalid>, <sip:127.0.0.1@evil.invalid>, <tel:+15550009>");
        let far = Far::start("refuses", &[("code", "302"), ("phrase", "Moved Temporarily"), contact]).await;
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::Redirected, Some(302), None));
        far.played().await.our("INVITE");
    });
}
