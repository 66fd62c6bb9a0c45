//! Starts the audio threads, and spreads calls over them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::UnboundedSender;

use super::app::{Media, Start};
use super::{Command, Event, Gauges, Mint, Supply};
use crate::moqt::session::Limits;
use crate::net::{Waker, Worker, WorkerConfig};

/// Commands that wait for one thread; it takes them all in every turn. Beyond, the control thread waits.
const COMMANDS: usize = 16 * 1024;
/// What the relay may make a session of ours hold: subscriptions to our tracks, two or more per call.
const REQUESTS: usize = 32 * 1024;
const OBJECT_BYTES: usize = 64 * 1024;
const PENDING_BYTES: usize = 256 * 1024;
const PENDING_TIME: Duration = Duration::from_millis(500);
const SETUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The audio threads of one engine. A call stays on the thread that its sid falls on.
pub struct AudioThreads {
    threads: Vec<AudioThread>,
    gauges: Arc<Gauges>,
}

struct AudioThread {
    commands: crossbeam_channel::Sender<Command>,
    waker: Waker,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AudioThreads {
    /// `mint` gives a token of now, with rights in every call; it is asked for each link and every few minutes.
    pub fn start(count: usize, supply: Supply, mint: Mint, events: UnboundedSender<Event>) -> Result<Self, String> {
        let count = count.max(1);
        let gauges = Gauges::new(count);
        let start = |n| AudioThread::start((gauges.clone(), n), supply.clone(), mint.clone(), events.clone());
        Ok(Self { threads: (0..count).map(start).collect::<Result<_, _>>()?, gauges })
    }

    /// What they show of themselves.
    pub fn gauges(&self) -> Arc<Gauges> {
        self.gauges.clone()
    }

    /// Hands a command to the thread of its call. Never waits, unless thousands of commands wait already.
    pub fn send(&self, command: Command) {
        let mut hasher = DefaultHasher::new();
        command.sid().hash(&mut hasher);
        let thread = &self.threads[(hasher.finish() % self.threads.len() as u64) as usize];
        match thread.commands.send(command) {
            Ok(()) => thread.waker.wake(),
            // At the engine's end this is how it is; before, the thread has panicked and its calls are silent.
            Err(lost) => tracing::error!(sid = %lost.0.sid(), "the audio thread of this call has ended"),
        }
    }

    /// Ends every call that is left with END_OF_TRACK, lets the last words leave, joins the threads.
    pub fn shutdown(self) {}
}

impl Drop for AudioThreads {
    fn drop(&mut self) {
        self.threads.iter().for_each(AudioThread::end);
        for thread in self.threads.iter_mut().filter_map(|thread| thread.thread.take()) {
            if thread.join().is_err() {
                tracing::error!("an audio thread panicked");
            }
        }
    }
}

impl AudioThread {
    fn start(
        gauges: (Arc<Gauges>, usize),
        supply: Supply,
        mint: Mint,
        events: UnboundedSender<Event>,
    ) -> Result<Self, String> {
        let n = gauges.1;
        let (worker, waker) = worker(&supply)?;
        let (commands, taken) = crossbeam_channel::bounded(COMMANDS);
        let ending = Arc::new(AtomicBool::new(false));
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seed = unix.as_nanos() as u64 ^ ((n as u64) << 56);
        let start = Start {
            supply,
            mint,
            events,
            commands: taken,
            ending: ending.clone(),
            gauges,
            seed,
            unix,
            clock_us: monotonic_us(),
        };
        let run = move || worker.run(&mut Media::new(start, Instant::now()));
        let thread = std::thread::Builder::new().name(format!("audio-{n}")).spawn(run);
        let thread = Some(thread.map_err(|error| format!("an audio thread can't start: {error}"))?);
        // The first turn asks for the link.
        waker.wake();
        Ok(Self { commands, waker, ending, thread })
    }

    fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A worker for dialling only. With a port alone it needs no address that anybody could reach.
fn worker(supply: &Supply) -> Result<(Worker, Waker), String> {
    let limits = || Limits {
        setup_timeout: SETUP_TIMEOUT,
        requests: REQUESTS,
        object_bytes: OBJECT_BYTES,
        pending_bytes: PENDING_BYTES,
        pending_time: PENDING_TIME,
    };
    let at = |bind: SocketAddr| Worker::new(WorkerConfig { bind, listen: None, limits: limits() });
    match supply {
        Supply::Port(_) => at((Ipv4Addr::LOCALHOST, 0).into()),
        // A machine without IPv6 has no such address.
        Supply::Dial { .. } => at((Ipv6Addr::UNSPECIFIED, 0).into()).or_else(|_| at((Ipv4Addr::UNSPECIFIED, 0).into())),
    }
}

/// The machine's monotonic clock, which everybody on it can read: stamps are on it (`time.monotonic_ns() // 1000` in Python).
fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}
