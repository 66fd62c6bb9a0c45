//! The threads of the SDK: one that asks the control plane, one that carries media. One pair per process, whoever asks.
//!
//! Both start on first need, and [`shutdown`] ends them when the interpreter ends. Nothing here runs per frame.
//! A process that forked keeps none of its parent's threads: [`after_fork`] marks the child, and whatever was made
//! before says so ([`Runtime::check`]) instead of waiting for a thread that is not there.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::error::{Error, Kind, Result};
use crate::ring::Inbox;

/// How long a wait may go on without asking whether it still should.
pub const CANCEL_STEP: Duration = Duration::from_millis(50);

/// Asked at least every [`CANCEL_STEP`] by whatever waits; `true` ends the wait with [`Kind::Interrupted`].
pub type Cancel<'a> = &'a mut dyn FnMut() -> bool;

/// How often this process was forked off, counted in the child.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// Swapped without a lock: a lock that another thread held at the fork would stay shut in the child.
static SHARED: ArcSwapOption<Runtime> = ArcSwapOption::const_empty();

/// The threads, and the inbox of those who take what they deliver.
pub struct Runtime {
    forks: u32,
    control: OnceLock<Result<Control>>,
    delivery: Inbox,
}

/// The control thread, as others see it.
pub(super) struct Control {
    handle: tokio::runtime::Handle,
    stop: Arc<Notify>,
    /// Disconnects when the thread has ended.
    ended: std::sync::Mutex<Receiver<()>>,
}

/// Called in the child of a fork, before anything else of ours.
pub fn after_fork() {
    FORKS.fetch_add(1, SeqCst);
}

/// Ends both threads of this process within `limit`; `false`: one still runs. Whoever still holds a bridge finds it closed.
pub fn shutdown(limit: Duration) -> bool {
    let Some(runtime) = SHARED.swap(None) else { return true };
    runtime.forks != FORKS.load(SeqCst) || runtime.end(Instant::now() + limit)
}

impl Runtime {
    /// The one of this process.
    pub fn shared() -> Arc<Self> {
        let forks = FORKS.load(SeqCst);
        loop {
            let found = SHARED.load_full();
            if let Some(runtime) = found.as_ref().filter(|runtime| runtime.forks == forks) {
                return runtime.clone();
            }
            let fresh = Arc::new(Self { forks, control: OnceLock::new(), delivery: Inbox::parking() });
            let before = SHARED.compare_and_swap(&found, Some(fresh));
            if let Some(before) = before.as_ref().filter(|before| before.forks != forks) {
                // The parent's: its threads are not here to be joined, its locks may be shut.
                std::mem::forget(before.clone());
            }
        }
    }

    /// Not in the process it was made in?
    pub fn check(&self) -> Result<()> {
        if self.forks == FORKS.load(SeqCst) {
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

    pub(super) fn control(&self) -> Result<&Control> {
        self.check()?;
        self.control.get_or_init(Control::start).as_ref().map_err(Clone::clone)
    }

    fn end(&self, deadline: Instant) -> bool {
        self.control.get().is_none_or(|control| control.as_ref().is_ok_and(|control| control.end(deadline)))
    }
}

#[allow(dead_code)] // The media worker asks.
impl Control {
    fn start() -> Result<Self> {
        let no_thread = |error: std::io::Error| {
            Error::config(format!("the control thread can't start: {error}; look at the process and memory limits"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let (ending, ended) = sync_channel(0);
        let stopped = stop.clone();
        let run = move || {
            runtime.block_on(stopped.notified());
            drop(runtime);
            drop(ending);
        };
        thread::Builder::new().name("clutchcall-control".into()).spawn(run).map_err(no_thread)?;
        Ok(Self { handle, stop, ended: std::sync::Mutex::new(ended) })
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
                    return Err(Error::new(Kind::Interrupted, "interrupted"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::config("the process is ending, or fork()ed: nothing more can be asked"));
                }
            }
        }
    }

    /// Does `work` on the control thread, for nobody who waits.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }

    fn end(&self, deadline: Instant) -> bool {
        self.stop.notify_one();
        let ended = self.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}
