//! The least that keeps a call: an axum handler that writes the row and answers it. No limits, no key, no call.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use clutchcall::call::CallRecord;
use clutchcall::engine::store::{Bounds, Sqlite};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub(crate) struct Server {
    address: String,
    ending: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    db: Connection,
    count: u64,
}

type Store = Arc<Mutex<Shared>>;

impl Server {
    /// One thread, as the engine's control plane is one.
    pub(crate) fn start(folder: &Path) -> Self {
        let file = folder.join("bare.db");
        // The engine's own tables and indexes; its writer is gone before ours begins.
        drop(Sqlite::open(&file, Bounds::new(100_000, 30, 1024)).expect("a fresh file"));
        let db = Connection::open(&file).expect("it was made");
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;").expect("as the engine's store");
        let store = Arc::new(Mutex::new(Shared { db, count: 0 }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound").to_string();
        let (ending, ended) = oneshot::channel();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let router = Router::new().route("/api/trpc/voice.calls.originate", post(originate)).with_state(store);
                let listener = tokio::net::TcpListener::from_std(listener).expect("it does not block");
                tokio::select! {
                    served = axum::serve(listener, router).into_future() => served.expect("it never ends"),
                    _ = ended => {}
                }
            });
        };
        Self { address, ending: Some(ending), thread: Some(std::thread::spawn(serve)) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.ending.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

async fn originate(State(store): State<Store>, Json(input): Json<Value>) -> Json<Value> {
    let text = |field: &str| input[field].as_str().unwrap_or_default().to_owned();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let mut shared = store.lock().expect("nobody panics with it");
    shared.count += 1;
    let mut record = CallRecord::dialing(format!("CA1{:026}", shared.count), now_ms);
    (record.org_id, record.to, record.from, record.trunk_id) =
        ("org_dev".to_owned(), text("to"), text("from"), text("trunkId"));
    let kept = serde_json::to_string(&record).expect("texts and numbers");
    let sql = "INSERT INTO calls (sid, org, created_ms, status, ended, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut insert = shared.db.prepare_cached(sql).expect("the table is there");
    insert
        .execute(params![record.sid, record.org_id, now_ms as i64, "dialing", false, kept])
        .expect("the disk has room");
    Json(json!({ "result": { "data": record.row() } }))
}
