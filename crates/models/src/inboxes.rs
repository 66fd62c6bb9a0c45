//! Producers, the inbox, and the threads that drain it.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::thread;

use crate::ring::{Inbox, RingReceiver, RingSender, Source};

/// Drains what is ready as the delivery threads do, and notes the last item of each ring.
fn drain(inbox: &Inbox, rings: &[RingReceiver<u64>], last: &mut [u64]) {
    while let Some(id) = inbox.take() {
        let at = rings.iter().position(|ring| ring.id() == id).expect("one of these");
        while let Some(item) = rings[at].pop() {
            assert!(last[at] < item, "out of order");
            last[at] = item;
        }
        rings[at].settle();
    }
}

/// The consumer never sleeps while something is there; the newest item is never the one that is dropped.
fn all_is_heard(capacity: usize, producers: usize, pushes: u64) {
    let inbox = Inbox::parking();
    let (senders, rings): (Vec<RingSender<u64>>, Vec<_>) = (0..producers).map(|_| inbox.ring(capacity)).unzip();
    let produce = |sender: RingSender<u64>| {
        let neighbour = inbox.neighbour();
        move || {
            for item in 1..=pushes {
                sender.push(item);
                neighbour.flush();
            }
        }
    };
    let threads: Vec<_> = senders.into_iter().map(|sender| thread::spawn(produce(sender))).collect();
    let mut last = vec![0; producers];
    while last.iter().any(|item| *item < pushes) {
        drain(&inbox, &rings, &mut last);
        if last.iter().any(|item| *item < pushes) {
            inbox.wait(None);
        }
    }
    threads.into_iter().for_each(|thread| thread.join().expect("it pushes and ends"));
}

#[test]
fn one_producer_is_heard() {
    loom::model(|| all_is_heard(4, 1, 2));
}

#[test]
fn a_full_ring_is_heard() {
    loom::model(|| all_is_heard(1, 1, 2));
}

#[test]
fn two_producers_are_heard() {
    loom::model(|| all_is_heard(2, 2, 1));
}

/// The delivery thread and a spare: never both in one ring, and nothing stays behind when they are told to end.
#[test]
fn two_consumers_are_never_in_one_ring() {
    loom::model(|| {
        let inbox = Inbox::parking();
        let (sender, ring) = inbox.ring::<u64>(4);
        let shared = Arc::new((ring, AtomicBool::new(false), AtomicU64::new(0)));
        let consume = |inbox: Inbox, shared: Arc<(RingReceiver<u64>, AtomicBool, AtomicU64)>| {
            move || {
                let (ring, busy, last) = &*shared;
                while inbox.take().is_some() {
                    assert!(!busy.swap(true, SeqCst), "two threads in one ring");
                    while let Some(item) = ring.pop() {
                        assert_eq!(last.swap(item, SeqCst), item - 1, "out of order");
                    }
                    busy.store(false, SeqCst);
                    ring.settle();
                }
            }
        };
        let spare = thread::spawn(consume(inbox.clone(), shared.clone()));
        let neighbour = inbox.neighbour();
        sender.push(1);
        neighbour.flush();
        sender.push(2);
        neighbour.flush();
        consume(inbox.clone(), shared.clone())();
        spare.join().expect("it drains and ends");
        consume(inbox, shared.clone())();
        assert_eq!(shared.2.load(SeqCst), 2);
    });
}

/// What `publish_downlink` pushes from two threads: together never more than the limit, and what was taken in comes out.
#[test]
fn a_handoff_never_holds_more_than_it_may() {
    loom::model(|| {
        let inbox = Inbox::parking();
        let (sender, receiver) = inbox.handoff::<u64>(30);
        let sender = Arc::new(sender);
        let other = thread::spawn({
            let sender = sender.clone();
            move || u64::from(sender.push(1, 20).is_ok())
        });
        let mine = u64::from(sender.push(2, 20).is_ok());
        let taken = std::iter::from_fn(|| receiver.pop()).count() as u64;
        let theirs = other.join().expect("it pushes and ends");
        let rest = std::iter::from_fn(|| receiver.pop()).count() as u64;
        assert_eq!(mine + theirs, taken + rest);
        assert!(mine + theirs >= 1 || taken == 0);
        assert_eq!(sender.queued_us(), 0);
    });
}
