//! The board in virtual time: a scripted trunk says what a far end can say, the store is the real one.

mod arrivals;
mod keys;
mod legs;
mod press;
mod scripted;
mod stored;
mod trunks;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use ring::rand::SystemRandom;

use super::board::{Board, Saving};
use super::*;
use crate::audio::{Codec, Frame};
use crate::call::{EndReason, Status};
use crate::engine::leg::Leg;
use crate::engine::media::{Command, Event};
use crate::engine::store::{Bounds, Sqlite};
use crate::engine::trunk::{Keys, TrunkEvent, TrunkKind};
use crate::token::SigningKey;
use crate::tracks::Side;
use scripted::Scripted;

type Log = Arc<Mutex<Vec<String>>>;

struct Silent;

impl Leg for Silent {
    fn params(&self) -> Params {
        Params::CALL
    }
    fn pull(&mut self, _now: Instant) -> Option<Frame> {
        None
    }
    fn push(&mut self, _frame: Option<&Frame>, _now: Instant) {}
}

impl Agent for Silent {
    fn params(&self, call: Params) -> Params {
        call
    }
    fn hear(&mut self, _frame: &Frame, _now: Instant) {}
    fn say(&mut self, _now: Instant) -> Option<Frame> {
        None
    }
}

struct Threads(Log);

impl Media for Threads {
    fn send(&mut self, command: Command) {
        let word = match command {
            Command::Open { caller, .. } => format!("open {caller:?}"),
            Command::Early { .. } => "early leg".to_owned(),
            Command::Start { leg, .. } => format!("start leg {}", leg.is_some()),
            Command::Rendition { side, params, .. } => format!("rendition {} {}", side.as_str(), params.rendition()),
            Command::Agent { agent, .. } => format!("agent {}", agent.is_some()),
            Command::Key { key, duration_ms, second, .. } => {
                format!("{}key {key} {duration_ms}ms", if second { "second " } else { "" })
            }
            Command::Close { .. } => "close".to_owned(),
        };
        self.0.lock().unwrap().push(word);
    }
}

