//! The desk of a ring between a producer, the delivery thread and the threads of Python; and the errands of an event loop.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::thread;

use crate::ring::{Desk, Errands, Found, Inbox, RingSender, Source, Way};

/// Its time never runs out: whoever waits for ever fails the model.
const LONG: Duration = Duration::from_secs(1);

/// Who is called is a number; what he was given stands behind it.
type Hall = Desk<u64, usize, usize>;

struct Stage {
    inbox: Inbox,
    desk: Hall,
    /// Items that each of two who are called was given, and who waited on a loop and was told.
    given: [Mutex<Vec<u64>>; 2],
    told: AtomicU64,
    /// Stands in the registry, as a ring does until it is forgotten.
    known: AtomicBool,
}

impl Stage {
    fn new(consumer: Option<usize>) -> (Arc<Self>, RingSender<u64>) {
        let inbox = Inbox::parking();
        let (sender, ring) = inbox.ring(4);
        let given = [Mutex::new(Vec::new()), Mutex::new(Vec::new())];
        let told = AtomicU64::new(0);
        (Arc::new(Self { inbox, desk: Desk::new(ring, consumer), given, told, known: AtomicBool::new(true) }), sender)
    }

    /// As `python/delivery` drains a ring: item by item, to whoever is the consumer at that moment.
    fn deliver(&self) {
        while let Some(id) = self.inbox.take() {
            assert_eq!(id, self.desk.items().id());
            if self.known.load(SeqCst) {
                self.drain();
            }
        }
    }

    fn drain(&self) {
        while !self.desk.items().is_empty() {
            match self.desk.way(|consumer| *consumer) {
                Way::Called(consumer) => {
                    let Some(item) = self.desk.items().pop() else { continue };
                    self.given[consumer].lock().expect("nobody panics").push(item);
                }
                Way::Taker(waiting) => {
                    self.told.fetch_add(waiting.len() as u64, SeqCst);
                    return;
                }
                Way::Nowhere => break,
            }
        }
        self.desk.items().settle();
    }

    fn swap(&self, consumer: usize) {
        let left = self.desk.swap(Some(consumer));
        self.told.fetch_add(left.waiting.len() as u64, SeqCst);
        self.inbox.neighbour().flush();
    }

    fn given(&self, consumer: usize) -> Vec<u64> {
        self.given[consumer].lock().expect("nobody panics").clone()
    }
}

/// Delivers until `over`, and once more.
fn delivering(stage: &Arc<Stage>) -> (thread::JoinHandle<()>, Arc<AtomicBool>) {
    let (stage, over) = (stage.clone(), Arc::new(AtomicBool::new(false)));
    let ends = over.clone();
    let run = move || {
        loop {
            stage.deliver();
            if ends.load(SeqCst) {
                break stage.deliver();
            }
            stage.inbox.wait(None);
        }
    };
    (thread::spawn(run), over)
}

fn end(stage: &Stage, (thread, over): (thread::JoinHandle<()>, Arc<AtomicBool>)) {
    over.store(true, SeqCst);
    stage.inbox.neighbour().nudge();
    thread.join().expect("it delivers and ends");
}

/// A thread that takes hears every item, and is woken for each.
#[test]
fn a_taker_is_woken() {
    loom::model(|| {
        let (stage, sender) = Stage::new(None);
        let delivery = delivering(&stage);
        let (number, _) = stage.desk.begin_taking();
        sender.push(1);
        stage.inbox.neighbour().flush();
        loop {
            match stage.desk.find(number, |item| item) {
                Found::Item(item) => break assert_eq!(item, 1),
                Found::Nothing => stage.desk.wait(number, LONG),
                Found::Over => unreachable!("nobody takes his place"),
            }
        }
        end(&stage, delivery);
    });
}

