//! Keys for a far end, and keys of a far end.

use super::*;
use crate::rtp::dtmf::strokes;

fn keys(text: &str) -> Keys {
    Keys { strokes: strokes(text).unwrap(), duration_ms: 160 }
}

fn press(bench: &mut Bench, org: &str, sid: &str, text: &str) -> Result<(), Refused> {
    let (org, sid, keys) = (org.to_owned(), sid.to_owned(), keys(text));
    bench.ask(|answer| Request::Press { org, sid, keys, answer }).try_recv().unwrap()
}

#[test]
fn keys_are_pressed_on_a_call_that_is_answered() {
    let mut bench = Bench::new();
    let sid = bench.dialed();
    let (reason, message) = why(press(&mut bench, "org_a", &sid, "1"));
    assert!(reason == Why::Conflict && message.contains("not answered"), "{message}");
    bench.trunk(&sid, TrunkKind::Answered { leg: Some(Box::new(Silent)) });
    bench.told();
    assert_eq!(press(&mut bench, "org_a", &sid, "12w#"), Ok(()));
    assert_eq!(bench.told(), ["press 4 strokes of 160 ms"]);
    let (reason, message) = why(press(&mut bench, "org_a", &sid, "123456"));
    assert_eq!((reason, message.as_str()), (Why::Conflict, "too many"), "what the trunk says");
    assert_eq!(why(press(&mut bench, "org_b", &sid, "1")).0, Why::NotFound, "another organisation's call");
    bench.hangup(&sid);
    let (reason, message) = why(press(&mut bench, "org_a", &sid, "1"));
    assert!(reason == Why::Conflict && message.contains("the call has ended (completed, normal)"), "{message}");
    let empty = bench.originate(Originate { to: "+15550000".to_owned(), ..asked() }).unwrap().sid;
    bench.trunk(&empty, TrunkKind::Answered { leg: None });
    let (reason, message) = why(press(&mut bench, "org_a", &empty, "1"));
    assert!(reason == Why::Conflict && message.contains("nobody hears keys"), "{message}");
}

#[test]
fn digits_of_an_originate_are_pressed_once_after_the_answer() {
    let mut bench = Bench::new();
    let sid = bench.originate(Originate { send_digits: Some(keys("w1")), ..asked() }).unwrap().sid;
    bench.trunk(&sid, TrunkKind::Progress { code: 180 });
    bench.told();
    bench.trunk(&sid, TrunkKind::Answered { leg: Some(Box::new(Silent)) });
    assert_eq!(bench.told(), ["start leg true", "press 2 strokes of 160 ms"]);
    // What can't be pressed does not end the call.
    let sid = bench.originate(Originate { send_digits: Some(keys("12345")), ..asked() }).unwrap().sid;
    bench.trunk(&sid, TrunkKind::Answered { leg: Some(Box::new(Silent)) });
    assert_eq!(bench.row(&sid).status, Status::InProgress);
    let never = bench.originate(Originate { send_digits: Some(keys("1")), ..asked() }).unwrap().sid;
    bench.told();
    bench.trunk(&never, TrunkKind::Rejected { code: 486, reason: String::new(), q850: None });
    assert_eq!(bench.told(), ["close"]);
}

#[test]
fn what_the_far_end_signals_goes_to_its_call() {
    let mut bench = Bench::new();
    let sid = bench.answered();
    bench.told();
    bench.trunk(&sid, TrunkKind::Key { key: '#', duration_ms: 250 });
    assert_eq!(bench.told(), ["key # 250ms"]);
    bench.trunk("CAnobody", TrunkKind::Key { key: '#', duration_ms: 250 });
    bench.trunk(&format!("{sid}-0"), TrunkKind::Key { key: '#', duration_ms: 250 });
    assert!(bench.told().is_empty(), "a second leg's keys are none of the caller's");
}
