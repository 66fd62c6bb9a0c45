//! Ended calls are the store's, and a store that is full.

use super::*;

#[test]
fn ended_calls_leave_memory_for_the_store() {
    let mut bench = Bench::new();
    let sid = bench.answered();
    bench.hangup(&sid);
    bench.store.flush().blocking_recv().unwrap().unwrap();
    bench.pass(59);
    assert!(bench.board.calls.contains_key(&*sid));
    bench.pass(1);
    assert!(!bench.board.calls.contains_key(&*sid));
    assert!(bench.board.poll_timeout().is_none(), "a timer outlived its call");
    assert!(bench.store.get(&sid).blocking_recv().unwrap().unwrap().is_some());
}

/// Live calls fill a store that can't grow: they go on, a new one is refused by cause, and their ends are not lost.
#[test]
fn a_full_store_refuses_new_calls_while_live_ones_go_on() {
    let mut bench = Bench::bounded(100_000, 100_000, Bounds { records: 1000, days: 30, pages: 24 });
    let mut live = Vec::new();
    let refused = loop {
        match bench.originate(asked()) {
            Ok(row) => live.push(row.sid),
            Err(refused) => break refused,
        }
        assert!(live.len() < 10_000, "24 pages never fill");
    };
    assert!(refused.why == Why::Unavailable && refused.message.contains("full"), "{refused:?}");
    bench.told();
    assert_eq!(bench.board.calls.len(), live.len(), "a refused call stays in memory");
    assert!(bench.board.trunks.states(bench.now)[0].active == live.len(), "a refused call is counted");
    for sid in &live {
        bench.trunk(sid, TrunkKind::Answered { leg: None });
        bench.hangup(sid);
    }
    assert_eq!(bench.told().iter().filter(|word| *word == "close").count(), live.len());
    assert_eq!(bench.ending(&live[0]), (Status::Completed, Some("normal".to_owned())));
    // Ended calls make room.
    bench.originate(asked()).unwrap();
}
