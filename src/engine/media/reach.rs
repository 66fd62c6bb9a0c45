//! How far the relay is: whether a thread's links to it stand, for the log and for whoever looks ([`Gauges`]), and whether
//! frames may have been held up on their way.
//!
//! A link that does not come or is lost is told of at once, with its reason, and once a minute for as long as that lasts: an engine
//! whose relay never answers is not silent. Time is an argument. Nothing here dials, and nothing waits for who looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::net::{LinkEvent, LinkId};
use crate::tracks::lag::STALL_ENDS;
use crate::tracks::{LeaseId, State};

/// A relay that is missing is told of again after this time.
const AGAIN: Duration = Duration::from_secs(60);
const NOT_YET: &str = "it is being dialled";

/// What the audio threads show of themselves.
#[derive(Debug, Default)]
pub struct Gauges {
    threads: Vec<Thread>,
}

#[derive(Debug, Default)]
struct Thread {
    missing: ArcSwapOption<Missing>,
    dials: AtomicU64,
    farewells_cut: AtomicU64,
}

/// A link to the relay that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub since: Instant,
    /// With what to do about it.
    pub reason: String,
}

impl Gauges {
    pub(super) fn new(threads: usize) -> Arc<Self> {
        Arc::new(Self { threads: (0..threads).map(|_| Thread::default()).collect() })
    }

    /// Of all threads without a link, the one that has been so for longest.
    pub fn missing(&self) -> Option<Arc<Missing>> {
        self.threads.iter().filter_map(|thread| thread.missing.load_full()).min_by_key(|missing| missing.since)
    }

    /// Threads that have no link now.
    pub fn links_down(&self) -> usize {
        self.threads.iter().filter(|thread| thread.missing.load().is_some()).count()
    }

    /// Attempts to have one.
    pub fn dials(&self) -> u64 {
        self.threads.iter().map(|thread| thread.dials.load(Relaxed)).sum()
    }

    /// Ended calls whose end was no longer said, because too many had ended.
    pub fn farewells_cut(&self) -> u64 {
        self.threads.iter().map(|thread| thread.farewells_cut.load(Relaxed)).sum()
    }
}

/// One thread's part of it.
pub(super) struct Reach {
    gauges: Arc<Gauges>,
    thread: usize,
    /// The leases that keep its links up, and what became of those that do not stand.
    homes: HashMap<LeaseId, Option<Missing>>,
    again_at: Option<Instant>,
}

impl Reach {
    pub(super) fn new(gauges: Arc<Gauges>, thread: usize, homes: &[LeaseId], now: Instant) -> Self {
        let missing = || Some(Missing { since: now, reason: NOT_YET.to_owned() });
        let homes = homes.iter().map(|home| (*home, missing())).collect();
        let reach = Self { gauges, thread, homes, again_at: Some(now + AGAIN) };
        reach.show();
        reach
    }

    pub(super) fn dialled(&self) {
        self.count(|thread| &thread.dials);
    }

    pub(super) fn farewell_cut(&self) {
        self.count(|thread| &thread.farewells_cut);
    }