struct Bench {
    board: Board,
    now: Instant,
    store: Arc<Sqlite>,
    log: Log,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(100, 100)
    }

    fn with(channel_limit: usize, max_cps: usize) -> Self {
        Self::bounded(channel_limit, max_cps, Bounds::new(1000, 30, 10))
    }

    fn bounded(channel_limit: usize, max_cps: usize, bounds: Bounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(&folder.path().join("calls.db"), bounds).unwrap());
        let log = Log::default();
        let trunk = Box::new(Scripted::new(&log));
        let line = Line {
            trunk,
            org: None,
            channel_limit,
            max_cps,
            caller_ids: Vec::new(),
            transfer_mode: TransferMode::Refer,
            inbound: Inbound::default(),
            announcement: None,
        };
        let silent: MakeAgent = Arc::new(|| Box::new(Silent));
        let agents = ["one", "two"].map(|id| (id.to_owned(), Arc::clone(&silent)));
        let (key, _) = SigningKey::generate(&SystemRandom::new()).unwrap();
        let parts = Parts {
            node: "t".to_owned(),
            max_calls: 1000,
            lines: BTreeMap::from([("trunk_main".to_owned(), line)]),
            trunk_events: mpsc::unbounded_channel().1,
            agents: BTreeMap::from(agents),
            media: Box::new(Threads(Arc::clone(&log))),
            media_events: mpsc::unbounded_channel().1,
            store: store.clone(),
            minter: Arc::new(Minter::new(key, Duration::from_secs(3600))),
            relay: Relays::new(
                RelayRef {
                    url: "moqt://127.0.0.1:1".to_owned(),
                    web_transport_url: "https://127.0.0.1:1/".to_owned(),
                    certificate_hashes: Vec::new(),
                    pool: 1,
                },
                Vec::new(),
                None,
            ),
            metrics: Arc::default(),
            hooks: crate::engine::webhooks::Hooks::of_tests(),
        };
        Self { board: Board::new(parts).0, now: Instant::now(), store, log, _folder: folder }
    }

    fn ask<T>(&mut self, request: impl FnOnce(Answer<T>) -> Request) -> oneshot::Receiver<Result<T, Refused>> {
        let (answer, pending) = oneshot::channel();
        self.board.handle_request(request(answer), self.now);
        pending
    }

    /// Waits for the disk, as the task does.
    fn save(&mut self) {
        while let Some(Saving { sid, pending }) = self.board.savings.pop_front() {
            let outcome = pending.blocking_recv().unwrap();
            self.board.handle_saved(&sid, outcome, self.now);
        }
    }

    fn originate(&mut self, asked: Originate) -> Result<CallRow, Refused> {
        let mut pending = self.ask(|answer| Request::Originate(Box::new(asked), answer));
        if let Ok(refused) = pending.try_recv() {
            return refused;
        }
        self.save();
        let opened: Vec<_> = self.board.open_media.iter().cloned().collect();
        opened.into_iter().for_each(|sid| self.board.handle_media(Event::Opened { sid }, self.now));
        pending.try_recv().unwrap()
    }

    /// A call in `dialing`.
    fn dialed(&mut self) -> String {
        self.originate(asked()).unwrap().sid
    }

    fn answered(&mut self) -> String {
        let sid = self.dialed();
        self.trunk(&sid, TrunkKind::Answered { leg: Some(Box::new(Silent)) });
        sid
    }

    fn trunk(&mut self, sid: &str, kind: TrunkKind) {
        self.board.handle_trunk(TrunkEvent { sid: sid.to_owned(), kind }, self.now);
    }

    fn row(&mut self, sid: &str) -> CallRow {
        let sid = sid.to_owned();
        let mut row = self.ask(|answer| Request::Get { org: "org_a".to_owned(), sid, answer });
        row.try_recv().unwrap().unwrap()
    }

    fn hangup(&mut self, sid: &str) {
        let sid = sid.to_owned();
        let mut done = self.ask(|answer| Request::Hangup { org: "org_a".to_owned(), sid, answer });
        done.try_recv().unwrap().unwrap();
    }

    fn agent(&mut self, sid: &str, agent: &str) -> Result<(), Refused> {
        let (org, sid, agent) = ("org_a".to_owned(), sid.to_owned(), agent.to_owned());
        self.ask(|answer| Request::Agent { org, sid, agent, answer }).try_recv().unwrap()
    }

    fn transfer(&mut self, sid: &str, to: &str) -> oneshot::Receiver<Result<Settled, Refused>> {
        let (org, sid, to) = ("org_a".to_owned(), sid.to_owned(), to.to_owned());
        self.ask(|answer| Request::Transfer { org, sid, to, answer })
    }

    fn attach(&mut self, sid: &str, holder: &str, role: BridgeRole, params: Params) -> Result<TokenAnswer, Refused> {
        let (org, sid, holder) = ("org_a".to_owned(), sid.to_owned(), holder.to_owned());
        let asked = Attach { org, sid, role, params, holder };
        self.ask(|answer| Request::Attach(Box::new(asked), answer)).try_recv().unwrap()
    }

    fn serve(&mut self, sid: &str, holder: &str) -> Result<TokenAnswer, Refused> {
        self.attach(sid, holder, BridgeRole::Server, Params::CALL)
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.board.handle_timeout(self.now);
    }

    /// What trunk and audio threads were told since the last look.
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// Status and end reason, in memory and on the disk.
    fn ending(&mut self, sid: &str) -> (Status, Option<String>) {
        let row = self.row(sid);
        self.store.flush().blocking_recv().unwrap().unwrap();
        let stored = self.store.get(sid).blocking_recv().unwrap().unwrap().unwrap();
        assert_eq!(stored.row(), row, "disk and memory disagree");
        (row.status, row.end_reason)
    }
}

