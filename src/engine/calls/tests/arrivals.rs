//! Calls that come in, as the board sees them.

use super::*;
use crate::call::{EndedBy, Reject};
use crate::engine::config::{Inbound, InboundRule, Then};
use crate::engine::store::Query;
use crate::engine::trunk::Arrival;

const TO: &str = "+15550001";

fn bench(then: Then) -> Bench {
    with_channels(1, then)
}

fn with_channels(channels: usize, then: Then) -> Bench {
    let mut bench = Bench::with(channels, 100);
    let rule = |number: &str, then: Then| InboundRule {
        number: number.parse().unwrap(),
        org: "org_a".to_owned(),
        then,
        max_duration: None,
    };
    let rules = vec![rule("+1555*", then), rule("+4930?", Then::Reject(Reject::Busy))];
    bench.board.trunks.set_inbound("trunk_main", Inbound { rules, ..Inbound::default() });
    bench
}

struct Alaw;

impl Leg for Alaw {
    fn params(&self) -> Params {
        Params::new(crate::audio::Codec::G711Alaw, None, 1, 20).unwrap()
    }
    fn push(&mut self, _frame: Option<&Frame>, _now: Instant) {}
}

fn notify() -> Then {
    Then::Notify { ring_timeout_s: 20 }
}

impl Bench {
    fn comes(&mut self, key: u64, to: &str) {
        let arrival = Arrival {
            trunk_id: "trunk_main".to_owned(),
            key,
            to: to.to_owned(),
            from: "+15558675309".to_owned(),
            sip_call_id: "x@y".to_owned(),
        };
        let kind = TrunkKind::Arrived(Box::new(arrival));
        self.board.handle_trunk(TrunkEvent { sid: String::new(), kind }, self.now);
    }

    fn only(&self) -> String {
        self.board.calls.keys().next().unwrap().to_string()
    }

    fn open(&mut self) -> String {
        let sid = self.only();
        self.board.handle_media(Event::Opened { sid: sid.as_str().into() }, self.now);
        sid
    }

    /// It rings.
    fn rung(&mut self) -> String {
        self.comes(1, TO);
        self.save();
        let sid = self.open();
        self.told();
        sid
    }

    fn decide(&mut self, org: &str, sid: &str, command: crate::call::Command) -> Result<(), Refused> {
        let (org, sid) = (org.to_owned(), sid.to_owned());
        self.ask(|answer| Request::Decide { org, sid, command, answer }).try_recv().unwrap()
    }
}

#[test]
fn its_second_leg_is_offered_its_codec_first() {
    let mut bench = with_channels(2, notify());
    bench.board.trunks.set_transfer_mode("trunk_main", TransferMode::Bridge);
    let sid = bench.rung();
    bench.decide("org_a", &sid, crate::call::Command::Answer).unwrap();
    bench.trunk(&sid, TrunkKind::Acked { leg: Some(Box::new(Alaw)) });
    bench.told();
    drop(bench.transfer(&sid, "+15550009"));
    assert_eq!(bench.told(), ["like g711_alaw", "leg 0: dial +15550009 20s"]);
}

#[test]
fn it_rings_once_its_record_is_durable_and_its_tracks_are_open() {
    let mut bench = bench(notify());
    bench.comes(7, TO);
    assert_eq!(bench.told(), ["take in 7"]);
    bench.save();
    let stored = bench.store.get(&bench.only()).blocking_recv().unwrap().unwrap().unwrap();
    assert_eq!((stored.status, stored.to.as_str(), stored.sip_call_id.as_deref()), (Status::Ringing, TO, Some("x@y")));
    assert_eq!(bench.told(), ["open Leg"]);
    let sid = bench.open();
    assert_eq!(bench.told(), ["ring"]);
    assert_eq!(
        (bench.row(&sid).status, bench.row(&sid).direction),
        (Status::Ringing, Some(crate::call::Direction::Inbound))
    );
    assert_eq!(why(bench.decide("org_b", &sid, crate::call::Command::Answer)).0, Why::NotFound);
    bench.decide("org_a", &sid, crate::call::Command::Answer).unwrap();
    bench.trunk(&sid, TrunkKind::Acked { leg: Some(Box::new(Silent)) });
    assert_eq!(bench.told(), ["answer", "start leg true"]);
    bench.hangup(&sid);
    assert_eq!(bench.told(), ["bye", "close"]);
    assert_eq!(bench.ending(&sid), (Status::Completed, Some("normal".to_owned())));
}

