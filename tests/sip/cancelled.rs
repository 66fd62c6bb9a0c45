//! Calls that are given up before the answer, in every order that the wire allows (RFC 3261 §9.1).

use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::config::{self, Credentials, Host, Secret};
use clutchcall::engine::sip::Transport;

use crate::rig::{Caller, Far, Wishes, case, towards};

const CANCELED: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Failed, EndReason::Canceled, None, Some(31));
const UNHEARD: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Failed, EndReason::NoResponse, None, Some(18));

#[test]
fn while_it_rings() {
    case(async || {
        let far = Far::start("rings", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::Ringing).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.record().ended_by), (CANCELED, Some(EndedBy::Local)));
        let traffic = far.played().await;
        let (invite, cancel) = (traffic.our("INVITE"), traffic.our("CANCEL"));
        for name in ["Via", "From", "To", "Call-ID"] {
            assert_eq!(invite.header(name), cancel.header(name));
        }
        let line = |text: &str| text.lines().next().unwrap().split(' ').nth(1).unwrap().to_owned();
        assert_eq!(line(&invite.text), line(&cancel.text));
        assert!(traffic.ours("BYE").is_empty());
    });
}

#[test]
fn before_anybody_said_a_word() {
    case(async || {
        let far = Far::start("late_trying", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until_heard(&far, "INVITE").await;
        caller.hangup();
        assert_eq!(caller.ending(), CANCELED);
        caller.settled().await;
        let traffic = far.played().await;
        assert_eq!(traffic.our("CANCEL").header("Via"), traffic.our("INVITE").header("Via"));
    });
}

#[test]
fn an_answer_crosses_the_cancel() {
    case(async || {
        let far = Far::start("crosses", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::Ringing).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs, caller.record().answered_ms), (CANCELED, 0, None));
        let traffic = far.played().await;
        assert!(traffic.our("BYE").header("To").ends_with(";tag=far"));
    });
}

