//! The relay's control thread: everything that is slow and belongs to no shard. One tokio `current_thread` runtime.
//!
//! It answers `/healthz` and `/metrics`, reads files of keys, revocations and the certificate again when they change, and resolves the
//! name of an upstream relay. It exists only where something of that is asked for, owns no session, and a shard never
//! waits for it: what it learns it puts down for the shards and rings. Its end is [`Control`]'s drop, which joins it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::keyring::{KeySources, Keyring, Stamp};
use super::upstream::{Towards, UpstreamConfig, UpstreamToken};
use super::{Shared, http};
use crate::net::Waker;
use crate::net::tls::Identity;

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
    /// Whose certificate ends before the relay does.
    pub(super) identity: Identity,
    /// The relay that this one is an edge of, and where its address and our token lie for the shards.
    pub(super) upstream: Option<UpstreamConfig>,
    pub(super) towards: Arc<ArcSwapOption<Towards>>,
}

/// How often the files of keys and revocations are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is asked whether there is a newer certificate, or ours is near its end.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// How often the upstream relay's name is resolved, how soon after a failure, and how long it may take.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
const RESOLVE_AGAIN: Duration = Duration::from_secs(1);
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);
/// A relay's port where its URL names none.
pub(super) const RELAY_PORT: u16 = 4433;

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
        let idle = duties.metrics.is_none() && !duties.keys.has_files() && duties.upstream.is_none();
        if idle && !duties.identity.may_change() {
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

    /// The files of keys, revocations and the certificate are to be read again, however they look.
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
            () = resolve_again_and_again(duties.upstream.clone(), &duties.towards, &duties.wakers) => {}
            () = watch(&duties, &asked) => {}
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

/// Reads keys and revocations again when their files change, renews the certificate, and does both when somebody asks. Never ends.
async fn watch(duties: &Duties, asked: &Notify) {
    let Duties { keys, stamp, ring, wakers, identity, .. } = duties;
    let mut stamp = stamp.clone();
    let pause = if keys.has_files() { LOOK_EVERY } else { RENEW_EVERY };
    let mut renew_at = Instant::now() + RENEW_EVERY;
    loop {
        let told = tokio::time::timeout(pause, asked.notified()).await.is_ok();
        if told || Instant::now() >= renew_at {
            renew(identity);
            renew_at = Instant::now() + RENEW_EVERY;
        }
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

fn renew(identity: &Identity) {
    match identity.renew() {
        Ok(true) => tracing::info!("new sessions are shown another certificate from now on"),
        Ok(false) => {}
        Err(error) => tracing::error!("the old certificate goes on: {error}"),
    }
}

/// Where the upstream relay is, and our token for it. Never ends; without an upstream relay it only waits.
async fn resolve_again_and_again(upstream: Option<UpstreamConfig>, towards: &ArcSwapOption<Towards>, wakers: &[Waker]) {
    let Some(upstream) = upstream else { return std::future::pending().await };
    loop {
        let pause = match find(&upstream).await {
            Ok(found) => {
                if towards.load().as_deref() != Some(&found) {
                    towards.store(Some(Arc::new(found)));
                    wakers.iter().for_each(Waker::wake);
                }
                RESOLVE_EVERY
            }
            Err(error) => {
                tracing::warn!("{error}");
                RESOLVE_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn find(upstream: &UpstreamConfig) -> Result<Towards, String> {
    let token = upstream.token.as_ref().map(UpstreamToken::read).transpose()?;
    // Brackets belong to the URL, not to the address.
    let host = upstream.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = upstream.url.port_or_known_default().unwrap_or(RELAY_PORT);
    let found = tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host((host, port))).await;
    let mut found = found
        .map_err(|_| format!("upstream: no name server told the address of {host}"))?
        .map_err(|error| format!("upstream: the name {host} can't be resolved: {error}"))?;
    let address = found.next().ok_or_else(|| format!("upstream: the name {host} has no address"))?;
    Ok(Towards { address, token })
}