fn asked() -> Originate {
    Originate {
        org: "org_a".to_owned(),
        to: "+15550001".to_owned(),
        from: "+15550002".to_owned(),
        trunk_id: "trunk_main".to_owned(),
        agent: None,
        ring_timeout_s: 30,
        max_duration_s: None,
        metadata: Default::default(),
        send_digits: None,
        carried: Default::default(),
        remembered: None,
        status_callback: None,
    }
}

fn why<T: std::fmt::Debug>(answer: Result<T, Refused>) -> (Why, String) {
    let refused = answer.unwrap_err();
    (refused.why, refused.message)
}

#[test]
fn durable_then_open_then_dialed_then_answered() {
    let mut bench = Bench::new();
    let mut pending = bench.ask(|answer| Request::Originate(Box::new(asked()), answer));
    assert!(bench.told().is_empty(), "nothing happens before the record is durable");
    bench.save();
    assert_eq!(bench.told(), ["open Leg"]);
    assert!(pending.try_recv().is_err(), "no answer before the tracks are open");
    let sid = bench.board.open_media.iter().next().unwrap().clone();
    assert!(bench.store.get(&sid).blocking_recv().unwrap().unwrap().is_some());
    bench.board.handle_media(Event::Opened { sid }, bench.now);
    assert_eq!(bench.told(), ["dial +15550001 30s"]);
    assert_eq!(pending.try_recv().unwrap().unwrap().status, Status::Dialing);
}

#[test]
fn an_audio_thread_that_says_nothing_does_not_hold_up_the_call() {
    let mut bench = Bench::new();
    let mut pending = bench.ask(|answer| Request::Originate(Box::new(asked()), answer));
    bench.save();
    bench.pass(3);
    assert_eq!(bench.told(), ["open Leg", "dial +15550001 30s"]);
    assert_eq!(pending.try_recv().unwrap().unwrap().status, Status::Dialing);
}

#[test]
fn a_whole_call() {
    let mut bench = Bench::new();
    let sid = bench.dialed();
    bench.trunk(&sid, TrunkKind::Progress { code: 180 });
    assert_eq!(bench.row(&sid).status, Status::Ringing);
    bench.trunk(&sid, TrunkKind::Answered { leg: Some(Box::new(Silent)) });
    assert_eq!(bench.row(&sid).status, Status::InProgress);
    bench.trunk(&sid, TrunkKind::Bye { q850: None });
    assert_eq!(bench.ending(&sid), (Status::Completed, Some("normal".to_owned())));
    assert_eq!(bench.told()[2..], ["start leg true", "close"]);
    bench.hangup(&sid); // of an ended call
    assert!(bench.told().is_empty());
}