    /// The link's story, told once and not per call.
    pub(super) fn note(&mut self, lease: LeaseId, state: State, reason: Option<String>, now: Instant) {
        let Some(home) = self.homes.get_mut(&lease) else { return };
        if state == State::Connected {
            if home.take().is_some() {
                tracing::info!("the relay is connected");
            }
        } else {
            let since = home.as_ref().map_or(now, |missing| missing.since);
            let known = reason.clone().unwrap_or_else(|| NOT_YET.to_owned());
            *home = Some(Missing { since, reason: known });
            let reason = reason.unwrap_or_default();
            match state {
                State::Failed => tracing::error!(reason, "the relay refuses the engine's tokens"),
                State::Connecting if reason.is_empty() => tracing::debug!("no link to the relay yet"),
                _ => tracing::warn!(reason, "no link to the relay"),
            }
            self.again_at = Some(now + AGAIN);
        }
        self.show();
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.again_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        if let Some(Missing { since, reason }) = self.longest() {
            let seconds = now.saturating_duration_since(*since).as_secs();
            tracing::warn!(reason, seconds, "still no link to the relay");
            self.again_at = Some(now + AGAIN);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.again_at.filter(|_| self.longest().is_some())
    }

    fn longest(&self) -> Option<&Missing> {
        self.homes.values().flatten().min_by_key(|missing| missing.since)
    }

    fn show(&self) {
        if let Some(thread) = self.gauges.threads.get(self.thread) {
            thread.missing.store(self.longest().cloned().map(Arc::new));
        }
    }

    fn count(&self, figure: impl Fn(&Thread) -> &AtomicU64) {
        if let Some(thread) = self.gauges.threads.get(self.thread) {
            figure(thread).fetch_add(1, Relaxed);
        }
    }
}

/// Whether frames may have been held up on their way. All of a thread's links lead to one relay.
#[derive(Default)]
pub(super) struct Path {
    quiet: Vec<LinkId>,
    stalled_at: Option<Instant>,
}

impl Path {
    pub(super) fn note(&mut self, link: LinkId, event: &LinkEvent, now: Instant) {
        match event {
            LinkEvent::Quiet => self.quiet.push(link),
            LinkEvent::Alive | LinkEvent::Down(_) if self.quiet.contains(&link) => {
                self.quiet.retain(|quiet| *quiet != link);
                self.stalled_at = Some(now);
            }
            _ => {}
        }
    }

    pub(super) fn stalls(&mut self, now: Instant) -> bool {
        self.stalled_at = self.stalled_at.filter(|at| now.saturating_duration_since(*at) < STALL_ENDS);
        self.stalled_at.is_some() || !self.quiet.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_link_that_is_missing_is_shown_with_its_reason_until_it_stands() {
        let (now, homes) = (Instant::now(), [LeaseId(1), LeaseId(2)]);
        let gauges = Gauges::new(2);
        let mut first = Reach::new(gauges.clone(), 0, &homes, now);
        let mut second = Reach::new(gauges.clone(), 1, &[LeaseId(1)], now + SECOND);
        let missing = |gauges: &Gauges| gauges.missing().map(|missing| (missing.since, missing.reason.clone()));
        assert_eq!((gauges.links_down(), missing(&gauges)), (2, Some((now, NOT_YET.to_owned()))));
        first.note(LeaseId(1), State::Connecting, Some("no answer".to_owned()), now + 3 * SECOND);
        first.note(LeaseId(2), State::Connected, None, now + 4 * SECOND);
        first.note(LeaseId(9), State::Reconnecting, Some("a call's own".to_owned()), now + 4 * SECOND);
        assert_eq!(
            missing(&gauges),
            Some((now, "no answer".to_owned())),
            "since the start, whatever was learned later"
        );
        first.note(LeaseId(1), State::Connected, None, now + 5 * SECOND);
        second.note(LeaseId(1), State::Connected, None, now + 5 * SECOND);
        assert_eq!((gauges.links_down(), gauges.missing()), (0, None));
        second.note(LeaseId(1), State::Reconnecting, Some("lost".to_owned()), now + 9 * SECOND);
        assert_eq!((gauges.links_down(), missing(&gauges)), (1, Some((now + 9 * SECOND, "lost".to_owned()))));
        first.dialled();
        second.dialled();
        second.farewell_cut();
        assert_eq!((gauges.dials(), gauges.farewells_cut()), (2, 1));
    }

    #[test]
    fn it_is_told_of_again_once_a_minute_and_no_longer_than_it_lasts() {
        let start = Instant::now();
        let mut reach = Reach::new(Gauges::new(1), 0, &[LeaseId(1)], start);
        reach.note(LeaseId(1), State::Connecting, Some("no answer".to_owned()), start + 3 * SECOND);
        let mut told = Vec::new();
        while told.len() < 3 {
            let at = reach.poll_timeout().unwrap();
            reach.handle_timeout(at);
            told.push((at - start).as_secs());
        }
        assert_eq!(told, [63, 123, 183]);
        reach.note(LeaseId(1), State::Connected, None, start + 184 * SECOND);
        assert_eq!(reach.poll_timeout(), None);
    }
}
