//! Who may call: trunks by address or password, numbers by rule, as many as there is room for.

use std::net::{SocketAddr, UdpSocket};

use clutchcall::call::Reject;
use clutchcall::engine::config::{Challenge, Config, Secret, SipTrunk, Then, Trunk, TrunkKind};
use clutchcall::sip::digest::Algorithm;
use serde_json::{Value, json};

use crate::called::{Called, NUMBER, assert_end, echo, notify, rule, to_its_end};
use crate::engine::beside;
use crate::rig::{Far, LIMIT, case, free_port, free_ports};

#[test]
fn what_is_demanded_and_not_there_is_named() {
    case(async || {
        let called = Called::new(10, echo());
        let traffic = called.call("caller_required").played().await;
        assert_eq!(traffic.our("SIP/2.0 420").header("Unsupported"), "precondition");
        assert_eq!(called.rows(), Vec::<Value>::new());
    });
}

#[test]
fn a_number_that_no_rule_has_and_a_trunk_that_is_full() {
    case(async || {
        let called = Called::with(11, |trunk| {
            trunk.channel_limit = 1;
            trunk.inbound.rules = vec![rule("+1555000????", notify()), rule("+1*", echo())];
        });
        let far = Far::calls("caller_refused", called.from, called.at, &[("number", "+4930123"), ("code", "404")]);
        far.played().await;
        assert_eq!(called.rows(), Vec::<Value>::new());
        let first = called.call_with("caller_refused", &[("code", "603")]);
        let (called, row) = beside(move || {
            let row = called.until(&["ringing"]);
            (called, row)
        })
        .await;
        let second = Far::calls("caller_refused", free_port(), called.at, &[("number", NUMBER), ("code", "486")]);
        assert!(!second.played().await.our("SIP/2.0 486").header("Retry-After").is_empty());
        called.decide("voice.calls.reject", &json!({"sid": row["sid"]}));
        first.played().await;
        let metrics = called.bench.metrics();
        assert!(metrics.contains("clutchcall_arrivals_turned_away_total 2\n"), "{metrics}");
        assert!(metrics.contains("clutchcall_arrivals_total 1\n"), "{metrics}");
    });
}

#[test]
fn an_engine_that_is_full_says_when_to_come_again() {
    case(async || {
        let full = |config: &mut Config| config.limits.calls = 1;
        let called = Called::configured(46, full, |trunk| trunk.inbound.rules = vec![rule("*", notify())]);
        let first = called.call_with("caller_refused", &[("code", "603")]);
        let (called, row) = beside(move || {
            let row = called.until(&["ringing"]);
            (called, row)
        })
        .await;
        let second = Far::calls("caller_refused", free_port(), called.at, &[("number", NUMBER), ("code", "503")]);
        assert_eq!(second.played().await.our("SIP/2.0 503").header("Retry-After"), "10");
        assert_eq!(called.row()["sid"], row["sid"], "a call that is turned away has no record");
        called.decide("voice.calls.reject", &json!({"sid": row["sid"]}));
        first.played().await;
    });
}

#[test]
fn a_call_without_rtp_ports_for_it_is_told_when_to_come_again() {
    case(async || {
        let called = Called::with(47, |trunk| {
            trunk.inbound.rules = vec![rule("*", notify())];
            sip(trunk).rtp_ports = free_ports(2);
        });
        let first = called.call("caller_stays");
        let (called, row) = beside(move || {
            let row = called.until(&["ringing"]);
            (called, row)
        })
        .await;
        for _ in 0..2 {
            let second = Far::calls("caller_refused", free_port(), called.at, &[("number", NUMBER), ("code", "503")]);
            let after = second.played().await.our("SIP/2.0 503").header("Retry-After").parse::<u32>().unwrap();
            assert!((1..=60).contains(&after), "{after}");
        }
        assert_eq!(called.row()["sid"], row["sid"], "a call that is turned away has no record");
        let metrics = called.bench.metrics();
        assert!(metrics.contains("clutchcall_arrivals_turned_away_total 2\n"), "{metrics}");
        // The first one has lost nothing.
        let row = beside(move || {
            called.decide("voice.calls.answer", &json!({"sid": row["sid"]}));
            called.until(&["in_progress"]);
            called.bench.hangup(row["sid"].as_str().unwrap()).data();
            called.ended()
        })
        .await;
        assert_end(&row, ("completed", "normal", "local", None, 16));
        first.played().await.our("BYE");
    });
}

