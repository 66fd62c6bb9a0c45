//! Who is no far side of ours: told nothing, counted, and in nobody's way.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clutchcall::call::{EndReason, Status};
use clutchcall::engine::config;
use clutchcall::engine::sip::{Counts, Transport};
use socket2::{Domain, Socket, Type};

use crate::rig::{Caller, Far, LIMIT, case, towards};

/// No trunk is there: all of ours lead to 127.0.0.1.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const JUNK: usize = 10_000;
/// What may lie in our socket at once.
const AT_ONCE: usize = 20;

fn count(counts: &Counts, name: &str) -> u64 {
    counts.all().into_iter().find(|(known, _)| *known == name).unwrap().1
}

fn request(method: &str, us: SocketAddr, to: SocketAddr, nth: usize) -> String {
    format!(
        "{method} sip:100@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bK{nth}\r\nFrom: <sip:junk@{us}>;tag={nth}\r\n\
         To: <sip:100@{to}>\r\nCall-ID: junk-{nth}\r\nCSeq: 1 {method}\r\nContact: <sip:junk@{us}>\r\nMax-Forwards: 70\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Waits, and lets others run.
async fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_stranger_is_told_nothing() {
    case(async || {
        let caller = Caller::idle(towards(Transport::Udp, 9)).await;
        let [stranger, friend] = [STRANGER, Ipv4Addr::LOCALHOST].map(|ip| UdpSocket::bind((ip, 0)).unwrap());
        stranger.set_nonblocking(true).unwrap();
        for (nth, method) in ["OPTIONS", "INVITE", "REGISTER", "BYE", "CANCEL"].into_iter().enumerate() {
            let text = request(method, stranger.local_addr().unwrap(), caller.address, nth);
            stranger.send_to(text.as_bytes(), caller.address).unwrap();
        }
        stranger.send_to(b"\r\n\r\n", caller.address).unwrap();
        stranger.send_to(b"SIP/2.0 200 OK\r\nCall-ID: junk\r\n\r\n", caller.address).unwrap();
        // What comes behind it is answered.
        let text = request("OPTIONS", friend.local_addr().unwrap(), caller.address, 99);
        friend.send_to(text.as_bytes(), caller.address).unwrap();
        let friend = tokio::net::UdpSocket::from_std({
            friend.set_nonblocking(true).unwrap();
            friend
        });
        let mut answer = [0; 2048];
        let length = tokio::time::timeout(LIMIT, friend.unwrap().recv(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..length].starts_with(b"SIP/2.0 200"));
        assert_eq!(count(&caller.counts, "stranger"), 7);
        assert!(stranger.recv(&mut answer).is_err(), "he was told something");
    });
}

/// Sends junk, no faster than it is read, until all of it was.
async fn flood(to: SocketAddr, counts: Arc<Counts>) {
    let socket = tokio::net::UdpSocket::bind((STRANGER, 0)).await.unwrap();
    let us = socket.local_addr().unwrap();
    for nth in 1..=JUNK {
        socket.send_to(request("INVITE", us, to, nth).as_bytes(), to).await.unwrap();
        if nth % AT_ONCE == 0 {
            until(|| count(&counts, "stranger") == nth as u64).await;
        }
    }
}

#[test]
fn ten_thousand_invites_of_a_stranger_leave_calls_alone() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let mut caller = Caller::idle(towards(Transport::Udp, far.port)).await;
        let flooding = tokio::spawn(flood(caller.address, Arc::clone(&caller.counts)));
        let counts = Arc::clone(&caller.counts);
        until(|| count(&counts, "stranger") > 100).await;
        caller.place(20);
        caller.until(Status::InProgress).await;
        assert!(count(&counts, "stranger") < JUNK as u64, "the flood was over before the call began");
        caller.hangup();
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Normal, None, Some(16)));
        flooding.await.unwrap();
        assert_eq!(count(&counts, "stranger"), JUNK as u64);
        let traffic = far.played().await;
        traffic.our("INVITE");
        traffic.our("BYE");
    });
}

