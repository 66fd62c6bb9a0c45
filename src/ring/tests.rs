use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::*;

#[test]
fn a_full_ring_drops_its_oldest_and_counts() {
    let inbox = Inbox::parking();
    let (sender, receiver) = inbox.ring(3);
    let dropped: Vec<bool> = (0..5).map(|item| sender.push(item)).collect();
    assert_eq!(dropped, [false, false, false, true, true]);
    assert_eq!(std::iter::from_fn(|| receiver.pop()).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!((sender.dropped(), receiver.dropped()), (2, 2));
}

#[test]
fn a_ring_is_listed_once_until_it_is_settled() {
    let inbox = Inbox::parking();
    let (sender, receiver) = inbox.ring(8);
    sender.push(1);
    sender.push(2);
    assert_eq!(inbox.take(), Some(receiver.id()));
    sender.push(3);
    assert_eq!(inbox.take(), None, "taken and not settled: nobody else may have it");
    assert_eq!((receiver.pop(), receiver.pop(), receiver.pop(), receiver.pop()), (Some(1), Some(2), Some(3), None));
    receiver.settle();
    assert_eq!(inbox.take(), None);
    sender.push(4);
    assert_eq!(inbox.take(), Some(receiver.id()));
}

#[test]
fn what_is_left_at_settling_is_listed_again() {
    let inbox = Inbox::parking();
    let (sender, receiver) = inbox.ring(8);
    sender.push(1);
    sender.push(2);
    inbox.take();
    receiver.pop();
    receiver.settle();
    assert_eq!(inbox.take(), Some(receiver.id()));
}

#[test]
fn one_signal_per_look_however_many_pushes() {
    let signals = Arc::new(AtomicUsize::new(0));
    let inbox = Inbox::calling({
        let signals = signals.clone();
        move || {
            signals.fetch_add(1, SeqCst);
        }
    });
    let neighbour = inbox.neighbour();
    neighbour.flush();
    assert_eq!(signals.load(SeqCst), 0, "nothing is ready");
    let rings: Vec<_> = (0..10).map(|_| inbox.ring(4)).collect();
    for (sender, _) in &rings {
        sender.push(0);
        neighbour.flush();
    }
    assert_eq!(signals.load(SeqCst), 1);
    while inbox.take().is_some() {}
    rings[0].1.settle();
    neighbour.flush();
    assert_eq!(signals.load(SeqCst), 2, "the settled ring was not empty");
}

#[test]
fn a_handoff_is_bounded_by_duration_and_refuses_the_new() {
    let inbox = Inbox::parking();
    let (sender, receiver) = inbox.handoff(60_000);
    for item in 0..3 {
        sender.push(item, 20_000).expect("there is room for three");
    }
    assert_eq!(sender.push(3, 20_000), Err(Full { item: 3, queued_us: 60_000, limit_us: 60_000 }));
    assert_eq!(receiver.pop(), Some((0, 20_000)));
    assert_eq!(receiver.queued_us(), 40_000);
    sender.push(4, 20_000).expect("room again");
    assert_eq!(std::iter::from_fn(|| receiver.pop()).map(|(item, _)| item).collect::<Vec<_>>(), [1, 2, 4]);
}

#[test]
fn a_wait_with_a_limit_ends() {
    let inbox = Inbox::parking();
    assert_eq!(inbox.wait(Some(Duration::from_millis(1))), Wait::TimedOut);
    inbox.neighbour().nudge();
    assert_eq!(inbox.wait(None), Wait::Ready);
}

/// Producers and several consumers at full speed: every item is either taken or counted as dropped, each ring's items
/// come in order, and no two threads are ever in one ring. A lost signal would hang the test.
#[test]
fn nothing_is_lost_between_threads() {
    const RINGS: usize = 24;
    const ITEMS: u64 = 4_000;
    let inbox = Inbox::parking();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..RINGS).map(|_| inbox.ring::<u64>(4)).unzip();
    let by_id: HashMap<RingId, (RingReceiver<u64>, AtomicBool, AtomicU64)> =
        receivers.into_iter().map(|r| (r.id(), (r, AtomicBool::new(false), AtomicU64::new(0)))).collect();
    let (taken, done) = (AtomicU64::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for part in senders.chunks(RINGS / 3) {
            let (inbox, done) = (&inbox, &done);
            scope.spawn(move || {
                let neighbour = inbox.neighbour();
                for item in 1..=ITEMS {
                    for sender in part {
                        sender.push(item);
                    }
                    neighbour.flush();
                }
                done.fetch_add(1, SeqCst);
                neighbour.nudge();
            });
        }
        for _ in 0..2 {
            let (inbox, by_id, taken, done) = (&inbox, &by_id, &taken, &done);
            scope.spawn(move || {
                loop {
                    while let Some(id) = inbox.take() {
                        let (receiver, busy, last) = &by_id[&id];
                        assert!(!busy.swap(true, SeqCst), "two threads in one ring");
                        while let Some(item) = receiver.pop() {
                            assert!(last.swap(item, SeqCst) < item, "out of order");
                            taken.fetch_add(1, SeqCst);
                        }
                        busy.store(false, SeqCst);
                        receiver.settle();
                    }
                    if done.load(SeqCst) == 3 && !inbox.is_ready() {
                        inbox.neighbour().nudge();
                        break;
                    }
                    inbox.wait(None);
                }
            });
        }
    });
    let dropped: u64 = senders.iter().map(RingSender::dropped).sum();
    assert_eq!(taken.load(SeqCst) + dropped, RINGS as u64 * ITEMS);
}
