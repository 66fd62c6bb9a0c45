//! Second legs: a transfer by bridge on the board.

use super::*;
use crate::call::{LegState, TransferState};

const TO: &str = "+15550009";

impl Bench {
    fn bridging(mode: TransferMode) -> Self {
        let mut bench = Self::with(3, 100);
        bench.board.trunks.set_transfer_mode("trunk_main", mode);
        bench
    }

    fn leg(&mut self, sid: &str, leg: usize, kind: TrunkKind) {
        self.trunk(&format!("{sid}-{leg}"), kind);
    }

    fn active(&self) -> usize {
        self.board.trunks.states(self.now)[0].active
    }
}

fn answered() -> TrunkKind {
    TrunkKind::Answered { leg: Some(Box::new(Silent)) }
}

#[test]
fn a_refused_refer_becomes_a_second_leg_and_both_end_together() {
    let mut bench = Bench::bridging(TransferMode::Auto);
    let sid = bench.answered();
    bench.told();
    let mut settled = bench.transfer(&sid, TO);
    assert_eq!(bench.told(), ["transfer +15550009"]);
    bench.trunk(&sid, TrunkKind::TransferRefused { code: 405 });
    assert_eq!(bench.told(), ["leg 0: dial +15550009 30s"]);
    assert_eq!((bench.active(), settled.try_recv().is_err()), (2, true));
    bench.leg(&sid, 0, TrunkKind::Placed { sip_call_id: "b@h".to_owned() });
    bench.leg(&sid, 0, TrunkKind::Progress { code: 180 });
    bench.leg(&sid, 0, answered());
    assert_eq!(settled.try_recv().unwrap(), Ok(Settled::Accepted));
    assert_eq!(bench.told(), ["agent false", "agent true"], "the second leg's far end takes the agent's place");
    let row = bench.row(&sid);
    assert_eq!((row.status, row.transferred_to.as_deref()), (Status::InProgress, Some(TO)));
    assert_eq!((row.legs[0].state, row.legs[0].sip_call_id.as_deref()), (LegState::InProgress, Some("b@h")));
    bench.leg(&sid, 0, TrunkKind::Bye { q850: None });
    assert_eq!(bench.told(), ["bye", "close"]);
    assert_eq!(bench.ending(&sid), (Status::Completed, Some("transferred".to_owned())));
    assert_eq!(bench.active(), 0);
}

#[test]
fn keys_of_two_joined_legs_are_each_others() {
    let mut bench = Bench::bridging(TransferMode::Bridge);
    let sid = bench.answered();
    drop(bench.transfer(&sid, TO));
    bench.told();
    let key = || TrunkKind::Key { key: '7', duration_ms: 100 };
    bench.leg(&sid, 0, key());
    assert_eq!(bench.told(), Vec::<String>::new(), "it rings yet");
    bench.leg(&sid, 0, answered());
    bench.told();
    bench.leg(&sid, 0, key());
    bench.trunk(&sid, key());
    assert_eq!(bench.told(), ["second key 7 100ms", "key 7 100ms"]);
    for (second, told) in [(true, "leg 0: press 1 strokes of 40 ms"), (false, "press 1 strokes of 40 ms")] {
        let (sid, now) = (sid.as_str().into(), bench.now);
        bench.board.handle_media(Event::Unpressed { sid, key: '1', duration_ms: 7, second }, now);
        assert_eq!(bench.told(), [told], "what the line can't take is the trunk's");
    }
}

#[test]
fn the_caller_hangs_up_and_the_second_leg_goes_with_her() {
    for (kind, word) in [(None, "leg 0: cancel"), (Some(answered()), "leg 0: bye")] {
        let mut bench = Bench::bridging(TransferMode::Bridge);
        let sid = bench.answered();
        drop(bench.transfer(&sid, TO));
        if let Some(kind) = kind {
            bench.leg(&sid, 0, kind);
        }
        bench.told();
        bench.trunk(&sid, TrunkKind::Bye { q850: None });
        assert_eq!(bench.told(), [word, "close"]);
        assert_eq!(bench.active(), 0);
        // Nothing that it says later does anything but hang up.
        bench.leg(&sid, 0, answered());
        assert_eq!(bench.told(), ["leg 0: bye"]);
        bench.leg(&sid, 0, TrunkKind::Bye { q850: None });
        assert_eq!(bench.active(), 0);
    }
}