/// Whoever lists the calls that ring.
fn listed(bench: &mut Bench) -> Vec<String> {
    let (requests, mut asked) = mpsc::channel(1);
    let desk = Desk::new(requests, bench.store.clone());
    let query = Query { org: "org_a".to_owned(), status: Some(Status::Ringing), limit: 10, after: None };
    let serve = async {
        let request = asked.recv().await.unwrap();
        bench.board.handle_request(request, bench.now);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (page, ()) = runtime.block_on(async { tokio::join!(desk.list(query), serve) });
    page.unwrap().calls.into_iter().map(|row| row.sid).collect()
}

#[test]
fn it_is_listed_once_it_can_be_answered() {
    let mut bench = bench(notify());
    bench.comes(1, TO);
    bench.save();
    assert_eq!(listed(&mut bench), Vec::<String>::new(), "its tracks are not open yet");
    let sid = bench.open();
    assert_eq!(listed(&mut bench), std::slice::from_ref(&sid));
    bench.decide("org_a", &sid, crate::call::Command::Answer).unwrap();
}

#[test]
fn rules_do_what_a_user_would() {
    let mut with_agent = bench(Then::Answer { agent: "one".to_owned() });
    let sid = with_agent.rung();
    with_agent.trunk(&sid, TrunkKind::Acked { leg: Some(Box::new(Silent)) });
    assert_eq!(with_agent.told(), ["start leg true", "agent true"]);
    assert_eq!(with_agent.row(&sid).agent.as_deref(), Some("one"));

    let mut refused = bench(Then::Reject(Reject::Busy));
    refused.comes(1, TO);
    refused.save();
    let sid = refused.open();
    assert_eq!(refused.told(), ["take in 1", "open Leg", "ring", "reject 486", "close"]);
    assert_eq!(refused.ending(&sid), (Status::Failed, Some("busy".to_owned())));

    let mut patient = bench(notify());
    let sid = patient.rung();
    patient.pass(19);
    assert_eq!(patient.row(&sid).status, Status::Ringing);
    patient.pass(1);
    assert_eq!(patient.told(), ["reject 480", "close"]);
    assert_eq!(patient.ending(&sid), (Status::NoAnswer, Some("ring_timeout".to_owned())));
}

#[test]
fn an_announcement_is_all_that_is_said() {
    let mut bench = bench(Then::Play { audio_file: "x.wav".into() });
    let make: MakeAgent = Arc::new(|| Box::new(Silent));
    bench.board.trunks.set_announcement("trunk_main", Announcement { make, length: Duration::from_secs(4) });
    let sid = bench.rung();
    bench.trunk(&sid, TrunkKind::Acked { leg: Some(Box::new(Silent)) });
    assert_eq!(bench.told(), ["start leg true", "agent true"]);
    assert_eq!(why(bench.agent(&sid, "one")).0, Why::Conflict);
    assert_eq!(why(bench.serve(&sid, "bridge")).0, Why::Conflict);
    bench.pass(3);
    assert_eq!(bench.told(), Vec::<String>::new());
    bench.pass(1);
    assert_eq!(bench.told(), ["bye", "close"]);
    assert_eq!(bench.row(&sid).ended_by.as_deref(), Some(EndedBy::System.as_str()));
}

#[test]
fn a_caller_who_leaves_before_it_rings() {
    let mut bench = bench(Then::Answer { agent: "one".to_owned() });
    bench.comes(1, TO);
    let sid = bench.only();
    bench.trunk(&sid, TrunkKind::Cancelled { q850: Some(16), code: None });
    bench.save();
    bench.open();
    assert!(!bench.told().contains(&"answer".to_owned()));
    assert_eq!(bench.ending(&sid), (Status::NoAnswer, Some("canceled".to_owned())));
    bench.comes(2, TO);
    assert_eq!(bench.told(), ["take in 2"], "its channel is free again");
}

#[test]
fn what_has_no_rule_and_no_room_is_turned_away_without_a_record() {
    let mut bench = bench(notify());
    bench.comes(1, "+4930123");
    assert_eq!(bench.told(), ["turn away 1 404 None"]);
    bench.comes(2, TO);
    bench.comes(3, TO);
    assert_eq!(bench.told(), ["take in 2", "turn away 3 486 Some(10)"]);
    bench.board.trunks.set_max_calls(1);
    bench.comes(4, TO);
    assert_eq!(bench.told(), ["turn away 4 503 Some(10)"]);
    drop(bench.ask(|answer| Request::Shutdown { answer }));
    bench.told();
    bench.comes(5, TO);
    assert_eq!(bench.told(), ["turn away 5 503 Some(10)"]);
    assert_eq!(bench.board.calls.len(), 1);
}

#[test]
fn who_answers_brings_an_agent_and_who_may_not_answer_brings_none() {
    let mut bench = bench(notify());
    let answer = |bench: &mut Bench, sid: &str, agent: &str| {
        let (org, sid, agent) = ("org_a".to_owned(), sid.to_owned(), Some(agent.to_owned()));
        bench.ask(|answer| Request::Answer { org, sid, agent, answer }).try_recv().unwrap()
    };
    let sid = bench.rung();
    let (reason, message) = why(answer(&mut bench, &sid, "nobody"));
    assert!(reason == Why::NotFound && message.contains("nobody"), "{message}");
    assert_eq!(bench.told(), Vec::<String>::new(), "it rings still");
    answer(&mut bench, &sid, "one").unwrap();
    assert_eq!(bench.told(), ["answer"]);
    bench.trunk(&sid, TrunkKind::Acked { leg: Some(Box::new(Silent)) });
    assert_eq!(bench.told(), ["start leg true", "agent true"]);
    let speaks = bench.board.calls[&*sid].speaks;
    assert_eq!(speaks, Some(Params::CALL), "a second leg is offered what the first one speaks");
    let (reason, message) = why(answer(&mut bench, &sid, "two"));
    assert!(reason == Why::Conflict && message.contains("answered already"), "{message}");
    assert_eq!(bench.told(), Vec::<String>::new());
    assert_eq!(bench.row(&sid).agent.as_deref(), Some("one"), "whoever speaks goes on");
}

#[test]
fn only_what_rings_here_is_answered() {
    let mut bench = Bench::new();
    let sid = bench.dialed();
    let (reason, message) = why(bench.decide("org_a", &sid, crate::call::Command::Answer));
    assert!(reason == Why::Conflict && message.contains("only calls that come in"), "{message}");
}