#[test]
fn every_ending() {
    type Script = fn(&mut Bench, &str);
    let table: &[(&str, Status, Script)] = &[
        ("busy", Status::Failed, |b, sid| {
            b.trunk(sid, TrunkKind::Rejected { code: 486, reason: String::new(), q850: None })
        }),
        ("declined", Status::Failed, |b, sid| {
            b.trunk(sid, TrunkKind::Rejected { code: 603, reason: String::new(), q850: None })
        }),
        ("not_found", Status::Failed, |b, sid| {
            b.trunk(sid, TrunkKind::Rejected { code: 404, reason: String::new(), q850: None })
        }),
        ("unavailable", Status::Failed, |b, sid| {
            b.trunk(sid, TrunkKind::Rejected { code: 480, reason: String::new(), q850: None })
        }),
        ("network_error", Status::Failed, |b, sid| b.trunk(sid, TrunkKind::Unreachable { reason: String::new() })),
        ("no_response", Status::Failed, |b, _| b.pass(30)),
        ("canceled", Status::Failed, |b, sid| b.hangup(sid)),
        ("remote_timeout", Status::NoAnswer, |b, sid| {
            b.trunk(sid, TrunkKind::Progress { code: 180 });
            b.trunk(sid, TrunkKind::Rejected { code: 480, reason: String::new(), q850: None });
        }),
        ("ring_timeout", Status::NoAnswer, |b, sid| {
            b.trunk(sid, TrunkKind::Progress { code: 180 });
            b.pass(30);
        }),
        ("normal", Status::Completed, |b, sid| {
            b.trunk(sid, TrunkKind::Answered { leg: None });
            b.hangup(sid);
        }),
        ("max_duration", Status::Completed, |b, sid| {
            b.trunk(sid, TrunkKind::Answered { leg: None });
            b.pass(60);
        }),
        ("transferred", Status::Completed, |b, sid| {
            b.trunk(sid, TrunkKind::Answered { leg: None });
            drop(b.transfer(sid, "+15550009"));
            b.trunk(sid, TrunkKind::TransferAccepted);
            b.trunk(sid, TrunkKind::TransferOutcome { code: 200 });
        }),
        ("session_expired", Status::Completed, |b, sid| {
            b.trunk(sid, TrunkKind::Answered { leg: None });
            b.trunk(sid, TrunkKind::SessionExpired);
        }),
        ("media_timeout", Status::Completed, |b, sid| {
            b.trunk(sid, TrunkKind::Answered { leg: None });
            b.board.handle_media(Event::Silent { sid: sid.into() }, b.now);
        }),
        ("server_shutdown", Status::Failed, |b, _| drop(b.ask(|answer| Request::Shutdown { answer }))),
        ("server_shutdown", Status::Completed, |b, sid| {
            b.trunk(sid, TrunkKind::Answered { leg: None });
            drop(b.ask(|answer| Request::Shutdown { answer }));
        }),
    ];
    for (reason, status, script) in table {
        let mut bench = Bench::new();
        let sid = bench.originate(Originate { max_duration_s: Some(60), ..asked() }).unwrap().sid;
        script(&mut bench, &sid);
        assert_eq!(bench.ending(&sid), (*status, Some((*reason).to_owned())), "{reason}");
        assert_eq!(bench.told().last().map(String::as_str), Some("close"), "{reason}: the tracks stay open");
    }
}

#[test]
fn hung_up_and_shut_down_before_it_is_dialed() {
    for shut_down in [false, true] {
        let mut bench = Bench::new();
        let mut pending = bench.ask(|answer| Request::Originate(Box::new(asked()), answer));
        let sid = bench.board.calls.keys().next().unwrap().to_string();
        if shut_down {
            bench.ask(|answer| Request::Shutdown { answer }).try_recv().unwrap().unwrap();
        } else {
            bench.hangup(&sid);
        }
        bench.save();
        assert_eq!(bench.told(), ["open Leg", "close"], "it was dialed after all");
        let reason = if shut_down { EndReason::ServerShutdown } else { EndReason::Canceled };
        assert_eq!(bench.ending(&sid), (Status::Failed, Some(reason.as_str().to_owned())));
        assert_eq!(pending.try_recv().unwrap().is_err(), shut_down);
        if shut_down {
            assert_eq!(bench.originate(asked()).unwrap_err().why, Why::Unavailable);
        }
    }
}

#[test]
fn a_call_that_nobody_waits_for_is_not_dialed_unless_its_key_can_ask_again() {
    for keyed in [false, true] {
        let mut bench = Bench::new();
        let remembered = Remembered { org: "org_a".to_owned(), key: "k".to_owned(), hash: [0; 32] };
        let asked = Originate { remembered: keyed.then_some(remembered), ..asked() };
        drop(bench.ask(|answer| Request::Originate(Box::new(asked), answer)));
        bench.save();
        let sid = bench.board.open_media.iter().next().unwrap().clone();
        bench.board.handle_media(Event::Opened { sid }, bench.now);
        assert_eq!(bench.told().contains(&"dial +15550001 30s".to_owned()), keyed);
    }
}