#[test]
fn a_far_end_that_answers_from_elsewhere_is_heard_by_its_call_id() {
    case(async || {
        let far = Far::start("our_bye", &[]).await;
        let mut caller = Caller::dial(&far).await;
        caller.until(Status::InProgress).await;
        caller.until_heard(&far, "ACK").await;
        let traffic = far.traffic();
        let invite = traffic.our("INVITE");
        let (call_id, from) = (invite.header("Call-ID"), invite.header("From"));
        let socket = UdpSocket::bind((STRANGER, 0)).unwrap();
        let us = socket.local_addr().unwrap();
        let bye = |call_id: &str| {
            format!(
                "BYE sip:us@{0} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bKbye\r\nFrom: <sip:+15550001234@{1}>;tag=far\r\n\
                 To: {from}\r\nCall-ID: {call_id}\r\nCSeq: 1 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
                caller.address, far.port
            )
        };
        for call_id in ["somebody-elses", call_id] {
            socket.send_to(bye(call_id).as_bytes(), caller.address).unwrap();
        }
        caller.settled().await;
        assert_eq!(caller.ending(), (Status::Completed, EndReason::Normal, None, Some(16)));
        assert_eq!(count(&caller.counts, "stranger"), 1);
    });
}

/// From an address of our choice.
fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// It was closed, and nothing was said.
fn is_closed(mut stream: TcpStream) -> bool {
    stream.read(&mut [0; 64]).map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |read| read == 0)
}

#[test]
fn connections_of_strangers_are_closed_and_those_of_a_far_side_have_an_end() {
    case(async || {
        let caller = Caller::idle(towards(Transport::Tcp, 9)).await;
        let (to, counts) = (caller.address, Arc::clone(&caller.counts));
        let closed = tokio::task::spawn_blocking(move || is_closed(connect(STRANGER, to)));
        assert!(closed.await.unwrap());
        assert_eq!(count(&counts, "connection"), 1);
        let own =
            tokio::task::spawn_blocking(move || (0..64).map(|_| connect(Ipv4Addr::LOCALHOST, to)).collect::<Vec<_>>());
        let own = own.await.unwrap();
        let closed = tokio::task::spawn_blocking(move || is_closed(connect(Ipv4Addr::LOCALHOST, to)));
        assert!(closed.await.unwrap(), "one more than an address may have");
        assert_eq!(count(&counts, "connection"), 2);
        // Where one was closed another is taken.
        drop(own);
        let answered = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            while begun.elapsed() < LIMIT {
                let mut stream = connect(Ipv4Addr::LOCALHOST, to);
                let us = stream.local_addr().unwrap();
                let text = request("OPTIONS", us, to, 1).replace("SIP/2.0/UDP", "SIP/2.0/TCP");
                let mut answer = [0; 11];
                // A reset is a seat that is not free yet.
                if std::io::Write::write_all(&mut stream, text.as_bytes()).is_ok()
                    && stream.read_exact(&mut answer).is_ok()
                {
                    return answer.starts_with(b"SIP/2.0 200");
                }
            }
            false
        });
        assert!(answered.await.unwrap());
    });
}

/// One who may speak, and whose messages have a length that nobody can reckon with.
#[test]
fn a_message_that_announces_too_much_ends_its_connection() {
    case(async || {
        let caller = Caller::idle(towards(Transport::Tcp, 9)).await;
        let (to, counts) = (caller.address, Arc::clone(&caller.counts));
        let asked = move |nth: usize, length: &str| {
            let mut stream = connect(Ipv4Addr::LOCALHOST, to);
            let text = request("OPTIONS", stream.local_addr().unwrap(), to, nth).replace("SIP/2.0/UDP", "SIP/2.0/TCP");
            let text = text.replace("Content-Length: 0", &format!("Content-Length: {length}"));
            std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
            stream
        };
        let told = tokio::task::spawn_blocking(move || {
            // The largest there is, one that leads around to the beginning of its message, and one of a film.
            let closed = ["18446744073709551615", "18446744073709551000", "4000000000", "65536"];
            let closed = (1..).zip(closed).map(|(nth, length)| is_closed(asked(nth, length))).collect::<Vec<_>>();
            let mut answer = [0; 11];
            asked(9, "0").read_exact(&mut answer).unwrap();
            (closed, answer)
        });
        let (closed, answer) = told.await.unwrap();
        assert_eq!((closed, &answer), (vec![true; 4], b"SIP/2.0 200"));
        assert_eq!(count(&counts, "connection"), 4);
    });
}

#[test]
fn the_port_of_tcp_is_ours_from_the_start() {
    case(async || {
        let caller = Caller::idle(towards(Transport::Tcp, 9)).await;
        let taken = std::net::TcpListener::bind(caller.address).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        let other = config::SipTrunk { source_pbx_port: caller.address.port(), ..towards(Transport::Tcp, 9) };
        let local = clutchcall::engine::sip::local(&other, &Default::default()).await.unwrap();
        let mut endpoints = clutchcall::engine::sip::Endpoints::default();
        let refused = endpoints.at(&local).await.err().unwrap();
        assert!(refused.contains("tcp 127.0.0.1:") && refused.contains("can't be bound"), "{refused}");
    });
}
