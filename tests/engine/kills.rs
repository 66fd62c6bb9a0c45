//! An engine that is killed between an originate and its answer: whatever stage it had reached, the same key dials once.
//!
//! What is killed is a process: this test program again, which has a board over a store on the disk, and kills itself with SIGKILL
//! where it is told to. Its trunk notes each dial in a file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clutchcall::call::wire::RelayRef;
use clutchcall::call::{CallRecord, CallRow, Status};
use clutchcall::engine::calls::{Line, Media, Minter, Originate, Parts, Relays, Task};
use clutchcall::engine::media;
use clutchcall::engine::store::{Bounds, Health, Listed, Pending, Query, Recalled, Remembered, Sqlite, Store};
use clutchcall::engine::trunk::{Dial, Trunk};
use clutchcall::engine::webhooks::{Deliveries, Pace};
use clutchcall::token::SigningKey;
use tokio::sync::mpsc;

const STAGE: &str = "CLUTCHCALL_KILLED_AT";
const FOLDER: &str = "CLUTCHCALL_KILLED_IN";
const SIGKILL: i32 = 9;

/// Where the process dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Nothing is on the disk.
    BeforeTheWrite,
    /// The record is durable, and nobody knows.
    AfterTheWrite,
    /// The far end was dialled, and the asker was not answered.
    BeforeTheAnswer,
    Never,
}

const STAGES: [Stage; 3] = [Stage::BeforeTheWrite, Stage::AfterTheWrite, Stage::BeforeTheAnswer];

/// Does not return.
fn die() {
    Command::new("sh").args(["-c", "kill -9 $PPID"]).status().unwrap();
}

/// The real store, in a process that dies at its stage.
struct Dying {
    store: Arc<Sqlite>,
    stage: Stage,
}

impl Store for Dying {
    fn create(&self, record: CallRecord, remembered: Option<Remembered>) -> Pending<()> {
        if self.stage == Stage::BeforeTheWrite {
            die();
        }
        let pending = self.store.create(record, remembered);
        if self.stage == Stage::AfterTheWrite {
            // Its commit is on the disk when it is answered.
            std::thread::spawn(|| pending.blocking_recv().unwrap().map(|()| die())).join().unwrap().unwrap();
            unreachable!("it died");
        }
        pending
    }
    fn update(&self, record: CallRecord) {
        self.store.update(record);
    }
    fn get(&self, sid: &str) -> Pending<Option<CallRecord>> {
        self.store.get(sid)
    }
    fn list(&self, query: Query) -> Pending<Vec<Listed>> {
        self.store.list(query)
    }
    fn recall(&self, org: &str, key: &str) -> Pending<Option<Recalled>> {
        self.store.recall(org, key)
    }
    fn health(&self) -> Health {
        self.store.health()
    }
    fn flush(&self) -> Pending<()> {
        self.store.flush()
    }
}

/// Notes every dial.
struct Noting {
    dials: PathBuf,
    stage: Stage,
}

impl Trunk for Noting {
    fn dial(&mut self, dial: Dial, _now: Instant) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&self.dials).unwrap();
        writeln!(file, "{}", dial.sid).unwrap();
        if self.stage == Stage::BeforeTheAnswer {
            die();
        }
    }
    fn cancel(&mut self, _sid: &str, _now: Instant) {}
    fn bye(&mut self, _sid: &str, _now: Instant) {}
    fn transfer(&mut self, _sid: &str, _to: &str, _now: Instant) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn handle_timeout(&mut self, _now: Instant) {}
}

/// Tracks are open as soon as they are asked for.
struct Opening(mpsc::UnboundedSender<media::Event>);

impl Media for Opening {
    fn send(&mut self, command: media::Command) {
        if let media::Command::Open { sid, .. } = command {
            self.0.send(media::Event::Opened { sid }).unwrap();
        }
    }
}

