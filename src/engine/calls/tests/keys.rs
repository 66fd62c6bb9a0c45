//! What was asked for with a key and is taken back by it.

use super::*;
use crate::engine::calls::desk::Desk;

fn keyed(key: &str) -> Originate {
    let remembered = Remembered { org: "org_a".to_owned(), key: key.to_owned(), hash: [0; 32] };
    Originate { remembered: Some(remembered), ..asked() }
}

fn take_back(bench: &mut Bench, org: &str, key: &str) -> bool {
    let (org, key) = (org.to_owned(), key.to_owned());
    bench.ask(|answer| Request::TakeBack { org, key, answer }).try_recv().unwrap().unwrap()
}

#[test]
fn a_call_is_taken_back_by_its_key_wherever_it_stands() {
    // Its record is on its way to the disk: it is never dialled.
    let mut bench = Bench::new();
    drop(bench.ask(|answer| Request::Originate(Box::new(keyed("k")), answer)));
    assert!(take_back(&mut bench, "org_a", "k"));
    bench.save();
    assert_eq!(bench.told(), ["open Leg", "close"]);
    // It rings.
    let rings = bench.originate(keyed("k2")).unwrap().sid;
    bench.told();
    assert!(!take_back(&mut bench, "org_b", "k2"), "another organisation's key");
    assert!(take_back(&mut bench, "org_a", "k2"));
    assert_eq!(bench.told(), ["cancel", "close"]);
    assert_eq!(bench.ending(&rings), (Status::Failed, Some("canceled".to_owned())));
    assert!(take_back(&mut bench, "org_a", "k2"), "twice is once");
}

#[test]
fn a_request_that_comes_behind_its_taking_back_is_refused() {
    let mut bench = Bench::new();
    assert!(!take_back(&mut bench, "org_a", "k"));
    let refused = bench.originate(keyed("k")).unwrap_err();
    assert!(refused.why == Why::Conflict && refused.message.contains("new key"), "{refused:?}");
    assert!(bench.told().is_empty() && bench.board.calls.is_empty());
    assert!(bench.board.trunks.states(bench.now)[0].active == 0, "a refused call is counted");
    bench.originate(keyed("another")).unwrap();
    // The engine's memory for such keys has an end.
    for n in 0..2000 {
        take_back(&mut bench, "org_a", &format!("flood {n}"));
    }
    bench.originate(keyed("k")).unwrap();
    assert_eq!(bench.originate(keyed("flood 1999")).unwrap_err().why, Why::Conflict);
}

/// The board has left it to the store.
#[test]
fn a_call_of_long_ago_is_taken_back_without_a_word() {
    let mut bench = Bench::new();
    let over = bench.originate(keyed("k")).unwrap().sid;
    bench.hangup(&over);
    bench.pass(60);
    assert!(!bench.board.calls.contains_key(&*over));
    let store = bench.store.clone();
    let done = at_desk(&mut bench, store, async |desk| {
        (desk.take_back("org_a", "k").await, desk.take_back("org_a", "never").await)
    });
    assert_eq!(done, (Ok(()), Ok(())));
}

/// The store's own thread answers in milliseconds, and nothing else is waited for: who waits longer waits for ever.
const LIMIT: Duration = Duration::from_secs(20);

/// What is asked of the board while it answers, over this store.
fn at_desk<T>(bench: &mut Bench, store: Arc<Sqlite>, asker: impl AsyncFnOnce(&Desk) -> T) -> T {
    let (requests, mut asked) = mpsc::channel(4);
    let desk = Desk::new(requests, store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let board = async {
            while let Some(request) = asked.recv().await {
                bench.board.handle_request(request, bench.now);
            }
        };
        tokio::select! {
            done = asker(&desk) => done,
            () = board => unreachable!("the desk is there"),
            () = tokio::time::sleep(LIMIT) => panic!("the desk gave no answer within {LIMIT:?}"),
        }
    })
}

/// The file was replaced, and knows nothing of the first request: its call is still there.
#[test]
fn a_key_counts_while_its_call_is_here_whatever_the_store_knows() {
    let mut bench = Bench::new();
    let first = bench.originate(keyed("k")).unwrap();
    bench.told();
    let folder = tempfile::tempdir().unwrap();
    let empty = Arc::new(Sqlite::open(&folder.path().join("calls.db"), Bounds::new(1000, 30, 10)).unwrap());
    let again = at_desk(&mut bench, empty.clone(), async |desk| desk.originate(keyed("k")).await);
    assert_eq!(again, Ok(first.clone()));
    let mut another = keyed("k");
    another.remembered.as_mut().unwrap().hash = [1; 32];
    let refused = at_desk(&mut bench, empty, async |desk| desk.originate(another).await).unwrap_err();
    assert!(refused.why == Why::Conflict && refused.message.contains("another request"), "{refused:?}");
    assert!(bench.told().is_empty(), "it was dialled again");
    let recall = |bench: &mut Bench, org: &str, key: &str| {
        let (org, key) = (org.to_owned(), key.to_owned());
        bench.ask(|answer| Request::Recall { org, key, answer }).try_recv().unwrap().unwrap()
    };
    assert_eq!(recall(&mut bench, "org_b", "k"), None, "another organisation's key");
    // What may be refused yet is not promised to anybody.
    drop(bench.ask(|answer| Request::Originate(Box::new(keyed("k2")), answer)));
    assert_eq!(recall(&mut bench, "org_a", "k2"), None);
    bench.save();
    assert!(recall(&mut bench, "org_a", "k2").is_some());
    // A key that came to stand for a later call stays that one's.
    let second = bench.originate(keyed("k")).unwrap().sid;
    bench.hangup(&first.sid);
    bench.pass(60);
    assert_eq!(recall(&mut bench, "org_a", "k").unwrap().sid, second);
    bench.hangup(&second);
    bench.pass(60);
    assert_eq!(recall(&mut bench, "org_a", "k"), None, "the store alone knows it from now on");
}

/// More calls than the board keeps end within its minute: nothing of those it has left stays, no timer either.
#[test]
fn the_board_keeps_so_many_ended_calls_and_nothing_of_the_others() {
    let mut bench = Bench::with(2000, 100_000);
    for n in 0..1000 {
        let sid = bench.originate(keyed(&format!("k{n}"))).unwrap().sid;
        bench.hangup(&sid);
    }
    let (calls, timers) = (bench.board.calls.len(), bench.board.timers.len());
    assert_eq!((calls, timers, bench.board.keys.len()), (256, 256, 256));
    bench.pass(60);
    assert!(bench.board.calls.is_empty() && bench.board.timers.is_empty() && bench.board.keys.is_empty());
}