/// An INVITE from such an address, to be sent from `us`.
fn invite(us: SocketAddr, to: SocketAddr) -> String {
    format!(
        "INVITE sip:{NUMBER}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bKstranger\r\n\
         From: <sip:+15558675309@127.0.0.1>;tag=1\r\nTo: <sip:{NUMBER}@{to}>\r\nCall-ID: 1@{us}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:x@{us}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn who_is_no_trunks_is_dropped() {
    case(async || {
        let called = Called::new(14, echo());
        let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
        let us = stranger.local_addr().unwrap();
        stranger.send_to(invite(us, called.at).as_bytes(), called.at).unwrap();
        // Behind it in the same socket: when this one is answered the stranger has been heard.
        let (_, row, called) = to_its_end(called, "caller_leaves", &[]).await;
        assert_end(&row, ("completed", "normal", "remote", None, 16));
        assert_eq!(called.rows().len(), 1);
        stranger.set_nonblocking(true).unwrap();
        assert!(stranger.recv(&mut [0; 2000]).is_err(), "nothing was said to a stranger");
    });
}

/// `inbound_acl`: of two neighbours one is on it.
#[test]
fn who_is_on_the_list_may_call_too() {
    case(async || {
        let called = Called::with(48, |trunk| {
            trunk.inbound.rules = vec![rule("*", Then::Reject(Reject::Busy))];
            trunk.inbound.acl = vec!["127.0.0.2/31".parse().unwrap()];
        });
        let [stranger, listed] = ["127.0.0.4:0", "127.0.0.3:0"].map(|at| UdpSocket::bind(at).unwrap());
        for socket in [&stranger, &listed] {
            let us = socket.local_addr().unwrap();
            socket.send_to(invite(us, called.at).as_bytes(), called.at).unwrap();
        }
        listed.set_read_timeout(Some(LIMIT)).unwrap();
        let row = beside(move || {
            let mut bytes = [0; 2000];
            loop {
                let length = listed.recv(&mut bytes).expect("whoever is on the list is answered");
                if bytes[..length].starts_with(b"SIP/2.0 486 ") {
                    break;
                }
            }
            let row = called.ended();
            let metrics = called.bench.metrics();
            assert!(metrics.contains("clutchcall_sip_dropped_total{what=\"stranger\"} 1\n"), "{metrics}");
            row
        })
        .await;
        assert_end(&row, ("failed", "busy", "local", Some(486), 17));
        assert_eq!(row["trunkId"], "carrier");
        stranger.set_nonblocking(true).unwrap();
        assert!(stranger.recv(&mut [0; 2000]).is_err(), "nothing was said to a stranger");
    });
}

fn sip(trunk: &mut Trunk) -> &mut SipTrunk {
    let TrunkKind::Sip(sip) = &mut trunk.kind else { panic!("it is one") };
    sip
}

fn challenged(nth: u16, change: impl FnOnce(&mut Trunk)) -> Called {
    Called::with(nth, |trunk| {
        trunk.inbound.rules = vec![rule("*", echo())];
        trunk.inbound.challenge = Some(Challenge {
            username: "pbx".to_owned(),
            password: Secret::new("p4ss"),
            // All that SIPp knows.
            algorithms: vec![Algorithm::Md5],
        });
        change(trunk);
    })
}

#[test]
fn who_knows_the_password_is_let_in_from_anywhere() {
    case(async || {
        // Its calls come from an address that the trunk does not have.
        let called = challenged(15, |trunk| {
            sip(trunk).sbc_ip = Some("192.0.2.1".parse().unwrap());
        });
        let keys = [("user", "pbx"), ("pass", "p4ss")];
        let (traffic, row, _) = to_its_end(called, "caller_proves_itself", &keys).await;
        assert_end(&row, ("completed", "normal", "remote", None, 16));
        let challenge = traffic.our("SIP/2.0 401").header("WWW-Authenticate");
        assert!(challenge.contains("realm=\"clutchcall\"") && challenge.contains("qop=\"auth\""), "{challenge}");
    });
}

#[test]
fn who_guesses_the_password_is_refused() {
    case(async || {
        for (nth, user, pass) in [(16, "pbx", "guess"), (17, "nobody", "p4ss")] {
            let called = challenged(nth, |_| {});
            let far = called.call_with("caller_guesses", &[("code", "403"), ("user", user), ("pass", pass)]);
            far.played().await;
            assert_eq!(called.rows(), Vec::<Value>::new());
            let metrics = called.bench.metrics();
            assert!(metrics.contains("clutchcall_sip_dropped_total{what=\"wrong_password\"} 1\n"), "{metrics}");
        }
    });
}
