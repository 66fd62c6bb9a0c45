//! What a trunk's settings make of its messages, and of those of its far side.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use clutchcall::call::{EndReason, Status};
use clutchcall::engine::config::{Credentials, Host, Secret, SipTrunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use clutchcall::sip::Codec;

use crate::called::{Called, assert_end, echo, rule, to_its_end};
use crate::rig::{Caller, Far, case, free_port, towards};

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// Behind a translator, with RTP at an address of its own; the codecs that the trunk prefers, and its times.
#[test]
fn an_invite_says_what_the_trunk_is_set_to() {
    case(async || {
        let far = Far::start("rings", &[]).await;
        let rtp = Ipv4Addr::new(127, 0, 0, 3);
        let settings = SipTrunk {
            external_sip_ip: Some("198.51.100.7".parse().unwrap()),
            internal_rtp_ip: rtp.into(),
            external_rtp_ip: Some("198.51.100.8".parse().unwrap()),
            codec_preferences: vec![Codec::Pcma, Codec::Opus],
            ptime_ms: 30,
            session_expires: Some(minutes(10)),
            min_se: minutes(3),
            ..towards(Transport::Udp, far.port)
        };
        let mut caller = Caller::idle(settings).await;
        caller.place(20);
        caller.until(Status::Ringing).await;
        let invite = far.traffic();
        let invite = invite.our("INVITE");
        let us = format!("198.51.100.7:{}", caller.address.port());
        assert_eq!(caller.address.to_string(), us);
        assert!(invite.header("Via").starts_with(&format!("SIP/2.0/UDP {us};")), "{}", invite.text);
        assert!(invite.header("Contact").ends_with(&format!("@{us}>")), "{}", invite.text);
        assert_eq!((invite.header("Session-Expires"), invite.header("Min-SE")), ("600", "180"));
        let line = |begins: &str| invite.text.lines().find_map(|line| line.strip_prefix(begins)).unwrap().to_owned();
        assert_eq!((line("c="), line("a=ptime:")), ("IN IP4 198.51.100.8".to_owned(), "30".to_owned()));
        let audio = line("m=audio ");
        let (port, formats) = audio.split_once(' ').unwrap();
        assert_eq!(formats, "RTP/AVP 8 111 101 102");
        assert!(UdpSocket::bind((rtp, port.parse().unwrap())).is_err(), "it listens there");
        UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 4), port.parse().unwrap())).expect("and nowhere else");
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::Canceled, None, Some(31)));
        far.played().await;
    });
}

#[test]
fn a_binding_is_asked_for_as_long_as_the_trunk_is_set_to() {
    case(async || {
        let far = Far::start("registers", &[]).await;
        let credentials = Credentials { sip_username: "trunk".to_owned(), sip_password: Secret::new("secret") };
        let settings = SipTrunk {
            external_sip_ip: Some("198.51.100.7".parse().unwrap()),
            require_registration: true,
            register_expires: minutes(10),
            credentials: Some(credentials),
            ..towards(Transport::Udp, far.port)
        };
        let caller = Caller::idle(settings).await;
        let traffic = far.played().await;
        for register in traffic.ours("REGISTER") {
            assert_eq!(register.header("Expires"), "600");
            assert_eq!(register.header("Contact"), format!("<sip:trunk@198.51.100.7:{}>", caller.address.port()));
        }
    });
}

/// The address to which calls go is another one.
#[test]
fn calls_come_in_from_the_gateway_too() {
    case(async || {
        let called = Called::with(80, |trunk| {
            trunk.inbound.rules = vec![rule("*", echo())];
            let TrunkKind::Sip(sip) = &mut trunk.kind else { panic!("a SIP trunk") };
            sip.sbc_ip = Some(Host { name: "127.0.0.9".to_owned(), port: Some(free_port()) });
            sip.gateway_ip = Some("127.0.0.1".parse().unwrap());
        });
        let (_, row, _) = to_its_end(called, "caller_leaves", &[]).await;
        assert_end(&row, ("completed", "normal", "remote", None, 16));
    });
}

/// RFC 4028 §9: 422, though it is no shorter than the RFC's own least.
#[test]
fn a_session_that_is_too_short_for_the_trunk_is_refused() {
    case(async || {
        let called = Called::with(81, |trunk| {
            trunk.inbound.rules = vec![rule("*", echo())];
            let TrunkKind::Sip(sip) = &mut trunk.kind else { panic!("a SIP trunk") };
            sip.min_se = minutes(3);
        });
        let traffic = called.call_with("caller_too_short", &[("expires", "120")]).played().await;
        assert_eq!(traffic.our("SIP/2.0 422").header("Min-SE"), "180");
        assert!(called.rows().is_empty());
    });
}
