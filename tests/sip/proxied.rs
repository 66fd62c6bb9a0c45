//! Far sides with proxies in front of them, which stay in the way of the whole call (RFC 3261 §16.6, §12.2.1.1), and one that writes short.

use clutchcall::call::{EndReason, EndedBy, Status, TransferMode, TransferState};

use crate::callers::called;
use crate::rig::{Caller, Far, Message, Traffic, case};

const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));
/// Where nobody is: what goes there itself reaches nobody.
const CONTACT: &str = "192.0.2.10:5070";

/// Its Route headers, however many lines they take.
fn routes(message: &Message) -> Vec<&str> {
    let values =
        message.text.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("Route:"));
    values.flat_map(|value| value.split(',')).map(str::trim).collect()
}

/// To the nearest proxy first, and through both, to the far end's own address.
fn assert_routed(traffic: &Traffic, methods: &[&str], user: &str, expected: &[String; 2]) {
    for method in methods {
        let message = traffic.our(method);
        assert_eq!(message.line(), format!("{method} sip:{user}@{CONTACT} SIP/2.0"));
        assert_eq!(routes(message), expected, "{}", message.text);
    }
}

/// The Record-Route of its answers, from behind (RFC 3261 §12.1.2).
#[test]
fn what_follows_an_answer_goes_through_its_proxies() {
    case(async || {
        let far = Far::start("behind_proxies", &[("code", "603"), ("phrase", "Decline")]).await;
        let near = format!("<sip:127.0.0.1:{};lr=on>", far.port);
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.transfer(TransferMode::Refer);
        caller.until_transfer(TransferState::Failed).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.record().ended_by), (NORMAL, Some(EndedBy::Local)));
        let traffic = far.played().await;
        assert!(routes(traffic.our("INVITE")).is_empty());
        assert_routed(&traffic, &["ACK", "REFER", "BYE"], "far", &[near, "<sip:192.0.2.9;lr>".to_owned()]);
    });
}

/// And that of an INVITE as it stands (§12.1.1), which our answers repeat.
#[test]
fn what_follows_an_answer_of_ours_goes_through_the_callers_proxies() {
    case(async || {
        let (mut callee, far) = called("caller_behind_proxies", &[]).await;
        let near = format!("<sip:127.0.0.1:{};lr>", far.port);
        callee.pick_up();
        callee.until(Status::InProgress).await;
        callee.hangup();
        callee.settled().await;
        assert_eq!((callee.ending(), callee.record().ended_by), (NORMAL, Some(EndedBy::Local)));
        let traffic = far.played().await;
        for code in ["SIP/2.0 180", "SIP/2.0 200"] {
            assert_eq!(traffic.our(code).header("Record-Route"), format!("{near}, <sip:192.0.2.9;lr>"));
        }
        assert_routed(&traffic, &["BYE"], "caller", &[near, "<sip:192.0.2.9;lr>".to_owned()]);
    });
}

/// RFC 3261 §7.3.3, RFC 4028 §4.
#[test]
fn a_far_side_may_write_every_header_by_its_short_name() {
    case(async || {
        let far = Far::start("speaks_short", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.settled().await;
        let hung_up = (Status::Completed, EndReason::Normal, None, Some(19));
        assert_eq!((caller.ending(), caller.record().ended_by, caller.legs), (hung_up, Some(EndedBy::Remote), 1));
        assert_eq!(far.played().await.each("UPDATE").len(), 1);
    });
}
