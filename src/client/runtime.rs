//! The threads of the SDK: one that asks the control plane, one that carries media. One pair per process, whoever asks.
//!
//! Both start on first need, and [`shutdown`] ends them when the interpreter ends. Nothing here runs per frame.
//! A process that forked keeps none of its parent's threads: [`after_fork`](super::process::after_fork) marks the child, and whatever was made
//! before says so ([`Runtime::check`]) instead of waiting for a thread that is not there.

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore};

use super::lookout::{Look, Lookout};
use super::media::{Command, Media, MediaPort, Parts};
use super::process::forks;
use crate::error::{Error, Kind, Result};
use crate::moqt::session::Limits;
use crate::net::{Waker, Worker, WorkerConfig};
use crate::ring::Inbox;

/// How long a wait may go on without asking whether it still should.
pub const CANCEL_STEP: Duration = Duration::from_millis(50);

/// Abandoned work is gone in a moment; who abandoned it waits no longer for that.
const ABORT_LIMIT: Duration = Duration::from_millis(200);

/// Asked at least every [`CANCEL_STEP`] by whatever waits; `true` ends the wait with [`Kind::Interrupted`].
pub type Cancel<'a> = &'a mut dyn FnMut() -> bool;

/// Swapped without a lock: a lock that another thread held at the fork would stay shut in the child.
static SHARED: ArcSwapOption<Runtime> = ArcSwapOption::const_empty();

thread_local! {
    /// This thread tells the media worker of its frames at the end of its turn.
    static IN_TURN: Cell<bool> = const { Cell::new(false) };
}

/// What a relay may make one session remember.
const SESSION_LIMITS: Limits = Limits {
    setup_timeout: Duration::from_secs(5),
    requests: 256,
    object_bytes: 256 * 1024,
    pending_bytes: 64 * 1024,
    pending_time: Duration::from_secs(2),
};
/// What must still be said when the process ends: how many such requests there may be, and how long the end waits for them.
const MAX_LAST: u32 = 1024;
const LAST_LIMIT: Duration = Duration::from_millis(800);
/// Commands to the media worker that it has not looked at; whoever has more waits.
const MAX_COMMANDS: usize = 1024;

/// The threads, and the inbox of those who take what they deliver.
pub struct Runtime {
    forks: u32,
    control: OnceLock<Control>,
    media: OnceLock<MediaThread>,
    /// Held by whoever starts a thread. A start that failed is tried again by the next one who needs it.
    starting: Mutex<()>,
    delivery: Inbox,
    lookout: Arc<Lookout>,
}

struct MediaThread {
    port: MediaPort,
    ended: Ended,
}

/// Disconnects when its thread has ended.
type Ended = std::sync::Mutex<Receiver<()>>;

/// The control thread, as others see it.
pub struct Control {
    handle: tokio::runtime::Handle,
    stop: Arc<Notify>,
    /// The whole is free when nothing must still be said.
    last: Arc<Semaphore>,
    ended: Ended,
}

/// Ends both threads of this process within `limit`; `false`: one still runs. Whoever still holds a bridge finds it closed.
pub fn shutdown(limit: Duration) -> bool {
    let Some(runtime) = SHARED.swap(None) else { return true };
    runtime.forks != forks() || runtime.end(Instant::now() + limit)
}

impl Runtime {
    /// The one of this process.
    pub fn shared() -> Arc<Self> {
        let forks = forks();
        loop {
            let found = SHARED.load_full();
            if let Some(runtime) = found.as_ref().filter(|runtime| runtime.forks == forks) {
                return runtime.clone();
            }
            let fresh = Arc::new(Self::new(forks));
            let before = SHARED.compare_and_swap(&found, Some(fresh));
            if let Some(before) = before.as_ref().filter(|before| before.forks != forks) {
                // The parent's: its threads are not here to be joined, its locks may be shut.
                std::mem::forget(before.clone());
            }
        }
    }

    fn new(forks: u32) -> Self {
        let (control, media, starting) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        Self { forks, control, media, starting, delivery: Inbox::parking(), lookout: Arc::default() }
    }

    /// Not in the process it was made in?
    pub fn check(&self) -> Result<()> {
        if self.forks == forks() {
            return Ok(());
        }
        Err(Error::config(
            "this object was made before fork(), and its threads stayed in the parent: make a new Voice (or MoqtClient) in each process",
        ))
    }

    /// What the delivering threads wait on.
    pub fn delivery(&self) -> &Inbox {
        &self.delivery
    }

    /// Once, by the room that delivers: who is asked whether it is stuck.
    pub fn set_look(&self, room: impl Look + 'static) {
        self.lookout.set(room);
    }

    /// Whoever has pushed outside of a worker's turns tells the delivering threads so, and none of it waits for a callback that blocks.
    pub fn tell_delivery(&self) {
        if self.delivery.is_ready() {
            self.nudge_delivery();
        }
    }

    /// The same for what is not in a ring. Before there is a control thread nobody waits for anything: nothing is looked after.
    pub fn nudge_delivery(&self) {
        self.delivery.neighbour().nudge();
        if let Some(control) = self.control.get() {
            self.lookout.watch(&control.handle);
        }
    }

    /// From now on the frames that this thread publishes are told to the media worker by [`Runtime::flush`] only.
    pub fn begin_turns() {
        IN_TURN.set(true);
    }