#[test]
fn an_answer_comes_without_a_provisional_after_it_was_given_up() {
    case(async || {
        let far = Far::start("late_answer", &[("late_ms", "700")]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until_heard(&far, "INVITE").await;
        caller.hangup();
        caller.settled().await;
        assert_eq!((caller.ending(), caller.legs), (CANCELED, 0));
        let traffic = far.played().await;
        assert!(traffic.ours("CANCEL").is_empty());
        traffic.our("BYE");
    });
}

/// The ring timer (2 s) is over without a word: behind it, and behind the time of our INVITE (3.2 s), which the crate ends.
#[test]
fn an_answer_comes_after_nobody_said_a_word_in_time() {
    case(async || {
        for late_ms in ["2600", "4000"] {
            let far = Far::start("late_answer", &[("late_ms", late_ms)]).await;
            let mut caller = Caller::with(&far, Wishes { ring_timeout_s: Some(2), ..Wishes::default() }).await;
            caller.settled().await;
            assert_eq!((caller.ending(), caller.record().ended_by), (UNHEARD, Some(EndedBy::System)));
            assert_eq!(caller.legs, 0);
            let traffic = far.played().await;
            assert!(traffic.ours("CANCEL").is_empty());
            let (invite, ack, bye) = (traffic.our("INVITE"), traffic.our("ACK"), traffic.our("BYE"));
            for name in ["From", "Call-ID"] {
                assert_eq!((ack.header(name), bye.header(name)), (invite.header(name), invite.header(name)));
            }
            assert!(bye.header("To").ends_with(";tag=far") && bye.line().starts_with("BYE sip:far@"), "{}", bye.text);
            assert_ne!(ack.header("Via"), bye.header("Via"));
        }
    });
}

/// A phone that begins to ring behind that time is not left to ring.
#[test]
fn a_phone_rings_after_nobody_said_a_word_in_time() {
    case(async || {
        for ring_timeout_s in [2, 5] {
            let far = Far::start("late_ringing", &[]).await;
            let wishes = Wishes { ring_timeout_s: Some(ring_timeout_s), ..Wishes::default() };
            let mut caller = Caller::with(&far, wishes).await;
            caller.settled().await;
            assert_eq!((caller.ending(), caller.record().ended_by), (UNHEARD, Some(EndedBy::System)));
            assert_eq!(caller.record().ringing_ms, None);
            let traffic = far.played().await;
            let (invite, cancel) = (traffic.our("INVITE"), traffic.our("CANCEL"));
            for name in ["Via", "From", "To", "Call-ID"] {
                assert_eq!(invite.header(name), cancel.header(name));
            }
            assert_eq!(traffic.our("ACK").header("CSeq"), "1 ACK");
            assert!(traffic.ours("BYE").is_empty());
        }
    });
}

/// RFC 3261 §16.7: a proxy sends each 2xx on, behind a final answer too, whether we have cancelled the call or one phone refused it.
#[test]
fn a_phone_answers_behind_the_end() {
    case(async || {
        let busy = (Status::Failed, EndReason::Busy, Some(600), Some(17));
        for (scenario, code, phrase, other, ending) in [
            ("answers_behind_487", "487", "Request Terminated", "far", CANCELED),
            ("answers_behind_487", "487", "Request Terminated", "other", CANCELED),
            ("refuses_and_answers", "600", "Busy Everywhere", "other", busy),
        ] {
            let keys = [("code", code), ("phrase", phrase), ("one", "far"), ("other", other)];
            let far = Far::start(scenario, &keys).await;
            let mut caller = Caller::dial(&far).await;
            caller.until(Status::Ringing).await;
            if ending == CANCELED {
                caller.hangup();
            }
            caller.settled().await;
            assert_eq!((caller.ending(), caller.legs, caller.record().answered_ms), (ending, 0, None));
            let traffic = far.played().await;
            let (acks, bye) = (traffic.each("ACK"), traffic.our("BYE"));
            assert_eq!((acks.len(), acks[1].line()), (2, bye.line().replace("BYE", "ACK")));
            assert!(bye.line().starts_with("BYE sip:far@127.0.0.1:"), "{}", bye.text);
        }
    });
}

#[test]
fn nobody_ever_says_a_word() {
    case(async || {
        let far = Far::start("silent", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until_heard(&far, "INVITE").await;
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), CANCELED);
        assert!(far.played().await.ours("CANCEL").is_empty());
    });
}

/// A domain behind a proxy: every request of the call, with its Route, goes to the proxy.
#[test]
fn a_domain_behind_a_proxy() {
    for transport in [Transport::Udp, Transport::Tcp] {
        behind_a_proxy(transport);
    }
}

fn behind_a_proxy(transport: Transport) {
    case(async || {
        let far = Far::over(transport, "asks_on_the_way", &[]).await;
        let port = far.port;
        let proxy = Host { name: "127.0.0.1".to_owned(), port: Some(port) };
        let credentials = Credentials { sip_username: "trunk".to_owned(), sip_password: Secret::new("secret") };
        let settings = config::SipTrunk {
            domain: Some("carrier.invalid".to_owned()),
            proxy: Some(proxy),
            credentials: Some(credentials),
            ..towards(transport, port)
        };
        let mut caller = Caller::idle(settings).await;
        caller.place(20);
        caller.until(Status::Ringing).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::Canceled, None, Some(31)));
        let traffic = far.played().await;
        let mut invites = traffic.ours("INVITE");
        invites.dedup_by_key(|invite| invite.header("CSeq").to_owned());
        assert_eq!(invites.len(), 2);
        assert!(invites[1].header("Authorization").contains("uri=\"sip:+15550001234@carrier.invalid"), "{invites:?}");
        invites.push(traffic.our("CANCEL"));
        for request in invites {
            let line = request.line();
            assert!(line.contains(" sip:+15550001234@carrier.invalid"), "{line}");
            assert_eq!(request.header("Route"), format!("<sip:127.0.0.1:{port};lr>"));
        }
    });
}
