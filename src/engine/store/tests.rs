//! The store over a file of its own. What becomes of a damaged one stands in `damage`.

mod damage;

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::call::EndReason;

const BOUNDS: Bounds = Bounds { records: 1000, days: 30, pages: 4096 };

fn record(n: u64) -> CallRecord {
    CallRecord {
        org_id: "org_a".to_owned(),
        to: "+15550001".to_owned(),
        from: "+15550002".to_owned(),
        trunk_id: "trunk_main".to_owned(),
        ..CallRecord::dialing(format!("CA1{n:04}"), sqlite::unix_ms() + n)
    }
}

fn ended(n: u64) -> CallRecord {
    CallRecord { status: Status::Completed, end_reason: Some(EndReason::Normal), ..record(n) }
}

fn wait<T>(pending: Pending<T>) -> Result<T, StoreError> {
    pending.blocking_recv().expect("the store answers every question")
}

fn all(store: &Sqlite, status: Option<Status>) -> Vec<String> {
    let query = Query { org: "org_a".to_owned(), status, limit: 10_000, after: None };
    wait(store.list(query)).unwrap().into_iter().map(|row| row.place.sid).collect()
}

#[test]
fn an_engine_that_died_leaves_no_open_call() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    for n in 0..3 {
        wait(store.create(record(n), None)).unwrap();
    }
    store.update(ended(2));
    drop(store);
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    let orphan = wait(store.get("CA10000")).unwrap().unwrap();
    assert_eq!((orphan.status, orphan.end_reason), (Status::Failed, Some(EndReason::NodeLost)));
    assert!(orphan.ended_ms.unwrap() >= orphan.started_ms);
    assert_eq!(wait(store.get("CA10002")).unwrap().unwrap().end_reason, Some(EndReason::Normal));
    assert_eq!(all(&store, Some(Status::Failed)), ["CA10001", "CA10000"]);
    assert_eq!(wait(store.get("nobody")).unwrap(), None);
}

#[test]
fn one_engine_per_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    let _first = Sqlite::open(&path, BOUNDS).unwrap();
    let error = Sqlite::open(&path, BOUNDS).err().unwrap();
    assert!(error.contains("another engine") && error.contains("calls.db"), "{error}");
}

#[test]
fn what_is_no_store_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let error = Sqlite::open(&path, BOUNDS).err().unwrap();
    assert!(error.contains("damaged") && error.contains("calls.db"), "{error}");
    let error = Sqlite::open(folder.path(), BOUNDS).err().unwrap();
    assert!(error.contains("state folder"), "{error}");
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let error = Sqlite::open(&fifo, BOUNDS).err().unwrap();
    assert!(error.contains("it is a FIFO"), "{error}");
}

#[test]
fn pages_of_a_list_meet_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("calls.db"), BOUNDS).unwrap();
    let base = record(0).started_ms;
    for n in 0..7 {
        // Calls of the same millisecond have an order too.
        wait(store.create(CallRecord { started_ms: base + n / 3, ..record(n) }, None)).unwrap();
    }
    wait(store.create(CallRecord { org_id: "org_b".to_owned(), ..record(9) }, None)).unwrap();
    let before = all(&store, None);
    assert_eq!(before.len(), 7);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = wait(store.list(Query { org: "org_a".to_owned(), status: None, limit: 2, after })).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.place.clone());
        seen.extend(page.into_iter().map(|row| row.place.sid));
        // Meanwhile new calls come, and those that nobody has seen yet are dialled later than they were created.
        let newer = record(100 + seen.len() as u64);
        wait(store.create(newer, None)).unwrap();
        (0..3).for_each(|n| store.update(CallRecord { started_ms: base + 1000, ..record(n) }));
    }
    assert_eq!(seen, before);
}

#[test]
fn a_list_of_one_status_reads_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    drop(Sqlite::open(&path, BOUNDS).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    let plan = |status: &str| {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT record FROM calls WHERE org = 'a' {status} AND (created_ms, sid) < (1, '')
             ORDER BY created_ms DESC, sid DESC LIMIT 1"
        );
        db.query_row(&sql, [], |row| row.get::<_, String>(3)).unwrap()
    };
    assert!(plan("").contains("calls_of_org"), "{}", plan(""));
    assert!(plan("AND status = 'ringing'").contains("calls_of_status"), "{}", plan("AND status = 'ringing'"));
}

