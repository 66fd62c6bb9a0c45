//! Far sides over TCP that stop reading, as one does that hangs: they cost their own connection, and nobody else anything.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clutchcall::call::{EndReason, Status};
use clutchcall::engine::config;
use clutchcall::engine::sip::{Counts, Endpoints, Timers, Transport};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Caller, Far, LIMIT, case, towards};

/// Answers that nobody reads: more than the buffers of both kernels hold where a segment is small.
const UNREAD: usize = 600;

/// A socket that takes as little at once as can be had.
fn narrow() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket
}

fn listening() -> TcpListener {
    let socket = narrow();
    socket.listen(8).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

fn options(us: SocketAddr) -> String {
    format!(
        "OPTIONS sip:us@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP {us};branch=z9hG4bKstalled{port}\r\n\
         From: <sip:far@{us}>;tag=far\r\nTo: <sip:us@127.0.0.1>\r\nCall-ID: stalled-{port}\r\nCSeq: 1 OPTIONS\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        port = us.port()
    )
}

/// What was asked is answered: somebody reads at the other end.
async fn ask(stream: &mut TcpStream) {
    let us = stream.local_addr().unwrap();
    stream.write_all(options(us).as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("CSeq: 1 OPTIONS") {
        let read = tokio::time::timeout(LIMIT, stream.read_buf(&mut heard)).await.expect("nobody answers").unwrap();
        assert!(read > 0, "it was closed behind {}", String::from_utf8_lossy(&heard));
    }
}

/// Asks the same again and again, which is answered each time, and reads nothing of it.
async fn stall(stream: &mut TcpStream) {
    ask(stream).await;
    let us = stream.local_addr().unwrap();
    let all = options(us).repeat(UNREAD);
    tokio::time::timeout(LIMIT, stream.write_all(all.as_bytes())).await.unwrap().unwrap();
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    tokio::time::timeout(LIMIT, listener.accept()).await.expect("nobody connects").unwrap().0
}

/// Nobody hears what is written there.
async fn is_dead(stream: &mut TcpStream) {
    let begun = Instant::now();
    while stream.write_all(b"\r\n\r\n").await.is_ok() {
        assert!(begun.elapsed() < LIMIT, "its connection lives");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_far_side_that_stops_reading_holds_up_nobody_else() {
    case(async || {
        let (silent, counts) = (listening(), Arc::<Counts>::default());
        let mut endpoints = Endpoints::counting(Timers { t1: Duration::from_millis(50) }, Arc::clone(&counts));
        let far = Far::over(Transport::Tcp, "our_bye", &[]).await;
        let mut caller = Caller::among(&mut endpoints, Arc::clone(&counts), towards(Transport::Tcp, far.port)).await;
        let settings = config::SipTrunk {
            options_interval: Some(Duration::from_secs(1)),
            ..towards(Transport::Tcp, silent.local_addr().unwrap().port())
        };
        let other = Caller::among(&mut endpoints, Arc::clone(&counts), settings).await;
        assert_eq!(caller.address, other.address, "one address, one loop");
        // Opened by us, for our own question.
        let mut stream = accepted(&silent).await;
        stall(&mut stream).await;
        caller.place(20);
        caller.until(Status::InProgress).await;
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Normal, None, Some(16)));
        far.played().await;
        // Its own connection ends, and the next question opens another one.
        is_dead(&mut stream).await;
        assert_eq!(counts.untaken.load(Relaxed), 1);
        ask(&mut accepted(&silent).await).await;
    });
}

#[test]
fn a_call_that_a_far_side_does_not_take_has_failed() {
    case(async || {
        let silent = listening();
        let settings = config::SipTrunk {
            options_interval: Some(Duration::from_secs(3600)),
            ..towards(Transport::Tcp, silent.local_addr().unwrap().port())
        };
        // With the RFC's own timers nobody answers for 32 s.
        let mut caller = Caller::at(Duration::from_millis(500), settings).await;
        let mut stream = accepted(&silent).await;
        stall(&mut stream).await;
        caller.place(60);
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Failed, EndReason::NetworkError, None, Some(38)));
    });
}

#[test]
fn a_caller_who_takes_nothing_has_no_connection_any_more() {
    case(async || {
        let callee = Caller::idle(towards(Transport::Tcp, 9)).await;
        let socket = narrow();
        socket.connect(&callee.address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(socket.into()).unwrap();
        stall(&mut stream).await;
        // Others are heard meanwhile.
        ask(&mut TcpStream::connect(callee.address).await.unwrap()).await;
        is_dead(&mut stream).await;
        assert_eq!(callee.counts.untaken.load(Relaxed), 1);
    });
}
