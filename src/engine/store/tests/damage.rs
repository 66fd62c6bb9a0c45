//! A file that turns out damaged while it is used.

use super::*;

#[test]
fn a_damaged_store_refuses_new_calls_until_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    let store = Sqlite::open(&path, Bounds { records: 10_000, ..BOUNDS }).unwrap();
    let pending: Vec<_> = (0..4000).map(|n| store.create(if n < 2 { record(n) } else { ended(n) }, None)).collect();
    pending.into_iter().for_each(|pending| wait(pending).unwrap());
    damage(folder.path());
    let query = Query { org: "org_a".to_owned(), status: None, limit: 10_000, after: None };
    let found = wait(store.list(query.clone())).unwrap_err().to_string();
    assert!(found.contains("malformed") && found.contains("move calls.db"), "{found}");
    for _ in 0..2 {
        let refused = wait(store.create(record(5000), None)).unwrap_err().to_string();
        assert_eq!(refused, found);
    }
    store.update(ended(0));
    assert!(wait(store.flush()).is_err());
    let health = store.health();
    assert!(health.failing.is_some() && health.waiting == 1 && health.dropped == 0, "{health:?}");
    assert_eq!(wait(store.get(&record(0).sid)).unwrap().unwrap().status, Status::Completed);
    for file in ["calls.db", "calls.db-wal"] {
        std::fs::rename(folder.path().join(file), folder.path().join(format!("damaged-{file}"))).unwrap();
    }
    // The next retry finds the place free, without being asked.
    until(|| store.health().failing.is_none());
    assert_eq!(store.health().waiting, 0);
    wait(store.create(record(5000), None)).unwrap();
    store.update(ended(1));
    wait(store.flush()).unwrap();
    drop(store);
    let store = Sqlite::open(&path, BOUNDS).unwrap();
    assert_eq!(all(&store, Some(Status::Completed)), [record(1).sid, record(0).sid]);
    assert_eq!(store.health().records, 3);
}

/// What lives goes on in whatever stands in the place of a damaged file: nothing yet, or a backup that is older than the calls, or that
/// knows one as living which has ended since.
#[test]
fn calls_that_live_go_on_in_the_file_that_replaces_a_damaged_one() {
    let calls: Vec<CallRecord> = (0..4).map(record).collect();
    let over = |n: usize| CallRecord { status: Status::Completed, ..calls[n].clone() };
    let sids = |order: &[usize]| order.iter().map(|n| calls[*n].sid.clone()).collect::<Vec<_>>();
    for has_backup in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.db");
        let backup = folder.path().join("backup.db");
        // Calls 1 and 2 lived when the backup was made.
        let store = Sqlite::open(&backup, BOUNDS).unwrap();
        calls[1..3].iter().for_each(|call| wait(store.create(call.clone(), None)).unwrap());
        drop(store);
        let store = Sqlite::open(&path, Bounds { records: 10_000, ..BOUNDS }).unwrap();
        let key = |n: usize| Remembered { org: "org_a".to_owned(), key: format!("k{n}"), hash: [n as u8; 32] };
        let lives = calls.iter().enumerate().map(|(n, call)| store.create(call.clone(), Some(key(n))));
        let pending: Vec<_> = lives.chain((4..4000).map(|n| store.create(ended(n), None))).collect();
        pending.into_iter().for_each(|pending| wait(pending).unwrap());
        store.update(over(2));
        // Its dialling began later than it was asked for, which does not move it.
        let talks =
            CallRecord { status: Status::InProgress, started_ms: calls[1].started_ms + 10_000, ..calls[1].clone() };
        store.update(talks.clone());
        wait(store.flush()).unwrap();
        damage(folder.path());
        let query = Query { org: "org_a".to_owned(), status: None, limit: 10_000, after: None };
        wait(store.list(query)).unwrap_err();
        // One ends meanwhile.
        store.update(over(3));
        wait(store.flush()).unwrap_err();
        // The journal first: a retry in between finds the old file still.
        std::fs::rename(folder.path().join("calls.db-wal"), folder.path().join("damaged-wal")).unwrap();
        let (from, to) = if has_backup { (&backup, &path) } else { (&path, &backup) };
        std::fs::rename(from, to).unwrap();
        until(|| store.health().failing.is_none());
        assert_eq!(wait(store.get(&calls[0].sid)).unwrap().as_ref(), Some(&calls[0]), "nothing has changed since");
        assert_eq!(wait(store.get(&calls[1].sid)).unwrap(), Some(talks));
        assert_eq!(all(&store, Some(Status::Completed)), sids(&[3]));
        assert_eq!(all(&store, None), if has_backup { sids(&[3, 2, 1, 0]) } else { sids(&[3, 1, 0]) });
        if has_backup {
            let unseen = wait(store.get(&calls[2].sid)).unwrap().unwrap();
            assert_eq!(unseen.end_reason, Some(EndReason::NodeLost), "the engine has it no more");
        }
        for n in [0, 1, 3] {
            let recalled = wait(store.recall("org_a", &key(n).key)).unwrap();
            assert_eq!(recalled, Some(Recalled { sid: calls[n].sid.clone(), hash: key(n).hash }));
        }
        // And the next engine ends them.
        drop(store);
        let store = Sqlite::open(&path, BOUNDS).unwrap();
        assert_eq!(all(&store, Some(Status::Failed)).len(), if has_backup { 3 } else { 2 });
    }
}

/// In place: the store has the files open.
fn damage(folder: &Path) {
    for file in ["calls.db", "calls.db-wal"] {
        let path = folder.join(file);
        let length = std::fs::metadata(&path).unwrap().len() as usize;
        let mut open = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut open, &vec![b'x'; length]).unwrap();
    }
}
