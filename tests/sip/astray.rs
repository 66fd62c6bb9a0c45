//! Calls that come in by another way than they should: twice, over a connection that breaks, from whoever may call and asks for more, and
//! to one of several trunks that share an address.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

use clutchcall::call::{EndReason, EndedBy, Status};
use clutchcall::engine::config::{Challenge, Inbound, Secret, Trunk, TrunkKind};
use clutchcall::engine::sip::Transport;
use clutchcall::sip::digest::Algorithm;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::called::{Called, echo, notify, rtp_ports, rule, to_its_end};
use crate::rig::{Caller, LIMIT, case, free_port, towards};

/// A request of a caller at `us`; `way`: what tells it from the same call by another way.
fn request(method: &str, host: &str, us: SocketAddr, way: &str) -> String {
    let transport = if way.starts_with("tcp") { "TCP" } else { "UDP" };
    format!(
        "{method} sip:100@{host} SIP/2.0\r\nVia: SIP/2.0/{transport} {us};branch=z9hG4bK{way}\r\n\
         From: \"a <b>\" <sip:caller@{us}>;tag=1\r\nTo: <sip:100@{host}>\r\nCall-ID: {method}-astray\r\n\
         CSeq: 1 {method}\r\nContact: <sip:caller@{us}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

fn inbound() -> Inbound {
    Inbound { rules: vec![rule("*", notify())], ..Inbound::default() }
}

async fn heard(socket: &UdpSocket) -> String {
    let mut answer = [0; 4096];
    let length = tokio::time::timeout(LIMIT, socket.recv(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[test]
fn the_same_call_by_two_ways_is_one_call() {
    case(async || {
        let mut callee = Caller::idle(towards(Transport::Udp, 9)).await;
        callee.trunk.receive_as("carrier", &inbound());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (us, host) = (socket.local_addr().unwrap(), callee.address.to_string());
        for way in ["one", "two"] {
            socket.send_to(request("INVITE", &host, us, way).as_bytes(), callee.address).await.unwrap();
        }
        // Nobody has decided about the first yet.
        let merged = heard(&socket).await;
        assert!(merged.starts_with("SIP/2.0 482") && merged.contains("z9hG4bKtwo"), "{merged}");
        callee.is_called().await;
        let trying = heard(&socket).await;
        assert!(trying.starts_with("SIP/2.0 100") && trying.contains("z9hG4bKone"), "{trying}");
        callee.hangup();
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::Failed, EndReason::Declined, Some(603), Some(21)));
    });
}

/// A call that came over this connection, and rings.
async fn ringing_over_tcp() -> (Caller, TcpStream) {
    let mut callee = Caller::idle(towards(Transport::Tcp, 9)).await;
    callee.trunk.receive_as("carrier", &inbound());
    let mut stream = TcpStream::connect(callee.address).await.unwrap();
    let us = stream.local_addr().unwrap();
    let invite = request("INVITE", &callee.address.to_string(), us, "tcp");
    stream.write_all(invite.as_bytes()).await.unwrap();
    callee.is_called().await;
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("SIP/2.0 180") {
        let read = tokio::time::timeout(LIMIT, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
    }
    (callee, stream)
}

#[test]
fn a_caller_whose_connection_breaks_has_given_up() {
    case(async || {
        let (mut callee, stream) = ringing_over_tcp().await;
        drop(stream);
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::NoAnswer, EndReason::Canceled, None, Some(31)));
        assert_eq!(callee.record().ended_by, Some(EndedBy::Remote));
    });
}

/// Our 200 can't be sent: nobody acknowledges it.
#[test]
fn a_caller_whose_connection_is_gone_when_she_is_answered_has_no_call() {
    case(async || {
        let (mut callee, stream) = ringing_over_tcp().await;
        // Reset, and answered before anybody of ours has looked at the connection.
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(stream);
        callee.pick_up();
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::Failed, EndReason::NoAck, None, Some(102)));
        assert_eq!((callee.record().ended_by, callee.legs), (Some(EndedBy::System), 0));
    });
}

/// The same where nothing says so: the 200 is repeated into nowhere, and after it the BYE.
#[test]
fn a_caller_whose_port_is_closed_when_she_is_answered_has_no_call() {
    case(async || {
        let mut callee = Caller::idle(towards(Transport::Udp, 9)).await;
        callee.trunk.receive_as("carrier", &inbound());
        // A port that nobody else takes.
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, free_port())).await.unwrap();
        let us = socket.local_addr().unwrap();
        let invite = request("INVITE", &callee.address.to_string(), us, "closed");
        socket.send_to(invite.as_bytes(), callee.address).await.unwrap();
        callee.is_called().await;
        while !heard(&socket).await.starts_with("SIP/2.0 180") {}
        drop(socket);
        callee.pick_up();
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::Failed, EndReason::NoAck, None, Some(102)));
        assert_eq!((callee.record().ended_by, callee.legs), (Some(EndedBy::System), 0));
    });
}

