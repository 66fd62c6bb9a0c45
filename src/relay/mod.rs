//! The relay with sockets: [`moqt::relay::Core`](crate::moqt::relay::Core) on [`net`](crate::net) workers.
//!
//! A [`Server`] is N shards, each one thread, one UDP port, one core; it starts with one. `clutchcall relay` runs it alone, the
//! engine opens one inside its process and reaches it through [`Server::port`]: a session without a socket and without a
//! privilege, under the same tokens, bounds and counters as a stranger's.
//!
//! | File | Holds |
//! |---|---|
//! | `config` | [`Config`]: where to listen, whose certificate, which keys, what limits |
//! | `auth` | tokens into rights: the [`Gate`](crate::moqt::relay::Gate) over [`token`](crate::token) |
//! | `shard` | the worker's app: sessions in, the core's words out; SETUP checked |
//! | `keyring` | whose tokens count now: keys and revocations, from files that may change |
//! | `figures` | what is counted, and its text for `/metrics` |
//! | `control`, `http` | the control thread, where there is something for it to do: `/healthz`, `/metrics`, files that change |
//!
//! It never parses audio, asks nobody about a token, and outlives whatever its peers do.

mod auth;
mod config;
mod control;
pub mod figures;
mod http;
mod keyring;
mod shard;

pub use config::{Admission, Config};
pub use figures::Figures;
pub use keyring::KeySources;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;

use crate::moqt::relay::Counters;
use crate::net::{self, PortEnd, Waker};
use control::{Control, Duties};
use keyring::Keyring;

/// What a shard's thread shares with whoever holds the [`Server`].
#[derive(Default)]
struct Shared {
    ending: AtomicBool,
    /// The thread has left its loop.
    gone: AtomicBool,
    figures: Mutex<Figures>,
    /// Whose tokens count now: one for all shards, replaced by the control thread.
    ring: Arc<ArcSwap<Keyring>>,
}

impl Shared {
    fn publish(&self, figures: Figures) {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }
    fn figures(&self) -> Figures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// Port ends that the shard has not taken yet. It takes them at every wake-up, so this many wait only if its thread is gone.
const PORTS_WAITING: usize = 256;

/// Opens sessions without a socket on a relay of this process, from any thread, for as long as the relay lives.
#[derive(Clone)]
pub struct Ports {
    waker: Waker,
    ends: crossbeam_channel::Sender<PortEnd>,
}

impl Ports {
    /// One end of a session without a socket; the shard takes the other. If the relay is gone the link goes down at once.
    pub fn open(&self) -> PortEnd {
        let (ours, theirs) = net::port();
        // What can't be handed over is dropped, and our end reads that as a link that closed.
        let _ = self.ends.try_send(theirs);
        self.waker.wake();
        ours
    }
}

/// One shard that runs.
struct Running {
    address: SocketAddr,
    ports: Ports,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// Reads the figures of a relay, from any thread and also after its end.
#[derive(Clone)]
pub struct Gauges(Arc<[Arc<Shared>]>);

impl Gauges {
    /// One per shard, at most some hundredths of a second old.
    pub fn figures(&self) -> Vec<Figures> {
        self.0.iter().map(|shared| shared.figures()).collect()
    }
}

/// A running relay. Dropping it ends its threads; links are closed first.
pub struct Server {
    shards: Vec<Running>,
    gauges: Gauges,
    control: Option<Control>,
}

impl Server {
    /// Binds and starts. The error names the address and the remedy.
    pub fn start(config: Config) -> Result<Self, String> {
        let (metrics, keys) = (config.metrics, config.keys.clone());
        let stamp = keys.stamp();
        let ring = Arc::new(ArcSwap::from_pointee(keys.load()?));
        let shards = vec![shard::start(config, ring.clone())?];
        let gauges = Gauges(shards.iter().map(|shard| shard.shared.clone()).collect());
        let mut server = Self { shards, gauges, control: None };
        let wakers = server.shards.iter().map(|shard| shard.ports.waker.clone()).collect();
        let shards = server.gauges.0.clone();
        server.control = Control::start(Duties { metrics, shards, keys, stamp, ring, wakers })?;
        Ok(server)
    }

    /// The bound address, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.first().address
    }

    /// Where `/healthz` and `/metrics` are answered, if [`Config::metrics`] asked for it.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.control.as_ref().and_then(Control::metrics)
    }

    /// Reads the files of keys and revocations again. They are read on their own too, soon after they change.
    pub fn reload(&self) {
        if let Some(control) = &self.control {
            control.reload();
        }
    }

    /// One end of a session without a socket; the other is taken by the shard.
    pub fn port(&self) -> PortEnd {
        self.first().ports.open()
    }

    /// The same for a thread that will want more of them, each time it lost one.
    pub fn ports(&self) -> Ports {
        self.first().ports.clone()
    }

    /// What the cores counted, over all shards.
    pub fn counters(&self) -> Counters {
        self.figures().core
    }

    /// Figures over all shards that are at most some hundredths of a second old.
    pub fn figures(&self) -> Figures {
        self.gauges.figures().into_iter().fold(Figures::default(), Figures::plus)
    }

    /// The figures for whoever outlives this handle.
    pub fn gauges(&self) -> Gauges {
        self.gauges.clone()
    }

    /// Closes every session and joins the threads.
    pub fn shutdown(self) {}

    fn first(&self) -> &Running {
        self.shards.first().expect("a relay starts with a shard at least")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.control.take());
        for shard in &self.shards {
            shard.shared.ending.store(true, Ordering::Release);
            shard.ports.waker.wake();
        }
        for shard in self.shards.drain(..) {
            if shard.thread.join().is_err() {
                tracing::error!("a thread of the relay panicked");
            }
        }
    }
}
