//! Paths that die and come back: a forwarder between two workers that can be cut.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::node::{Node, pattern, subscribed, subscription};
use crate::moqt::{Event, Object, SubgroupHeader};
use crate::net::tls::Identity;
use crate::net::{LinkEvent, Trust};

struct Forwarder {
    address: SocketAddr,
    front: UdpSocket,
    /// The client as its server sees it now.
    back: Arc<Mutex<UdpSocket>>,
    client: Arc<Mutex<Option<SocketAddr>>>,
    is_cut: Arc<AtomicBool>,
    /// Of each way back, the last of which is in use.
    ends: Vec<Arc<AtomicBool>>,
    threads: Vec<JoinHandle<()>>,
}

impl Forwarder {
    fn to(server: SocketAddr) -> Self {
        let (front, back) = (bound(), bound());
        let address = front.local_addr().expect("bound");
        let (is_cut, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let client = Arc::new(Mutex::new(None));
        let shared = Arc::new(Mutex::new(clone(&back)));
        let forward = {
            let (front, back) = (clone(&front), shared.clone());
            let (is_cut, end, client) = (is_cut.clone(), end.clone(), client.clone());
            std::thread::spawn(move || {
                pump(&front, &is_cut, &end, |bytes, from| {
                    *client.lock().expect("no panic") = Some(from);
                    let _ = back.lock().expect("no panic").send_to(bytes, server);
                });
            })
        };
        let (ends, threads) = (vec![end], vec![forward]);
        let mut forwarder = Self { address, front, back: shared, client, is_cut, ends, threads };
        forwarder.listen(back);
        forwarder
    }

    /// What the server sends to `back` goes to the client.
    fn listen(&mut self, back: UdpSocket) {
        let (front, client) = (clone(&self.front), self.client.clone());
        let (is_cut, end) = (self.is_cut.clone(), Arc::new(AtomicBool::new(false)));
        self.ends.push(end.clone());
        self.threads.push(std::thread::spawn(move || {
            pump(&back, &is_cut, &end, |bytes, _| {
                if let Some(client) = *client.lock().expect("no panic") {
                    let _ = front.send_to(bytes, client);
                }
            });
        }));
    }

    /// The client has another address from now on; what goes to the one before is lost.
    fn move_to(&mut self, ip: &str) {
        let back = UdpSocket::bind((ip, 0)).expect("an address of this machine");
        self.ends.last().expect("a way back").store(true, SeqCst);
        *self.back.lock().expect("no panic") = clone(&back);
        self.listen(back);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.ends.iter().for_each(|end| end.store(true, SeqCst));
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

/// RFC 9000 §9: another port, as behind a NAT, then another address. Both ends go on.
#[test]
fn a_client_that_moves_keeps_its_link() {
    let server = Node::server(&Identity::ephemeral());
    let mut forwarder = Forwarder::to(server.address);
    let client = Node::client();
    let near = client.dial("moqt", forwarder.address, Trust::Anything);
    let (far, peer) = server.up();
    client.setup();
    let request = subscribed((&client, near), (&server, far), "audio");
    let mut group = 0;
    for ip in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
        forwarder.move_to(ip);
        // Whoever moves is heard of by what he says next; until then he hears nothing.
        let other = client.with(move |links, _| links.session(near).expect("live").subscribe(subscription("other")));
        let refused = server.moqt("SUBSCRIBE", |event| match event {
            Event::Subscribe { request, .. } => Some(*request),
            _ => None,
        });
        assert_eq!(refused, other);
        for _ in 0..20 {
            group += 1;
            server.with(move |links, _| {
                let object = Object { group, payload: pattern(160), ..Object::default() };
                let header = SubgroupHeader { group, first_object: true, ..SubgroupHeader::default() };
                let session = links.session(far).expect("the link stands");
                let subgroup = session.open_subgroup(request, &header).expect("it is wanted");
                session.send_object(subgroup, &object);
                session.finish_subgroup(subgroup);
            });
            let heard = client.moqt("an object", |event| match event {
                Event::Object { object, .. } => Some(object.clone()),
                _ => None,
            });
            assert_eq!((heard.group, heard.payload), (group, pattern(160)));
        }
        client.with(move |links, _| links.session(near).expect("live").cancel(other));
    }
    assert!(peer.address.is_some_and(|address| address.ip().to_string() == "127.0.0.1"));
    let links = server.with(|links, _| links.counters.links);
    assert_eq!(links, 1, "nobody dialled again");
}