#[test]
fn limits_name_their_trunk_and_come_back() {
    let mut bench = Bench::with(2, 100);
    let first = bench.dialed();
    bench.dialed();
    let (reason, message) = why(bench.originate(asked()));
    assert!(reason == Why::TooMany && message.contains("trunk_main") && message.contains("channel_limit"), "{message}");
    bench.hangup(&first);
    bench.hangup(&first);
    bench.dialed();
    assert!(bench.originate(asked()).is_err(), "one end counts once");

    let mut bench = Bench::with(100, 2);
    bench.dialed();
    bench.dialed();
    bench.told();
    // A call beyond it waits as long as it may ring; one that would wait longer is refused.
    let waiting = bench.originate(Originate { ring_timeout_s: 5, ..asked() }).unwrap();
    assert_eq!((waiting.status, bench.told()), (Status::Dialing, vec!["open Leg".to_owned()]));
    let more: Vec<_> = (0..7).map(|_| bench.dialed()).collect();
    let refused = bench.originate(Originate { ring_timeout_s: 4, ..asked() }).unwrap_err();
    assert!(refused.why == Why::TooMany && refused.message.contains("max_cps"), "{refused:?}");
    assert_eq!(refused.retry_after, Some(Duration::from_secs(1)));
    more.iter().for_each(|sid| bench.hangup(sid));
    bench.told();
    bench.pass(1);
    assert_eq!(bench.told(), ["dial +15550001 5s"]);
}

#[test]
fn unknown_names_are_refused_before_anything_happens() {
    let mut bench = Bench::new();
    let (reason, message) = why(bench.originate(Originate { trunk_id: "nope".to_owned(), ..asked() }));
    assert!(reason == Why::NotFound && message.contains("trunkId \"nope\"") && message.contains("trunk_main"));
    let (reason, message) = why(bench.originate(Originate { agent: Some("nope".to_owned()), ..asked() }));
    assert!(reason == Why::NotFound && message.contains("agent \"nope\"") && message.contains("one, two"));
    let sid = bench.dialed();
    assert_eq!(why(bench.agent(&sid, "nope")).0, Why::NotFound);
    let mut foreign = bench.ask(|answer| Request::Get { org: "org_b".to_owned(), sid: sid.clone(), answer });
    assert_eq!(foreign.try_recv().unwrap().unwrap_err(), Refused::unknown_sid(&sid));
}

#[test]
fn an_agent_speaks_from_the_answer_on() {
    let mut bench = Bench::new();
    let sid = bench.originate(Originate { agent: Some("one".to_owned()), ..asked() }).unwrap().sid;
    bench.agent(&sid, "two").unwrap();
    assert!(!bench.told().contains(&"agent true".to_owned()), "nobody is there yet");
    bench.trunk(&sid, TrunkKind::Answered { leg: Some(Box::new(Silent)) });
    assert_eq!(bench.told(), ["start leg true", "agent true"]);
    assert_eq!(bench.row(&sid).agent.as_deref(), Some("two"));
    bench.agent(&sid, "one").unwrap();
    assert_eq!(bench.told(), ["agent true"]);
    let (reason, message) = why(bench.serve(&sid, "bridge"));
    assert!(reason == Why::Conflict && message.contains("agent \"one\""), "{message}");
    bench.board.handle_media(Event::AgentEnded { sid: sid.as_str().into(), reason: "x".to_owned() }, bench.now);
    bench.serve(&sid, "bridge").unwrap();
    // A bridge that was there first may renew its token: what it says is dropped while the agent speaks.
    bench.agent(&sid, "one").unwrap();
    bench.serve(&sid, "bridge").unwrap();
    bench.hangup(&sid);
    let refused = bench.agent(&sid, "one").unwrap_err();
    assert_eq!((refused.why, refused.end_reason.as_deref()), (Why::Conflict, Some("normal")));
}

