//! What is left of refusals, and of a stack whose callers were rung.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

use super::super::super::{Gate, Local, Servers, Timers, Transport};
use super::super::{Reception, Stack};
use super::{Came, Knock, Refusal, Ruled, Ruling};

const LIMIT: Duration = Duration::from_secs(20);
const REFUSALS: usize = 20;

/// Nobody is there.
#[derive(Default)]
struct Refusing(AtomicUsize);

impl Reception for Refusing {
    fn receive(&self, _: Knock) -> Ruled {
        self.0.fetch_add(1, Relaxed);
        Box::pin(std::future::ready(Ruling::Refuse(Refusal::of(404))))
    }
}

/// Whoever calls is taken.
struct Taking(mpsc::UnboundedSender<oneshot::Receiver<Came>>);

impl Reception for Taking {
    fn receive(&self, _: Knock) -> Ruled {
        let (line, waiting) = oneshot::channel();
        self.0.send(waiting).unwrap();
        Box::pin(std::future::ready(Ruling::Take(line)))
    }
}

async fn stack(reception: Arc<dyn Reception>) -> Stack {
    let gate = Arc::<Gate>::default();
    gate.enter([Ipv4Addr::LOCALHOST.into()]);
    let bind = (Ipv4Addr::LOCALHOST, 0).into();
    let local = Local { transport: Transport::Udp, bind, external: None, tls_roots: None, certificate: None };
    let stack = Stack::open(&local, Timers::default(), gate, Servers::default()).await.unwrap();
    stack.receive_with(reception);
    stack
}

fn request(method: &str, (us, to): (SocketAddr, SocketAddr), nth: usize, to_tag: &str) -> String {
    format!(
        "{method} sip:100@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bK{nth}\r\nFrom: <sip:junk@{us}>;tag={nth}\r\n\
         To: <sip:100@{to}>{to_tag}\r\nCall-ID: junk-{nth}\r\nCSeq: 1 {method}\r\nContact: <sip:junk@{us}>\r\nMax-Forwards: 70\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// The answer's code.
async fn asked(socket: &UdpSocket, to: SocketAddr, text: &str) -> String {
    socket.send_to(text.as_bytes(), to).await.unwrap();
    heard(socket).await
}

async fn heard(socket: &UdpSocket) -> String {
    let mut answer = [0; 2048];
    let length = tokio::time::timeout(LIMIT, socket.recv(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..length]).split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn nothing_is_looked_through_for_refusals_that_nobody_acknowledges() {
    let refusing = Arc::<Refusing>::default();
    let stack = stack(Arc::clone(&refusing) as Arc<dyn Reception>).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ends = (socket.local_addr().unwrap(), stack.address());
    for nth in 0..REFUSALS {
        assert_eq!(asked(&socket, ends.1, &request("INVITE", ends, nth, "")).await, "404");
        // Of a call that is unknown.
        assert_eq!(asked(&socket, ends.1, &request("INVITE", ends, REFUSALS + nth, ";tag=ours")).await, "481");
    }
    let forgotten = async {
        while !stack.endpoint.waiting_ack.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, forgotten).await.expect("an ACK is waited for");
    // The transaction is remembered: the ACK is absorbed, and the INVITE that comes again is told the same, without anybody being asked.
    socket.send_to(request("ACK", ends, 0, "").as_bytes(), ends.1).await.unwrap();
    assert_eq!(asked(&socket, ends.1, &request("INVITE", ends, 0, "")).await, "404");
    assert_eq!(refusing.0.load(Relaxed), REFUSALS);
}

/// What has to arrive is repeated for 64·T1, which are 32 s; nobody repeats it for a stack that is gone.
#[tokio::test]
async fn nothing_of_a_call_that_rings_outlives_its_stack() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (before, (calls, mut called)) = (tasks(), mpsc::unbounded_channel());
    let stack = stack(Arc::new(Taking(calls))).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ends = (socket.local_addr().unwrap(), stack.address());
    let demanding =
        request("INVITE", ends, 0, "").replace("Content-Length: 0\r\n\r\n", "Require: 100rel\r\n\r\nv=0\r\n");
    assert_eq!(asked(&socket, ends.1, &demanding).await, "100");
    let came = called.recv().await.unwrap().await.unwrap();
    came.line.ring();
    // Once it was repeated whoever repeats it is there.
    for _ in 0..2 {
        assert_eq!(heard(&socket).await, "180");
    }
    drop((came, stack));
    let ended = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("something of it still lives");
}