/// `tests/data/store` keeps a file of each released layout, as its engine left it.
#[test]
fn files_of_every_release_are_read() {
    let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store");
    let folder = tempfile::tempdir().unwrap();
    for version in 1..schema::VERSION {
        let path = folder.path().join(format!("v{version}.db"));
        std::fs::copy(released.join(format!("v{version}.db")), &path).unwrap();
        let rows = |path: &Path| {
            let db = rusqlite::Connection::open(path).unwrap();
            let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
            let mut all = db.prepare("SELECT record FROM calls ORDER BY sid").unwrap();
            let texts: Vec<String> = all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            (version, texts)
        };
        let (before, texts) = rows(&path);
        assert!(before == version && texts.len() >= 5, "v{version} has {} calls of version {before}", texts.len());
        // Twice: what was led up stays as it is.
        for _ in 0..2 {
            let store = Sqlite::open(&path, Bounds { days: 100_000, ..BOUNDS }).unwrap();
            for text in &texts {
                let old: CallRecord = serde_json::from_str(text).unwrap();
                let mut ended = old.clone();
                ended.orphan(0);
                let found = wait(store.get(&old.sid)).unwrap().unwrap();
                let end = CallRecord { ended_ms: found.ended_ms, ..ended };
                assert_eq!(found, end, "v{version}");
            }
            let org = serde_json::from_str::<CallRecord>(&texts[0]).unwrap().org_id;
            let listed = wait(store.list(Query { org: org.clone(), status: None, limit: 500, after: None })).unwrap();
            assert_eq!(listed.len(), texts.len());
            assert!(listed.is_sorted_by(|newer, older| newer.place > older.place));
            drop(store);
        }
        assert_eq!(rows(&path).0, schema::VERSION);
    }
}

#[test]
fn a_newer_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    drop(Sqlite::open(&path, BOUNDS).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    drop(db);
    let error = Sqlite::open(&path, BOUNDS).err().unwrap();
    assert!(error.contains("newer version"), "{error}");
    let db = rusqlite::Connection::open(&path).unwrap();
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, schema::VERSION + 1);
}

/// A step that fails half-way leaves the old layout whole.
#[test]
fn a_file_that_cant_be_led_up_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store/v1.db"), &path).unwrap();
    let db = rusqlite::Connection::open(&path).unwrap();
    // The second half of the second step finds its name taken.
    db.execute_batch("CREATE TABLE calls_of_status (x)").unwrap();
    drop(db);
    assert!(Sqlite::open(&path, BOUNDS).err().unwrap().contains("calls_of_status"));
    let db = rusqlite::Connection::open(&path).unwrap();
    db.prepare("SELECT started_ms FROM calls").expect("the first half was taken back");
    db.execute_batch("DROP TABLE calls_of_status").unwrap();
    drop(db);
    Sqlite::open(&path, BOUNDS).unwrap();
}

#[test]
fn a_request_is_remembered_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    let remembered = |hash| Remembered { org: "org_a".to_owned(), key: "k".to_owned(), hash: [hash; 32] };
    wait(store.create(record(1), Some(remembered(7)))).unwrap();
    drop(store);
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    let recalled = wait(store.recall("org_a", "k")).unwrap();
    assert_eq!(recalled, Some(Recalled { sid: "CA10001".to_owned(), hash: [7; 32] }));
    assert_eq!(wait(store.recall("org_b", "k")).unwrap(), None);
}

#[test]
fn a_request_is_remembered_for_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    let hours = 3_600_000;
    for (n, ago_ms, is_known) in [(1, 24 * hours - 60_000, true), (2, 24 * hours + 1, false)] {
        let store = Sqlite::open(&path, BOUNDS).unwrap();
        let remembered = Remembered { org: "org_a".to_owned(), key: n.to_string(), hash: [7; 32] };
        wait(store.create(record(n), Some(remembered))).unwrap();
        drop(store);
        let db = rusqlite::Connection::open(&path).unwrap();
        let sql = "UPDATE requests SET asked_ms = asked_ms - ?1 WHERE key = ?2";
        assert_eq!(db.execute(sql, rusqlite::params![ago_ms, n.to_string()]).unwrap(), 1);
        drop(db);
        let store = Sqlite::open(&path, BOUNDS).unwrap();
        assert_eq!(wait(store.recall("org_a", &n.to_string())).unwrap().is_some(), is_known, "{ago_ms} ms ago");
        assert!(wait(store.get(&record(n).sid)).unwrap().is_some(), "its call stays");
    }
}

#[test]
fn the_oldest_ended_calls_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    let old = CallRecord { started_ms: 1000, ..ended(0) };
    wait(store.create(old, None)).unwrap();
    for n in 1..20 {
        wait(store.create(ended(n), None)).unwrap();
    }
    drop(store);
    let store = Sqlite::open(&path, Bounds { records: 5, ..BOUNDS }).unwrap();
    assert_eq!(all(&store, None), (15..20).rev().map(|n| record(n).sid).collect::<Vec<_>>());
    let Health { records, forgotten, .. } = store.health();
    assert_eq!((records, forgotten), (5, Forgotten { by_age: 1, by_number: 14, by_size: 0 }));
}

