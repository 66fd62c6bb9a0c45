//! The relay with sockets: [`moqt::relay::Core`](crate::moqt::relay::Core) on [`net`](crate::net) workers.
//!
//! A [`Server`] is N shards, each one thread, one UDP port, one core. `clutchcall relay` runs it alone, the
//! engine opens one inside its process and reaches it through [`Server::port`]: a session without a socket and without a
//! privilege, under the same tokens, bounds and counters as a stranger's.
//!
//! | File | Holds |
//! |---|---|
//! | `config` | [`Config`]: where to listen, whose certificate, which keys, what limits |
//! | `auth` | tokens into rights: the [`Gate`](crate::moqt::relay::Gate) over [`token`](crate::token) |
//! | `shard` | the worker's app: sessions in, the core's words out; SETUP checked |
//! | `keyring` | whose tokens count now: keys and revocations, from files that may change |
//! | `places` | how many there may be, over all shards |
//! | `spread` | which shard is in charge of a namespace, and the ways between shards |
//! | `upstream` | the relay that this one is an edge of |
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
mod places;
mod remembered;
mod shard;
mod spread;
mod upstream;

pub use config::{Admission, Config};
pub use figures::Figures;
pub use keyring::KeySources;
pub use spread::shard_of;
pub use upstream::{UpstreamConfig, UpstreamToken};

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::heap::{RELAY_BYTES, Share};
use crate::moqt::message::GoAway;
use crate::moqt::relay::Counters;
use crate::net::{self, PortEnd, Waker};
use control::{Control, Duties};
use keyring::Keyring;
use shard::Post;
use upstream::{Dialler, Towards};

/// What a shard's thread shares with whoever holds the [`Server`].
#[derive(Default)]
struct Shared {
    ending: AtomicBool,
    /// Sessions are sent away with these words.
    drain: ArcSwapOption<GoAway>,
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
    fn is_draining(&self) -> bool {
        self.drain.load().is_some()
    }
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// Port ends that the shard has not taken yet. It takes them at every wake-up, so this many wait only if its thread is gone.
const PORTS_WAITING: usize = 256;

/// The way into one shard without a socket.
#[derive(Clone)]
struct Door {
    waker: Waker,
    ends: crossbeam_channel::Sender<PortEnd>,
}

/// Opens sessions without a socket on a relay of this process, from any thread, for as long as the relay lives.
#[derive(Clone)]
pub struct Ports(Arc<[Door]>);

impl Ports {
    /// Of one shard that a test plays: it is handed the other ends.
    #[cfg(test)]
    pub(crate) fn played(waker: Waker) -> (Self, crossbeam_channel::Receiver<PortEnd>) {
        let (ends, taken) = crossbeam_channel::bounded(PORTS_WAITING);
        (Self(Arc::new([Door { waker, ends }])), taken)
    }

    /// One end of a session without a socket; the first shard takes the other. If the relay is gone the link goes down at once.
    pub fn open(&self) -> PortEnd {
        self.open_at(0)
    }

    /// The same with the shard that is in charge of what the session is for ([`shard_of`]).
    pub fn open_at(&self, shard: usize) -> PortEnd {
        let (ours, theirs) = net::port();
        if let Some(door) = self.0.get(shard) {
            // What can't be handed over is dropped, and our end reads that as a link that closed.
            let _ = door.ends.try_send(theirs);
            door.waker.wake();
        }
        ours
    }

    pub fn shards(&self) -> usize {
        self.0.len()
    }
}

/// One shard that runs.
struct Running {
    address: SocketAddr,
    door: Door,
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

/// Shards that one relay may have.
pub const MOST_SHARDS: usize = 64;
/// Whoever waits for sessions to go looks this often.
const LOOK_STEP: Duration = Duration::from_millis(10);
/// The ways between the shards stand within this time, or the machine is in no state to serve.
const MESH_LIMIT: Duration = Duration::from_secs(10);

/// A running relay. Dropping it ends its threads; links are closed first.
pub struct Server {
    shards: Vec<Running>,
    ports: Ports,
    gauges: Gauges,
    control: Option<Control>,
    /// What its first clients are about to take.
    _memory: Share,
}

impl Server {
    /// Binds and starts. The error names the address and the remedy.
    pub fn start(config: Config) -> Result<Self, String> {
        let stamp = config.keys.stamp();
        let ring = Arc::new(ArcSwap::from_pointee(config.keys.load()?));
        let towards = Arc::new(ArcSwapOption::empty());
        let shards = start_shards(&config, &ring, &towards)?;
        let ports = Ports(shards.iter().map(|shard| shard.door.clone()).collect());
        let gauges = Gauges(shards.iter().map(|shard| shard.shared.clone()).collect());
        let memory = Share::of(RELAY_BYTES);
        let mut server = Self { shards, ports, gauges, control: None, _memory: memory };
        let wakers = server.shards.iter().map(|shard| shard.door.waker.clone()).collect();
        let shards = server.gauges.0.clone();
        let Config { metrics, keys, upstream, identity, .. } = config;
        let duties = Duties { metrics, shards, keys, stamp, ring, wakers, identity, upstream, towards };
        server.control = Control::start(duties)?;
        Ok(server)
    }

