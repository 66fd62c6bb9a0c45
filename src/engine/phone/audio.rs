//! The phone's audio thread: the legs of all its calls, each at its ticks and when its sockets have something.
//!
//! It runs the same loop as every thread with audio ([`Worker`]), without a link. The control thread hands lines over and takes them
//! back by words; a line that is taken back completes its files there. Dropping [`Audio`] ends every line and joins the thread.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::line::PhoneLine;
use crate::engine::leg::SOCKETS;
use crate::moqt::session::Limits;
use crate::net::{App, LinkEvent, LinkId, Links, Waker, Worker, WorkerConfig};

/// Words that wait for the thread; it takes them all in every turn. Beyond, the control thread waits.
const WORDS: usize = 16 * 1024;

/// The thread has no link, so nobody meets these.
const NO_SESSIONS: Limits = Limits {
    setup_timeout: Duration::ZERO,
    requests: 0,
    object_bytes: 0,
    pending_bytes: 0,
    pending_time: Duration::ZERO,
};

enum Word {
    Begin { key: usize, line: Box<PhoneLine> },
    Acked { key: usize },
    End { key: usize },
}

/// The thread, as its owner sees it.
pub(super) struct Audio {
    words: Sender<Word>,
    waker: Waker,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Audio {
    pub(super) fn start() -> Result<Self, String> {
        let (worker, waker) = worker()?;
        let (words, taken) = crossbeam_channel::bounded(WORDS);
        let ending = Arc::<AtomicBool>::default();
        let mut lines = Lines::new(taken, ending.clone());
        let thread = std::thread::Builder::new().name("phone-audio".to_owned()).spawn(move || worker.run(&mut lines));
        let thread = Some(thread.map_err(|error| format!("the phone's audio thread can't start: {error}"))?);
        Ok(Self { words, waker, ending, thread })
    }

    /// From now on the thread's; `key` was never used before.
    pub(super) fn begin(&self, key: usize, line: PhoneLine) {
        self.say(Word::Begin { key, line: Box::new(line) });
    }

    /// The answer of this line's call was acknowledged.
    pub(super) fn acked(&self, key: usize) {
        self.say(Word::Acked { key });
    }

    pub(super) fn end(&self, key: usize) {
        self.say(Word::End { key });
    }

    fn say(&self, word: Word) {
        match self.words.send(word) {
            Ok(()) => self.waker.wake(),
            Err(_) => tracing::error!("the phone's audio thread has ended before its calls"),
        }
    }
}

impl Drop for Audio {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        self.waker.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the phone's audio thread panicked");
        }
    }
}

fn worker() -> Result<(Worker, Waker), String> {
    Worker::new(WorkerConfig { bind: (Ipv4Addr::LOCALHOST, 0).into(), listen: None, limits: NO_SESSIONS })
}

struct Lines {
    words: Receiver<Word>,
    lines: HashMap<usize, PhoneLine>,
    due: BTreeSet<(Instant, usize)>,
    ending: Arc<AtomicBool>,
    is_done: bool,
}

impl Lines {
    fn new(words: Receiver<Word>, ending: Arc<AtomicBool>) -> Self {
        Self { words, lines: HashMap::new(), due: BTreeSet::new(), ending, is_done: false }
    }

    fn begin(&mut self, links: &Links, key: usize, line: PhoneLine) {
        for (at, socket) in line.leg().sockets().into_iter().enumerate() {
            let watched = socket.map(|socket| links.watch(socket, key * SOCKETS + at));
            if let Some(Err(error)) = watched {
                tracing::error!(%error, "a phone's socket can't be watched: it hears nothing");
            }
        }
        self.due.insert((line.due(), key));
        self.lines.insert(key, line);
    }

    /// Runs `work` on a line, and puts it where it is due then.
    fn with(&mut self, key: usize, work: impl FnOnce(&mut PhoneLine)) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        let before = line.due();
        work(line);
        if line.due() != before {
            self.due.remove(&(before, key));
            self.due.insert((line.due(), key));
        }
    }

    fn end(&mut self, key: usize, now: Instant) {
        let Some(line) = self.lines.remove(&key) else { return };
        self.due.remove(&(line.due(), key));
        line.end(now);
    }

    /// The loop asks for what is due once more before it stops.
    fn end_all(&mut self, now: Instant) {
        self.due.clear();
        self.lines.drain().for_each(|(_, line)| line.end(now));
        self.is_done = true;
    }
}

impl App for Lines {
    fn handle_event(&mut self, _links: &mut Links, _link: LinkId, _event: LinkEvent, _now: Instant) {}

    fn handle_wake(&mut self, links: &mut Links, now: Instant) {
        while let Ok(word) = self.words.try_recv() {
            match word {
                Word::Begin { key, line } => self.begin(links, key, *line),
                Word::Acked { key } => self.with(key, |line| line.handle_ack(now)),
                Word::End { key } => self.end(key, now),
            }
        }
        if self.ending.load(Ordering::Acquire) {
            self.end_all(now);
        }
    }

    fn handle_readable(&mut self, _links: &mut Links, key: usize, now: Instant) {
        self.with(key / SOCKETS, |line| line.receive(key % SOCKETS, now));
    }

    fn handle_timeout(&mut self, _links: &mut Links, now: Instant) {
        while let Some((_, key)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.with(key, |line| line.handle_tick(now));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn flush(&mut self, _now: Instant) {}

    fn is_done(&self) -> bool {
        self.is_done
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::a_line;
    use super::*;

    #[test]
    fn what_was_due_at_the_end_ends_too() {
        let (mut worker, waker) = worker().unwrap();
        let (words, taken) = crossbeam_channel::bounded(WORDS);
        let ending = Arc::<AtomicBool>::default();
        let mut lines = Lines::new(taken, ending.clone());
        let (line, now) = a_line();
        words.send(Word::Begin { key: 1, line: Box::new(line) }).unwrap();
        waker.wake();
        worker.turn_at(&mut lines, now);
        assert!(lines.poll_timeout().is_some());

        // The thread had no time for a second: the end and the line's ticks come in one turn.
        ending.store(true, Ordering::Release);
        waker.wake();
        worker.turn_at(&mut lines, now + Duration::from_secs(1));
        assert!(lines.is_done() && lines.lines.is_empty() && lines.poll_timeout().is_none());
    }
}
