//! Callbacks that block, as many as there are threads: seen, said and counted.
//!
//! The threads that deliver are few, so it is worth a word when all but one of them are blocked: that one carries it to `logging`. While all of them are in callbacks nothing is delivered to anybody: that is a stall, which `stats()` shows at once, and the
//! log with the next question to the engine, or at the end of it. It ends when one of the callbacks returns. Nothing here runs for a
//! frame but one look at a flag. It is the delivering room's, which is the face's; it starts no thread and reads no clock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What is over sooner costs nobody a frame, and is not said: a bridge's ring holds as much.
const SAID_FROM: Duration = Duration::from_millis(200);
/// That all threads but one are blocked is said at most this often.
const CROWD_PAUSE: Duration = Duration::from_secs(10);

/// Times are microseconds since the delivery's birth.
#[derive(Default)]
pub struct Stalls {
    /// There is one now.
    now: AtomicBool,
    count: AtomicU64,
    crowd_us: AtomicU64,
    /// Taken when a stall begins, lasts or ends, and by who looks.
    stall: Mutex<Option<Stall>>,
}

struct Stall {
    since_us: u64,
    /// Behind which callbacks, once it was said.
    said: Option<String>,
}

impl Stalls {
    /// All threads but one have been blocked since then.
    pub fn crowded(&self, (since_us, now_us): (u64, u64), callbacks: impl FnOnce() -> String) {
        let crowd_us = self.crowd_us.load(Relaxed);
        let is_news = crowd_us == 0 || now_us.saturating_sub(crowd_us) > us(CROWD_PAUSE);
        if is_news && now_us.saturating_sub(since_us) >= us(SAID_FROM) {
            self.crowd_us.store(now_us, Relaxed);
            let callbacks = callbacks();
            tracing::warn!(
                "callbacks block ({callbacks}): one more, and nothing is delivered to anybody until one of them returns; hand long work to a thread of yours"
            );
        }
    }

    /// Since then all threads are blocked, and there is no further one. Said again and again while it is so.
    pub fn lasts(&self, (since_us, now_us): (u64, u64), callbacks: impl FnOnce() -> String) {
        let mut stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.now.swap(true, SeqCst) {
            self.count.fetch_add(1, Relaxed);
            *stall = Some(Stall { since_us, said: None });
        }
        let Some(Stall { since_us, said }) = &mut *stall else { return };
        if said.is_none() && now_us.saturating_sub(*since_us) >= us(SAID_FROM) {
            let callbacks = said.insert(callbacks());
            tracing::error!("nothing is delivered: every thread is in a callback that blocks ({callbacks})");
        }
    }

    /// One has been seen that was not over yet.
    pub fn is_on(&self) -> bool {
        self.now.load(Relaxed)
    }

    /// A callback has returned.
    pub fn end(&self, now_us: u64) {
        if !self.is_on() {
            return;
        }
        let mut stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        self.now.store(false, SeqCst);
        if let Some(Stall { since_us, said: Some(callbacks) }) = stall.take() {
            let ms = now_us.saturating_sub(since_us) / 1000;
            tracing::warn!(
                "delivery goes on: nothing was delivered for {ms} ms, behind callbacks that blocked ({callbacks})"
            );
        }
    }

    /// How many there were, and for how long the one of now lasts.
    pub fn figures(&self, now_us: u64) -> (u64, Duration) {
        let stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        // A stall is never shown as none.
        let lasts_us = stall.as_ref().map_or(0, |stall| now_us.saturating_sub(stall.since_us).max(1000));
        (self.count.load(Relaxed), Duration::from_micros(lasts_us))
    }
}

fn us(time: Duration) -> u64 {
    time.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_counted_once_said_once_and_ends_with_the_first_that_returns() {
        let (stalls, mut asked) = (Stalls::default(), Vec::new());
        stalls.end(5);
        assert_eq!(stalls.figures(10), (0, Duration::ZERO));
        for now_us in [20_000, 209_000, 210_000, 300_000] {
            stalls.lasts((10_000, now_us), || {
                asked.push(now_us);
                "a bridge".to_owned()
            });
        }
        assert_eq!((stalls.figures(310_000), asked), ((1, Duration::from_millis(300)), vec![210_000]));
        stalls.end(350_000);
        stalls.end(360_000);
        assert_eq!(stalls.figures(370_000), (1, Duration::ZERO));
        stalls.lasts((380_000, 380_000), String::new);
        assert_eq!(stalls.figures(380_000), (2, Duration::from_millis(1)));
    }

    #[test]
    fn a_crowd_is_said_when_it_lasts_and_not_too_often() {
        let (stalls, mut said) = (Stalls::default(), Vec::new());
        for now_us in (0..25).map(|second| second * 1_000_000 + 50_000) {
            stalls.crowded((0, now_us), || {
                said.push(now_us / 1_000_000);
                String::new()
            });
        }
        assert_eq!(said, [1, 12, 23]);
    }
}
