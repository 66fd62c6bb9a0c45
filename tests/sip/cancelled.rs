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

/// The ring timer is over without a word, and the time of our INVITE is not (3.2 s).
#[test]
fn an_answer_comes_after_nobody_said_a_word_in_time() {
    case(async || {
        let far = Far::start("late_answer", &[("late_ms", "2600")]).await;
        let mut caller = Caller::with(&far, Wishes { ring_timeout_s: Some(2), ..Wishes::default() }).await;
        caller.settled().await;
        assert_eq!((caller.ending(), caller.record().ended_by), (UNHEARD, Some(EndedBy::System)));
        let traffic = far.played().await;
        assert!(traffic.ours("CANCEL").is_empty());
        traffic.our("BYE");
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
