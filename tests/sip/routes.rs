//! Routes that leave out what goes without saying (RFC 3261 §19.1.2), the port and the transport, in calls whose connection has gone; and
//! one whose user has what else parts a URI (RFC 4904 §4).

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clutchcall::call::{EndReason, Status};
use clutchcall::engine::config::Inbound;
use clutchcall::engine::sip::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::called::{notify, rule};
use crate::rig::{Caller, LIMIT, case, towards};

const NORMAL: (Status, EndReason, Option<u16>, Option<u8>) = (Status::Completed, EndReason::Normal, None, Some(16));
const SDP: &str = "v=0\r\no=far 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

/// A proxy at an address of its own, whose Routes need no port.
async fn proxy(address: &str) -> (TcpListener, [String; 2]) {
    let listener = TcpListener::bind((address, 5060)).await.unwrap();
    (listener, [("", ""), ("p;x=%3A@", ";transport=tcp")].map(|(user, rest)| format!("<sip:{user}{address}{rest};lr>")))
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.rfind(|(found, _)| found.eq_ignore_ascii_case(name)).unwrap_or_else(|| panic!("no {name}: {text}")).1
}

/// With a space ahead of a colon (RFC 3261 §25.1, HCOLON).
fn with_body(head: &str, body: &str) -> String {
    format!("{head}Content-Type: application/sdp\r\nContent-Length : {}\r\n\r\n{body}", body.len())
}

/// The head of a 200.
fn ok_of(request: &str) -> String {
    let same = ["Via", "From", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", header(request, name)));
    let to = header(request, "To");
    let tag = if to.contains(";tag=") { "" } else { ";tag=far" };
    format!("SIP/2.0 200 OK\r\n{}To: {to}{tag}\r\n", same.concat())
}

/// From here on, with all of its head.
async fn heard(stream: &mut TcpStream, begins: &str) -> String {
    let mut all = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some(at) = text.find(begins)
            && text[at..].contains("\r\n\r\n")
        {
            return text[at..].to_owned();
        }
        let read = tokio::time::timeout(LIMIT, stream.read_buf(&mut all)).await.unwrap_or_else(|_| panic!("{text}"));
        assert!(read.unwrap() > 0, "it was closed behind {text}");
    }
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    tokio::time::timeout(LIMIT, listener.accept()).await.expect("nobody connects").unwrap().0
}

/// Both are done with it.
async fn closed(mut stream: TcpStream) {
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}

/// By its Route, over a connection that is ours: one that announces too much of a message ends.
async fn hung_up(mut caller: Caller, proxy: &TcpListener, route: &str) {
    caller.hangup();
    let mut anew = accepted(proxy).await;
    let bye = heard(&mut anew, "BYE ").await;
    assert_eq!(header(&bye, "Route"), route);
    anew.write_all(format!("{}Content-Length: 0\r\n\r\n", ok_of(&bye)).as_bytes()).await.unwrap();
    caller.settled().await;
    assert_eq!(caller.ending(), NORMAL);
    anew.write_all(b"A\r\nContent-Length: 99999999\r\n\r\n").await.unwrap();
    let begun = Instant::now();
    while caller.counts.connections.load(Relaxed) == 0 {
        assert!(begun.elapsed() < LIMIT, "nobody of ours carries it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_call_of_ours_is_hung_up_by_its_route() {
    case(async || {
        let (proxy, routes) = proxy("127.0.0.77").await;
        for route in routes {
            let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let us = far.local_addr().unwrap();
            let mut caller = Caller::idle(towards(Transport::Tcp, us.port())).await;
            caller.place(20);
            let mut stream = accepted(&far).await;
            let invite = heard(&mut stream, "INVITE ").await;
            let routed = format!("{}Contact: <sip:far@{us}>\r\nRecord-Route: {route}\r\n", ok_of(&invite));
            stream.write_all(with_body(&routed, SDP).as_bytes()).await.unwrap();
            caller.until(Status::InProgress).await;
            let ack = heard(&mut stream, "ACK ").await;
            assert!(header(&ack, "Route").eq_ignore_ascii_case(&route), "{ack}");
            closed(stream).await;
            hung_up(caller, &proxy, &route).await;
        }
    });
}

#[test]
fn a_call_that_came_in_is_hung_up_by_its_route() {
    case(async || {
        let (proxy, routes) = proxy("127.0.0.78").await;
        for route in routes {
            let mut callee = Caller::idle(towards(Transport::Tcp, 9)).await;
            callee.trunk.receive_as("carrier", &Inbound { rules: vec![rule("*", notify())], ..Inbound::default() });
            let mut stream = TcpStream::connect(callee.address).await.unwrap();
            let (us, to) = (stream.local_addr().unwrap(), callee.address);
            let request = |method: &str, tag: &str| {
                format!(
                    "{method} sip:100@{to};transport=tcp SIP/2.0\r\nVia: SIP/2.0/TCP {us};branch=z9hG4bK{method}\r\n\
                     From: <sip:caller@{us}>;tag=1\r\nTo: <sip:100@{to}>{tag}\r\nCall-ID: routed-{us}\r\nCSeq: 1 {method}\r\n\
                     Contact: <sip:caller@{us}>\r\nMax-Forwards: 70\r\nRecord-Route: {route}\r\n"
                )
            };
            stream.write_all(with_body(&request("INVITE", ""), SDP).as_bytes()).await.unwrap();
            callee.is_called().await;
            callee.pick_up();
            let ok = heard(&mut stream, "SIP/2.0 200").await;
            assert_eq!(header(&ok, "Record-Route"), route);
            let tag = header(&ok, "To").split_once(">").unwrap().1.to_owned();
            stream.write_all(format!("{}Content-Length: 0\r\n\r\n", request("ACK", &tag)).as_bytes()).await.unwrap();
            callee.until(Status::InProgress).await;
            closed(stream).await;
            hung_up(callee, &proxy, &route).await;
        }
    });
}
