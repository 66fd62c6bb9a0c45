//! Streams of one subscription that wait together leave in its group order, on a real connection; and words come before packets.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use super::node::{Node, PATIENCE, limits, pattern, subscription};
use crate::moqt::message::{GroupOrder, Setup, Subscribe, SubscribeOk};
use crate::moqt::{Drafts, Event, Object, SubgroupHeader};
use crate::net::tls::Identity;
use crate::net::{App, Dial, LinkEvent, LinkId, Links, Trust, Worker, WorkerConfig};

const GROUPS: u64 = 4;
/// All groups together are more than a new connection may have in flight, and less than it takes off a session's hands.
const GROUP_BYTES: usize = 12 * 1024;

/// In which order groups end that were all written in one turn, the middle ones first.
fn ended(scheme: &str, order: GroupOrder) -> Vec<u64> {
    let (client, server) = (Node::client(), Node::server(&Identity::ephemeral()));
    let near = client.dial(scheme, server.address, Trust::Anything);
    client.setup();
    let far = server.up().0;
    let asks = Subscribe { group_order: Some(order), ..subscription("audio") };
    client.with(move |links, _| links.session(near).expect("live").subscribe(asks));
    let request = server.moqt("SUBSCRIBE", |event| match event {
        Event::Subscribe { request, .. } => Some(*request),
        _ => None,
    });
    server.with(move |links, _| {
        let session = links.session(far).expect("live");
        session.accept_subscribe(request, SubscribeOk::default());
        for group in [1, 3, 0, 2] {
            let header = SubgroupHeader { group, ..SubgroupHeader::default() };
            let subgroup = session.open_subgroup(request, &header).expect("accepted");
            session.send_object(subgroup, &Object { group, payload: pattern(GROUP_BYTES), ..Object::default() });
            session.finish_subgroup(subgroup);
        }
    });
    let heard = |_: u64| {
        client.moqt("an object", |event| match event {
            Event::Object { object, .. } => Some(object.group),
            _ => None,
        })
    };
    (0..GROUPS).map(heard).collect()
}

#[test]
fn what_waits_together_leaves_in_the_subscriptions_order() {
    for scheme in ["moqt", "https"] {
        assert_eq!(ended(scheme, GroupOrder::Ascending), [0, 1, 2, 3], "{scheme}");
        assert_eq!(ended(scheme, GroupOrder::Descending), [3, 2, 1, 0], "{scheme}");
    }
}

/// Subscribes where it is told to dial, notes what it is told in which order, and stands still at the end of a turn if it is to.
struct Noting {
    dials: Receiver<Dial>,
    words: Receiver<&'static str>,
    holds: Receiver<Receiver<()>>,
    notes: Sender<&'static str>,
    is_done: bool,
}

impl App for Noting {
    fn handle_event(&mut self, links: &mut Links, link: LinkId, event: LinkEvent, _now: Instant) {
        match event {
            LinkEvent::Moqt(Event::Setup(_)) => {
                links.session(link).expect("live").subscribe(subscription("audio"));
            }
            LinkEvent::Moqt(Event::Object { .. }) => self.notes.send("packet").expect("somebody reads"),
            _ => {}
        }
    }
    fn handle_wake(&mut self, links: &mut Links, now: Instant) {
        for dial in self.dials.try_iter() {
            links.dial(dial, now);
        }
        for word in self.words.try_iter() {
            self.is_done |= word == "end";
            self.notes.send(word).expect("somebody reads");
        }
    }
    fn handle_timeout(&mut self, _links: &mut Links, _now: Instant) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn flush(&mut self, _now: Instant) {
        if let Ok(until) = self.holds.try_recv() {
            self.notes.send("held").expect("somebody reads");
            let _ = until.recv();
        }
    }
    fn is_done(&self) -> bool {
        self.is_done
    }
}

/// Whoever is told of an answered call speaks at once; the audio thread, which may be late, was told before.
#[test]
fn a_word_said_before_a_packet_was_sent_is_heard_before_it() {
    let server = Node::server(&Identity::ephemeral());
    let config = WorkerConfig { bind: "127.0.0.1:0".parse().expect("an address"), listen: None, limits: limits() };
    let (worker, waker) = Worker::new(config).expect("loopback binds");
    let ((dial, dials), (say, words), (hold, holds), (notes, noted)) = (channel(), channel(), channel(), channel());
    let mut app = Noting { dials, words, holds, notes, is_done: false };
    let thread = std::thread::spawn(move || worker.run(&mut app));
    let next = || noted.recv_timeout(PATIENCE).expect("it goes on");

    let url = url::Url::parse(&format!("moqt://localhost:{}/", server.address.port())).expect("a URL");
    let (drafts, setup) = (Drafts::default(), Setup::default());
    let to = Dial { url, address: server.address, trust: Trust::Anything, drafts, setup };
    dial.send(to).expect("it runs");
    waker.wake();
    let far = server.up().0;
    let request = server.moqt("SUBSCRIBE", |event| match event {
        Event::Subscribe { request, .. } => Some(*request),
        _ => None,
    });
    server.with(move |links, _| {
        links.session(far).expect("live").accept_subscribe(request, SubscribeOk::default());
    });
    for group in 0..4 {
        let (go_on, until) = channel();
        hold.send(until).expect("it runs");
        waker.wake();
        assert_eq!(next(), "held");
        say.send("word").expect("it runs");
        waker.wake();
        let sent_in = server.with(move |links, _| {
            let session = links.session(far).expect("live");
            let header = SubgroupHeader { group, ..SubgroupHeader::default() };
            let subgroup = session.open_subgroup(request, &header).expect("accepted");
            session.send_object(subgroup, &Object { group, payload: pattern(100), ..Object::default() });
            session.finish_subgroup(subgroup);
            links.counters().turns
        });
        // With the end of that turn the packet is there.
        while server.with(|links, _| links.counters().turns) == sent_in {}
        go_on.send(()).expect("it waits");
        assert_eq!([next(), next()], ["word", "packet"], "{group}");
    }
    say.send("end").expect("it runs");
    waker.wake();
    thread.join().expect("no panic");
}