    /// The bound address of the first shard, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.first().address
    }

    /// Those of all shards. [`shard_of`] says which is in charge of a namespace; every one serves everybody.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shards.iter().map(|shard| shard.address).collect()
    }

    /// Where `/healthz` and `/metrics` are answered, if [`Config::metrics`] asked for it.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.control.as_ref().and_then(Control::metrics)
    }

    /// Reads the files of keys, revocations and the certificate again. They are read on their own too, soon after they change.
    pub fn reload(&self) {
        if let Some(control) = &self.control {
            control.reload();
        }
    }

    /// One end of a session without a socket; the other is taken by the shard.
    pub fn port(&self) -> PortEnd {
        self.ports.open()
    }

    /// The same for a thread that will want more of them, each time it lost one.
    pub fn ports(&self) -> Ports {
        self.ports.clone()
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

    /// Sends every session away (GOAWAY, §10.4): it has this long to move, then it is closed. New requests are refused. Returns
    /// at once; [`Server::counters`] tells how many are left.
    pub fn drain(&self, timeout: Duration) {
        self.drain_to("", timeout);
    }

    /// The same, to another relay; an empty `uri`: to where they came from.
    pub fn drain_to(&self, uri: &str, timeout: Duration) {
        let goaway = Arc::new(GoAway { uri: uri.to_owned(), timeout: Some(timeout.max(Duration::from_millis(1))) });
        for shard in &self.shards {
            shard.shared.drain.store(Some(goaway.clone()));
            shard.door.waker.wake();
        }
    }

    /// [`Server::drain`], and waits until the last session has gone, at most for this long. `false`: some have not.
    pub fn dismiss(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        if self.counters().sessions > 0 {
            self.drain(limit);
        }
        while self.counters().sessions > 0 {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK_STEP);
        }
        true
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
        end(std::mem::take(&mut self.shards));
    }
}

/// Binds every shard and waits until each reaches the others.
fn start_shards(
    config: &Config,
    ring: &Arc<ArcSwap<Keyring>>,
    towards: &Arc<ArcSwapOption<Towards>>,
) -> Result<Vec<Running>, String> {
    let count = config.shards.clamp(1, MOST_SHARDS);
    let (ready, told) = crossbeam_channel::bounded(count);
    let places = Arc::default();
    let mut running = Vec::with_capacity(count);
    for (shard, ways) in spread::mesh(count).into_iter().enumerate() {
        let bound = port_of(config.listen, shard).and_then(|bind| {
            let upstream = config.upstream.clone().map(|upstream| Dialler::new(upstream, towards.clone()));
            let (ready, ring, places) = (ready.clone(), ring.clone(), Arc::clone(&places));
            shard::start(config, bind, Post { shard, shards: count, ways, upstream, ready, ring, places })
        });
        match bound {
            Ok(shard) => running.push(shard),
            Err(error) => {
                end(running);
                return Err(error);
            }
        }
    }
    for _ in 0..count {
        if told.recv_timeout(MESH_LIMIT).is_err() {
            end(running);
            return Err("the relay's shards don't reach each other: is the machine out of CPU?".to_owned());
        }
    }
    Ok(running)
}

/// The first shard's port is the public one, the others follow it.
fn port_of(listen: SocketAddr, shard: usize) -> Result<SocketAddr, String> {
    if listen.port() == 0 {
        return Ok(listen);
    }
    let port = u16::try_from(usize::from(listen.port()) + shard);
    let port = port.map_err(|_| format!("listen {listen}: shard {shard} has no port behind it: choose a lower one"))?;
    Ok(SocketAddr::new(listen.ip(), port))
}

fn end(shards: Vec<Running>) {
    for shard in &shards {
        shard.shared.ending.store(true, Ordering::Release);
        shard.door.waker.wake();
    }
    for shard in shards {
        if shard.thread.join().is_err() {
            tracing::error!("a thread of the relay panicked");
        }
    }
}
