//! Paths that die and come back: a forwarder between two workers that can be cut.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use super::node::{Node, subscription};
use crate::net::tls::Identity;
use crate::net::{LinkEvent, Trust};

struct Forwarder {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Forwarder {
    fn to(server: SocketAddr) -> Self {
        let (front, back) = (bound(), bound());
        let address = front.local_addr().expect("bound");
        let (is_cut, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let client = Arc::new(std::sync::Mutex::new(None));
        let forward = {
            let (front, back) = (clone(&front), clone(&back));
            let (is_cut, ends, client) = (is_cut.clone(), ends.clone(), client.clone());
            std::thread::spawn(move || {
                pump(&front, &is_cut, &ends, |bytes, from| {
                    *client.lock().expect("no panic") = Some(from);
                    let _ = back.send_to(bytes, server);
                });
            })
        };
        let backward = {
            let (is_cut, ends) = (is_cut.clone(), ends.clone());
            std::thread::spawn(move || {
                pump(&back, &is_cut, &ends, |bytes, _| {
                    if let Some(client) = *client.lock().expect("no panic") {
                        let _ = front.send_to(bytes, client);
                    }
                });
            })
        };
        Self { address, is_cut, ends, threads: vec![forward, backward] }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.ends.store(true, SeqCst);
        self.threads.drain(..).for_each(|thread| thread.join().expect("no panic"));
    }
}

fn bound() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("loopback")
}

fn clone(socket: &UdpSocket) -> UdpSocket {
    socket.try_clone().expect("descriptors left")
}

fn pump(from: &UdpSocket, is_cut: &AtomicBool, ends: &AtomicBool, mut to: impl FnMut(&[u8], SocketAddr)) {
    let mut buffer = [0; 2_048];
    from.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    while !ends.load(SeqCst) {
        if let Ok((length, sender)) = from.recv_from(&mut buffer)
            && !is_cut.load(SeqCst)
        {
            to(&buffer[..length], sender);
        }
    }
}

#[test]
fn a_dead_path_is_quiet_and_a_revived_one_alive() {
    let server = Node::server(&Identity::ephemeral());
    let forwarder = Forwarder::to(server.address);
    let client = Node::client();
    let link = client.dial("moqt", forwarder.address, Trust::Anything);
    client.setup();
    forwarder.is_cut.store(true, SeqCst);
    client.with(move |links, _| links.session(link).expect("live").subscribe(subscription("audio")));
    client.expect("Quiet", |_, event| matches!(event, LinkEvent::Quiet).then_some(()));
    let silence = client.with(move |links, now| links.quiet_for(link, now));
    assert!(silence >= crate::net::QUIET_AFTER, "{silence:?}");
    forwarder.is_cut.store(false, SeqCst);
    client.expect("Alive", |_, event| matches!(event, LinkEvent::Alive).then_some(()));
}

/// Nobody says anything: the keep-alive finds out.
#[test]
fn an_idle_dead_path_is_noticed_too() {
    let server = Node::server(&Identity::ephemeral());
    let forwarder = Forwarder::to(server.address);
    let client = Node::client();
    client.dial("moqt", forwarder.address, Trust::Anything);
    client.setup();
    forwarder.is_cut.store(true, SeqCst);
    client.expect("Quiet", |_, event| matches!(event, LinkEvent::Quiet).then_some(()));
}

#[test]
fn nobody_at_home_is_said() {
    let deaf = bound();
    let client = Node::client();
    let link = client.dial("moqt", deaf.local_addr().expect("bound"), Trust::Anything);
    let crate::net::Down::Unreachable(text) = client.down(link) else { panic!("it can't come up") };
    assert!(text.contains("no answer") && text.contains("UDP"), "{text}");
}
