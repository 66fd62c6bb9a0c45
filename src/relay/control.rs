//! The relay's control thread: everything that is slow and belongs to no shard. One tokio `current_thread` runtime.
//!
//! It answers `/healthz` and `/metrics`, and reads files of keys and revocations again when they change. It exists only where something of that is asked for, owns no session, and a shard never
//! waits for it: what it learns it puts down for the shards and rings. Its end is [`Control`]'s drop, which joins it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

use super::keyring::{KeySources, Keyring, Stamp};
use super::{Shared, http};
use crate::net::Waker;

/// What the thread has to do.
pub(super) struct Duties {
    /// Where `/healthz` and `/metrics` are answered (TCP).
    pub(super) metrics: Option<SocketAddr>,
    pub(super) shards: Arc<[Arc<Shared>]>,
    /// Where keys come from, how their files looked when they were read, and where the ring lies for the shards.
    pub(super) keys: KeySources,
    pub(super) stamp: Stamp,
    pub(super) ring: Arc<ArcSwap<Keyring>>,
    pub(super) wakers: Vec<Waker>,
}

/// How often the files of keys and revocations are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The running thread.
pub(super) struct Control {
    metrics: Option<SocketAddr>,
    ending: Option<oneshot::Sender<()>>,
    reload: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// `None`: there is nothing to do. Blocks until it serves; the error names the setting and the remedy.
    pub(super) fn start(duties: Duties) -> Result<Option<Self>, String> {
        if duties.metrics.is_none() && !duties.keys.has_files() {
            return Ok(None);
        }
        let (ending, told) = oneshot::channel();
        let reload = Arc::new(Notify::new());
        let asked = reload.clone();
        let (ready, serving) = blocking::sync_channel(1);
        let run = move || run(duties, asked, told, &ready);
        let thread = std::thread::Builder::new().name("relay-control".to_owned()).spawn(run);
        let thread = thread.map_err(|error| format!("the relay's control thread can't start: {error}"))?;
        let mut control = Self { metrics: None, ending: Some(ending), reload, thread: Some(thread) };
        control.metrics = serving.recv().map_err(|_| "the relay's control thread died at its start".to_owned())??;
        Ok(Some(control))
    }

    /// Where it answers, with the real port.
    pub(super) fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The files of keys and revocations are to be read again, however they look.
    pub(super) fn reload(&self) {
        self.reload.notify_one();
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The thread may have gone already.
        let _ = self.ending.take().map(|ending| ending.send(()));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the relay's control thread panicked");
        }
    }
}

type Ready = blocking::SyncSender<Result<Option<SocketAddr>, String>>;

fn run(duties: Duties, asked: Arc<Notify>, ending: oneshot::Receiver<()>, ready: &Ready) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(format!("the relay's control thread can't begin: {error}")))),
    };
    runtime.block_on(async {
        let listener = match listen(duties.metrics).await {
            Ok(listener) => listener,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        drop(ready.send(Ok(address)));
        let shards = duties.shards.clone();
        let serve = async {
            match listener {
                Some(listener) => http::serve(listener, shards).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = serve => {}
            () = watch(duties, &asked) => {}
            _ = ending => {}
        }
    });
    runtime.shutdown_background();
}

async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, String> {
    let Some(address) = address else { return Ok(None) };
    let refused = |error| format!("metrics {address} can't be bound ({error}): choose another TCP port");
    TcpListener::bind(address).await.map(Some).map_err(refused)
}

/// Reads keys and revocations again when their files change, or when somebody asks. Never ends.
async fn watch(duties: Duties, asked: &Notify) {
    let Duties { keys, mut stamp, ring, wakers, .. } = duties;
    loop {
        let told = tokio::time::timeout(LOOK_EVERY, asked.notified()).await.is_ok();
        let seen = keys.stamp();
        if !told && seen == stamp {
            continue;
        }
        stamp = seen;
        match keys.load() {
            Ok(read) => {
                ring.store(Arc::new(read));
                wakers.iter().for_each(Waker::wake);
            }
            Err(error) => tracing::error!("the old keys and revocations go on: {error}"),
        }
    }
}
