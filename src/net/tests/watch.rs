//! Sockets of an app's own on a worker's poll.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use super::node::{PATIENCE, limits};
use crate::net::{App, LinkEvent, LinkId, Links, Worker, WorkerConfig};

/// More than one wait tells of.
const SOCKETS: usize = 300;

/// Watches what it is given, reads what it is told of.
struct Ear {
    given: Receiver<(usize, UdpSocket)>,
    sockets: Vec<(usize, UdpSocket)>,
    told: Sender<(usize, Vec<u8>)>,
    done: bool,
}

impl App for Ear {
    fn handle_event(&mut self, _: &mut Links, _: LinkId, _: LinkEvent, _: Instant) {}
    fn handle_wake(&mut self, links: &mut Links, _: Instant) {
        while let Ok((key, socket)) = self.given.try_recv() {
            links.watch(socket.as_fd(), key).expect("a socket of ours");
            self.sockets.push((key, socket));
        }
    }
    fn handle_readable(&mut self, _: &mut Links, key: usize, _: Instant) {
        let socket = self.sockets.iter().find(|(known, _)| *known == key).map(|(_, socket)| socket);
        let mut bytes = [0; 64];
        while let Ok((length, _)) = socket.expect("a key that was given").recv_from(&mut bytes) {
            if length == 0 {
                // Closed with everything else of this key: nothing is told of it any more.
                self.sockets.retain(|(known, _)| *known != key);
                let _ = self.told.send((key, Vec::new()));
                return;
            }
            self.done |= bytes[..length] == *b"end";
            let _ = self.told.send((key, bytes[..length].to_vec()));
        }
    }
    fn handle_timeout(&mut self, _: &mut Links, _: Instant) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn flush(&mut self, _: Instant) {}
    fn is_done(&self) -> bool {
        self.done
    }
}

#[test]
fn sockets_of_the_app_are_told_of_by_their_keys_until_they_are_closed() {
    let bind = "127.0.0.1:0".parse().expect("an address");
    let (worker, waker) = Worker::new(WorkerConfig { bind, listen: None, limits: limits() }).expect("loopback binds");
    let ((give, given), (told, heard)) = (channel(), channel());
    let thread = std::thread::spawn(move || worker.run(&mut Ear { given, sockets: Vec::new(), told, done: false }));
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback binds");
    let mut addresses = Vec::new();
    for key in 0..SOCKETS {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback binds");
        socket.set_nonblocking(true).expect("a socket of ours");
        addresses.push(socket.local_addr().expect("bound"));
        // Half of them have something already when they are watched.
        if key % 2 == 0 {
            peer.send_to(&key.to_be_bytes(), addresses[key]).expect("loopback takes it");
        }
        give.send((key, socket)).expect("the worker runs");
    }
    waker.wake();
    let hear = || heard.recv_timeout(PATIENCE).expect("the worker tells");
    let mut first: Vec<usize> = (0..SOCKETS / 2).map(|_| hear().0).collect();
    first.sort_unstable();
    assert!(first.into_iter().eq((0..SOCKETS).step_by(2)));
    for (key, address) in addresses.iter().enumerate() {
        peer.send_to(&key.to_be_bytes(), address).expect("loopback takes it");
    }
    let mut again: Vec<(usize, Vec<u8>)> = (0..SOCKETS).map(|_| hear()).collect();
    again.sort();
    assert!(again.into_iter().eq((0..SOCKETS).map(|key| (key, key.to_be_bytes().to_vec()))));
    peer.send_to(&[], addresses[7]).expect("loopback takes it");
    assert_eq!(hear(), (7, Vec::new()));
    // Nobody is there any more: another socket may have the address, the key is told no more.
    let _ = peer.send_to(b"late", addresses[7]);
    peer.send_to(b"end", addresses[8]).expect("loopback takes it");
    assert_eq!(hear(), (8, b"end".to_vec()));
    thread.join().expect("the worker ends");
}