/// Each proxy on her way writes a Via in front; one header may hold them all, and go on in the next line (RFC 3261 §7.3.1). The CANCEL of the last one has its own alone.
#[test]
fn a_caller_behind_proxies_that_write_one_via_gives_up() {
    case(async || {
        let mut callee = Caller::idle(towards(Transport::Udp, 9)).await;
        callee.trunk.receive_as("carrier", &inbound());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let us = socket.local_addr().unwrap();
        let to = callee.address.to_string();
        let behind = ",\r\n\tSIP/2.0/UDP 192.0.2.1;branch=z9hG4bKbehind";
        let invite = request("INVITE", &to, us, "line");
        let via = invite.lines().find(|line| line.starts_with("Via: ")).unwrap().to_owned();
        let long = format!("{via}{behind}");
        socket.send_to(invite.replace(&via, &long).as_bytes(), callee.address).await.unwrap();
        callee.is_called().await;
        while !heard(&socket).await.starts_with("SIP/2.0 180") {}
        let cancel = request("CANCEL", &to, us, "line")
            .replace("CANCEL-astray", "INVITE-astray")
            .lines()
            .fold(String::new(), |text, line| text + if line.starts_with("Via: ") { &via } else { line } + "\r\n");
        socket.send_to(cancel.as_bytes(), callee.address).await.unwrap();
        let told = loop {
            let told = heard(&socket).await;
            if told.starts_with("SIP/2.0 487") {
                break told;
            }
        };
        assert!(told.contains("192.0.2.1") && told.contains("z9hG4bKbehind"), "{told}");
        let ack = cancel.replace("CANCEL", "ACK");
        socket.send_to(ack.as_bytes(), callee.address).await.unwrap();
        callee.settled().await;
        assert_eq!(callee.ending(), (Status::NoAnswer, EndReason::Canceled, None, Some(31)));
    });
}

#[test]
fn who_may_call_from_anywhere_is_told_nothing_but_of_calls() {
    case(async || {
        let settings = clutchcall::engine::config::SipTrunk {
            domain: Some("pbx.example".to_owned()),
            ..towards(Transport::Udp, 9)
        };
        let mut callee = Caller::idle(settings).await;
        let challenge =
            Challenge { username: "pbx".to_owned(), password: Secret::new("p4ss"), algorithms: vec![Algorithm::Md5] };
        callee.trunk.receive_as("carrier", &Inbound { challenge: Some(challenge), ..inbound() });
        let socket = UdpSocket::bind("127.0.0.2:0").await.unwrap();
        let us = socket.local_addr().unwrap();
        for method in ["OPTIONS", "REGISTER", "MESSAGE", "CANCEL"] {
            let text = request(method, "pbx.example", us, method);
            socket.send_to(text.as_bytes(), callee.address).await.unwrap();
        }
        let bye = request("BYE", "pbx.example", us, "bye").replace("pbx.example>", "pbx.example>;tag=2");
        socket.send_to(bye.as_bytes(), callee.address).await.unwrap();
        // No trunk's domain: it is nobody's.
        socket.send_to(request("INVITE", "other.example", us, "other").as_bytes(), callee.address).await.unwrap();
        let invite = request("INVITE", "pbx.example", us, "own").replace("INVITE-astray", "own-astray");
        socket.send_to(invite.as_bytes(), callee.address).await.unwrap();
        let first = heard(&socket).await;
        assert!(first.starts_with("SIP/2.0 401") && first.contains("z9hG4bKown"), "{first}");
        assert_eq!(callee.counts.strangers.load(Relaxed), 6);
    });
}

#[test]
fn of_two_trunks_at_one_address_it_is_the_one_that_has_a_rule() {
    case(async || {
        let twin = RefCell::new(None);
        let called = Called::configured(
            31,
            |config| drop(config.trunks.insert("a_first".to_owned(), twin.borrow_mut().take().unwrap())),
            |trunk| {
                trunk.inbound.rules = vec![rule("+1555*", echo())];
                let mut other = Trunk { kind: trunk.kind.clone(), channel_limit: 2, ..Trunk::default() };
                other.inbound.rules = vec![rule("+4930*", echo())];
                let TrunkKind::Sip(sip) = &mut other.kind else { panic!("it is one") };
                sip.rtp_ports = rtp_ports(32);
                *twin.borrow_mut() = Some(other);
            },
        );
        let (_, row, _) = to_its_end(called, "caller_leaves", &[]).await;
        assert_eq!((&row["trunkId"], &row["status"]), (&json!("carrier"), &json!("completed")));
    });
}