    /// Tells the media worker of the frames that were published in this turn.
    pub fn flush(&self) {
        if let Some(media) = self.media.get() {
            media.port.flush();
        }
    }

    pub(super) fn control(&self) -> Result<&Control> {
        self.check()?;
        self.started(&self.control, Control::start)
    }

    pub(super) fn media(&self) -> Result<&MediaPort> {
        let control = self.control()?;
        let media = self.started(&self.media, || self.start_media(control.handle.clone()))?;
        Ok(&media.port)
    }

    fn started<'a, T>(&self, thread: &'a OnceLock<T>, start: impl FnOnce() -> Result<T>) -> Result<&'a T> {
        if let Some(thread) = thread.get() {
            return Ok(thread);
        }
        let _one = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        match thread.get() {
            Some(thread) => Ok(thread),
            None => {
                let fresh = start()?;
                Ok(thread.get_or_init(|| fresh))
            }
        }
    }

    fn start_media(&self, control: tokio::runtime::Handle) -> Result<MediaThread> {
        let unreachable = |why: String| Error::new(Kind::RelayUnreachable, format!("no socket for audio: {why}"));
        let (worker, waker) = bind().map_err(unreachable)?;
        let (sender, commands) = crossbeam_channel::bounded(MAX_COMMANDS);
        let port = MediaPort::new(sender, waker);
        let (delivery, lookout) = (self.delivery.neighbour(), self.lookout.clone());
        let parts = Parts { commands, port: port.clone(), control, delivery, lookout };
        let ended = start("clutchcall-media", move || {
            let seed = u64::from_le_bytes(super::http::random());
            worker.run(&mut Media::new(parts, seed, Instant::now()));
        })?;
        Ok(MediaThread { port, ended })
    }

    fn end(&self, deadline: Instant) -> bool {
        let media = self.media.get().is_none_or(|media| {
            media.port.send(Command::Shutdown);
            has_ended(&media.ended, deadline)
        });
        let control = self.control.get().is_none_or(|control| {
            control.stop.notify_one();
            has_ended(&control.ended, deadline)
        });
        media && control
    }
}

/// Whether a pushing thread leaves the signal to the end of its turn.
pub(super) fn in_turn() -> bool {
    IN_TURN.get()
}

/// Both families through one socket; IPv4 alone where the machine has no IPv6.
pub(super) fn bind() -> std::result::Result<(Worker, Waker), String> {
    let config = |ip: IpAddr| WorkerConfig { bind: SocketAddr::new(ip, 0), listen: None, limits: SESSION_LIMITS };
    Worker::new(config(Ipv6Addr::UNSPECIFIED.into())).or_else(|_| Worker::new(config(Ipv4Addr::UNSPECIFIED.into())))
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<Ended> {
    let (ending, ended) = sync_channel(0);
    let run = move || {
        run();
        drop::<SyncSender<()>>(ending);
    };
    let started = thread::Builder::new().name(name.into()).spawn(run);
    started.map(|_| Ended::new(ended)).map_err(|error| {
        Error::config(format!("the thread {name} can't start: {error}; look at the limits of processes and memory"))
    })
}

fn has_ended(ended: &Ended, deadline: Instant) -> bool {
    let ended = ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let left = deadline.saturating_duration_since(Instant::now());
    ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
}

impl Control {
    fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Error::config(format!("the control thread can't start: {error}; look at the limit of open files"))
        })?;
        let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let last = Arc::new(Semaphore::new(MAX_LAST as usize));
        let (stopped, said) = (stop.clone(), last.clone());
        let run = async move {
            stopped.notified().await;
            // What was aborted just now has its last word, too.
            tokio::task::yield_now().await;
            let _ = tokio::time::timeout(LAST_LIMIT, said.acquire_many(MAX_LAST)).await;
        };
        let ended = start("clutchcall-control", move || runtime.block_on(run))?;
        Ok(Self { handle, stop, last, ended })
    }

    /// Begins `work` that the end of the process waits for, if only for a moment. Beyond [`MAX_LAST`] of them it is not begun.
    pub(super) fn spawn_last(&self, work: impl Future<Output = ()> + Send + 'static) {
        match self.last.clone().try_acquire_owned() {
            Ok(permit) => drop(self.handle.spawn(async move {
                work.await;
                drop(permit);
            })),
            Err(_) => tracing::warn!("{MAX_LAST} calls are being taken back already: a further one may ring"),
        }
    }

    /// Begins `work`, whoever waits for it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.handle.spawn(work).abort_handle()
    }

    /// Does `work` on the control thread and waits for it here.
    pub(super) fn run<T, F>(&self, work: F, cancel: Cancel<'_>) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (done, waiting) = sync_channel(1);
        let task = self.handle.spawn(async move {
            // Fails when nobody waits any more.
            let _ = done.send(work.await);
        });
        loop {
            match waiting.recv_timeout(CANCEL_STEP) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if !cancel() => {}
                Err(RecvTimeoutError::Timeout) => {
                    task.abort();
                    // Until it is gone: what it leaves to be said is begun then.
                    let _ = waiting.recv_timeout(ABORT_LIMIT);
                    return Err(Error::new(Kind::Interrupted, "interrupted"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::config("the process is ending, or fork()ed: nothing more can be asked"));
                }
            }
        }
    }
}