#[test]
fn age_is_looked_at_when_nobody_calls() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    let store = Sqlite::swept(&path, BOUNDS, Duration::from_millis(20)).unwrap();
    wait(store.create(CallRecord { started_ms: 1000, ..ended(0) }, None)).unwrap();
    wait(store.create(CallRecord { started_ms: 1000, ..record(1) }, None)).unwrap();
    until(|| store.health().forgotten.by_age == 1);
    assert_eq!(all(&store, None), [record(1).sid], "a call that lives is never too old");
}

fn until(so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A file that can't grow: live calls go on in memory, a new one is refused by cause, and all is well once there is room.
#[test]
fn a_full_store_refuses_new_calls_and_loses_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    let store = Sqlite::open(&path, Bounds { pages: 24, ..BOUNDS }).unwrap();
    let mut live = 0;
    let refusal = loop {
        match wait(store.create(record(live), None)) {
            Ok(()) => live += 1,
            Err(error) => break error.to_string(),
        }
        assert!(live < 10_000, "the pages never fill");
    };
    assert!(refusal.contains("full") && refusal.contains("limits.store_mb"), "{refusal}");
    assert!(wait(store.get(&record(live).sid)).unwrap().is_none(), "a refused call left a record");
    // Too long for all pages together: these changes wait.
    let long = |n| CallRecord { sip_phrase: Some("x".repeat(3000)), ..record(n) };
    (0..live).for_each(|n| store.update(long(n)));
    assert!(wait(store.flush()).is_err());
    let health = store.health();
    assert!(health.failing.is_some() && health.waiting > 0 && health.dropped == 0, "{health:?}");
    assert!(wait(store.create(record(9000), None)).unwrap_err().to_string().contains("full"));
    // What only waits is what is true.
    assert!(wait(store.get(&record(0).sid)).unwrap().unwrap().sip_phrase.is_some());
    let listed = wait(store.list(Query { org: "org_a".to_owned(), status: None, limit: 10_000, after: None })).unwrap();
    assert!(listed.len() as u64 == live && listed.iter().all(|row| row.record.sip_phrase.is_some()));
    // A call is found by the status that it has, not by the one that the disk knows; page by page, too.
    store.update(CallRecord { status: Status::Ringing, ..long(live / 2) });
    store.update(CallRecord { status: Status::Ringing, ..long(3) });
    assert_eq!(all(&store, Some(Status::Ringing)), [record(live / 2).sid, record(3).sid]);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let query = Query { org: "org_a".to_owned(), status: Some(Status::Dialing), limit: 2, after };
        let page = wait(store.list(query)).unwrap();
        assert!(page.len() == 2 || seen.len() + page.len() == live as usize - 2, "a page is short in mid-list");
        let Some(last) = page.last() else { break };
        after = Some(last.place.clone());
        seen.extend(page.into_iter().map(|row| row.place.sid));
    }
    let others = (0..live).rev().filter(|n| ![live / 2, 3].contains(n));
    assert_eq!(seen, others.map(|n| record(n).sid).collect::<Vec<_>>());
    // The calls end with short records: they fit, and may be forgotten in favour of new ones.
    (0..live).for_each(|n| store.update(ended(n)));
    wait(store.flush()).unwrap();
    assert_eq!(store.health().waiting, 0);
    wait(store.create(record(9001), None)).unwrap();
    assert!(store.health().forgotten.by_size > 0, "{:?}", store.health());
    assert!(all(&store, Some(Status::Dialing)).contains(&record(9001).sid));
}

/// Whoever finds the damage first: from then on nothing is written, live calls go on in memory, and what stands in the file's place later
/// takes all that waited.
#[test]
fn too_many_waiting_changes_cost_the_oldest_ended_call() {
    let mut queue = queue::Queue::default();
    queue.change(record(0));
    queue.change(ended(1));
    for n in 2..=MAX_WAITING as u64 {
        queue.change(record(n));
    }
    assert_eq!(queue.health().dropped, 1);
    let taken = queue.take_changes();
    assert_eq!(taken.len(), MAX_WAITING);
    assert!(taken.iter().all(|record| !record.status.is_terminal()));
    // A newer state wins over one that comes back.
    queue.change(ended(5));
    queue.put_back(vec![record(4), record(5)]);
    let taken = queue.take_changes();
    assert_eq!(taken.iter().map(|record| record.status).collect::<Vec<_>>(), [Status::Dialing, Status::Completed]);
}
