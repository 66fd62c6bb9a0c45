//! What trunks let through, and what becomes of a call's packets.

use super::*;
use crate::call::Hundredths;
use crate::engine::leg::Line;
use crate::engine::media::Stats;
use crate::engine::trunk::Dial;
use crate::sip::health;

#[test]
fn only_allowed_numbers_are_shown() {
    let mut bench = Bench::new();
    let config = "state = \"s\"\n[trunks.t]\nkind = \"phone\"\ncaller_ids = [\"+15550002\", \"+49*\"]";
    let config = crate::engine::Config::from_toml(config, std::path::Path::new("/"), std::iter::empty()).unwrap();
    bench.board.trunks.set_caller_ids("trunk_main", config.trunks["t"].caller_ids.clone());
    bench.dialed();
    bench.originate(Originate { from: "+4930123".to_owned(), ..asked() }).unwrap();
    let (reason, message) = why(bench.originate(Originate { from: "+15550003".to_owned(), ..asked() }));
    assert_eq!(reason, Why::BadRequest);
    assert!(message.starts_with("from \"+15550003\"") && message.contains("+15550002, +49*"), "{message}");
}

#[test]
fn an_open_breaker_refuses_and_says_for_how_long() {
    let mut bench = Bench::new();
    let trunk = Scripted { closed_for: Some(Duration::from_secs(30)), ..Scripted::new(&bench.log) };
    bench.board.trunks.set_trunk("trunk_main", Box::new(trunk));
    let refused = bench.originate(asked()).unwrap_err();
    assert!(refused.why == Why::Unavailable && refused.message.contains("breaker is open"), "{refused:?}");
    assert_eq!(refused.retry_after, Some(Duration::from_secs(30)));
    assert_eq!(bench.board.trunks.states(bench.now)[0].active, 0);
}

/// Lets so many calls through, like a breaker that tries its trunk out.
struct Trying(usize);

impl Trunk for Trying {
    fn dial(&mut self, _dial: Dial, _now: Instant) {}
    fn cancel(&mut self, _sid: &str, _now: Instant) {}
    fn bye(&mut self, _sid: &str, _now: Instant) {}
    fn transfer(&mut self, _sid: &str, _to: &str, _now: Instant) {}
    fn admit(&mut self, _now: Instant) -> Result<(), Duration> {
        self.0 = self.0.checked_sub(1).ok_or(Duration::from_secs(30))?;
        Ok(())
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn handle_timeout(&mut self, _now: Instant) {}
}

#[test]
fn the_one_call_that_a_breaker_tries_is_not_spent_on_one_that_has_no_turn() {
    let mut bench = Bench::with(100, 1);
    bench.dialed();
    bench.board.trunks.set_trunk("trunk_main", Box::new(Trying(1)));
    let (reason, _) = why(bench.originate(Originate { ring_timeout_s: 1, ..asked() }));
    assert_eq!(reason, Why::TooMany);
    bench.pass(2);
    bench.originate(asked()).unwrap();
    bench.pass(2);
    // And what the breaker refuses takes nobody's turn.
    assert_eq!(why(bench.originate(asked())).0, Why::Unavailable);
    bench.board.trunks.set_trunk("trunk_main", Box::new(Trying(1)));
    bench.originate(asked()).unwrap();
    assert_eq!(bench.board.trunks.states(bench.now)[0].waiting, 0);
}

#[test]
fn who_waits_for_its_turn_is_counted_and_hung_up_without_a_word() {
    let mut bench = Bench::with(100, 1);
    bench.dialed();
    let waiting = bench.dialed();
    let state = bench.board.trunks.states(bench.now).remove(0);
    assert_eq!((state.active, state.waiting, state.health), (2, 1, health::State::Healthy));
    bench.told();
    bench.hangup(&waiting);
    assert_eq!(bench.told(), ["close"]);
    assert_eq!(bench.board.trunks.states(bench.now)[0].waiting, 0, "its turn is free");
    bench.pass(60);
    assert!(!bench.told().iter().any(|word| word.contains("dial")));
}

#[test]
fn the_figures_of_the_packets_come_into_the_record_after_the_end() {
    let mut bench = Bench::new();
    let sid = bench.answered();
    bench.trunk(&sid, TrunkKind::Bye { q850: None });
    let line = Line { codec: "PCMU", packets_sent: 7, jitter_ms: 1.234, mos: Some(4.3), ..Line::default() };
    let stats = Box::new(Stats { line: Some(line), ..Stats::default() });
    bench.board.handle_media(Event::Closed { sid: sid.as_str().into(), stats }, bench.now);
    assert_eq!(bench.ending(&sid), (Status::Completed, Some("normal".to_owned())));
    let rtp = bench.row(&sid).rtp.unwrap();
    assert_eq!((rtp.codec.as_str(), rtp.packets_sent, rtp.mos), ("PCMU", 7, Some(Hundredths(430))));
    assert_eq!(rtp.jitter_ms, Hundredths(123));
}

#[test]
fn the_call_id_of_the_invite_is_kept() {
    let mut bench = Bench::new();
    let sid = bench.dialed();
    bench.trunk(&sid, TrunkKind::Placed { sip_call_id: "a1@h".to_owned() });
    bench.trunk(&sid, TrunkKind::Rejected { code: 486, reason: "Busy Here".to_owned(), q850: None });
    bench.ending(&sid);
    let row = bench.row(&sid);
    assert_eq!((row.sip_call_id.as_deref(), row.sip_phrase.as_deref()), (Some("a1@h"), Some("Busy Here")));
}