/// The producer pushes twice while the taker looks and waits.
#[test]
fn a_taker_hears_all() {
    loom::model(|| {
        let (stage, sender) = Stage::new(None);
        let (number, _) = stage.desk.begin_taking();
        let taker = thread::spawn({
            let stage = stage.clone();
            move || {
                let mut next = 1;
                while next <= 2 {
                    match stage.desk.find(number, |item| item) {
                        Found::Item(item) => next = item + 1,
                        Found::Nothing => stage.desk.wait(number, LONG),
                        Found::Over => unreachable!("nobody takes his place"),
                    }
                    stage.inbox.neighbour().flush();
                }
            }
        });
        // The producer's turn and the delivery thread's, one after the other, twice.
        for item in 1..=2 {
            sender.push(item);
            stage.inbox.neighbour().flush();
            stage.deliver();
        }
        taker.join().expect("it takes two and ends");
    });
}

/// Swapped in mid-call: each item goes to one of both, in order, and none stays behind.
#[test]
fn a_swap_loses_nothing() {
    loom::model(|| {
        let (stage, sender) = Stage::new(Some(0));
        let delivery = delivering(&stage);
        sender.push(1);
        stage.inbox.neighbour().flush();
        stage.swap(1);
        sender.push(2);
        stage.inbox.neighbour().flush();
        end(&stage, delivery);
        let all: Vec<u64> = stage.given(0).into_iter().chain(stage.given(1)).collect();
        assert_eq!(all, [1, 2]);
    });
}

/// From one who comes by himself to one who is called: what was held for the first is given to the second.
#[test]
fn a_taker_s_items_go_to_his_successor() {
    loom::model(|| {
        let (stage, sender) = Stage::new(None);
        let delivery = delivering(&stage);
        let (number, _) = stage.desk.begin_taking();
        sender.push(1);
        stage.inbox.neighbour().flush();
        stage.swap(0);
        assert_eq!(stage.desk.find(number, |item| item), Found::Over);
        end(&stage, delivery);
        assert_eq!(stage.given(0), [1]);
    });
}

/// Closed by a third thread while one waits: he is told, and ends.
#[test]
fn a_closed_desk_ends_its_taker() {
    loom::model(|| {
        let (stage, sender) = Stage::new(None);
        let (number, _) = stage.desk.begin_taking();
        let closer = thread::spawn({
            let stage = stage.clone();
            move || {
                stage.known.store(false, SeqCst);
                drop(stage.desk.close().waiting);
            }
        });
        sender.push(1);
        stage.inbox.neighbour().flush();
        stage.deliver();
        while !stage.desk.is_over(number) {
            if stage.desk.find(number, |item| item) == Found::Nothing {
                stage.desk.wait(number, LONG);
            }
        }
        closer.join().expect("it closes and ends");
    });
}

/// Whoever leaves a future at the desk finds something there already, or is told.
#[test]
fn a_future_is_told() {
    loom::model(|| {
        let (stage, sender) = Stage::new(None);
        let delivery = delivering(&stage);
        let (number, _) = stage.desk.begin_taking();
        let producer = thread::spawn({
            let stage = stage.clone();
            move || {
                sender.push(1);
                stage.inbox.neighbour().flush();
            }
        });
        let at_once = stage.desk.wait_on(number, 7).is_some();
        stage.inbox.neighbour().flush();
        producer.join().expect("it pushes and ends");
        end(&stage, delivery);
        assert!(at_once || stage.told.load(SeqCst) == 1, "he waits for ever");
        assert_eq!(stage.desk.find(number, |item| item), Found::Item(1));
    });
}

/// What two threads leave for an event loop is done, and the loop is told of it.
#[test]
fn errands_are_told_of() {
    loom::model(|| {
        let (errands, calls) = (Arc::new(Errands::default()), Arc::new(AtomicU64::new(0)));
        let add = |errand: u64| {
            let (errands, calls) = (errands.clone(), calls.clone());
            move || {
                errands.add(errand);
                drop(errands.flush(|| calls.fetch_add(1, SeqCst) < u64::MAX));
            }
        };
        let other = thread::spawn(add(1));
        // The loop looks once for each time that it was told.
        let mut looks = 0;
        let mut done = 0;
        add(2)();
        let look = |looks: &mut u64| match *looks < calls.load(SeqCst) {
            true => {
                *looks += 1;
                errands.look().len()
            }
            false => 0,
        };
        done += look(&mut looks);
        other.join().expect("it adds and ends");
        while looks < calls.load(SeqCst) {
            done += look(&mut looks);
        }
        assert_eq!(done, 2);
    });
}