fn parts(folder: &Path, stage: Stage) -> Parts {
    let store = Arc::new(Sqlite::open(&folder.join("calls.db"), Bounds::new(1000, 30, 10)).unwrap());
    let trunk = Box::new(Noting { dials: folder.join("dials"), stage });
    let line = Line {
        trunk,
        org: None,
        channel_limit: 10,
        max_cps: 10,
        caller_ids: Vec::new(),
        transfer_mode: Default::default(),
        inbound: Default::default(),
        announcement: None,
    };
    let (opened, media_events) = mpsc::unbounded_channel();
    let (key, _) = SigningKey::generate(&ring::rand::SystemRandom::new()).unwrap();
    let relay = RelayRef {
        url: "moqt://127.0.0.1:1".to_owned(),
        web_transport_url: "https://127.0.0.1:1/".to_owned(),
        certificate_hashes: Vec::new(),
        pool: 1,
    };
    Parts {
        node: "t".to_owned(),
        max_calls: 10,
        lines: BTreeMap::from([("trunk_main".to_owned(), line)]),
        trunk_events: mpsc::unbounded_channel().1,
        agents: BTreeMap::new(),
        media: Box::new(Opening(opened)),
        media_events,
        store: Arc::new(Dying { store, stage }),
        minter: Arc::new(Minter::new(key, Duration::from_secs(3600))),
        relay: Relays::new(relay, Vec::new(), None),
        metrics: Arc::default(),
        hooks: Deliveries::new(BTreeMap::new(), Pace::default(), Arc::default()).unwrap().1,
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
        remembered: Some(Remembered { org: "org_a".to_owned(), key: "k".to_owned(), hash: [7; 32] }),
        status_callback: None,
    }
}

/// Asks for the call, and once more with the same key; the rows that were answered.
fn originate(folder: &Path, stage: Stage) -> [CallRow; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (task, desk) = Task::new(parts(folder, stage));
        let asking = async { [desk.originate(asked()).await.unwrap(), desk.originate(asked()).await.unwrap()] };
        tokio::select! {
            rows = asking => rows,
            () = task.run() => unreachable!("nobody ends it"),
        }
    })
}

#[test]
#[ignore = "in a process of its own, which dies: a_key_dials_once_whenever_the_engine_is_killed"]
fn alone() {
    let stage = std::env::var(STAGE).unwrap();
    let stage = STAGES.into_iter().find(|known| format!("{known:?}") == stage).unwrap();
    originate(Path::new(&std::env::var(FOLDER).unwrap()), stage);
}

fn killed(folder: &Path, stage: Stage) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["kills::alone", "--exact", "--ignored", "--nocapture"]);
    command.env(STAGE, format!("{stage:?}")).env(FOLDER, folder).output().unwrap()
}

#[test]
fn a_key_dials_once_whenever_the_engine_is_killed() {
    for stage in STAGES {
        let folder = tempfile::tempdir().unwrap();
        let died = killed(folder.path(), stage);
        assert_eq!(died.status.signal(), Some(SIGKILL), "{stage:?}: {}", String::from_utf8_lossy(&died.stderr));
        let was_durable = stage != Stage::BeforeTheWrite;
        let [row, again] = originate(folder.path(), Stage::Never);
        assert_eq!(row, again, "{stage:?}");
        let ending = (row.status, row.end_reason.as_deref());
        let expected = if was_durable { (Status::Failed, Some("node_lost")) } else { (Status::Dialing, None) };
        assert_eq!(ending, expected, "{stage:?}");
        let dials = std::fs::read_to_string(folder.path().join("dials")).unwrap_or_default();
        let dialled = if stage == Stage::AfterTheWrite { vec![] } else { vec![row.sid.as_str()] };
        assert_eq!(dials.lines().collect::<Vec<_>>(), dialled, "{stage:?}");
        let store = Sqlite::open(&folder.path().join("calls.db"), Bounds::new(1000, 30, 10)).unwrap();
        let query = Query { org: "org_a".to_owned(), status: None, limit: 10, after: None };
        let kept = store.list(query).blocking_recv().unwrap().unwrap();
        assert_eq!(kept.iter().map(|kept| kept.place.sid.as_str()).collect::<Vec<_>>(), [row.sid], "{stage:?}");
    }
}