#[test]
fn bridges_are_told_their_tracks_and_take_turns() {
    let mut bench = Bench::new();
    let sid = bench.dialed();
    let token = bench.serve(&sid, "a").unwrap();
    assert_eq!(token.publish.namespace, ["voice", &sid, "downlink"]);
    assert_eq!(token.subscribe.namespace, ["voice", &sid, "uplink"]);
    assert_eq!((token.publish.name.as_str(), token.relay.pool), ("audio", 1));
    assert_eq!(why(bench.serve(&sid, "b")).0, Why::Conflict);
    bench.serve(&sid, "a").unwrap();
    bench.told();
    let pcm = Params::new(Codec::Pcm16, Some(16_000), 1, 20).unwrap();
    let other = bench.attach(&sid, "b", BridgeRole::Server, pcm).unwrap();
    assert_eq!(other.publish.name, "audio.pcm16.16000");
    let told = bench.told();
    assert_eq!(told, ["rendition uplink audio.pcm16.16000", "rendition downlink audio.pcm16.16000"]);
    let lost =
        |live| Event::Speaking { sid: sid.as_str().into(), side: Side::Downlink, rendition: "audio".to_owned(), live };
    bench.board.handle_media(lost(true), bench.now);
    bench.pass(20);
    assert!(bench.serve(&sid, "b").is_err());
    bench.board.handle_media(lost(false), bench.now);
    bench.serve(&sid, "b").unwrap();
}

#[test]
fn the_caller_is_spoken_for_only_where_nobody_is() {
    let mut bench = Bench::new();
    let sid = bench.dialed();
    let (reason, message) = why(bench.attach(&sid, "c", BridgeRole::Caller, Params::CALL));
    assert!(reason == Why::Conflict && message.contains("attach_caller"), "{message}");
    bench.told();
    let empty = bench.originate(Originate { to: "+15550000".to_owned(), ..asked() }).unwrap().sid;
    assert_eq!(bench.told()[0], "open Bridge");
    let token = bench.attach(&empty, "c", BridgeRole::Caller, Params::CALL).unwrap();
    assert_eq!(token.publish.namespace[2], "uplink");
    bench.serve(&empty, "s").unwrap();
    bench.hangup(&empty);
    let refused = bench.serve(&empty, "s").unwrap_err();
    assert_eq!((refused.why, refused.end_reason.as_deref()), (Why::Conflict, Some("canceled")));
}

#[test]
fn transfers_wait_for_their_outcome() {
    let mut bench = Bench::new();
    let sid = bench.dialed();
    let mut early = bench.transfer(&sid, "+15550009");
    assert!(why(early.try_recv().unwrap()).1.contains("in_progress"));
    bench.trunk(&sid, TrunkKind::Answered { leg: None });
    let mut first = bench.transfer(&sid, "+15550009");
    let mut same = bench.transfer(&sid, "+15550009");
    let mut other = bench.transfer(&sid, "+15550008");
    assert_eq!(why(other.try_recv().unwrap()).0, Why::Conflict);
    assert!(first.try_recv().is_err());
    bench.trunk(&sid, TrunkKind::TransferRefused { code: 603 });
    assert_eq!(first.try_recv().unwrap(), Ok(Settled::Refused { code: 603 }));
    assert_eq!(same.try_recv().unwrap(), Ok(Settled::Refused { code: 603 }));
    assert_eq!(bench.row(&sid).status, Status::InProgress);
    let mut second = bench.transfer(&sid, "+15550009");
    bench.pass(20);
    assert_eq!(second.try_recv().unwrap(), Ok(Settled::Undecided));
    bench.trunk(&sid, TrunkKind::TransferAccepted);
    assert_eq!(bench.row(&sid).status, Status::InProgress);
    bench.trunk(&sid, TrunkKind::Bye { q850: None });
    let row = bench.row(&sid);
    assert_eq!((row.end_reason.as_deref(), row.transferred_to.as_deref()), (Some("transferred"), Some("+15550009")));
}

#[test]
fn an_answer_that_crosses_our_cancel_is_hung_up() {
    let mut bench = Bench::new();
    let sid = bench.dialed();
    bench.hangup(&sid);
    bench.told();
    bench.trunk(&sid, TrunkKind::Answered { leg: Some(Box::new(Silent)) });
    assert_eq!(bench.told(), ["bye"]);
    assert_eq!(bench.ending(&sid), (Status::Failed, Some("canceled".to_owned())));
}
