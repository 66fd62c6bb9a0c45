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
//!
//! It never parses audio, asks nobody about a token, and outlives whatever its peers do.

mod auth;
mod config;
mod shard;

pub use config::{Admission, Config};

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::moqt::relay::Counters;
use crate::net::{self, PortEnd, Waker};

/// What a shard's thread shares with whoever holds the [`Server`].
#[derive(Default)]
struct Shared {
    ending: AtomicBool,
    counters: Mutex<Counters>,
}

impl Shared {
    fn publish(&self, counters: Counters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
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

/// A running relay. Dropping it ends its threads; links are closed first.
pub struct Server {
    address: SocketAddr,
    ports: Ports,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds and starts. The error names the address and the remedy.
    pub fn start(config: Config) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let (ends, taken) = crossbeam_channel::bounded(PORTS_WAITING);
        let shard::Started { address, waker, thread } = shard::start(config, taken, shared.clone())?;
        Ok(Self { address, ports: Ports { waker, ends }, shared, thread: Some(thread) })
    }

    /// The bound address, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One end of a session without a socket; the other is taken by the shard.
    pub fn port(&self) -> PortEnd {
        self.ports.open()
    }

    /// The same for a thread that will want more of them, each time it lost one.
    pub fn ports(&self) -> Ports {
        self.ports.clone()
    }

    /// Figures that are at most some hundredths of a second old.
    pub fn counters(&self) -> Counters {
        *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes every session and joins the threads.
    pub fn shutdown(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Release);
        self.ports.waker.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the relay's thread panicked");
        }
    }
}