#[test]
fn a_second_leg_that_fails_leaves_the_call_and_its_agent() {
    for (kind, code) in [
        (TrunkKind::Rejected { code: 486, reason: String::new(), q850: Some(17) }, 486),
        (TrunkKind::Unreachable { reason: String::new() }, 503),
    ] {
        let mut bench = Bench::bridging(TransferMode::Bridge);
        let sid = bench.answered();
        let mut settled = bench.transfer(&sid, TO);
        bench.told();
        bench.leg(&sid, 0, kind);
        assert_eq!(settled.try_recv().unwrap(), Ok(Settled::Refused { code }));
        assert_eq!((bench.told(), bench.active()), (vec![], 1));
        let row = bench.row(&sid);
        assert_eq!((row.status, row.legs[0].state), (Status::InProgress, LegState::Failed));
        assert_eq!(row.transfer.unwrap().state, "failed");
    }
}

#[test]
fn a_second_leg_takes_a_channel_and_is_refused_without_one() {
    let mut bench = Bench::bridging(TransferMode::Bridge);
    let sid = bench.answered();
    bench.dialed();
    bench.dialed();
    bench.told();
    let mut settled = bench.transfer(&sid, TO);
    assert_eq!(settled.try_recv().unwrap(), Ok(Settled::Refused { code: 503 }));
    assert_eq!((bench.told(), bench.active()), (vec![], 3));
}

#[test]
fn a_second_leg_that_is_not_answered_is_given_up() {
    let mut bench = Bench::bridging(TransferMode::Bridge);
    let sid = bench.answered();
    drop(bench.transfer(&sid, TO));
    bench.leg(&sid, 0, TrunkKind::Progress { code: 180 });
    bench.told();
    bench.pass(20);
    bench.pass(10);
    assert_eq!((bench.told(), bench.active()), (vec!["leg 0: cancel".to_owned()], 1));
    // The next transfer is another leg; the first one's answer is not its.
    drop(bench.transfer(&sid, "+15550008"));
    bench.told();
    bench.leg(&sid, 0, answered());
    assert_eq!(bench.told(), ["leg 0: bye"]);
    bench.leg(&sid, 1, answered());
    assert_eq!(bench.told(), ["agent false", "agent true"]);
}

#[test]
fn a_second_leg_whose_session_expires_ends_the_call() {
    let mut bench = Bench::bridging(TransferMode::Bridge);
    let sid = bench.answered();
    drop(bench.transfer(&sid, TO));
    bench.leg(&sid, 0, answered());
    bench.told();
    bench.leg(&sid, 0, TrunkKind::SessionExpired);
    assert_eq!(bench.told(), ["leg 0: bye", "bye", "close"]);
    assert_eq!((bench.row(&sid).q850, bench.active()), (Some(102), 0));
}

#[test]
fn the_agent_is_silent_from_the_202_and_speaks_again_after_a_failure() {
    let mut bench = Bench::new();
    let sid = bench.originate(Originate { agent: Some("one".to_owned()), ..asked() }).unwrap().sid;
    bench.trunk(&sid, answered());
    drop(bench.transfer(&sid, TO));
    bench.told();
    bench.trunk(&sid, TrunkKind::TransferAccepted);
    assert_eq!(bench.told(), ["agent false"]);
    bench.trunk(&sid, TrunkKind::TransferOutcome { code: 486 });
    bench.pass(2);
    assert_eq!(bench.told(), ["agent true"]);
    let row = bench.row(&sid);
    assert_eq!((row.agent.as_deref(), row.transfer.unwrap().state.as_str()), (Some("one"), "failed"));
    let stored = bench.store.get(&sid);
    bench.store.flush().blocking_recv().unwrap().unwrap();
    drop(stored);
    let stored = bench.store.get(&sid).blocking_recv().unwrap().unwrap().unwrap();
    assert_eq!(stored.transfer.unwrap().state, TransferState::Failed);
}

#[test]
fn a_second_leg_waits_for_its_turn_and_gives_it_back() {
    let mut bench = Bench::with(3, 1);
    bench.board.trunks.set_transfer_mode("trunk_main", TransferMode::Bridge);
    let waiting = |bench: &Bench| bench.board.trunks.states(bench.now)[0].waiting;
    let sid = bench.answered();
    bench.told();
    drop(bench.transfer(&sid, TO));
    assert_eq!((bench.told(), waiting(&bench), bench.active()), (Vec::<String>::new(), 1, 2));
    bench.pass(1);
    assert_eq!((bench.told(), waiting(&bench)), (vec!["leg 0: dial +15550009 30s".to_owned()], 0));
    bench.leg(&sid, 0, TrunkKind::Rejected { code: 486, reason: "Busy Here".to_owned(), q850: None });
    bench.told();
    // The call ends before the turn of its next leg, which is never dialled.
    drop(bench.transfer(&sid, TO));
    bench.hangup(&sid);
    assert_eq!((bench.told(), waiting(&bench), bench.active()), (vec!["bye".to_owned(), "close".to_owned()], 0, 0));
    bench.pass(2);
    assert!(!bench.told().iter().any(|word| word.contains("dial")));
}
