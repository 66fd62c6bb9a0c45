//! What outlives an engine, and what keeps one from starting.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use clutchcall::call::record::{CallRecord, Status};
use clutchcall::engine::Engine;
use clutchcall::engine::store::{Bounds, Sqlite, Store};

use crate::common::{Bench, config};

#[test]
fn an_orderly_end_is_in_the_record_and_the_key_stays() {
    let bench = Bench::new();
    let (ringing, answered) = (bench.originate("+15550009000"), bench.originate("+15550009011"));
    bench.wait(&answered, &["in_progress"]);
    let key = bench.engine.public_key();
    let Bench { engine, state } = bench;
    for file in ["calls.db", "calls.db-wal", "token.key"] {
        let mode = std::fs::metadata(state.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} is open to others");
    }
    engine.shutdown();
    let bench = Bench { engine: Engine::start(config(state.path())).unwrap(), state };
    assert_eq!(bench.engine.public_key(), key);
    for (sid, status) in [(ringing, "failed"), (answered, "completed")] {
        let row = bench.row(&sid);
        assert_eq!((&row["status"], &row["endReason"]), (&status.into(), &"server_shutdown".into()), "{row}");
        assert_eq!(bench.hangup(&sid).status, 200);
    }
}

/// An engine that dies leaves its open records behind; the next start ends them.
#[test]
fn orphans_of_a_dead_engine_are_ended() {
    let state = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&state.path().join("calls.db"), Bounds::new(100, 30, 10)).unwrap();
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let record = CallRecord {
        org_id: "org_a".to_owned(),
        status: Status::InProgress,
        to: "+15550001111".to_owned(),
        from: "+15550002222".to_owned(),
        trunk_id: "trunk_main".to_owned(),
        ..CallRecord::dialing("CA1ORPHAN".to_owned(), now_ms)
    };
    store.create(record, None).blocking_recv().unwrap().unwrap();
    drop(store);
    let bench = Bench { engine: Engine::start(config(state.path())).unwrap(), state };
    let row = bench.row("CA1ORPHAN");
    assert_eq!((&row["status"], &row["endReason"]), (&"failed".into(), &"node_lost".into()));
    assert_eq!(row["endedBy"], "system");
}

#[test]
fn what_keeps_an_engine_from_starting_is_named() {
    let bench = Bench::new();
    let error = Engine::start(config(bench.state.path())).err().unwrap();
    assert!(error.contains("another engine"), "{error}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let state = tempfile::tempdir().unwrap();
    let mut config = config(state.path());
    config.api.listen = taken.local_addr().unwrap();
    let error = Engine::start(config.clone()).err().unwrap();
    assert!(error.contains("api.listen") && error.contains("another port"), "{error}");
    // A failed start leaves nothing behind that would hinder the next.
    drop(taken);
    config.api.listen.set_port(0);
    let engine = Engine::start(config.clone()).unwrap();
    drop(engine);

    std::fs::write(state.path().join("calls.db"), [b'x'; 8192]).unwrap();
    let error = Engine::start(config).err().unwrap();
    assert!(error.contains("calls.db") && error.contains("damaged"), "{error}");
}
